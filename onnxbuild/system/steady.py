"""Runs a function in a process of its own, in which things lie at the same addresses each time.

Some compilers order what they make by address, and give other bytes in every process. Linux leaves addresses alone where a
process asks for it before it starts: see personality(2), ADDR_NO_RANDOMIZE. Elsewhere, or where that is forbidden, the
function runs all the same, and `Answer.steady` says so. Knows no compiler.
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
_AGAIN = "--again"  # it has asked for fixed addresses, and was started once more


class Answer(msgspec.Struct, frozen=True):
    """What the function gave; `steady` is False where addresses were as random as ever."""

    value: msgspec.Raw
    steady: bool
    fact: str = ""
    hint: str = ""


def call(function: str, argument: object, scratch: Path) -> Answer:
    """`function` ("module:name") of `argument`, both JSON, in a process of its own that ends with this one.

    `scratch` is a folder for what the two say to each other. What the process prints goes to this one's stderr. Raises
    StageError where the function did, and where the process ended otherwise.
    """
    asked, answered, log = scratch / "asked.json", scratch / "answered.json", scratch / "log.txt"
    asked.write_bytes(msgspec.json.encode(argument))
    command = [sys.executable, "-P", "-m", __name__, function, str(asked), str(answered)]
    with log.open("wb") as file:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False)
    said = log.read_text("utf-8", "replace")
    sys.stderr.write(said)
    if not answered.exists():
        last = (said.strip().splitlines() or [""])[-1]
        raise StageError(f"the process that runs {function} ended with status {done.returncode}: {last}".rstrip(": "))
    answer = msgspec.json.decode(answered.read_bytes(), type=Answer)
    if answer.fact:
        raise StageError(answer.fact, answer.hint)
    return answer


def main(function: str, asked: str, answered: str, again: str = "") -> None:
    """The other side of `call`."""
    steady = _is_steady(again=bool(again))
    module, _, name = function.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(msgspec.json.decode(Path(asked).read_bytes()))
        answer = Answer(msgspec.Raw(msgspec.json.encode(value)), steady)
    except StageError as error:
        answer = Answer(msgspec.Raw(b"null"), steady, error.fact, error.hint)
    Path(answered).write_bytes(msgspec.json.encode(answer))


def _is_steady(*, again: bool) -> bool:
    """Whether addresses are fixed in this process; where they could be, it is started once more, and this never returns."""
    if sys.platform != "linux":
        return False
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
