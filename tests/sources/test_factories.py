from __future__ import annotations

import sys

import pytest

from onnxbuild.errors import StageError
from onnxbuild.sources import factories

MODULE = """\
def net(width: int, depth: int = 2):
    return width * depth


def broken():
    raise ValueError("no luck")
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "made_here", raising=False)  # another test's
    (tmp_path / "made_here.py").write_text(MODULE)
    return tmp_path


def test_it_is_called_with_what_the_recipe_says(root):
    assert factories.call({"factory": "made_here:net", "kwargs": {"width": 3}}, root) == 6


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [({}, "missing a required argument: 'width'"), ({"widht": 3}, "unexpected keyword argument 'widht'")],
)
def test_arguments_that_do_not_fit(root, kwargs, said):
    with pytest.raises(StageError) as caught:
        factories.call({"factory": "made_here:net", "kwargs": kwargs}, root)
    assert caught.value.fact.startswith("the factory made_here:net(width, depth=2) can't be called so: ")
    assert caught.value.fact.endswith(said) or "missing" in caught.value.fact
    assert caught.value.hint == "say what it takes under `kwargs` of the model section (init: --set 'kwargs={…}')"


def test_its_own_exception_is_told_with_the_line(root):
    with pytest.raises(StageError, match=r"made_here:broken failed at made_here\.py:6: ValueError: no luck"):
        factories.call({"factory": "made_here:broken"}, root)
