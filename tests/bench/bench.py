"""`make bench`: ratios against baselines measured in the same run, on recipes/resnet.yaml less its benchmark and targets.

Cold build against the plain script; a run with nothing to do against `python -c "import yaml"`, by what the run before
remembered and thought over; a changed tolerance and a changed last pass against the cold build; peak memory (proportional
set size of the whole process tree, sampled) against the script's; the store's size against the final model's. Medians;
baselines and builds take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
PLAIN = Path(__file__).with_name("plain.py")
VARIABLE, ENTRY = "ONNXBUILD_REMEMBERED", "from onnxbuild.cli import entry; entry()"
SETTLED = 3  # seconds after which what was written counts as settled
HEAVY = {"torch", "onnx", "numpy", "onnxruntime"}


def timed(command: list[str], root: Path, cache: Path) -> float:
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=environment(cache), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return seconds


def timed_with_memory(command: list[str], root: Path, cache: Path) -> tuple[float, int]:
    """Seconds, and the largest proportional set size in bytes of the process and all its descendants together."""
    peak, over = 0, threading.Event()

    def sample(process: psutil.Process) -> None:
        nonlocal peak
        while not over.wait(0.05):
            with contextlib.suppress(psutil.Error):  # it ended between two looks
                peak = max(peak, sum(map(proportional, [process, *process.children(recursive=True)])))

    begun = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=root, env=environment(cache), **quiet) as running:
        sampler = threading.Thread(target=sample, args=(psutil.Process(running.pid),))
        sampler.start()
        code = running.wait()
        seconds = time.perf_counter() - begun
        over.set()
        sampler.join()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return seconds, peak


def proportional(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "ONNXBUILD_CACHE": str(cache)}


def project(folder: Path) -> Path:
    """A copy of the recipe and its model, which the benchmark may edit."""
    shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").touch()
    edit(folder, lambda recipe: [recipe.pop(part, None) for part in ("benchmark", "targets")])
    return folder


def edit(folder: Path, change) -> None:
    path = folder / "recipes" / "resnet.yaml"
    recipe = yaml.safe_load(path.read_text())
    change(recipe)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def imports(command: list[str], root: Path, cache: Path) -> set[str]:
    """The heavy packages that a command imports itself."""
    traced = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(traced, cwd=root, env=environment(cache), capture_output=True, text=True, check=True)
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return HEAVY & loaded


def row(what: str, value: str, against: str, ratio: float, aim: str) -> None:
    print(f"{what:<24}{value:>12}   {against:<32}{ratio:>7.2f}   {aim}", flush=True)


def batches(root: Path) -> list[str]:
    """The batch sizes at which the last build proved parity, the example's first: the script has to do the same."""
    report = json.loads((root / "build" / "resnet50" / "report.json").read_text())
    return list(dict.fromkeys(row["case"].removeprefix("batch=") for row in report["parity"]))


def cold_builds(root: Path, scratch: Path, repeats: int) -> tuple[float, float, float, float]:
    """Medians: build and script in seconds, build and script in bytes."""
    build = [sys.executable, "-m", "onnxbuild", "run", "--quiet", "recipes/resnet.yaml"]
    rows = []
    for _ in range(repeats):
        shutil.rmtree(scratch / "store", ignore_errors=True)
        shutil.rmtree(root / "build", ignore_errors=True)
        ours = timed_with_memory(build, root, scratch / "store")
        plain = timed_with_memory([sys.executable, str(PLAIN), *batches(root)], root, scratch / "store")
        rows.append((ours[0], plain[0], float(ours[1]), float(plain[1])))
    return tuple(statistics.median(column) for column in zip(*rows, strict=True))  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="cold builds and scripts (default 3)")
    repeats = parser.parse_args().repeats
    build = [sys.executable, "-m", "onnxbuild", "run", "--quiet", "recipes/resnet.yaml"]
    print(f"{'measured':<24}{'value':>12}   {'against':<32}{'ratio':>7}   aim")
    with tempfile.TemporaryDirectory(prefix="onnxbuild-bench-") as name:
        scratch = Path(name)
        root, store = project(scratch / "project"), scratch / "store"
        ours, plain, ours_peak, plain_peak = cold_builds(root, scratch, repeats)
        row("cold build", f"{ours:.1f} s", f"plain script {plain:.1f} s", ours / plain, "<= 1.10")
        peak = f"{ours_peak / 2**20:.0f} MiB"
        row("peak memory", peak, f"plain script {plain_peak / 2**20:.0f} MiB", ours_peak / plain_peak, "<= 1.00")

        final = (root / "build" / "resnet50" / "model.onnx").stat().st_size
        row("store", f"{size(store) / 1e6:.1f} MB", f"final model {final / 1e6:.1f} MB", size(store) / final, "<= 1.10")

        thought_over = [sys.executable, "-c", f"import os; os.environ[{VARIABLE!r}] = '0'; {ENTRY}", *build[3:]]
        timed(build, root, store)  # which writes its report
        time.sleep(SETTLED)
        timed(build, root, store)  # which remembers what it looked at
        rows = []
        for _ in range(11):
            commands = (build, thought_over, [sys.executable, "-c", "import yaml"])
            rows.append([timed(command, root, store) for command in commands])
        nothing, looked, bare = (statistics.median(column) for column in zip(*rows, strict=True))
        against = f'python -c "import yaml" {bare:.3f} s'
        row("nothing to do", f"{nothing:.3f} s", against, nothing / bare, "<= 2.00")
        row("  thought over", f"{looked:.3f} s", against, looked / bare, "value <= 0.15 s")
        heavy = ", ".join(sorted(imports(build, root, store))) or "none"
        print(f"{'  imports':<24}{heavy:>12}   of {', '.join(sorted(HEAVY))}")

        edit(root, lambda recipe: recipe["parity"].update(rtol=2e-3))
        seconds = timed(build, root, store)
        row("changed tolerance", f"{seconds:.2f} s", f"cold build {ours:.1f} s", seconds / ours, "")
        edit(root, lambda recipe: recipe["optimize"][-1]["onnxoptimizer"].pop(0))
        seconds = timed(build, root, store)
        row("changed last pass", f"{seconds:.2f} s", f"cold build {ours:.1f} s", seconds / ours, "")


if __name__ == "__main__":
    main()
