"""One number of several layers over training, one panel per arm."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnstudy.inference import ratio_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import LINE_STYLES, RC_PARAMS, LineStyle, Scale, new_figure
from bnstudy.report.drawing.marks import epoch_ticks, format_axes, label_ends, thin_lines
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence, evenly_spaced
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

PROBE = "activations"
MOST_EPOCHS = 6  # columns of the table


@exhibit("layer-lines", diverged="what was recorded until then is shown.")
def layer_lines(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> Content | Nothing:
    """Show one number of several layers over training.

    Options: ``arms``; ``layers``; ``probe`` (``activations`` by default), ``tensor`` and ``stat``,
    which number; ``label``, its name, ``percent`` or ``log``, its scale; ``ratio``, a pair of
    layers whose ratio over the first epoch is the finding, or none, where it is the layer with
    the highest last value.
    """
    layers, probe = options["layers"], options.get("probe", PROBE)
    rows = evidence.seen(arms, layers, options["tensor"], (options["stat"],), probe)
    points = rows.loc[np.isfinite(rows["value"]), ["arm", "layer", "seed", "epoch", "value"]]
    points = points.reset_index(drop=True)
    if points.empty:
        return Nothing()
    scale = Scale(options["label"], options.get("percent", False), options.get("log", False))
    return Content(
        sentence=(_ratios if options.get("ratio") else _highest)(evidence, arms, options),
        values=points,
        draw=lambda source: draw_layer_lines(points, labels_of(arms), layers, scale, source),
        data=_table(points, arms, layers, options),
    )


def _writer(options: Options) -> text.Writer:
    return text.percent if options.get("percent", False) else text.significant


def _ratios(evidence: Evidence, arms: Sequence[Arm], options: Options) -> str:
    """State the ratio of two layers over the first epoch, arm by arm."""
    upper, lower = options["ratio"]
    found = evidence.readings(
        arms,
        "layer-ratio",
        probe=options.get("probe", PROBE),
        stat=options["stat"],
        tensor=options["tensor"],
        upper=upper,
        lower=lower,
        end=1.0,
    )
    stated = []
    for arm in arms:
        values = found.loc[found["arm"] == arm.name, "value"].to_numpy(dtype=float)
        if len(values):
            ratio = ratio_interval(values, np.ones(len(values)))
            stated.append(
                f"{text.significant(ratio.estimate)} times that of {lower} for {arm.label} "
                f"({text.certainty(ratio, text.significant)})"
            )
    label = options["label"]
    what = f"{label[0].lower()}{label[1:]}"
    if not stated:
        return f"The {what} of {upper} and {lower} cannot be compared"
    return f"Over the first epoch the {what} of {upper} is {text.listing(stated)}"


def _highest(evidence: Evidence, arms: Sequence[Arm], options: Options) -> str:
    """State which layer has the highest last value, arm by arm."""
    write = _writer(options)
    lasts: dict[str, dict[Any, float]] = {}  # by layer, then by arm
    for layer in options["layers"]:
        found = evidence.readings(
            arms,
            "probe",
            probe=options.get("probe", PROBE),
            stat=options["stat"],
            tensor=options["tensor"],
            layer=layer,
            take="last",
        )
        if len(found):
            lasts[layer] = found.groupby("arm")["value"].mean().to_dict()
    stated = []
    for arm in arms:
        last = {layer: means[arm.name] for layer, means in lasts.items() if arm.name in means}
        if not last:
            continue
        highest = max(last, key=last.__getitem__)
        where = f" in {highest}" if len(lasts) > 1 else ""
        # a maximum of 0 is in every layer
        value = f"{write(last[highest])}{where}" if last[highest] > 0 else "none"
        stated.append(f"{value} for {arm.label}")
    most = ", in the layer with most" if len(lasts) > 1 else ""
    return f"{options['label']} at the end{most}: {text.listing(stated)}"


def _table(
    points: pd.DataFrame, arms: Sequence[Arm], layers: Sequence[str], options: Options
) -> Table:
    kept, write = evenly_spaced(points["epoch"], MOST_EPOCHS), _writer(options)
    means = points.groupby(["arm", "layer", "epoch"])["value"].mean().to_dict()
    rows = tuple(
        (
            f"{arm.label}, {layer}",
            *(write(means.get((arm.name, layer, epoch), np.nan)) for epoch in kept),
        )
        for arm in arms
        for layer in layers
    )
    columns = ("Arm and layer", *(f"Epoch {text.epochs(epoch)}" for epoch in kept))
    return Table(f"{options['label']}: mean of the seeds", columns, rows)


@mpl.rc_context(RC_PARAMS)
def draw_layer_lines(
    points: pd.DataFrame,
    labels: Mapping[str, str],
    layers: Sequence[str],
    scale: Scale,
    source: str,
) -> Figure:
    """Draw one number of several layers over training, one panel per arm, every seed thin.

    Parameters
    ----------
    points
        Columns ``arm``, ``layer``, ``seed``, ``epoch``, ``value``.
    labels
        Text of each arm, which has a panel.
    layers
        In the order of their colours.
    scale
        Of the values; thick lines are means, geometric on a logarithmic scale.
    source
        Line at the foot.
    """
    figure, panels = new_figure(source, height=2.5 * len(labels) + 0.5, rows=len(labels))
    named: list[list[tuple[float, float, str, str]]] = []
    for number, (axes, arm) in enumerate(zip(panels, labels, strict=True)):
        ends = []
        for layer, style in zip(layers, LINE_STYLES, strict=False):
            rows = points[(points["arm"] == arm) & (points["layer"] == layer)]
            if scale.log:
                rows = rows[rows["value"] > 0]
            if len(rows):
                ends.append((*_lines(axes, rows, style, log=scale.log), layer, style.color))
        axes.set_title(shorten(labels[arm]))
        format_axes(axes, scale, "Epoch" if number == len(labels) - 1 else "")
        epoch_ticks(axes)
        named.append(ends)
    limits = [axes.get_ylim() for axes in panels]
    for axes, ends in zip(panels, named, strict=True):  # the arms are compared: one scale for all
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        if scale.percent:
            axes.set_ylim(bottom=0.0, top=max(0.01, axes.get_ylim()[1]))
        label_ends(axes, ends)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame, style: LineStyle, *, log: bool) -> tuple[float, float]:
    """Draw the seeds of a layer and their mean; return the end of the mean's line."""
    # a single record is a dot: a line of one point would not be seen
    single = rows["epoch"].nunique() == 1
    thin_lines(axes, rows, style, marker=single, lw=0.5, alpha=0.3, ms=4, mew=1)
    by_epoch = rows.groupby("epoch", sort=True)["value"]
    mean = by_epoch.apply(lambda v: np.exp(np.log(v).mean())) if log else by_epoch.mean()
    axes.plot(
        mean.index, mean, color=style.color, ls=style.linestyle, lw=2.2, zorder=3,
        marker=style.marker if single else None, ms=8,
    )  # fmt: skip
    return float(mean.index[-1]), float(mean.iloc[-1])
