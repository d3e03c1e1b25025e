"""What all tests share: a workspace and guard rails."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from workspace import STATE, Workspace

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a suite in a shell's background: what tests interrupt would not hear
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The files that take longest come first, so that no process is left with one of them when the others are done. xdist takes
# them in this order where it is not told to sort by the number of tests (--no-loadscope-reorder).
LONGEST = (
    "test_mutations.py", "test_breadth.py", "test_tensorflow.py", "test_resnet.py", "test_mtcnn.py", "test_keras.py",
    "test_promises.py", "test_model_based.py", "test_minilm.py", "test_efficientnet.py",
    "test_sklearn.py", "test_recorder.py", "test_coreml.py", "test_run.py",
)  # fmt: skip


# What a person need not wait for each time, and CI does. Whoever asks for more turns of anything has the time for it.
MORE = {f"ONNXBUILD_{name}" for name in ("HEAVY", "KILLS", "SEQUENCES", "MATRIX", "FUZZ", "BREADTH", "SURROUNDINGS")}
HEAVY = pytest.mark.skipif(not MORE & set(os.environ), reason="heavy: set ONNXBUILD_HEAVY=1, as CI does")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
    seen = Counter[str]()
    for item in items:
        share = item.get_closest_marker("sample")
        of = f"{item.path}::{getattr(item, 'originalname', item.name)}"
        if item.get_closest_marker("heavy") or (share and seen[of] % share.args[0]):
            item.add_marker(HEAVY)
        seen[of] += 1


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.make(tmp_path / "project")


@pytest.fixture
def edited(built: Workspace, tmp_path: Path) -> Workspace:
    """A copy, for one test to edit, of the workspace that its module has built once."""
    return built.copy(tmp_path / "copy")


@pytest.fixture(autouse=True, scope="module")
def _own_path() -> Iterator[None]:
    """What a factory's import puts on the path is of one module's tests: other projects have packages of that name."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True, scope="session")
def _no_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test and no fixture of a module may read or write the home folder of whoever runs it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(tmp_path_factory.getbasetemp() / "no-home"))
        patched.setenv("XDG_STATE_HOME", STATE)
        patched.delenv("ONNXBUILD_CACHE", raising=False)
        yield
