"""The colours of pages and figures, for light and for dark screens.

Figures are drawn in the light colours.  Within a page they take the colours of
the page: every colour becomes a CSS variable, with the drawn one as its fallback.
"""

import re

from bnstudy.report import drawing

LIGHT = {
    "ink": drawing.INK,
    "muted": drawing.MUTED,
    "grid": drawing.GRID,
    "paper": drawing.PAPER,
    **{f"arm-{number}": style.color for number, style in enumerate(drawing.LINE_STYLES, start=1)},
    "page": "#f7f8f9",
    "link": "#005a94",
    "code": "#eef0f3",
    "warn-ink": "#5c3b00",
    "warn-paper": "#fff3d6",
    "warn-edge": "#c98a00",
}
DARK = {
    "ink": "#e7eaee",
    "muted": "#a7b1bc",
    "grid": "#353e48",
    "paper": "#1b2128",
    "arm-1": "#ff9c5c",
    "arm-2": "#62b5f0",
    "arm-3": "#3ccaa4",
    "arm-4": "#e39bcd",
    "arm-5": "#dcc04a",
    "arm-6": "#b4bec9",
    "page": "#13171c",
    "link": "#7cc0f5",
    "code": "#252c35",
    "warn-ink": "#ffe2a8",
    "warn-paper": "#3a2d10",
    "warn-edge": "#c98a00",
}
DRAWN = ("ink", "muted", "grid", "paper", *(name for name in LIGHT if name.startswith("arm-")))


def inline_svg(svg: str) -> str:
    """Return an SVG document as an element of a page, in the colours of the page."""
    variables = {LIGHT[name]: f"var(--{name}, {LIGHT[name]})" for name in DRAWN}
    pattern = re.compile("|".join(map(re.escape, variables)))
    drawing = pattern.sub(lambda match: variables[match[0]], svg)
    opening, rest = drawing.split(">", 1)
    opening = re.sub(r' (xmlns(:xlink)?|width|height|version)="[^"]*"', "", opening)
    return f"{opening}>{rest.replace('xlink:href=', 'href=')}".strip()
