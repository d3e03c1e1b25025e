from __future__ import annotations

from pathlib import Path

import pytest
import safetensors

from onnxbuild.errors import StageError
from onnxbuild.sources.pytorch import Checkpoint, Options, files


def test_a_checkpoint_is_a_declared_file():
    assert files(Options("a:b")) == {}
    assert files(Options("a:b", checkpoint=Checkpoint("w/x.safetensors"))) == {"checkpoint": "w/x.safetensors"}


def test_a_checkpoint_that_a_package_ships_is_found_in_it():
    found = files(Options("a:b", checkpoint=Checkpoint("torch.py", package="safetensors")))

    assert Path(found["checkpoint"]) == Path(safetensors.__file__).parent / "torch.py"


def test_a_package_that_is_not_installed():
    with pytest.raises(StageError, match=r"the package 'no_such_package\.inner' is not installed"):
        files(Options("a:b", checkpoint=Checkpoint("w.pt", package="no_such_package.inner")))
