"""What a stage turns out to depend on, recorded in a fresh interpreter as a stage's child does it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onnxbuild import discover, toolchain
from onnxbuild.objects import sha256_file

RECORD = """
import json, sys
from pathlib import Path
from onnxbuild.discover import Recorder
root = Path(sys.argv[1])
sys.path.insert(0, str(root))
recorder = Recorder(root, [root / "scratch"])
exec(sys.argv[2])
print(json.dumps(sorted(recorder.names())))
"""


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "project"
    for name, text in {
        "models/__init__.py": "from models import side\n",
        "models/side.py": "",
        "models/net.py": "def make():\n    import models.lazy\n",
        "models/lazy.py": "",
        "models/unused.py": "",
        "space/name.py": "",
        "labels.txt": "cat",
        "scratch/own.txt": "",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def recorded(root: Path, code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", RECORD, str(root), code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("code", "files"),
    [
        ("import models.net", ["models/__init__.py", "models/net.py", "models/side.py"]),
        (
            "import models.net; models.net.make()",
            ["models/__init__.py", "models/lazy.py", "models/net.py", "models/side.py"],
        ),
        (
            "import importlib; importlib.import_module('models.lazy')",
            ["models/__init__.py", "models/lazy.py", "models/side.py"],
        ),
        ("import space.name", ["space/name.py"]),
        ("open(root / 'labels.txt').read()", ["labels.txt"]),
        ("import os; os.chdir(root); open('labels.txt', 'rb').read()", ["labels.txt"]),
        ("open(root / 'made.txt', 'w').write('x')", []),
        ("open(root / 'scratch' / 'own.txt').read()", []),
        ("import json, csv, sqlite3", []),
    ],
)
def test_files_below_the_root_are_recorded_and_nothing_else(root, code, files):
    assert recorded(root, code) == [f"file:{name}" for name in files]


def test_a_package_is_recorded_as_its_distribution_and_version(root):
    version = toolchain.distributions()["pyyaml"][0]

    assert recorded(root, "import yaml") == [f"dist:pyyaml {version}"]


def test_a_name_holds_until_its_file_changes_or_goes(root):
    name, path = "file:labels.txt", root / "labels.txt"
    before = discover.digest(name, root, sha256_file)

    path.write_text("dog")
    changed = discover.digest(name, root, sha256_file)
    path.unlink()
    gone = discover.digest(name, root, sha256_file)

    assert len({before, changed, gone}) == 3
    assert discover.say(name, before, changed) == "labels.txt changed"
    assert discover.say(name, before, gone) == "labels.txt is gone"


def test_another_version_of_a_package_does_not_hold(root):
    installed = toolchain.distributions()["pyyaml"][0]
    now = discover.digest("dist:pyyaml 1.0", root, sha256_file)

    assert now != discover.digest(f"dist:pyyaml {installed}", root, sha256_file)
    assert discover.say("dist:pyyaml 1.0", "some digest", now) == f"pyyaml 1.0 -> {installed}"
