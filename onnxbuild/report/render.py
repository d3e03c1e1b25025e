"""A report as Markdown and as HTML, from the templates beside it. Pure: report in, text out.

Not on the light path: imports jinja2. HTML is autoescaped; the Markdown environment escapes every expression that is
not marked as Markdown already.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from onnxbuild.report import charts, figures, history, view
from onnxbuild.report import fleet as fleets
from onnxbuild.report.types import Failure, Report
from onnxbuild.text import units

if TYPE_CHECKING:
    from jinja2.bccache import Bucket

TEMPLATES = Path(__file__).parent / "templates"
MARKDOWN_LIMIT = 60_000  # bytes; GitHub refuses a comment of more than 65,536 characters
_MARKED = str.maketrans({c: f"\\{c}" for c in "\\`*_[]~$"} | {c: f"&#{ord(c)};" for c in "<>&|@#"})
_CELL = 120  # characters of one name or text in a table of Markdown
_PROSE = 2000  # of a sentence outside of tables: numbers and remedies stand at its end
_MERMAID_STAGES = 60
_WHOLE = 26  # characters of a name that fit on a line anywhere
_ENDLESS = 100  # characters of a name in which nobody looks for its parts
_PARTS = re.compile(r"[^/_.:-]*[/_.:-]+|[^/_.:-]+")  # of a name, each with what parts it from the next
ICONS = {"built": "✅", "cached": "♻️", "failed": "❌", "skipped": "⏭️", "passed": "✅", "vacuous": "⚠️", "not run": "⚠️"}


class Markdown(str):
    """A text that is Markdown already."""

    __slots__ = ()


def html(report: Report) -> str:
    """One self-contained page: no script, nothing loaded."""
    template = environment(autoescape=True).get_template("report.html.j2")
    drawing, nodes = view.picture(report.stages)
    drawn = {
        "errors": charts.errors(report),
        "latency": charts.latency(report.benchmark) if report.benchmark else None,
        "ops": charts.ops(report.graphs),
        "costs": charts.costs(report.stages),
    }
    return template.render(**_shared(report), **drawn, drawing=drawing, nodes=nodes, bar=view.bar)


def markdown(report: Report) -> str:
    """GitHub-flavoured Markdown that fits into a pull request's comment, however long the report."""
    template = environment(autoescape=False).get_template("report.md.j2")
    text = ""
    for rows in (40, 12, 4, 1):  # a report of absurd names and counts is told with fewer of them
        text = template.render(**_shared(report), limit=rows, diagram=mermaid(report) if rows > 4 else Markdown())
        text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        if len(text.encode()) <= MARKDOWN_LIMIT:
            break
    return text


def fleet(reports: Mapping[str, Report], unread: Sequence[str]) -> str:
    """The page over all recipes of a folder, by the names of their own; `unread` are those whose report can't be read."""
    template = environment(autoescape=True).get_template("fleet.html.j2")
    page: str = template.render(fleet=fleets.of(reports, unread), figures=figures)
    return page


def _without_orders(value: object) -> object:
    """A text without control characters and the marks that turn its order around; what is markup already stays."""
    return value if not isinstance(value, str) or hasattr(value, "__html__") else units.plain(value)


def escape_markdown(value: object) -> str:
    """A text of unknown origin on one line of Markdown, in a table's cell too: it stays what it is, letter by letter."""
    if isinstance(value, Markdown):
        return value
    return units.clip(units.line(str(value)), _CELL).translate(_MARKED)


def prose(value: str, rows: int) -> Markdown:
    """A sentence that is told whole; cut short only where of everything just one row is shown."""
    return Markdown(units.clip(units.line(value), _PROSE if rows > 1 else _CELL).translate(_MARKED))


def name(value: str) -> Markup:
    """A name in HTML that is broken between its parts and nowhere else, a short one not at all, a very long one anywhere."""
    text = units.plain(value)
    if len(text) <= _WHOLE or len(text) > _ENDLESS:
        return Markup('<span class="{}">{}</span>').format("nowrap" if len(text) <= _WHOLE else "long", text)
    return Markup("<wbr>").join(_PARTS.findall(text))


def href(path: str) -> str:
    """The address of a file in the page's own folder, whatever is in its name."""
    return "./" + urllib.parse.quote(path, errors="replace")


def link(path: str) -> Markdown:
    """The same as Markdown, with the file's name."""
    return Markdown(f"[{escape_markdown(path)}]({href(path)})")


def code_block(text: str, limit: int) -> Markdown:
    """The last lines of a log as a fenced block, its fence longer than any in the text."""
    kept = "\n".join(units.clip(line, 400) for line in units.plain(text).rstrip().splitlines()[-limit:])
    longest = max((len(run) for run in re.findall(r"`{3,}", kept)), default=2)
    fence = "`" * (longest + 1)
    return Markdown(f"{fence}text\n{kept}\n{fence}")


def mermaid(report: Report) -> Markdown:
    """The stage DAG as a Mermaid flowchart, "" where it would be too large to read."""
    if not 0 < len(report.stages) <= _MERMAID_STAGES:
        return Markdown()
    ids = {stage.name: f"s{index}" for index, stage in enumerate(report.stages)}
    lines = ["```mermaid", "flowchart LR"]
    for stage in report.stages:
        took = f"<br/>{units.seconds(stage.seconds)}" if stage.seconds is not None else ""
        label = f"{ICONS[stage.status]} {_mermaid_text(stage.name)}{took}"
        lines.append(f'  {ids[stage.name]}["{label}"]:::{stage.status}')
    drawing, _ = view.picture(report.stages)
    lines += [f"  {ids[arrow.source]} --> {ids[arrow.target]}" for arrow in drawing.arrows]
    lines += [
        "  classDef built stroke:#1a7f47,stroke-width:2px",
        "  classDef cached stroke:#8a919e,stroke-dasharray:4 3",
        "  classDef failed stroke:#c62828,stroke-width:3px",
        "  classDef skipped stroke:#8a919e,stroke-dasharray:1 4",
        "```",
    ]
    return Markdown("\n".join(lines))


def _mermaid_text(name: str) -> str:
    """A name within a quoted Mermaid label, what could end or format it written as character codes."""
    return "".join(c if c.isalnum() or c in " /-_.,:=" else f"#{ord(c)};" for c in units.clip(units.line(name), 60))


def _shared(report: Report) -> dict[str, Any]:
    """What both templates read."""
    since = history.since(report)
    return {
        "report": report,
        "headline": view.headline(report),
        "parity_sentence": view.parity_sentence(report),
        "tiles": view.tiles(report),
        "groups": view.parity_groups(report.parity),
        "op_rows": view.op_table(report.graphs),
        "levels": figures.levels(report),
        "figures": figures,
        "allowances": figures.allowances(report),
        "graph": figures.final_graph(report),
        "notes": figures.notes(report),
        "source": view.source_facts(report.source),
        "exporter": view.exporter(report),
        "dimensions": view.dimensions(report),
        "since": since,
        "revision": history.revision(since.last.revision) if since else "",
        "history": history,
        "failures": [_clean(failure) for failure in report.failures],
    }


def _clean(failure: Failure) -> Failure:
    return Failure(
        failure.stage,
        units.plain(failure.fact),
        units.plain(failure.hint),
        units.plain(failure.log).rstrip(),
        [units.line(name) for name in failure.kept],
    )


class _Compiled(jinja2.FileSystemBytecodeCache):
    """Compiled templates, beside their sources as Python keeps its own modules; where there is no room, none are kept.

    What they depend on beside their source, this module and jinja2, is in the names of the files.
    """

    def __init__(self) -> None:
        made_by = hashlib.sha256(Path(__file__).read_bytes() + metadata.version("jinja2").encode()).hexdigest()[:16]
        super().__init__(str(TEMPLATES / "__pycache__"), f"%s.{made_by}.jinja")

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what is kept, where anything is."""
        with contextlib.suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep one. A folder that can't be written to is no fault."""
        if not sys.dont_write_bytecode:
            with contextlib.suppress(OSError):
                Path(self.directory).mkdir(exist_ok=True)
                super().dump_bytecode(bucket)


@functools.cache
def environment(*, autoescape: bool) -> jinja2.Environment:
    """The templates' surroundings: with `autoescape` for HTML, else for Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        bytecode_cache=_Compiled(),
        autoescape=autoescape,  # noqa: S701  # Markdown is not HTML: `finalize` escapes it
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_without_orders if autoescape else escape_markdown,
    )
    environment.globals.update(units=units, view=view, icons=ICONS)
    environment.filters.update(code_block=code_block, literal=Markdown, prose=prose, name=name, href=href, link=link)
    return environment
