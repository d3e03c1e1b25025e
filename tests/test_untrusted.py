"""Input of anybody's: names, paths, models, weights and data that mean harm reach nothing, and are refused in a sentence."""

from __future__ import annotations

import argparse
import contextlib
import html.parser
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from workspace import Ran, Workspace

from onnxbuild.errors import StageError, UserError

SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "\"><img src=x onerror=document.title='owned'>'"
MARKDOWN = "y | # h\n# heading\n```\n**b** [l](javascript:alert) @all $x$ %% --> ]) end `c` a/b"
TERMINAL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnp\u2066"

RECIPE = """\
version: 1
name: {name}
model: {{onnx: {{path: {path}}}}}
export: {{opset: 17, inputs: {{x: {{dtype: float32, shape: [2, 4]}}}}, outputs: [y]}}
"""
GOOD = '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }'


def parsed(text: str = GOOD) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def raw(text: str) -> set[str]:
    """Characters that a terminal may take for orders, or that show a text in another order than it has."""
    return {c for c in text if not c.isprintable() and c not in "\n\t"}


def is_a_sentence(ran: Ran) -> None:
    """Whatever went wrong was said in words, not by a traceback, but for the end of a stage's log, which is quoted."""
    words = "\n".join(line for line in ran.text.splitlines() if not line.startswith("  │"))
    assert "Traceback" not in words and "bug in onnxbuild" not in words, words
    assert raw(ran.text) == set()


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


# ---- names


NAMES = [
    "../../x", "..", ".", "a/b", "a/../../b", "/abs", "~", "~root", "-rf", ".hidden", "",  # paths of POSIX
    "a\\b", "..\\x", "C:x", "C:\\x", "\\\\host\\share", "a:stream", "CON", "con", "nul.txt", "Aux", "COM1", "lpt9.onnx",
    "x.", "x..", "x ", " x",  # and of Windows, which also drops what a name ends in
    "a\nb", "a\tb", "\u202ex", "é", "a" * 201, "a" * 100_000, "$(id)", "a;b", "*", "a?",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:20]))
def test_a_name_that_is_no_plain_folder_is_refused(workspace, name):
    from onnxbuild import recipe

    path = workspace.write("r.yaml", RECIPE.format(name=json.dumps(name), path="m.onnx"))
    onnx.save(parsed(), workspace.root / "m.onnx")

    with pytest.raises(UserError) as caught:
        recipe.load(path)

    text = str(caught.value)
    assert f"{path}:2:7: name: " in text
    assert len(text) < 1000 + 200


def test_a_zero_byte_in_a_name_or_path_is_refused_in_words(workspace):
    workspace.write("r.yaml", RECIPE.format(name='"a\\0b"', path='"m\\0.onnx"'))

    ran = workspace.run("run", "r.yaml", code=2)

    is_a_sentence(ran)
    assert ran.err.count("the text holds U+0000") == 2
    assert [path.name for path in workspace.root.iterdir()] != ["build"]


@pytest.mark.parametrize("name", ["console", "con-1", "nullable", "com10", "a.b", "x", "0", "A" * 200])
def test_a_name_that_only_looks_like_a_trick_is_taken(workspace, name):
    from onnxbuild import recipe

    onnx.save(parsed(), workspace.root / "m.onnx")
    assert recipe.load(workspace.write("r.yaml", RECIPE.format(name=f'"{name}"', path="m.onnx"))).recipe.name == name


def test_hostile_texts_of_a_recipe_do_not_reach_the_terminal(workspace):
    text = RECIPE.format(name="a", path=json.dumps(f"../m{TERMINAL}.onnx"))
    workspace.write(
        "r.yaml", text.replace("[y]", json.dumps([f"y{TERMINAL}"])) + json.dumps(f"key{TERMINAL}") + ": 1\n"
    )

    ran = workspace.run("run", "r.yaml", code=2)

    is_a_sentence(ran)
    assert ran.err.count("cannot be printed") >= 3


@pytest.mark.parametrize("mark", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
def test_marks_that_turn_a_text_around_are_refused_and_other_marks_are_not(workspace, mark):
    """What is shown would not be what is built (https://trojansource.codes); joiners and the marks of a language are."""
    from onnxbuild import recipe

    onnx.save(parsed(), workspace.root / "m.onnx")
    text = RECIPE.format(name="r", path="m.onnx") + "description: "
    with pytest.raises(UserError, match=f"the text holds U\\+{ord(mark):04X}, which cannot be printed"):
        recipe.load(workspace.write("r.yaml", f"{text}a{mark}b\n"))

    recipe.load(workspace.write("r.yaml", f"{text}\u05d0\u200f \U0001f469\u200d\U0001f52c\n"))


@pytest.mark.skipif(os.name == "nt", reason="no such file names there")
def test_a_recipes_own_file_name_does_not_reach_the_terminal(workspace):
    workspace.write(f"r{TERMINAL}.yaml", "version: 1\n")

    for command in ("run", "check", "verify"):
        is_a_sentence(workspace.run(command, f"r{TERMINAL}.yaml", code=2))
    is_a_sentence(workspace.run("run", f"none{TERMINAL}.yaml", code=2))
    is_a_sentence(workspace.run("show", f"none{TERMINAL}.onnx", code=2))


def hostile_model() -> onnx.ModelProto:
    """Names that can be declared are markup; those that no recipe states are orders to a terminal, too."""
    inner = f"inner{TERMINAL}{SCRIPT}"
    nodes = [
        helper.make_node("Add", [SCRIPT, IMAGE], [inner], name=f"node{TERMINAL}", doc_string=TERMINAL),
        helper.make_node("Mul", [inner, f"weight{TERMINAL}{IMAGE}"], [MARKDOWN]),
    ]
    shape = [f"axis{TERMINAL}{SCRIPT}", 4]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (SCRIPT, IMAGE)]
    outputs = [helper.make_tensor_value_info(MARKDOWN, TensorProto.FLOAT, shape)]
    weights = [numpy_helper.from_array(np.ones(4, np.float32), f"weight{TERMINAL}{IMAGE}")]
    graph = helper.make_graph(nodes, f"graph{TERMINAL}{SCRIPT}", inputs, outputs, weights, TERMINAL)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name=f"{TERMINAL}{SCRIPT}")
    model.ir_version = 8
    helper.set_model_props(model, {f"key{TERMINAL}": f"{SCRIPT}{TERMINAL}"})
    return model


def hostile_recipe(name: str, **changes: object) -> str:
    tensor = {"dtype": "float32", "shape": [2, 4]}
    export = {
        "opset": 17,
        "inputs": {SCRIPT: tensor, IMAGE: tensor},
        "outputs": [MARKDOWN],
        "dynamic_axes": {SCRIPT: {"0": "n"}, IMAGE: {"0": "n"}, MARKDOWN: {"0": "n"}},
    }
    text = f"{SCRIPT}{IMAGE}{MARKDOWN}"
    return json.dumps(
        {"version": 1, "name": name, "description": text, "model": {"onnx": {"path": "m.onnx"}}, "export": export}
        | {"optimize": [{"onnxoptimizer": ["eliminate_nop_cast"]}], "benchmark": {"runs": 2}}
        | changes
    )


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[Workspace, Ran]:
    """Recipes of one hostile model: built, and failed with its names in the failure."""
    workspace = Workspace.make(tmp_path_factory.mktemp("hostile") / "project")
    root = workspace.root
    onnx.save(hostile_model(), root / "m.onnx")
    workspace.write("good.yaml", hostile_recipe("good"))
    strict = {
        "outputs": {MARKDOWN: {"rtol": 0, "atol": 0}},
        "cases": {"c": {"data": {SCRIPT: {"normal": {"std": 1e30}}}}},
    }
    workspace.write("strict.yaml", hostile_recipe("strict", parity=strict))
    wrong = json.loads(hostile_recipe("wrong"))
    wrong["export"]["outputs"] = [f"{MARKDOWN}{SCRIPT}"]
    wrong["export"]["dynamic_axes"].pop(MARKDOWN)
    workspace.write("wrong.yaml", json.dumps(wrong))
    return workspace, workspace.run("run", "--keep-going", "good.yaml", "strict.yaml", "wrong.yaml", code=1)


def test_no_name_of_a_model_is_an_order_to_the_terminal(reported):
    workspace, ran = reported

    is_a_sentence(ran)
    assert workspace.report("good")["status"] == "done"
    for command in ("show", "verify"):
        is_a_sentence(workspace.run(command, "build/good/model.onnx" if command == "show" else "good.yaml"))
    for command in (
        ["run", "good.yaml"],
        ["verify", "--rebuild", "good.yaml"],
        ["plan", "good.yaml"],
        ["graph", "good.yaml"],
    ):
        is_a_sentence(workspace.run(*command, code=None))


def test_the_reports_json_holds_the_names_as_they_are(reported):
    workspace, _ = reported
    report = workspace.report("good")

    assert {value["name"] for graph in report["graphs"] for value in graph["inputs"]} == {SCRIPT, IMAGE}
    assert {row["output"] for row in report["parity"]} == {MARKDOWN}
    assert "\x1b" not in workspace.read("build/good/report.json")
    assert not any("proves little" in note for note in report["notes"]), "a slash in a name is a letter like others"


@pytest.mark.parametrize("name", ["good", "strict", "wrong"])
def test_the_page_shows_names_and_runs_nothing(reported, name):
    page = Page(reported[0].read(f"build/{name}/report.html"))

    assert SCRIPT in page.text
    assert not page.tags & {"script", "img", "iframe", "object", "embed", "link", "base", "form", "meta http-equiv"}
    assert not any(attribute.startswith("on") for attribute in page.attributes)
    assert not raw(page.text), "no marks that turn a text around, either"


@pytest.mark.parametrize("name", ["good", "strict", "wrong"])
def test_the_markdown_shows_names_as_names(reported, name):
    text = reported[0].read(f"build/{name}/report.md")
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)

    assert "<script" not in outside and "<img" not in outside and "@all" not in outside
    assert not re.search(r"(?m)^# heading", outside)
    assert not raw(text)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_runs_no_script_of_a_report(reported, tmp_path):
    def title_of(page: Path) -> str:
        """What the document's title is once a browser has shown the page."""
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        done = subprocess.run(
            [CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, check=False
        )
        assert "<html" in done.stdout, done.stderr
        return re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]

    naive = tmp_path / "naive.html"
    naive.write_text(f"<!doctype html><html><title>t</title><p>{SCRIPT}</p></html>")

    assert title_of(naive) == "owned", "this browser does run scripts"
    for name in ("good", "strict"):
        assert name in title_of(reported[0].root / f"build/{name}/report.html")


# ---- YAML


def heavy_yaml() -> dict[str, str]:
    million = "".join(f"k{n:x}:\n" for n in range(1_000_000))
    assert len(million) > 1 << 20
    return {
        "a million keys": million,
        "as many keys as fit": million[: (1 << 20) - 10],
        "the same key over and over": "a: 1\n" * 200_000,
        "keys that differ at their end": "".join(f"{'k' * 200}{n}: 1\n" for n in range(5000)),
        "a million commas": "a: [" + "," * 1_000_000 + "]",
        "numbers without end": "a: " + "9" * 1_000_000,
        "one long key": "k" * 1_000_000 + ": 1",
        "escapes": 'a: "' + "\\e" * 500_000 + '"',
        "quotes": "'" * 1_000_000,
        "anchors": "".join(f"a{n}: &a{n} x\n" for n in range(60_000)),
        "comments": "# c\n" * 200_000,
        "documents": "--- \n" * 200_000,
        "merge keys": "a: &a {b: 1}\n" + "c: {<<: [" + "*a, " * 50_000 + "*a]}\n",
        "blanks": " " * 1_000_000,
        "tags": "a: " + "!!x " * 100_000,
    }


@pytest.mark.parametrize("kind", heavy_yaml())
def test_yaml_of_great_size_is_refused_at_once(workspace, kind):
    from onnxbuild import recipe

    path = workspace.write("r.yaml", "")
    path.write_text(heavy_yaml()[kind])
    begun = time.perf_counter()

    with pytest.raises(UserError) as caught:
        recipe.load(path)

    assert time.perf_counter() - begun < 10, "about 1 s on an idle machine"
    assert len(caught.value.problems) < 200_000
    assert not raw(str(caught.value))


# ---- ONNX files


def cyclic() -> onnx.ModelProto:
    model = parsed()
    model.graph.node[0].input[0] = "b"
    model.graph.node.append(helper.make_node("Add", ["y", "x"], ["b"]))
    return model


def nested(depth: int) -> onnx.ModelProto:
    leaf = graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["o"])], "g", [], [helper.make_empty_tensor_value_info("o")]
    )
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["o"], then_branch=graph, else_branch=leaf)
        graph = helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("o")])
    model = parsed()
    model.graph.node[0].attribute.append(helper.make_attribute("then_branch", graph))
    return model


def changed(change) -> onnx.ModelProto:
    model = parsed()
    change(model)
    return model


def weight(**fields: object) -> onnx.ModelProto:
    model = parsed(GOOD.replace("Relu(x)", "Mul(x, w)"))
    model.graph.initializer.append(TensorProto(**{"name": "w", "data_type": 1, "dims": [4], **fields}))
    return model


BODY = parsed().SerializeToString()
MODELS = {
    "garbage": b"\x00\xff" * 1000,
    "text": b"#!/bin/sh\nrm -rf /\n",
    "html": SCRIPT.encode(),
    "truncated": BODY[: len(BODY) // 2],
    "truncated-by-a-byte": BODY[:-1],
    "zeros": bytes(100_000),
    "deep-message": b"\x0a\x02" * 50_000,
    "cycle": cyclic(),
    "itself": changed(lambda m: m.graph.node[0].input.__setitem__(0, "y")),
    "missing-input": changed(lambda m: m.graph.node[0].input.__setitem__(0, "nowhere")),
    "no-input-value": changed(lambda m: m.graph.input.pop()),
    "no-output-value": changed(lambda m: m.graph.output.pop()),
    "no-nodes": changed(lambda m: m.graph.node.pop()),
    "no-opset": changed(lambda m: m.opset_import.pop()),
    "opset-of-another-age": changed(lambda m: setattr(m.opset_import[0], "version", 9_999)),
    "ir-of-another-age": changed(lambda m: setattr(m, "ir_version", 2**31)),
    "unknown-operator": changed(lambda m: setattr(m.graph.node[0], "op_type", f"Evil{TERMINAL}")),
    "unknown-domain": changed(lambda m: setattr(m.graph.node[0], "domain", f"evil{TERMINAL}")),
    "unknown-type": changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 4711)),
    "no-type": changed(lambda m: m.graph.input[0].ClearField("type")),
    "twice-the-same-value": changed(lambda m: m.graph.node.append(m.graph.node[0])),
    "recursive-function": changed(
        lambda m: (
            m.opset_import.append(helper.make_opsetid("f", 1)),
            setattr(m.graph.node[0], "domain", "f"),
            m.functions.append(
                helper.make_function(
                    "f", "Relu", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"], domain="f")], m.opset_import
                )
            ),
        )
    ),
    "deep-subgraphs": nested(20),
    "weight-without-data": weight(dims=[2**40]),
    "weight-of-no-size": weight(dims=[-4], raw_data=bytes(16)),
    "weight-past-counting": weight(dims=[2**62, 2**62], raw_data=bytes(16)),
    "weight-too-short": weight(raw_data=bytes(3)),
    "weight-of-no-type": weight(data_type=4711, raw_data=bytes(16)),
    "weight-at-no-place": weight(data_location=1),
}
# These are models to onnx and onnxruntime, or become ones: what matters is that they are judged, in words.
HARMLESS: set[str] = set()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Workspace, Ran]:
    """Every bad model through the front door, in one run."""
    workspace = Workspace.make(tmp_path_factory.mktemp("models") / "project")
    root = workspace.root
    for name, model in MODELS.items():
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (root / f"{name}.onnx").write_bytes(data)
        workspace.write(f"{name}.yaml", RECIPE.format(name=name, path=f"{name}.onnx"))
    command = ("run", "--keep-going", *(f"{name}.yaml" for name in MODELS))
    return workspace, workspace.run(*command, code=1)


@pytest.mark.parametrize("name", MODELS)
def test_a_broken_model_is_a_failed_stage_in_words(models, name):
    report = models[0].report(name)

    assert report["status"] == "failed" and report["artifacts"] == []
    assert not (models[0].root / f"build/{name}/model.onnx").exists()
    for failure in report["failures"]:
        assert failure["fact"] and "Traceback" not in failure["fact"], failure["fact"]
        assert "killed by" not in failure["fact"], "a library fell over it"
        assert not re.match(r"\w*(Error|Exception): ", failure["fact"]), "a library's error alone is no message"


def test_broken_models_do_not_speak_to_the_terminal(models):
    is_a_sentence(models[1])


@pytest.mark.parametrize("name", MODELS)
def test_a_broken_model_can_be_shown_or_is_refused(models, name):
    from onnxbuild.commands import show

    options = argparse.Namespace(model=models[0].root / f"{name}.onnx", lines=False, stage=None, json=False)
    with contextlib.suppress(UserError, StageError), contextlib.redirect_stdout(io.StringIO()) as shown:
        show.run(options)

    assert not raw(shown.getvalue())


def external(folder: Path, location: str, **entries: str) -> None:
    model = weight(data_location=1)
    for key, value in {"location": location, **entries}.items():
        model.graph.initializer[0].external_data.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())


PLACES = {
    "absolute": ("{outside}", "lies outside the model's folder"),
    "above": ("../secret.bin", "lies outside the model's folder"),
    "above by a detour": ("inner/../../../secret.bin", "lies outside the model's folder"),
    "Windows' way": ("..\\secret.bin", "is not there"),
    "link": ("link.bin", "outside the model's folder"),
    "link within": ("link-within.bin", "is a symbolic link"),
    "linked folder": ("linked/secret.bin", "outside the model's folder"),
    "hard link": ("hard.bin", "hard link"),
    "folder": ("inner", "is a folder, not a file"),
    "pipe": ("pipe", "is a named pipe, not a file"),
    "device": ("/dev/zero", "lies outside the model's folder"),
    "process": ("/proc/self/environ", "lies outside the model's folder"),
    "nowhere": ("none.bin", "is not there"),
    "empty": ("", "lies outside the model's folder"),
    "the folder itself": (".", "is a folder, not a file"),
    "a zero byte": ("a\0b", "can't be read"),
    "too long a name": ("a" * 300, "can't be read"),
    "too long a path": ("a/" * 500_000, "is at a path of 1,000,000 characters"),
    "escapes": (f"a{TERMINAL}", "is not there"),
}


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
@pytest.mark.parametrize(("location", "fact"), PLACES.values(), ids=PLACES)
def test_external_data_lies_beside_the_model_or_is_refused(tmp_path, location, fact):
    """By the export stage itself; the front door is tried with a few of them below."""
    from onnxbuild.sources import onnx as source

    folder = traps(tmp_path)
    external(folder, location.format(outside=tmp_path / "secret.bin"))

    with pytest.raises(StageError) as caught:
        source._read(folder / "m.onnx")

    assert fact in caught.value.fact
    assert not raw(caught.value.fact)


def traps(base: Path) -> Path:
    """A model's folder from which ways lead out."""
    folder = base / "project"
    (folder / "inner").mkdir(parents=True)
    for path in (base / "secret.bin", folder / "within.bin", base / "other.bin"):
        path.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (folder / "link.bin").symlink_to(base / "secret.bin")
    (folder / "link-within.bin").symlink_to("within.bin")
    (folder / "linked").symlink_to(base)
    os.link(base / "other.bin", folder / "hard.bin")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
def test_no_external_data_from_outside_comes_through_the_front_door(tmp_path):
    folder = traps(tmp_path)
    (folder / "pyproject.toml").touch()
    workspace = Workspace(folder)
    workspace.write("r.yaml", RECIPE.format(name="r", path="m.onnx"))
    secret = (tmp_path / "secret.bin").read_bytes()
    for location in ("../secret.bin", "link.bin", "hard.bin"):
        external(folder, location)

        is_a_sentence(workspace.run("run", "r.yaml", code=1))

        assert {stage["name"] for stage in workspace.report("r")["stages"] if stage["status"] == "failed"} == {
            "reference"
        }
        kept = [path for path in (folder / ".onnxbuild").rglob("*") if path.is_file() and secret in path.read_bytes()]
        assert kept == []


@pytest.mark.parametrize(
    ("entries", "fact"),
    [
        ({"offset": "-16"}, "offset"),
        ({"offset": "999999999999"}, "cut short"),
        ({"offset": "1e3"}, "not a number"),
        ({"length": "4"}, "4 bytes where type and shape"),
        ({"length": "99999999999999999999"}, "bytes where type and shape"),
        ({"offset": "9" * 5000}, "not a number"),
    ],
)
def test_external_data_at_an_impossible_place_is_refused(tmp_path, entries, fact):
    from onnxbuild.graphs import modelfile

    (tmp_path / "w.bin").write_bytes(bytes(16))
    external(tmp_path, "w.bin", **entries)
    with pytest.raises(StageError, match=fact):
        modelfile.load(tmp_path / "m.onnx")


# ---- weights and data


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype: str = "F32", shape: object = (4,), offsets: object = (0, 16), name: str = "w") -> bytes:
    return json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def weights(trap: Path) -> dict[str, bytes]:
    """Files that claim to be a checkpoint of one float32[4] named "w"."""
    evil = pickle.dumps({"w": Trap(trap)}, protocol=2)  # the one that torch writes
    return {
        "pickle": evil,
        "old-pickle": pickle.dumps(Trap(trap), protocol=0),
        "new-pickle": pickle.dumps(Trap(trap), protocol=5),
        "zip": zipped({"archive/data.pkl": evil, "archive/version": b"3", "archive/byteorder": b"little"}),
        "zip-slip": zipped({"../../../../tmp/slip": b"x", "archive/data.pkl": evil, "archive/version": b"3"}),
        "script-archive": zipped({"a/data.pkl": evil, "a/constants.pkl": evil, "a/version": b"3", "a/code/x.py": b"1/0"}),
        "offsets-beyond": safetensors(entry(offsets=(0, 1 << 40)), bytes(16)),
        "offsets-reversed": safetensors(entry(offsets=(16, 0)), bytes(16)),
        "offsets-negative": safetensors(entry(offsets=(-16, 0)), bytes(16)),
        "shape-of-another-size": safetensors(entry(shape=(1 << 20,)), bytes(16)),
        "shape-past-counting": safetensors(entry(shape=(1 << 62, 1 << 62)), bytes(16)),
        "type-unknown": safetensors(entry(dtype="EVIL"), bytes(16)),
        "header-not-json": safetensors(b"{" + b"[" * 1000, bytes(16)),
        "header-nested": safetensors(b'{"a":' * 5000, bytes(16)),
        "header-of-great-length": safetensors(b"{}", b"", length=(1 << 63) - 1),
        "header-longer-than-the-file": safetensors(b"{}", b"", length=1 << 20),
        "names-like-orders": safetensors(entry(name=f"{TERMINAL}{SCRIPT}"), bytes(16)),
        "empty": b"",
    }  # fmt: skip


NET = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return x * self.w


def raising():
    raise RuntimeError("\\x1b[2J\\x9b31m<script>document.title='owned'</script>\\u202e")
"""
CHECKPOINT = """\
version: 1
name: {name}
model: {{pytorch: {{factory: "net:{factory}"{checkpoint}}}}}
export: {{exporter: torchscript, opset: 17, inputs: {{x: {{dtype: float32, shape: [2, 4]}}}}, outputs: [y]}}
"""


FRONT = ("pickle", "zip", "offsets-beyond", "names-like-orders")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[Workspace, Ran, Path]:
    workspace = Workspace.make(tmp_path_factory.mktemp("checkpoints") / "project")
    root = workspace.root
    workspace.write("net.py", NET)
    trap = root / "sprung"
    for name in FRONT:
        (root / f"{name}.bin").write_bytes(weights(trap)[name])
        declared = f", checkpoint: {{path: {name}.bin}}"
        workspace.write(f"{name}.yaml", CHECKPOINT.format(name=name, factory="Net", checkpoint=declared))
    workspace.write("raising.yaml", CHECKPOINT.format(name="raising", factory="raising", checkpoint=""))
    recipes = [f"{name}.yaml" for name in (*FRONT, "raising")]
    return workspace, workspace.run("run", "--keep-going", *recipes, code=1), trap


@pytest.mark.parametrize("name", FRONT)
def test_a_hostile_checkpoint_runs_nothing_through_the_front_door(checkpoints, name):
    workspace, _, trap = checkpoints
    (failure,) = [one for one in workspace.report(name)["failures"] if one["stage"] == "reference"]

    assert not trap.exists()
    assert f"{name}.bin" in failure["fact"]
    if name in ("pickle", "zip"):
        assert "a pickle that may call code is not opened" in failure["fact"]
        assert "safetensors" in failure["hint"]


@pytest.mark.parametrize("name", [name for name in weights(Path("x")) if name != "names-like-orders"])
@pytest.mark.filterwarnings("ignore")  # torch's, of archives
def test_a_hostile_checkpoint_is_refused_in_words(tmp_path, name):
    from onnxbuild.sources.pytorch import loading

    path = tmp_path / "w.bin"
    path.write_bytes(weights(tmp_path / "sprung")[name])

    with pytest.raises(StageError, match=r"w\.bin"):
        loading.read_state_dict(path)

    assert not (tmp_path / "sprung").exists()


def test_checkpoints_and_errors_do_not_speak_to_the_terminal(checkpoints):
    workspace, ran, _ = checkpoints

    is_a_sentence(ran)
    page = Page(workspace.read("build/raising/report.html"))
    assert "owned" in page.text and "script" not in page.tags
    assert not raw(page.text)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class Zeros(io.RawIOBase):
    """A stream of zeros, to be packed without having them all."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        size = min(len(buffer), self.left)
        buffer[:size] = bytes(size)
        self.left -= size
        return size


def bomb(path: Path, size: int) -> None:
    """A .npz whose one array unpacks to `size` bytes."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (size // 16, 4)})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("x.npy", "w", force_zip64=True) as entry_,
    ):
        entry_.write(head.getvalue())
        shutil.copyfileobj(Zeros(size), entry_, 1 << 20)


def data(trap: Path) -> dict[str, bytes]:
    good = np.zeros((2, 4), np.float32)
    lying = npy(good).replace(b"(2, 4)", b"(2**40, 4)".ljust(6)[:6])
    return {
        "objects": zipped({"x.npy": _objects(trap)}),
        "pickle": pickle.dumps({"x": Trap(trap)}),
        "no-array": zipped({"x.npy": b"not an array"}),
        "no-name": zipped({"y.npy": npy(good)}),
        "header-that-computes": zipped({"x.npy": lying}),
        "header-of-great-shape": zipped({"x.npy": npy(good).replace(b"(2, 4), }      ", b"(99999999999, 4), }"[:15])}),
        "an-array-alone": npy(good),
        "cut": zipped({"x.npy": npy(good)})[:-40],
        "flipped": bytes(b ^ (n == 60) * 0xFF for n, b in enumerate(zipped({"x.npy": npy(good)}))),
        "empty": b"",
        "text": SCRIPT.encode(),
    }


def _objects(trap: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap(trap)] * 8, dtype=object).reshape(2, 4), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("name", [*data(Path("x"))])
def test_hostile_arrays_are_refused_in_words_and_run_nothing(tmp_path, name):
    from onnxbuild.parity import samples as values

    trap = tmp_path / "sprung"
    (tmp_path / "x.npz").write_bytes(data(trap)[name])

    with pytest.raises(StageError) as caught:
        values.make(*FED, 0, tmp_path)

    assert not trap.exists()
    assert caught.value.fact.startswith("input 'x': ") and "x.npz" in caught.value.fact


FED = (
    {"x": {"dtype": "float32", "shape": [2, 4], "data": {"npz": {"path": "x.npz", "key": ""}}}},
    {"name": "example", "data": {}, "shapes": {"x": [2, 4]}, "dynamic": {"x": [0]}},
)


def test_a_file_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(workspace):
    """Through the front door, under a limit of memory that unpacking would pass."""
    bomb(workspace.root / "x.npz", (1 << 30) + (16 << 20))
    assert (workspace.root / "x.npz").stat().st_size < 32 << 20
    onnx.save(parsed(GOOD.replace("[2, 4]", "[n, 4]")), workspace.root / "m.onnx")
    text = RECIPE.format(name="r", path="m.onnx").replace("shape: [2, 4]", "shape: [2, 4], data: {npz: {path: x.npz}}")
    workspace.write("r.yaml", text.replace("outputs: [y]", "outputs: [y], dynamic_axes: {x: {0: n}, y: {0: n}}"))

    ran = workspace.run("run", "r.yaml", code=1)

    is_a_sentence(ran)
    assert "unpacks to 1,090,519,168 bytes, more than 1 GiB" in ran.text.replace("\n", " ")
    assert max(stage.get("peak_rss_bytes") or 0 for stage in workspace.report("r")["stages"]) < 1 << 30
