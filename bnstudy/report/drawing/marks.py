"""Elements of figures: lines, dots, pairs, axes and labels."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from bnstudy.report import text
from bnstudy.report.drawing.styles import (
    MUTED,
    LineStyle,
    Scale,
    line_styles,
    shorten,
    wrap_in_two,
    wrap_tick_labels,
)

MOST_TICKS = 9
SINGLE_EPOCH_SPAN = 0.25  # epochs: below this an axis holds a single one


def label_printed(axes: Axes, x: float, y: float) -> None:
    """Name the printed values beside one of them."""
    axes.annotate(
        "printed", (x, y), xytext=(0, 13), textcoords="offset points", ha="right", fontsize=10
    )


def thin_lines(
    axes: Axes,
    rows: pd.DataFrame,
    style: LineStyle,
    *,
    marker: bool = False,
    x: str = "epoch",
    y: str = "value",
    by: str = "seed",
    **options: Any,
) -> None:
    """Draw a thin line for each seed, or for each value of another column ``by``.

    Parameters
    ----------
    axes, rows, style
        Axes, values, and the style of the arm.
    marker
        Whether points are marked too.
    x, y
        Columns of the coordinates.
    by
        Column whose values have a line each.
    options
        Options of matplotlib that replace the usual ones, such as ``lw``.
    """
    for _, line in rows.groupby(by, sort=True):
        usual: Any = {
            "lw": 0.8, "alpha": 0.4, "mew": 0, "ms": 2.2 if len(line) > 1 else 4.5,
            "marker": style.marker if marker else None,
        }  # fmt: skip
        axes.plot(line[x], line[y], color=style.color, zorder=2, **{**usual, **options})


def dots(axes: Axes, x: Any, y: Any, censored: Any, style: LineStyle) -> None:
    """Draw values in the arm's marker, and censored ones as open triangles."""
    x, y, censored = np.asarray(x), np.asarray(y), np.asarray(censored, dtype=bool)
    seen: Any = {
        "marker": style.marker,
        "ms": 4.2,
        "mfc": style.color,
        "mec": "none",
        "alpha": 0.75,
    }
    cut: Any = {"marker": "^", "ms": 4.8, "mfc": "none", "mec": style.color, "mew": 0.9}
    for chosen, drawn in ((~censored, seen), (censored, cut)):
        if chosen.any():  # an empty line would upset the layout
            axes.plot(x[chosen], y[chosen], ls="", zorder=3, clip_on=False, **drawn)


def seed_offsets(seeds: pd.Series, width: float) -> np.ndarray:
    """Return an offset in [-width, width] for each seed, so that equal values do not overlap."""
    order = np.searchsorted(np.unique(seeds), seeds)
    return width * (2 * order / max(1, order.max(initial=0)) - 1) if len(seeds) > 1 else 0 * order


def paired_dots(axes: Axes, rows: pd.DataFrame, labels: Mapping[str, str], column: str) -> None:
    """Draw the values of each arm side by side, the arms of a seed joined by a line."""
    places = {arm: place for place, arm in enumerate(labels)}
    rows = rows.assign(place=rows["arm"].map(places) + seed_offsets(rows["seed"], 0.2))
    for _, pair in rows.groupby("seed", sort=True):
        ordered = pair.sort_values("place")
        axes.plot(ordered["place"], ordered[column], color=MUTED, lw=0.7, alpha=0.6, zorder=1)
    for arm, style in line_styles(labels).items():
        mine = rows[rows["arm"] == arm]
        censored = mine["censored"] if "censored" in mine else np.zeros(len(mine), bool)
        dots(axes, mine["place"], mine[column], censored, style)
    axes.set_xticks(range(len(labels)), wrap_tick_labels(list(labels.values())))
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.grid(visible=False, axis="x")


def format_axes(axes: Axes, scale: Scale, x_label: str) -> None:
    """Set the labels, scale and ticks of an axes."""
    if scale.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text.power_of_ten(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if scale.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="%"))
    if scale.label:
        axes.set_ylabel("\n".join(textwrap.wrap(shorten(scale.label, 48), 24)))
    if x_label:
        axes.set_xlabel(x_label)
    if x_label == "Epoch":
        epoch_ticks(axes)
    axes.tick_params(length=3)
    axes.margins(y=0.06)
    if scale.least:
        widen_axis(axes, scale.least)


def epoch_ticks(axes: Axes) -> None:
    """Put ticks at whole epochs, or also between them where there are few; one at a lone epoch."""
    left, right = axes.get_xlim()
    if right - left < SINGLE_EPOCH_SPAN:
        axes.xaxis.set_major_locator(FixedLocator([round((left + right) / 2, 2)]))
        return
    few = right < 2.5
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=not few, min_n_ticks=1)
    )


def widen_axis(axes: Axes, least: float) -> None:
    """Widen a vertical axis to at least this span, so that rounding errors look like none."""
    low, high = axes.get_ylim()
    missing = max(0.0, least - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)


def log_ticks(panels: Sequence[Axes], steps: pd.Series) -> None:
    """Put a few round numbers on a logarithmic axis, written out."""
    if not len(steps):
        return
    low, high = float(steps.min()) / 1.25, float(steps.max()) * 1.25
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps_of_ten in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        if len(ticks) < 3:
            ticks = [
                m * 10.0**d for d in decades for m in steps_of_ten if low <= m * 10.0**d <= high
            ]
    if len(ticks) > MOST_TICKS:
        tens = [10.0**d for d in decades if low <= 10.0**d <= high]
        ticks = tens[:: -(-len(tens) // MOST_TICKS)]
    for axes in panels:
        axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text.tick(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(FixedLocator([]))


def label_ends(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name to the right of its end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    where = [float(axes.transAxes.inverted().transform(axes.transData.transform(end[:2]))[1])
             for end in ends]  # fmt: skip
    names = [wrap_in_two(end[2]) for end in ends]
    gap = 0.17 if any("\n" in name for name in names) else 0.09
    for (_, _, _, color), name, height in zip(ends, names, separate(where, gap), strict=True):
        axes.annotate(
            name, (1.0, height), xycoords="axes fraction", xytext=(6, 0),
            textcoords="offset points", color=color, va="center", fontweight="bold",
            annotation_clip=False,
        )  # fmt: skip


def separate(heights: list[float], gap: float) -> list[float]:
    """Move heights (0..1) apart to at least ``gap``, keeping their order."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    moved = list(heights)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    excess = max([0.0, *(height - 1.0 for height in moved)])
    return [height - excess for height in moved]
