"""`onnxbuild diff` from the front: builds, lock files, .onnx files and revisions of git, in every form."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import onnx
import pytest
import small
from test_layers import HEAVY
from workspace import Workspace

from onnxbuild.commands import schema


def git(workspace: Workspace, *arguments: str) -> str:
    command = [
        "git",
        "-c",
        "user.name=T",
        "-c",
        "user.email=t@example.org",
        "-c",
        "init.defaultBranch=main",
        *arguments,
    ]
    return subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    """Two commits: between them the recipe got a larger range and another pass, and the model other weights."""
    made = small.small(Workspace.make(tmp_path_factory.mktemp("diff") / "project"))
    made.write(".gitignore", "build/\n.onnxbuild/\nhome/\nbefore/\n")
    made.run("lock", "small.yaml")
    git(made, "init", "-q")
    git(made, "add", "-A")
    git(made, "commit", "-qm", "one")
    git(made, "tag", "v1")
    shutil.copytree(made.root / "build/small", made.root / "before")
    made.replace("small.yaml", "max: 3", "max: 4")
    made.replace("small.yaml", "eliminate_identity", "eliminate_deadend")
    (made.root / "m.onnx").write_bytes(small.model(2))
    made.run("lock", "small.yaml")
    git(made, "commit", "-qam", "two")
    return made


RECIPE = """\
Recipe
  @@ -11,5 +11,5 @@
       y: {0: N}
     dims:
  -    N: {min: 1, max: 3}
  -optimize: [{onnxoptimizer: [eliminate_identity]}]
  +    N: {min: 1, max: 4}
  +optimize: [{onnxoptimizer: [eliminate_deadend]}]
   package: {external_data: true}
"""


def test_two_revisions_are_compared_by_their_locks(built):
    ran = built.run("diff", "v1..HEAD", "small.yaml", code=1)

    start = """\
--- v1
+++ HEAD
Different: 1 change of the interface, Identity +1, graph, weights, model.onnx

Interface
  ~ dimension N                                 1..3 -> 1..4

Operators
  + Identity                                    0 -> 1  +1

Digests
  ~ graph """
    assert ran.out.startswith(start)
    assert RECIPE in ran.out
    assert "  ~ nodes                                       2 -> 3  +50.0%\n" in ran.out
    assert "single nodes and weights, and latency: a lock file holds digests and counts\n" in ran.out
    assert max(map(len, ran.out.splitlines())) < 80
    assert ran.err == ""


@pytest.mark.parametrize("arguments", [("HEAD..HEAD", "small.yaml"), ("HEAD", "small.yaml"), ("v1...v1", "small.yaml")])
def test_what_is_the_same_exits_0(built, arguments):
    assert "\nThe same model, as it was locked\n" in built.run("diff", *arguments).out


def test_the_work_tree_is_the_other_side_of_one_revision(edited):
    assert "+++ the work tree\nDifferent: " in edited.run("diff", "v1", "small.yaml", code=1).out

    git(edited, "checkout", "-qb", "side", "v1")
    edited.write("other.txt", "")
    git(edited, "add", "other.txt")
    git(edited, "commit", "-qm", "aside")
    assert "The same model" in edited.run("diff", "main...side", "small.yaml").out
    assert "Different" in edited.run("diff", "main..side", "small.yaml", code=1).out

    git(edited, "rm", "-q", "small.yaml", "small.lock.yaml")
    git(edited, "commit", "-qm", "gone")
    gone = edited.run("diff", "v1..HEAD", "small.yaml", code=1).out
    assert "Gone: small.yaml isn't there at HEAD\n" in gone
    assert "New: small.yaml isn't there at HEAD\n" in edited.run("diff", "HEAD..v1", "small.yaml", code=1).out
    assert edited.run("diff", "HEAD", "small.yaml", code=2).err == (
        "small.yaml isn't there at HEAD, nor at the work tree\n"
        "    hint: give a recipe that one of the two has\n1 problem.\n"
    )


def test_a_lock_that_is_outdated_there_stands_for_no_model(edited):
    """Else a recipe that was changed and not locked would give "the same model"."""
    said = (
        "small.lock.yaml: outdated {}, where small.yaml says something else than when it was locked\n"
        "    hint: lock it there, or give --build to build both\n1 problem.\n"
    )
    edited.replace("small.yaml", "max: 4", "max: 5")
    assert edited.run("diff", "HEAD", "small.yaml", code=2).err == said.format("in the work tree")
    git(edited, "commit", "-qam", "not locked")
    assert edited.run("diff", "v1..HEAD", "small.yaml", code=2).err == said.format("at HEAD")
    assert edited.run("diff", "HEAD..v1", "small.yaml", code=2).err == said.format("at HEAD")

    edited.replace("small.yaml", "max: 5", "max: 4  # as it was")
    (edited.root / "m.onnx").write_bytes(small.model(3))
    said = (
        "small.lock.yaml: has one digest of m.onnx in HEAD~1 and in {}, though the file changed between them\n"
        "    hint: lock it there, or give --build to build both\n1 problem.\n"
    )
    assert edited.run("diff", "HEAD~1", "small.yaml", code=2).err == said.format("the work tree")
    git(edited, "commit", "-qam", "other weights")
    assert edited.run("diff", "HEAD~2..HEAD", "small.yaml", code=2).err == said.format("HEAD").replace("~1", "~2")
    assert "The same model" in edited.run("diff", "HEAD..HEAD", "small.yaml").out


def test_locks_need_no_library_of_models(built):
    code = f"""
import sys
from onnxbuild.cli import main
code = main(["diff", "v1..HEAD", "small.yaml"])
print(code, [name for name in {HEAVY!r} if name in sys.modules])
"""
    _, environment = built.command()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=built.root, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("1 []\n")


BUILDS = """\
Different: 1 change of the interface, 1 node added, 1 weight changed

Interface
  ~ dimension N                                 1..3 -> 1..4

Operators
  + Identity                                    0 -> 1  +1

Nodes
  + Identity 'same'

Weights
  ~ weight
      float32[16, 32]  512 of 512 changed, at most by """


@pytest.mark.parametrize("after", ["build/small", "small.yaml"])
def test_two_builds_are_compared_node_by_node(built, after):
    ran = built.run("diff", "before", after, code=1)

    assert ran.out.startswith(f"--- before\n+++ {after}\n{BUILDS}")
    assert "the recipe that before was built from is no longer there as it was" in ran.out
    assert re.search(r"Made from\n  ~ m.onnx +[0-9a-f]{12}, 2.23 kB -> [0-9a-f]{12}, 2.23 kB\n", ran.out)


def test_both_revisions_are_built_through_the_store(edited):
    edited.write(".gitignore", edited.read(".gitignore") + "/weights/\n")
    (edited.root / "weights").mkdir()
    (edited.root / "m.onnx").rename(edited.root / "weights/m.onnx")
    edited.replace("small.yaml", "path: m.onnx", "path: weights/m.onnx")
    git(edited, "rm", "-q", "--cached", "m.onnx")
    git(edited, "add", "-A")
    git(edited, "commit", "-qm", "weights are not in git")
    before = {path: path.stat().st_mtime_ns for path in (edited.root / "build").rglob("*")}

    ran = edited.run("diff", "--build", "v1..HEAD", "small.yaml", code=1)

    assert ran.out.startswith(f"--- v1\n+++ HEAD\n{BUILDS}")
    assert "-model: {onnx: {path: m.onnx}}\n" in ran.out and "+model: {onnx: {path: weights/m.onnx}}\n" in ran.out
    assert ran.out.endswith("Not compared\n  weights/m.onnx of HEAD: not in git, so the work tree's was taken\n")
    assert ran.err == ""
    assert {path: path.stat().st_mtime_ns for path in (edited.root / "build").rglob("*")} == before
    assert git(edited, "status", "--porcelain") == ""

    edited.replace("small.yaml", "opset: 17", "opset: 99")
    assert "opset" in edited.run("diff", "--build", "HEAD", "small.yaml", code=2).err
    edited.replace("small.yaml", "opset: 99", "opset: 17")
    edited.replace("small.yaml", "y: {0: N}", "y: {0: N}\n    # comment")
    assert "The same model" in edited.run("diff", "--build", "HEAD", "small.yaml").out


def test_a_revision_is_built_with_its_submodules_and_with_what_archives_leave_out(edited):
    """A submodule at another commit, and a base that is in git but in no archive of it."""
    parts = Workspace(edited.root / "parts")
    parts.root.mkdir()
    git(parts, "init", "-q")
    text = small.recipe(path="parts/m.onnx", external=False).replace("name: small\n", "")
    edited.write(".gitattributes", "common.yaml export-ignore\n")
    edited.write("small.yaml", "base: common.yaml\nname: small\n")
    for version, most in ((1, 3), (2, 2)):
        (parts.root / "m.onnx").write_bytes(small.model(version))
        edited.write("common.yaml", text.replace("max: 3", f"max: {most}"))
        for repository in (parts, edited):
            git(repository, "-c", "advice.addEmbeddedRepo=false", "add", "-A")
            git(repository, "commit", "-qm", "another")
    ran = edited.run("diff", "--build", "HEAD~1..HEAD", "small.yaml", code=1)

    assert "Different: 1 change of the interface, 1 weight changed\n" in ran.out
    assert "  ~ dimension N                                 1..3 -> 1..2\n" in ran.out
    assert "not in git" not in ran.out
    assert git(edited, "status", "--porcelain") == ""


def test_what_is_wrong_at_a_revision_has_its_place_there(edited):
    edited.replace("small.yaml", "opset: 17", "opset: 99")
    git(edited, "commit", "-qam", "wrong")
    assert edited.run("diff", "--build", "HEAD", "small.yaml", code=2).err.startswith(
        "HEAD:small.yaml:5:10: export.opset: "
    )
    edited.replace("small.yaml", "opset: 99", "opset: 17")
    edited.replace("small.yaml", "path: m.onnx", "path: none/m.onnx")
    git(edited, "commit", "-qam", "wrong, too")
    said = edited.run("diff", "--build", "HEAD", "small.yaml", code=2).err
    assert said.startswith("HEAD:small.yaml:3:22: model.onnx.path: ") and "onnxbuild-diff-" not in said


def test_a_revision_that_can_not_be_built_is_compared_with_nothing_and_its_results_are_kept(edited, tmp_path):
    (tmp_path / "tmp").mkdir()
    edited.env["TMPDIR"] = str(tmp_path / "tmp")
    (edited.root / "m.onnx").write_bytes(small.model(2).replace(b"MatMul", b"MatNul"))
    git(edited, "commit", "-qam", "no such operator")
    ran = edited.run("diff", "--build", "HEAD~1..HEAD", "small.yaml", code=2)
    (kept,) = (tmp_path / "tmp").glob("onnxbuild-diff-*")
    (page,) = re.findall(r"^  more in (.*)$", ran.err, re.MULTILINE)

    assert "small.yaml can't be built at HEAD: " in ran.err and ran.out == ""
    assert (
        f"    hint: what came of it is kept in {kept}/out-tree-HEAD/small; without --build, locks are compared\n"
        in ran.err
    )
    assert Path(page).is_file() and sorted(path.name for path in kept.iterdir()) == ["out-tree-HEAD"]


def in_a_hook(workspace: Workspace, tree: Path) -> Workspace:
    """Commands as a hook runs them that git started in a work tree of its own: git names its repository and its index."""
    own = git(Workspace(tree), "rev-parse", "--absolute-git-dir").strip()
    return Workspace(tree, {**workspace.env, "GIT_DIR": own, "GIT_INDEX_FILE": f"{own}/index", "GIT_PREFIX": ""})


def test_a_hook_of_a_work_tree_beside_the_first_is_told_the_same(edited, tmp_path):
    (edited.root / "recipes").mkdir()
    git(edited, "mv", "small.yaml", "small.lock.yaml", "recipes")
    git(edited, "commit", "-qm", "moved")
    git(edited, "worktree", "add", "-q", str(tmp_path / "tree"))
    hook = in_a_hook(edited, tmp_path / "tree")

    assert hook.run("diff", "HEAD", "recipes/small.yaml").out == edited.run("diff", "HEAD", "recipes/small.yaml").out
    inside = Workspace(tmp_path / "tree/recipes", hook.env)
    assert "(1 looked at)" in inside.run("affected", "--since", "HEAD").err
    assert inside.run("affected", "--since", "HEAD~1").out.startswith("small.yaml  recipes/small.yaml is new\n")


def test_a_file_is_held_against_a_lock_or_a_build(built):
    ran = built.run("diff", "before/model.onnx", "small.lock.yaml", code=1)
    assert "Different: Identity +1, graph, weights\n" in ran.out
    assert "The same model" in built.run("diff", "small.lock.yaml", "build/small/model.onnx").out
    assert "The same model" in built.run("diff", "small.lock.yaml", "build/small").out
    assert "\nThe same model\n" in built.run("diff", "m.onnx", "build/small").out
    assert "Weights\n  ~ weight\n" in built.run("diff", "before", "m.onnx", code=1).out


def test_json_has_all_of_it_and_satisfies_its_schema(built):
    said = json.loads(built.run("diff", "before", "build/small", "--json", code=1).out)

    jsonschema.Draft202012Validator(json.loads(schema.text("diff"))).validate(said)
    assert (said["before"], said["same"]) == ({"name": "before", "kind": "build"}, False)
    assert said["structure"]["added"] == [
        {"op": "Identity", "name": "same", "scope": "", "near": "", "body": "", "line": ""}
    ]
    assert said["structure"]["matched"] == 2
    assert said["ops"] == [{"op": "Identity", "before": 0, "after": 1}]


def test_markdown_is_for_a_pull_request(built):
    text = built.run("diff", "v1..HEAD", "small.yaml", "--markdown", code=1).out

    assert text.startswith(
        "## 🔀 Different: 1 change of the interface, Identity +1, graph, weights, model.onnx\n\nv1 → HEAD\n"
    )
    assert "| + | Identity | 0 | 1 | +1 |\n" in text
    assert "```diff\n@@ -11,5 +11,5 @@\n" in text and "\n+    N: {min: 1, max: 4}\n" in text
    assert built.run("diff", "HEAD", "small.yaml", "--markdown").out.startswith(
        "## ✅ The same model, as it was locked\n"
    )


def test_the_page_stands_alone(built, tmp_path):
    built.run("diff", "v1..HEAD", "small.yaml", "--html", str(tmp_path / "diff.html"), code=1)
    text = (tmp_path / "diff.html").read_text("utf-8")
    words_of = " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL).split())

    assert not {*re.findall(r"<(\w+)", text)} & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert not re.search(r"\b(href|src|action|on\w+)=", text)
    assert "prefers-color-scheme: dark" in text
    for words in ("Before: a lock", "dimension N", "1..3", "1..4", "N: {min: 1, max: 4}", "Not compared"):
        assert words in words_of


BAD = [
    ("nope small.yaml", "nope: no such file, and no revision that git knows in .", "or a revision such as main..HEAD"),
    (
        "v1..nope small.yaml",
        "v1..nope: no such file, and no revision",
        "give a build's folder, a lock file, an .onnx file",
    ),
    ("nope.onnx m.onnx", "nope.onnx: no such file", "give a build's folder, a recipe, a lock file or an .onnx file"),
    ("m.onnx small.md", "small.md: neither a build, a recipe, a lock file nor an .onnx file", "give a build's folder"),
    ("m.onnx .git", ".git: no report.json, so no build of ours", "give a build's folder, a recipe"),
    ("m.onnx cut.onnx", "cut.onnx: not an ONNX model", "give an .onnx file, such as build/<name>/model.onnx"),
    ("m.onnx lone.onnx", "external data 'model.onnx.data' of tensor 'weight' can't be read", "The file belongs beside"),
    ("m.onnx other.yaml", "other.yaml has no build in", "build it first: onnxbuild run other.yaml"),
    ("m.onnx twin.yaml", "twin.yaml has no build in", "build it first: onnxbuild run twin.yaml"),
    (
        "m.onnx twin.yaml --json",
        "build/small: that is of small.yaml, of the same name",
        "build it first: onnxbuild run",
    ),
    ("m.onnx list.yaml", "list.yaml:1:1: no recipe: it has no name", "onnxbuild check list.yaml"),
    (
        "HEAD other.yaml",
        "other.lock.yaml isn't there at HEAD, though the recipe is",
        "lock it there, or give --build to build",
    ),
    ("m.onnx merged.lock.yaml", "a merge left its marker", "merge the recipe, then write the lock anew"),
    ("m.onnx bad", "bad/report.json can't be read", "build it again: onnxbuild run"),
    ("m.onnx bare", "m.onnx and bare can't be compared: ", "build what is not built, or lock it"),
    ("--build m.onnx m.onnx", "--build takes a revision and a recipe", "such as: onnxbuild diff --build main..HEAD"),
    ("latin small.yaml", "small.yaml at latin: not UTF-8", "save the file as UTF-8"),
    ("alone...main small.yaml", "alone...main: the two have no commit in common", "give them as A..B"),
    ("m.onnx m.onnx --html m.onnx/x.html", "m.onnx/x.html can't be written", "give --html a file that can be"),
]


@pytest.fixture(scope="module")
def spoilt(built, tmp_path_factory) -> Workspace:
    """The same project with everything in it that can't be compared."""
    made = built.copy(tmp_path_factory.mktemp("spoilt") / "project")
    (made.root / "cut.onnx").write_bytes(small.model(1)[:100])
    shutil.copy(made.root / "build/small/model.onnx", made.root / "lone.onnx")
    made.write("other.yaml", small.recipe("other"))
    made.write("twin.yaml", small.recipe("small"))
    made.write("list.yaml", "- 1\n")
    made.write("small.md", "")
    made.write("merged.lock.yaml", "<<<<<<< HEAD\nversion: 1\n")
    made.write("bad/report.json", "{}")
    report = json.loads(made.read("build/small/report.json"))
    report["graphs"] = []
    made.write("bare/report.json", json.dumps(report))
    git(made, "add", "other.yaml")
    git(made, "commit", "-qm", "not locked")
    git(made, "checkout", "-q", "--orphan", "alone")
    git(made, "commit", "-qm", "alone")
    git(made, "checkout", "-qb", "latin")
    (made.root / "small.yaml").write_bytes(b"name: caf\xe9\n")
    git(made, "commit", "-qam", "latin")
    git(made, "checkout", "-qf", "main")
    return made


@pytest.mark.parametrize(("arguments", "fact", "hint"), BAD, ids=[row[0] for row in BAD])
def test_what_cannot_be_compared_is_told_with_a_remedy(spoilt, arguments, fact, hint):
    ran = spoilt.run("diff", *arguments.split(), code=2)

    assert fact in ran.err
    assert hint in ran.err
    assert "Traceback" not in ran.err and ran.out == ""


def test_without_git_and_outside_of_a_work_tree(built, tmp_path):
    alone = small.small(Workspace.make(tmp_path / "alone"))
    assert "no revision that git knows in ." in alone.run("diff", "HEAD", "small.yaml", code=2).err

    alone.env["PATH"] = str(tmp_path)
    said = alone.run("diff", "HEAD", "small.yaml", code=2).err
    assert said == "git is not installed\n    hint: give two builds, lock files or .onnx files\n1 problem.\n"


def test_names_of_others_are_shown_as_what_they_are(workspace):
    hostile = "a|b`<script>alert(1)</script>\x1b[31m\n# h @all"
    for number, name in enumerate(("x", hostile)):
        model = onnx.load_from_string(small.model(1))
        model.graph.output[0].name = model.graph.node[2].output[0] = name
        model.producer_name = name
        (workspace.root / f"{number}.onnx").write_bytes(model.SerializeToString())
    page = workspace.root / "p.html"

    text = workspace.run("diff", "0.onnx", "1.onnx", code=1).out
    markdown = workspace.run("diff", "0.onnx", "1.onnx", "--markdown", "--html", str(page), code=1).out

    assert "\x1b" not in text + markdown and "\n# h" not in text + markdown
    assert "<script" not in markdown and "@all" not in markdown and "<script" not in Path(page).read_text("utf-8")
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {6}
