"""Builds a recipe once more in another place, and says which stage gives something else than it gave before.

The place: a scratch store, a copy of the project in another folder, another hash seed, time zone, locale, umask, home and
number of threads. What is built again sees the world as it is now and not as a trace remembers it: the copy is of the
whole project, the folders around it and the home hold links to what is really there. A bind mount needs rights, a farm of
links in the project is undone by the first realpath(), and onnx refuses hard links; a copy works everywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Self

from msgspec import Struct

import onnxbuild
from onnxbuild.contracts import Trait
from onnxbuild.discovery import inputs as discover
from onnxbuild.discovery import places
from onnxbuild.executors.interface import Finished
from onnxbuild.executors.local import Surroundings, Workers
from onnxbuild.graphs import diff
from onnxbuild.plan.dag import Plan, Stage
from onnxbuild.queries import decision
from onnxbuild.reproducibility import world
from onnxbuild.store.interface import Store
from onnxbuild.store.traces import Trace
from onnxbuild.system import machine
from onnxbuild.targets import DIFFERENCES

FINDINGS = 20  # differences told of one stage
LOCALES = ("tr_TR.UTF-8", "de_DE.UTF-8", "fr_FR.UTF-8", "en_US.UTF-8", "C")  # the first that is installed is taken
TIME_ZONE = "<+14>-14"  # POSIX's own form, which needs no database: no day is the same there as in UTC for long
UMASK = 0o077


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
            # at a path of another length too, which a constant may be made from
            self.copy = self._scratch.joinpath("world", *self.root.parent.parts[1:], name)
            for folder in ("home", "tmp"):
                (self._scratch / folder).mkdir()
            world.link_all(Path.home(), self._scratch / "home")
            world.surround(self.copy, self.root, leave_out=self._scratch)
            locale, threads = _locale(), 1 if machine.cores() > 1 else 2
            self.varied = (
                f"folder {self.copy}, hash seed {hash_seed}, time zone UTC+14, locale {locale}, umask {UMASK:03o}, "
                f"another home and user, {threads} thread{'s' if threads > 1 else ''}"
            )
            variables = self._environment(hash_seed, locale, threads)
            # onnxruntime counts the processors that it may use, and reads no variable
            surroundings = Surroundings(variables, self._scratch / "tmp", UMASK, 1 if threads == 1 else None)
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
        self._copy(plan, before, [store.folder, dest])
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
        strays = (
            path
            for name in sorted(result.discovered.keys() - before.discovered.keys())
            if (path := discover.file_of(name, self.copy)) is not None and path.is_relative_to(self.root)
        )
        findings = [f"read {path}, of the original project: the path is written down somewhere" for path in strays]
        if stage.is_a(Trait.PUBLISHES):
            pairs = zip(before.outcome.facts["artifacts"], result.outcome.facts["artifacts"], strict=False)
            for old, new in ((old["path"], new["path"]) for old, new in pairs if old != new):
                findings += differences(dest / old, self._scratch / "published" / new)
        else:
            for role, old in before.outcome.outputs.items():
                if old != (new := result.outcome.outputs.get(role, "")):
                    findings += differences(store.path(old), self._scratch / "objects" / new, role)
        return Step(stage.name, findings, result.seconds)

    def _copy(self, plan: Plan, before: Mapping[str, Trace], leave_out: Iterable[Path]) -> None:
        """The project as it is; and of what is built in it, what the recipe declares and the traces say was read."""
        world.copy(self.root, self.copy, leave_out, self._moved)
        noted = [discover.parse(name) for name in sorted({name for t in before.values() for name in t.discovered})]
        named = {path for stage in chain(plan) for path in stage.files.values() if not Path(path).is_absolute()}
        read = (one.place for one in noted if one.kind == "file" and not one.place.startswith("../"))
        for name in sorted({*named, *read}):
            source, target = self.root / name, self.copy / name
            if source.is_file() and not target.exists():  # else it was noted as absent
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        for one in noted:
            if one.kind in ("list", "kind") and not one.place.startswith(("/", "../", *places.ELSEWHERE)):
                world.stand_in(self.root / one.place, self.copy / one.place, listed=one.kind == "list")

    def _moved(self, path: str) -> str:
        """A path in the project as one in the copy; others, and that of our own code, as they are."""
        full = os.path.abspath(path) if path else ""  # noqa: PTH100  # resolve() would follow links
        ours = full == str(Path(onnxbuild.__file__).parent.parent)
        if ours or not (full == str(self.root) or full.startswith(f"{self.root}{os.sep}")):
            return path
        return f"{self.copy}{full[len(str(self.root)) :]}"


def differences(before: Path, after: Path, role: str = "") -> list[str]:
    """What is not the same in two files: of ONNX models the fields and tensors."""
    name = role or before.name
    if name in DIFFERENCES and (alike := DIFFERENCES[name](before.read_bytes(), after.read_bytes())):
        return [f"{name}: {alike}"]
    if "onnx" not in before.suffix:
        return [f"{name}: {before.stat().st_size:,} and {after.stat().st_size:,} bytes, not the same"]
    found = list(islice(diff.files(before, after), FINDINGS + 1))
    more = ["and more"] if len(found) > FINDINGS else []
    return found[:FINDINGS] + more or ["the same model, in other bytes"]


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
