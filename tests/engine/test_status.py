from __future__ import annotations

import errno
import os
import signal

import pytest

from onnxbuild.engine import status as endings
from onnxbuild.executors.interface import Finished
from onnxbuild.system import oserrors


def died(status: int, fault: int = 0) -> Finished:
    return Finished(1, None, status, 0, "", fault)


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals")
@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGABRT, "SIGABRT"), (35, "signal 35"), (signal.SIGRTMIN + 7, "signal 41")]
)
def test_a_signal_is_named_also_one_that_has_no_name(tmp_path, number, name):
    fact, hint = endings.death(died(-number), tmp_path)

    assert fact == f"the stage's process was killed by {name}"
    assert "native code" in hint


def test_a_template_that_can_not_fork_tells_of_the_limit(tmp_path):
    error = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    behind = oserrors.behind(error)
    assert behind is error and behind.errno in oserrors.OUTSIDE  # what a child's status may tell

    fact, hint = endings.death(died(100 + errno.EAGAIN, errno.EAGAIN), tmp_path)
    assert fact == f"{tmp_path}: Resource temporarily unavailable"
    assert "ulimit -u" in hint


def test_an_exception_that_can_not_say_what_it_is():
    class MuteError(Exception):
        def __str__(self):
            raise ValueError("no words")

    error = MuteError()
    assert oserrors.behind(error) is None
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert oserrors.behind(error) is error.__cause__


def test_a_crash_in_native_code_points_to_the_log(tmp_path):
    fact, hint = endings.death(Finished(1, None, -signal.SIGSEGV, 0, ""), tmp_path)
    assert fact == "the stage's process was killed by SIGSEGV"
    assert hint == "a crash in native code: see the log"
