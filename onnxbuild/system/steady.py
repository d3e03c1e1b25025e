"""Runs a function in a process of its own, in which things lie at the same addresses each time, as far as that is possible.

Some compilers order what they make by address, and give other bytes in every process. Linux leaves addresses alone where a
process asks for it before it starts: see personality(2), ADDR_NO_RANDOMIZE. Elsewhere, or where that is forbidden, the
function runs all the same, and `Answer.steady` says so. It has one processor, so that its threads rarely overtake each
other. Knows no compiler.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from onnxbuild.errors import StageError

ADDR_NO_RANDOMIZE = 0x0040000
ASK = 0xFFFFFFFF  # changes nothing, and tells what is
PR_SET_PDEATHSIG = 1
KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
ASKED, ANSWERED, LOG = "asked.json", "answered.json", "log.txt"  # what the two say to each other, in `scratch`
_AGAIN = "--again"  # it has asked for fixed addresses, and was started once more


class Answer(msgspec.Struct, frozen=True):
    """What the function gave; `steady` is False where addresses were as random as ever."""

    value: msgspec.Raw
    steady: bool
    fact: str = ""
    hint: str = ""


def call(function: str, argument: object, scratch: Path) -> Answer:
    """`function` ("module:name") of `argument`, both JSON, in a process of its own that ends with this one.

    It runs in the folder `scratch`, with an environment that is the same each time: both are in memory, too, and move what
    comes after them. What it prints goes to this process's stderr. Raises StageError where the function did, and where the
    process ended otherwise.
    """
    (scratch / ASKED).write_bytes(msgspec.json.encode(argument))
    command = [sys.executable, "-P", "-m", __name__, function]
    own = {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
    }
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    with (scratch / LOG).open("wb") as log:
        done = subprocess.run(
            command, cwd=scratch, env=kept | own, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
    said = (scratch / LOG).read_text("utf-8", "replace")
    sys.stderr.write(said)
    if not (scratch / ANSWERED).exists():
        last = (said.strip().splitlines() or [""])[-1]
        raise StageError(f"the process that runs {function} ended with status {done.returncode}: {last}".rstrip(": "))
    answer = msgspec.json.decode((scratch / ANSWERED).read_bytes(), type=Answer)
    if answer.fact:
        raise StageError(answer.fact, answer.hint)
    return answer


def main(function: str, again: str = "") -> None:
    """The other side of `call`."""
    steady = _is_steady(again=bool(again))
    module, _, name = function.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(msgspec.json.decode(Path(ASKED).read_bytes()))
        answer = Answer(msgspec.Raw(msgspec.json.encode(value)), steady)
    except StageError as error:
        answer = Answer(msgspec.Raw(b"null"), steady, error.fact, error.hint)
    Path(ANSWERED).write_bytes(msgspec.json.encode(answer))


def _is_steady(*, again: bool) -> bool:
    """Whether addresses are fixed in this process; where they could be, it is started once more, and this never returns."""
    if sys.platform != "linux":
        return False
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    now: int = libc.personality(ASK)
    if now == -1 or now & ADDR_NO_RANDOMIZE:
        return now != -1
    if not again and libc.personality(now | ADDR_NO_RANDOMIZE) != -1:
        os.execv(sys.executable, [*sys.orig_argv, _AGAIN])  # noqa: S606  # the same program, as it was started
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
