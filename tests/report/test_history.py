"""Why anything was built, said once."""

from __future__ import annotations

import msgspec
from samples import resnet50

from onnxbuild.report import history
from onnxbuild.report.types import Report, Revision


def built(**why: list[str]) -> Report:
    """A report whose stages were built for these reasons, all others cached."""
    stages = [
        msgspec.structs.replace(stage, status="built" if stage.name in why else "cached", why=why.get(stage.name, []))
        for stage in resnet50().stages
    ]
    return msgspec.structs.replace(resnet50(), stages=stages)


def test_each_cause_is_said_once_and_what_follows_is_left_out():
    found = history.since(
        built(
            export=["torch 2.12 -> 2.13", "net.py changed"],
            reference=["torch 2.12 -> 2.13"],
            benchmark=["input graph changed", "torch 2.12 -> 2.13"],
            package=["first build"],
        )
    )
    assert found is not None
    assert history.title(found) == "What changed since the build before"
    assert [(cause.text, history.stages(cause.stages)) for cause in found.causes] == [
        ("torch 2.12 -> 2.13", "export and 2 more"), ("net.py changed", "export"), ("new", "package"),
    ]  # fmt: skip


def test_a_first_build_has_no_causes():
    found = history.since(built(export=["first build"], benchmark=["first build"]))
    assert found is not None
    assert found.causes == [] and history.title(found) == "First build: nothing was there before"


def test_what_was_last_built_is_carried_from_report_to_report():
    first = built(export=["net.py changed"])
    idle = built()
    read = msgspec.convert(msgspec.to_builtins(first), history.Before)
    second = history.carried(idle, read)
    third = history.carried(idle, msgspec.convert(msgspec.to_builtins(second), history.Before))

    for report in (second, third):
        found = history.since(report)
        assert found is not None
        assert history.title(found) == "Last built 2026-01-17 09:12 UTC, because"
        assert found.causes == [("net.py changed", ["export"])]
        assert found.last.revision == first.run.revision
    assert history.carried(first, read) == first, "what was built now has its own reasons"
    assert history.since(idle) is None and history.carried(idle, None) == idle


def test_a_commit_in_words():
    assert history.revision(None) == ""
    assert history.revision(Revision("0123456789abcdef", changed=False)) == "0123456789ab"
    assert history.revision(Revision("0123456789abcdef", changed=True)) == "0123456789ab, with uncommitted changes"
