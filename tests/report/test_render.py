"""The templates' surroundings: what is compiled once is kept, and never taken for what it was made of before."""

from __future__ import annotations

import shutil
import sys

import pytest
from samples import resnet50

from onnxbuild.report import render


@pytest.fixture
def templates(tmp_path, monkeypatch):
    """The templates in a folder of this test's own, in a process that keeps bytecode and has compiled nothing yet."""
    folder = tmp_path / "templates"
    shutil.copytree(render.TEMPLATES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(render, "TEMPLATES", folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    render.environment.cache_clear()
    yield folder
    render.environment.cache_clear()


def test_compiled_templates_are_kept_and_follow_their_sources(templates, monkeypatch):
    page = render.html(resnet50())
    kept = {path: path.stat().st_ino for path in (templates / "__pycache__").iterdir()}
    render.environment.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr("jinja2.Environment.compile", lambda *_: pytest.fail("it was kept"))
        assert render.html(resnet50()) == page
    assert kept and {path: path.stat().st_ino for path in (templates / "__pycache__").iterdir()} == kept

    source = templates / "report.html.j2"
    source.write_text(source.read_text() + "<!-- another -->")
    render.environment.cache_clear()
    assert render.html(resnet50()) == page + "<!-- another -->"


@pytest.mark.parametrize("fault", ["a folder that takes no files", "a file in its place", "damaged"])
def test_a_report_needs_nothing_kept(templates, fault):
    page = render.html(resnet50())
    folder = templates / "__pycache__"
    render.environment.cache_clear()
    if fault == "damaged":
        for path in folder.iterdir():
            path.write_bytes(path.read_bytes()[:-100])
    else:
        shutil.rmtree(folder)
    if fault == "a file in its place":
        folder.write_text("")
    if fault == "a folder that takes no files":
        folder.symlink_to("/proc/self/fd")
    assert render.html(resnet50()) == page


def test_nothing_is_kept_where_python_keeps_nothing(templates, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    render.html(resnet50())
    assert not (templates / "__pycache__").exists()
