"""Terminal looks: every line that a user sees, on a terminal, in a log, in a pipe without Unicode."""

from __future__ import annotations

import io
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from samples import failed, resnet50

from onnxbuild.report.progress import Progress
from onnxbuild.report.types import Failure, Report, StageReport
from onnxbuild.system.locks import Holder
from onnxbuild.text.screen import Screen

DEST = Path("build/resnet50")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Run:
    """A Progress with its streams and a clock that moves when told."""

    def __init__(self, out=None, *, quiet=False, environ=None):
        self.out, self.errors, self.now = out or io.StringIO(), io.StringIO(), 100.0
        self.progress = Progress(
            self.out, quiet=quiet, errors=self.errors, environ=environ or {}, clock=lambda: self.now
        )

    def play(self, report: Report) -> str:
        return self.play_all(report)

    def play_all(self, *reports: Report) -> str:
        self.progress.begin({report.name: len(report.stages) for report in reports})
        for report in reports:
            for stage in report.stages:
                if stage.status in ("built", "failed"):
                    self.progress.started(report.name, stage.name, stage.why)
                    self.now += stage.seconds or 0.0
                    self.progress.tick()
                self.progress.finished(report.name, stage)
            self.progress.summary(report, DEST)
        self.progress.end()
        return self.out.getvalue() if isinstance(self.out, io.StringIO) else ""


def idle() -> Report:
    done = resnet50()
    stages = [msgspec.structs.replace(stage, status="cached") for stage in done.stages]
    return msgspec.structs.replace(done, stages=stages, run=msgspec.structs.replace(done.run, seconds=0.09))


def built(name: str, seconds: float, *why: str) -> StageReport:
    return StageReport(name, "export", "built", "", list(why), [], seconds)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_nothing_to_do_is_one_line(stream):
    assert Run(stream()).play(idle()) == "resnet50: up to date, 12 stages, 0.09 s\n"


def test_a_log_gets_one_plain_line_per_stage_and_a_summary():
    text = Run().play(resnet50())

    lines = text.splitlines()
    assert "\x1b" not in text
    assert "\r" not in text
    assert lines[0] == "= export                     cached"
    assert lines[7] == (
        "✓ optimize/2-onnxoptimizer   built       3.8 s  "
        "recipe field optimize[1].onnxoptimizer changed: [eliminate_deadend] -> [eliminate_deadend, fuse_bn_into_conv]"
    )
    assert lines[12:] == [
        "",
        "resnet50: built in 13.1 s (5 built, 7 cached)",
        "  graph                            nodes        size     error / tolerance",
        "  export                             177      103 MB                 2.4 %",
        "  optimize/1-onnxsim                 122      102 MB                 2.5 %",
        "  optimize/2-onnxoptimizer           121      102 MB                 2.6 %",
        "  latency p50 40.9 ms, p90 44.2 ms, p99 52.8 ms on CPUExecutionProvider",
        "  build/resnet50/model.onnx  102 MB",
        "  build/resnet50/report.html",
        "  note: optimize/1-onnxsim: onnxsim folded 106 constants",
        "  note: CUDAExecutionProvider was asked for; CPUExecutionProvider ran: no CUDA",
        "        device was found.",
        "  note: benchmark: another process was running",
    ]
    assert max(map(len, lines[12:])) <= 80


def test_a_terminal_gets_a_live_line_that_leaves_no_trace():
    run = Run(Terminal())
    run.progress.begin({"resnet50": 12})
    run.progress.started("resnet50", "export", ["recipe field export.opset changed: 17 -> 18"])
    run.progress.started("resnet50", "reference", [])
    run.now += 12.34
    run.progress.tick()

    live = run.out.getvalue().rpartition("\r\x1b[2K")[2]
    assert live == "… resnet50 0/12  export 12.3 s, reference 12.3 s  recipe field export.opset ch…"
    assert len(live) < 80
    run.progress.close()
    assert run.out.getvalue().endswith("\r\x1b[2K")


def test_the_live_line_is_not_redrawn_at_every_tick():
    run = Run(Terminal())
    run.progress.begin({"resnet50": 12})
    run.progress.started("resnet50", "export", [])
    before = run.out.getvalue()
    run.now += 0.01
    run.progress.tick()

    assert run.out.getvalue() == before


def test_a_verdict_replaces_the_live_line_and_fits_the_terminal():
    run = Run(Terminal(), environ={"NO_COLOR": "1"})
    run.progress.begin({"resnet50": 12})
    run.progress.started("resnet50", "export", [])
    run.progress.finished(
        "resnet50", built("export", 9.41, "recipe field export.opset changed: 17 -> 18" * 3, "and another")
    )

    drawn, _, line = run.out.getvalue().rpartition("\r\x1b[2K")
    assert drawn.endswith("export 0.00 s")
    assert line.startswith("✓ export                     built       9.4 s  recipe field")
    assert len(line.rstrip("\n")) < 80


def test_no_color_takes_colours_away_and_nothing_else():
    coloured = Run(Terminal()).play(resnet50())
    bare = Run(Terminal(), environ={"NO_COLOR": "1"}).play(resnet50())

    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == bare
    assert set(re.findall(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", bare)) == {"\x1b[2K"}


def test_a_dumb_terminal_gets_plain_lines():
    assert "\x1b" not in Run(Terminal(), environ={"TERM": "dumb"}).play(resnet50())


def test_a_log_says_every_thirty_seconds_what_is_still_running():
    run = Run()
    run.progress.begin({"resnet50": 12})
    run.progress.started("resnet50", "export", [])
    for _ in range(700):
        run.now += 0.1
        run.progress.tick()

    assert run.out.getvalue() == "  export still running, 30.0 s\n  export still running, 1 min 00 s\n"


def test_a_failure_comes_in_full_on_the_error_stream():
    run = Run()
    text = run.play(failed())

    assert "✗ parity/2-onnxoptimizer     failed      2.4 s" in text
    assert "– package                    skipped            parity/2-onnxoptimizer failed" in text
    assert "resnet50: failed in 13.1 s (2 built, 7 cached, 1 failed, 2 skipped)" in text
    assert "  optimize/2-onnxoptimizer           121      102 MB                28.3 ×" in text
    lines = run.errors.getvalue().splitlines()
    assert lines[1:6] == [
        "✗ parity/2-onnxoptimizer failed",
        "  output 'output' differs from the source model at batch=3 and batch=5; it holds at batch=1 and 2.",
        f"  {failed().failures[0].fact.splitlines()[1]}",
        "  The errors begin with optimize/2-onnxoptimizer; optimize/1-onnxsim is within tolerance.",
        "    hint: remove passes from optimize[1].onnxoptimizer one by one, or raise parity.rtol if 1.6 % is good enough.",
    ]
    assert lines[6] == "  the last 12 lines of its log:"
    assert lines[-2:] == ["  │ case 11: compared", "  more in build/resnet50/report.html"]


def test_quiet_prints_failures_and_nothing_else():
    good, bad = Run(quiet=True), Run(quiet=True)
    good.progress.warn("a damaged object")
    good.play(resnet50())
    bad.play(failed())

    assert good.out.getvalue() + good.errors.getvalue() == ""
    assert bad.out.getvalue() == ""
    assert "parity/2-onnxoptimizer failed" in bad.errors.getvalue()


def test_a_stream_without_unicode_gets_ascii():
    raw = io.BytesIO()
    run = Run(io.TextIOWrapper(raw, encoding="ascii"))
    report = failed()
    run.play(msgspec.structs.replace(report, notes=["modèle"]))

    text = raw.getvalue().decode("ascii")
    assert "x parity/2-onnxoptimizer     failed" in text
    assert "28.3 x" in text
    assert r"mod\xe8le" in text


def test_a_name_cannot_send_control_characters_to_the_terminal():
    run = Run()
    run.progress.begin({"resnet50": 1})
    run.progress.finished("resnet50", built("export\x1b[2J\n", 1.0, "\x1b]0;title\x07\r\b"))
    report = msgspec.structs.replace(resnet50(), failures=[Failure("a\x1b[31m", "b\x1bc", "c\x9b", "d\x1b[1mlog")])
    run.progress.summary(report, DEST)

    text = run.out.getvalue() + run.errors.getvalue()
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_warning_does_not_run_into_the_live_line():
    run = Run(Terminal())
    run.progress.begin({"resnet50": 12})
    run.progress.started("resnet50", "export", [])
    run.progress.warn("objects/ab/cd: damaged; building it again")

    assert run.errors.getvalue() == "warning: objects/ab/cd: damaged; building it again\n"
    assert run.out.getvalue().count("\r\x1b[2K") == 3  # drawn, cleared, drawn again


def test_importing_it_loads_nothing_heavy():
    heavy = "[m for m in ('rich', 'jinja2', 'onnx', 'numpy') if m in sys.modules]"
    code = f"import sys, onnxbuild.report.progress; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_paths_below_the_current_folder_are_shown_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run()
    run.progress.summary(resnet50(), tmp_path / "build" / "resnet50")

    assert "  build/resnet50/model.onnx  102 MB\n" in run.out.getvalue()


def renamed(report: Report, name: str) -> Report:
    return msgspec.structs.replace(report, name=name)


def test_with_several_recipes_each_line_says_which_one_and_a_table_ends_it():
    run = Run()
    reports = [
        renamed(resnet50(), "first"),
        renamed(idle(), "second"),
        renamed(failed(), "a-recipe-with-a-name-of-forty-letters-x"),
    ]
    text = run.play_all(*reports)
    lines = text.splitlines()

    assert lines[0] == "= first export                             cached"
    assert any(line.startswith("✗ a-recipe-with-a-nam…rity/2-onnxoptimizer failed ") for line in lines)
    assert not any("second export" in line for line in lines), "nothing was done there"
    assert lines[-5:] == [
        "  recipe                            status         built  cached         time",
        "  first                             built              5       7       13.1 s",
        "  second                            up to date         0      12       0.09 s",
        "  a-recipe-with-a-…-forty-letters-x failed             2       7       13.1 s",
        "3 recipes in 19.6 s: 1 built, 1 up to date, 1 failed",
    ]
    assert max(map(len, lines[-6:])) <= 80
    assert "✗ a-recipe-with-a-name-of-forty-letters-x parity/2-onnxoptimizer failed" in run.errors.getvalue()


def test_many_recipes_with_nothing_to_do_are_one_line():
    text = Run().play_all(*(renamed(idle(), f"r{n}") for n in range(1200)))

    assert text == "1,200 recipes up to date, 14,400 stages, 0.00 s\n"


def test_many_recipes_that_are_up_to_date_are_a_line_of_the_table():
    reports = [renamed(idle(), f"r{n}") for n in range(6)]
    lines = Run().play_all(*reports, renamed(resnet50(), "new")).splitlines()

    assert [line.split()[0] for line in lines[-4:]] == ["recipe", "new", "and", "7"]
    assert lines[-2] == "  and 6 recipes up to date"


def test_a_live_line_for_several_recipes_counts_all_their_stages():
    run = Run(Terminal())
    run.progress.begin({"a": 5, "b": 1200})
    run.progress.started("b", "export", ["first build"])

    assert run.out.getvalue().endswith("… 2 recipes 0/1,205  b export 0.00 s  first build")


def test_who_is_waited_for_is_said_at_once_and_every_thirty_seconds():
    run = Run()
    run.progress.begin({"a": 5})
    for ago in (2, 20, 31, 45, 61):
        run.progress.waiting("a", "export", Holder(4711, platform.node(), time.time() - ago))
    run.progress.waiting("a", "reference", Holder(0, "", time.time() - 1))
    run.progress.waiting("a", "package", Holder(12, "elsewhere", time.time() - 7200))

    assert run.out.getvalue().splitlines() == [
        "  export waits for process 4711, at it for 2.0 s",
        "  export waits for process 4711, at it for 31.0 s",
        "  export waits for process 4711, at it for 1 min 01 s",
        "  reference waits for another process, at it for 1.0 s",
        "  package waits for process 12 on elsewhere, at it for 2 h 00 min",
    ]


def test_the_page_over_all_recipes_is_named_at_the_end():
    run = Run()
    run.progress.page(Path.cwd() / "build/index.html")
    text = run.play_all(resnet50(), msgspec.structs.replace(resnet50(), name="b"))
    assert not text.endswith("index.html\n"), "it was of the run before"

    run.progress.begin({resnet50().name: 1, "b": 1})
    run.progress.summary(resnet50(), Path.cwd() / "build/a")
    run.progress.page(Path.cwd() / "build/index.html")
    run.progress.end()
    assert run.out.getvalue().endswith("\n  build/index.html\n")


def test_prose_is_folded_between_words_at_a_terminals_width_and_nothing_else_is():
    start, end = "warning: the metric of swish proves nothing where every sample gets the", "outputs of the first alone"
    sentence = f"{start} {end}"
    table = f"  Relu  -  {'a_long_name_' * 8}"
    for lines, shown in (
        ([sentence], [f"{start} outputs", "    of the first alone"]),
        ([f"    {sentence}"], [f"    {start}", f"        {end}"]),
        ([table, f"  │ {sentence}"], [table, f"  │ {sentence}"]),
        ([f"✓ {'x' * 100}"], [f"✓ {'x' * 100}"]),
    ):
        out, piped = Terminal(), io.StringIO()
        for line in lines:
            Screen(out, {"NO_COLOR": "1"}).line(line)
            Screen(piped, {}).line(line)
        assert out.getvalue().splitlines() == shown
        assert piped.getvalue().splitlines() == lines, "whoever searches a log has whole lines"
