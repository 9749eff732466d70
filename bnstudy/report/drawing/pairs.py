"""Figures of shares over time and of a 2x2 of arms."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bnstudy.report.drawing.marks import dots, format_axes, seed_offsets
from bnstudy.report.drawing.styles import (
    INK,
    LINE_STYLES,
    MUTED,
    PAPER,
    RC_PARAMS,
    Scale,
    line_styles,
    new_figure,
    shorten,
)


@mpl.rc_context(RC_PARAMS)
def survival_curves(
    points: pd.DataFrame, labels: Mapping[str, str], scale: Scale, source: str
) -> Figure:
    """Draw the share of runs that have not reached a target yet, a panel a target.

    Parameters
    ----------
    points
        Columns ``target`` (its text), ``arm``, ``steps``, ``share``, ``low``, ``high``: where
        the share changes, up to the last step watched.
    labels
        Text of each arm.
    scale
        Of the shares.
    source
        Line at the foot.
    """
    targets = list(dict.fromkeys(points["target"]))
    figure, panels = new_figure(source, height=2.5 * len(targets) + 0.5, rows=len(targets))
    for number, (axes, target) in enumerate(zip(panels, targets, strict=True)):
        heights, above = np.linspace(0.85, 0.3, len(labels)), 0
        for (arm, style), height in zip(line_styles(labels).items(), heights, strict=True):
            rows = points[(points["target"] == target) & (points["arm"] == arm)]
            if rows.empty:
                continue
            axes.fill_between(
                rows["steps"], rows["low"], rows["high"], step="post", color=style.color,
                alpha=0.16, lw=0,
            )  # fmt: skip
            axes.step(
                rows["steps"], rows["share"], where="post", color=style.color,
                ls=style.linestyle, lw=2.2,
            )  # fmt: skip
            there = rows[rows["share"] <= height]
            place = (rows if there.empty else there).iloc[-1 if there.empty else 0]
            axes.annotate(
                shorten(labels[arm]), (place["steps"], max(height, place["share"])),
                xytext=(-6 if there.empty else 6, -9 - 15 * above if there.empty else 0),
                textcoords="offset points", color=style.color, fontweight="bold", va="center",
                ha="right" if there.empty else "left",
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            )  # fmt: skip
            above += there.empty  # names of arms that stay above their height go below each other
        axes.set_title(target)
        format_axes(axes, scale, "Optimizer steps" if number == len(targets) - 1 else "")
        axes.set_ylim(-0.04, 1.04)
        rows = points[points["target"] == target]
        if (rows.groupby("arm")["share"].min() == 0).all():  # nothing happens after the last one
            last = rows.loc[rows["share"] > 0, "steps"].max()
            there = rows.loc[(rows["share"] == 0) & (rows["steps"] >= last), "steps"].min()
            axes.set_xlim(0.0, 1.15 * there)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure


@mpl.rc_context(RC_PARAMS)
def interaction(
    points: pd.DataFrame,
    means: pd.DataFrame,
    contrast: pd.DataFrame,
    texts: tuple[tuple[str, str], tuple[str, str]],
    scales: tuple[Scale, Scale],
    source: str,
) -> Figure:
    """Draw a 2x2 of arms as two lines, and the contrast of each seed beside them.

    Parameters
    ----------
    points
        Columns ``line`` and ``place`` (0 or 1 each), ``seed``, ``value``.
    means
        Columns ``line``, ``place``, ``mean``, ``low``, ``high``: NaN where there is none.
    contrast
        Columns ``seed``, ``contrast`` and, the same in all rows, ``mean``, ``low``, ``high``.
    texts
        Of the two lines, and of the two places.
    scales
        Of the values and of the contrasts.
    source
        Line at the foot.
    """
    figure, (left, right) = new_figure(source, height=3.8, columns=2)
    # where the first treatment is BN, its line looks as it does in the other figures
    for number, style in enumerate((LINE_STYLES[1], LINE_STYLES[0])):
        rows = points[points["line"] == number]
        for _, line in rows.sort_values("place").groupby("seed", sort=True):
            left.plot(line["place"], line["value"], color=style.color, lw=0.7, alpha=0.35)
        mean = means[means["line"] == number].sort_values("place")
        left.plot(mean["place"], mean["mean"], color=style.color, ls=style.linestyle, lw=2.4,
                  marker=style.marker, ms=6)  # fmt: skip
        sure = mean[np.isfinite(mean["low"]) & np.isfinite(mean["high"])]
        left.vlines(sure["place"], sure["low"], sure["high"], color=style.color, lw=2.4)
        for row in mean.tail(1).to_dict("records"):
            left.annotate(
                shorten(texts[0][number]), (row["place"], row["mean"]), xytext=(7, 0),
                textcoords="offset points", color=style.color, va="center", fontweight="bold",
                annotation_clip=False,
            )  # fmt: skip
    left.set_xticks((0, 1), [each.replace(" ", "\n", 1) for each in texts[1]])
    left.set_xlim(-0.25, 1.25)
    format_axes(left, scales[0], "")
    if len(contrast):
        x = seed_offsets(contrast["seed"], 0.25)
        dots(right, x, contrast["contrast"], np.zeros(len(contrast), bool), LINE_STYLES[2])
        mean, low, high = contrast.iloc[0][["mean", "low", "high"]]
        _bar(right, 0.5, mean, low, high)
    right.axhline(0.0, color=MUTED, lw=1.2)
    right.set_xlim(-0.6, 0.9)
    right.set_xticks(())
    format_axes(right, scales[1], "")
    return figure


def _bar(axes: Axes, x: float, mean: float, low: float, high: float) -> None:
    if np.isfinite([low, high]).all():
        axes.plot([x] * 2, [low, high], color=INK, lw=2.4, zorder=3)
    axes.plot([x], [mean], ls="", marker="D", ms=6.5, color=INK, zorder=4)
