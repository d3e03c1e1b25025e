"""Whether published files are what the last build left, and whether building again elsewhere gives the same bytes.

`published` compares files with the report and the store. `Elsewhere` builds the stages whose bytes are published (export,
passes, package) once more: in a scratch store, from a copy of the project in another folder, under another hash seed, time
zone, locale, umask, home and number of threads; and names the first stage that gives something else.

The copy holds what the traces say was read and what the recipe declares, and nothing more. A bind mount needs rights, a
farm of links is undone by the first realpath(), and onnx refuses hard links; a copy works everywhere, costs only what is
needed, and lets a stage that reads what no trace knows fail instead of pass. Knows nothing of the terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from onnxbuild import difference, toolchain
from onnxbuild import recipe as recipes
from onnxbuild import report as reports
from onnxbuild.contracts import Task
from onnxbuild.digests import Digests
from onnxbuild.errors import StageError
from onnxbuild.lookup import Lookup
from onnxbuild.objects import digest_of, sha256_file
from onnxbuild.plan import Plan, Stage
from onnxbuild.report.types import Report
from onnxbuild.store import Store, Trace
from onnxbuild.workers import Finished, Surroundings, Workers

KINDS = ("export", "optimize", "package")  # the stages whose bytes are published, or lead to those
ARTIFACTS = ("model.onnx", "model.onnx.data")
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


def last_report(dest: Path) -> Report:
    """The report of the last build in a folder. Raises StageError where there is none, or nothing was published."""
    path = dest / "report.json"
    try:
        report = reports.read(path)
    except OSError as error:
        raise StageError(f"{path}: {error.strerror}", "build the recipe first: onnxbuild run") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StageError(f"{path} is not a report: {error}", "build the recipe again: onnxbuild run") from None
    if report.status != "done" or not report.artifacts:
        raise StageError(
            f"{path}: the last build {report.status} and published nothing", "build it again: onnxbuild run"
        )
    return report


def published(plan: Plan, report: Report, dest: Path, store: Store) -> list[str]:
    """What is wrong with the files in `dest`: they must be what the report says, and the store must hold what they are."""
    wrong = []
    for made in report.artifacts:
        path = dest / made.path
        if made.path not in ARTIFACTS:
            wrong.append(f"{dest}: the report lists {made.path!r}, which no build publishes")
            continue
        try:
            found = sha256_file(path)
        except OSError as error:
            wrong.append(f"{path}: {error.strerror}")
            continue
        if found != made.sha256:
            wrong.append(f"{path}: changed since it was built: SHA-256 {found}, the report says {made.sha256}")
    return wrong + _not_held(plan, report, store)


def _not_held(plan: Plan, report: Report, store: Store) -> list[str]:
    """What the store lacks of what the report says was published."""
    package = plan.stages[-1]
    keys = {stage.name: stage.key for stage in report.stages if re.fullmatch("[0-9a-f]{64}", stage.key)}
    made = msgspec.to_builtins(report.artifacts)
    key = keys.get(package.name)
    trace = store.find(key, lambda trace: trace.outcome.facts.get("artifacts") == made) if key else None
    if trace is None:
        return [f"{store.folder}: the store holds no result of {package.name} with these files"]
    stage, output = package.needs["graph"]
    key, digest = keys.get(stage), trace.document["inputs"]["graph"]
    held = store.find(key, lambda trace: digest_of(trace.outcome.outputs[output]) == digest) if key else None
    if held is None:
        return [f"{store.folder}: the store no longer holds the graph that they were made from"]
    return damaged(store, held)


def damaged(store: Store, trace: Trace) -> list[str]:
    """The objects of a trace whose content is not that of their name."""
    wrong = []
    for ref in trace.sizes:
        with contextlib.suppress(OSError):
            if sha256_file(store.objects / ref) == digest_of(ref):
                continue
        wrong.append(f"{store.objects / ref}: damaged or missing")
    return wrong


def last_build(loaded: recipes.Loaded, plan: Plan, store: Store, digests: Digests) -> dict[str, Trace]:
    """The trace of every stage that is built again. Raises StageError where one is not up to date or was damaged."""
    name = loaded.recipe.name
    lookup = Lookup(store, digests, loaded.root, store.latest(name, loaded.root), name)
    traces: dict[str, Trace] = {}
    for stage in _chain(plan):
        refs = {role: traces[name].outcome.outputs[output] for role, (name, output) in stage.needs.items()}
        found = lookup.find(stage, refs, _declared(stage, loaded.root))
        again = f"build it first: onnxbuild run {loaded.path}"
        if found.trace is None:
            raise StageError(f"{stage.name} is not up to date: {'; '.join(found.why)}", again)
        if wrong := damaged(store, found.trace):
            raise StageError(wrong[0], again)
        traces[stage.name] = found.trace
    return traces


def _chain(plan: Plan) -> list[Stage]:
    return [stage for stage in plan.stages if stage.kind in KINDS]


def _declared(stage: Stage, root: Path) -> dict[str, Path]:
    return {role: recipes.resolve(root, path) for role, path in stage.files.items()}


class Elsewhere:
    """Another folder and other surroundings, for one project; recipes are built there one after the other.

    `varied` says in words what is different. Use as a context manager: leaving it removes the folder.
    """

    def __init__(self, root: Path, hash_seed: int) -> None:
        self.root = root.resolve()
        self._scratch = Path(tempfile.mkdtemp(prefix="onnxbuild-verify-")).resolve()
        name = "copy" if len(str(self._scratch / "copy")) != len(str(self.root)) else "another-copy"
        self.copy = self._scratch / name  # of another length too, which a constant may be made from
        for folder in ("home", "tmp"):
            (self._scratch / folder).mkdir()
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        locale, threads = _locale(), 1 if toolchain.cores() > 1 else 2
        self.varied = (
            f"folder {self.copy}, hash seed {hash_seed}, time zone UTC+14, locale {locale}, umask {UMASK:03o}, "
            f"another home and user, {threads} thread{'s' if threads > 1 else ''}"
        )
        environment = {
            **dict.fromkeys(("LC_ALL", "LANG"), locale),
            **dict.fromkeys(("HOME", "USERPROFILE"), str(self._scratch / "home")),
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._scratch / "tmp")),
            **dict.fromkeys(("USER", "LOGNAME", "USERNAME"), "someone-else"),
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
            **_kept_caches(),
            "PYTHONHASHSEED": str(hash_seed),
            "TZ": TIME_ZONE,
            "PYTHONPATH": os.pathsep.join(
                self._moved(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
            ),
        }
        if threads == 1 and self._cores:  # onnxruntime counts the processors that it may use, and reads no variable
            os.sched_setaffinity(0, {min(self._cores)})
        self._workers = Workers(self._scratch, Surroundings(environment, self._scratch / "tmp", UMASK))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._workers.close()
        if self._cores:
            os.sched_setaffinity(0, self._cores)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def build(self, plan: Plan, before: Mapping[str, Trace], dest: Path, store: Store) -> Iterator[Step]:
        """Build a recipe's stages again, as far as they give what they gave before; `dest` is where it is published."""
        for left in (self.copy, self._scratch / "objects", self._scratch / "published"):
            shutil.rmtree(left, ignore_errors=True)
        self._copy(plan, before)
        refs: dict[str, dict[str, str]] = {}
        for stage in _chain(plan):
            finished = self._run(stage, refs)
            step = self._compare(stage, before[stage.name], finished, dest, store)
            yield step
            if step.findings or finished.result is None or finished.result.outcome is None:
                return
            refs[stage.name] = finished.result.outcome.outputs

    def _run(self, stage: Stage, refs: Mapping[str, dict[str, str]]) -> Finished:
        objects = self._scratch / "objects"
        objects.mkdir(exist_ok=True)
        inputs = {role: str(objects / refs[name][output]) for role, (name, output) in stage.needs.items()}
        inputs |= {role: str(path) for role, path in _declared(stage, self.copy).items()}
        dest = {"dest": str(self._scratch / "published")} if stage.kind == "package" else {}
        scratch = str(self._workers.scratch())
        options = {**stage.options, **dest}
        task = Task(stage.name, stage.kind, options, inputs, str(self.copy), str(objects), scratch)
        self._workers.start(task, stage.preload)
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
        if stage.kind != "package":
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
        found = {
            name.removeprefix("file:") for t in before.values() for name in t.discovered if name.startswith("file:")
        }
        declared = {path for stage in _chain(plan) for path in stage.files.values() if not Path(path).is_absolute()}
        for name in sorted({*found, *declared, "pyproject.toml"}):
            source, target = self.root / name, self.copy / name
            if source.is_file():  # else it was noted as absent
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        for link in _links(self.root):
            target = self.copy / link.relative_to(self.root)
            if not target.exists() and not target.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(self._moved(os.path.realpath(link)))

    def _moved(self, path: str) -> str:
        """A path in the project as one in the copy; others, and that of our own code, as they are."""
        full = os.path.abspath(path) if path else ""  # noqa: PTH100  # resolve() would follow links
        ours = full == str(Path(__file__).parent.parent)
        if ours or not (full == str(self.root) or full.startswith(f"{self.root}{os.sep}")):
            return path
        return f"{self.copy}{full[len(str(self.root)) :]}"


def _differences(before: Path, after: Path) -> list[str]:
    found = list(islice(difference.files(before, after), FINDINGS + 1))
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
    return {name: os.environ.get(name) or os.path.expanduser(path) for name, path in caches.items()}  # noqa: PTH111
