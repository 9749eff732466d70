"""Test accuracy: at the end of training, and by which statistics it is measured."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bnstudy.inference import Interval, difference_interval
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import CHANCE, Evidence, grouped, pair_up
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

RUNNING, POPULATION = "test_accuracy", "test_accuracy_population"


def final_accuracy(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show test accuracy, with population statistics, at the end of training.

    Options: ``arms``, their names (all if not given); ``baseline``, the arm
    that the others are compared to (the first if not given); ``together``:
    where the arm with the fewest epochs ends, where others go on.
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    lengths = {arm.config.epochs for arm in arms}
    epochs = min(lengths) if exhibit.options.get("together") else None
    (baseline,) = evidence.arms([exhibit.options.get("baseline", arms[0].name)])
    notes = parts.gaps(
        evidence, arms, f"they count with the accuracy of guessing, {text.percent(CHANCE, 0)}."
    )
    frames = [evidence.last_values(POPULATION, arm, epochs=epochs or max(lengths)) for arm in arms]
    points = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    intervals = _differences(points, arms, baseline)
    ends = {epochs} if epochs else lengths
    after = f"After {text.epoch_count(ends.pop())}" if len(ends) == 1 else "At the end"
    sentence = _final_sentence(after, points, arms, baseline, intervals)
    figure = drawing.paired_differences(
        points,
        _difference_points(points, baseline, intervals),
        parts.labels_of(arms),
        (
            drawing.Scale("Test accuracy", percent=True, least=0.01),
            drawing.Scale(f"Points above {baseline.label}", least=0.5),
        ),
        parts.source_line(evidence.plan, parts.seeds_of(evidence, arms)),
    )
    table = _final_table(points, arms, baseline, intervals)
    chart = parts.draw(
        evidence, anchor, figure, sentence, exhibit.caption, _by_seed(points, arms), points
    )
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _differences(points: pd.DataFrame, arms: tuple[Arm, ...], baseline: Arm) -> dict[str, Interval]:
    """Return each arm's mean paired difference to the baseline, for arms with a pair."""
    found = {}
    for arm in arms:
        _, mine, theirs = pair_up(points, arm.name, baseline.name, "value")
        if arm != baseline and len(mine):
            found[arm.name] = difference_interval(mine, theirs)
    return found


def _difference_points(
    points: pd.DataFrame, baseline: Arm, intervals: Mapping[str, Interval]
) -> pd.DataFrame:
    rows = []
    for arm, interval in intervals.items():
        seeds, mine, theirs = pair_up(points, arm, baseline.name, "value")
        ends = (100 * each for each in (interval.estimate, interval.low, interval.high))
        mean, low, high = ends
        rows += [
            (arm, seed, 100 * float(difference), mean, low, high)
            for seed, difference in zip(seeds, mine - theirs, strict=True)
        ]
    return pd.DataFrame(rows, columns=["arm", "seed", "difference", "mean", "low", "high"])


def _final_sentence(
    after: str,
    points: pd.DataFrame,
    arms: tuple[Arm, ...],
    baseline: Arm,
    intervals: Mapping[str, Interval],
) -> str:
    if len(intervals) > 1:
        base = float(points.loc[points["arm"] == baseline.name, "value"].mean())
        away = [
            f"{text.fine_points(interval.estimate)} for {arm.label} "
            f"({parts.certainty(interval, text.fine_points)})"
            for arm in arms
            if (interval := intervals.get(arm.name)) is not None
        ]
        return (
            f"{after} test accuracy is {text.percent(base)} for {baseline.label}; in points from "
            f"there: {text.listing(away)}"
        )
    for arm in arms:
        if arm.name in intervals:
            _, mine, theirs = pair_up(points, arm.name, baseline.name, "value")
            interval = intervals[arm.name]
            return (
                f"{after} test accuracy is {text.percent(float(mine.mean()))} for {arm.label}, "
                f"{text.percent(float(theirs.mean()))} for {baseline.label}: "
                f"{text.fine_points(interval.estimate)} points "
                f"({parts.certainty(interval, text.fine_points)})"
            )
    means = [
        f"{text.percent(float(values.mean()))} for {arm.label} ({text.count(len(values), 'seed')})"
        for arm in arms
        if len(values := points.loc[points["arm"] == arm.name, "value"])
    ]
    return f"{after} test accuracy is {text.listing(means)}"


def _final_table(
    points: pd.DataFrame, arms: tuple[Arm, ...], baseline: Arm, intervals: Mapping[str, Interval]
) -> Table:
    rows = []
    for arm in arms:
        values, interval = points.loc[points["arm"] == arm.name, "value"], intervals.get(arm.name)
        rows.append(
            (
                arm.label,
                str(len(values)),
                text.percent(float(values.mean()), 2),
                text.percent(float(values.min()), 2),
                text.percent(float(values.max()), 2),
                text.MISSING if interval is None else text.fine_points(interval.estimate),
                text.MISSING
                if interval is None
                else text.interval_span(interval, text.fine_points),
            )
        )
    return Table(
        "Final test accuracy with population statistics, and the mean paired difference to "
        f"{baseline.label} in percentage points with its 95% t interval",
        ("Arm", "Seeds", "Mean", "Lowest", "Highest", "Difference", "95% CI"),
        tuple(rows),
    )


def _by_seed(points: pd.DataFrame, arms: tuple[Arm, ...]) -> Table:
    labels = parts.labels_of(arms)
    rows = [
        (
            str(seed),
            {labels[row["arm"]]: text.percent(row["value"], 2) for row in at.to_dict("records")},
        )
        for seed, at in grouped(points, "seed")
    ]
    return parts.wide_table("Final test accuracy, by seed", ("Seed", *labels.values()), rows)


def evaluation_statistics(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show test accuracy of the same weights with running and with population statistics.

    Options: ``arms``, their names (all if not given).
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    notes = parts.gaps(evidence, arms, "the epochs they finished are shown.")
    points = _both_accuracies(evidence, arms)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes, "no epoch of its runs is finished")
    shown = tuple(arm for arm in arms if (points["arm"] == arm.name).any())
    sentence = _statistics_sentence(points)
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.evaluation_statistics(points, parts.labels_of(shown), source)
    chart = parts.draw(
        evidence, anchor, figure, sentence, exhibit.caption, _by_epoch(points, shown), points
    )
    table = _statistics_table(points, shown)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _both_accuracies(evidence: Evidence, arms: tuple[Arm, ...]) -> pd.DataFrame:
    curves = pd.concat([evidence.curve(arm.name) for arm in arms], ignore_index=True)
    ends = curves[curves[RUNNING].notna() & curves[POPULATION].notna()]
    renamed = ends.rename(columns={RUNNING: "running", POPULATION: "population"})
    return renamed[["arm", "seed", "epoch", "running", "population"]].reset_index(drop=True)


def _gain(points: pd.DataFrame) -> Interval:
    """Return population minus running accuracy: each seed's mean over epochs (and arms), paired."""
    by_seed = points.groupby("seed", sort=True)[["running", "population"]].mean()
    return difference_interval(by_seed["population"].to_numpy(), by_seed["running"].to_numpy())


def _spread(points: pd.DataFrame, kind: str) -> float:
    """Return highest minus lowest seed at the end of an epoch, the mean over epochs (and arms)."""
    ends = points.groupby(["arm", "epoch"])[kind].agg(["min", "max", "count"])
    ends = ends[ends["count"] > 1]
    return float((ends["max"] - ends["min"]).mean()) if len(ends) else float("nan")


def _statistics_sentence(points: pd.DataFrame) -> str:
    gain = _gain(points)
    way = "lower" if gain.estimate >= 0 else "higher"
    size = Interval(gain.estimate, gain.low, gain.high, gain.n, gain.confidence)
    if way == "higher":
        size = Interval(-gain.estimate, -gain.high, -gain.low, gain.n, gain.confidence)
    start = (
        f"With running statistics test accuracy is {_unsigned(size.estimate)} points {way} than "
        f"with population statistics ({parts.certainty(size, _unsigned)})"
    )
    spreads = [_spread(points, kind) for kind in ("running", "population")]
    if not np.isfinite(spreads).all():
        return start
    return (
        f"{start}, and seeds spread over {_unsigned(spreads[0])} points instead of "
        f"{_unsigned(spreads[1])}"
    )


def _unsigned(value: float) -> str:
    return text.points(value, sign=False)


def _statistics_table(points: pd.DataFrame, arms: tuple[Arm, ...]) -> Table:
    rows = []
    for arm in arms:
        mine = points[points["arm"] == arm.name]
        gain = _gain(mine)
        rows.append(
            (
                arm.label,
                text.percent(float(mine["running"].mean())),
                text.percent(float(mine["population"].mean())),
                text.points(gain.estimate),
                text.interval_span(gain, text.points),
                _unsigned(_spread(mine, "running")),
                _unsigned(_spread(mine, "population")),
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
                parts.spread(at.loc[at["arm"] == arm.name, kind], text.percent)
                for arm in arms
                for kind in ("running", "population")
            ),
        )
        for epoch, at in grouped(points, "epoch")
    ]
    heads = [f"{arm.label}, {kind}" for arm in arms for kind in ("running", "population")]
    caption = "Test accuracy at the end of each epoch: mean of the seeds (lowest to highest)"
    return Table(caption, ("Epoch", *heads), tuple(rows))
