"""Why those files and no others: one model asks its surroundings for all of it, and whatever changes is noticed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from projects import install
from workspace import Workspace

NET = """\
import importlib.metadata, multiprocessing, os, sqlite3, sys
import onnx, torch

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COMMON = os.path.join(os.path.dirname(ROOT), "common")


def read(path, **how):
    try:
        with open(path, **how) as file:
            return file.read()
    except OSError:
        return ""


def in_a_worker():
    import models.inworker
    read("forked.txt")


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return len(read("loaded.txt"))


seen = [
    read("../common/relative.txt"), read(os.path.join(COMMON, "made.txt")),
    os.path.exists(os.path.join(COMMON, "override.txt")), os.path.isdir(os.path.join(COMMON, "extra")),
    os.listdir(os.path.join(COMMON, "listed")), os.readlink(os.path.join(COMMON, "current")),
    read(os.path.expanduser("~/settings.txt")), os.path.exists(os.path.expanduser("~/.hidden/settings.txt")),
    os.environ.get("PATH"), os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.is_available(),
    list(importlib.metadata.entry_points(group="acme.plugins")),
]
sqlite3.connect("file:data.db?mode=ro", uri=True).close()
folder = os.open("assets", os.O_RDONLY)
os.close(os.open("opened.txt", os.O_RDONLY, dir_fd=folder))
try:
    os.stat("missing.txt", dir_fd=folder)
except OSError:
    pass
for *_, files, handle in os.fwalk("walked"):
    for name in files:
        os.close(os.open(name, os.O_RDONLY, dir_fd=handle))
onnx.load("held/net.onnx")
process = multiprocessing.get_context("fork").Process(target=in_a_worker)
process.start()
process.join()
list(torch.utils.data.DataLoader(Rows(), num_workers=1))
try:
    importlib.metadata.version("acme-tool")
except importlib.metadata.PackageNotFoundError:
    pass
try:
    import acme
except ImportError:
    pass


class Net(torch.nn.Module):
    def forward(self, x):
        return x * 2.0


def net():
    return Net()
"""
RECIPE = """\
version: 1
name: net
model: {pytorch: {factory: "models.net:net", seed: 0}}
export:
  exporter: torchscript
  opset: 17
  inputs: {x: {dtype: float32, shape: [2, 4]}}
  outputs: [y]
"""
FINDER_FILE = "__editable___acme_finder.py"
# What setuptools leaves of an editable installation, in short, and what Python does with it as it starts.
FINDER = """\
import sys
from importlib.util import spec_from_file_location
MAPPING = {{'acme': {path!r}}}
class _EditableFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return spec_from_file_location(name, MAPPING[name] + '.py') if name in MAPPING else None
def install():
    sys.meta_path.append(_EditableFinder)
"""


class Plant(NamedTuple):
    """A change of the world, and what of it has to be told."""

    change: Callable[[Path], object]
    said: str


def put(name: str, text: str = "new") -> Callable[[Path], object]:
    def change(base: Path) -> None:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)

    return change


def relink(base: Path) -> None:
    (base / "common/current").unlink()
    (base / "common/current").symlink_to("elsewhere")


def insert(base: Path) -> None:
    with sqlite3.connect(base / "project/data.db") as database:
        database.execute("create table more (x)")
    database.close()


def plug_in(base: Path) -> None:
    install(
        base / "site",
        "plugged",
        "1.0",
        {"plugged.py": "", "plugged-1.0.dist-info/entry_points.txt": "[acme.plugins]\na = plugged:b\n"},
    )


def install_tool(base: Path) -> None:
    install(base / "site", "acme_tool", "1.0", {"x.py": ""})


PLANTS = {
    "a file beside the project, by a relative path": Plant(put("common/relative.txt"), "../common/relative.txt changed"),
    "a file beside the project, by where the code lies": Plant(put("common/made.txt"), "../common/made.txt changed"),
    "a file that was not there": Plant(put("common/override.txt"), "../common/override.txt is there now"),
    "a folder that was not there": Plant(lambda base: (base / "common/extra").mkdir(), "../common/extra is there now"),
    "the names in a folder": Plant(put("common/listed/more"), "the names in ../common/listed changed"),
    "a link's aim": Plant(relink, "../common/current leads elsewhere"),
    "a file in the home folder": Plant(put("home/settings.txt"), "~/settings.txt changed"),
    "a hidden one in the home folder": Plant(put("home/.hidden/settings.txt"), "~/.hidden/settings.txt is there now"),
    "a database by its URI": Plant(insert, "data.db changed"),
    "what a database has not taken in yet": Plant(put("project/data.db-wal"), "data.db-wal is there now"),
    "a file by an open folder": Plant(put("project/assets/opened.txt"), "assets/opened.txt changed"),
    "a file missing in an open folder": Plant(put("project/assets/missing.txt"), "assets/missing.txt is there now"),
    "a folder walked by handles": Plant(put("project/walked/below/more.txt"), "the names in walked/below changed"),
    "a file found by handles": Plant(put("project/walked/below/one.txt"), "walked/below/one.txt changed"),
    "external data read natively": Plant(put("project/held/net.data", "1" * 64), "held/net.data changed"),
    "a file that a forked process reads": Plant(put("project/forked.txt"), "forked.txt changed"),
    "a module that a forked process imports": Plant(put("project/models/inworker.py"), "models/inworker.py changed"),
    "a file that a DataLoader's worker reads": Plant(put("project/loaded.txt"), "loaded.txt changed"),
    "an entry point": Plant(plug_in, "the installed entry points acme.plugins changed"),
    "a package whose version was asked": Plant(install_tool, "acme-tool: absent -> 1.0"),
    "another editable installation": Plant(put(f"site/{FINDER_FILE}", FINDER.format(path="/o/acme")), "acme is now /o/acme"),
}  # fmt: skip
VARIABLES = {"HOME": "/nonexistent", "PATH": f"{os.environ['PATH']}:/other", "CUDA_VISIBLE_DEVICES": "1"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Workspace:
    base = tmp_path_factory.mktemp("world")
    workspace = Workspace.make(base / "project")
    workspace.env |= {"HOME": str(base / "home"), "PYTHONPATH": str(base / "site")}
    for name in ("common/relative.txt", "common/made.txt", "common/listed/one", "home/settings.txt"):
        put(name, "old")(base)
    (base / "common/current").symlink_to("listed")
    for name in ("assets/opened.txt", "walked/below/one.txt", "forked.txt", "loaded.txt", "models/inworker.py"):
        put(f"project/{name}", "")(base)
    sqlite3.connect(base / "project/data.db").execute("create table t (x)").connection.close()
    put("site/__editable___acme_finder.py", FINDER.format(path=str(base / "acme-1/acme")))(base)
    put("site/sitecustomize.py", "import __editable___acme_finder as finder\nfinder.install()\n")(base)
    put("acme-1/acme.py", "")(base)
    (base / "project/held").mkdir()
    weight = onnx.numpy_helper.from_array(np.zeros(16, np.float32), "w")
    graph = onnx.helper.make_graph([], "g", [], [], [weight])
    path = base / "project/held/net.onnx"
    onnx.save_model(
        onnx.helper.make_model(graph), path, save_as_external_data=True, location="net.data", size_threshold=0
    )
    workspace.write("models/__init__.py", "")
    workspace.write("models/net.py", NET)
    workspace.write("net.yaml", RECIPE)
    workspace.run("run", "net.yaml")
    return workspace


@pytest.fixture
def base(world, tmp_path) -> Path:
    """The built world, elsewhere: what is relative to the project has to be found again from there."""
    shutil.copytree(world.root.parent, tmp_path / "world", symlinks=True)
    return tmp_path / "world"


def test_nothing_changed(world):
    assert world.run("plan", "net.yaml", "--check").out.endswith("up to date (5 stages)\n")


@pytest.mark.parametrize("name", PLANTS)
def test_what_decides_which_files_are_read_is_noticed(world, base, name):
    """Edited where it was built, and put back: a copy is another world already, as its next test says."""
    place, saved = world.root.parent, base
    PLANTS[name].change(place)
    try:
        out = world.run("plan", "net.yaml").out
    finally:
        shutil.rmtree(place)
        shutil.copytree(saved, place, symlinks=True)

    assert PLANTS[name].said in " ".join(out.split()), out
    assert world.run("plan", "net.yaml", "--check").code == 0


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_reaches_the_code_is_noticed(world, name):
    other = Workspace(world.root, {**world.env, name: VARIABLES[name]})

    assert f"${name} changed" in other.run("plan", "net.yaml").out


def test_whether_there_is_a_gpu_is_noted_where_the_code_asks(world):
    assert "machine" in world.run("explain", "net.yaml", "export").out


def test_a_copied_checkout_is_not_answered_by_what_lies_beside_the_first(world, base):
    other = Workspace(base / "project", {**world.env, "HOME": str(base / "home"), "PYTHONPATH": str(base / "site")})
    (base / "common/made.txt").write_text("another")

    assert "../common/made.txt changed" in other.run("plan", "net.yaml").out
