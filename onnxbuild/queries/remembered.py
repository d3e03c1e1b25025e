"""The answer that there is nothing to do, remembered with all that it rests on; while that is as it was, the answer holds.

    <store>/remembered/<digest of the question>   sealed: who answered, until when, what, and the facts

A run that found nothing to do leaves what it looked at (see `system.observed`) beside its answer. The next command that
asks the same looks at those things alone, and neither reads recipes nor traces. Where anything is not as it was, or
anything is wrong with the file, the question is thought over; nobody is told. What stands here is never more than what
thinking it over would say: each fact was noted in the place that consulted it. And it is the user's own word, by a keyed
hash: a store that came with a checkout can't vouch for anything. Light to import, and writes last.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time

import onnxbuild
from onnxbuild.store import seal
from onnxbuild.system import observed, project

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VARIABLE = "ONNXBUILD_REMEMBERED"  # 0: nothing is asked, and nothing is kept
_FORMAT = "2"
_ENCODING = ("utf-8", "surrogatepass")  # in any locale
_END = "\0"  # of each field of the file: neither paths nor variables can hold it


class Idle:
    """A recipe with which there is nothing to do: its name, and how many stages it has, some of which can't be run here.

    `cautions` are where its build proves less than it seems to: whoever says that there is nothing to do says them, too.
    """

    def __init__(self, name: str, stages: int, skipped: int, cautions: Sequence[str]) -> None:
        self.name, self.stages, self.skipped, self.cautions = name, stages, skipped, cautions

    def fields(self) -> list[str]:
        """As it is remembered."""
        return [self.name, str(self.stages), str(self.skipped), str(len(self.cautions)), *self.cautions]

    @classmethod
    def read(cls, fields: Iterator[str]) -> Idle:
        """The next one of what is remembered. Raises ValueError or StopIteration where it isn't one."""
        name, stages, skipped = next(fields), int(next(fields)), int(next(fields))
        return cls(name, stages, skipped, [next(fields) for _ in range(int(next(fields)))])


class Question:
    """Whether there is anything to do with these recipes, in whatever order; `recipes` are paths as they were given."""

    def __init__(self, recipes: Sequence[str], store: str, roots: Sequence[str], out: str) -> None:
        self.recipes = recipes
        parts = [os.getcwd(), out, sys.executable, *sys.path, "", *roots, "", *sorted(recipes)]
        self._place = hashlib.sha256(os.fsencode(_END.join(parts))).hexdigest()[:32]
        self._folder = os.path.join(store, "remembered")
        self._file = os.path.join(self._folder, self._place)

    def answer(self) -> list[Idle] | None:
        """The recipes, in the order in which they were given; None where it has to be thought over."""
        try:
            with open(self._file, "rb") as file:
                signature, _, body = seal.unsealed(self._place, file.read()).partition(b"\n")
            if not signature or signature.decode() != seal.signed(body):
                return None
            fields = iter(body.decode(*_ENCODING).split(_END))
            if next(fields) != _who() or not time.time_ns() < int(next(fields)):
                return None
            known = {next(fields): Idle.read(fields) for _ in self.recipes}
            return [known[path] for path in self.recipes] if observed.hold(zip(fields, fields, strict=True)) else None
        except (OSError, ValueError, LookupError, StopIteration, seal.DamagedError):
            return None

    def keep(self, idle: Sequence[Idle], record: observed.Record) -> None:
        """Remember an answer, the recipes in the order given, with what was looked at to find it. Never fails."""
        observed.end(record)
        if record.doubt or len(idle) != len(self.recipes) or not observed.hold(iter(record.facts.items())):
            return
        pairs = zip(self.recipes, idle, strict=True)
        told = [field for path, one in pairs for field in (path, *one.fields())]
        looked = record.facts
        facts = ((what, how) for what, how in looked.items() if what[0] != "s" or looked.get(f"f{what[1:]}") != how)
        known = [field for fact in facts for field in fact]
        fields = [_who(), str(record.until_ns), *told, *known]
        body = _END.join(fields).encode(*_ENCODING)
        signature = seal.signed(body)
        if signature and not any(_END in field for field in fields):
            _write(self._folder, self._file, seal.sealed(self._place, signature.encode() + b"\n" + body))


def question(recipes: Sequence[str], out: str, cache: str) -> Question | None:
    """The question that a command is about to ask. None where no memory may answer it.

    `out` says where results go, in any words; `cache` is the store that the environment names, "" for none. A store
    vouches for the recipes of its own project alone: another project's could be anybody's.
    """
    if os.environ.get(VARIABLE) == "0" or os.environ.get("ONNXBUILD_FAILPOINT") or len(set(recipes)) < len(recipes):
        return None
    roots = sorted(
        {project.root_of(os.path.join(folder, "r")) for folder in {os.path.dirname(path) for path in recipes}}
    )
    stores = {cache or os.path.join(root, ".onnxbuild") for root in roots}
    return Question(recipes, stores.pop(), roots, out) if len(stores) == 1 else None


def _who() -> str:
    """Who answers: another Python, another user or another state of our own code might say something else."""
    user = [os.geteuid(), os.getegid(), *os.getgroups()] if hasattr(os, "geteuid") else []
    hooks = [
        f"{type(hook).__qualname__} {getattr(hook, '__qualname__', '')}" for hook in (*sys.meta_path, *sys.path_hooks)
    ]
    parts = [_FORMAT, onnxbuild.__version__, sys.version, sys.prefix, sys.flags, user, hooks, *_own_code()]
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()


def _own_code() -> Iterator[str]:
    """What stat says of each of our own files."""
    folders = [os.path.dirname(onnxbuild.__file__)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".py"):
                    yield f"{entry.path} {observed.facts(entry.stat())}"
                elif "." not in entry.name and entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)


def _write(folder: str, file: str, content: list[bytes]) -> None:
    """Without a word to the disk: what a crash leaves of it does not pass the seal."""
    temporary = os.path.join(folder, f".tmp-{os.getpid()}-{os.urandom(6).hex()}")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(temporary, "xb") as made:
            made.writelines(content)
        os.replace(temporary, file)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
