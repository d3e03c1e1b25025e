"""The README's list of what is not seen: each is planted and goes unseen, and a rebuild finds it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import install
from workspace import REPOSITORY, Workspace

NET = """\
import ctypes, os, posix, sqlite3, subprocess
import fakelib, torch


def native(path):
    libc = ctypes.CDLL(None)
    handle = libc.open(path.encode(), 0)
    text = ctypes.create_string_buffer(8)
    libc.read(handle, text, 1)
    libc.close(handle)
    return float(text.value)


def attached():
    database = sqlite3.connect(":memory:")
    database.execute("attach 'attached.db' as other")
    found = float(database.execute("select x from other.t").fetchone()[0])
    database.close()
    return found


def there(path):
    try:
        posix.stat(path)
        return 2.0
    except OSError:
        return 1.0


os.stat("dated.txt").st_mtime
open("/proc/sys/kernel/random/uuid").read()
VALUES = [
    float(subprocess.check_output(["cat", "program.txt"])), native("native.txt"), attached(), there("looked.txt"),
    fakelib.VALUE, fakelib.found(),
]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.tensor(VALUES))

    def forward(self, x):
        return x * self.scale


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
  inputs: {x: {dtype: float32, shape: [2, 6]}}
  outputs: [y]
"""
LIBRARY = """\
import os
VALUE = 1.0
def found():
    return 2.0 if os.path.exists(os.path.expanduser("~/.fakelib/extra")) else 1.0
"""


def database(base: Path, value: int) -> None:
    import sqlite3

    with sqlite3.connect(base / "project/attached.db") as there:
        there.executescript(f"drop table if exists t; create table t (x); insert into t values ({value});")
    there.close()


def put(name: str, text: str = "2") -> Callable[[Path], None]:
    def change(base: Path) -> None:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)

    return change


# By the README's own words for it.
PLANTS: dict[str, list[Callable[[Path], object]]] = {
    "other programs": [put("project/program.txt")],
    "native code": [put("project/native.txt"), lambda base: database(base, 2), put("project/looked.txt")],
    "edited packages": [put("site/fakelib.py", LIBRARY.replace("VALUE = 1.0", "VALUE = 2.0"))],
    "times and rights": [lambda base: os.utime(base / "project/dated.txt", (1, 1))],
    "libraries for themselves": [put("home/.fakelib/extra")],
    "the moment": [lambda _: None],  # the next one is another
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Workspace:
    base = tmp_path_factory.mktemp("unseen")
    workspace = Workspace.make(base / "project")
    workspace.env |= {"HOME": str(base / "home"), "PYTHONPATH": str(base / "site")}
    for name in ("program.txt", "native.txt", "dated.txt"):
        workspace.write(name, "1")
    database(base, 1)
    (base / "home").mkdir()
    install(base / "site", "fakelib", "1.0", {"fakelib.py": LIBRARY})
    workspace.write("models/net.py", NET)
    workspace.write("net.yaml", RECIPE)
    workspace.run("run", "net.yaml")
    return workspace


def test_the_list_is_all_that_is_planted():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    listed = re.findall(
        r"^- \*\*(.+?)\*\*", text[text.index("Not seen are:") :].partition("\n\nDeclare")[0], re.MULTILINE
    )

    assert listed == list(PLANTS)


def test_what_is_listed_is_unseen_and_a_rebuild_finds_it(built):
    for plants in PLANTS.values():
        for plant in plants:
            plant(built.root.parent)
        assert built.run("plan", "net.yaml", "--check").code == 0
    ran = built.run("verify", "net.yaml", "--rebuild", code=1)

    assert "net: export differs" in ran.out
    assert "6 of 6 elements differ" in ran.out
