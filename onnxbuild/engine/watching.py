"""Runs a command again whenever a file of its projects changes, each time in a process of its own.

A change is heard from the system (watchfiles), so that waiting costs nothing. What a change means is for the command to find
out: it skips whatever is unchanged. Not heard: files outside the projects' folders, installed packages among them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onnxbuild.discovery import inputs
from onnxbuild.errors import usage

SKIPPED = inputs.PASSED_OVER | {".hg", "venv", "node_modules", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
SETTLED = 300  # milliseconds without a change after which what an editor or git does is taken to be over


def again(command: Sequence[str], roots: Sequence[Path], skipped: Sequence[Path], tell: Callable[[str], None]) -> int:
    """Run a command now and after every change below `roots`, until interrupted; the exit code of its last run.

    `skipped` are folders and files that the command itself writes to. Raises UserError where watchfiles is not installed.
    """
    changes = _changes(
        roots, skipped
    )  # listening starts before the first run: nothing is missed while it takes its time
    code = 0
    try:
        next(changes)
        while True:
            code = subprocess.run(command, check=False).returncode  # ours, with the user's own arguments
            tell(f"watching {', '.join(map(str, roots))} (Ctrl-C ends it)")
            names = next(changes)
            tell(f"changed: {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}")
    except KeyboardInterrupt:
        return code


def _changes(roots: Sequence[Path], skipped: Sequence[Path]) -> Iterator[list[str]]:
    """Nothing, as soon as it listens; then the files that changed, each time that any did."""
    try:
        import watchfiles
    except ImportError:
        raise usage("the package 'watchfiles' is not installed", "pip install 'onnxbuild[watch]'") from None

    def counts(_: object, name: str) -> bool:
        path = Path(name)
        inside = next((path.relative_to(root) for root in roots if path.is_relative_to(root)), path)
        written = any(path.is_relative_to(one) for one in skipped) or _is_printed_to(path)
        return SKIPPED.isdisjoint(inside.parts) and not written

    heard = watchfiles.watch(
        *roots, watch_filter=counts, debounce=SETTLED * 4, step=SETTLED, rust_timeout=100, yield_on_timeout=True
    )
    next(heard)
    yield []
    for changed in heard:
        if changed:
            yield sorted({_shown(name, roots) for _, name in changed})


def _is_printed_to(path: Path) -> bool:
    """Whether it is the file that this process's output goes to: what is said of a change is none."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return True
    return False


def _shown(name: str, roots: Sequence[Path]) -> str:
    return next((str(Path(name).relative_to(root)) for root in roots if Path(name).is_relative_to(root)), name)
