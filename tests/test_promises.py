"""Each promise of the README is held by tests that exist: the table in CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
README, CONTRIBUTING = (TESTS.parent.joinpath(name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md"))
TABLE = CONTRIBUTING.partition("tests that hold them")[2].partition("\n## ")[0]
ROWS = {
    row[0]: re.findall(r"`([^`]+)`", row[1]) for row in re.findall(r"^\| ([^|]+) \| (`.+`) \|$", TABLE, re.MULTILINE)
}


def test_each_promise_is_in_the_table():
    top = README.partition("\n## Two commands")[0]
    promises = re.findall(r"^- \*\*(.+?)\*\*", top, re.MULTILINE)
    promises += re.findall(r"^\*\*(.+?)\*\*", README, re.MULTILINE)

    assert len(promises) > 8
    assert [promise for promise in promises if not any(promise.startswith(row) for row in ROWS)] == []


def test_each_test_in_the_table_exists():
    named = [name for names in ROWS.values() for name in names]

    assert len(named) > 20
    for name in named:
        file, _, function = name.partition("::")
        assert f"def {function}(" in (TESTS / file).read_text("utf-8") if function else (TESTS / file).is_file(), name
