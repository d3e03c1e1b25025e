"""`onnxbuild completion`: a script by which a shell completes the command line; made from the commands' own parsers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from onnxbuild import commands
from onnxbuild.commands import arguments
from onnxbuild.text import completion
from onnxbuild.text.completion import Command, Option

HELP = "print a script that lets bash, zsh or fish complete commands, options, recipes and stages"
EXAMPLES = (
    "source <(onnxbuild completion bash)",
    "onnxbuild completion zsh > _onnxbuild",
)

_EPILOG = """\
In the file that your shell reads when it starts:
  bash  ~/.bashrc                     source <(onnxbuild completion bash)
  zsh   ~/.zshrc, below compinit      source <(onnxbuild completion zsh)
  fish  ~/.config/fish/config.fish    onnxbuild completion fish | source

It starts onnxbuild only where a stage's name is wanted, to ask the recipe that is on the line.
"""
# What an argument is completed with, by the word that stands for it in the help text; nothing for any other.
_KINDS = {
    "RECIPE": completion.RECIPE,
    "STAGE": completion.STAGE,
    "REV": completion.REVISION,
    "FOLDER": completion.FOLDER,
    "FILE": completion.FILE,
    "MODEL": completion.FILE,
    "SOURCE": completion.FILE,
    "A": completion.FILE,
    "B": completion.FILE,
    "PATH": completion.FILE,
    "PYTHON": completion.FILE,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", nargs="?", choices=tuple(completion.SHELLS), help="whose script to print")
    parser.add_argument("--stages", metavar="RECIPE", help="print the names of a recipe's stages, as the scripts ask")
    parser.epilog = _EPILOG


def run(options: argparse.Namespace) -> int:
    """Print the script, or the names of stages."""
    if options.stages is not None:
        for name in _stages(Path(options.stages)):
            print(name)
        return 0
    if options.shell is None:
        from onnxbuild.errors import usage

        raise usage("no shell is named", f"say which: onnxbuild completion {' or '.join(completion.SHELLS)}")
    sys.stdout.write(completion.SHELLS[options.shell](known()))
    return 0


def _stages(recipe: Path) -> list[str]:
    """The names of a recipe's stages. Raises UserError."""
    from onnxbuild.plan import planner
    from onnxbuild.queries.workspace import Places

    (loaded,) = Places(lambda _: None, cache=arguments.cache(), look=True).load([recipe])
    return [stage.name for stage in planner.plan(loaded.recipe, loaded.root).stages]


def known() -> list[Command]:
    """Every command with its options and arguments, as the parsers declare them."""
    found = []
    for name in commands.COMMANDS:
        module = commands.command(name)
        parser = argparse.ArgumentParser(prog=f"onnxbuild {name}")
        module.add_arguments(parser)
        found.append(_command((name,), module.HELP, parser))
    return found


def _command(path: tuple[str, ...], text: str, parser: argparse.ArgumentParser) -> Command:
    options, places, many, inner = [], [], "", []
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # ditto
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001  # ditto
            inner = [_command((*path, name), texts.get(name, ""), one) for name, one in action.choices.items()]
        elif action.option_strings:
            kind = "" if action.nargs == 0 else _kind(action)
            options.append(Option(tuple(action.option_strings), kind, action.help or "", takes=action.nargs != 0))
        elif action.nargs in ("*", "+"):
            many = _kind(action)
        else:
            places.append(_kind(action))
    return Command(path, text, options, places, many, inner)


def _kind(action: argparse.Action) -> str:
    """What an argument is completed with: one of the kinds, or its choices with a space between."""
    if action.choices is not None:
        return " ".join(map(str, action.choices))
    words = str(action.metavar or "").split("|")
    return "|".join(dict.fromkeys(kind for word in words if (kind := _KINDS.get(word))))


def names(found: list[Command]) -> Iterator[tuple[str, ...]]:
    """The paths of all commands, as ("cache", "gc")."""
    for one in found:
        yield one.path
        yield from names(one.inner)
