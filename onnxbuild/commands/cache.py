"""`onnxbuild cache`: what the store takes up, and keeping it small and sound."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from onnxbuild.commands import arguments

if TYPE_CHECKING:
    from onnxbuild.contracts import Json
    from onnxbuild.store.garbage import Chosen, Content, Policy

HELP = "show what the store of finished stages takes up, shrink it, check it"
EXAMPLES = (
    "onnxbuild cache du",
    "onnxbuild cache gc --max-size 20G --older-than 30d --dry-run",
    "onnxbuild cache verify",
)

_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own commands and their arguments."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, run_it, text in (
        ("du", _du, "what the store takes up, by recipe"),
        ("gc", _gc, "remove what nothing needs, and the least recently used results beyond a size or an age"),
        ("verify", _verify, "read everything in the store; 1 if anything is damaged and was not repaired"),
        ("path", _path, "print the store's folder"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(cache_command=run_it)
        if name == "gc":
            _add_gc(command)
        if name == "verify":
            command.add_argument("--repair", action="store_true", help="remove what is damaged: the next run builds it")
        if name != "path":
            arguments.add_trust(command)
            command.add_argument("--json", action="store_true", help="print a line of JSON instead")
    parser.epilog = "The store is .onnxbuild/ at the root of the project that you are in, or $ONNXBUILD_CACHE."


def _add_gc(command: argparse.ArgumentParser) -> None:
    text = "remove results until the store is no larger, such as 500MB or 5GiB; a bare number is bytes"
    command.add_argument("--max-size", type=arguments.size, metavar="SIZE", help=text)
    text = "remove results that were not used for so long, such as 12h or 30d"
    command.add_argument("--older-than", type=_age, metavar="AGE", help=text)
    command.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    command.epilog = (
        "Kept always: what each recipe's last run took or left, and what running commands use. "
        "A deleted recipe has none once its output folder is gone too; another machine's can't be told from here."
    )


def run(options: argparse.Namespace) -> int:
    """Run one of the commands on the store of this project."""
    from onnxbuild import recipe as recipes
    from onnxbuild.store import ownership

    root = recipes.project_root(Path("recipe.yaml"))
    folder = arguments.cache() or root / ".onnxbuild"
    if options.cache_command is not _path:
        ownership.standing(folder, root, trusted=arguments.is_trusted(options))
    code: int = options.cache_command(folder, options)
    return code


def _path(folder: Path, _: argparse.Namespace) -> int:
    print(folder)
    return 0


def _du(folder: Path, options: argparse.Namespace) -> int:
    from onnxbuild.store import garbage, leases
    from onnxbuild.text import units

    content = garbage.look(folder, leases.living(folder, remove=False))
    recipes = _by_recipe(content)
    unneeded = garbage.choose(content, garbage.Policy())
    rows: dict[str, tuple[int, int]] = {
        "objects": (len(content.objects), sum(item.bytes for item in content.objects.values())),
        "traces": (len(content.traces), sum(held.item.bytes for held in content.traces)),
        "temporary": (len(content.left), sum(item.bytes for item in content.left)),
    }
    if options.json:
        told = {name: {"count": count, "bytes": size} for name, (count, size) in rows.items()}
        _print_json({"path": str(folder), **told, "recipes": recipes, "unneeded_bytes": unneeded.bytes})
        return 0
    print(folder)
    for name, (count, size) in rows.items():
        print(f"  {name:<32}{count:>8,}{units.size(size):>12}")
    if recipes:
        print("  needed by the last run of")
    for name, size in sorted(recipes.items(), key=lambda pair: (-pair[1], pair[0])):
        print(f"    {units.clip(name, 36):<38}{units.size(size):>12}")
    if unneeded.bytes:
        print(f"  {units.size(unneeded.bytes)} that nothing needs: onnxbuild cache gc")
    return 0


def _by_recipe(content: Content) -> dict[str, int]:
    """The bytes that each recipe's last run needs; what several need counts for each."""
    held = {one.place: one for one in content.traces}
    found = {}
    for latest in content.latest:
        own = [held[place] for place in set(latest.traces.values()) if place in held]
        refs = {ref for one in own for ref in one.refs if ref in content.objects}
        size = sum(one.item.bytes for one in own) + sum(content.objects[ref].bytes for ref in refs)
        found[f"{latest.recipe} of {latest.project}" if latest.project else latest.recipe] = size
    return found


def _gc(folder: Path, options: argparse.Namespace) -> int:
    import time

    from onnxbuild.store import garbage, layout, leases

    since = None if options.older_than is None else time.time_ns() - options.older_than
    policy = garbage.Policy(options.max_size, since)
    if options.dry_run or not layout.is_begun(folder):
        content = garbage.look(folder, leases.living(folder, remove=False))
        chosen = garbage.choose(content, policy)
    else:
        with leases.alone(folder, _say):
            content = garbage.look(folder, leases.living(folder))
            chosen = garbage.choose(content, policy)
            garbage.remove(folder, chosen)
    _tell(content, chosen, policy, options)
    return 0


def _tell(content: Content, chosen: Chosen, policy: Policy, options: argparse.Namespace) -> None:
    from onnxbuild.text import units

    counts = {"traces": len(chosen.traces), "objects": len(chosen.objects), "temporary": len(chosen.others)}
    if options.json:
        running = [str(holder) for holder in content.running]
        sizes = {"bytes": chosen.bytes, "bytes_left": chosen.bytes_left}
        _print_json({"removed": {**counts, **sizes}, "dry_run": options.dry_run, "running": running})
        return
    verb = "would remove" if options.dry_run else "removed"
    kinds = ("result", "object", "temporary file")
    told = ", ".join(units.plural(count, kind) for count, kind in zip(counts.values(), kinds, strict=True) if count)
    print(f"{verb} {told}: {units.size(chosen.bytes)}" if told else "nothing to remove")
    for holder in content.running:
        _say(f"kept what a running command uses: {holder}")
    if policy.max_bytes is not None and chosen.bytes_left > policy.max_bytes:
        over = f"{units.size(chosen.bytes_left)} are left, more than {units.size(policy.max_bytes)}"
        _say(f"{over}: what last runs and running commands need is kept")


def _verify(folder: Path, options: argparse.Namespace) -> int:
    from onnxbuild.store import integrity, leases
    from onnxbuild.text import units

    checked = integrity.check(folder)
    repaired = bool(checked.findings and options.repair)
    if repaired:
        with leases.alone(folder, _say):
            integrity.repair(folder, integrity.check(folder).findings)  # anew: a build may have repaired some meanwhile
        repaired = not integrity.check(folder).findings
    if options.json:
        told = [{"path": str(finding.path), "fact": finding.fact} for finding in checked.findings]
        counts = {"traces": checked.traces, "objects": checked.objects, "bytes": checked.bytes}
        _print_json({**counts, "findings": told, "repaired": repaired})
        return 1 if checked.findings and not repaired else 0
    for finding in checked.findings:
        print(f"{finding.path}: {finding.fact}")
    read = f"{units.plural(checked.traces, 'trace')} and {units.plural(checked.objects, 'object')}"
    print(f"{read} read, {units.size(checked.bytes)}: {_verdict(len(checked.findings), repaired=repaired)}")
    return 1 if checked.findings and not repaired else 0


def _verdict(count: int, *, repaired: bool) -> str:
    from onnxbuild.text import units

    if not count:
        return "all sound"
    remedy = "removed, and the next run builds it again" if repaired else "`onnxbuild cache verify --repair` removes it"
    return f"{units.plural(count, 'file')} damaged or missing; {remedy}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _print_json(value: Json) -> None:
    import msgspec

    print(msgspec.json.encode(value).decode())


def _age(text: str) -> int:
    """Nanoseconds: 12h, 30d."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([smhdw])", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age: write 12h or 30d")
    return round(float(found[1]) * _AGES[found[2]] * 10**9)
