"""An interrupt is neither forgotten nor the end of the process by SIGSEGV, wherever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from onnxbuild.recipe.types import Recipe
from onnxbuild.system import interrupts

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each moment")
FORGOTTEN, EARLY, HEARD = 7, 8, 130


def interrupted_at(moment: int, type_: object) -> int:
    """What a process ends with that is interrupted in a call of Python's by msgspec, as it meets a type."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code, calls, raised = FORGOTTEN, 0, False

    def trace(*_: object) -> None:
        nonlocal calls, raised
        calls += 1
        if calls == moment:
            sys.settrace(None)
            raised = True
            signal.raise_signal(signal.SIGINT)

    try:
        sys.settrace(trace)
        try:
            msgspec.convert(None, type_)
        except msgspec.ValidationError:
            sys.settrace(None)
        code = FORGOTTEN if raised else EARLY
        time.sleep(0.2)
    except KeyboardInterrupt:
        code = HEARD
    finally:
        os._exit(code)


def moments(step: int) -> None:
    """Print how processes ended that were interrupted in each `step`th call, of all sections of a recipe."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.install()
    ended = []
    for field in msgspec.structs.fields(Recipe):
        at = 1
        while (how := interrupted_at(at, field.type)) != EARLY:
            ended.append(how)
            at += step
    print(len(ended), sorted(set(ended)))


def test_wherever_msgspec_asks_python_about_a_type():
    """In a fresh process: what it has met once it asks no more."""
    done = subprocess.run([sys.executable, __file__, "173"], capture_output=True, text=True, timeout=120, check=False)
    count, ended = done.stdout.split(" ", 1)
    assert int(count) > 60 and ended == f"[{HEARD}]\n", done.stdout + done.stderr


def test_an_ignored_ctrl_c_stays_ignored_and_what_was_set_comes_back():
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        interrupts.install()
        with interrupts.ignored():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


if __name__ == "__main__":
    moments(int(sys.argv[1]))
