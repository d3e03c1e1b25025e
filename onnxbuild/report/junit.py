"""What a run came to as JUnit's XML, which services for continuous integration read: a suite for each recipe. Pure.

A case is a stage, or a comparison with the source model. There is no schema that all readers share: attributes and elements
are those that Ant's JUnit task writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from onnxbuild.errors import Problem
from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import figures, history
from onnxbuild.report.types import Failure, Report, Score, StageReport
from onnxbuild.text import units

_KINDS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def to_xml(reports: Iterable[Report], problems: Iterable[Problem]) -> bytes:
    """The reports of a run, and the problems of recipes that were not built, each an error in its file's suite."""
    root = ET.Element("testsuites", name="onnxbuild")
    for report in reports:
        root.append(_suite(report))
    wrong: dict[str, list[Problem]] = {}
    for problem in problems:
        wrong.setdefault(problem.path or "command line", []).append(problem)
    for path, found in wrong.items():
        root.append(_refused(path, found))
    for name in ("tests", *_KINDS):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(report: Report) -> ET.Element:
    suite = ET.Element("testsuite", name=_line(report.name), timestamp=_line(report.run.started))
    since = history.since(report)
    told = {
        "recipe": report.recipe.path,
        "recipe sha256": report.recipe.sha256,
        "commit": history.revision(since.last.revision) if since else "",
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in told.items():
        if value:
            ET.SubElement(properties, "property", name=name, value=_line(value))
    failures = {failure.stage: failure for failure in report.failures}
    for stage in report.stages:
        _stage(suite, report.name, stage, failures.pop(stage.name, None))
        for score in report.scores:
            if score.stage == stage.name:
                _score(suite, report.name, score)
        for row in report.parity:
            if row.stage == stage.name:
                _comparison(suite, report.name, row)
    for failure in failures.values():  # of the report itself, which no stage makes
        _failed(_case(suite, report.name, failure.stage, 0.0), failure)
    return _counted(suite, report.run.seconds)


def _stage(suite: ET.Element, recipe: str, stage: StageReport, failure: Failure | None) -> None:
    ran = stage.status in ("built", "failed")
    case = _case(suite, recipe, stage.name, (stage.seconds or 0.0) if ran else 0.0)
    if failure is not None:
        _failed(case, failure)
    elif stage.status == "skipped":
        ET.SubElement(case, "skipped", message=_line("; ".join(stage.why)))
    else:
        found = "found in the store" if stage.status == "cached" else ""
        said = "\n".join([*filter(None, [found]), *stage.why, *stage.warnings])
        if said:
            ET.SubElement(case, "system-out").text = units.plain(said)


def _score(suite: ET.Element, recipe: str, row: Score) -> None:
    """A metric as a case of its own."""
    case = _case(suite, f"{recipe}.{row.stage}", row.function, 0.0)
    told = f"{units.value(row.value)} on {units.plural(row.rows, 'sample')}"
    if row.drop is not None:
        told += f", worse than the source model by {figures.drop(row)}, of {units.value(row.max_drop)} allowed"
    if row.passed:
        ET.SubElement(case, "system-out").text = units.plain(told)
    else:
        ET.SubElement(case, "failure", message=_line(told), type="metric")


def _comparison(suite: ET.Element, recipe: str, row: Verdict) -> None:
    case = _case(suite, f"{recipe}.{row.stage}", f"{row.output} at {row.case}", 0.0)
    share = units.share(figures.ratio(row))
    error = f"the error is {share} of the tolerance" if share else row.status
    if row.status == "failed":
        message = row.note or error
        failure = ET.SubElement(case, "failure", message=_line(message), type="parity")
        failure.text = units.plain("\n".join([message, *_details(row, error)]))
    elif row.status != "passed":
        ET.SubElement(case, "skipped", message=_line(f"{row.status}: {row.note}" if row.note else row.status))
    else:
        ET.SubElement(case, "system-out").text = units.plain("\n".join([error, *(gate.told for gate in row.gates)]))


def _details(row: Verdict, error: str) -> list[str]:
    told = [error]
    if row.worst is not None:
        got, reference = units.value(row.worst.got), units.value(row.worst.reference)
        told.append(f"{row.output}{row.worst.index} is {got} where the source model gives {reference}")
    if row.rtol is not None and row.atol is not None:
        told.append(f"rtol {row.rtol:g}, atol {row.atol:g}")
    return [*told, *(gate.told for gate in row.gates)]


def _refused(path: str, problems: Sequence[Problem]) -> ET.Element:
    suite = ET.Element("testsuite", name=_line(path))
    for problem in problems:
        place = f"{problem.line}:{problem.column} {problem.where}".strip() if problem.line else problem.where
        case = _case(suite, path, place or "recipe", 0.0)
        error = ET.SubElement(case, "error", message=_line(problem.fact), type="recipe")
        error.text = units.plain(str(problem))
    return _counted(suite, 0.0)


def _case(suite: ET.Element, of: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_line(of), name=_line(name), time=f"{seconds:.3f}")


def _failed(case: ET.Element, failure: Failure) -> None:
    """The fact and the hint as the failure's text, the end of the log as what the case printed."""
    first = failure.fact.partition("\n")[0]
    made = ET.SubElement(case, "failure", message=_line(first), type="stage")
    made.text = units.plain("\n\n".join(filter(None, [failure.fact, failure.hint and f"hint: {failure.hint}"])))
    if failure.log:
        ET.SubElement(case, "system-out").text = units.plain(failure.log)


def _counted(suite: ET.Element, seconds: float) -> ET.Element:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, kind in _KINDS.items():
        suite.set(name, str(sum(case.find(kind) is not None for case in cases)))
    suite.set("time", f"{seconds:.3f}")
    return suite


def _line(text: str) -> str:
    return units.line(text)
