from __future__ import annotations

import os
import platform
import subprocess
import sys
from textwrap import dedent

import msgspec
import pytest

from onnxbuild.errors import StageError
from onnxbuild.system import steady

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone fixes addresses")


@linux
def test_things_lie_at_the_same_addresses_each_time(tmp_path, monkeypatch):
    places = set()
    for number in range(3):
        monkeypatch.setenv("PYTHONHASHSEED", str(number))
        monkeypatch.setenv("ANYTHING", "x" * 1000 * number)
        (folder := tmp_path / ("y" * (1 + 30 * number))).mkdir()
        answer = steady.call("builtins:id", ["where"], folder)
        assert answer.steady
        places.add(msgspec.json.decode(answer.value))

    assert len(places) == 1


def test_what_the_function_prints_is_passed_on(tmp_path, capfd):
    assert msgspec.json.decode(steady.call("builtins:print", "heard", tmp_path).value) is None
    assert "heard" in capfd.readouterr().err


def test_a_process_that_ends_otherwise(tmp_path, capfd):
    with pytest.raises(StageError, match=r"the process that runs os:_exit ended with status 3$"):
        steady.call("os:_exit", 3, tmp_path)
    with pytest.raises(StageError, match=r"ended with status 1: ValueError: invalid literal"):
        steady.call("builtins:int", "x", tmp_path)


# A filter for system calls: personality(2), number 135, is refused with EPERM, as containers may do.
FORBIDDEN = dedent("""
    import ctypes, struct, sys
    from pathlib import Path
    def op(code, yes, no, value):
        return struct.pack("HBBI", code, yes, no, value)
    program = op(0x20, 0, 0, 0) + op(0x15, 0, 1, 135) + op(0x06, 0, 0, 0x00050001) + op(0x06, 0, 0, 0x7fff0000)
    class Filter(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("first", ctypes.c_char_p)]
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    if libc.prctl(22, 2, ctypes.byref(Filter(4, program)), 0, 0):
        print("no filters here")
        sys.exit()
    from onnxbuild.system import steady
    answer = steady.call("builtins:len", "four", Path(sys.argv[1]))
    print(bytes(answer.value).decode(), answer.steady)
""")


@linux
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call is x86_64's")
def test_where_it_is_forbidden_it_runs_all_the_same_and_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDEN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )

    if "no filters" in done.stdout:
        pytest.skip("this system takes no filter for system calls")
    assert done.stdout == "4 False\n"
