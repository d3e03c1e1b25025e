from __future__ import annotations

import shutil
import subprocess

import pytest

from onnxbuild.system import revision

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


def git(folder, *arguments):
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_commit_and_whether_anything_is_not_in_it(tmp_path, monkeypatch):
    root = tmp_path / "repository"
    project = root / "project"
    (project / "build").mkdir(parents=True)
    assert revision.of(project) is None, "no repository"
    git(root, "init", "-q")
    assert revision.of(project) is None, "no commit"
    (project / "a").write_text("1")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    commit = git(root, "rev-parse", "HEAD").strip()
    assert revision.of(project) == revision.of(root) == (commit, False)

    (project / "build/made").write_text("")
    assert revision.of(project, [project / "build"]) == (commit, False)
    assert revision.of(project) == (commit, True)
    (project / "build/made").unlink()
    (root / "beside").write_text("")
    assert revision.of(project, [project / "build", tmp_path]) == (commit, True), "of the whole repository"

    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    assert revision.of(project) == (commit, True), "a hook's own repository is another matter"
    monkeypatch.setenv("PATH", "")
    assert revision.of(project) is None, "no git"


def test_a_program_that_a_checkout_names_is_not_run(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    program = tmp_path.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path.parent}/ran\n")
    program.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(program))

    assert revision.of(tmp_path) is not None
    assert not (tmp_path.parent / "ran").exists()
