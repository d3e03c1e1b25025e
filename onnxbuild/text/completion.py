"""Scripts by which shells complete a command line. Knows no command: it is told which there are, and what each takes.

bash and zsh get functions, fish a list of rules. Only where a stage is wanted is the program itself asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

# What an argument is completed with. Anything else is its choices, with a space between; "" is nothing. Two of them may
# stand for one argument, with a "|" between.
RECIPE, STAGE, REVISION, FOLDER, FILE = "@recipe", "@stage", "@revision", "@folder", "@file"
_PROGRAM = "onnxbuild"
_WIDEST = 100  # characters of a help text


class Option(NamedTuple):
    """An option: its names, what completes its value, its help text, and whether it takes one."""

    names: tuple[str, ...]
    kind: str
    help: str
    takes: bool


class Command(NamedTuple):
    """A command: its words, its help text, its options, what completes its arguments one after the other, what completes
    all after them, and the commands that it has in turn.
    """

    path: tuple[str, ...]
    help: str
    options: list[Option]
    places: list[str]
    many: str
    inner: list[Command]


_BASH = """\
# onnxbuild's completion for bash: source <(onnxbuild completion bash)
_onnxbuild_options() {
    case $1 in
%(options)s
    esac
}

_onnxbuild_takes() {
    case "$1 $2" in
%(takes)s
    *) return 1 ;;
    esac
}

_onnxbuild_argument() {
    case "$1 $2" in
%(arguments)s
    esac
}

_onnxbuild_reply() {
    local kind=$1 cur=$2 recipe=$3 program=$4 one
    local IFS=$'\\n'
    case $kind in
    "") ;;
    *\\|*) _onnxbuild_reply "${kind%%%%|*}" "$cur" "$recipe" "$program"
        _onnxbuild_reply "${kind#*|}" "$cur" "$recipe" "$program" ;;
    @recipe) compopt -o filenames 2>/dev/null
        COMPREPLY+=($(compgen -d -- "$cur"))
        for one in $(compgen -f -X '!*.yaml' -- "$cur") $(compgen -f -X '!*.yml' -- "$cur"); do
            [[ $one == *.lock.yaml || -d $one ]] || COMPREPLY+=("$one")
        done ;;
    @stage) [[ -z $recipe ]] ||
        COMPREPLY+=($(compgen -W "$("$program" completion --stages "$recipe" 2>/dev/null)" -- "$cur")) ;;
    @revision)
        COMPREPLY+=($(compgen -W "$(git for-each-ref --format='%%(refname:short)' 2>/dev/null)" -- "$cur")) ;;
    @folder) compopt -o filenames 2>/dev/null
        COMPREPLY+=($(compgen -d -- "$cur")) ;;
    @file) compopt -o filenames 2>/dev/null
        COMPREPLY+=($(compgen -f -- "$cur")) ;;
    *) IFS=$' \\n'
        COMPREPLY+=($(compgen -W "$kind" -- "$cur")) ;;
    esac
}

_onnxbuild() {
    local cur=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]/#\\~/$HOME}
    local command="" awaited="" recipe="" word kind at count=0
    COMPREPLY=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        case $word in
        *.yaml | *.yml) recipe=${word/#\\~/$HOME} ;;
        esac
        if [[ $word == = ]]; then
            continue
        elif [[ -n $awaited ]]; then
            awaited=""
        elif [[ $word == -* ]]; then
            kind=$(_onnxbuild_takes "$command" "$word") && awaited=$word
        elif [[ " $(_onnxbuild_options "$command") " == *" $word "* ]]; then
            command="${command:+$command }$word"
        else
            ((count += 1))
        fi
    done
    [[ $cur == = ]] && cur=""
    if [[ -n $awaited ]]; then
        _onnxbuild_reply "$(_onnxbuild_takes "$command" "$awaited")" "$cur" "$recipe" "$program"
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$(_onnxbuild_options "$command")" -- "$cur"))
    else
        kind=$(_onnxbuild_argument "$command" "$count")
        if [[ -z $kind ]]; then
            for word in $(_onnxbuild_options "$command"); do
                [[ $word == -* ]] || kind="$kind $word"
            done
        fi
        _onnxbuild_reply "${kind# }" "$cur" "$recipe" "$program"
    fi
}

complete -F _onnxbuild onnxbuild
"""


def bash(commands: Sequence[Command]) -> str:
    """The script for bash 3.2 and later."""
    root = _root(commands)
    options, takes, arguments = [], [], []
    for one in _all(root):
        path = " ".join(one.path)
        words = [name for option in one.options for name in option.names] + [inner.path[-1] for inner in one.inner]
        options.append(f'    "{path}") echo "{" ".join(words)}" ;;')
        for option in one.options:
            patterns = " | ".join(f'"{path} {name}"' for name in option.names)
            takes += [f'    {patterns}) echo "{option.kind}" ;;'] if option.takes else []
        for number, kind in enumerate(one.places):
            arguments.append(f'    "{path} {number}") echo "{kind}" ;;')
        if one.many:
            arguments.append(f'    "{path} "*) echo "{one.many}" ;;')
    return _BASH % {"options": "\n".join(options), "takes": "\n".join(takes), "arguments": "\n".join(arguments)}


_ZSH = """\
#compdef onnxbuild
# onnxbuild's completion for zsh: source <(onnxbuild completion zsh), below compinit
_onnxbuild_recipes() {
    _files -g '*.(yaml|yml)~*.lock.yaml(-.)'
}

_onnxbuild_stages() {
    local -a recipes=(${(M)words:#*.(yaml|yml)}) stages
    (( $#recipes )) || return 1
    local recipe=${(Q)recipes[1]}
    stages=(${(f)"$($_onnxbuild_program completion --stages ${recipe/#\\~/$HOME} 2>/dev/null)"})
    compadd -a stages
}

_onnxbuild_revisions() {
    local -a revisions
    revisions=(${(f)"$(git for-each-ref --format='%%(refname:short)' 2>/dev/null)"})
    compadd -a revisions
}

%(functions)s
_onnxbuild() {
    local _onnxbuild_program=${~${(Q)words[1]}}
    _onnxbuild__
}

compdef _onnxbuild onnxbuild
"""
_OF_ZSH = {
    RECIPE: "_onnxbuild_recipes", STAGE: "_onnxbuild_stages", REVISION: "_onnxbuild_revisions", FOLDER: "_files -/",
    FILE: "_files", "": " ",
}  # fmt: skip


def zsh(commands: Sequence[Command]) -> str:
    """The script for zsh 5 and later."""
    return _ZSH % {"functions": "\n".join(_zsh_function(one) for one in _all(_root(commands)))}


def _zsh_function(one: Command) -> str:
    specs = [spec for option in one.options for spec in _zsh_option(option)]
    lines = [f"{_zsh_name(one.path)}() {{"]
    if one.inner:
        specs += ["'1:command:->command'", "'*::argument:->argument'"]
        lines.append("    local curcontext=$curcontext state line\n    typeset -A opt_args")
    specs += [f"':argument:{_zsh_action(kind)}'" for kind in one.places]
    specs += [f"'*:argument:{_zsh_action(one.many)}'"] if one.many else []
    lines.append("    _arguments -s " + ("-C " if one.inner else "") + " \\\n        ".join(specs))
    if one.inner:
        told = " ".join(_quoted(f"{inner.path[-1]}:{_short(inner.help)}") for inner in one.inner)
        lines += ["    case $state in", f"    command) local -a known=({told})", "        _describe command known ;;"]
        cases = " ".join(f"{inner.path[-1]}) {_zsh_name(inner.path)} ;;" for inner in one.inner)
        lines += [f"    argument) case $words[1] in {cases} esac ;;", "    esac"]
    return "\n".join([*lines, "}\n"])


def _zsh_name(path: Sequence[str]) -> str:
    return f"_onnxbuild_{'_'.join(('', *path)) or '_'}"


def _zsh_option(option: Option) -> Iterator[str]:
    help_ = _short(option.help).replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    for name in option.names:
        mark = ("=" if name.startswith("--") else "+") if option.takes else ""
        value = f":value:{_zsh_action(option.kind)}" if option.takes else ""
        yield _quoted(f"*{name}{mark}[{help_}]{value}")


def _zsh_action(kind: str) -> str:
    if kind in _OF_ZSH:
        return _OF_ZSH[kind]
    if "|" in kind:
        return _OF_ZSH[FILE]
    return f"({kind})"


_OF_FISH = {
    RECIPE: "(__onnxbuild_recipes)", STAGE: "(__onnxbuild_stages)", FILE: "(__fish_complete_path (commandline -ct))",
    REVISION: "(git for-each-ref --format='%(refname:short)' 2>/dev/null)", FOLDER: "(__fish_complete_directories)",
}  # fmt: skip
_FISH = """\
# onnxbuild's completion for fish: onnxbuild completion fish | source
function __onnxbuild_words
    # the words of the line that are no options
    string match --invert --regex -- '^-' (commandline -opc)[2..]
end

function __onnxbuild_at
    # whether these are the words that the line begins with
    set -l said (__onnxbuild_words)
    set -l wanted (count $argv)
    test $wanted -eq 0; and return
    test (count $said) -ge $wanted; and test "$said[1..$wanted]" = "$argv"
end

function __onnxbuild_recipes
    for one in (__fish_complete_path (commandline -ct))
        string match --quiet --regex -- '(/|\\.ya?ml)(\\t|$)' $one; or continue
        string match --quiet -- '*.lock.yaml*' $one; or echo $one
    end
end

function __onnxbuild_stages
    set -l recipe (string match --regex -- '.*\\.ya?ml$' (__onnxbuild_words))[1]
    test -n "$recipe"; and eval (commandline -opc)[1] completion --stages (string escape -- $recipe) 2>/dev/null
end

complete -c onnxbuild -f
"""


def fish(commands: Sequence[Command]) -> str:
    """The script for fish 3 and later."""
    return _FISH + "".join(f"{line}\n" for one in _all(_root(commands)) for line in _fish_rules(one))


def _fish_rules(one: Command) -> Iterator[str]:
    here = " ".join(("__onnxbuild_at", *one.path))
    depth = len(one.path)
    only = f"complete -c {_PROGRAM} -n {_quoted(f'{here}; and test (count (__onnxbuild_words)) -eq {depth}')}"
    for inner in one.inner:
        yield f"{only} -a {inner.path[-1]} -d {_quoted(_short(inner.help))}"
    at = only if one.inner else f"complete -c {_PROGRAM} -n {_quoted(here)}"
    for option in one.options:
        names = " ".join(f"-{'l' if name.startswith('--') else 's'} {name.lstrip('-')}" for name in option.names)
        value = f" -x -a {_quoted(_fish_words(option.kind))}" if option.takes else ""
        yield f"{at} {names}{value} -d {_quoted(_short(option.help))}"
    for number, kind in enumerate(one.places):
        if kind:
            place = f"{here}; and test (count (__onnxbuild_words)) -eq {depth + number}"
            yield f"complete -c {_PROGRAM} -n {_quoted(place)} -a {_quoted(_fish_words(kind))}"
    if one.many:
        yield f"{at} -a {_quoted(_fish_words(one.many))}"


def _fish_words(kind: str) -> str:
    return " ".join(_OF_FISH.get(part, part) for part in kind.split("|"))


def _root(commands: Sequence[Command]) -> Command:
    options = [Option(("-h", "--help"), "", "show the help text and exit", takes=False)]
    options.append(Option(("--version",), "", "print the version and exit", takes=False))
    return Command((), "", options, [], "", list(commands))


def _all(one: Command) -> Iterator[Command]:
    yield one
    for inner in one.inner:
        yield from _all(inner)


def _short(text: str) -> str:
    """A help text on one line, cut at a word."""
    line = " ".join(text.replace("%%", "%").split())
    return line if len(line) <= _WIDEST else f"{line[:_WIDEST].rpartition(' ')[0]} ..."


def _quoted(text: str) -> str:
    """Between single quotes, as bash, zsh and fish read them."""
    return "'" + text.replace("'", "'\\''") + "'"


SHELLS: dict[str, Callable[[Sequence[Command]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
