from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from onnxbuild.recipe import yaml_reader
from onnxbuild.recipe.findings import dotted
from onnxbuild.recipe.yaml_reader import Unreadable, read


@pytest.fixture(params=["libyaml", "pure Python"])
def _loader(request, monkeypatch):
    if request.param == "libyaml" and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    loader = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(yaml_reader, "_LOADER", loader)


def refused(text: str) -> yaml_reader.Issue:
    with pytest.raises(Unreadable) as caught:
        read(text)
    return caught.value.issue


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("No", "No"), ("true", True), ("FALSE", False), ("~", None), ("", None),
        ("Null", None), ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("0b1", "0b1"), ("017", 17),
        ("0o17", 15), ("0xfF", 255), ("-5", -5), ("+5", 5), ("1e-3", 0.001), ("1.", 1.0), (".5", 0.5),
        ("-1.5E+2", -150.0),
        ("'5'", "5"), ('"true"', "true"), ("!!str 5", "5"), ("! 5", "5"), ("1.2.3", "1.2.3"), ("-", "-"), ("=", "="),
        ("18446744073709551615", 2**64 - 1),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_loader")
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    if text == "-":  # a list of nothing by itself
        text, value = "'-'", "-"
    data = read(f"a: {text}\n").data
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


@pytest.mark.usefixtures("_loader")
def test_keys_are_strings():
    assert read("{0: a, 1.5: b, true: c, null: d, '0x1': e}").data == dict(
        zip(("0", "1.5", "true", "null", "0x1"), "abcde", strict=True)
    )


@pytest.mark.usefixtures("_loader")
def test_every_scalar_of_a_recipe_stands_where_it_is_said_to(good):
    document, lines = read(good), good.split("\n")
    checked = 0

    def walk(node, path):
        nonlocal checked
        for step, child in node.items.items():
            line, column = document.place((*path, step), key=True)
            if isinstance(step, str):
                assert lines[line - 1][column - 1 :].startswith(f"{step}:")
            if not child.items:
                line, column = document.place((*path, step))
                if child.raw:
                    assert lines[line - 1][column - 1 :].startswith(child.raw)
                    checked += 1
            walk(child, (*path, step))

    walk(document.root, ())
    assert checked == 30


@pytest.mark.usefixtures("_loader")
def test_an_alias_is_read_where_it_is_used():
    document = read("a: &x {b: 1}\nc: *x\n")
    assert document.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert document.place(("c",)) == (2, 1)
    assert document.place(("c", "b")) == (1, 11)


def test_what_is_not_in_the_text_has_the_place_of_what_is_around_it():
    document = read("a:\n  b:\n    - {c: 1}\n")
    assert document.place(("a", "b", 0, "missing", "x")) == (3, 7)
    assert document.place(("nowhere",)) == (1, 1)


def test_paths_are_written_as_readers_write_them():
    assert dotted(("optimize", 0, "onnxsim")) == "optimize[0].onnxsim"
    assert dotted(()) == ""


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n  b: 1\n\tc: 2\n", "\ta: 1\n", "- 1\n\t- 2\n"])
@pytest.mark.usefixtures("_loader")
def test_tabs_as_indentation(text):
    issue = refused(text)
    assert issue.fact == "a tab as indentation"
    assert text.split("\n")[issue.line - 1][issue.column - 1] == "\t"


@pytest.mark.usefixtures("_loader")
def test_tabs_in_text_are_fine():
    assert read("b: |\n  x\n  \ty\n").data == {"b": "x\n\ty\n"}


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
TOWER = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (LAUGHS, "more than 100000 values, aliases written out"),
        (TOWER, "nested more than 64 levels deep"),
        (f"[{'x,' * 100_001}]", "more than 100000 values, aliases written out"),
        ("[" * 100_000, "nested more than 64 levels deep"),
        ("- " * 10_000 + "x", "nested more than 64 levels deep"),
        ("a: &a [*a]", "alias '*a' holds itself"),
        ("a: &a {b: {c: *a}}", "alias '*a' holds itself"),
        ("a: *b", "alias '*b' has no anchor '&b' before it"),
        ("&a x: *a\n? *a\n: 1", "a key must be plain text, not an alias"),
        ("? [1]\n: 2", "a key must be plain text, not a list or a mapping"),
        ("{{ name }}: 1", "a key must be plain text, not a list or a mapping"),
    ],
    ids=["laughs", "tower", "wide", "deep flow", "deep block", "self", "self2", "lost", "key", "list key", "jinja"],
)  # fmt: skip
@pytest.mark.usefixtures("_loader")
def test_bombs_and_knots(text, fact):
    issue = refused(text)
    if text.startswith("&a x"):  # an anchor on a key names nothing
        assert "alias" in issue.fact
    else:
        assert issue.fact == fact


@pytest.mark.usefixtures("_loader")
def test_what_is_wrong_with_single_parts_comes_all_at_once():
    document = read('a: 1\na: 2\n<<: {b: 1}\nc: !!int "5"\nd: .nan\ne: 1e999\nf: "x\\0y"\n')
    assert [(issue.line, issue.fact) for issue in document.issues] == [
        (2, "duplicate key 'a'"),
        (3, "merge keys ('<<') are not supported"),
        (4, "tag '!!int' is not supported"),
        (5, ".nan is not a finite number"),
        (6, "the number 1e999 is too large"),
        (7, "the text holds U+0000, which cannot be printed"),
    ]
    assert document.data["a"] == 1


def test_a_quoted_merge_key_is_a_key():
    assert read("'<<': 1").data == {"<<": 1}


@given(st.text(alphabet=st.sampled_from("ab: -[]{},&*!|>'\"%@`#?\n\t\r~<=.0e\\\x85\u2028é\ufeff\x00"), max_size=60))
@example('a: "\\ud800"')
@example("%YAML 1.3\n---\na")
@example("a: !<")
def test_any_text_is_read_or_refused(text):
    for loader in dict.fromkeys((yaml_reader._LOADER, yaml.SafeLoader)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml_reader, "_LOADER", loader)
            try:
                document = read(text)
            except Unreadable as error:
                issues = (error.issue,)
            else:
                issues = document.issues
            assert all(issue.line >= 1 and issue.column >= 1 for issue in issues)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a: b: c\n", "text that holds ': ' needs quotes"),
        ("a: @b\n", "text that starts with '@', '`' or '%' needs quotes"),
        ("a: `b\n", "text that starts with '@', '`' or '%' needs quotes"),
        ("a: 1\n b: 2\n", "text that holds ': ' needs quotes"),
        ("a:\n  b: 1\n c: 2\n", "check the indentation of this line and the ones above"),
        ("a: 1\n- b\n", "check the indentation of this line and the ones above"),
        ("a: 1\nbc\nd: 2\n", "a key needs ': ' after it"),
        ('a: "b\n', "a quote is opened and never closed"),
        ("a: [1, 2\nb: 3\n", "a bracket is opened and never closed"),
        ('a: "C:\\d"\n', "a backslash in double quotes starts an escape; use single quotes"),
        ("a: *b\n", "text that starts with '*' needs quotes"),
    ],
)
def test_what_yaml_refuses_comes_with_what_was_likely_meant(text, hint):
    with pytest.raises(yaml_reader.Unreadable) as caught:
        yaml_reader.read(text)
    assert caught.value.issue.hint == hint
