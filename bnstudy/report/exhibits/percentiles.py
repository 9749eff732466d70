"""Percentiles of what comes into layers over training, and how far they drift."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import Interval, mean_interval, ratio_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import RC_PARAMS, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import format_axes, thin_lines
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence, pair_up
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

PERCENTILES = ("q15", "q50", "q85")
write_drift = text.fixed(1)


@exhibit("percentile-bands", diverged="what was recorded until then is shown.")
def percentile_bands(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show the percentiles of layers over training, and how far they drift.

    Drift is that of the measure ``drift``, which claims use too.

    Options: ``arms``; ``layers``; ``tensor``, which tensor of them; ``probe``, which has
    recorded them (``activations`` if not given).
    """
    layers, tensor = options["layers"], options.get("tensor", "in")
    probe = options.get("probe", "activations")
    rows = evidence.seen(arms, layers, tensor, PERCENTILES, probe)
    if rows.empty:
        return Nothing()
    points = rows.pivot(
        index=["arm", "layer", "seed", "epoch"], columns="stat", values="value"
    ).reset_index()
    of = {"probe": probe, "tensor": tensor}
    drifts = evidence.readings(arms, "drift", **of, layer=" ".join(layers))
    by_layer = {layer: evidence.readings(arms, "drift", **of, layer=layer) for layer in layers}
    return Content(
        sentence=_sentence(drifts, arms),
        values=points,
        draw=lambda source: draw_percentile_bands(points, labels_of(arms), layers, source),
        tables=(_drift_table(drifts, by_layer, arms),),
        data=_percentile_table(points, arms, layers),
    )


def _mean(drifts: pd.DataFrame, arm: Arm) -> Interval | None:
    values = drifts.loc[drifts["arm"] == arm.name, "value"].to_numpy(dtype=float)
    return mean_interval(values) if len(values) else None


def _sentence(drifts: pd.DataFrame, arms: Sequence[Arm]) -> str:
    """Compare the drift of two arms by its ratio; list that of any other number of arms."""
    if len(arms) == 2:
        first, second = arms
        seeds, mine, theirs = pair_up(drifts, first.name, second.name)
        if not seeds:
            return "The arms have no seed in common"
        if mine.all() and theirs.all():  # percentiles that never move have no ratio
            ratio = ratio_interval(mine, theirs)
            if ratio.estimate < 1:
                first, second, ratio = second, first, ratio_interval(theirs, mine)
            return (
                "In widths of their band, percentiles drift "
                f"{write_drift(ratio.estimate)} times as far for {first.label} as for "
                f"{second.label} ({text.certainty(ratio, write_drift)})"
            )
    means = {arm.label: _mean(drifts, arm) for arm in arms}
    listed = [f"{label} {write_drift(mean.estimate)}" for label, mean in means.items() if mean]
    if not listed:
        return "No run has the percentiles of two records, between which they could drift"
    return f"Drift of the percentiles, in widths of the band: {text.listing(listed)}"


def _drift_table(
    drifts: pd.DataFrame, by_layer: Mapping[str, pd.DataFrame], arms: Sequence[Arm]
) -> Table:
    rows = []
    for arm in arms:
        mean = _mean(drifts, arm)
        layers = {layer: _mean(found, arm) for layer, found in by_layer.items()}
        listed = [f"{name} {write_drift(each.estimate)}" for name, each in layers.items() if each]
        rows.append(
            (
                arm.label,
                write_drift(mean.estimate) if mean else text.MISSING,
                text.interval_span(mean, write_drift) if mean else text.MISSING,
                ", ".join(listed) or text.MISSING,
            )
        )
    return Table(
        "Drift: way covered by the 15th, 50th and 85th percentile, in units of the distance "
        "between the outer two; mean of layers and seeds",
        ("Arm", "Drift", "95% CI", "By layer"),
        tuple(rows),
    )


def _percentile_table(points: pd.DataFrame, arms: Sequence[Arm], layers: Sequence[str]) -> Table:
    """Return the percentiles at the first, the middle and the last record."""
    epochs = sorted(set(points["epoch"]))
    shown = sorted({epochs[0], epochs[len(epochs) // 2], epochs[-1]})
    means = points.groupby(["layer", "epoch", "arm"])[list(PERCENTILES)].mean()
    known = dict(zip(means.index, means.to_numpy(dtype=float), strict=True))
    rows = tuple(
        (
            f"{layer}, epoch {text.epochs(epoch)}",
            *(text.percentiles(known.get((layer, epoch, arm.name), ())) for arm in arms),
        )
        for layer in layers
        for epoch in shown
    )
    caption = "15th / 50th / 85th percentile, mean of the seeds"
    return Table(caption, ("Layer", *(arm.label for arm in arms)), rows)


@mpl.rc_context(RC_PARAMS)
def draw_percentile_bands(
    points: pd.DataFrame, labels: Mapping[str, str], layers: Sequence[str], source: str
) -> Figure:
    """Draw the 15th to 85th percentile over training, one panel per layer and arm.

    Parameters
    ----------
    points
        Columns ``arm``, ``layer``, ``seed``, ``epoch``, ``q15``, ``q50``, ``q85``.
    labels
        Text of each arm, which has a column of panels.
    layers
        Each has a row of panels.
    source
        Line at the foot.
    """
    figure, panels = new_figure(
        source,
        height=1.55 * len(layers) + 0.7,
        rows=len(layers),
        columns=len(labels),
        share_y=True,
    )
    grid = [(layer, arm) for layer in layers for arm in labels]
    for number, (axes, (layer, arm)) in enumerate(zip(panels, grid, strict=True)):
        style = line_styles(labels)[arm]
        rows = points[(points["arm"] == arm) & (points["layer"] == layer)]
        thin_lines(axes, rows, style, y="q50", lw=0.7, alpha=0.35)
        mean = rows.groupby("epoch", sort=True)[list(PERCENTILES)].mean()
        axes.fill_between(
            mean.index, mean["q15"], mean["q85"], color=style.color, alpha=0.2, lw=0, zorder=1
        )
        axes.plot(mean.index, mean["q50"], color=style.color, ls=style.linestyle, lw=2.2, zorder=3)
        if number < len(labels):
            axes.set_title(shorten(labels[arm]))
        last = number >= len(grid) - len(labels)
        format_axes(
            axes, Scale(layer if number % len(labels) == 0 else ""), "Epoch" if last else ""
        )
    return figure
