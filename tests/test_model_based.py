"""Random sequences of edits, builds, kills, damage, collection and reverts, held against a pure model of a build system.

After every build the published files equal those of a clean build, and the stages that ran are those that the model says.
Where a kill or damage leaves open what the store holds, the model knows both bounds: what must run, and what may.
ONNXBUILD_SEQUENCES=50 tries that many sequences, of 20 builds each.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from small import model, published, recipe, unsound
from workspace import Workspace

from onnxbuild import recipe as recipes

SEQUENCES = int(os.environ.get("ONNXBUILD_SEQUENCES") or 0)
UNKNOWN = ("it was killed",)
PASSES = ("eliminate_identity", "eliminate_deadend")


# The pure model: files, recipes, and which stage depends on what. It knows no digests, no store, no processes.


class File(NamedTuple):
    """An .onnx file: `comment` is in its bytes, and in nothing that is made of it."""

    version: int = 1
    identity: bool = True
    comment: str = ""


@dataclass(frozen=True)
class Recipe:
    name: str = "one"
    path: str = "a.onnx"
    passes: tuple[str, ...] = PASSES[:1]
    level: str = "all"
    external: bool = True
    tolerance: float = 1e-3


class Graph(NamedTuple):
    """What is left of a file once it is normalised, and after passes."""

    version: int
    first: str  # the node before the product: "identity", "add", or "" once it is eliminated


def exported(file: File) -> Graph:
    return Graph(file.version, "identity" if file.identity else "add")


def optimized(graph: Graph, one: str) -> Graph:
    return graph._replace(first="") if (one, graph.first) == ("eliminate_identity", "identity") else graph


def stages(recipe: Recipe, files: dict[str, File]) -> tuple[dict[str, tuple], Graph]:
    """Each stage's key by its name, and the final graph."""
    file = files[recipe.path]
    graph = exported(file)
    values = (graph.version, graph.first == "add")  # what the file computes
    keys: dict[str, tuple] = {}
    keys["export"] = ("export", file)  # where it lies is in no key
    keys["reference"] = ("reference", file)

    def judged(name: str) -> None:
        keys[f"check/{name}"] = ("check", graph)
        keys[f"parity/{name}"] = ("parity", graph, values, recipe.level)

    judged("export")
    for number, one in enumerate(recipe.passes, 1):
        keys[f"optimize/{number}-onnxoptimizer"] = ("optimize", one, graph)
        graph = optimized(graph, one)
        judged(f"{number}-onnxoptimizer")
    keys["package"] = ("package", graph, recipe)
    return keys, graph


@functools.cache
def clean(file: File, passes: tuple[str, ...], *, external: bool, said: str = '{"name": "one"}') -> dict[str, bytes]:
    """The published files of a clean build: the stages one after the other, with neither store nor keys nor processes.

    `said` is the recipe as JSON, which the published model names.
    """
    from onnxbuild.contracts import Task
    from onnxbuild.stages import export, optimize, package

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "m.onnx").write_bytes(model(file.version, identity=file.identity, comment=file.comment))
        objects = folder / "objects"

        def run(module, options: dict, inputs: dict) -> dict[str, str]:
            scratch, dest = tempfile.mkdtemp(dir=folder), str(folder / "build/small")
            return module.run(Task("", "", options, inputs, name, str(objects), scratch, dest)).outputs

        asked = {"opset": 17, "inputs": {"x": {"dtype": "float32", "shape": [2, 16]}}, "outputs": ["y"]}
        source = {"onnx": {"path": "m.onnx"}}
        graph = run(export, {"source": source, "export": asked, "symbolics": {}}, {"model": str(folder / "m.onnx")})[
            "graph"
        ]
        for one in passes:
            graph = run(optimize, {"pass": "onnxoptimizer", "options": [one]}, {"graph": str(objects / graph)})["graph"]
        run(package, {"external_data": external, "recipe": json.loads(said)}, {"graph": str(objects / graph)})
        return published(folder)


class Known:
    """What the store is known to hold, from below and from above; likewise what last runs keep from the collector."""

    def __init__(self) -> None:
        self.sure: set[tuple] = set()
        self.maybe: set[tuple] = set()
        self.last_sure: dict[str, set[tuple]] = {}
        self.last_maybe: dict[str, set[tuple]] = {}
        self.tainted = False  # an object may be damaged that nobody has looked at yet

    def built(self, name: str, keys: set[tuple]) -> None:
        self.maybe |= keys
        self.sure |= keys
        self.forget_damaged()
        self.last_sure[name] = self.last_maybe[name] = keys

    def killed(self, name: str, keys: set[tuple], acknowledged: set[tuple]) -> None:
        self.maybe |= keys
        self.sure |= acknowledged
        self.forget_damaged()
        self.last_sure[name] = self.last_sure.get(name, set()) & keys
        self.last_maybe[name] = self.last_maybe.get(name, set()) | keys

    def collected(self) -> None:
        self.sure &= set().union(*self.last_sure.values())
        self.maybe &= set().union(*self.last_maybe.values())

    def forget_damaged(self) -> None:
        if self.tainted:
            self.sure = {key for key in self.sure if key[0] not in ("export", "reference", "optimize")}


class Builds:
    """The real thing and the model side by side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = Workspace(folder / "project", hasty=True)
        self.workspace.root.mkdir()
        (self.workspace.root / "pyproject.toml").touch()
        self.files: dict[str, File] = {}
        self.recipes: dict[str, Recipe] = {}
        self.published: dict[str, tuple | None] = {}
        self.before: list[tuple[dict[str, File], dict[str, Recipe]]] = []
        self.known = Known()
        self.unrepaired = False

        for name in ("a.onnx", "b.onnx"):
            self.write_file(name, File())
        self.write_recipe("one", Recipe())
        self.write_recipe("two", Recipe("two", passes=PASSES))
        self.write_recipe("three", Recipe("three", "b.onnx", passes=(), external=False))

    # Edits.

    def write_file(self, name: str, file: File) -> None:
        self.files[name] = file
        data = model(file.version, identity=file.identity, comment=file.comment)
        (self.workspace.root / name).write_bytes(data)

    def write_recipe(self, name: str, one: Recipe) -> None:
        self.recipes[name] = one
        optimize = ", ".join(f"{{onnxoptimizer: [{each}]}}" for each in one.passes)
        text = recipe(name, one.path, optimize=optimize, external=one.external)
        text += f"runtime: {{session: {{graph_optimization_level: {one.level}}}}}\n"
        text += f"parity: {{rtol: {one.tolerance}, reason: r}}\n"
        self.workspace.write(f"{name}.yaml", text)

    def remember(self) -> None:
        self.before.append((dict(self.files), dict(self.recipes)))

    def edit_a_model(self, name: str, change: str) -> None:
        self.remember()
        file = self.files[name]
        other = {"version": 3 - file.version, "identity": not file.identity, "comment": "" if file.comment else "words"}
        self.write_file(name, file._replace(**{change: other[change]}))

    def edit_a_recipe(self, name: str, change: dict) -> None:
        self.remember()
        self.write_recipe(name, replace(self.recipes[name], **change))

    def revert(self, back: int) -> None:
        if not self.before:
            return
        files, recipes = self.before[-min(back, len(self.before))]
        for name, file in files.items():
            self.write_file(name, file)
        for name, one in recipes.items():
            self.write_recipe(name, one)

    # Builds.

    def build(self, names: tuple[str, ...]) -> None:
        """Ask what there is to do, by what is remembered and without; do it; and let the next time remember."""
        paths = [f"{name}.yaml" for name in names]
        self.workspace.both("plan", *paths)
        ran = self.workspace.run("run", *paths)
        assert ("warning" in ran.text) <= self.unrepaired, ran.text
        self.require(names)
        if not self.unrepaired:
            self.workspace.run("run", "--quiet", *paths)
            self.workspace.both("run", *paths)

    def require(self, names: tuple[str, ...]) -> None:
        """Hold what a build reported and published against the model."""
        ran: list[tuple] = []
        asked: set[tuple] = set()
        for name in names:
            keys, graph = stages(self.recipes[name], self.files)
            own = self.recipes[name]
            said = msgspec.json.encode(recipes.load(self.workspace.root / f"{name}.yaml").recipe).decode()
            assert published(self.workspace.root, name) == clean(
                self.files[own.path], own.passes, external=own.external, said=said
            )
            assert self.workspace.report(name)["status"] == "done"
            built = self.workspace.built(name)
            package = ("package", graph, own)
            there = self.published.get(name)
            if there not in (package, UNKNOWN):
                assert "package" in built
            elif there == package and package in self.known.sure:
                assert "package" not in built
            ran += [keys[stage] for stage in built if stage != "package"]
            asked |= {key for stage, key in keys.items() if stage != "package"}
            self.published[name] = package
        must, may = asked - self.known.maybe, asked - self.known.sure
        assert must <= set(ran) <= may, f"ran {set(ran)}, had to run {must}, was allowed to run {may}"
        if not self.unrepaired:
            assert len(ran) == len(set(ran)), "no stage ran twice"
        for name in names:
            self.known.built(name, set(stages(self.recipes[name], self.files)[0].values()))

    def build_and_be_killed(self, name: str, chance: random.Random) -> None:
        """At a random time, or at a random point around a write; the journal lies outside the project."""
        step = chance.choice(("begun", "filled", "synced", "renamed", "done"))
        place = chance.choice(("*/objects/*", "*/traces/*", "*.result", "*/model.onnx", "*/latest/*"))
        points = (
            {"ONNXBUILD_FAILPOINT": f"write.{step}@{place}:{chance.randint(1, 4)}"} if chance.random() < 0.6 else {}
        )
        command, environment = self.workspace.command("run", f"{name}.yaml")
        with open(self.folder / "journal", "w+") as journal:
            process = subprocess.Popen(
                command, cwd=self.workspace.root, env={**environment, **points}, stdout=journal, stderr=journal
            )
            if not points:
                time.sleep(chance.uniform(0.1, 0.7))
                process.kill()
            code = process.wait(60)
            journal.seek(0)
            said = set(re.findall(r"^\S+ (\S+) +built ", journal.read(), re.MULTILINE))
        if code == 0:
            self.require((name,))
            return
        assert code in (-9, 1)
        keys = stages(self.recipes[name], self.files)[0]
        self.known.killed(name, set(keys.values()), {key for stage, key in keys.items() if stage in said})
        self.published[name] = UNKNOWN
        if not self.unrepaired:
            assert unsound(self.workspace.root) == []

    # The world.

    def collect(self) -> None:
        self.workspace.run("cache", "gc", "--max-size", "0")
        self.known.collected()
        if not self.unrepaired:
            assert unsound(self.workspace.root) == []

    def damage_what_is_published(self, name: str, how: str) -> None:
        path = self.workspace.root / "build" / name / "model.onnx"
        if path.exists():
            data = {"append": path.read_bytes() + b"x", "other": b"other"}.get(how)
            path.unlink()
            if data:
                path.write_bytes(data)
            self.published[name] = None

    def damage_an_object(self, chance: random.Random) -> None:
        found = [path for path in sorted((self.workspace.root / ".onnxbuild/objects").rglob("[!.]*")) if path.is_file()]
        if found:
            path = chance.choice(found)
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1
            path.unlink()
            if chance.random() < 0.6:
                path.write_bytes(data)
            self.known.tainted = self.unrepaired = True
            self.known.forget_damaged()

    def repair(self) -> None:
        self.workspace.run("cache", "verify", "--repair")
        assert unsound(self.workspace.root) == []
        self.known.tainted = self.unrepaired = False


NAMES = ("one", "two", "three")
RECIPE_CHANGES = [
    *({"passes": passes} for passes in ((), PASSES[:1], PASSES[1:], PASSES, PASSES[::-1])),
    *({"level": level} for level in ("all", "basic")),
    *({"path": path} for path in ("a.onnx", "b.onnx")),
    *({"external": external} for external in (True, False)),
    {"tolerance": 2e-3},
]
# What happens between two builds, and how often in comparison.
HAPPENS: list[tuple[int, str, Callable[[random.Random], tuple]]] = [
    (4, "edit_a_model", lambda r: (r.choice(("a.onnx", "b.onnx")), r.choice(("version", "identity", "comment")))),
    (4, "edit_a_recipe", lambda r: (r.choice(NAMES), r.choice(RECIPE_CHANGES))),
    (3, "revert", lambda r: (r.randint(1, 4),)),
    (2, "build_and_be_killed", lambda r: (r.choice(NAMES), r)),
    (2, "collect", lambda r: ()),
    (2, "damage_what_is_published", lambda r: (r.choice(NAMES), r.choice(("delete", "append", "other")))),
    (1, "damage_an_object", lambda r: (r,)),
    (1, "repair", lambda r: ()),
]


@pytest.mark.sample(4)
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("seed", range(SEQUENCES or 4))
def test_any_sequence_of_events(tmp_path, seed):
    chance = random.Random(seed)
    builds = Builds(tmp_path)
    happened: Counter[str] = Counter()
    weights = [weight for weight, *_ in HAPPENS]
    for _ in range(20 if SEQUENCES else 7):
        for _, what, arguments in chance.choices(HAPPENS, weights, k=chance.randint(1, 3)):
            getattr(builds, what)(*arguments(chance))
            happened[what] += 1
        names = chance.sample(NAMES, chance.randint(1, 3))
        builds.build(tuple(names))
        happened["build"] += 1
    print("happened:", dict(happened))


def test_the_model_knows_which_graphs_are_the_same():
    """Two clean builds give the same bytes exactly where the model says that their final graphs are the same."""
    by_graph: dict[Graph, dict[str, bytes]] = {}
    for file in (
        File(version, identity, comment) for version in (1, 2) for identity in (True, False) for comment in ("", "c")
    ):
        for passes in ((), PASSES[:1], PASSES[1:], PASSES):
            _, graph = stages(Recipe("one", "a.onnx", passes), {"a.onnx": file})
            made = clean(file, passes, external=True)
            assert by_graph.setdefault(graph, made) == made
    assert len({tuple(made.values()) for made in by_graph.values()}) == len(by_graph) == 6
