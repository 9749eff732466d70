"""Figure of effects with their intervals, each against what its claim says."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bnstudy.report import text
from bnstudy.report.drawing.styles import (
    GRID,
    INK,
    LINE_STYLES,
    MUTED,
    PAPER,
    RC_PARAMS,
    Scale,
    new_figure,
)

MARKS: Mapping[str, Mapping[str, Any]] = {
    "supported": {"marker": "o", "color": LINE_STYLES[1].color, "mfc": LINE_STYLES[1].color},
    "refuted": {
        "marker": "X",
        "color": LINE_STYLES[0].color,
        "mfc": LINE_STYLES[0].color,
        "ms": 9.0,
        "mec": PAPER,
        "mew": 0.8,
    },
    "undecided": {"marker": "o", "color": INK, "mfc": PAPER},
    "premise failed": {"marker": "s", "color": MUTED, "mfc": PAPER},
    "explored": {"marker": "D", "color": MUTED, "mfc": PAPER},
}
LINE, BAR, GAP = 0.215, 0.17, 0.16  # inches: of a line of text, of an interval, between rows
WIDEST = 56  # letters a line
CLEARANCE = 0.06  # of the axis, left free at either end


@mpl.rc_context(RC_PARAMS)
def effect_intervals(
    points: pd.DataFrame, scales: Mapping[str, Scale], source: str, *, words: bool = True
) -> Figure:
    """Draw effects with their intervals, one row per claim, over the range that it states.

    Parameters
    ----------
    points
        Columns ``unit``, ``label``, ``mark`` (a key of :data:`MARKS`), ``estimate``,
        ``low``, ``high``; ``claimed_low`` and ``claimed_high``, between which the claim
        says that the effect lies, infinite where it is open.
    scales
        Axis of each unit, which has a panel.
    source
        Line at the foot.
    words
        Whether rows start with the word of their mark.
    """
    tables = {unit: _placed(points[points["unit"] == unit], words=words) for unit in scales}
    heights = [float(table["bottom"].max()) for table in tables.values()]
    height = sum(heights) + 0.68 * len(heights) + 0.4
    figure, panels = new_figure(source, height=height, rows=len(heights), heights=heights)
    for axes, (unit, scale), tall in zip(panels, scales.items(), heights, strict=True):
        axes.set_ylim(tall, 0.0)
        _scale(axes, tables[unit], scale)
        for row in tables[unit].to_dict("records"):
            _row(axes, {str(name): value for name, value in row.items()})
    return figure


def _placed(rows: pd.DataFrame, *, words: bool) -> pd.DataFrame:
    """Add each row's wrapped ``text`` and, in inches from the top, ``top``, ``bar``, ``bottom``."""
    texts, tops, bottoms, down = [], [], [], 0.05
    for label, mark in zip(rows["label"], rows["mark"], strict=True):
        lines = textwrap.wrap(f"{mark}: {label}" if words else label, WIDEST)
        texts.append("\n".join(lines))
        tops.append(down)
        down += LINE * len(lines) + BAR + GAP
        bottoms.append(down)
    bars = np.array(bottoms) - GAP - BAR / 2
    return rows.assign(text=texts, top=tops, bar=bars, bottom=bottoms)


def _scale(axes: Axes, rows: pd.DataFrame, scale: Scale) -> None:
    """Set an axis that holds every interval, and the near end of every claimed range."""
    ends = rows[["estimate", "low", "high", "claimed_low", "claimed_high"]].to_numpy(dtype=float)
    ends = ends[np.isfinite(ends) & (ends > 0 if scale.log else True)]
    if scale.log:
        axes.set_xscale("log")
    elif scale.linear:
        axes.set_xscale("symlog", linthresh=scale.linear, linscale=0.8)
    forth, back = axes.transData.transform, axes.transData.inverted().transform
    low, high = (forth((end, 0.0))[0] for end in (ends.min(initial=1.0), ends.max(initial=1.0)))
    if len(ends):
        low, high = (forth((end, 0.0))[0] for end in (ends.min(), ends.max()))
    free = CLEARANCE * (high - low) or 1.0
    axes.set_xlim(back((low - free, 0.0))[0], back((high + free, 0.0))[0])
    _ticks(axes, scale)
    axes.set_xlabel(scale.label)
    axes.tick_params(length=3)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _ticks(axes: Axes, scale: Scale) -> None:
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text.signed_tick(value)))
    low, high = axes.get_xlim()
    if scale.log:
        axes.xaxis.set_major_locator(FixedLocator(round_numbers(low, high)))
    elif scale.linear:
        decades = (scale.linear * each for each in (1, 3, 10, 30, 100))
        kept = [end for end in decades if end <= max(-low, high)]
        axes.xaxis.set_major_locator(FixedLocator([*(-end for end in kept), 0.0, *kept]))
        axes.set_xlim(low, high)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


def round_numbers(low: float, high: float) -> list[float]:
    """Return at least two round numbers in a positive range, as few as will do."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.2, 1.5, 2, 3, 5, 7)):
        found = [
            float(f"{digit * 10.0**decade:.3g}")
            for decade in decades
            for digit in digits
            if low <= digit * 10.0**decade <= high
        ]
        if len(found) >= (3 if len(digits) == 3 else 4):
            return found
    fine = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return found if len(found) > 2 else [float(f"{end:.6g}") for end in fine if low <= end <= high]


def _row(axes: Axes, row: Mapping[str, Any]) -> None:
    low, high = axes.get_xlim()
    left, right = max(row["claimed_low"], low), min(row["claimed_high"], high)
    top, bottom = row["bar"] - 0.7 * BAR, row["bar"] + 0.7 * BAR
    axes.fill_between([left, right], top, bottom, color=GRID, lw=0, zorder=1)
    for edge in (row["claimed_low"], row["claimed_high"]):
        if math.isfinite(edge):
            axes.plot([edge, edge], [top, bottom], color=INK, lw=1.3, zorder=2)
    axes.annotate(
        row["text"], (0.0, row["top"]), xycoords=("axes fraction", "data"), va="top",
        fontsize=11.5, annotation_clip=False, zorder=5, linespacing=1.25,
    )  # fmt: skip
    if not math.isfinite(row["estimate"]):
        return
    mark = MARKS[row["mark"]]
    ends = [row["low"], row["high"]]
    if all(map(math.isfinite, ends)):
        axes.plot(ends, [row["bar"]] * 2, color=mark["color"], lw=2.4, zorder=3)
    drawn = {"ls": "", "ms": 6.5, "mew": 1.5, "mec": mark["color"], **mark}
    axes.plot([row["estimate"]], [row["bar"]], zorder=4, clip_on=False, **drawn)
