"""The figure of many arms side by side: a row an arm, a dot a seed."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bnstudy.report.drawing.intervals import round_numbers
from bnstudy.report.drawing.marks import dots, plain_number, seed_offsets
from bnstudy.report.drawing.styles import (
    INK,
    LINE_STYLES,
    MUTED,
    RC_PARAMS,
    Scale,
    new_figure,
    wrap_in_two,
)

ROW = 0.33  # inches


@mpl.rc_context(RC_PARAMS)
def ranking(
    points: pd.DataFrame,
    means: pd.DataFrame,
    labels: Mapping[str, str],
    scale: Scale,
    baseline: str,
    source: str,
) -> Figure:
    """Draw the values of each arm in a row of its own, from the top in the order of ``means``.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``value``, ``censored``.
    means
        Columns ``arm``, ``mean``, ``low``, ``high``; the last two infinite or NaN where there
        is no interval.
    labels
        Text of each arm.
    scale
        Of the values, across.
    baseline
        The arm whose mean is drawn through all rows.
    source
        Line at the foot.
    """
    figure, (axes,) = new_figure(source, height=ROW * len(means) + 0.95)
    _across(axes, points["value"], scale)
    for place, row in enumerate(means.to_dict("records")):
        mine, own = points[points["arm"] == row["arm"]], row["arm"] == baseline
        heights = place + seed_offsets(mine["seed"], 0.26)
        dots(
            axes,
            mine["value"],
            heights,
            mine["censored"],
            LINE_STYLES[1] if own else LINE_STYLES[0],
        )
        if np.isfinite([row["low"], row["high"]]).all():
            axes.plot([row["low"], row["high"]], [place] * 2, color=INK, lw=2.2, zorder=4)
        axes.plot([row["mean"]], [place], ls="", marker="D", ms=5.5, color=INK, zorder=5)
        if own:
            axes.axvline(row["mean"], color=MUTED, lw=1.3, ls=(0, (6, 3)), zorder=1)
    axes.set_ylim(len(means) - 0.4, -0.6)
    axes.set_yticks(range(len(means)), [wrap_in_two(labels[arm]) for arm in means["arm"]])
    axes.tick_params(length=3)
    axes.set_xlabel(scale.label)
    return figure


def _across(axes: Axes, values: pd.Series, scale: Scale) -> None:
    """Scale the horizontal axis to some values."""
    low, high = float(values.min()), float(values.max())
    if scale.log:
        axes.set_xscale("log")
        low, high = low / 1.08, high * 1.08
        axes.xaxis.set_major_locator(FixedLocator(round_numbers(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        free = 0.04 * (high - low) or 0.01
        low, high = low - free, high + free
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlim(low, high)
    percent = scale.percent
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:g}%" if percent else plain_number(value))
    )
