"""`tune` finds the nodes that were made to be fragile, says what each costs, and writes them into the recipe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from onnx import numpy_helper, parser, save
from workspace import REPOSITORY, Workspace

from onnxbuild.commands import tune
from onnxbuild.engine.sensitivity import Answer, Cost, LimitError, Search
from onnxbuild.engine.tuning import Measured, Node, Tuned
from onnxbuild.errors import UserError
from onnxbuild.graphs import nodes
from onnxbuild.passes import PASSES, excluding
from onnxbuild.recipe import load, patching, yaml_reader

GRAPH = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 32] x) => (float[N, 8] y) {
    [first] a = MatMul(x, w1)
    b = Relu(a)
    [second] c = MatMul(b, w2)
    d = Tanh(c)
    e = MatMul(d, w3)
    f = Relu(e)
    [fourth] h = MatMul(f, w4)
    i = Tanh(h)
    [fifth] y = MatMul(i, w5)
}
"""
RECIPE = """\
version: 1
name: net
model: {onnx: {path: m.onnx}}
export:
  opset: 17
  inputs: {x: {dtype: float32, shape: [2, 32]}}
  outputs: [y]
  dynamic_axes: {x: {0: N}, y: {0: N}}
  dims: {N: {min: 1, max: 8}}
optimize:
  # eight bits
  - quantize_dynamic: {}  # all of it
    parity: {outputs: {y: {sqnr: {min: 25}}}, reason: eight bits}
"""
OUT = """\
net, optimize[0].quantize_dynamic: fails, 21.7 × of what is allowed
  output 'y' is wrong at 9 of 9 cases

with 2 of 5 nodes as they are it passes, 52.1 % of what is allowed;
  without any one of them it does not; another list may be shorter

  node                        operator          left alone  all but it       size
  second                      MatMul                17.8 ×      20.1 ×   +2.58 kB
  fourth                      MatMul                20.1 ×      17.8 ×   +2.58 kB

8 measurements; errors are shares of what is allowed

--- a/net.yaml
+++ b/net.yaml
@@ -9,5 +9,5 @@
   dims: {N: {min: 1, max: 8}}
 optimize:
   # eight bits
-  - quantize_dynamic: {}  # all of it
+  - quantize_dynamic: {nodes_to_exclude: [second, fourth]}  # all of it
     parity: {outputs: {y: {sqnr: {min: 25}}}, reason: eight bits}

write it: onnxbuild tune net.yaml --write
"""


def fragile(root: Path) -> None:
    """Five layers; two of them have one weight so large that 8 bits leave nothing of the others."""
    rng = np.random.default_rng(0)
    made = parser.parse_model(GRAPH)
    for number, columns in enumerate((32, 32, 32, 32, 8), 1):
        weights = (rng.normal(size=(32, columns)) / np.sqrt(32)).astype(np.float32)
        weights[0, 0] = {2: 300, 4: 200}.get(number, weights[0, 0])
        made.graph.initializer.append(numpy_helper.from_array(weights, f"w{number}"))
    save(made, root / "m.onnx")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A project that was tuned once, its search killed half way, and what was printed then."""
    workspace = Workspace.make(tmp_path_factory.mktemp("tuned") / "project")
    fragile(workspace.root)
    workspace.write("net.yaml", RECIPE)
    command, environment = workspace.command("tune", "net.yaml", "-j", "1")
    with subprocess.Popen(
        command, cwd=workspace.root, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as going:
        assert going.stderr is not None
        for line in going.stderr:
            if "without second" in line:  # the third measurement
                os.kill(going.pid, signal.SIGKILL)
                break
    kept = len(list((workspace.root / ".onnxbuild/traces").rglob("*.json")))
    assert kept >= 8, "the source's four stages, and two measurements of three"
    return workspace, workspace.run("tune", "net.yaml"), kept


def traces(workspace: Workspace) -> int:
    return len(list((workspace.root / ".onnxbuild/traces").rglob("*.json")))


def test_it_names_the_layers_that_were_made_fragile_and_no_other(tuned):
    workspace, ran, _ = tuned
    assert ran.out == OUT
    assert "  5 nodes: about 10 measurements, some " in ran.err
    assert not (workspace.root / "build").exists(), "nothing is published"
    assert workspace.read("net.yaml") == RECIPE


def test_what_was_stopped_goes_on_where_it_was_and_a_second_time_runs_nothing(tuned):
    workspace, ran, kept = tuned
    after = traces(workspace)
    # reference, export, what proves it by both tolerances, the candidates; seven lists of a pass, a check and a parity
    assert after == 6 + 7 * 3 > kept
    assert workspace.run("tune", "net.yaml").out == ran.out
    by_name = workspace.run("tune", "net.yaml", "--pass", "quantize_dynamic").out
    assert by_name == ran.out.replace(" --write\n", " --pass quantize_dynamic --write\n")
    assert traces(workspace) == after


def test_as_json_it_is_of_the_published_schema(tuned):
    told = json.loads(tuned[0].run("tune", "net.yaml", "--json").out)
    jsonschema.validate(told, json.loads((REPOSITORY / "schemas/tune.schema.json").read_text()))
    assert told["outcome"] == "found" and [node["name"] for node in told["nodes"]] == ["second", "fourth"]
    assert told["patch"] in OUT


def test_written_it_builds_and_there_is_nothing_more_to_find(tuned, tmp_path):
    copy = tuned[0].copy(tmp_path / "copy")
    os.chmod(copy.root / "net.yaml", 0o640)
    failed = copy.run("run", "net.yaml", code=1)
    assert "hint: onnxbuild tune finds the nodes that 'quantize_dynamic' has to leave as they are" in failed.text
    assert copy.run("tune", "net.yaml", "--write").out.endswith("\nwritten: net.yaml\n")
    assert copy.read("net.yaml") == RECIPE.replace("{}  #", "{nodes_to_exclude: [second, fourth]}  #")
    assert (copy.root / "net.yaml").stat().st_mode & 0o777 == 0o640
    copy.run("run", "net.yaml")
    assert copy.built("net") == {"package"}, "the rest was measured"
    ran = copy.run("tune", "net.yaml")
    assert ran.out.startswith("net, optimize[0].quantize_dynamic: the gate passes as it is, 52.1 % of what is allowed;")


def test_of_more_nodes_than_may_be_measured_the_list_is_found_by_halves(tuned):
    ran = tuned[0].run("tune", "net.yaml", "--limit", "9")
    assert "with 2 of 5 nodes as they are" in ran.out and "[second, fourth]" in ran.out
    assert "without any one of them it does not" in ran.out
    stopped = tuned[0].run("tune", "net.yaml", "--limit", "4", code=None)
    assert "--limit was reached: a shorter list may do" in stopped.out and stopped.code == 0


def test_what_can_not_be_tuned_is_told(tuned, tmp_path):
    copy = tuned[0].copy(tmp_path / "copy")
    wrong = copy.run("tune", "net.yaml", "--pass", "float16", code=2)
    assert "net.yaml:10:1: optimize has no float16" in wrong.text
    assert "--pass names one of its own, of float16, quantize_static" in wrong.text
    copy.write("net.yaml", RECIPE.replace("sqnr: {min: 25}", "sqnr: {min: 1000}"))
    hopeless = copy.run("tune", "net.yaml", "--limit", "4", code=1)
    limit = "--limit was reached (5 nodes and 6 measurements): raise it, allow more under parity, or take the pass out"
    assert limit in hopeless.out
    only = RECIPE.replace("dynamic: {}", "dynamic: {nodes_to_quantize: [second]}")
    copy.write("net.yaml", only)
    none = copy.run("tune", "net.yaml", code=1)
    assert "no list that was measured passes (1 node and 3 measurements): allow more under parity, or" in none.out
    copy.write("net.yaml", only.replace("[second]}", "[second], nodes_to_exclude: [second]}"))
    nothing = copy.run("tune", "net.yaml", code=2).text
    assert "net.yaml:12:5: optimize: the graph has no node that quantize_dynamic would change" in nothing
    assert "hint: look at its lists of operators and nodes, or take it out" in nothing
    copy.write("net.yaml", only.replace("[second]", "[secnd]"))
    misspelt = copy.run("tune", "net.yaml", code=2).text
    assert "the graph has no node 'secnd'" in misspelt and "hint: did you mean 'second'?" in misspelt
    copy.write("net.yaml", RECIPE.split("optimize:", maxsplit=1)[0])
    none = copy.run("tune", "net.yaml", code=2)
    assert "it is for recipes with one of float16, quantize_static" in none.text


def test_the_first_of_two_passes_of_a_kind_is_named_by_its_number(tuned, tmp_path):
    copy = tuned[0].copy(tmp_path / "copy")
    of = lambda names: RECIPE.split("eight bits\n")[1].replace("{}  # all of it", f"{{nodes_to_quantize: {names}}}")
    copy.write(
        "net.yaml", RECIPE.split("  # eight bits\n", maxsplit=1)[0] + of("[first, second]") + of("[fourth, fifth]")
    )
    second = copy.run("tune", "net.yaml", code=2).text
    assert "net.yaml:13:5: optimize: parity/1-quantize_dynamic fails, which comes before the pass" in second
    assert "hint: tune that one first: --pass 1-quantize_dynamic" in second
    told = json.loads(copy.run("tune", "net.yaml", "--pass", "1-quantize_dynamic", "--json").out)
    assert [told["pass"], *(node["name"] for node in told["nodes"])] == ["optimize[0].quantize_dynamic", "second"]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_what_could_not_be_measured_is_no_measurement(tuned, tmp_path):
    """A process that was killed, as a machine without memory does, says nothing of any node."""
    copy = tuned[0].copy(tmp_path / "copy")
    damaged = max((copy.root / ".onnxbuild/traces").rglob("*.json"))
    damaged.write_bytes(damaged.read_bytes()[::-1])
    ran = copy.run("tune", "net.yaml")
    assert ran.out == OUT and ran.err.count("warning:") == 1 and str(damaged) in ran.err
    copy.write("net.yaml", RECIPE.replace("{}", "{per_channel: true}"))
    copy.env["ONNXBUILD_FAILPOINT"] = "write.begun@*.result"
    killed = copy.run("tune", "net.yaml", "--write", code=2)
    assert (
        "net.yaml:12:5: optimize: optimize/1-quantize_dynamic: the stage's process was killed by SIGKILL" in killed.text
    )
    assert "runs less at a time; then run it again: what was measured is kept" in killed.text
    assert not killed.out and "{per_channel: true}  #" in copy.read("net.yaml")


def test_a_recipe_that_can_not_be_patched_is_left_as_it_is(tuned, tmp_path):
    copy = tuned[0].copy(tmp_path / "copy")
    text = RECIPE.replace("optimize:", "parity: {outputs: &none {}}\noptimize:").replace("{}  #", "*none  #")
    copy.write("net.yaml", text)
    refused = copy.run("tune", "net.yaml", "--write", code=2)
    assert "net.yaml can't be patched: the recipe is not written so that it can be changed by itself" in refused.text
    assert "hint: write it by hand: nodes_to_exclude: [second, fourth]" in refused.text
    assert refused.out == OUT.partition("--- a/")[0], "what was found is told all the same"
    assert copy.read("net.yaml") == text

    copy.write("net.yaml", RECIPE)
    loaded = load(copy.root / "net.yaml")
    one = Measured(passed=False, error=None, bytes=None)
    found = Tuned(
        recipe="net",
        pass_="optimize[0].quantize_dynamic",
        option="nodes_to_exclude",
        outcome="found",
        plain=one,
        nodes=[Node("second", "MatMul", one, one, None)],
    )
    copy.write("net.yaml", RECIPE + "# edited meanwhile\n")
    with pytest.raises(UserError) as changed:
        tune._patched(loaded, found)
    assert changed.value.problems[0].hint == "run it again: what was measured is kept"
    assert copy.read("net.yaml") == RECIPE + "# edited meanwhile\n"


def test_a_patch_is_written_to_the_file_that_a_link_means_or_told_why_not(tuned, tmp_path):
    copy = tuned[0].copy(tmp_path / "copy")
    (copy.root / "net.yaml").unlink()
    copy.write("real/net.yaml", RECIPE)
    (copy.root / "net.yaml").symlink_to("real/net.yaml")
    copy.env["ONNXBUILD_CACHE"] = str(copy.root / ".onnxbuild")
    printed = copy.run("tune", "net.yaml", "--pass", "quantize_dynamic", "--limit", "99").out
    assert printed.endswith("\nwrite it: onnxbuild tune net.yaml --pass quantize_dynamic --limit 99 --write\n")
    assert copy.run("tune", "net.yaml", "--write").out.endswith("\nwritten: net.yaml\n")
    assert (copy.root / "net.yaml").is_symlink() and "[second, fourth]" in copy.read("real/net.yaml")
    loaded = load(copy.root / "net.yaml")
    shutil.rmtree(copy.root)
    with pytest.raises(UserError) as gone:
        tune._write(loaded, b"name: net")
    assert f"{loaded.path} can't be written: No such file" in gone.value.problems[0].fact
    assert gone.value.problems[0].hint == "apply the patch by hand, or let its folder be written"


def test_a_base_stays_as_it_is_and_the_list_goes_into_the_recipe(tuned, tmp_path):
    copy = tuned[0].copy(tmp_path / "copy")
    copy.write("common/base.yaml", RECIPE)
    copy.write("child.yaml", "base: common/base.yaml\nname: child  # mine")
    assert "a/child.yaml" in copy.run("tune", "child.yaml", "--write").out
    assert copy.read("common/base.yaml") == RECIPE
    assert copy.read("child.yaml") == (
        "base: common/base.yaml\nname: child  # mine\noptimize:\n"
        "  - quantize_dynamic: {nodes_to_exclude: [second, fourth]}\n"
        "    parity: {outputs: {y: {sqnr: {min: 25}}}, reason: eight bits}\n"
    )
    copy.run("run", "child.yaml")
    assert copy.built("child") == {"package"}, "keys know neither names nor bases"


def test_what_fails_before_the_pass_is_not_tuned(tuned, tmp_path):
    copy = tuned[0].copy(tmp_path / "copy")
    copy.write("net.yaml", RECIPE.replace("opset: 17", "opset: 18"))
    refused = copy.run("tune", "net.yaml", code=2)
    assert "net.yaml:12:5: optimize: export fails, " in refused.text and "which comes before the pass: " in refused.text


METRIC = """\
import numpy as np


def near(outputs, data):
    return (np.abs(outputs["y"] - data["exact"]).max(axis=1) < 0.3).mean()
"""


def test_a_metric_is_part_of_the_gate(tuned, tmp_path):
    """Parity allows anything; the metric does not, it alone decides."""
    import onnxruntime

    copy = tuned[0].copy(tmp_path / "copy")
    x = np.random.default_rng(1).normal(size=(100, 32)).astype(np.float32)
    (exact,) = onnxruntime.InferenceSession(str(copy.root / "m.onnx")).run(None, {"x": x})
    np.savez(copy.root / "val.npz", x=x, exact=exact)
    copy.write("metrics.py", METRIC)
    text = RECIPE.replace("{outputs: {y: {sqnr: {min: 25}}}, reason", "{atol: 1.0e+3, rtol: 0.5, reason")
    text += "parity: {allow_vacuous: true}\n"
    metric = 'metric: {function: "metrics:near", data: {npz: {path: val.npz, batch_size: 50}}, max_drop: 0.01}\n'
    copy.write("net.yaml", text + metric)
    told = json.loads(copy.run("tune", "net.yaml", "--json").out)
    assert told["plain"]["metric"] < 0.9 and told["tuned"]["metric"] > 0.98
    assert [node["name"] for node in told["nodes"]] == ["second", "fourth"]


OVERFLOWING = """
<ir_version: 8, opset_import: ["": 17]>
g (float[N, 8] x) => (float[N, 8] y) { [one] a = Mul(x, s) [big] b = Mul(a, a) [small] c = Mul(b, t) y = Tanh(c) }
"""


def test_float16_that_overflows(tmp_path):
    workspace = Workspace.make(tmp_path / "project")
    made = parser.parse_model(OVERFLOWING)
    for name, value in (("s", 1000.0), ("t", 1e-7)):
        made.graph.initializer.append(numpy_helper.from_array(np.full(8, value, np.float32), name))
    save(made, workspace.root / "m.onnx")
    text = RECIPE.replace("32]", "8]").replace("quantize_dynamic: {}", "float16: {}")
    for name in ("net.yaml", "old.yaml"):
        workspace.write(name, text.replace("sqnr: {min: 25}", "sqnr: {min: 40}"))
    first = workspace.run("tune", "net.yaml")
    workspace.env["ONNXBUILD_FAILPOINT"] = "write.begun@*.result"  # whatever is run now dies
    ran = workspace.run("tune", "net.yaml", "--write")
    assert "more than float16 holds" in ran.text
    assert ran.out.rpartition("\n\n")[0] == first.out.rpartition("\n\n")[0], "what was refused is remembered, too"
    assert "fails       optimize/1-float16  float16: more than" in workspace.run("plan", "old.yaml").out
    workspace.env.clear()
    assert "  - float16: {node_block_list: [big, small]}  # all of it" in workspace.read("net.yaml")
    workspace.run("run", "net.yaml")


# The parts


def search(fragile: set[str], count: int, limit: int = 1000) -> tuple[Search, list[int]]:
    """A search over n0, n1, … that passes with all fragile ones left, and how many lists were measured at once."""
    rounds: list[int] = []

    def measure(lists):
        rounds.append(len(lists))
        return [Answer(fragile <= {*one}, Cost(False, 0, float(len(fragile - {*one})))) for one in lists]

    return Search([f"n{number}" for number in range(count)], measure, limit), rounds


@pytest.mark.parametrize(("count", "limit"), [(10, 1000), (10, 19), (500, 200), (1, 1000)])
@pytest.mark.parametrize("fragile", [{"n0"}, {"n3", "n7"}, {"n0", "n9"}, {"n1", "n2", "n3", "n4"}])
def test_the_list_is_what_is_fragile_whatever_the_number_of_nodes(count, limit, fragile):
    if count == 1:
        assert search({"n0"}, 1)[0].run() is None, "a list of every node is the pass taken out"
        return
    looking, _ = search(fragile, count, limit)
    assert looking.run() == tuple(sorted(fragile))
    assert len(looking.known) <= (limit if count == 500 else 30)


def test_a_node_that_is_needed_beside_another_alone_goes_with_it():
    passes = lambda one: "n0" in one and ("n1" not in one or "n2" in one)
    measure = lambda lists: [Answer(passes(one), Cost(False, 0, 1.0)) for one in lists]
    assert Search(["n0", "n1", "n2", "n3"], measure, 7).run() == ("n0",)


def test_the_limit_is_kept_and_the_best_list_is_not_lost():
    looking, _ = search({"n3", "n7"}, 500, 12)
    with pytest.raises(LimitError) as stopped:
        looking.run()
    assert len(looking.known) == 12
    assert stopped.value.best is not None and {"n3", "n7"} <= {*stopped.value.best}


LISTS = {
    "{}": "{nodes_to_exclude: [a, 'b: c']}",
    "{ per_channel: true }": "{ per_channel: true, nodes_to_exclude: [a, 'b: c'] }",
    "{nodes_to_exclude: []}": "{nodes_to_exclude: [a, 'b: c']}",
    "{nodes_to_exclude: [z], per_channel: true}": "{nodes_to_exclude: [z, a, 'b: c'], per_channel: true}",
    "{nodes_to_exclude: [z,  # last\n      ]}": "{nodes_to_exclude: [z, a, 'b: c',  # last\n      ]}",
    "\n      # ä comment\n      per_channel: true": (
        "\n      # ä comment\n      nodes_to_exclude: [a, 'b: c']\n      per_channel: true"
    ),
    "\n      nodes_to_exclude:\n        - z  # last\n      per_channel: true": (
        "\n      nodes_to_exclude:\n        - z  # last\n        - a\n        - 'b: c'\n      per_channel: true"
    ),
}


@pytest.mark.parametrize("written", LISTS)
def test_a_patch_keeps_what_is_written_around_it(written):
    around = "# é\noptimize:\n  - onnxsim: {}\n  - quantize_dynamic: %s\n    parity: {rtol: 0.1}  # loose\nname: n\n"
    text = around % written
    place = ("optimize", 1, "quantize_dynamic")
    made = patching.listed(text, yaml_reader.read(text).data, place, "nodes_to_exclude", ["a", "b: c"])
    assert made == around % LISTS[written]


def test_names_are_names_however_yaml_would_read_them():
    names = [
        "null",
        "1e3",
        "~",
        "yes",
        "0x1f",
        "0o7",
        "1.",
        "a: b",
        "x#y #",
        "- z",
        "größe\n\t",
        "'\"",
        "",
        " ",
        "\u2028",
        "=",
        "<<",
    ]
    text = "optimize: [{float16: {}}]\n"
    place = ("optimize", 0, "float16")
    made = patching.listed(text, yaml_reader.read(text).data, place, "node_block_list", names)
    assert yaml_reader.read(made).data == {"optimize": [{"float16": {"node_block_list": names}}]}


@pytest.mark.parametrize("text", [
    "optimize:\n  - float16:\n      node_block_list:\n        - z\n",
    "optimize:\n  - float16:\n      keep_io_types: true\n",
    "name: n\n",
])  # fmt: skip
def test_a_patch_ends_lines_as_the_text_does(text):
    data = {"optimize": [{"float16": {"node_block_list": ["z"]}}]}
    data = yaml_reader.read(text).data if "optimize" in text else {**data, "name": "n"}
    patched = lambda text: patching.listed(text, data, ("optimize", 0, "float16"), "node_block_list", ["a", "b"])
    assert patched(text.replace("\n", "\r\n")) == patched(text).replace("\n", "\r\n")


def test_a_difference_has_the_lines_that_patch_knows():
    told = patching.difference("# a\u2028b\x0c\nx: 1\n", "# a\u2028b\x0c\nx: 2\n", "n.yaml")
    assert told == "--- a/n.yaml\n+++ b/n.yaml\n@@ -1,2 +1,2 @@\n # a\u2028b\x0c\n-x: 1\n+x: 2\n"


def test_a_text_that_has_no_passes_of_its_own_gets_all_of_them():
    data = {"name": "n", "optimize": [{"onnxsim": {}}, {"float16": {"node_block_list": ["z"]}}]}
    made = patching.listed("name: n", data, ("optimize", 1, "float16"), "node_block_list", ["a"])
    assert made == "name: n\noptimize:\n  - onnxsim: {}\n  - float16: {node_block_list: [z, a]}\n"


def test_a_text_that_can_not_be_changed_by_itself_is_left():
    text = "optimize:\n  - float16: &all {}\n  - float16: *all\n"
    with pytest.raises(patching.Unpatchable):
        patching.listed(text, yaml_reader.read(text).data, ("optimize", 1, "float16"), "node_block_list", ["a"])


def test_the_nodes_that_a_pass_touches_are_those_of_its_operators():
    made = parser.parse_model(GRAPH)
    of = lambda name, **options: excluding.candidates(name, PASSES[name].Options(**options), made)
    assert of("quantize_dynamic") == dict.fromkeys(["first", "second", "e", "fourth", "fifth"], "MatMul")
    assert [*of("quantize_dynamic", nodes_to_exclude=["e", "first"])] == ["second", "fourth", "fifth"]
    assert [*of("quantize_dynamic", nodes_to_quantize=["e", "first"])] == ["first", "e"]
    assert [*of("float16", op_block_list=["MatMul"])] == ["b", "d", "f", "i"]
    made.graph.node.add(op_type="Celu", input=["x"], output=["stays"])  # it takes no float16
    assert [*of("float16", op_block_list=["MatMul"])] == ["b", "d", "f", "i"]
    assert len(of("quantize_4bit")) == 5


def test_each_node_has_a_name_that_finds_it_alone():
    """Of two nodes one is named as the value that the other one makes, which has no name."""
    made = parser.parse_model(GRAPH.replace("[first]", "[c]").replace("[second]", "").replace("[fourth]", ""))
    found = [*excluding.candidates("quantize_dynamic", PASSES["quantize_dynamic"].Options(), made)]
    assert found == ["c", "c_1", "e", "h", "fifth"]
    assert nodes.require(made, {"": found})[""] == found
