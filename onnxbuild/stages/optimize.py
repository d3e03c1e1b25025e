"""The optimize stage: one optimizer pass over a graph of the store. Which passes there are, `passes` knows."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from onnxbuild.contracts import Outcome, Task
from onnxbuild.graphs import modelfile
from onnxbuild.listening import listening, scrub
from onnxbuild.passes import PASSES

VERSION = 1
PRELOAD = "onnx"
DISTRIBUTIONS: tuple[str, ...] = ("onnx", "protobuf")

# What a terminal or a log wants and a report doesn't.
COLOUR = r"\x1b\[[0-9;]*m"
TIME = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ "


def run(task: Task) -> Outcome:
    """Run the pass `task.options["pass"]` with its options on the graph, and keep the result.

    Facts: {"pass": name, "notes": [sentences for the report], "modified": whether the graph differs from the one
    before}. Raises StageError where the library refuses.
    """
    name = task.options["pass"]
    module = PASSES[name]
    options = msgspec.convert(task.options["options"], module.Options)
    source, scratch, root = Path(task.inputs["graph"]), Path(task.scratch), Path(task.root)
    with listening(root) as warnings, printing(scratch / "said") as said:
        model, folder = module.run(source, options, scratch)
    graph, refs = modelfile.save(model, folder, Path(task.objects))
    return Outcome(
        outputs={"graph": graph},
        objects=[graph, *refs],
        facts={"pass": name, "notes": list(module.notes(options)), "modified": graph != source.name},
        warnings=list(dict.fromkeys([*warnings, *(scrub(line, root) for line in said)])),
    )


@contextmanager
def printing(path: Path) -> Iterator[list[str]]:
    """Collect the lines that Python and native code print, in the list when the block ends; they are passed on as well.

    `path` is a file to keep them in meanwhile. Native code writes to the descriptors, so those are what is redirected.
    """
    lines: list[str] = []
    _flush()
    saved = [os.dup(1), os.dup(2)]
    with open(path, "w+b") as file:
        try:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            yield lines
        finally:
            _flush()
            for descriptor, before in zip((1, 2), saved, strict=True):
                os.dup2(before, descriptor)
                os.close(before)
            file.seek(0)
            text = file.read().decode(errors="replace")
            sys.stdout.write(text)
            plain = (" ".join(re.sub(TIME, "", re.sub(COLOUR, "", line)).split()) for line in text.splitlines())
            lines += dict.fromkeys(line for line in plain if line)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
