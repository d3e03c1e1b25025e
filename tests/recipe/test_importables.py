from __future__ import annotations

import os
import sys

import pytest
import several

from onnxbuild.recipe.importables import folder_of, problem


def test_nothing_is_imported_or_run(project):
    project.write("pack/__init__.py", "raise SystemExit('the package was run')\n")
    project.write("pack/mod.py", "raise SystemExit('the module was run')\ndef make(): ...\n")
    before = set(sys.modules)
    assert problem("pack.mod:make", project.root) is None
    assert {name for name in sys.modules if name.partition(".")[0] == "pack"} <= before


@pytest.mark.parametrize(
    "source",
    [
        "def f(): ...", "async def f(): ...", "class f: ...", "f = 1", "f: int = 1", "a, (b, *f) = x", "import f",
        "import x as f", "from x import f", "from x import y as f", "if a:\n    pass\nelse:\n    f = 1",
        "try:\n    from a import f\nexcept ImportError:\n    f = None", "with open(x) as f:\n    pass",
        "for f in x:\n    pass", "print(f := 1)", "from x import *", "def __getattr__(name): ...", "globals()['f'] = 1",
        "import sys\nsys.modules[__name__] = x", "exec('f = 1')", "match x:\n    case [f]:\n        pass",
    ],
)  # fmt: skip
def test_names_that_may_be_there(project, source):
    project.write("m.py", source + "\n")
    assert problem("m:f", project.root) is None


@pytest.mark.parametrize(
    "source", ["def g():\n    f = 1", "class C:\n    def f(self): ...", "x = [f for f in y]", "# f", "a.f = 1"]
)
def test_names_that_are_not(project, source):
    project.write("m.py", source + "\n")
    assert problem("m:f", project.root)[0] == "m.py has no 'f' at its top level"


def test_attributes_of_a_name_are_left_to_the_import(project):
    project.write("m.py", "class Net:\n    pass\n")
    assert problem("m:Net.from_config", project.root) is None


def test_what_is_installed_or_built_in(project):
    for name in (
        "json:loads",
        "math:sqrt",
        "os.path:join",
        "torch.nn:Linear",
        "transformers:AutoModel",
        "numpy.linalg:norm",
    ):
        assert problem(name, project.root) is None, name


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a = 1\ndef f(:\n", "m.py:2: not valid Python: invalid syntax"),
        (
            "def f(): ...\nreturn 1\n",
            "m.py:2: not valid Python: 'return' outside function",
        ),  # known to the compiler alone
        ("from x import *\ndef f():\nreturn 1\n", "m.py:3: not valid Python: expected an indented block"),
        (
            "def f(): ...\nx = '\xff'\n".encode("latin-1"),
            "m.py:2: not valid Python: (unicode error) 'utf-8' codec can't",
        ),
        (b"def f(): ...\n\0\n", "m.py: not valid Python: source code string cannot contain null bytes"),
    ],
)
def test_a_syntax_error_has_a_place(project, source, said):
    project.write("m.py", source)
    project.write("broken/__init__.py", source)
    project.write("broken/fine.py", "def f(): ...\n")
    for name, place in (("m:f", said), ("broken.fine:f", said.replace("m.py", "broken/__init__.py"))):
        fact, hint = problem(name, project.root)
        assert fact.startswith(place)
        assert hint == "mend the file"


def test_a_file_in_another_encoding_and_with_odd_escapes_is_valid(project):
    project.write("m.py", "# coding: latin-1\nx = '\\d\xff'\ndef f(): ...\n".encode("latin-1"))
    assert problem("m:f", project.root) is None


def test_installed_modules_are_taken_for_valid(project):
    """They may lie below the project, and are many and large."""
    project.write(".venv/lib/site-packages/pack.py", "def f(:\ndef g(): ...\n")
    sys.path.append(str(project.root / ".venv/lib/site-packages"))
    try:
        assert problem("pack:g", project.root) is None
    finally:
        sys.path.pop()


@pytest.mark.parametrize("content", ["", "# nothing yet\n"])
def test_an_empty_file_has_nothing(project, content):
    project.write("pack/__init__.py", content)
    project.write("pack/zoo.py", content)
    assert problem("pack.zooo:f", project.root) == ("no module 'zooo' in pack", "did you mean 'zoo'?")
    assert problem("pack.zoo:f", project.root) == ("pack/zoo.py has no 'f' at its top level", "")


def test_namespace_packages_below_each_other(project):
    project.write("a/b/c.py", "def f(): ...\n")
    assert problem("a.b.c:f", project.root) is None
    assert problem("a.b.d:f", project.root) == ("no module 'd' in a/b", "known here: c")
    assert problem("a.b:c", project.root) == (
        "a/b is a folder of modules, and has no 'c' of its own",
        "known here: a.b.c",
    )
    assert problem("a.b.c.d:f", project.root) == (
        "'a.b.c' is a module, not a package: it holds no module 'd'",
        "write a.b.c:<function>",
    )


def test_a_file_that_was_just_written_is_seen(project):
    assert problem("late:f", project.root) is not None
    project.write("late.py", "f = 1\n")
    assert problem("late:f", project.root) is None


def test_the_folder_of_a_package():
    import onnxbuild.recipe

    assert folder_of("onnxbuild.recipe") == onnxbuild.recipe.Path(onnxbuild.recipe.__file__).parent
    assert folder_of("onnxbuild.cli") is None
    assert folder_of("no_such_package") is None


def test_a_namespace_in_two_places_is_one_package_to_check_and_to_run(workspace):
    (workspace.root / "p1/ns/a").mkdir(parents=True)
    (workspace.root / "p2/ns/b").mkdir(parents=True)
    recipe = several.add(workspace, "m")
    (workspace.root / "m.onnx").rename(workspace.root / "p2/ns/b/m.onnx")
    workspace.replace(recipe, "{path: m.onnx}", "{path: m.onnx, package: ns.b}")
    workspace.env["PYTHONPATH"] = f"{workspace.root / 'p1'}{os.pathsep}{workspace.root / 'p2'}"
    workspace.run("check", recipe)
    workspace.run("plan", recipe)
    workspace.run("run", recipe)
