"""Test accuracy of the same weights with running and with population statistics."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import Interval, mean_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import LINE_STYLES, RC_PARAMS, Scale, new_figure
from bnstudy.report.drawing.marks import epoch_ticks, format_axes, label_ends, thin_lines
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence, grouped
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

COLUMNS = {"test_accuracy": "running", "test_accuracy_population": "population"}
KINDS = tuple(COLUMNS.values())


@exhibit("evaluation-statistics", diverged="the epochs they finished are shown.")
def evaluation_statistics(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show test accuracy of the same weights with running and with population statistics.

    Options: ``arms``, their names (all if not given).
    """
    points = evidence.curves(arms, *COLUMNS).rename(columns=COLUMNS)
    if points.empty:
        return Nothing("no epoch of its runs is finished")
    shown = tuple(arm for arm in arms if (points["arm"] == arm.name).any())
    # one column per arm: its gain in each seed
    gains = evidence.readings(shown, "statistics-gain").pivot(
        index="seed", columns="arm", values="value"
    )
    return Content(
        sentence=_sentence(points, mean_interval(gains.mean(axis=1).to_numpy())),
        values=points,
        draw=lambda source: draw_evaluation_statistics(points, labels_of(shown), source),
        tables=(_table(points, gains, shown),),
        data=_by_epoch(points, shown),
    )


def _range_of_seeds(points: pd.DataFrame, kind: str) -> float:
    """Return highest minus lowest seed at the end of an epoch, the mean over epochs (and arms)."""
    ends = points.groupby(["arm", "epoch"])[kind].agg(["min", "max", "count"])
    ends = ends[ends["count"] > 1]
    return float((ends["max"] - ends["min"]).mean()) if len(ends) else float("nan")


def _sentence(points: pd.DataFrame, gain: Interval) -> str:
    """State how much lower accuracy is with running statistics, over all arms."""
    lower = gain.estimate >= 0
    size = gain if lower else Interval(
        -gain.estimate, -gain.high, -gain.low, gain.n, gain.confidence
    )  # fmt: skip
    start = (
        f"With running statistics test accuracy is {text.unsigned_points(size.estimate)} points "
        f"{'lower' if lower else 'higher'} than with population statistics "
        f"({text.certainty(size, text.unsigned_points)})"
    )
    ranges = [_range_of_seeds(points, kind) for kind in KINDS]
    if not np.isfinite(ranges).all():
        return start
    return (
        f"{start}, and seeds spread over {text.unsigned_points(ranges[0])} points instead of "
        f"{text.unsigned_points(ranges[1])}"
    )


def _table(points: pd.DataFrame, gains: pd.DataFrame, arms: tuple[Arm, ...]) -> Table:
    rows = []
    for arm in arms:
        mine = points[points["arm"] == arm.name]
        gain = mean_interval(gains[arm.name].dropna().to_numpy())
        rows.append(
            (
                arm.label,
                *(text.percent(float(mine[kind].mean())) for kind in KINDS),
                text.points(gain.estimate),
                text.interval_span(gain, text.points),
                *(text.unsigned_points(_range_of_seeds(mine, kind)) for kind in KINDS),
            )
        )
    return Table(
        "Test accuracy with running and with population statistics: mean over epochs and seeds, "
        "population minus running in points with its 95% t interval over seeds, and the range of "
        "the seeds at the end of an epoch in points, averaged over epochs",
        (
            "Arm",
            "Running",
            "Population",
            "Difference",
            "95% CI",
            "Range, running",
            "Range, population",
        ),
        tuple(rows),
    )


def _by_epoch(points: pd.DataFrame, arms: tuple[Arm, ...]) -> Table:
    rows = [
        (
            text.epochs(epoch),
            *(
                text.mean_and_range(at.loc[at["arm"] == arm.name, kind], text.percent)
                for arm in arms
                for kind in KINDS
            ),
        )
        for epoch, at in grouped(points, "epoch")
    ]
    heads = [f"{arm.label}, {kind}" for arm in arms for kind in KINDS]
    caption = "Test accuracy at the end of each epoch: mean of the seeds (lowest to highest)"
    return Table(caption, ("Epoch", *heads), tuple(rows))


@mpl.rc_context(RC_PARAMS)
def draw_evaluation_statistics(
    points: pd.DataFrame, labels: Mapping[str, str], source: str
) -> Figure:
    """Draw test accuracy by epoch under both kinds of statistics, one panel per arm.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``epoch``, ``running``, ``population``.
    labels
        Text of each arm.
    source
        Line at the foot.
    """
    figure, panels = new_figure(source, height=2.5 * len(labels) + 0.5, rows=len(labels))
    for number, (axes, arm) in enumerate(zip(panels, labels, strict=True)):
        rows, ends = points[points["arm"] == arm], []
        for kind, style in zip(KINDS, LINE_STYLES, strict=False):
            of_kind = rows.rename(columns={kind: "value"})
            thin_lines(axes, of_kind, style, marker=True)
            mean = of_kind.groupby("epoch", sort=True)["value"].mean()
            alone = style.marker if len(mean) == 1 else None  # a line of one point draws nothing
            axes.plot(
                mean.index, mean, color=style.color, ls=style.linestyle, lw=2.6, marker=alone, ms=8,
                zorder=3,
            )  # fmt: skip
            if len(mean):
                ends.append((float(mean.index[-1]), float(mean.iloc[-1]), kind, style.color))
        axes.set_title(shorten(labels[arm]))
        last = number == len(labels) - 1
        format_axes(axes, Scale("Test accuracy", percent=True), "Epoch" if last else "")
        epoch_ticks(axes)
        label_ends(axes, ends)
    return figure
