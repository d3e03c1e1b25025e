"""Loaders fed with anything: a recipe, a trace, what is remembered of files, a report. Never a traceback, ever.

ONNXBUILD_FUZZ multiplies the number of examples (default 1).
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxbuild import recipe
from onnxbuild import report as reports
from onnxbuild.contracts import Interface, Outcome, Value
from onnxbuild.errors import Problem, StageError, UserError
from onnxbuild.plan import planner
from onnxbuild.reproducibility import published
from onnxbuild.store import checksummed, keys, ownership, seal, traces
from onnxbuild.store.digests import Digests
from onnxbuild.store.store import LocalStore
from onnxbuild.store.traces import Trace

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPES = sorted(path for path in (REPOSITORY / "recipes").glob("*.yaml") if not path.name.endswith(".lock.yaml"))
KEY = "ab" * 32
TIMES = int(os.environ.get("ONNXBUILD_FUZZ", "1"))


def fuzz(examples: int):
    """Settings of a test of so many examples."""
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples * TIMES, deadline=None, suppress_health_check=slow)


# ---- values and mutations

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "..", "a" * 300, 1e400])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ODD = [
    None, True, 0, -1, 1, 2**63, 2**64, -(2**63), 10**30, 0.5, float("inf"), float("nan"), "", " ", "0", "x", "../x", "/",
    "a\nb", "\x1b[2J", "a:b", "a::b", "a\0b", "/dev/zero", "é", "𝄞", "\u202e", "x" * 5000, "<<", "*x", "&x",
    [], {}, [[]], {"": 0}, {"x": {}}, [None], ["a", "a"],
]  # fmt: skip


def places(value, path=()):
    """Every place in nested data."""
    yield path
    if isinstance(value, dict | list):
        for step in list(value) if isinstance(value, dict) else range(len(value)):
            yield from places(value[step], (*path, step))


def mutate(data, rng: random.Random):
    """Nested data with one thing changed, as a slip or a bad merge would: a value, a key, an order, a part elsewhere."""
    data = copy.deepcopy(data)
    path = rng.choice([place for place in places(data) if place])
    holder = data
    for step in path[:-1]:
        holder = holder[step]
    step = path[-1]
    how = rng.randrange(8)
    if how == 0:
        del holder[step]
    elif how == 1:
        holder[step] = rng.choice(ODD)
    elif how == 2:
        holder[step] = [holder[step]]
    elif how == 3:
        holder[step] = {"x": holder[step]}
    elif how == 4:
        other = data
        for part in rng.choice(list(places(data))):
            other = other[part]
        holder[step] = copy.deepcopy(other)
    elif how == 5 and isinstance(holder, dict):
        holder[rng.choice([str(o) for o in ODD[:12]] + [str(step).upper(), f"{step}s", f" {step}"])] = holder.pop(step)
    elif how == 6 and isinstance(holder, list):
        holder.insert(0, rng.choice(ODD))
    elif isinstance(holder[step], str) and holder[step]:
        text, at = holder[step], rng.randrange(len(holder[step]))
        holder[step] = text[:at] + rng.choice(["", text[at] * 2, "\t", "~", "é", "0", "."]) + text[at + 1 :]
    return data


# ---- recipes


WINE = ("alcohol", "malic_acid", "flavanoids", "hue", "od280/od315_of_diluted_wines", "proline", "colour")


def told(kind: str, options: object, root: Path) -> Interface:
    """What a model says of itself here, where none is asked: enough for the recipes that leave things to it."""
    names = WINE if kind == "sklearn" else ("x",)
    dtypes = {"colour": "string"}
    return Interface(
        [Value(name, dtypes.get(name, "float32"), ["batch", 1]) for name in names],
        [Value("y", "float32", ["batch"])],
    )


def judged(path: Path, content: bytes) -> recipe.Loaded | None:
    """What the loader makes of a file: a recipe, whose stages and keys can be had, or problems that each say where."""
    path.write_bytes(content)
    problems: tuple[Problem, ...] = ()
    try:
        loaded = recipe.load(path, describe=told)
    except UserError as error:
        loaded, problems = None, error.problems
    assert (loaded is None) == bool(problems)
    for problem in problems:
        assert Path(problem.path).parent == path.parent and problem.fact, problem  # it, or a base of it
        assert problem.path != str(path) or problem.line <= len(content) + 1
    if loaded is None:
        return None
    for stage in planner.plan(loaded.recipe, loaded.root).stages:
        keys.key_of(keys.document(stage.kind, stage.version, stage.options, {}, {}, {}))
    return loaded


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project in which the shipped recipes are good, so that only what is changed is wrong with them."""
    root = tmp_path_factory.mktemp("fuzz")
    (root / "pyproject.toml").touch()
    (root / "recipes").symlink_to(REPOSITORY / "recipes")
    for shipped in RECIPES:  # what others are merged over
        (root / shipped.name).symlink_to(shipped)
    return root


@pytest.mark.sample(4)
@pytest.mark.parametrize("shipped", RECIPES, ids=lambda path: path.stem)
@given(rng=st.randoms(use_true_random=False))
@fuzz(20)
def test_a_shipped_recipe_with_slips_in_it_is_taken_or_refused_in_words(project, shipped, rng):
    data = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    for _ in range(rng.randint(1, 3)):
        data = mutate(data, rng)
        if not isinstance(data, dict) or not data:
            break
    with contextlib.suppress(yaml.YAMLError):
        judged(project / "r.yaml", yaml.safe_dump(data, allow_unicode=rng.random() < 0.5, sort_keys=False).encode())


@pytest.mark.sample(4)
@pytest.mark.parametrize("shipped", RECIPES, ids=lambda path: path.stem)
@given(rng=st.randoms(use_true_random=False))
@fuzz(20)
def test_a_shipped_recipe_with_slips_in_its_text_is_taken_or_refused_in_words(project, shipped, rng):
    """Bytes lost, doubled, swapped or replaced; lines moved and indented otherwise."""
    content = bytearray(shipped.read_bytes())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content))
        span = content[at : at + rng.choice([1, 1, 4, 40])]
        how = rng.randrange(5)
        if how == 0:
            del content[at : at + len(span)]
        elif how == 1:
            content[at:at] = span
        elif how == 2:
            content[at] = rng.randrange(256)
        elif how == 3:
            content[at:at] = rng.choice(
                [b"\t", b"  ", b"\n", b": ", b"- ", b"{", b"]", b"&a ", b"*a ", b"!!x ", b'"', b"#", b"\r"]
            )
        else:
            lines = content.split(b"\n")
            line = lines.pop(rng.randrange(len(lines)))
            lines.insert(rng.randrange(len(lines) + 1), rng.choice([b"", b"  "]) + line)
            content = bytearray(b"\n".join(lines))
    judged(project / "r.yaml", bytes(content))


@given(content=st.binary(max_size=200) | JSON.map(msgspec.json.encode))
@fuzz(100)
def test_anything_is_no_recipe_in_words(project, content):
    assert judged(project / "r.yaml", content) is None


@pytest.mark.sample(4)
@pytest.mark.parametrize("shipped", RECIPES, ids=lambda path: path.stem)
def test_the_shipped_recipes_are_good_where_they_are_fuzzed(project, shipped):
    """Else the slips would be found by a problem that is always there."""
    assert judged(project / "r.yaml", shipped.read_bytes()) is not None


# ---- the store


def trace() -> Trace:
    outcome = Outcome(
        {"graph": f"{KEY}.onnx"}, [f"{KEY}.onnx"], {"artifacts": [{"path": "m", "sha256": KEY, "bytes": 1}]}
    )
    return Trace({"stage": "export", "inputs": {"graph": KEY}}, {"file:a.py": KEY}, outcome, {}, 1.5, 1 << 20)


SHAPES = {
    "trace": msgspec.to_builtins(trace()),
    "latest": {
        "recipe": "r",
        "project": "",
        "keys": {"export": KEY},
        "traces": {"export": f"{KEY}/{KEY}"},
        "file": "../r.yaml",
        "dest": "../build/r",
    },
    "digests": {"/a/b": [[1, 2, 3, 4, 5], KEY]},
}
FILES = {"trace": f"traces/{KEY[:2]}/{KEY[2:]}/{KEY}.json", "latest": "latest/r.json", "digests": "digests.json"}
SEALS = {"trace": f"{KEY}/{KEY}", "latest": "r.json", "digests": "digests.json"}


def everything_that_reads(folder: Path) -> list[str]:
    """Use the store as commands do; gives its warnings."""
    said: list[str] = []
    ownership.claim(folder, ownership.Standing.NEW)
    (folder / "large").write_bytes(bytes(100_000))
    for look in (True, False):  # reading first: the other takes away what is damaged
        kept = LocalStore(folder, said.append, look=look)
        kept.any_trace(KEY)
        kept.find(KEY, lambda trace: trace.discovered == {} or bool(trace.outcome.outputs))
        kept.latest("r")
        kept.ended("r")
        if not look:
            kept.note_latest("r", {"export": KEY})
        kept.close()
        list(traces.all_latest(folder))
        digests = Digests(folder / "digests.json", warn=said.append)
        assert len(digests.of(folder / "large")) == 64
        assert not digests.matches(folder / "nothing", KEY)
        digests.save()
    return said


@pytest.mark.parametrize("kind", FILES)
@given(content=st.binary(max_size=300) | JSON.map(msgspec.json.encode))
@fuzz(50)
def test_anything_in_the_stores_files_is_a_miss_with_a_warning(tmp_path_factory, kind, content):
    folder = tmp_path_factory.mktemp("store")
    path = folder / FILES[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

    said = everything_that_reads(folder)

    assert any("damaged" in text and str(path) in text for text in said)
    assert len(said) <= 4
    assert LocalStore(folder, pytest.fail).any_trace(KEY) is None


@pytest.mark.parametrize("kind", FILES)
@given(rng=st.randoms(use_true_random=False), data=st.none() | JSON)
@fuzz(50)
def test_what_is_sealed_but_of_another_shape_is_a_miss_or_is_what_it_says(tmp_path_factory, kind, rng, data):
    """As another version of ours, or somebody who knows the seal, might have left it."""
    folder = tmp_path_factory.mktemp("store")
    changed = data if data is not None else mutate(SHAPES[kind], rng)
    try:
        checksummed.write(folder / FILES[kind], SEALS[kind], changed)
    except (OverflowError, TypeError):  # JSON can't hold it
        return

    everything_that_reads(folder)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_json_of_great_depth_is_a_miss(tmp_path, kind, depth):
    body = b'{"document":' + b'{"a":' * depth
    path = tmp_path / FILES[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(seal.sealed(SEALS[kind], body)))

    assert any("damaged" in text for text in everything_that_reads(tmp_path))


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_or_a_link_in_place_of_a_file_is_a_miss(tmp_path, kind):
    for name, make in {
        "folder": Path.mkdir,
        "loop": lambda path: path.symlink_to(path),
        "dangling": lambda path: path.symlink_to("nowhere"),
    }.items():
        folder = tmp_path / name
        path = folder / FILES[kind]
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        everything_that_reads(folder)


# ---- reports


@pytest.fixture(scope="module")
def a_report():
    from samples import resnet50

    return msgspec.to_builtins(resnet50())


@given(rng=st.randoms(use_true_random=False))
@fuzz(100)
def test_a_report_with_slips_in_it_is_verified_in_words(tmp_path_factory, a_report, rng):
    dest = tmp_path_factory.mktemp("build")
    data = a_report
    for _ in range(rng.randint(1, 3)):
        data = mutate(data, rng)
        if not isinstance(data, dict) or not data:
            break
    with contextlib.suppress(OverflowError, TypeError):
        (dest / "report.json").write_bytes(msgspec.json.encode(data))
        looked_at(dest)


@given(content=st.binary(max_size=300) | JSON.map(msgspec.json.encode))
@fuzz(100)
def test_anything_is_no_report_in_words(tmp_path_factory, content):
    dest = tmp_path_factory.mktemp("build")
    (dest / "report.json").write_bytes(content)

    with pytest.raises(StageError, match="is not a report"):
        published.last_report(dest)


def looked_at(dest: Path) -> None:
    """What `verify` makes of a report: problems in words."""
    try:
        report = published.last_report(dest)
    except StageError:
        return
    assert published.published(report, dest, LocalStore(dest / "store", pytest.fail, look=True))
    assert isinstance(reports.to_json(report), bytes)
