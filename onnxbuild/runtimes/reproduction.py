"""A failing case as files that show it with onnx, onnxruntime and numpy alone: the arrays, the graph, a script.

They go to `failures/<stage>/` in a recipe's output folder. Which files there are ours is written in SHA256SUMS beside
them, as sha256sum writes it; nothing else is ever removed. Knows nothing of verdicts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxbuild.system.files import move, sha256_file, write_atomic

if TYPE_CHECKING:
    from onnxbuild.contracts import Arrays, Json

FOLDER = "failures"
SUMS = "SHA256SUMS"
GRAPH = "graph.onnx"
MOST = 64 << 20  # bytes of one case's arrays, or of a graph with its weights: what one attaches to a bug report
NAME = 100  # characters of a file's name that are the case's

_SCRIPT = '''\
"""{title}."""
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

here = Path(__file__).resolve().parent
case = np.load(here / {npz!r})
graph = str(here / {graph!r})
onnx.checker.check_model(graph)
options = ort.SessionOptions()
{options}
session = ort.InferenceSession(graph, options, providers={providers!r})
tolerances = {tolerances!r}  # rtol and atol by output
{run}
{figures}for (name, limits), got in zip(tolerances.items(), results):
    reference = case["reference/" + name]
    print(name, got.dtype, got.shape, "of the graph;", reference.dtype, reference.shape, "of the source model")
    if limits and reference.dtype.kind == "f":
        np.testing.assert_allclose(got, reference, *limits)
    elif limits:
        np.testing.assert_array_equal(got, reference)
{held}print("no difference here, with onnxruntime", ort.__version__)
'''
_RUN = 'results = session.run(list(tolerances), {value.name: case["input/" + value.name] for value in session.get_inputs()})'
# numpy has no bfloat16: its arrays are kept as float32, of which it is the upper half
_RUN_BFLOAT16 = """\


def put(value):
    array = case["input/" + value.name]
    if value.type != "tensor(bfloat16)":
        return ort.OrtValue.ortvalue_from_numpy(array)
    bits = (array.view(np.uint32) >> 16).astype(np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, onnx.TensorProto.BFLOAT16)


def take(value):
    if value.data_type() != "tensor(bfloat16)":
        return value.numpy()
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(value.shape())


feed = {value.name: put(value) for value in session.get_inputs()}
results = map(take, session.run_with_ort_values(list(tolerances), feed))"""


# What onnxruntime does by itself, and a script need not say.
_USUAL = {
    "intra_op_num_threads": 0,
    "inter_op_num_threads": 0,
    "enable_mem_pattern": True,
    "enable_cpu_mem_arena": True,
}


class Limit(NamedTuple):
    """What an output is held to: rtol and atol, None where they don't judge; and by the name of each function that gives a
    figure its source, the arguments after the arrays, and the least figure.
    """

    elements: tuple[float, float] | None
    figures: Mapping[str, tuple[str, str, float]]


def size_of(*groups: Mapping[str, Any]) -> int:
    """The bytes of arrays together."""
    return sum(int(array.nbytes) for group in groups for array in group.values())


def file_name(case: str) -> str:
    """A case's name as that of a file: short, and of characters that every file system takes."""
    plain = re.sub(r"[^A-Za-z0-9_=,.+-]+", "_", case).lstrip(".")[:NAME] or "case"
    return plain if plain == case else f"{plain}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"


def write_case(folder: Path, case: str, arrays: tuple[Arrays, Arrays, Arrays]) -> list[Path]:
    """Write a case's .npz: `input/x`, `got/y` (where the graph could be run) and `reference/y`; nothing is pickled."""
    import numpy as np

    roles = zip(("input", "got", "reference"), arrays, strict=True)
    plain = {f"{role}/{name}": _plain(array) for role, group in roles for name, array in group.items()}
    path = folder / f"{file_name(case)}.npz"
    np.savez_compressed(path, **plain)
    return [path]


def _plain(array: Any) -> Any:
    """An array of a dtype that numpy alone can read: bfloat16 as float32, strings without objects."""
    if array.dtype.kind == "O":
        return array.astype(str)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def write_script(
    npz: Path, title: str, graph: str, runtime: Json, limits: Mapping[str, Limit], *, bfloat16: bool
) -> Path:
    """Write the Python script beside a case's .npz; `graph` is the graph's path from there.

    `runtime` is the recipe's section, `limits` what each output is held to, in the order of comparing. Where there is
    `bfloat16` among the arrays, the graph is called through onnxruntime's own values.
    """
    session = runtime["session"]
    level = session["graph_optimization_level"].upper()
    level = "ORT_DISABLE_ALL" if level == "DISABLE_ALL" else f"ORT_ENABLE_{level}"
    lines = [f"options.graph_optimization_level = ort.GraphOptimizationLevel.{level}"]
    if session["execution_mode"] != "sequential":
        lines.append(f"options.execution_mode = ort.ExecutionMode.ORT_{session['execution_mode'].upper()}")
    lines += [f"options.{name} = {session[name]!r}" for name, usual in _USUAL.items() if session[name] != usual]
    lines += [
        f"options.add_session_config_entry({key!r}, {value!r})" for key, value in session["config_entries"].items()
    ]
    text = _SCRIPT.format(
        title=title.replace("\\", "/").replace('"', "'"),
        npz=npz.name,
        graph=graph,
        options="\n".join(lines),
        providers=[(name, runtime["provider_options"].get(name, {})) for name in runtime["providers"]],
        tolerances={name: one.elements for name, one in limits.items()},
        run=_RUN_BFLOAT16 if bfloat16 else _RUN,
        figures="".join(f"\n\n{source}\n\n" for source in _sources(limits)),
        held="".join(_held(name, one) for name, one in limits.items()),
    )
    if any(one.figures for one in limits.values()):
        text = text.replace("from pathlib", "from __future__ import annotations\n\nfrom pathlib", 1)
    if bfloat16:
        text = text.replace("from pathlib", "import ctypes\nfrom pathlib", 1)
    path = npz.with_name(f"{npz.name.removesuffix('.npz')}.py")
    path.write_text(text, encoding="utf-8")
    return path


def _sources(limits: Mapping[str, Limit]) -> list[str]:
    """The functions that give the figures, each once."""
    return list(dict.fromkeys(source for one in limits.values() for source, _, _ in one.figures.values()))


def _held(output: str, one: Limit) -> str:
    """The lines that hold an output to each of its figures."""
    lines = [
        f"    if name == {output!r}:\n"
        f"        figure = {name}(got, reference{', ' if given else ''}{given})\n"
        f'        print("{name}", figure, "and at least {least:g} is asked for")\n'
        f"        assert figure >= {least!r}\n"
        for name, (_, given, least) in one.figures.items()
    ]
    return "".join(lines)


def publish(made: Sequence[Path], folder: Path) -> None:
    """Move finished files into a folder of failures, in place of those that we wrote there before."""
    clear(folder)
    sums = "".join(f"{sha256_file(path)}  {path.name}\n" for path in made)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / SUMS, [sums.encode()])  # first: a file of ours is never there without being known as ours
    for path in made:
        move(path, folder / path.name)


def clear(folder: Path) -> None:
    """Take away the files of ours in a folder of failures, and the folder and those above it where they are empty then.

    A file that was changed since is somebody's work, and stays.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / name
        if name == Path(name).name and path.is_file() and not path.is_symlink() and sha256_file(path) == digest:
            path.unlink(missing_ok=True)
    (folder / SUMS).unlink(missing_ok=True)
    for above in (folder, folder.parent, folder.parent.parent):
        with contextlib.suppress(OSError):
            above.rmdir()
        if above.name == FOLDER:
            return


def clear_all_but(dest: Path, failing: Iterable[str]) -> None:
    """Take away what was kept in a recipe's output folder, but for these folders in it. Raises OSError."""
    if not os.path.lexists(dest / FOLDER):
        return
    kept = {dest / folder for folder in failing}
    for sums in sorted((dest / FOLDER).glob(f"*/*/{SUMS}")):
        if sums.parent not in kept:
            clear(sums.parent)
