"""The breadth table: `python tests/breadth/table.py [--architectures] [--onnx] [--only NAME] [--json FILE]`.

Every model goes through a generated recipe, and beside it through plain torch.onnx.export or onnxruntime in another process.
Prints what was built, what was refused and for which reason, and whose fault it was; the exit code is 1 where any was ours.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import architectures
import building
import verdicts
import yaml
from verdicts import Verdict

HERE = Path(__file__).resolve().parent
NOT_TRIED = {"status": "not tried"}
PASSES = [{"onnxsim": {}}]  # of the architectures' recipes; a file is built as it is


def of_architectures(root: Path, only: Sequence[str], *, beside: bool = True) -> Iterator[tuple[str, Verdict]]:
    """The verdict on each architecture, in the table's order; `beside` as in `judged`."""
    building.project(root)
    shutil.copy(HERE / "tiny_models.py", root / "models.py")
    entries = {
        name: one
        for name, one in architectures.load().items()
        if not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)
    }
    for name, one in entries.items():
        text = yaml.safe_dump(architectures.recipe(one) | {"optimize": PASSES}, sort_keys=False)
        (root / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")
    described = root / "entries.json"
    plain = [str(HERE / "plain.py"), str(described)]

    def describe(names: Sequence[str]) -> None:
        told = {name: architectures.as_json(entries[name]) for name in names}
        for name, one in told.items():
            one["failing"] = building.failing(root, name)
        described.write_text(json.dumps(told), encoding="utf-8")

    yield from judged(root, list(entries), plain, batch=10, beside=beside, describe=describe)


def of_onnx(root: Path, only: Sequence[str]) -> Iterator[tuple[str, Verdict]]:
    """The verdict on each model that the onnx package ships."""
    building.project(root)
    written = [sys.executable, str(HERE / "onnx_backend.py"), str(root), *only]
    done = subprocess.run(written, env=building.environment(root), capture_output=True, text=True, check=True)
    yield from judged(root, done.stdout.split(), [str(HERE / "plain_onnx.py"), str(root)], batch=100)


def judged(
    root: Path,
    names: Sequence[str],
    plain: Sequence[str],
    batch: int,
    *,
    beside: bool = True,
    describe: Callable[[Sequence[str]], None] = lambda _: None,
) -> Iterator[tuple[str, Verdict]]:
    """Build and try plainly, a batch at a time; a recipe that can prove nothing is built once more, allowed to.

    Without `beside` only what was refused is tried plainly, too. `describe` is told what is about to be.
    """
    for start in range(0, len(names), batch):
        part = names[start : start + batch]
        ours = dict(building.build(root, part, batch=batch))
        hollow = [name for name in part if verdicts.is_vacuous(ours[name])]
        for name in hollow:
            allow(root / "recipes" / f"{name}.yaml")
        ours |= dict(building.build(root, hollow, batch=batch))
        tried = [name for name in part if beside or not ours[name].built]
        describe(tried)
        theirs = dict(building.plain(root, tried, plain))
        for name in part:
            yield name, verdicts.judge(theirs.get(name, NOT_TRIED), ours[name], unproven=name in hollow)


def allow(recipe: Path) -> None:
    """Let a recipe be built though nothing is proven."""
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    data["parity"] = data.get("parity", {}) | {"allow_vacuous": True}
    recipe.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def rows(found: dict[str, Verdict]) -> Iterator[str]:
    """All that is not simply built, then the counts."""
    width = max(map(len, found), default=0)
    for name, one in found.items():
        if one.result != "built" or one.fault:
            yield f"{name:{width}}  {one.result:14}  {one.fault or '-':8}  {one.reason[:160]}"
    yield ""
    counts = Counter((one.result, one.fault) for one in found.values())
    for (result, fault), count in sorted(counts.items()):
        yield f"{count:6}  {result}{f', fault: {fault}' if fault else ''}"
    yield f"{len(found):6}  in all; ours: {sum(one.fault == 'ours' for one in found.values())}"


def main(arguments: Sequence[str]) -> int:
    """Make the table of what was asked for; 1 where any fault is ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", action="store_true", help="those of transformers only")
    parser.add_argument("--onnx", action="store_true", help="the models of the onnx package only")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="these names or patterns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts here, too")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="build in this folder, and leave all there")
    options = parser.parse_args(arguments)
    both = options.architectures == options.onnx
    found: dict[str, Verdict] = {}
    with tempfile.TemporaryDirectory(prefix="breadth-") as folder:
        root: Any = (options.keep or Path(folder)).resolve()
        for wanted, table in ((options.architectures, of_architectures), (options.onnx, of_onnx)):
            for name, verdict in table(root / table.__name__, options.only) if wanted or both else ():
                found[name] = verdict
                print(f"{name}: {verdict.result} {verdict.fault}", file=sys.stderr, flush=True)
    print("\n".join(rows(found)))
    if options.json:
        options.json.write_text(json.dumps({name: one._asdict() for name, one in found.items()}, indent=1) + "\n")
    return 1 if any(one.fault == "ours" for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
