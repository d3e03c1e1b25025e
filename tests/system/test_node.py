"""Node and its packages, found as a shell and as node itself find them."""

from __future__ import annotations

import pytest

from onnxbuild.errors import StageError
from onnxbuild.runtimes import web
from onnxbuild.system import machine, node, observed


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A PATH of one empty folder."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path / 'bin'}")
    observed.forget()
    yield tmp_path / "bin"
    observed.forget()


def script(path, text):
    (path / "node").write_text(text)
    (path / "node").chmod(0o755)


def test_none(path):
    assert (node.executable(), node.version()) == ("", "absent")


def test_a_stand_in_that_may_start_any_version_leaves_doubt(path):
    script(path, "#!/bin/sh\necho v99.0.0\n")
    record = observed.begin()

    assert machine.facets(["node"]) == {"node": "v99.0.0"}
    observed.end(record)
    assert "is no node, and nothing tells which one it starts" in record.doubt


def test_one_that_does_not_run(path, tmp_path):
    script(path, "#!/nowhere/sh\n")

    assert node.version() == "absent"
    with pytest.raises(StageError, match="node can't be started: No such file") as refused:
        web._Node(tmp_path)
    assert refused.value.hint == "see what `node --version` says"


def test_a_package_is_the_nearest_one_upwards(tmp_path):
    for folder in ("", "a/b/"):
        (tmp_path / f"{folder}node_modules/one").mkdir(parents=True)
    (tmp_path / "node_modules/one/package.json").write_text('{"version": "1.2.3"}')
    above = tmp_path / "node_modules/one"

    assert node.package("one", tmp_path / "a/b") == str(above)  # the nearer one has no package.json
    assert machine.facets(["npm:one", "npm:two"], str(tmp_path / "a")) == {"npm:one": "1.2.3", "npm:two": "absent"}
    (tmp_path / "a/b/node_modules/one/package.json").write_text("[]")
    assert node.package("one", tmp_path / "a/b") == str(tmp_path / "a/b/node_modules/one")
    assert machine.facets(["npm:one"], str(tmp_path / "a/b")) == {"npm:one": "absent"}
