"""Rendering of the report model as HTML and as Markdown, by templates that compute nothing."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bnstudy.report.model import Chart, Page, Report
from bnstudy.report.theme import DARK, LIGHT, inline_svg

TEMPLATES = PackageLoader("bnstudy.report", "templates")


def markdown_text(value: Any) -> Any:
    """Return text with all Markdown markup, HTML and cell borders escaped."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    one_line = " ".join(value.split())
    marked = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", one_line)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(value: str) -> Markup:
    """Return a code block of one line, even if the line contains backticks."""
    # The fence must be longer than any run of backticks in the line.
    longest = max((len(run) for run in re.findall("`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{value}\n{fence}")


HTML = Environment(
    loader=TEMPLATES,
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
HTML.filters["inline"] = lambda svg: Markup(inline_svg(svg))
MARKDOWN = Environment(
    loader=TEMPLATES,
    autoescape=False,
    finalize=markdown_text,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
MARKDOWN.filters["html"] = lambda text: Markup(escape(" ".join(text.split())))
MARKDOWN.filters["code"] = markdown_code
MARKDOWN.filters["plain"] = lambda text: Markup(text)


def render(report: Report) -> dict[str, str]:
    """Return the files of a report by their path in its folder.

    Returns
    -------
    dict
        ``index.html`` and ``README.md``, an ``.html`` and an ``.md`` for each
        experiment, an SVG and a CSV for each chart.
    """
    theme = {"light": LIGHT, "dark": DARK}
    files = {
        "index.html": _html("index.html.j2", report, theme, None),
        "README.md": _markdown("index.md.j2", report, None),
    }
    for page in report.pages:
        files[f"{page.name}.html"] = _html("page.html.j2", report, theme, page)
        files[f"{page.name}.md"] = _markdown("page.md.j2", report, page)
    for chart in _charts(report):
        files[f"figures/{chart.name}.svg"] = _document(chart.svg)
        files[f"tables/{chart.name}.csv"] = chart.csv
    return files


def _charts(report: Report) -> Iterator[Chart]:
    shown = [each.chart for each in report.effects]
    for page in report.pages:
        shown += [judged.chart for judged in page.judgements]
        shown += [finding.chart for finding in page.findings]
    yield from (chart for chart in shown if chart is not None)


def _html(name: str, report: Report, theme: Mapping[str, Any], page: Page | None) -> str:
    return HTML.get_template(name).render(report=report, page=page, theme=theme)


def _markdown(name: str, report: Report, page: Page | None) -> str:
    text = MARKDOWN.get_template(name).render(report=report, page=page)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _document(svg: str) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg}'
