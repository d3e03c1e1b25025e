"""Golden messages, letter by letter: every way in which a recipe is refused. And that good ones are not."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import yaml

from onnxbuild import recipe
from onnxbuild.errors import UserError
from onnxbuild.recipe import disk_rules
from onnxbuild.recipe.types import chosen
from onnxbuild.runtimes import onnxruntime as sessions
from onnxbuild.system import distributions


def test_the_designs_recipe_loads(project, good):
    loaded = project.load(good)
    assert loaded.recipe.name == "resnet50"
    assert loaded.recipe.export.inputs["input"].shape == [2, 3, 224, 224]
    assert [chosen(step)[0] for step in loaded.recipe.optimize] == ["onnxsim", "onnxoptimizer"]
    assert loaded.root == project.root
    assert loaded.sha256 == hashlib.sha256(good.encode()).hexdigest()
    assert loaded.positions.place(("export", "opset")) == (14, 10)


REFUSALS = yaml.safe_load(Path(__file__).with_name("refusals.yaml").read_text())


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says(project, refusal):
    assert project.refused("", *refusal["changes"]) == refusal["said"].rstrip("\n")


FILES = {
    b"\n# only a comment\n": """\
r.yaml:1:1: the file is empty
    hint: a recipe starts with: version: 1""",
    b"a: 1\n---\nb: 1\n": """\
r.yaml:2:1: a second document starts here
    hint: one recipe a file: remove the '---'""",
    b"a: 1\nname: caf\xe9\n": """\
r.yaml:2:10: not UTF-8: the byte 0xe9 starts no character
    hint: save the file as UTF-8""",
    b"a: [1, 2\nb: 3\n": """\
r.yaml:2:2: not valid YAML: while parsing a flow sequence, did not find expected ',' or ']'
    hint: a bracket is opened and never closed""",
    b"#" * (1 << 20) + b"\n": """\
r.yaml: more than 1 MiB, too large for a recipe
    hint: a recipe names its data; it does not hold it""",
    b"- 1\n": "r.yaml:1:1: expected a mapping, found a list",
    b"a: {b: \x01}\n": """\
r.yaml:1:8: the character U+0001 is not allowed in YAML
    hint: remove it""",
}


@pytest.mark.parametrize("content", FILES, ids=["empty", "documents", "utf8", "bracket", "large", "list", "control"])
def test_a_file_that_is_no_recipe(project, content):
    assert project.refused(content) == FILES[content]


def test_a_checkpoint_with_another_digest(project):
    project.write("w/resnet.safetensors", b"weights")
    wrong, right = "0" * 64, hashlib.sha256(b"weights").hexdigest()
    change = ("    seed: 0", f"    checkpoint: {{path: w/resnet.safetensors, sha256: '{wrong}'}}")
    assert project.refused("", change) == (
        f"r.yaml:10:54: model.pytorch.checkpoint.sha256: resnet.safetensors has the SHA-256 {right}, not {wrong}\n"
        "    hint: it is another file, or was damaged; if you trust it, put its SHA-256 here"
    )


def test_a_file_that_may_not_be_read(project, monkeypatch):
    project.write("w.safetensors", b"weights")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read all files
    assert project.refused("", ("    seed: 0", "    checkpoint: {path: w.safetensors}")) == (
        "r.yaml:10:24: model.pytorch.checkpoint.path: 'w.safetensors' may not be read\n"
        "    hint: give yourself the right to read it"
    )


def test_a_digest_of_digits_alone_needs_quotes(project):
    change = ("    seed: 0", f"    checkpoint: {{path: w, sha256: {'1' * 64}}}")
    assert (
        "r.yaml:10:35: model.pytorch.checkpoint.sha256: the integer 11111111111111111111… does not fit 64 bits\n"
        "    hint: if it is text, write it in quotes"
    ) in project.refused("", change)


def test_a_digest_can_be_remembered(project, good):
    path = project.write("w.safetensors", b"weights")
    text = good.replace("    seed: 0", f"    checkpoint: {{path: w.safetensors, sha256: {'ab' * 32}}}")
    asked = []
    recipe.load(project.write("r.yaml", text), lambda file: asked.append(file) or "ab" * 32)
    assert asked == [path]


def test_an_onnx_source_is_taken_as_it_is(project, good):
    project.write("m.onnx", b"graph")
    start, end = good.index("  pytorch"), good.index("export:")
    text = good[:start] + "  onnx: {path: m.onnx}\n\n" + good[end:]
    assert project.refused(
        text.replace("symbolics: {}", "symbolics: {'a::b': {decompose: 'nets.resnet:resnet50'}}")
    ) == (
        "r.yaml:10:3: export: 'exporter' has no meaning for an onnx model\n"
        "    hint: the file is taken as it is; remove it\n"
        "r.yaml:21:1: 'symbolics' has no meaning for an onnx model\n"
        "    hint: the file is taken as it is; remove it"
    )
    text = text.replace("  exporter: dynamo                           # dynamo (torch.export) or torchscript\n", "")
    assert project.load(text.replace("opset: 18", "opset: 11")).recipe.export.opset == 11


def test_an_opset_that_the_installed_onnxruntime_can_not_read(project, good, monkeypatch):
    newer = good.replace("opset: 18", "opset: 27")
    monkeypatch.setattr(distributions, "versions", lambda _: {"onnxruntime-gpu": "1.31.1"})
    assert project.refused(newer) == (
        "r.yaml:14:10: export.opset: onnxruntime-gpu 1.31.1 can't read opset 27\n"
        "    hint: lower it to 26, or install a newer onnxruntime"
    )
    assert project.load(newer.replace("27", "26")).recipe.export.opset == 26
    assert "can't read" not in project.refused(newer.replace("exporter: dynamo", "exporter: torchscript"))
    project.write("m.onnx", b"graph")
    file = newer.replace("  exporter: dynamo                           # dynamo (torch.export) or torchscript\n", "")
    file = file[: file.index("  pytorch")] + "  onnx: {path: m.onnx}\n\n" + file[file.index("export:") :]
    assert project.refused(file) == (
        "r.yaml:7:3: model.onnx: onnxruntime-gpu 1.31.1 can't read opset 27\n"
        "    hint: convert the file to opset 26 (onnx.version_converter), or install a newer onnxruntime"
    )
    monkeypatch.setenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
    assert project.load(newer)
    monkeypatch.delenv("ALLOW_RELEASED_ONNX_OPSET_ONLY")
    for version in ("1.32.0", "2.0", "absent", "1"):  # nothing is known of these
        monkeypatch.setattr(distributions, "versions", lambda _, version=version: {"onnxruntime": version})
        assert project.load(newer)


def test_what_is_said_of_onnxruntime_is_so():
    version, opset = disk_rules.READS
    found = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    assert not sessions.refusal(sessions.tiny_model(opset=opset)) or found < version
    assert sessions.refusal(sessions.tiny_model(opset=opset + 1)) or found > version


def test_all_problems_of_all_recipes_come_at_once(project, good):
    project.write("a.yaml", good)
    project.write("b.yaml", good.replace("runs: 100", "runs: 0"))
    project.write("folder/x.txt", "")
    assert project.refused(paths=("a.yaml", "b.yaml", "bb.yml", "folder")) == (
        "b.yaml:3:7: name: 'resnet50' is the name of a.yaml, too\n"
        "    hint: give each recipe its own name\n"
        "b.yaml:36:31: benchmark.runs: must be at least 1, found 0\n"
        "bb.yml: no such file\n"
        "    hint: did you mean 'b.yaml'?\n"
        "folder: a folder, not a recipe\n"
        "    hint: give a file, such as folder/*.yaml"
    )


def test_names_that_differ_in_capitals_are_one_folder_on_some_systems(project, good):
    project.write("a.yaml", good)
    project.write("b.yaml", good.replace("name: resnet50", "name: ResNet50"))
    assert "'ResNet50' is the name of a.yaml, too" in project.refused(paths=("a.yaml", "b.yaml"))


def test_a_recipe_given_twice_is_loaded_once(project, good):
    path = project.write("a.yaml", good)
    assert [one.path for one in recipe.load_all([path, path.parent / "." / "a.yaml"])] == [path]


def test_paths_are_shown_as_they_were_typed(project, good, monkeypatch):
    project.write("recipes/a.yaml", good.replace("opset: 18", "opset: 17"))
    monkeypatch.chdir(project.root / "recipes")
    for typed in ("a.yaml", "../recipes/a.yaml"):
        with pytest.raises(UserError) as caught:
            recipe.load(Path(typed))
        assert str(caught.value).startswith(f"{typed}:14:10: export.opset:")


def test_the_root_is_the_nearest_marked_folder(tmp_path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/.git").touch()  # a worktree's is a file
    assert recipe.project_root(tmp_path / "a/b/c/r.yaml") == tmp_path / "a"
    (tmp_path / "a/b/pyproject.toml").touch()
    assert recipe.project_root(tmp_path / "a/b/c/../c/r.yaml") == tmp_path / "a/b"


def test_resolve_keeps_absolute_paths(tmp_path):
    assert recipe.resolve(tmp_path, "a/../w.bin") == tmp_path / "w.bin"
    assert recipe.resolve(tmp_path, "/w.bin") == Path("/w.bin")


def test_a_good_recipe_loads_nothing_heavy(project, good):
    path = project.write("r.yaml", good)
    heavy = "{'torch', 'onnx', 'numpy', 'onnxruntime', 'jsonschema', 'onnxscript', 'jinja2'}"
    code = f"import sys; from pathlib import Path; from onnxbuild import recipe; recipe.load(Path({str(path)!r})); "
    code += f"print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
