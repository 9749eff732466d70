"""Figures of numbers of whole networks: the arms in one panel, by epoch or by loss."""

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.report.drawing.marks import dress, epoch_ticks, label_ends, steps_ticks
from bnstudy.report.drawing.styles import STYLE, Scale, canvas, looks, short


@mpl.rc_context(STYLE)
def bands(
    points: pd.DataFrame,
    means: pd.DataFrame,
    labels: Mapping[str, str],
    scales: Mapping[str, Scale],
    source: str,
) -> Figure:
    """Draw thin lines of seeds over epochs, and means within the band of their intervals.

    Parameters
    ----------
    points
        Columns ``panel``, ``arm``, ``seed``, ``epoch``, ``value``.
    means
        Columns ``panel``, ``arm``, ``epoch``, ``mean``, ``low``, ``high``: NaN where there is
        no interval.
    labels
        Text of each arm.
    scales
        Vertical axis of each panel; the key is its title.
    source
        Line at the foot.
    """
    figure, panels = canvas(source, height=2.5 * len(scales) + 0.5, rows=len(scales))
    for number, (axes, (panel, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for arm, look in looks(labels).items():
            rows = points[(points["panel"] == panel) & (points["arm"] == arm)]
            for _, line in rows.groupby("seed", sort=True):
                axes.plot(line["epoch"], line["value"], color=look.color, lw=0.6, alpha=0.3)
            mean = means[(means["panel"] == panel) & (means["arm"] == arm)].sort_values("epoch")
            if mean.empty:
                continue
            axes.fill_between(
                mean["epoch"], mean["low"], mean["high"], color=look.color, alpha=0.25, lw=0
            )
            axes.plot(mean["epoch"], mean["mean"], color=look.color, ls=look.line, lw=2.2, zorder=3)
            last = mean.iloc[-1]
            ends.append((float(last["epoch"]), float(last["mean"]), labels[arm], look.color))
        axes.set_title(short(panel, 44))
        dress(axes, scale, "Epoch" if number == len(scales) - 1 else "")
        epoch_ticks(axes)
        if scale.log:
            seen = means.loc[means["panel"] == panel, ["mean", "low", "high"]]
            steps_ticks([axes], pd.Series(seen.to_numpy().ravel()).dropna())
        label_ends(axes, ends)
    return figure


@mpl.rc_context(STYLE)
def by_loss(
    points: pd.DataFrame, labels: Mapping[str, str], scales: Mapping[str, Scale], source: str
) -> Figure:
    """Draw numbers against the loss at the same moment, a dot a seed and moment.

    Parameters
    ----------
    points
        Columns ``panel``, ``arm``, ``seed``, ``loss``, ``value``.
    labels, scales, source
        As in :func:`bands`.
    """
    figure, panels = canvas(source, height=2.5 * len(scales) + 0.5, rows=len(scales))
    for number, (axes, (panel, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for arm, look in looks(labels).items():
            rows = points[(points["panel"] == panel) & (points["arm"] == arm)]
            axes.plot(
                rows["loss"], rows["value"], ls="", marker=look.marker, ms=3.6, mew=0,
                color=look.color, alpha=0.55,
            )  # fmt: skip
            if len(rows):
                least = rows.sort_values("loss", kind="stable").iloc[0]
                ends.append((least["loss"], least["value"], labels[arm], look.color))
        axes.set_title(short(panel, 44))
        dress(axes, scale, "Loss, falling" if number == len(scales) - 1 else "")
        if scale.log:
            steps_ticks([axes], points.loc[points["panel"] == panel, "value"])
        low, high = axes.get_xlim()
        axes.set_xlim(high, low)
        label_ends(axes, ends)
    return figure
