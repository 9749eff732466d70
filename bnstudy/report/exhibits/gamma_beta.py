"""Gamma and beta of normalization layers over training: how far they move, in what steps."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import ratio_interval
from bnstudy.judging.measures import channel_percentiles
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import LINE_STYLES, MUTED, RC_PARAMS, Scale, new_figure
from bnstudy.report.drawing.marks import epoch_ticks, format_axes, thin_lines
from bnstudy.report.evidence import Evidence, evenly_spaced
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, one_arm
from bnstudy.report.model import Table

PROBE = "affine"
STARTS = {"gamma": ("γ, which starts at 1", 1.0), "beta": ("β, which starts at 0", 0.0)}
PERCENTILES = ["q15", "q50", "q85"]
SINGLE = 6  # channels of a layer that are drawn one by one
MOST_EPOCHS = 6  # columns of the table
write_distance = text.fixed(2)


@exhibit("affine-paths", diverged="what was recorded until then is shown.", arms=one_arm)
def affine_paths(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> Content | Nothing:
    """Show gamma and beta over training, and how large the steps of gamma are.

    How far they go is the measure ``distance-from-start``; the size of a step of gamma, or
    of a layer's weights, is the ``median`` of the relative updates that the probe
    ``activations`` has recorded.

    Options: ``arm``; ``layers``, those with gamma and beta; ``weights``, the layer before each.
    """
    layers, weighted = options["layers"], options["weights"]
    points = _channels(evidence, arms, layers)
    if points.empty:
        return Nothing()
    percentiles = _percentiles(evidence, arms, layers)
    moved = pd.concat(
        evidence.readings(
            arms, "distance-from-start", layer=layer, tensor=tensor, start=start
        ).assign(layer=layer, tensor=tensor)
        for layer in layers
        for tensor, (_, start) in STARTS.items()
    )
    steps = pd.concat(
        evidence.readings(arms, "median", stat="update_ratio", layer=layer, tensor="weight").assign(
            layer=layer
        )
        for layer in (*layers, *weighted)
    )
    bands = percentiles.groupby(["tensor", "layer", "epoch"])[PERCENTILES].mean()
    return Content(
        sentence=f"{_distances(moved, points)}{_compare_steps(steps, layers, weighted)}",
        values=percentiles,
        draw=lambda source: draw_affine_paths(
            bands.reset_index(), _single_channels(points), layers, STARTS, source
        ),
        tables=(_end_table(points, percentiles, moved, steps, layers, weighted),),
        data=_epoch_table(bands, layers),
    )


def _channels(evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str]) -> pd.DataFrame:
    """Return gamma and beta of every channel, where they are finite."""
    seen = pd.concat(
        evidence.seen(arms, layers, tensor, ("value",), PROBE, channels=True).assign(tensor=tensor)
        for tensor in STARTS
    )
    return seen[np.isfinite(seen["value"].astype(float))]


def _percentiles(evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str]) -> pd.DataFrame:
    """Return ``tensor``, ``layer``, ``seed``, ``epoch`` and the percentiles over channels."""
    keys = ["tensor", "layer", "seed", "epoch"]
    frames = []
    for tensor in sorted(STARTS):
        found = evidence.series(
            arms, partial(channel_percentiles, probe=PROBE, tensor=tensor, layers=layers)
        )
        frames.append(found.assign(tensor=tensor))
    joined = pd.concat(frames).sort_values(keys, kind="stable")
    return joined[[*keys, *PERCENTILES]].reset_index(drop=True)


def _distances(moved: pd.DataFrame, points: pd.DataFrame) -> str:
    means = moved.groupby("tensor")["value"].mean().to_dict()
    gamma, beta = (write_distance(means.get(tensor, math.nan)) for tensor in STARTS)
    epochs = text.epoch_count(float(points["epoch"].max()))
    return f"In {epochs} γ moves {gamma} away from 1 and β {beta} away from 0"


def _compare_steps(steps: pd.DataFrame, layers: Sequence[str], weighted: Sequence[str]) -> str:
    """State how much smaller gamma's steps are than those of the weights before it."""
    wide = steps.pivot(index="seed", columns="layer", values="value")
    if not {*layers, *weighted} <= set(wide.columns):
        return ""
    known = wide[[*layers, *weighted]].dropna()
    if known.empty:
        return ""
    gammas, weights = (
        np.exp(np.log(known[list(names)].to_numpy(dtype=float)).mean(axis=1))  # (seeds,)
        for names in (layers, weighted)
    )
    ratio, word = ratio_interval(weights, gammas), "smaller"
    if ratio.estimate < 1:
        ratio, word = ratio_interval(gammas, weights), "larger"
    return (
        f"; relative to its length, a step of γ is {text.factor(ratio.estimate)} times {word} "
        f"than one of the weights before it ({text.certainty(ratio, text.factor)})"
    )


def _single_channels(points: pd.DataFrame) -> pd.DataFrame:
    """Return a few channels of every layer, evenly spaced, of the first seed."""
    mine = points[points["seed"] == points["seed"].min()]
    count = mine.groupby(["tensor", "layer"])["channel"].transform("max") + 1
    every = np.maximum(1, count // SINGLE)
    return mine[(mine["channel"] % every == 0) & (mine["channel"] < SINGLE * every)]


def _end_table(
    points: pd.DataFrame,
    percentiles: pd.DataFrame,
    moved: pd.DataFrame,
    steps: pd.DataFrame,
    layers: Sequence[str],
    weighted: Sequence[str],
) -> Table:
    last = percentiles[percentiles["epoch"] == percentiles["epoch"].max()]
    rows = []
    for layer, before in zip(layers, weighted, strict=True):
        channels = points[points["layer"] == layer]["channel"].nunique()
        cells = [f"{channels:,}" if channels else text.MISSING]
        for tensor in STARTS:
            at = last[(last["layer"] == layer) & (last["tensor"] == tensor)]
            far = moved[(moved["layer"] == layer) & (moved["tensor"] == tensor)]["value"]
            means = at[PERCENTILES].mean() if len(at) else ()
            cells += [text.percentiles(means), write_distance(far.mean())]
        for name in (layer, before):
            cells.append(text.percent(steps.loc[steps["layer"] == name, "value"].mean(), 2))
        rows.append((layer, *cells))
    heads = [f"{sign} {what}" for sign in "γβ" for what in ("at the end", "moved")]
    return Table(
        "γ and β at the end: 15th / 50th / 85th percentile of the channels; how far they moved: "
        "root mean square of the channels; a step: change relative to length, median of the "
        "records, of γ and of the weights before it; means of the seeds",
        ("Layer", "Channels", *heads, "Step of γ", "Step of weights"),
        tuple(rows),
    )


def _epoch_table(bands: pd.DataFrame, layers: Sequence[str]) -> Table:
    kept = evenly_spaced(bands.index.get_level_values("epoch"), MOST_EPOCHS)
    known = dict(zip(bands.index, bands.to_numpy(dtype=float), strict=True))
    rows = tuple(
        (
            f"{layer}, {sign}",
            *(text.percentiles(known.get((tensor, layer, epoch), ())) for epoch in kept),
        )
        for layer in layers
        for tensor, sign in zip(STARTS, "γβ", strict=True)
    )
    caption = "15th / 50th / 85th percentile of the channels, mean of the seeds"
    heads = (f"Epoch {text.epochs(epoch)}" for epoch in kept)
    return Table(caption, ("Layer and parameter", *heads), rows)


@mpl.rc_context(RC_PARAMS)
def draw_affine_paths(
    bands: pd.DataFrame,
    paths: pd.DataFrame,
    layers: Sequence[str],
    starts: Mapping[str, tuple[str, float]],
    source: str,
) -> Figure:
    """Draw what normalization layers learn, one row of panels per layer.

    Parameters
    ----------
    bands
        Columns ``tensor``, ``layer``, ``epoch``, ``q15``, ``q50``, ``q85``.
    paths
        Columns ``tensor``, ``layer``, ``channel``, ``epoch``, ``value``: single channels.
    layers
        Each has a row of panels.
    starts
        Title of each tensor's column of panels, and where it starts: a dashed line.
    source
        Line at the foot.
    """
    figure, panels = new_figure(
        source, height=1.55 * len(layers) + 0.7, rows=len(layers), columns=len(starts)
    )
    grid, style = [(layer, tensor) for layer in layers for tensor in starts], LINE_STYLES[1]
    for number, (axes, (layer, tensor)) in enumerate(zip(panels, grid, strict=True)):
        title, start = starts[tensor]
        mine = paths[(paths["tensor"] == tensor) & (paths["layer"] == layer)]
        thin_lines(axes, mine, style, by="channel", lw=0.9, alpha=0.55)
        band = bands[(bands["tensor"] == tensor) & (bands["layer"] == layer)]
        axes.fill_between(
            band["epoch"], band["q15"], band["q85"], color=style.color, alpha=0.2, lw=0, zorder=1
        )
        axes.plot(
            band["epoch"], band["q50"], color=style.color, ls=style.linestyle, lw=2.2, zorder=3
        )
        axes.axhline(start, color=MUTED, lw=1.0, ls=(0, (6, 3)), zorder=1)
        if number < len(starts):
            axes.set_title(title)
        last = number >= len(grid) - len(starts)
        scale = Scale(layer if number % len(starts) == 0 else "", least=0.2)
        format_axes(axes, scale, "Epoch" if last else "")
        epoch_ticks(axes)
    return figure
