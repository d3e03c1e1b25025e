"""The commands, by name. To add one: a module here and a line below.

A command is a module with `HELP` (one line), `add_arguments(parser)` and `run(options)`, which returns the exit code. Its
imports at module level are light; whatever else it needs is imported in `run`.
"""

from __future__ import annotations

import argparse
from typing import Protocol

from onnxbuild.commands import cache, check, doctor, explain, graph, plan, run, schema, show, verify

__all__ = ["COMMANDS"]


class Command(Protocol):
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, options: argparse.Namespace) -> int: ...


COMMANDS: dict[str, Command] = {
    "run": run,
    "plan": plan,
    "explain": explain,
    "graph": graph,
    "check": check,
    "verify": verify,
    "cache": cache,
    "show": show,
    "schema": schema,
    "doctor": doctor,
}
