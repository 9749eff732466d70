"""Many arms side by side, the best first: steps to a target, or accuracy, of every seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bnstudy.errors import ConfigError
from bnstudy.inference import Interval, difference_interval, mean_interval, ratio_interval
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import CHANCE, Evidence, pair_up
from bnstudy.report.exhibits import parts
from bnstudy.report.exhibits.accuracy import POPULATION
from bnstudy.report.exhibits.steps import targets_of
from bnstudy.report.model import Finding, Table

COLUMNS = ["arm", "seed", "value", "censored"]


@dataclass(frozen=True)
class Way:
    """How one kind of number is averaged, compared and written.

    Attributes
    ----------
    logs
        Whether means are geometric, and few is good.
    compare
        Of an arm's values and the baseline's.
    scale, write
        Of a value.
    write_compared, unit
        Of a comparison.
    what, best, worst
        Words of the sentence.
    caption, heads
        Of the table; heads of the second column and of the comparison.
    diverged
        What becomes of diverged runs.
    """

    logs: bool
    compare: Callable[[np.ndarray, np.ndarray], Interval]
    scale: drawing.Scale
    write: text.Writer
    write_compared: text.Writer
    unit: str
    what: str
    best: str
    worst: str
    caption: str
    heads: tuple[str, str]
    diverged: str


def ranking(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show one number of each seed, a row an arm, the best arm first.

    Options: ``of``, ``steps`` to the experiment's first target (the default) or test
    ``accuracy`` with population statistics; ``arms``, their names (all if not given);
    ``baseline``, the arm that the others are compared to (the first if not given).
    All arms are watched up to the last step of the shortest.

    Raises
    ------
    ConfigError
        If ``of`` is something else.
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    (baseline,) = evidence.arms([exhibit.options.get("baseline", arms[0].name)])
    horizon = evidence.horizon(arms)
    of = exhibit.options.get("of", "steps")
    if of == "steps":
        target = targets_of(evidence, exhibit)[0]
        way = _steps(target, horizon, baseline)
        frames = [evidence.steps_to(target, arm, horizon) for arm in arms]
        frames = [frame.rename(columns={"steps": "value"}) for frame in frames]
    elif of == "accuracy":
        way = _accuracy(horizon, baseline)
        frames = [
            evidence.last_values(POPULATION, arm, horizon).assign(censored=False) for arm in arms
        ]
    else:
        raise ConfigError(f"a ranking is of steps or accuracy, got {of!r}")
    notes = parts.gaps(evidence, arms, way.diverged)
    there = [frame[COLUMNS] for frame in frames if len(frame)]
    if not there:
        return parts.nothing(anchor, exhibit, notes)
    points = pd.concat(there, ignore_index=True)
    means = _means(points, way)
    compared = _compared(points, baseline, way)
    labels = parts.labels_of(arms)
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.ranking(points, means, labels, way.scale, baseline.name, source)
    sentence = _sentence(points, means, compared, labels, baseline, way)
    table = _table(points, means, compared, labels, way)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    if points["censored"].any():
        cut = text.steps(horizon)
        notes = (
            f"A run that has not reached the target by step {cut} counts with {cut} steps, so "
            "the mean of its arm is a lower bound.",
            *notes,
        )
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _steps(target: float, horizon: float, baseline: Arm) -> Way:
    goal = text.target(target)
    return Way(
        logs=True,
        compare=ratio_interval,
        scale=drawing.Scale(f"Optimizer steps to {goal}", log=True),
        write=lambda value: text.decimal(value, 0),
        write_compared=text.factor,
        unit="times",
        what=f"Steps to {goal} beside {baseline.label}",
        best="fewest",
        worst="most",
        caption=f"Steps to {goal}, counted up to {text.steps(horizon)}: geometric mean of the "
        f"seeds, and of the paired ratios to {baseline.label}, with 95% t intervals",
        heads=("Reached", f"Times the steps of {baseline.label}"),
        diverged="they count as not having reached what they had not.",
    )


def _accuracy(horizon: float, baseline: Arm) -> Way:
    return Way(
        logs=False,
        compare=difference_interval,
        scale=drawing.Scale("Test accuracy", percent=True),
        write=text.percent,
        write_compared=text.fine_points,
        unit="points",
        what=f"Test accuracy at step {text.steps(horizon)} beside {baseline.label}",
        best="highest",
        worst="lowest",
        caption=f"Test accuracy with population statistics at step {text.steps(horizon)}: mean of "
        f"the seeds, and of the paired differences to {baseline.label} in percentage points, "
        "with 95% t intervals",
        heads=("Seeds", f"Above {baseline.label}"),
        diverged=f"they count with the accuracy of guessing, {text.percent(CHANCE, 0)}.",
    )


def _means(points: pd.DataFrame, way: Way) -> pd.DataFrame:
    """Return each arm's mean with its interval, the best first."""
    rows = []
    for arm in dict.fromkeys(points["arm"]):
        values = points.loc[points["arm"] == arm, "value"].to_numpy(dtype=float)
        found = mean_interval(np.log(values) if way.logs else values)
        ends = np.array([found.estimate, found.low, found.high])
        rows.append((arm, *(np.exp(ends) if way.logs else ends)))
    means = pd.DataFrame(rows, columns=["arm", "mean", "low", "high"])
    return means.sort_values("mean", ascending=way.logs, kind="stable", ignore_index=True)


def _compared(points: pd.DataFrame, baseline: Arm, way: Way) -> dict[str, Interval]:
    """Return how each arm compares to the baseline, where there is a pair of seeds."""
    found = {}
    for arm in dict.fromkeys(points["arm"]):
        _, mine, theirs = pair_up(points, arm, baseline.name, "value")
        if arm != baseline.name and len(mine):
            found[arm] = way.compare(mine, theirs)
    return found


def _sentence(
    points: pd.DataFrame,
    means: pd.DataFrame,
    compared: dict[str, Interval],
    labels: dict[str, str],
    baseline: Arm,
    way: Way,
) -> str:
    ranked = [arm for arm in means["arm"] if arm in compared]
    if not ranked:
        return f"{baseline.label} has no other arm beside it"
    said = []
    ends = {ranked[0]: way.best}
    ends.setdefault(ranked[-1], way.worst)
    for arm, word in ends.items():
        cut = points.loc[points["arm"] == arm, "censored"].any()
        interval = compared[arm]
        value = f"{way.write_compared(interval.estimate)} {way.unit}"
        said.append(
            f"{word} {labels[arm]}, {'at least ' if cut else ''}{value} "
            f"({parts.certainty(interval, way.write_compared)})"
        )
    return f"{way.what}: {'; '.join(said)}"


def _table(
    points: pd.DataFrame,
    means: pd.DataFrame,
    compared: dict[str, Interval],
    labels: dict[str, str],
    way: Way,
) -> Table:
    rows = []
    for row in means.to_dict("records"):
        mine, interval = points[points["arm"] == row["arm"]], compared.get(row["arm"])
        reached = f"{int((~mine['censored'].astype(bool)).sum())} of {len(mine)}"
        rows.append(
            (
                labels[row["arm"]],
                reached if way.logs else str(len(mine)),
                way.write(row["mean"]),
                text.span(way.write(row["low"]), way.write(row["high"])),
                text.MISSING if interval is None else way.write_compared(interval.estimate),
                text.MISSING
                if interval is None
                else text.interval_span(interval, way.write_compared),
            )
        )
    heads = ("Arm", way.heads[0], "Mean", "95% CI", way.heads[1], "95% CI")
    return Table(way.caption, heads, tuple(rows))
