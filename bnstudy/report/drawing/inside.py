"""Figures of what happens inside a network: percentiles and layers over training."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.report.drawing.marks import dress, epoch_ticks, label_ends
from bnstudy.report.drawing.styles import LOOKS, MUTED, STYLE, Scale, canvas, looks, short


@mpl.rc_context(STYLE)
def percentile_bands(
    points: pd.DataFrame, labels: Mapping[str, str], layers: Sequence[str], source: str
) -> Figure:
    """Draw the 15th to 85th percentile of layers over training, a panel an arm and a layer.

    Parameters
    ----------
    points
        Columns ``arm``, ``layer``, ``seed``, ``epoch``, ``q15``, ``q50``, ``q85``.
    labels
        Text of each arm: a column of panels each.
    layers
        A row of panels each.
    source
        Line at the foot.
    """
    figure, panels = canvas(
        source,
        height=1.55 * len(layers) + 0.7,
        rows=len(layers),
        columns=len(labels),
        share_y=True,
    )
    grid = [(layer, arm) for layer in layers for arm in labels]
    for number, (axes, (layer, arm)) in enumerate(zip(panels, grid, strict=True)):
        look = looks(labels)[arm]
        rows = points[(points["arm"] == arm) & (points["layer"] == layer)]
        for _, line in rows.groupby("seed", sort=True):
            axes.plot(line["epoch"], line["q50"], color=look.color, lw=0.7, alpha=0.35, zorder=2)
        mean = rows.groupby("epoch", sort=True)[["q15", "q50", "q85"]].mean()
        axes.fill_between(
            mean.index, mean["q15"], mean["q85"], color=look.color, alpha=0.2, lw=0, zorder=1
        )
        axes.plot(mean.index, mean["q50"], color=look.color, ls=look.line, lw=2.2, zorder=3)
        if number < len(labels):
            axes.set_title(short(labels[arm]))
        last = number >= len(grid) - len(labels)
        dress(axes, Scale(layer if number % len(labels) == 0 else ""), "Epoch" if last else "")
    return figure


@mpl.rc_context(STYLE)
def layer_lines(
    points: pd.DataFrame,
    labels: Mapping[str, str],
    layers: Sequence[str],
    scale: Scale,
    source: str,
) -> Figure:
    """Draw one number of several layers over training, a panel an arm, every seed thin.

    Parameters
    ----------
    points
        Columns ``arm``, ``layer``, ``seed``, ``epoch``, ``value``.
    labels
        Text of each arm: a panel each.
    layers
        A look each.
    scale
        Of the values; thick lines are means, geometric on a logarithmic scale.
    source
        Line at the foot.
    """
    figure, panels = canvas(source, height=2.5 * len(labels) + 0.5, rows=len(labels))
    named: list[list[tuple[float, float, str, str]]] = []
    for number, (axes, arm) in enumerate(zip(panels, labels, strict=True)):
        ends = []
        for layer, look in zip(layers, LOOKS, strict=False):
            rows = points[(points["arm"] == arm) & (points["layer"] == layer)]
            if scale.log:
                rows = rows[rows["value"] > 0]
            # a single record is a dot: a line of one point would not be seen
            alone = rows["epoch"].nunique() == 1
            for _, line in rows.groupby("seed", sort=True):
                axes.plot(line["epoch"], line["value"], color=look.color, lw=0.5, alpha=0.3,
                          marker=look.marker if alone else None, ms=4)  # fmt: skip
            by_epoch = rows.groupby("epoch", sort=True)["value"]
            mean = by_epoch.apply(lambda v: np.exp(np.log(v).mean())) if scale.log else None
            mean = by_epoch.mean() if mean is None else mean
            if len(mean):
                axes.plot(mean.index, mean, color=look.color, ls=look.line, lw=2.2, zorder=3,
                          marker=look.marker if alone else None, ms=8)  # fmt: skip
                ends.append((float(mean.index[-1]), float(mean.iloc[-1]), layer, look.color))
        axes.set_title(short(labels[arm]))
        dress(axes, scale, "Epoch" if number == len(labels) - 1 else "")
        epoch_ticks(axes)
        named.append(ends)
    limits = [axes.get_ylim() for axes in panels]
    for axes, ends in zip(panels, named, strict=True):  # the arms are compared: one scale for all
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        if scale.percent:
            axes.set_ylim(bottom=0.0, top=max(0.01, axes.get_ylim()[1]))
        label_ends(axes, ends)
    return figure


@mpl.rc_context(STYLE)
def affine_paths(
    bands: pd.DataFrame,
    paths: pd.DataFrame,
    layers: Sequence[str],
    starts: Mapping[str, tuple[str, float]],
    source: str,
) -> Figure:
    """Draw what normalization layers learn, a row of panels a layer and a column a parameter.

    Parameters
    ----------
    bands
        Columns ``tensor``, ``layer``, ``epoch``, ``q15``, ``q50``, ``q85``.
    paths
        Columns ``tensor``, ``layer``, ``channel``, ``epoch``, ``value``: single channels.
    layers
        A row of panels each.
    starts
        Title of each tensor's column, and where it starts: a dashed line.
    source
        Line at the foot.
    """
    figure, panels = canvas(
        source, height=1.55 * len(layers) + 0.7, rows=len(layers), columns=len(starts)
    )
    grid = [(layer, tensor) for layer in layers for tensor in starts]
    for number, (axes, (layer, tensor)) in enumerate(zip(panels, grid, strict=True)):
        look = LOOKS[1]
        title, start = starts[tensor]
        mine = paths[(paths["tensor"] == tensor) & (paths["layer"] == layer)]
        for _, line in mine.groupby("channel", sort=True):
            axes.plot(line["epoch"], line["value"], color=look.color, lw=0.9, alpha=0.55, zorder=2)
        band = bands[(bands["tensor"] == tensor) & (bands["layer"] == layer)]
        axes.fill_between(
            band["epoch"], band["q15"], band["q85"], color=look.color, alpha=0.2, lw=0, zorder=1
        )
        axes.plot(band["epoch"], band["q50"], color=look.color, ls=look.line, lw=2.2, zorder=3)
        axes.axhline(start, color=MUTED, lw=1.0, ls=(0, (6, 3)), zorder=1)
        if number < len(starts):
            axes.set_title(title)
        last = number >= len(grid) - len(starts)
        scale = Scale(layer if number % len(starts) == 0 else "", least=0.2)
        dress(axes, scale, "Epoch" if last else "")
        epoch_ticks(axes)
    return figure
