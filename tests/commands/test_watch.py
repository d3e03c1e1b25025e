"""`run --watch`: a real process that builds again when a file changes, and ends with Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from small import model, recipe, small


def wait_for(path, text: str, times: int, seconds: float = 60.0) -> str:
    """What a process has printed, once it holds a text so many times."""
    until = time.monotonic() + seconds
    while (said := path.read_text()).count(text) < times:
        assert time.monotonic() < until, said
        time.sleep(0.05)
    return said


def test_a_change_builds_again_and_ctrl_c_ends_it(workspace):
    pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")
    small(workspace)
    command, environment = workspace.command("run", "small.yaml", "--watch")
    log = workspace.root / "log"  # in the project: what is printed is no change
    with log.open("w") as file:
        watching = subprocess.Popen(command, cwd=workspace.root, env=environment, stdout=file, stderr=file)
    try:
        assert "package                    built" in wait_for(log, "(Ctrl-C ends it)", 1)
        (workspace.root / "m.onnx").write_bytes(model(2))
        assert "changed: " in wait_for(log, "m.onnx changed\n", 2)
        workspace.write("small.yaml", recipe().replace("outputs: [y]", "outputs: [z]"))
        wait_for(log, "1 problem; nothing was built.", 1)
        time.sleep(1.0)
        before = log.read_text()
        time.sleep(1.0)
        assert log.read_text() == before, "what a run writes and prints is no change"
    finally:
        watching.send_signal(signal.SIGINT)
        code = watching.wait(30)
    assert code in (1, 2), "the last run's exit code"


def test_without_the_package_it_says_what_installs_it(workspace):
    small(workspace)
    workspace.write("site/watchfiles.py", "raise ImportError('not here')\n")
    workspace.env["PYTHONPATH"] = str(workspace.root / "site")
    ran = workspace.run("run", "--watch", "small.yaml", code=2)

    assert "the package 'watchfiles' is not installed\n    hint: pip install 'onnxbuild[watch]'" in ran.err
    assert not (workspace.root / "build").exists()
