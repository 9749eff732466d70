"""Test accuracy at the end of training, paired by seed."""

import math
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnstudy.inference import Interval, difference_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import INK, MUTED, RC_PARAMS, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import dots, format_axes, paired_dots, seed_offsets
from bnstudy.report.drawing.styles import wrap_label, wrap_tick_labels
from bnstudy.report.evidence import Evidence, pair_up
from bnstudy.report.exhibits.frame import Content, Nothing, Options, as_guessing, exhibit, labels_of
from bnstudy.report.model import Table

POPULATION = "test_accuracy_population"
HALF_WIDTH = 24  # letters that half of the width has room for in a line


@exhibit("final-accuracy", diverged=as_guessing)
def final_accuracy(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show test accuracy, with population statistics, at the end of training.

    Options: ``arms``, their names (all if not given); ``baseline``, the arm
    that the others are compared to (the first if not given); ``together``:
    where the arm with the fewest epochs ends, where others go on.
    """
    (baseline,) = evidence.arms([options.get("baseline", arms[0].name)])
    points = _points(evidence, arms, together=bool(options.get("together")))
    if points.empty:
        return Nothing()
    intervals = _differences(points, arms, baseline)
    lengths = {arm.config.epochs for arm in arms}
    ends = {min(lengths)} if options.get("together") else lengths
    after = f"After {text.epoch_count(ends.pop())}" if len(ends) == 1 else "At the end"
    scales = (
        Scale("Test accuracy", percent=True, least=0.01),
        Scale(f"Points above {baseline.label}", least=0.5),
    )
    return Content(
        sentence=_sentence(after, points, arms, baseline, intervals),
        values=points,
        draw=lambda source: draw_paired_differences(
            points,
            _difference_points(points, baseline, intervals),
            labels_of(arms),
            scales,
            source,
        ),
        tables=(_table(points, arms, baseline, intervals),),
        data=_by_seed(points, arms),
    )


def _points(evidence: Evidence, arms: tuple[Arm, ...], *, together: bool) -> pd.DataFrame:
    """Return each seed's accuracy at its arm's last epoch, or at the last that all arms have."""
    epochs = min(arm.config.epochs for arm in arms)
    frames = [
        evidence.readings(
            [arm], "latest", column=POPULATION, epochs=float(epochs if together else 0)
        )
        for arm in arms
    ]
    joined = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
    return joined[["arm", "seed", "value"]]


def _differences(points: pd.DataFrame, arms: tuple[Arm, ...], baseline: Arm) -> dict[str, Interval]:
    """Return each arm's mean paired difference to the baseline, for arms with a pair."""
    found = {}
    for arm in arms:
        _, mine, theirs = pair_up(points, arm.name, baseline.name)
        if arm != baseline and len(mine):
            found[arm.name] = difference_interval(mine, theirs)
    return found


def _difference_points(
    points: pd.DataFrame, baseline: Arm, intervals: Mapping[str, Interval]
) -> pd.DataFrame:
    """Return each seed's difference in points, beside the mean and interval of its arm."""
    rows = []
    for arm, interval in intervals.items():
        seeds, mine, theirs = pair_up(points, arm, baseline.name)
        mean, low, high = (100 * end for end in (interval.estimate, interval.low, interval.high))
        rows += [
            (arm, seed, 100 * float(difference), mean, low, high)
            for seed, difference in zip(seeds, mine - theirs, strict=True)
        ]
    return pd.DataFrame(rows, columns=["arm", "seed", "difference", "mean", "low", "high"])


def _sentence(
    after: str,
    points: pd.DataFrame,
    arms: tuple[Arm, ...],
    baseline: Arm,
    intervals: Mapping[str, Interval],
) -> str:
    """State the accuracies: of one pair, of several arms beside the baseline, or of each alone."""
    if len(intervals) > 1:
        base = float(points.loc[points["arm"] == baseline.name, "value"].mean())
        away = [
            f"{text.fine_points(interval.estimate)} for {arm.label} "
            f"({text.certainty(interval, text.fine_points)})"
            for arm in arms
            if (interval := intervals.get(arm.name)) is not None
        ]
        return (
            f"{after} test accuracy is {text.percent(base)} for {baseline.label}; in points from "
            f"there: {text.listing(away)}"
        )
    for arm in arms:
        if arm.name in intervals:
            _, mine, theirs = pair_up(points, arm.name, baseline.name)
            interval = intervals[arm.name]
            return (
                f"{after} test accuracy is {text.percent(float(mine.mean()))} for {arm.label}, "
                f"{text.percent(float(theirs.mean()))} for {baseline.label}: "
                f"{text.fine_points(interval.estimate)} points "
                f"({text.certainty(interval, text.fine_points)})"
            )
    means = [
        f"{text.percent(float(values.mean()))} for {arm.label} ({text.count(len(values), 'seed')})"
        for arm in arms
        if len(values := points.loc[points["arm"] == arm.name, "value"])
    ]
    return f"{after} test accuracy is {text.listing(means)}"


def _table(
    points: pd.DataFrame, arms: tuple[Arm, ...], baseline: Arm, intervals: Mapping[str, Interval]
) -> Table:
    rows = []
    for arm in arms:
        values, interval = points.loc[points["arm"] == arm.name, "value"], intervals.get(arm.name)
        difference = (text.MISSING, text.MISSING)
        if interval is not None:
            span = text.interval_span(interval, text.fine_points)
            difference = (text.fine_points(interval.estimate), span)
        rows.append(
            (
                arm.label,
                str(len(values)),
                text.fine_percent(float(values.mean())),
                text.fine_percent(float(values.min())),
                text.fine_percent(float(values.max())),
                *difference,
            )
        )
    return Table(
        "Final test accuracy with population statistics, and the mean paired difference to "
        f"{baseline.label} in percentage points with its 95% t interval",
        ("Arm", "Seeds", "Mean", "Lowest", "Highest", "Difference", "95% CI"),
        tuple(rows),
    )


def _by_seed(points: pd.DataFrame, arms: tuple[Arm, ...]) -> Table:
    wide = points.pivot(index="seed", columns="arm", values="value")
    rows = tuple(
        (str(seed), *(text.fine_percent(row.get(arm.name)) for arm in arms))
        for seed, row in wide.to_dict("index").items()
    )
    return Table("Final test accuracy, by seed", ("Seed", *(arm.label for arm in arms)), rows)


@mpl.rc_context(RC_PARAMS)
def draw_paired_differences(
    points: pd.DataFrame,
    differences: pd.DataFrame,
    labels: Mapping[str, str],
    scales: tuple[Scale, Scale],
    source: str,
) -> Figure:
    """Draw the values of paired arms and, beside them, each arm's differences to the baseline.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``value``.
    differences
        Columns ``arm``, ``seed``, ``difference`` and, the same in all rows of
        an arm, ``mean``, ``low``, ``high``: NaN where there is no interval.
    labels
        Text of each arm.
    scales
        Of the values and of the differences.
    source
        Line at the foot.
    """
    letters = sum(max(map(len, wrap_label(each).split("\n"))) for each in labels.values())
    if len(labels) > 3 or letters > HALF_WIDTH:
        figure, (left, right) = new_figure(source, height=6.4, rows=2)
    else:
        figure, (left, right) = new_figure(source, height=3.6, columns=2)
    paired_dots(left, points, labels, "value")
    format_axes(left, scales[0], "")
    _draw_differences(right, differences, labels)
    format_axes(right, scales[1], "")
    return figure


def _draw_differences(axes: Axes, differences: pd.DataFrame, labels: Mapping[str, str]) -> None:
    """Draw each arm's differences side by side, with their mean and interval beside them."""
    others = [arm for arm in labels if arm in set(differences["arm"])]
    for index, arm in enumerate(others):
        rows, style = differences[differences["arm"] == arm], line_styles(labels)[arm]
        x = index + seed_offsets(rows["seed"], 0.16)
        dots(axes, x, rows["difference"], np.zeros(len(rows), bool), style)
        mean, low, high = rows.iloc[0][["mean", "low", "high"]]
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([index + 0.3] * 2, [low, high], color=INK, lw=2.2, zorder=3)
        axes.plot([index + 0.3], [mean], ls="", marker="D", ms=6.5, color=INK, zorder=4)
    axes.axhline(0.0, color=MUTED, lw=1.2)
    axes.set_xticks(range(len(others)), wrap_tick_labels([labels[arm] for arm in others]))
    axes.set_xlim(-0.6, max(len(others), 1) - 0.3)
