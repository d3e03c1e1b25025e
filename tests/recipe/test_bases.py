"""Recipes over others: how files are merged, and that whatever is wrong is told with the file, line and column it is in."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onnxbuild import recipe
from onnxbuild.commands import schema
from onnxbuild.errors import UserError
from onnxbuild.recipe import bases, documents, schema_errors, whole, yaml_reader

CHILD = "base: common/base.yaml\nname: child\n"


def over(project, good, child=CHILD, **more):
    """A child over the good recipe, which is its base, and other files by their stems."""
    project.write("common/base.yaml", good)
    for name, text in more.items():
        project.write(f"common/{name}.yaml", text)
    project.write("r.yaml", child)
    return project


def load(project):
    return recipe.load(project.root / "r.yaml")


# What is merged


def test_a_base_gives_what_the_recipe_does_not_say_and_its_name_stays_its_own(project, good):
    child = CHILD + "export: {opset: 19, dims: {batch: {max: 8}}}\noptimize: []\nbenchmark: null\n"
    loaded = load(over(project, good, child))

    assert loaded.recipe.name == "child"
    assert (loaded.recipe.export.opset, loaded.recipe.export.exporter) == (19, "dynamo")
    assert (loaded.recipe.export.limits("batch").min, loaded.recipe.export.limits("batch").max) == (1, 8)
    assert loaded.recipe.optimize == [] and "benchmark" not in loaded.data
    assert [path.relative_to(project.root).as_posix() for path in loaded.bases] == ["common/base.yaml"]
    assert loaded.bases[project.root / "common/base.yaml"] == recipe.load(project.root / "common/base.yaml").sha256


def test_later_wins_and_a_file_that_several_name_is_merged_once_where_it_comes_first(project, good):
    child = "base: [common/a.yaml, common/b.yaml]\nname: child\n"
    a = "base: base.yaml\nexport: {opset: 20}\nparity: {rtol: 1.0e-2}\n"
    b = "base: base.yaml\nparity: {rtol: 1.0e-4}\n"
    loaded = load(over(project, good, child, a=a, b=b))

    assert loaded.recipe.export.opset == 20, "b's base does not undo what a says over the same one"
    assert loaded.recipe.parity.rtol == 1.0e-4
    assert [path.name for path in loaded.bases] == ["base.yaml", "a.yaml", "b.yaml"]


def test_the_place_of_each_part_is_in_its_own_file(project, good):
    loaded = load(over(project, good, CHILD + "export:\n  opset: 19\n"))
    base, line = str(project.root / "common/base.yaml"), good[: good.index("  exporter")].count("\n") + 1

    assert loaded.positions.origin(("export", "opset")) == ("", 4, 10)
    assert loaded.positions.origin(("export", "exporter")) == (base, line, 13)
    assert loaded.positions.origin(("export", "exporter"), key=True) == (base, line, 3)
    assert loaded.positions.origin(("export", "nothing")) == ("", 3, 1)


def test_null_takes_away_what_is_there_and_is_a_value_where_nothing_is(project, good):
    factory = "def resnet50(num_classes=1, weights=None):\n    return 1\n"
    project.write("nets/resnet.py", factory)
    child = CHILD + "model: {pytorch: {kwargs: {num_classes: null, weights: null}}}\n"

    assert load(over(project, good, child)).data["model"]["pytorch"]["kwargs"] == {"weights": None}


# What is refused

NO_NAME = """\
r.yaml:1:1: the key 'name' is missing
    hint: add 'name': Results land in build/<name>/. A base's is not taken over."""
REFUSED = {
    "no such file": (
        "name: x\nbase: common/bass.yaml\n",
        """\
r.yaml:2:7: base: 'common/bass.yaml': no such file
    hint: did you mean 'base.yaml'?""",
    ),
    "one of a list": (
        "base:\n  - common/base.yaml\n  - nowhere/x.yaml\n",
        """\
r.yaml:3:5: base[1]: 'nowhere/x.yaml': no such file
    hint: it is looked for from the folder of r.yaml""",
    ),
    "a folder": (
        "base: common\n",
        """\
r.yaml:1:7: base: 'common': a folder, not a recipe
    hint: give a file, such as common/*.yaml""",
    ),
    "a number": ("base: 3\n", "r.yaml:1:7: base: expected the name of a file, or a list of them, found the integer 3"),
    "a mapping": (
        "base: {a: b}\n",
        "r.yaml:1:1: base: expected the name of a file, or a list of them, found a mapping",
    ),
    "nothing": ("base:\n", "r.yaml:1:6: base: expected the name of a file, or a list of them, found nothing"),
    "a list of lists": ("base: [[a]]\n", "r.yaml:1:8: base[0]: expected the name of a file, found a list"),
    "an empty list": ("base: []\n", "r.yaml:1:1: base: must not be empty\n    hint: name a file, or remove it"),
    "twice": (
        "base: [common/base.yaml, common/base.yaml]\n",
        "r.yaml:1:26: base[1]: 'common/base.yaml' is named twice\n    hint: remove one of the two",
    ),
    "outside": (
        "base: ../x.yaml\n",
        """\
r.yaml:1:7: base: '../x.yaml' leaves the project root
    hint: write an absolute path if you mean a file outside it""",
    ),
    "itself": ("base: r.yaml\n", "r.yaml:1:7: base: a circle of bases: r.yaml -> r.yaml\n    hint: remove one of them"),
    "a long name": (f"base: {'x' * 300}\n", f"r.yaml:1:7: base: '{'x' * 300}': cannot be read: File name too long"),
    "no name of its own": ("base: common/base.yaml\n", NO_NAME),
    "an unknown key beside it": (
        CHILD + "optimise: []\n",
        "r.yaml:3:1: unknown key 'optimise'\n    hint: did you mean 'optimize'?",
    ),
    "base in another place": (
        CHILD + "export: {base: x}\n",
        """\
r.yaml:3:10: export: unknown key 'base'
    hint: known here: inputs, outputs, exporter, opset, dynamic_axes, dims, arguments""",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_base_that_can_not_be_is_refused_where_it_is_named(project, good, case):
    child, said = REFUSED[case]
    assert over(project, good, child).refused(paths=("r.yaml",)) == said


IN_THE_BASE = {
    "a value": (
        ("opset: 18", "opset: 99"),
        "common/base.yaml:14:10: export.opset: must be at most 28, found 99 (a base of r.yaml)",
    ),
    "a rule": (
        ("    input: {0: batch}", "    imput: {0: batch}"),
        """\
common/base.yaml:19:5: export.dynamic_axes: unknown input 'imput' (a base of r.yaml)
    hint: did you mean 'input'?""",
    ),
    "a duplicate key": (
        ("benchmark: {", "name: x\nbenchmark: {"),
        """\
common/base.yaml:36:1: duplicate key 'name' (a base of r.yaml)
    hint: it is first given on line 3; remove one of them""",
    ),
    "not YAML": (
        ("name: resnet50", "name: 'resnet50"),
        """\
common/base.yaml:37:1: not valid YAML: while scanning a quoted scalar, found unexpected end of stream (a base of r.yaml)
    hint: a quote is opened and never closed""",
    ),
}


@pytest.mark.parametrize("case", IN_THE_BASE)
def test_what_is_wrong_in_a_base_is_told_with_its_place(project, good, case):
    (old, new), said = IN_THE_BASE[case]
    told = over(project, good.replace(old, new)).refused(paths=("r.yaml",))
    assert told == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "common/base.yaml:1:1: the file is empty (a base of r.yaml)\n    hint: a recipe starts with: version: 1"),
        ("- 1\n", "common/base.yaml:1:1: expected a mapping, found a list (a base of r.yaml)"),
        (b"a: \xff\n", """\
common/base.yaml:1:4: not UTF-8: the byte 0xff starts no character (a base of r.yaml)
    hint: save the file as UTF-8"""),
    ],
)  # fmt: skip
def test_a_base_that_is_no_mapping(project, text, said):
    assert over(project, text).refused(paths=("r.yaml",)) == said


def test_what_is_wrong_in_one_base_of_several_recipes_is_told_once(project, good):
    over(project, good.replace("opset: 18", "opset: 99"))
    project.write("s.yaml", CHILD.replace("child", "other") + "benchmark: {runs: 0}\n")

    assert project.refused(paths=("r.yaml", "s.yaml")) == (
        "common/base.yaml:14:10: export.opset: must be at most 28, found 99 (a base of r.yaml, s.yaml)\n"
        "s.yaml:3:19: benchmark.runs: must be at least 1, found 0"
    )


def test_two_kinds_of_model_by_merging_and_how_to_leave_one_out(project, good):
    project.write("m.onnx", b"graph")
    child = CHILD + "model: {onnx: {path: m.onnx}}\n"
    said = over(project, good, child).refused(paths=("r.yaml",))
    assert said == (
        "r.yaml:3:1: model: exactly one key is expected here, found pytorch and onnx\n"
        "    hint: write 'pytorch: null' beside it to leave out what common/base.yaml has"
    )
    child = child.replace("onnx: {", "pytorch: null, onnx: {") + "export: {exporter: null}\n"
    assert list(load(over(project, good, child)).data["model"]) == ["onnx"]


def test_a_base_named_from_the_project_root_as_other_paths_are_is_told_how_to_name_it(project, good):
    over(project, good)
    project.write("deep/r.yaml", CHILD)
    assert project.refused(paths=("deep/r.yaml",)) == (
        "deep/r.yaml:1:7: base: 'common/base.yaml': no such file\n"
        "    hint: a base is named from the folder of the file that names it: ../common/base.yaml"
    )


def test_a_circle_shows_its_way(project, good):
    over(
        project, good, "base: common/a.yaml\nname: x\n", a="base: b.yaml\n", b="parity: {}\nbase: [base.yaml, a.yaml]\n"
    )
    assert project.refused(paths=("r.yaml",)) == (
        "common/b.yaml:2:19: base[1]: a circle of bases: common/a.yaml -> common/b.yaml -> common/a.yaml "
        "(a base of r.yaml)\n    hint: remove one of them"
    )


def test_no_more_than_eight_lie_on_top_of_one_another(project, good):
    for number in range(1, 8):
        project.write(f"common/b{number}.yaml", f"base: b{number + 1}.yaml\n")
    child = "base: common/b1.yaml\nname: child\n"
    assert len(load(over(project, good, child, b8=good[good.index("model:") :] + "version: 1\n")).bases) == 8
    project.write("common/b8.yaml", "base: base.yaml\n")
    said = project.refused(paths=("r.yaml",))
    assert said.startswith(
        "common/b8.yaml:1:7: base: more than 8 bases on top of one another: r.yaml -> common/b1.yaml -> "
    )
    assert said.endswith("(a base of r.yaml)\n    hint: name them side by side, in one list")
    # by a way that is short, to a base whose own bases are known already
    project.write("common/b8.yaml", "version: 1\n")
    project.write("r.yaml", "base: [common/b1.yaml, common/c.yaml]\nname: child\n")
    project.write("common/c.yaml", "base: b1.yaml\n")
    assert "common/c.yaml:1:7: base: more than 8 bases on top of one another" in project.refused(paths=("r.yaml",))


def test_many_ways_to_one_base_take_no_longer_than_one(project, good):
    for number in range(1, 7):
        below = ", ".join(f"{letter}{number + 1}.yaml" for letter in "abcdefgh") if number < 6 else "base.yaml"
        for letter in "abcdefgh":
            project.write(f"common/{letter}{number}.yaml", f"base: [{below}]\n")
    over(project, good, "base: [common/a1.yaml, common/b1.yaml]\nname: child\n")
    assert len(load(project).bases) == 1 + 8 * 5 + 2


def test_a_recipe_and_its_bases_hold_no_more_than_one_file_may(project, good, monkeypatch):
    monkeypatch.setattr(yaml_reader, "MAX_NODES", 500)
    much = "parity: {cases: {" + ", ".join(f"c{at}: {{}}" for at in range(300)) + "}}\n"
    child = "base: [common/base.yaml, common/a.yaml, common/b.yaml, common/c.yaml]\nname: x\n"
    assert over(project, good, child, a=much, b=much, c=much).refused(paths=("r.yaml",)) == (
        "r.yaml:1:56: base[3]: more than 500 values in a recipe and its bases\n"
        "    hint: a recipe names its data; it does not hold it"
    )


def test_a_base_outside_the_project_is_meant_where_its_path_is_absolute(tmp_path_factory, project, good):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "more.yaml").write_text(good)
    (elsewhere / "base.yaml").write_text("base: more.yaml\n")
    project.write("r.yaml", f"base: {elsewhere}/base.yaml\nname: child\n")
    assert [path.parent for path in load(project).bases] == [elsewhere, elsewhere]


def test_paths_are_the_projects_wherever_they_are_written(project, good):
    project.write("weights/w.safetensors", b"weights")
    text = good.replace("    seed: 0", "    checkpoint: {path: weights/w.safetensors}")
    assert load(over(project, text)).data["model"]["pytorch"]["checkpoint"] == {"path": "weights/w.safetensors"}


# What an editor says of it


def editor(text):
    """What the published schema has against a file."""
    checks = schema_errors.validator(json.loads(schema.text("recipe")))
    data = documents.document_of(Path("x"), text)[0].data
    return sorted(".".join(map(str, error.absolute_path)) for error in checks.iter_errors(data))


def test_an_editor_asks_a_part_of_a_recipe_for_nothing_that_is_elsewhere(good):
    assert editor(good) == []
    assert editor("version: 1\nname: x\n") != [], "a recipe without a base is to be whole"
    for text in ("base: a.yaml\nname: x\n", "export: {opset: 17}\n", "base: [a.yaml, b.yaml]\n"):
        assert editor(text) == []
    assert editor("base: a.yaml\nname: x\nmodel: {pytorch: null, onnx: {sha256: null}}\nbenchmark: null\n") == []
    assert editor("base: a.yaml\nexport: {inputs: {x: {data: {uniform: null, normal: {}}}}, dims: {n: null}}\n") == []


def test_an_editor_checks_what_a_part_does_say():
    assert editor("base: a.yaml\nexport: {opset: x}\n") == ["export.opset"]
    assert editor("base: a.yaml\nexport: {ospet: 17}\n") == ["export"]
    assert editor("base: a.yaml\noptimize: [{}]\n") == ["optimize.0"], "a list is whole"
    assert editor("base: a.yaml\noptimize: [null]\n") == ["optimize.0"]
    for base in ("[]", "3", "{a: b}", "[a, a]", "''", "null"):
        assert editor(f"base: {base}\nname: x\n") == ["base"]


# What holds of any files

TRICKY = [
    "yes", "1e3", "a: b", "#x", "x #", "é", "a\nb", "\t", "'", '"', "-", "- a", "?", "~", "null", "0x1F", "<<", "=",
    "&a", "*a", "!t", "|", ">", "%", "@", "`", "{", "]", ",", "a, b", "", " a", "0", "\u2028", "\u0085", "1:30", "\\",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(TRICKY), st.floats(-1e9, 1e9, allow_nan=False)
)
KEYS = st.sampled_from(["a", "b", "c", "0", "a: b", "x #", "1e3", "é", ""])
MAPPINGS = st.deferred(lambda: st.dictionaries(KEYS, VALUES, max_size=4))
VALUES = st.one_of(SCALARS, MAPPINGS, st.lists(st.one_of(SCALARS, MAPPINGS), max_size=3))
FILES = st.lists(MAPPINGS, min_size=1, max_size=4)


def merged(under, over):
    """As README says it: mappings merge, everything else replaces, null removes."""
    kept = {key: value for key, value in under.items() if not (key in over and over[key] is None)}
    for key, value in over.items():
        if value is not None or key not in under:
            both = isinstance(value, dict) and isinstance(kept.get(key), dict)
            kept[key] = merged(kept[key], value) if both else value
    return kept


def resolved(files):
    """Files by their names, the recipe among them as r.yaml."""
    texts = {name: json.dumps(data).encode() for name, data in files.items()}
    found = bases.resolved(Path("r.yaml"), lambda path: texts[path.name])
    assert found.problems == []
    return found.document


@settings(deadline=None, max_examples=100)
@given(FILES)
def test_any_files_come_to_the_same_however_they_are_stacked(files):
    *under, top = files
    names = [f"{at}.yaml" for at in range(len(under))]
    expected = {}
    for one in files:
        expected = merged(expected, one) if expected or one is not files[0] else one
    side_by_side = dict(zip(names, under, strict=True)) | {"r.yaml": {**top, **({"base": names} if names else {})}}
    stacked = {
        name: {**data, **({"base": below} if below else {})}
        for (below, name), data in zip(itertools.pairwise(["", *names, "r.yaml"]), files, strict=True)
    }
    first, second = resolved(side_by_side), resolved(stacked)

    assert first.data == second.data == expected
    assert documents.digest_of(first) == documents.digest_of(second)


@settings(deadline=None, max_examples=100)
@given(FILES)
@example([{"a": "-"}])
@example([{"-": {"?": ["-", "- a", "a: b", "?"]}}])
def test_any_recipe_printed_whole_says_the_same(files):
    *under, top = files
    names = [f"{at}.yaml" for at in range(len(under))]
    document = resolved(
        dict(zip(names, under, strict=True)) | {"r.yaml": {**top, **({"base": names} if names else {})}}
    )
    lines = whole.lines(document.data, document, "r.yaml", "the model") if document.data else []
    for text in ("\n".join(whole.annotated(lines)), whole.text(document)):
        again, problems = documents.document_of(Path("x"), text or "{}")
        assert problems == []
        assert again.data == document.data
        assert documents.digest_of(again) == documents.digest_of(document)


def test_a_recipe_that_can_not_be_read_has_no_digest(project, good):
    over(project, good, "base: common/none.yaml\n")
    for name in ("none.yaml", "r.yaml"):
        with pytest.raises(UserError, match="no such file"):
            bases.content_sha256(project.root / name)
