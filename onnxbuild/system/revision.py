"""Which commit of a repository a folder is at. Asks git, and says nothing where there is none. Knows nothing of recipes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 5.0  # seconds; of a work tree that takes longer to look through nothing is said

# A checkout's own settings could name programs to run; and looking must not write into it.
CALM = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")


_OF_HOOKS = ("GIT_DIR", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX")


def surroundings() -> dict[str, str]:
    """The environment for a command of git's that is to find the repository by the folder in which it is run.

    Within a hook, git names the repository that is committed to, and takes whatever folder it is run in for the top of its
    work tree. Whoever names a work tree, too, means it.
    """
    named = () if "GIT_WORK_TREE" in os.environ else _OF_HOOKS
    return {name: value for name, value in os.environ.items() if name not in named}


def of(folder: Path, without: Sequence[Path] = ()) -> tuple[str, bool] | None:
    """The commit that is checked out around a folder, and whether the work tree differs from it.

    A file that git neither tracks nor ignores is a difference, too; what lies below `without` is none. None where there is
    no repository, no git, no commit yet, or no answer.
    """
    root = folder.absolute()
    git = shutil.which("git")
    if git is None or not any((above / ".git").exists() for above in (root, *root.parents)):
        return None
    inside = [path.absolute().relative_to(root) for path in without if path.absolute().is_relative_to(root)]
    left_out = [f":(exclude,literal){path.as_posix()}" for path in inside if path.parts]
    command = [git, *CALM, "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--"]
    # Within a hook of git's these name the repository that is committed to, whichever it is.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*command, ":/", *left_out],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    heads = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if done.returncode or not heads or not heads[0].isalnum():  # "(initial)" where nothing was committed yet
        return None
    return heads[0], any(not line.startswith("# ") for line in lines)
