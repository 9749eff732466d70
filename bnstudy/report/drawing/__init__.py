"""Figures: the style, the marks and the figures that several exhibits or pages share.

A figure is one function: a tidy table in, a matplotlib figure out.  Those of a single exhibit
stand in its file.  No number is computed here and no global state is touched: every function makes
its own :class:`matplotlib.figure.Figure` under one style.  The palette keeps
the hues of Okabe & Ito (2008), which colour-blind readers tell apart, darkened
until text in them has a contrast of 4.5:1 on white; each arm also has a marker
and a line style of its own.  An open triangle is always a censored value.
"""

from bnstudy.report.drawing.intervals import effect_intervals
from bnstudy.report.drawing.levels import Guide, levels
from bnstudy.report.drawing.styles import (
    GRID,
    INK,
    LINE_STYLES,
    MUTED,
    PAPER,
    RC_PARAMS,
    LineStyle,
    Scale,
    line_styles,
    new_figure,
)
from bnstudy.report.drawing.svg import to_svg

__all__ = [
    "GRID",
    "INK",
    "LINE_STYLES",
    "MUTED",
    "PAPER",
    "RC_PARAMS",
    "Guide",
    "LineStyle",
    "Scale",
    "effect_intervals",
    "levels",
    "line_styles",
    "new_figure",
    "to_svg",
]
