"""The commands, by name. To add one: a module here and a word below.

A command is a module with `HELP` (one line), `EXAMPLES` (lines for a shell, which a test runs), `add_arguments(parser)` and
`run(options)`, which returns the exit code. Its imports at module level are light; whatever else it needs is imported in
`run`. No other command's module is imported, but `lock` by `run --update-lock`. `arguments` and `below` are what they share.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Protocol

    class Command(Protocol):
        HELP: str
        EXAMPLES: tuple[str, ...]

        def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
        def run(self, options: argparse.Namespace) -> int: ...


__all__ = ["COMMANDS", "command"]


COMMANDS = (
    "init",
    "run",
    "lock",
    "plan",
    "explain",
    "graph",
    "diff",
    "affected",
    "canary",
    "tune",
    "check",
    "verify",
    "identify",
    "cache",
    "show",
    "view",
    "schema",
    "doctor",
    "completion",
)


def command(name: str) -> Command:
    """The module of one of these commands."""
    module: Command = importlib.import_module(f"onnxbuild.commands.{name}")
    return module
