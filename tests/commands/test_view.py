"""`onnxbuild view`, with Netron's own server, asked as a browser asks it."""

from __future__ import annotations

import re
import selectors
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import onnx
import pytest
from small import small
from workspace import Workspace

from onnxbuild.store.store import LocalStore


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    made = small(Workspace.make(tmp_path_factory.mktemp("view") / "project"))
    made.run("run", "small.yaml")
    return made


@contextmanager
def served(workspace: Workspace, *arguments: str):
    """The command, running: where it serves and what it says; ended by Ctrl-C afterwards."""
    pytest.importorskip("netron")
    command, environment = workspace.command("view", "--no-browser", *arguments)
    process = subprocess.Popen(
        command, cwd=workspace.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        lines = _lines(process)
        yield re.search(r"at (http://localhost:\d+) ", lines[1])[1], lines[0]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (130, "", "")
    finally:
        process.kill()
        process.communicate()


def _lines(process: subprocess.Popen) -> list[str]:
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        assert waiting.select(60), "nothing was said within a minute"
    return [process.stdout.readline(), process.stdout.readline()]


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def test_the_published_model(built):
    with served(built, "small.yaml") as (url, said):
        assert b"<title>Netron</title>" in (page := fetched(url))
        assert b'<meta name="file" content="/data/model.onnx">' in page
        assert fetched(f"{url}/data/model.onnx") == (built.root / "build/small/model.onnx").read_bytes()
        assert fetched(f"{url}/data/model.onnx.data") == (built.root / "build/small/model.onnx.data").read_bytes()
    assert said == f"small: {built.root / 'build/small/model.onnx'}\n"


def test_a_stages_graph_with_its_weights_from_the_store(built):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    with served(built, "small.yaml", "--stage", "export", "--port", str(port)) as (url, said):
        assert url.endswith(f":{port}")
        assert b'<meta name="file" content="/data/small-export.onnx">' in fetched(url)
        model = onnx.load_model_from_string(fetched(f"{url}/data/small-export.onnx"))
        (weight,) = model.graph.initializer
        location = {entry.key: entry.value for entry in weight.external_data}["location"]
        assert len(fetched(f"{url}/data/{location}")) == 16 * 32 * 4
        with pytest.raises(urllib.error.HTTPError):
            fetched(f"{url}/data/../store.json")
        busy = built.run("view", "small.yaml", "--no-browser", "--port", str(port), code=2).err
    assert [node.op_type for node in model.graph.node] == ["Identity", "MatMul", "Relu"]
    assert said == "small: export\n"
    assert f"nothing can be served at port {port}: Address already in use" in busy
    assert "give --port another number, or leave it out" in busy


def test_an_edited_recipe_shows_what_was_last_built_and_any_file_is_taken(edited):
    edited.replace("small.yaml", "eliminate_identity", "eliminate_deadend")
    with served(edited, "small.yaml", "--stage", "optimize/1-onnxoptimizer") as (_, said):
        pass
    assert said == "small: optimize/1-onnxoptimizer, as it was last built: it is not up to date\n"
    with served(edited, "m.onnx") as (url, said):
        assert fetched(f"{url}/data/m.onnx") == (edited.root / "m.onnx").read_bytes()
    assert said == "m.onnx\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "m.onnx --stage export",
            "m.onnx is no recipe, and has no stages\n    hint: give a recipe's .yaml file, or leave",
        ),
        ("n.onnx", "n.onnx: no such file\n    hint: give a recipe, or a model's file such as build/<name>/model.onnx"),
        ("small.yaml --stage exprt", "small.yaml: no stage 'exprt'\n    hint: did you mean 'export'?"),
        (
            "small.yaml --stage package",
            "'package' gives no graph\n    hint: those that do: export, optimize/1-onnxoptimizer",
        ),
        ("small.yaml --port 70000", "'70000' is not a whole number from 1 to 65535"),
    ],
)
def test_wrong_arguments(built, arguments, said):
    assert said in built.run("view", *arguments.split(), code=2).err


def test_what_was_not_built(edited):
    (edited.root / "build/small/model.onnx").unlink()
    assert "build it first: onnxbuild run small.yaml" in edited.run("view", "small.yaml", code=2).err

    store = LocalStore(edited.root / ".onnxbuild", pytest.fail)
    key = next(one["key"] for one in edited.report("small")["stages"] if one["name"] == "export")
    store.path(store.any_trace(key).outcome.outputs["graph"]).unlink()
    said = edited.run("view", "small.yaml", "--stage", "export", code=2).err
    assert "the store holds no graph of export\n    hint: build it first" in said


def test_without_the_extra_it_says_how_to_get_it(built):
    """As where netron is not installed: an import finds nothing."""
    code = "import sys; sys.modules['netron'] = None; from onnxbuild import cli; sys.exit(cli.main(sys.argv[1:]))"
    _, environment = built.command()
    done = subprocess.run(
        [sys.executable, "-c", code, "view", "m.onnx"],
        cwd=built.root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "the package 'netron' is not installed\n    hint: pip install 'onnxbuild[view]'" in done.stderr
