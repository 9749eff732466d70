"""Learning curves: every seed, and the difference of the means at the end."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.errors import find
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import PAPER, RC_PARAMS, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import format_axes, label_ends, thin_lines
from bnstudy.report.evidence import Evidence, grouped
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

MOST_ROWS = 24
SCALES = {
    "validation_accuracy": Scale("Validation accuracy", percent=True),
    "train_accuracy": Scale("Training accuracy", percent=True),
    "test_accuracy": Scale("Test accuracy, running statistics", percent=True),
    "test_accuracy_population": Scale("Test accuracy", percent=True),
    "validation_loss": Scale("Validation loss"),
    "train_loss": Scale("Training loss"),
    "test_loss": Scale("Test loss, running statistics"),
    "test_loss_population": Scale("Test loss"),
}


@exhibit("learning-curves", diverged="their curves end there, and later means are of the others.")
def learning_curves(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show a column of the curves by epoch.

    Options: ``arms``, their names (all if not given); ``y``, a key of
    :data:`SCALES`.
    """
    column = options.get("y", "validation_accuracy")
    scale = find("column of a curve", column, SCALES)
    points = evidence.curves(arms, column).rename(columns={column: "value"})
    if points.empty:
        return Nothing()
    write = text.percent if scale.percent else text.loss
    return Content(
        sentence=_sentence(points, arms, scale),
        values=points,
        draw=lambda source: draw_learning_curves(points, labels_of(arms), scale, source),
        data=_table(points, arms, scale.label, write),
    )


def _sentence(points: pd.DataFrame, arms: tuple[Arm, ...], scale: Scale) -> str:
    """State the means at the last epoch that all arms with runs have, over the seeds in common."""
    present = [arm for arm in arms if (points["arm"] == arm.name).any()]
    lasts = [points.loc[points["arm"] == arm.name, "epoch"].max() for arm in present]
    last = min(lasts)
    there = points[points["epoch"].sub(last).abs() < 1e-9]
    wide = there.pivot(index="seed", columns="arm", values="value").dropna()
    after = f"After {text.epoch_count(last)}"
    if wide.empty or wide.shape[1] < len(present):
        return f"{after} the arms have no seed in common"
    means = {arm.name: float(wide[arm.name].mean()) for arm in present}
    write = text.percent if scale.percent else text.loss
    seeds = text.count(len(wide), "seed")
    named = [f"{write(means[arm.name])} for {arm.label}" for arm in reversed(present)]
    start = f"{after} {scale.label[0].lower()}{scale.label[1:]} is"
    if len(present) != 2:
        return f"{start} {text.listing(named)} ({seeds})"
    first, second = (means[arm.name] for arm in present)
    difference = (
        f"{text.points(second - first)} points"
        if scale.percent
        else text.loss(second - first, sign=True)
    )
    return f"{start} {named[0]}, {named[1]}: {difference} ({seeds})"


def _table(points: pd.DataFrame, arms: tuple[Arm, ...], what: str, write: text.Writer) -> Table:
    """Return the means at up to :data:`MOST_ROWS` epochs; the CSV has all of them."""
    epochs = sorted(set(points["epoch"]))
    kept = np.linspace(0, len(epochs) - 1, min(MOST_ROWS, len(epochs)))
    shown, rows = {epochs[round(number)] for number in kept}, []
    digits = 1 if len({text.epochs(epoch) for epoch in shown}) == len(shown) else 2
    for epoch, at in grouped(points, "epoch"):
        if epoch in shown:
            values = (at.loc[at["arm"] == arm.name, "value"] for arm in arms)
            ranges = (text.mean_and_range(each, write) for each in values)
            rows.append((text.decimal(epoch, digits), *ranges))
    caption = f"{what}: mean of the seeds (lowest to highest)"
    if len(shown) < len(epochs):
        caption += f"; {len(shown)} of {len(epochs)} times"
    return Table(caption, ("Epoch", *(arm.label for arm in arms)), tuple(rows))


@mpl.rc_context(RC_PARAMS)
def draw_learning_curves(
    points: pd.DataFrame, labels: Mapping[str, str], scale: Scale, source: str
) -> Figure:
    """Draw every seed thin and the mean of the seeds thick.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``epoch``, ``value``.
    labels
        Text of each arm, in the order of their colours.
    scale
        Of the values.
    source
        Line at the foot.
    """
    figure, (axes,) = new_figure(source, height=3.7)
    ends = []
    for arm, style in line_styles(labels).items():
        rows = points[points["arm"] == arm]
        thin_lines(axes, rows, style)
        mean = rows.groupby("epoch", sort=True)["value"].mean()
        if len(mean):
            axes.plot(mean.index, mean, color=style.color, ls=style.linestyle, lw=2.6, zorder=3)
            ends.append((float(mean.index[-1]), float(mean.iloc[-1]), labels[arm], style.color))
        if len(mean) == 1:  # a line of one point draws nothing
            lone: Any = {"ls": "", "marker": style.marker, "color": style.color, "mec": PAPER}
            axes.plot(rows["epoch"], rows["value"], ms=4, alpha=0.5, **lone)
            axes.plot(mean.index, mean, ms=8, zorder=3, **lone)
    format_axes(axes, scale, "Epoch")
    label_ends(axes, ends)
    return figure
