"""What a stage turns out to depend on, recorded in a fresh interpreter as a stage's child does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from projects import install

from onnxbuild.discovery import inputs
from onnxbuild.system import distributions
from onnxbuild.system.files import sha256_file

# Runs code as a stage would, after the modules in argv[3] were imported as a template process would.
RECORD = """
import json, os, sys
from pathlib import Path
from onnxbuild.discovery.import_hooks import Imports
from onnxbuild.discovery.recorder import Recorder
root = Path(sys.argv[1])
imports = Imports()
imports.install()
for name in sys.argv[3].split():
    __import__(name)
os.chdir(root)
recorder = Recorder(root, [root / "scratch"], imports)
sys.path.insert(0, str(root))
exec(sys.argv[2], {"__name__": "stage", "root": root})
print(json.dumps([sorted(recorder.names()), recorder.unsettled()]))
"""
FILES = {
    "models/__init__.py": "from models import side\n",
    "models/side.py": "",
    "models/net.py": "def make():\n    import models.lazy\n",
    "models/lazy.py": "",
    "models/unused.py": "",
    "space/name.py": "",
    "labels.txt": "cat",
    "assets/a.txt": "",
    "assets/b.txt": "",
    "scratch/own.txt": "",
    "build/net/report.json": "{}",
    "build/net/model.onnx": "",
    "build/tool.py": "",
    ".git/HEAD": "",
}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "project"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def run(root: Path, code: str, before: str = "", path: str = "") -> tuple[list[str], list[str]]:
    command = [sys.executable, "-P", "-c", RECORD, str(root), code, before]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    names, unsettled = json.loads(done.stdout)
    return names, unsettled


def recorded(root: Path, code: str, *kinds: str, before: str = "", path: str = "") -> list[str]:
    """What was recorded, of these kinds."""
    names, _ = run(root, code, before, path)
    return [name for name in names if name.startswith(tuple(f"{kind}:" for kind in kinds))]


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
        ("open('labels.txt', 'rb').read()", ["labels.txt"]),
        ("import numpy; numpy.fromfile('labels.txt', numpy.uint8)", ["labels.txt"]),
        ("import numpy; numpy.memmap('labels.txt')", ["labels.txt"]),  # opened to read and write
        ("open('labels.txt', 'r+').read()", ["labels.txt"]),
        ("import sqlite3; sqlite3.connect('labels.txt')", ["labels.txt", "labels.txt-journal", "labels.txt-wal"]),
        ("try: open('labels.txt', 'x')\nexcept FileExistsError: open('labels.txt').read()", ["labels.txt"]),
        ("import os\nclass Files:\n    stat = os.stat\nFiles().stat('labels.txt')", ["labels.txt"]),
        ("import os; os.path.exists('a\\0b')", []),
        ("import os.path; os.path.exists('labels.txt')", ["labels.txt"]),  # native code may well open it next
        ("from pathlib import Path; Path('labels.txt').is_file()", ["labels.txt"]),
        ("exec(open('models/unused.py').read())", ["models/unused.py"]),
        ("open('made.txt', 'w').write('x')", []),
        ("open('made.txt', 'w').write('x'); open('made.txt').read()", []),
        ("open('scratch/own.txt').read()", []),
        ("open('build/net/report.json').read()", []),
        ("open('build/net/model.onnx').read()", ["build/net/model.onnx"]),
        ("import build.tool", ["build/tool.py"]),
        ("open('.git/HEAD').read()", []),
        ("import json, csv, sqlite3", []),
    ],
)
def test_files_below_the_root_are_recorded_and_nothing_else(root, code, files):
    assert recorded(root, code, "file", "path", "site") == [f"file:{name}" for name in files]


@pytest.mark.parametrize(
    "code",
    [
        "try: open('override.json')\nexcept OSError: pass",
        "import os\nif os.path.exists('override.json'): open('override.json')",
        "from pathlib import Path\nPath('override.json').exists()",
        "import os\nos.path.lexists('override.json')",
        "import os\nos.access('override.json', os.R_OK)",
        "import glob\nglob.glob('override.json')",
    ],
)
def test_a_file_that_was_looked_for_in_vain_is_recorded_as_absent(root, code):
    assert recorded(root, code, "file") == ["file:override.json"]
    assert inputs.digest("file:override.json", root, sha256_file) == "absent"

    (root / "override.json").write_text("{}")
    now = inputs.digest("file:override.json", root, sha256_file)

    assert inputs.parse("file:override.json").say("absent", now) == "override.json is there now"


@pytest.mark.parametrize(
    "code", ["os.listdir('assets')", "list(os.scandir('assets'))", "list(Path('assets').glob('*'))"]
)
def test_a_folder_that_was_listed_is_known_by_the_names_in_it(root, code):
    (name,) = recorded(root, f"import os; from pathlib import Path; {code}", "list")
    before = inputs.digest(name, root, sha256_file)
    (root / "assets/a.txt").write_text("another content")
    edited = inputs.digest(name, root, sha256_file)
    (root / "assets/c.txt").touch()
    added = inputs.digest(name, root, sha256_file)

    assert name == "list:assets"
    assert before == edited != added
    assert inputs.parse(name).say(before, added) == "the names in assets changed"


@pytest.mark.parametrize(
    "code",
    [
        "from safetensors.numpy import load_file; load_file(path)",
        "from safetensors import safe_open\nwith safe_open(path, framework='numpy') as file: file.keys()",
        "import torch\ntry: torch.jit.load(path)\nexcept RuntimeError: pass",
        "import torch\ntry: torch.load(path)\nexcept Exception: pass",
    ],
)
def test_weights_that_the_code_reads_natively_are_recorded(root, code):
    from mutations import checkpoint

    for path in (root / "w.safetensors", root.parent / "elsewhere.safetensors"):
        path.write_bytes(checkpoint(1))
    names = recorded(
        root, f"for path in ('w.safetensors', '../elsewhere.safetensors'):\n{indent(code, '  ')}", "file", "path"
    )

    assert {"file:w.safetensors", "file:../elsewhere.safetensors"} <= set(names)


@pytest.mark.parametrize("folder", [".", "build"])
def test_what_builds_publish_is_no_change_of_a_folder_that_was_listed(root, folder):
    """Code that walks over the whole project finds there, from the second time on, what it made itself."""
    (name,) = recorded(root, f"import os; os.listdir({folder!r})", "list")
    before = inputs.digest(name, root, sha256_file)
    (root / "build/another").mkdir()
    (root / "build/another/report.json").touch()
    published = inputs.digest(name, root, sha256_file)
    (root / folder / "data").mkdir()

    assert before == published != inputs.digest(name, root, sha256_file)
    assert recorded(root, "import os; os.listdir('build/net')", "list") == []


def test_a_folder_that_was_looked_for_in_vain_is_noticed(root):
    (name,) = recorded(root, "import os; os.path.isdir('extra')", "file", "kind")
    before = inputs.digest(name, root, sha256_file)
    (root / "extra").mkdir()

    assert before == "absent" != inputs.digest(name, root, sha256_file)


@pytest.mark.parametrize(
    "code",
    ["Path('current').resolve()", "os.path.realpath('current/a.txt')", "os.chdir('current')", "os.readlink('current')"],
)
def test_where_a_link_leads_is_known_where_the_code_asks(root, code):
    (root / "current").symlink_to("assets")
    (name,) = recorded(root, f"import os; from pathlib import Path; {code}", "link")
    before = inputs.digest(name, root, sha256_file)
    (root / "current").unlink()
    (root / "current").symlink_to("models")
    now = inputs.digest(name, root, sha256_file)

    assert name == "link:current" and before != now
    assert inputs.parse(name).say(before, now) == "current leads elsewhere"
    assert recorded(root, "open('current/net.py').read()", "link") == [], "what is in it says enough"


def test_variables_that_say_where_libraries_look_are_known_where_they_are_asked_for(root, monkeypatch):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    (name,) = recorded(root, "import torch; torch.hub.get_dir()", "env")
    before = inputs.digest(name, root, sha256_file)
    monkeypatch.setenv("TORCH_HOME", "/another")

    assert (name, before) == ("env:TORCH_HOME", "absent") != (name, inputs.digest(name, root, sha256_file))
    assert recorded(root, "import os; os.environ.get('ANY')", "env") == [], "it is never there"
    for code in (
        "os.environ.get('HOME')",
        "os.getenv('HOME')",
        "'HOME' in os.environ",
        "os.environb.get(b'HOME')",
        "os.path.expanduser('~')",
    ):
        assert recorded(root, f"import os; {code}", "env") == ["env:HOME"], code
    assert "env:CUDA_VISIBLE_DEVICES" in recorded(root, "import os; dict(os.environ)", "env")


def test_files_and_folders_elsewhere_are_known_too(root, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(root / "scratch"))  # what is temporary is not
    data = root.parent / "data"
    data.mkdir()
    code = f"import os\nos.listdir({str(data)!r})\ntry: open({str(data / 'labels.json')!r})\nexcept OSError: pass"
    names = recorded(root, code, "file", "list", "path")
    before = [inputs.digest(name, root, sha256_file) for name in names]
    (data / "labels.json").touch()
    now = [inputs.digest(name, root, sha256_file) for name in names]

    assert names == ["file:../data/labels.json", "list:../data", f"list:{data}", f"path:{data}/labels.json"]
    assert before[0] == before[3] == "absent" and all(a != b for a, b in zip(before, now, strict=True))


def test_importing_from_a_folder_does_not_list_it(root):
    assert recorded(root, "import models.net", "list") == []


def test_a_file_that_the_code_reads_and_writes_is_told_of(root):
    _, unsettled = run(root, "open('labels.txt').read(); open('labels.txt', 'w').write('x')")
    cache = "import os\nif not os.path.exists('cache.txt'): open('cache.txt', 'w').write('x')"
    _, made = run(root, cache)
    _, read = run(root, cache)
    _, gone = run(root, "import os; open('cache.txt').read(); os.remove('cache.txt')")

    assert (unsettled, made, read, gone) == (["labels.txt"], ["cache.txt"], [], ["cache.txt"])


@pytest.mark.parametrize(
    ("new", "code", "said"),
    [
        (
            "models/side/__init__.py",
            "import models.net",
            "the module side is now models/side/__init__.py, not models/side.py",
        ),
        ("colorsys.py", "import colorsys", "the module colorsys is there now: colorsys.py"),
        ("yaml.py", "import yaml", "the module yaml is now yaml.py, not installed"),
        ("space/__init__.py", "import space.name", "the module space is now space/__init__.py, not space/"),
        ("fast.py", "try: import fast\nexcept ImportError: pass", "the module fast is there now: fast.py"),
        (
            "models/fast.py",
            "import models\ntry: from models import fast\nexcept ImportError: pass",
            "the module fast is there now: models/fast.py",
        ),
        ("models.cpython-311-x86_64-linux-gnu.so", "import models", None),  # a package comes before a module
        ("models/another.py", "import models.net", None),
        ("fast.py", "import importlib.util; importlib.util.find_spec('fast')", "the module fast is there now: fast.py"),
        (
            "vendor/fast.py",
            "import sys; sys.path.insert(0, str(root / 'vendor'))\ntry: import fast\nexcept ImportError: pass",
            "the module fast is there now: vendor/fast.py",
        ),
        ("another.py", "import models.net", None),
        ("json.py", "import json", None),  # it was imported before the project came on the path
    ],
)
def test_a_module_that_comes_before_another_is_noticed(root, new, code, said):
    (root / new).parent.mkdir(exist_ok=True)
    before = {name: inputs.digest(name, root, sha256_file) for name in run(root, code)[0]}
    (root / new).touch()
    now = {name: inputs.digest(name, root, sha256_file) for name in before}

    assert [inputs.parse(name).say(before[name], now[name]) for name in before if before[name] != now[name]] == (
        [said] if said else []
    )


def test_a_deleted_module_is_noticed(root):
    before = {name: inputs.digest(name, root, sha256_file) for name in run(root, "import models.net")[0]}
    (root / "models/side.py").unlink()

    changed = {name for name in before if before[name] != inputs.digest(name, root, sha256_file)}
    assert changed == {"file:models/side.py", "inside:models:net side"}


def test_source_is_compiled_anew_though_bytecode_of_the_same_time_and_size_lies_beside_it(root):
    import py_compile

    source = root / "models/side.py"
    source.write_text("value = 1\n")
    py_compile.compile(str(source))
    times = source.stat().st_atime_ns, source.stat().st_mtime_ns
    source.write_text("value = 2\n")
    os.utime(source, ns=times)

    run(root, "import models.side; assert models.side.value == 2")


def test_a_package_is_recorded_as_its_distribution_and_version(root):
    version = distributions.distributions()["pyyaml"][0]

    assert recorded(root, "import yaml", "dist", "path", "site") == [f"dist:pyyaml {version}"]


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("import yaml", {"pyyaml"}),
        ("def f():\n    import importlib; importlib.import_module('yaml.nodes')\nf()", {"pyyaml"}),
        ("import onnx", {"onnx", "numpy", "protobuf", "ml-dtypes", "typing-extensions"}),
        ("import numpy", {"numpy"}),
        ("pass", set()),
    ],
)
def test_of_what_was_loaded_before_only_what_is_used_counts(root, code, used):
    names = recorded(root, code, "dist", before="yaml numpy onnx")

    assert {name.removeprefix("dist:").partition(" ")[0] for name in names} == used


def test_what_another_folder_of_the_path_holds_is_known_by_content_or_by_its_record(root, tmp_path):
    place = tmp_path / "place"
    install(place, "fake", "1.0", {"fake.py": "import loose"})
    (place / "loose.py").touch()
    other = tmp_path / "other"
    other.mkdir()
    (other / "bare.py").touch()

    assert recorded(root, "import fake, bare", "dist", "path", "site", path=f"{place}{os.pathsep}{other}") == [
        "dist:fake 1.0",
        f"path:{other}/bare.py",
        "site:loose.py",
    ]


def test_an_editable_installation_is_known_by_the_content_of_its_files(root, tmp_path):
    place, lib = tmp_path / "place", tmp_path / "lib"
    lib.mkdir()
    (lib / "tool.py").touch()
    install(place, "tool", "1.0", {"__editable__.tool.pth": f"{lib}\n"})
    (place / "start.py").write_text(f"import site; site.addsitedir({str(place)!r})")

    names = recorded(root, "import tool", "dist", "path", before="start", path=str(place))
    assert names == [f"path:{lib}/tool.py"]


def test_a_link_is_known_by_its_own_name_and_what_it_leads_to(root, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(name)
    link = root / "models/linked.py"
    link.symlink_to(tmp_path / "one.py")
    names = recorded(root, "import runpy\ntry: import models.linked\nexcept NameError: pass", "file", "path")
    before = inputs.digest("file:models/linked.py", root, sha256_file)
    link.unlink()
    link.symlink_to(tmp_path / "two.py")

    assert "file:models/linked.py" in names and not any(name.startswith("path:") for name in names)
    assert before != inputs.digest("file:models/linked.py", root, sha256_file)


def test_a_name_holds_until_its_file_changes_or_goes(root):
    name, path = "file:labels.txt", root / "labels.txt"
    before = inputs.digest(name, root, sha256_file)

    path.write_text("dog")
    changed = inputs.digest(name, root, sha256_file)
    path.unlink()
    gone = inputs.digest(name, root, sha256_file)

    assert len({before, changed, gone}) == 3
    assert inputs.parse(name).say(before, changed) == "labels.txt changed"
    assert inputs.parse(name).say(before, gone) == "labels.txt is gone"


def test_another_version_of_a_package_does_not_hold(root):
    installed = distributions.distributions()["pyyaml"][0]
    now = inputs.digest("dist:pyyaml 1.0", root, sha256_file)

    assert now != inputs.digest(f"dist:pyyaml {installed}", root, sha256_file)
    assert inputs.parse("dist:pyyaml 1.0").say("some digest", now) == f"pyyaml 1.0 -> {installed}"


def test_a_search_for_installed_packages_does_not_depend_on_the_names_at_the_root(root):
    """torch asks importlib.metadata for entry points, which lists every folder on sys.path, the project's root too."""
    (root / "mine.egg-info").mkdir()
    (root / "mine.egg-info" / "entry_points.txt").write_text("[console_scripts]\nmine = mine:main\n")

    assert recorded(root, "import importlib.metadata; importlib.metadata.entry_points()", "file", "list", "path") == []
