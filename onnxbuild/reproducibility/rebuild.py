"""Builds a recipe once more in another place, and says which stage gives something else than it gave before.

The place: a scratch store, a copy of the project in another folder, another hash seed, time zone, locale, umask, home and
number of threads. The copy holds what the traces say was read and what the recipe declares, and nothing more. A bind
mount needs rights, a farm of links is undone by the first realpath(), and onnx refuses hard links; a copy works everywhere,
costs only what is needed, and lets a stage that reads what no trace knows fail instead of pass.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Self

from msgspec import Struct

import onnxbuild
from onnxbuild.contracts import Trait
from onnxbuild.discovery import inputs as discover
from onnxbuild.executors.local import Finished, Surroundings, Workers
from onnxbuild.graphs import diff
from onnxbuild.plan.dag import Plan, Stage
from onnxbuild.queries import decision
from onnxbuild.store.store import Store
from onnxbuild.store.traces import Trace
from onnxbuild.system import machine

FINDINGS = 20  # differences told of one stage
LOCALES = ("tr_TR.UTF-8", "de_DE.UTF-8", "fr_FR.UTF-8", "en_US.UTF-8", "C")  # the first that is installed is taken
TIME_ZONE = "<+14>-14"  # POSIX's own form, which needs no database: no day is the same there as in UTC for long
UMASK = 0o077
_NOT_COPIED = ("build", "__pycache__", "node_modules", "site-packages")


class Step(Struct, frozen=True):
    """What came of building one stage again: `findings` are empty where it gave the same bytes."""

    stage: str
    findings: list[str]
    seconds: float = 0.0
    failed: bool = False
    log: str = ""


def chain(plan: Plan) -> list[Stage]:
    """The stages whose bytes are published, or lead to those, each after what it takes."""
    return plan.those(Trait.MAKES)


class Elsewhere:
    """Another folder and other surroundings, for one project; recipes are built there one after the other.

    `varied` says in words what is different. Use as a context manager: leaving it removes the folder.
    """

    def __init__(self, root: Path, hash_seed: int) -> None:
        self.root = root.resolve()
        with contextlib.ExitStack() as undo:  # also where something of this fails
            self._scratch = Path(tempfile.mkdtemp(prefix="onnxbuild-verify-")).resolve()
            undo.callback(shutil.rmtree, self._scratch, ignore_errors=True)
            name = "copy" if len(str(self._scratch / "copy")) != len(str(self.root)) else "another-copy"
            self.copy = self._scratch / name  # of another length too, which a constant may be made from
            for folder in ("home", "tmp"):
                (self._scratch / folder).mkdir()
            locale, threads = _locale(), 1 if machine.cores() > 1 else 2
            self.varied = (
                f"folder {self.copy}, hash seed {hash_seed}, time zone UTC+14, locale {locale}, umask {UMASK:03o}, "
                f"another home and user, {threads} thread{'s' if threads > 1 else ''}"
            )
            if threads == 1 and hasattr(os, "sched_getaffinity"):
                cores = os.sched_getaffinity(0)  # onnxruntime counts those that it may use, and reads no variable
                undo.callback(os.sched_setaffinity, 0, cores)
                os.sched_setaffinity(0, {min(cores)})
            surroundings = Surroundings(self._environment(hash_seed, locale, threads), self._scratch / "tmp", UMASK)
            self._workers = Workers(self._scratch, surroundings)
            undo.callback(self._workers.close)
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def _environment(self, hash_seed: int, locale: str, threads: int) -> dict[str, str]:
        """What is laid over the fixed variables of every build."""
        path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        return {
            **dict.fromkeys(("LC_ALL", "LANG"), locale),
            **dict.fromkeys(("HOME", "USERPROFILE"), str(self._scratch / "home")),
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._scratch / "tmp")),
            **dict.fromkeys(("USER", "LOGNAME", "USERNAME"), "someone-else"),
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
            **_kept_caches(),
            "PYTHONHASHSEED": str(hash_seed),
            "TZ": TIME_ZONE,
            "PYTHONPATH": os.pathsep.join(map(self._moved, path)),
        }

    def build(self, plan: Plan, before: Mapping[str, Trace], dest: Path, store: Store) -> Iterator[Step]:
        """Build a recipe's stages again, as far as they give what they gave before; `dest` is where it is published."""
        for left in (self.copy, self._scratch / "objects", self._scratch / "published"):
            shutil.rmtree(left, ignore_errors=True)
        self._copy(plan, before)
        refs: dict[str, dict[str, str]] = {}
        for stage in chain(plan):
            finished = self._run(stage, refs)
            step = self._compare(stage, before[stage.name], finished, dest, store)
            yield step
            if step.findings or finished.result is None or finished.result.outcome is None:
                return
            refs[stage.name] = finished.result.outcome.outputs

    def _run(self, stage: Stage, refs: Mapping[str, dict[str, str]]) -> Finished:
        objects = self._scratch / "objects"
        objects.mkdir(exist_ok=True)
        taken = decision.given(stage, refs, self.copy)
        scratch, dest = self._workers.scratch(), self._scratch / "published"
        self._workers.start(decision.task_for(stage, taken, objects, self.copy, scratch, dest), stage.preload)
        while not (finished := self._workers.wait(1.0)):
            pass
        return finished[0]

    def _compare(self, stage: Stage, before: Trace, finished: Finished, dest: Path, store: Store) -> Step:
        result = finished.result
        if result is None or result.outcome is None:
            fact = result.fact if result else f"its process ended with status {finished.status}"
            hint = "hint: it was built before, so it needs what no trace knows of, or depends on its surroundings"
            return Step(stage.name, [fact, hint], failed=True, log=finished.log)
        strays = [name for name in result.discovered if name.startswith(f"path:{self.root}{os.sep}")]
        findings = [
            f"read {name.removeprefix('path:')}, of the original project: the path is written down somewhere"
            for name in strays
            if name not in before.discovered
        ]
        if not stage.is_a(Trait.PUBLISHES):
            old, new = before.outcome.outputs["graph"], result.outcome.outputs["graph"]
            if old != new:
                findings += _differences(store.objects / old, self._scratch / "objects" / new)
        elif before.outcome.facts["artifacts"] != result.outcome.facts["artifacts"]:
            name = str(result.outcome.facts["artifacts"][-1]["path"])
            findings += _differences(dest / name, self._scratch / "published" / name)
        return Step(stage.name, findings, result.seconds)

    def _copy(self, plan: Plan, before: Mapping[str, Trace]) -> None:
        """What the recipe declares and the traces say was read; and links, since what is read goes by its real name."""
        self.copy.mkdir()
        noted = [name.partition(":")[::2] for name in sorted({name for t in before.values() for name in t.discovered})]
        named = {path for stage in chain(plan) for path in stage.files.values() if not Path(path).is_absolute()}
        for name in sorted({"pyproject.toml", *named, *(rest for kind, rest in noted if kind == "file")}):
            source, target = self.root / name, self.copy / name
            if source.is_file():  # else it was noted as absent
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        for link in _links(self.root):
            target = self.copy / link.relative_to(self.root)
            if not target.exists() and not target.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(self._moved(os.path.realpath(link)))
        for kind, name in noted:
            if kind in ("list", "kind"):
                self._stand_in(self.root / name, self.copy / name, listed=kind == "list")

    def _stand_in(self, source: Path, target: Path, *, listed: bool) -> None:
        """A folder that the model's code asked for; of one whose names it listed the names, though nothing is in them."""
        if not source.is_dir():
            return
        target.mkdir(parents=True, exist_ok=True)
        for name in sorted(os.listdir(source)) if listed else ():
            entry = target / name
            if name not in discover.PASSED_OVER and not entry.exists() and not entry.is_symlink():
                entry.mkdir() if (source / name).is_dir() else entry.touch()

    def _moved(self, path: str) -> str:
        """A path in the project as one in the copy; others, and that of our own code, as they are."""
        full = os.path.abspath(path) if path else ""  # noqa: PTH100  # resolve() would follow links
        ours = full == str(Path(onnxbuild.__file__).parent.parent)
        if ours or not (full == str(self.root) or full.startswith(f"{self.root}{os.sep}")):
            return path
        return f"{self.copy}{full[len(str(self.root)) :]}"


def _differences(before: Path, after: Path) -> list[str]:
    found = list(islice(diff.files(before, after), FINDINGS + 1))
    more = ["and more"] if len(found) > FINDINGS else []
    return found[:FINDINGS] + more or ["the same model, in other bytes"]


def _links(root: Path) -> Iterator[Path]:
    """The symbolic links below a folder, but for places where no model's code lies."""
    for folder, folders, files in os.walk(root):
        yield from (path for name in (*folders, *files) if (path := Path(folder, name)).is_symlink())
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NOT_COPIED]


def _locale() -> str:
    """The first of the locales that is installed here; the fixed one of every build is C.UTF-8."""
    import locale

    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in LOCALES:
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, name)
                return name
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return "C"


def _kept_caches() -> dict[str, str]:
    """Where downloads were kept until now: they are inputs by name and digest, not a part of somebody's home."""
    caches = {"HF_HOME": "~/.cache/huggingface", "TORCH_HOME": "~/.cache/torch"}
    # strings: they go into an environment
    return {name: os.environ.get(name) or os.path.expanduser(path) for name, path in caches.items()}  # noqa: PTH111  # as said
