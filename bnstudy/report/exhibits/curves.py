"""Learning curves: every seed, and what the means come to."""

import numpy as np
import pandas as pd

from bnstudy.errors import find
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence, grouped
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

MOST_ROWS = 24
SCALES = {
    "validation_accuracy": drawing.Scale("Validation accuracy", percent=True),
    "train_accuracy": drawing.Scale("Training accuracy", percent=True),
    "test_accuracy": drawing.Scale("Test accuracy, running statistics", percent=True),
    "test_accuracy_population": drawing.Scale("Test accuracy", percent=True),
    "validation_loss": drawing.Scale("Validation loss"),
    "train_loss": drawing.Scale("Training loss"),
    "test_loss": drawing.Scale("Test loss, running statistics"),
    "test_loss_population": drawing.Scale("Test loss"),
}


def learning_curves(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show a column of the curves by epoch.

    Options: ``arms``, their names (all if not given); ``y``, a key of
    :data:`SCALES`.
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    column = exhibit.options.get("y", "validation_accuracy")
    scale = find("column of a curve", column, SCALES)
    points = _points(evidence, arms, column)
    notes = parts.gaps(evidence, arms, "their curves end there, and later means are of the others.")
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    write = text.percent if scale.percent else text.loss
    sentence = _sentence(points, arms, scale)
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.learning_curves(points, parts.labels_of(arms), scale, source)
    data = _table(points, arms, scale.label, write)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, data, points)
    return Finding(anchor, sentence, exhibit.caption, (), chart, notes)


def _points(evidence: Evidence, arms: tuple[Arm, ...], column: str) -> pd.DataFrame:
    curves = pd.concat([evidence.curve(arm.name) for arm in arms], ignore_index=True)
    there = curves[curves[column].notna()]
    chosen = there[["arm", "seed", "epoch", column]].rename(columns={column: "value"})
    return chosen.reset_index(drop=True)


def _sentence(points: pd.DataFrame, arms: tuple[Arm, ...], scale: drawing.Scale) -> str:
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
    places = np.linspace(0, len(epochs) - 1, min(MOST_ROWS, len(epochs)))
    shown, rows = {epochs[round(place)] for place in places}, []
    digits = 1 if len({text.epochs(epoch) for epoch in shown}) == len(shown) else 2
    for epoch, at in grouped(points, "epoch"):
        if epoch in shown:
            values = (at.loc[at["arm"] == arm.name, "value"] for arm in arms)
            spreads = (parts.spread(each, write) for each in values)
            rows.append((text.decimal(epoch, digits), *spreads))
    caption = f"{what}: mean of the seeds (lowest to highest)"
    if len(shown) < len(epochs):
        caption += f"; {len(shown)} of {len(epochs)} times"
    return Table(caption, ("Epoch", *(arm.label for arm in arms)), tuple(rows))
