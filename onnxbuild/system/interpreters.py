"""Another Python interpreter: its version, what is installed for it, and how it runs the code that runs here.

Imports nothing of what is installed there, and knows nothing of recipes.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import onnxbuild
from onnxbuild.errors import Problem, usage
from onnxbuild.system import distributions

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OLDEST = (3, 11)
# What onnxbuild itself needs: a recipe that needs more is told so when it is read there.
NEEDED = (
    "jinja2", "jsonschema", "ml-dtypes", "msgspec", "numpy", "onnx", "onnx-ir", "onnxoptimizer", "onnxruntime",
    "onnxscript", "onnxsim", "packaging", "protobuf", "pyyaml", "safetensors", "torch",
)  # fmt: skip
_WAIT = 60  # seconds that an interpreter may take to say what it is
# In the words of any Python 3, since it may be an old one; the folder of `-c` itself is none of its own.
_PROBE = """
import json, os, sys
found = {}
for folder in sys.path[1:]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        continue
    for name in names:
        if name.endswith(".dist-info"):
            name, _, version = name[: -len(".dist-info")].partition("-")
            found.setdefault(name, version)
print(json.dumps([sys.version.split()[0], list(sys.version_info[:2]), found]))
"""


class Interpreter(NamedTuple):
    """An interpreter: the path as it was given, its version, the installed distributions by normalised name, and the
    variables to start it with.
    """

    path: str
    version: str
    installed: dict[str, str]
    variables: dict[str, str]


def examine(path: str, folder: Path) -> Interpreter:
    """What an interpreter is and has. In `folder`, which must be empty, a link is made by which it finds our own code.

    Raises UserError where it is none, is too old, or lacks what onnxbuild needs.
    """
    variables = {"PYTHONPATH": _with_ours(folder)}
    version, release, found = _asked(path, {**os.environ, **variables})
    if tuple(release) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise usage(
            f"{path} is Python {version}, and onnxbuild needs {wanted}", f"give one of Python {wanted} or newer"
        )
    installed = {distributions.normalise_name(name): one for name, one in found.items()}
    missing = [name for name in NEEDED if not providing(name, installed)]
    if missing:
        raise usage(
            f"{path} lacks what onnxbuild needs: {', '.join(missing)}",
            f"install it there: {installing(path, missing)}",
        )
    return Interpreter(path, version, installed, variables)


def unmet(constraints: Sequence[str], path: str, installed: Mapping[str, str]) -> list[Problem]:
    """What an interpreter does not hold of constraints such as "onnxruntime==1.31.1", a problem each.

    Raises UserError where one is no constraint on a version.
    """
    problems = []
    for text in constraints:
        wanted = _parsed(text)
        there = providing(distributions.normalise_name(wanted.name), installed)
        if not there:
            fact = f"{path} has no {wanted.name}, and {text} is asked for"
        elif wanted.specifier.contains(installed[there[0]], prereleases=True):
            continue
        else:
            fact = f"{path} has {there[0]} {installed[there[0]]}, and {text} is asked for"
        line = installing(path, [f"{there[0] if there else wanted.name}{wanted.specifier}"])
        problems.append(Problem("", 0, 0, "--constraint", fact, f"install it there: {line}"))
    return problems


def check(constraints: Sequence[str]) -> None:
    """Raises UserError where one is no constraint on a version."""
    for text in constraints:
        _parsed(text)


def installing(path: str, what: Sequence[str]) -> str:
    """The line that installs something for an interpreter."""
    return shlex.join([path, "-m", "pip", "install", *what])


def _asked(path: str, environment: Mapping[str, str]) -> tuple[str, list[int], dict[str, str]]:
    hint = "give --python the path of an interpreter, such as ../canary/bin/python"
    try:
        done = subprocess.run(
            [path, "-c", _PROBE], env=environment, capture_output=True, text=True, timeout=_WAIT, check=True
        )
        version, release, found = json.loads(done.stdout)
    except OSError as error:
        raise usage(f"{path} can't be started: {error.strerror}", hint) from None
    except subprocess.TimeoutExpired:
        raise usage(f"{path} did not say within {_WAIT} s which Python it is", hint) from None
    except (subprocess.CalledProcessError, ValueError):
        raise usage(f"{path} is no Python 3", hint) from None
    return str(version), [int(number) for number in release], dict(found)


def _with_ours(folder: Path) -> str:
    """PYTHONPATH with a folder in which there is our own package and nothing else.

    What lies beside it here may be all that is installed for this interpreter.
    """
    (folder / "onnxbuild").symlink_to(Path(onnxbuild.__file__).resolve().parent, target_is_directory=True)
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def providing(name: str, installed: Mapping[str, str]) -> list[str]:
    """The installed distributions that a name stands for: "onnxruntime" is onnxruntime-gpu, too."""
    return [name] if name in installed else distributions.variants(name, installed)


def _parsed(text: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement

    hint = "write it as pip does, such as --constraint 'onnxruntime==1.31.1'"
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        raise usage(f"--constraint: {text!r} is no constraint on a package", hint) from None
    if wanted.url or wanted.extras or wanted.marker or not wanted.specifier:
        raise usage(f"--constraint: {text!r} names no version, or more than that", hint)
    return wanted
