"""A diff as Markdown for a pull request, and as one self-contained HTML page, side by side. Imports jinja2."""

from __future__ import annotations

import re

from onnxbuild.report import changes_view, render
from onnxbuild.report.changes import Diff
from onnxbuild.text import units

LINES = 400  # of a recipe's diff on the page


def html(diff: Diff) -> str:
    """One page: no script, nothing loaded."""
    template = render.environment(autoescape=True).get_template("diff.html.j2")
    return template.render(
        diff=diff,
        headline=changes_view.headline(diff),
        sections=changes_view.sections(diff),
        recipe=changes_view.recipe_pairs(diff.recipe)[:LINES],
        more=max(len(diff.recipe) - LINES, 0),
    )


def markdown(diff: Diff) -> str:
    """GitHub-flavoured Markdown that fits into a pull request's comment, however much is different."""
    template = render.environment(autoescape=False).get_template("diff.md.j2")
    text = ""
    for rows in (40, 12, 4, 1):
        kept = [units.clip(line, 400) for line in diff.recipe[: rows * 4]]
        text = template.render(
            diff=diff,
            headline=changes_view.headline(diff),
            sections=changes_view.sections(diff),
            limit=rows,
            recipe=_block(kept),
            more=len(diff.recipe) - len(kept),
        )
        text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
        if len(text.encode()) <= render.MARKDOWN_LIMIT:
            break
    return text


def _block(lines: list[str]) -> render.Markdown:
    """Lines as a fenced block of a diff, its fence longer than any in the text; "" of none."""
    if not lines:
        return render.Markdown()
    text = units.plain("\n".join(lines))
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return render.Markdown(f"{fence}diff\n{text}\n{fence}")
