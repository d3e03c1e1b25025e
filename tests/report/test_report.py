"""The three files of a report: what is in them, that they stand alone, and that no name gets out of its place."""

from __future__ import annotations

import html
import html.parser
import re
import subprocess
import sys

import jsonschema
import msgspec
import pytest
from samples import HOSTILE, failed, hostile, resnet50

from onnxbuild import report as reports
from onnxbuild.parity.verdict import Verdict
from onnxbuild.report import render
from onnxbuild.report.types import Failure, Report, StageReport

VOID = {"meta", "br", "link", "img", "input", "hr", "wbr"}


class Page(html.parser.HTMLParser):
    """Tags that were opened, attributes by tag, and whether each tag was closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.parts: list[str] = []
        self.feed(text)
        assert self.open == []
        self.text = "".join(f"{part} " for part in self.parts)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.parts.append(data)


def large(rows: int) -> Report:
    """A report with very many comparisons, stages, ops and long names, a third of the rows failed."""
    name = "encoder.layer.attention.self.query_" * 5
    done = resnet50()
    row = done.parity[0]
    parity = [
        msgspec.structs.replace(
            row, stage=f"parity/{n % 30}-{name}", case=f"case {n} {name}", output=f"{name}{n}", note=f"{name} " * 9,
            status="passed" if n % 3 else "failed", passed=bool(n % 3),
        )
        for n in range(rows)
    ]  # fmt: skip
    graphs = [
        msgspec.structs.replace(
            done.graphs[0], stage=f"optimize/{n}-{name}", ops={f"{name}{o}": n + o for o in range(200)}
        )
        for n in range(20)
    ]
    stage = StageReport("", "optimize", "built", "0" * 64, [name] * 9, [], 1.0, warnings=[name * 50] * 40)
    stages = [msgspec.structs.replace(stage, name=f"optimize/{n}-{name}") for n in range(80)]
    return msgspec.structs.replace(done, parity=parity, graphs=graphs, stages=stages, notes=[name * 9] * 300)


SAMPLES = [resnet50, failed, hostile]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_satisfy_the_schema_and_survive_a_round_trip(sample, tmp_path):
    path = reports.write(sample(), tmp_path, html=False)[0]

    data = msgspec.json.decode(path.read_bytes())
    jsonschema.Draft202012Validator(msgspec.json.schema(Report)).validate(data)
    assert msgspec.convert(data, Report) == sample()


def test_writing_gives_the_files_of_the_same_bytes_each_time(tmp_path):
    first = {path.name: path.read_bytes() for path in reports.write(resnet50(), tmp_path / "a")}
    second = {path.name: path.read_bytes() for path in reports.write(resnet50(), tmp_path / "b")}

    assert list(first) == [
        "report.json", "report.md", "report.html", "bom.cdx.json", "manifest.json", "provenance.json"
    ]  # fmt: skip
    assert first == second
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(first)


def test_with_nothing_done_the_file_stays_as_it_is(tmp_path):
    report = resnet50()
    reports.write(report, tmp_path)
    later = msgspec.structs.replace(report, run=msgspec.structs.replace(report.run, seconds=0.01, started="2030"))
    before = (tmp_path / "report.json").stat()

    assert reports.write(later, tmp_path, html=False) == []
    after = (tmp_path / "report.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    other = msgspec.structs.replace(later, description="other words")
    assert reports.write(other, tmp_path, html=False) == [tmp_path / "report.json"]
    assert reports.read(tmp_path / "report.json") == other


def test_mappings_are_sorted_in_the_json():
    done = resnet50()
    reversed_tools = msgspec.structs.replace(done, tools=dict(reversed(done.tools.items())))

    assert reports.to_json(reversed_tools) == reports.to_json(done)
    assert reports.to_json(done).startswith(b'{\n  "version": 1,\n  "name": "resnet50",')


def test_json_alone_does_not_load_jinja2():
    code = "import sys, pathlib, onnxbuild.report as r; print('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_page_stands_alone(sample):
    page = Page(render.html(sample()))

    assert not page.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert {name for _, name, _ in page.attributes if name.startswith("on")} == set()
    assert {value for _, name, value in page.attributes if name in ("src", "action", "xlink:href")} == set()
    links = {value for _, name, value in page.attributes if name == "href"} - {"report.json", "report.md"}
    assert all(re.fullmatch(r"\./[\w./%~-]+", link) for link in links), (
        "in the page's own folder, whatever it is called"
    )
    assert "url(" not in render.html(resnet50()).replace("url(#tip)", "")


def test_no_hostile_name_becomes_markup_in_html():
    text = render.html(hostile())

    assert "<script" not in text
    assert not any("\x1b" in log for log in re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL))
    assert HOSTILE.split("\n")[0] in Page(text).text  # it is shown, as what it is


def test_what_a_recipe_leaves_empty_is_no_row():
    source = {"onnx": {"path": "a.onnx", "sha256": "", "package": ""}}
    text = render.html(msgspec.structs.replace(resnet50(), source=source))

    assert "<dt>onnx.path</dt>" in text and "<dt>onnx.package</dt>" not in text


def test_a_picture_is_never_larger_than_it_is_drawn():
    style = re.search(r"\.dag \{(.*?)\}", render.html(resnet50()))

    assert style and "max-width: 100%" in style[1] and "min-width" not in style[1]
    assert not re.search(r"\.dag \{[^}]*[; ]width: 100%", render.html(resnet50()))


def test_the_page_leads_with_the_failure():
    text = Page(render.html(failed())).text

    order = [
        "Failed at parity/2-onnxoptimizer",
        "differs from the source model",
        "What to do:",
        "end of its log",
        "Stages",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_the_page_has_every_part():
    text = " ".join(Page(render.html(resnet50())).text.split())

    for words in [
        "Built in 13.1 s", "recipes/resnet.yaml", "parity/1-onnxsim", "4 passed", "Cases left out", "batch=64",
        "BatchNormalization 53 0 −53 0", "p99 52.8 ms", "CPUExecutionProvider", "dynamic_axes", "fuse_bn_into_conv",
        "torch 2.13.0+cpu", resnet50().artifacts[0].sha256, resnet50().recipe.sha256, "[ batch , 3, 224, 224]",
        "batch 1 to 64 1, 2, 3, 5", "onnxsim folded 106 constants",
    ]:  # fmt: skip
        assert words in text


def test_a_picture_shows_each_status_by_more_than_colour():
    text = render.html(failed())

    for status in ("built", "cached", "failed", "skipped"):
        assert f'<g class="{status}"' in text
        assert re.search(rf'<text class="time"[^>]*>{status}', text)


def test_a_build_that_failed_before_any_graph_still_has_a_page():
    bad = failed()
    early = msgspec.structs.replace(
        bad, graphs=[], parity=[], cases_left_out=[], stages=bad.stages[:1], notes=[], tools={}
    )

    assert "Failed at" in Page(render.html(early)).text
    assert "Failed at" in render.markdown(early)
    assert "Parity" not in render.markdown(early)


def test_markdown_tells_the_story_in_order():
    text = render.markdown(failed())

    order = [
        "## ❌ resnet50",
        "### ❌ parity/2",
        "**What to do:**",
        "```text",
        "What changed since the build before",
        "### Parity",
        "### Graphs",
        "```mermaid",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "| BatchNormalization | 53 | 0 | 0 |" in text


def test_numbers_and_remedies_in_markdown_are_told_whole():
    fact = (
        f"case {'batch=32,' * 20}: y is -0.347858757, the reference has -11.1314793: 10.8 off, {'0.0111 allowed, ' * 9}"
    )
    told = msgspec.structs.replace(
        failed(), failures=[Failure("parity/export", fact, f"{fact}: hint")], notes=[f"{fact}: note"]
    )
    text = html.unescape(render.markdown(told).replace("\\", ""))

    assert all(sentence in text for sentence in (fact, f"{fact}: hint", f"{fact}: note"))


def test_a_benchmarks_note_is_told_once_in_markdown():
    assert render.markdown(resnet50()).count("another process was running") == 1


def test_markdown_of_endless_sentences_fits_all_the_same():
    endless = "<" * 100_000
    told = msgspec.structs.replace(failed(), failures=[Failure("export", endless, endless)] * 9, notes=[endless] * 9)

    assert len(render.markdown(told).encode()) <= render.MARKDOWN_LIMIT


def test_every_row_of_a_markdown_table_has_the_cells_of_its_head():
    for sample in SAMPLES:
        cells = 0
        for line in render.markdown(sample()).splitlines():
            found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            assert found == cells or not cells or not found, line
            cells = found


def test_no_hostile_name_becomes_markup_in_markdown():
    text = render.markdown(hostile())
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", text)  # fenced blocks show anything as it is

    assert "<script" not in outside
    assert "@all" not in outside
    assert not re.search(r"(?<!\\)`|(?<!\\)\[a|&amp;amp;", outside)
    assert set(re.findall(r"</?(\w+)", outside)) == {"details", "summary"}
    assert all(re.fullmatch(r"\./[\w./%~-]+", link) for link in re.findall(r"(?<!\\)\]\((.*?)\)", outside))
    assert text.count("````text") == 1  # the log holds a fence of three


def test_mermaid_labels_cannot_be_left():
    labels = re.findall(r'^  s\d+\["(.*)"\]:::\w+$', render.mermaid(hostile()), re.MULTILINE)

    assert len(labels) == len(hostile().stages)
    assert not any(re.search(r'["`<>]', label.replace("<br/>", "")) for label in labels)


@pytest.mark.parametrize("rows", [500, 5000])
def test_markdown_fits_into_a_comment(rows):
    text = render.markdown(large(rows))

    assert len(text.encode()) < 60_000
    assert "more, in report.html" in text


def test_a_large_report_folds_on_the_page_too():
    text = render.html(large(500))

    assert text.count('<details class="group"') == 30
    Page(text)


def test_rows_that_were_not_compared_show_no_bar():
    rows = [
        Verdict("parity/export", "example", "y", passed=True, status="not run", note="com.acme::Gate has no kernel")
    ]
    page = Page(render.html(msgspec.structs.replace(resnet50(), parity=rows)))

    assert "com.acme::Gate has no kernel" in page.text
    assert "1 of 1 was not run." in page.text


def test_how_strictly_shapes_are_compared_is_no_tolerance():
    """Where nothing was compared element by element, nothing says that only equality will do."""
    done = resnet50()
    row = msgspec.structs.replace(
        done.parity[0], rtol=None, atol=None, max_abs=None, max_rel=None, worst=None, headroom=None, resolution=None
    )
    other = msgspec.structs.replace(row, passed=False, status="failed", why="interface", note="shape [2], not [3]")
    equal = msgspec.structs.replace(row, headroom=0.0)
    for rows, said in (([other], False), ([equal], True), ([other, equal], True)):
        text = render.html(msgspec.structs.replace(done, parity=rows))
        assert (text.count('<td class="number">exact</td>') == 1) is said
