from __future__ import annotations

import xml.etree.ElementTree as ET

from samples import HOSTILE, failed, hostile, resnet50

from onnxbuild.errors import Problem
from onnxbuild.report import junit


def cases(suite: ET.Element) -> dict[str, ET.Element]:
    return {f"{case.get('classname')} {case.get('name')}": case for case in suite.findall("testcase")}


def test_a_suite_for_each_recipe_and_a_case_for_each_stage_and_comparison():
    root = ET.fromstring(junit.to_xml([resnet50(), failed()], []))
    good, bad = root.findall("testsuite")
    done, broken = cases(good), cases(bad)

    assert good.get("name") == "resnet50" and len(done) == 12 + 12 == int(good.get("tests", ""))
    assert (good.get("failures"), good.get("skipped"), good.get("errors")) == ("0", "0", "0")
    assert (bad.get("failures"), bad.get("skipped")) == ("5", "2"), "a stage and its four comparisons; what came after"
    assert (root.get("tests"), root.get("failures")) == ("48", "5")
    assert float(done["resnet50 benchmark"].get("time", "")) == 6.2
    assert float(done["resnet50 export"].get("time", "")) == 0, "it came from the store"

    failure = broken["resnet50 parity/2-onnxoptimizer"].find("failure")
    assert failure is not None
    assert failure.get("message", "").startswith("output 'output' differs from the source model")
    assert "hint: remove passes" in (failure.text or "") and "allowed 0.00043" in (failure.text or "")
    row = broken["resnet50.parity/2-onnxoptimizer output at batch=5"].find("failure")
    assert row is not None
    assert "the error is 28.3 × of the tolerance" in (row.text or "") and "output[4, 417] is" in (row.text or "")
    skipped = broken["resnet50 package"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "parity/2-onnxoptimizer failed"


def test_problems_of_recipes_are_errors():
    root = ET.fromstring(junit.to_xml([], [Problem("a.yaml", 3, 5, "export.opset", "is no number", "write 17")]))
    (case,) = root.iter("testcase")
    error = case.find("error")

    assert error is not None
    assert (case.get("classname"), case.get("name")) == ("a.yaml", "3:5 export.opset")
    assert (root.get("errors"), error.get("message")) == ("1", "is no number")
    assert "hint: write 17" in (error.text or "")


def test_no_hostile_name_breaks_the_xml():
    text = junit.to_xml([hostile()], [Problem(HOSTILE, 1, 1, HOSTILE, HOSTILE + "\ud800\0", HOSTILE)])
    root = ET.fromstring(text)

    assert all(not element.tag.startswith("script") for element in root.iter())
    assert b"\x1b" not in text
