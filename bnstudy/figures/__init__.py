"""Figures: a tidy table in, a matplotlib figure out, one function a figure.

No number is computed here and no global state is touched: every function makes
its own :class:`matplotlib.figure.Figure` under one style.  The palette keeps
the hues of Okabe & Ito (2008), which colour-blind readers tell apart, darkened
until text in them has a contrast of 4.5:1 on white; each arm also has a marker
and a line style of its own.  An open triangle is always a censored value.
"""

from bnstudy.figures.inside import layer_lines, percentile_bands
from bnstudy.figures.intervals import effect_intervals
from bnstudy.figures.plots import (
    evaluation_statistics,
    learning_curves,
    learning_rates,
    paired_differences,
    paired_steps,
    printed_results,
    sorted_parameters,
)
from bnstudy.figures.style import GRID, INK, LOOKS, MUTED, PAPER, Look, Scale
from bnstudy.figures.svg import to_svg

__all__ = [
    "GRID",
    "INK",
    "LOOKS",
    "MUTED",
    "PAPER",
    "Look",
    "Scale",
    "effect_intervals",
    "evaluation_statistics",
    "layer_lines",
    "learning_curves",
    "learning_rates",
    "paired_differences",
    "paired_steps",
    "percentile_bands",
    "printed_results",
    "sorted_parameters",
    "to_svg",
]
