"""Whose a store is: a folder of somebody's files is never taken for one, nor is what came with a checkout believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from small import model, published, recipe, small, unsound
from workspace import Workspace

from onnxbuild.store import checksummed, layout, ownership
from onnxbuild.store.traces import Trace, all_traces

COMMANDS = [
    ["run", "small.yaml"],
    ["plan", "small.yaml"],
    ["explain", "small.yaml"],
    ["graph", "small.yaml"],
    ["verify", "small.yaml"],
    ["verify", "--rebuild", "small.yaml"],
    ["cache", "gc", "--max-size", "0"],
    ["cache", "gc", "--older-than", "0s"],
    ["cache", "verify", "--repair"],
    ["cache", "du"],
]
RISKY = [["run", "small.yaml"], ["cache", "gc", "--max-size", "0"]]
HEX = "ab" * 32
# What a user may have for reasons of his own, named as ours is.
LIKE_OURS = {
    "a photo": ["photo.jpg"],
    "objects of git": ["objects/ab/" + "c" * 38, "objects/pack/pack-1.idx", "HEAD"],
    "blobs": [f"objects/{HEX[:2]}/{HEX[2:]}", f"objects/{HEX}.onnx"],
    "traces": [f"traces/{HEX[:2]}/{HEX[2:]}/{HEX}.json", "traces/2024/monday.json"],
    "the latest": ["latest/small.json", "latest/photo.json"],
    "temporary": ["tmp/run-thesis01/chapter.txt", "tmp/run-thesis01/.lock", "tmp/notes", ".tmp-12-0123456789ab/x", ".tmp-x"],
    "leases and locks": ["leases/12-0123abcd", f"locks/{HEX}"],
    "a memory": ["digests.json"],
    "a marker": ["store.json"],
}  # fmt: skip
LIKE_OURS["everything"] = [name for names in LIKE_OURS.values() for name in names if "/" in name]


def content(folder: Path) -> dict[str, object]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else "a folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", LIKE_OURS)
@pytest.mark.parametrize("inside", [True, False])
def test_a_folder_of_a_users_files_survives_every_command(workspace, tmp_path, kind, inside):
    small(workspace)
    folder = workspace.root / ".onnxbuild" if inside else tmp_path / "files"
    for name in LIKE_OURS[kind]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a user's {name}")
        os.utime(path, (0, 0))
    before = content(folder)
    if not inside:
        workspace.env["ONNXBUILD_CACHE"] = str(folder)

    for command in COMMANDS if kind == "everything" and inside else RISKY:
        ran = workspace.run(*command, code=2)
        assert f"{folder} holds '" in ran.err and "hint: set ONNXBUILD_CACHE" in ran.err, ran.text
        assert content(folder) == before, command
    assert not (workspace.root / "build").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    root = tmp_path_factory.mktemp("built") / "project"
    root.mkdir()
    workspace = small(Workspace(root))
    workspace.run("run", "small.yaml")
    return workspace


def is_up_to_date(workspace: Workspace, *options: str) -> None:
    assert workspace.run("plan", "--check", "small.yaml", *options).out.startswith("small (small.yaml): up to date")
    assert workspace.run("run", "small.yaml", *options).out.startswith("small: up to date")


def test_a_users_files_in_a_store_of_ours_stay_too(built, tmp_path):
    workspace = built.copy(tmp_path / "copy")
    store = workspace.root / ".onnxbuild"
    own = [
        "photo.jpg",
        "objects/ab/photo.jpg",
        "objects/x.onnx",
        "traces/ab/notes.json",
        "tmp/notes",
        "locks/x",
        "leases/x",
    ]
    own += ["tmp/run-thesis01/chapter.txt", "objects/.tmp-backup", f"objects/{HEX}.onnx/photo.jpg"]
    elsewhere = tmp_path / "elsewhere"
    (elsewhere).mkdir()
    (elsewhere / HEX[2:]).write_text("a user's")
    (store / "objects" / HEX[:2]).symlink_to(elsewhere)
    for name in own:
        path = store / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a user's")
        os.utime(path, (0, 0))

    for command in COMMANDS:
        assert "Traceback" not in workspace.run(*command, code=None).text

    assert [name for name in own if not (store / name).exists()] == []
    assert (elsewhere / HEX[2:]).read_text() == "a user's"


def test_a_new_store_has_a_marker_and_is_kept_out_of_git(built):
    store = built.root / ".onnxbuild"
    marker = checksummed.read(store / layout.MARKER, layout.MARKER, ownership.Marker)

    assert marker.format == ownership.FORMAT and len(marker.owner) == 64
    assert (store / ".gitignore").read_text().endswith("*\n")


@pytest.mark.parametrize("begun", ["nothing", "a folder", "a file without a name"])
def test_a_store_that_was_hardly_begun_is_gone_on_with(workspace, begun):
    small(workspace)
    if begun != "nothing":
        (workspace.root / ".onnxbuild").mkdir()
    if begun == "a file without a name":
        (workspace.root / ".onnxbuild/.tmp-12-0123456789ab").write_text("half")
    workspace.run("cache", "gc", "--max-size", "0")

    workspace.run("run", "small.yaml")
    is_up_to_date(workspace)


def without_marker(workspace: Workspace) -> Path:
    """The store as the version before left it."""
    store = workspace.root / ".onnxbuild"
    for name in (layout.MARKER, layout.IGNORE):
        (store / name).unlink()
    return store


@pytest.mark.parametrize("home", ["the same", "another"])
def test_a_store_of_the_version_before_is_a_full_hit_and_gets_a_marker(built, tmp_path, home):
    workspace = built.copy(tmp_path / "copy")
    store = without_marker(workspace)
    if home == "another":
        workspace.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    before = content(store)

    assert "up to date" in workspace.run("plan", "--check", "small.yaml").out
    assert content(store) == before, "plan writes nothing"
    ran = workspace.run("run", "small.yaml")
    assert ran.out.startswith("small: up to date")
    assert (store / layout.MARKER).exists()
    assert "warning" not in workspace.run("run", "small.yaml").err


@pytest.mark.parametrize("damage", ["flipped", "empty", "a folder", "gone"])
def test_a_damaged_marker_is_written_again(built, tmp_path, damage):
    workspace = built.copy(tmp_path / "copy")
    path = workspace.root / ".onnxbuild" / layout.MARKER
    data = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(b"" if damage == "empty" else data.replace(b'"format":1', b'"format":2'))

    ran = workspace.run("run", "small.yaml")

    assert ran.out.startswith("small: up to date") and ran.err.count("warning: ") == 1
    assert workspace.run("run", "small.yaml").err == ""
    assert unsound(workspace.root) == []


def poisoned(workspace: Workspace, victim: Path) -> Workspace:
    """A checkout of which the store says that the honest model was built, and gives another one."""
    (workspace.root / "m.onnx").write_bytes(model(1))
    workspace.run("run", "small.yaml")
    honest = dict(all_traces(workspace.root / ".onnxbuild"))
    (workspace.root / "m.onnx").write_bytes(model(2))
    workspace.run("run", "small.yaml")
    evil = {key: path for key, path in all_traces(workspace.root / ".onnxbuild") if key not in honest}
    exports = {
        name: (key, path, trace)
        for name, paths in (("honest", honest), ("evil", evil))
        for key, path in paths.items()
        if (trace := checksummed.read(path, f"{key}/{path.stem}", Trace)).document["stage"] == "export"
    }
    key, path, trace = exports["honest"]
    other = exports["evil"][2]
    bad = Trace(trace.document, trace.discovered, other.outcome, other.sizes, 1.0, 1)
    checksummed.write(path, f"{key}/{path.stem}", bad)
    (workspace.root / "m.onnx").write_bytes(model(1))
    shutil.rmtree(workspace.root / "build")
    shutil.copytree(workspace.root, victim)
    return Workspace(victim)


@pytest.mark.parametrize("link", [False, True])
def test_a_store_that_came_with_a_checkout_is_not_believed(workspace, tmp_path, link):
    small(workspace)
    workspace.env["XDG_STATE_HOME"] = str(tmp_path / "attacker")
    victim = poisoned(workspace, tmp_path / "victim")
    if link:
        shutil.move(victim.root / ".onnxbuild", victim.root / "inner")
        (victim.root / ".onnxbuild").symlink_to("inner")
    before = content(victim.root / ".onnxbuild")

    for command in COMMANDS if link else RISKY:
        ran = victim.run(*command, code=2)
        assert ".onnxbuild is a store that somebody else made" in ran.err and "--trust-store" in ran.err
    assert content(victim.root / ".onnxbuild") == before and not (victim.root / "build").exists()

    shutil.rmtree(victim.root / ".onnxbuild", ignore_errors=True)
    if link:
        (victim.root / ".onnxbuild").unlink()
    victim.run("run", "small.yaml")
    clean = Workspace.make(tmp_path / "clean")
    small(clean).run("run", "small.yaml")
    assert published(victim.root) == published(clean.root)


@pytest.mark.parametrize("by", ["option", "variable", "cache"])
def test_a_trusted_store_of_another_is_used(built, tmp_path, by):
    """A cache that a CI server brings along; or a store outside the project, which whoever runs the command has named."""
    workspace = built.copy(tmp_path / "copy")
    workspace.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    workspace.run("plan", "small.yaml", code=2)
    if by == "cache":
        shutil.move(workspace.root / ".onnxbuild", tmp_path / "shared")
        workspace.env["ONNXBUILD_CACHE"] = str(tmp_path / "shared")
    elif by == "variable":
        workspace.env["ONNXBUILD_TRUST_STORE"] = "1"
    is_up_to_date(workspace, *(["--trust-store"] if by == "option" else []))
    workspace.run("cache", "verify", *(["--trust-store"] if by == "option" else []))

    if by != "cache":
        workspace.env.pop("ONNXBUILD_TRUST_STORE", None)
        is_up_to_date(workspace)  # a run has taken it over


def test_a_shared_store_is_everybodys_and_stays_the_first_ones(tmp_path):
    env = {"ONNXBUILD_CACHE": str(tmp_path / "shared")}
    marks = set()
    for user in ("first", "second", "first"):
        workspace = Workspace.make(tmp_path / f"{user}{len(marks)}" / user)
        workspace.env |= env | {"XDG_STATE_HOME": str(tmp_path / f"state-{user}")}
        small(workspace).run("run", "small.yaml")
        marks.add((tmp_path / "shared" / layout.MARKER).read_bytes())
        if user == "second":
            assert workspace.built("small") == {"package"}
        marks and shutil.rmtree(workspace.root.parent)

    assert len(marks) == 1


def test_a_store_in_the_project_is_checked_however_it_is_named(built, tmp_path):
    workspace = built.copy(tmp_path / "copy")
    shutil.move(workspace.root / ".onnxbuild", workspace.root / "cache")
    workspace.env |= {"XDG_STATE_HOME": str(tmp_path / "state"), "ONNXBUILD_CACHE": str(workspace.root / "cache")}

    assert "somebody else made" in workspace.run("plan", "small.yaml", code=2).err


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_store_without_a_marker_that_git_tracks_is_not_believed(built, tmp_path):
    workspace = built.copy(tmp_path / "copy")
    without_marker(workspace)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(workspace.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    is_up_to_date(workspace.copy(tmp_path / "another"))
    subprocess.run([*git, "add", "-f", "."], check=True)

    assert "git tracks it" in workspace.run("run", "small.yaml", code=2).err
    is_up_to_date(workspace, "--trust-store")


def test_a_store_of_a_later_format_is_refused(built, tmp_path):
    workspace = built.copy(tmp_path / "copy")
    path = workspace.root / ".onnxbuild" / layout.MARKER
    marker = checksummed.read(path, layout.MARKER, ownership.Marker)
    checksummed.write(path, layout.MARKER, ownership.Marker(2, marker.id, marker.owner))

    assert (
        f"{path.parent} is a store of format 2, and this onnxbuild knows none after 1\n"
        "    hint: update onnxbuild, or set ONNXBUILD_CACHE to another folder"
    ) in workspace.run("run", "small.yaml", code=2).err


@pytest.mark.skipif(os.name == "nt", reason="making a link needs a privilege there")
def test_a_store_that_the_system_can_not_look_for_is_told_with_its_place(workspace):
    small(workspace)
    (workspace.root / "loop").symlink_to("loop")
    workspace.env["ONNXBUILD_CACHE"] = "loop"

    assert (
        f"{workspace.root}/loop/store.json: Too many levels of symbolic links\n"
        "    hint: check the path and its permissions"
    ) in workspace.run("run", "small.yaml", code=1).err


@pytest.mark.skipif(os.name == "nt" or (os.geteuid() == 0 and not Path("/proc/1").exists()), reason="needs /proc")
def test_without_a_home_a_store_works_and_is_trusted_by_word_alone(workspace):
    small(workspace)
    workspace.env["XDG_STATE_HOME"] = "/proc/nowhere"
    workspace.run("run", "small.yaml")

    assert "--trust-store" in workspace.run("run", "small.yaml", code=2).err
    is_up_to_date(workspace, "--trust-store")


@pytest.mark.parametrize(
    ("cache", "out", "told"),
    [
        ("", ".onnxbuild", ", is in the store"),
        ("", ".onnxbuild/results", ", is in the store"),
        ("build", "", ", is in the store"),
        ("build/cache", "", "the store, is in"),
        ("results/small/cache", "results", "the store, is in"),
        ("results/cache", "results", "the store, is in"),
        ("link", "results", ", is in the store"),
    ],
)
def test_a_store_and_results_in_one_another_are_refused(workspace, cache, out, told):
    small(workspace)
    (workspace.root / "results").mkdir()
    (workspace.root / "link").symlink_to("results")
    before = content(workspace.root)
    if cache:
        workspace.env["ONNXBUILD_CACHE"] = str(workspace.root / cache)
    for command in ("run", "plan", "verify"):
        ran = workspace.run(command, "small.yaml", *(["--out", out] if out else []), code=2)
        assert told in ran.err and "hint: " in ran.err, ran.err
    assert content(workspace.root) == before


def test_results_beside_a_store_are_none_in_it(workspace):
    small(workspace)
    workspace.write("cache.yaml", recipe("cache"))
    workspace.run("run", "small.yaml", "--out", ".")

    assert (workspace.root / "small/model.onnx").exists()
    assert json.loads(workspace.read("small/report.json"))["status"] == "done"


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (f"objects/ab/{'c' * 62}", True),
        (f"objects/{HEX}.onnx", True),
        ("objects/.tmp-1-0123456789ab", True),
        (f"traces/ab/{'c' * 62}/{HEX}.json", True),
        (f"latest/r@{'0' * 16}.json", True),
        ("digests.json", True),
        ("tmp/run-ab_12345", True),
        ("store.json", False),  # taken away, a store would be anybody's
        ("objects/.lock", False),
        (f"objects/ab/{'C' * 62}", False),
        (f"objects/ab/{'c' * 62}\n", False),
        (f"objects/ab/{'c' * 62}/x", False),
        (f"traces/ab/{'c' * 62}/{HEX}.yaml", False),
        ("latest/../victim.json", False),
        ("tmp/run-12", False),
        ("tmp", False),
    ],
)
def test_the_names_that_may_be_removed(tmp_path, name, ours):
    assert layout.is_ours(tmp_path, tmp_path / name) is ours


def test_every_name_in_a_store_is_known(built):
    store = built.root / ".onnxbuild"
    named = [path for path in store.rglob("*") if path.is_file() and not layout.is_ours(store, path)]

    assert {path.relative_to(store).as_posix() for path in named} == {"store.json", ".gitignore", "objects/.lock"}
