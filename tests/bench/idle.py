"""`make bench`, second part: runs with nothing to do, beside doit, dvc repro and snakemake on DAGs of the same size.

Each of the others gets chains of copies, one file a stage, as many stages as a recipe has; onnxbuild gets real recipes
around small ONNX files. Everything is built once, then timed as whole processes, taking turns; medians. Then hashing:
a file of 1 GiB by `sha256sum` and by what onnxbuild uses for weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser

STAGES = 11  # of the recipe below: export, reference, 3 graphs with check and parity, 2 passes, package

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
graph (float[N, 8] x) => (float[N, 8] y) <float[8, 8] w> { a = Identity(x)  b = MatMul(a, w)  y = Relu(b) }"""

RECIPE = """version: 1
name: model-{number}
model: {{onnx: {{path: models/{number}.onnx}}}}
export:
  opset: 17
  inputs: {{x: {{dtype: float32, shape: [2, 8]}}}}
  outputs: [y]
  dynamic_axes: {{x: {{0: N}}, y: {{0: N}}}}
  dims: {{N: {{min: 1, max: 4}}}}
optimize:
  - onnxoptimizer: [eliminate_identity]
  - onnxscript: {{}}
"""


def onnxbuild_project(folder: Path, chains: int) -> list[str]:
    (folder / "models").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    for number in range(chains):
        model = onnx.parser.parse_model(MODEL)
        weight = np.random.default_rng(number).standard_normal((8, 8)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
        onnx.save(model, folder / "models" / f"{number}.onnx")
        (folder / f"{number}.yaml").write_text(RECIPE.format(number=number))
    return [sys.executable, "-m", "onnxbuild", "run", "--quiet", *(f"{number}.yaml" for number in range(chains))]


def sources(folder: Path, chains: int) -> None:
    folder.mkdir(parents=True)
    for chain in range(chains):
        (folder / f"{chain}.0").write_text(f"{chain}\n")


def doit_project(folder: Path, chains: int) -> list[str]:
    sources(folder, chains)
    (folder / "dodo.py").write_text(
        f"def task_copy():\n    for c in range({chains}):\n        for s in range({STAGES}):\n"
        "            a, b = f'{c}.{s}', f'{c}.{s + 1}'\n"
        "            yield {'name': b, 'actions': [['cp', a, b]], 'file_dep': [a], 'targets': [b]}\n"
    )
    return [tool("doit"), "--verbosity", "0"]


def dvc_project(folder: Path, chains: int) -> list[str]:
    sources(folder, chains)
    lines = ["stages:"]
    for chain in range(chains):
        for stage in range(STAGES):
            a, b = f"{chain}.{stage}", f"{chain}.{stage + 1}"
            lines += [f"  c{chain}s{stage}:", f"    cmd: cp {a} {b}", f"    deps: ['{a}']", f"    outs: ['{b}']"]
            shutil.copy(folder / a, folder / b)
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    timed([tool("dvc"), "init", "--no-scm", "--quiet"], folder)
    timed(
        [tool("dvc"), "commit", "--force", "--quiet"], folder
    )  # takes what lies there as built: repro needs 0.2 s a stage
    return [tool("dvc"), "repro", "--quiet"]


def snakemake_project(folder: Path, chains: int) -> list[str]:
    sources(folder, chains)
    rules = [f"rule all:\n    input: [f'{{c}}.{STAGES}' for c in range({chains})]\n"]
    rules += [
        f"rule stage{stage}:\n    input: '{{c}}.{stage}'\n    output: '{{c,[0-9]+}}.{stage + 1}'\n"
        "    shell: 'cp {input} {output}'\n"
        for stage in range(STAGES)
    ]
    (folder / "Snakefile").write_text("\n".join(rules))
    return [tool("snakemake"), "--cores", "2", "--quiet", "all"]


PROJECTS: dict[str, Callable[[Path, int], list[str]]] = {
    "onnxbuild run": onnxbuild_project,
    "doit": doit_project,
    "dvc repro": dvc_project,
    "snakemake": snakemake_project,
}


def tool(name: str) -> str:
    """A tool of the benchmark's own environment."""
    path = Path(sys.prefix) / "bench" / "bin" / name
    return str(path) if path.exists() else name


def timed(command: list[str], folder: Path) -> float:
    # dvc and snakemake keep state below HOME, and snakemake runs its jobs by the first python on PATH
    environment = {**os.environ, "HOME": str(folder), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = str(Path(command[0]).parent) + os.pathsep + environment["PATH"]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return seconds


def compare(scratch: Path, chains: int, repeats: int, names: list[str]) -> None:
    commands = {name: PROJECTS[name](scratch / f"{name}-{chains}", chains) for name in names}
    for name, command in commands.items():
        timed(command, scratch / f"{name}-{chains}")
        timed(command, scratch / f"{name}-{chains}")
    rows: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            rows[name].append(timed(command, scratch / f"{name}-{chains}"))
    ours = statistics.median(rows["onnxbuild run"])
    print(f"\nnothing to do, {chains} x {STAGES} stages")
    for name, seconds in rows.items():
        median = statistics.median(seconds)
        print(f"  {name:<22}{median:>8.3f} s {median / ours:>8.1f} x", flush=True)


def hashing(scratch: Path) -> None:
    path = scratch / "weights.bin"
    block = np.random.default_rng(0).bytes(1 << 24)
    with open(path, "wb") as file:
        file.writelines(block for _ in range(64))
    code = (
        "import sys; from pathlib import Path; from onnxbuild.store.digests import Digests; "
        "Digests(Path('none'), paranoid=True).of(Path(sys.argv[1]))"
    )
    commands = {"sha256sum": ["sha256sum", str(path)], "onnxbuild": [sys.executable, "-c", code, str(path)]}
    rows: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(3):
        for name, command in commands.items():
            rows[name].append(timed(command, scratch))
    print("\nhashing 1 GiB, the whole process")
    for name, seconds in rows.items():
        print(f"  {name:<22}{statistics.median(seconds):>8.3f} s {1.0 / statistics.median(seconds):>8.2f} GiB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--chains", type=int, nargs="*", default=[1, 100], help="recipes in a DAG (default: 1 100)")
    parser.add_argument("--only", nargs="*", choices=list(PROJECTS), default=list(PROJECTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onnxbuild-bench-") as name:
        for chains in options.chains:
            compare(Path(name), chains, options.repeats, options.only)
        hashing(Path(name))


if __name__ == "__main__":
    main()
