"""A project of many recipes whose store says that all were built: what `onnxbuild affected` has to look through.

One small recipe is really built. The others are copies of it in all that `affected` reads, each with a recipe, a model and a
Python file of its own, which its export and its reference were found to use; so each has traces of its own, too.

    python tests/bench/fleet.py 1000        times `onnxbuild affected --since HEAD` on it
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import idle
import msgspec

from onnxbuild.store import checksummed, seal, traces

OF_CODE = ("export", "reference")
GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost")


def fleet(folder: Path, count: int, run: list[str], environment: dict[str, str]) -> None:
    """Make the project in an empty folder, as a git repository with one commit; `run` builds the recipes named after it."""
    idle.onnxbuild_project(folder, count)
    for number in range(count):
        (folder / f"models/{number}.py").write_text(f"NUMBER = {number}\n")
    (folder / ".gitignore").write_text(".onnxbuild/\nbuild/\n")
    subprocess.run([*run, "0.yaml"], cwd=folder, env=environment, check=True)
    store = folder / ".onnxbuild"
    latest = checksummed.read(store / "latest/model-0.json", "model-0.json", traces.Latest)
    assert latest.basis is not None
    for number in range(count):
        places = dict(latest.traces)
        for stage in OF_CODE:
            places[stage] = _with_code(store, latest.traces[stage], f"models/{number}.py", folder)
        basis = msgspec.structs.replace(
            latest.basis,
            sha256=_sha256(folder / f"{number}.yaml"),
            reads={f"file:models/{number}.onnx": _sha256(folder / f"models/{number}.onnx")},
        )
        name = f"model-{number}"
        own = msgspec.structs.replace(
            latest, recipe=name, traces=places, file=f"../{number}.yaml", dest=f"../build/{name}", basis=basis
        )
        _write(store / f"latest/{name}.json", f"{name}.json", own)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True)


def _with_code(store: Path, place: str, file: str, folder: Path) -> str:
    """A copy of a trace that was found to use a file, too; gives its place."""
    key = place.partition("/")[0]
    trace = traces.read_trace(traces.trace_file(store, place), key)
    discovered = {**trace.discovered, f"file:{file}": _sha256(folder / file)}
    name = hashlib.sha256(msgspec.json.encode(discovered, order="deterministic")).hexdigest()
    own = msgspec.structs.replace(trace, discovered=discovered)
    _write(traces.trace_file(store, f"{key}/{name}"), f"{key}/{name}", own)
    return f"{key}/{name}"


def _write(path: Path, place: str, content: object) -> None:
    """As `checksummed.write`, without waiting for the disk."""
    path.write_bytes(b"".join(seal.sealed(place, msgspec.json.encode(content, order="deterministic"))))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    count = int(sys.argv[1])
    ours = [sys.executable, "-m", "onnxbuild"]
    with tempfile.TemporaryDirectory(prefix="onnxbuild-bench-") as name:
        folder = Path(name, "project")
        fleet(folder, count, [*ours, "run", "--quiet"], dict(os.environ))
        with open(folder / "models/7.py", "a") as file:
            file.write("# changed\n")
        (folder / "models/5.onnx").write_bytes((folder / "models/6.onnx").read_bytes())
        rows = []
        for _ in range(7):
            begun = time.perf_counter()
            done = subprocess.run([*ours, "affected", "--since", "HEAD"], cwd=folder, capture_output=True, check=True)
            rows.append(time.perf_counter() - begun)
        print(done.stdout.decode() + done.stderr.decode(), end="")
        print(f"median of {len(rows)}: {statistics.median(rows):.3f} s, best {min(rows):.3f} s")


if __name__ == "__main__":
    main()
