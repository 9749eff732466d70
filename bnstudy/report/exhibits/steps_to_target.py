"""Steps to each target accuracy, paired by seed."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import Interval, ratio_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import RC_PARAMS, Scale, new_figure
from bnstudy.report.drawing.marks import format_axes, log_ticks, paired_dots
from bnstudy.report.evidence import Evidence, pair_up
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.model import Table

SCALE = Scale("Optimizer steps", log=True)


@exhibit(
    "steps-to-target",
    diverged="those that had not reached a target count as censored at the last step.",
)
def steps_to_target(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show when each seed first reached each target of the experiment.

    Options: ``arms``, their names (all if not given); ``baseline``, the arm
    that the others are compared to (the first if not given).
    """
    (baseline,) = evidence.arms([options.get("baseline", arms[0].name)])
    horizon, targets = evidence.horizon(arms), evidence.targets()
    points = steps_to_targets(evidence, arms, targets, horizon)
    if points.empty:
        return Nothing()
    rows, sentences = [], []
    for target in targets:
        at = points[points["target"] == text.target(target)]
        for arm in arms:
            ratio = None if arm == baseline else _ratio(at, arm, baseline)
            rows.append(_row(evidence, at, arm, target, horizon, ratio))
            if arm != baseline:
                sentences.append(_sentence(at, arm, baseline, target, horizon, ratio))
    return Content(
        sentence=sentences[0] if sentences else f"{baseline.label} has no other arm beside it",
        values=points,
        draw=lambda source: draw_paired_steps(points, labels_of(arms), SCALE, source),
        tables=(_table(tuple(rows), baseline, horizon),),
        data=_by_seed(points, arms, horizon),
        notes=_censoring_note(points, baseline, horizon),
    )


def steps_to_targets(
    evidence: Evidence, arms: tuple[Arm, ...], targets: tuple[float, ...], horizon: float
) -> pd.DataFrame:
    """Return when each seed reached each target, up to the step ``horizon``.

    Returns
    -------
    pandas.DataFrame
        Columns ``target`` (its text), ``arm``, ``seed``, ``steps``, ``censored``, as
        :meth:`~bnstudy.report.evidence.Evidence.steps_to` has them.
    """
    columns = ["target", "arm", "seed", "steps", "censored"]
    frames = [
        found.rename(columns={"value": "steps"}).assign(target=text.target(target))
        for target in targets
        if len(found := evidence.steps_to(target, arms, horizon))
    ]
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames, ignore_index=True)[columns]


def known_steps(points: pd.DataFrame) -> pd.Series:
    """Return the steps of some runs, infinite where they are censored."""
    return points["steps"].where(~points["censored"], np.inf)


def bounded_steps(steps: float, horizon: float) -> str:
    """Write a number of steps; of an infinite one only the bound is known."""
    return f"over {text.steps(horizon)}" if np.isposinf(steps) else text.steps(steps)


def reached_of(points: pd.DataFrame) -> str:
    """Write how many of some runs reached a target: 3 of 4."""
    return f"{int((~points['censored']).sum())} of {len(points)}"


def _ratio(at: pd.DataFrame, arm: Arm, baseline: Arm) -> Interval | None:
    """Return how many times fewer steps the arm needs than the baseline; None without a pair."""
    _, mine, theirs = pair_up(at, arm.name, baseline.name, "steps")
    return ratio_interval(theirs, mine) if len(mine) else None


def _row(
    evidence: Evidence,
    at: pd.DataFrame,
    arm: Arm,
    target: float,
    horizon: float,
    ratio: Interval | None,
) -> tuple[str, ...]:
    mine = at[at["arm"] == arm.name]
    if mine.empty:
        return (text.target(target), arm.label, "no run", *[text.MISSING] * 5)
    return (
        text.target(target),
        arm.label,
        reached_of(mine),
        str(len(evidence.finished(arm.name, "diverged"))),
        text.steps(float(mine["steps"].mean())),
        # the median is only bounded where half of the seeds or more are censored
        bounded_steps(float(np.median(known_steps(mine))), horizon),
        text.MISSING if ratio is None else text.factor(ratio.estimate),
        text.MISSING if ratio is None else text.interval_span(ratio, text.factor),
    )


def _table(rows: tuple[tuple[str, ...], ...], baseline: Arm, horizon: float) -> Table:
    return Table(
        f"Optimizer steps to each target; steps are counted up to {text.steps(horizon)}. "
        f"The factor is the geometric mean of the paired ratios, {baseline.label} divided by the "
        "arm, with its 95% t interval",
        (
            "Target",
            "Arm",
            "Reached",
            "Diverged",
            "Mean steps",
            "Median steps",
            "Times fewer steps",
            "95% CI",
        ),
        rows,
    )


def _sentence(
    at: pd.DataFrame,
    arm: Arm,
    baseline: Arm,
    target: float,
    horizon: float,
    ratio: Interval | None,
) -> str:
    """Compare an arm to the baseline, as far as both reach the target."""
    goal = text.target(target)
    if ratio is None:
        return (
            f"No seed has both {arm.label} and {baseline.label}, so their steps to {goal} "
            "cannot be compared"
        )
    reached = {
        each.name: int((~at.loc[at["arm"] == each.name, "censored"]).sum())
        for each in (arm, baseline)
    }
    if all(reached.values()):
        return text.opened(_comparison(at, arm, baseline, goal, ratio))
    within = f"within {text.steps(horizon)} steps"
    if not any(reached.values()):
        return (
            f"Neither {arm.label} nor {baseline.label} reaches {goal} {within} "
            f"({text.count(ratio.n, 'seed')})"
        )
    there, not_there = (arm, baseline) if reached[arm.name] else (baseline, arm)
    return text.opened(
        f"{there.label} reaches {goal} with {reached[there.name]} of {ratio.n} seeds {within}, "
        f"{not_there.label} with 0 of {ratio.n}"
    )


def _comparison(at: pd.DataFrame, arm: Arm, baseline: Arm, goal: str, ratio: Interval) -> str:
    # the steps of a run that was cut are a bound, and so is then the ratio, if only the slower
    # of the arms has such runs
    faster, slower = (arm, baseline) if ratio.estimate >= 1 else (baseline, arm)
    cut = {
        each.name: bool(at.loc[at["arm"] == each.name, "censored"].any())
        for each in (arm, baseline)
    }
    least = "at least " if cut[slower.name] and not cut[faster.name] else ""
    if ratio.estimate >= 1:
        return (
            f"{arm.label} reaches {goal} in {least}{text.factor(ratio.estimate)} times fewer steps "
            f"than {baseline.label} ({text.certainty(ratio, text.factor)})"
        )
    more = Interval(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low, ratio.n, ratio.confidence)
    return (
        f"{arm.label} needs {least}{text.factor(more.estimate)} times the steps of "
        f"{baseline.label} to reach {goal} ({text.certainty(more, text.factor)})"
    )


def _censoring_note(points: pd.DataFrame, baseline: Arm, horizon: float) -> tuple[str, ...]:
    """Say what censoring does to the factors, if there is any."""
    if not points["censored"].any():
        return ()
    theirs = points[points["arm"] == baseline.name]
    bound = (
        f" Where {baseline.label} is cut and the other arm is not, the factor is a lower bound."
        if theirs["censored"].any()
        else ""
    )
    return (
        f"A run that has not reached a target by step {text.steps(horizon)} is kept and counts "
        f"with {text.steps(horizon)} steps.{bound}",
    )


def _by_seed(points: pd.DataFrame, arms: tuple[Arm, ...], horizon: float) -> Table:
    heads = {
        (goal, arm.name): f"{goal}, {arm.label}"
        for goal in dict.fromkeys(points["target"])
        for arm in arms
    }
    wide = points.assign(known=known_steps(points)).pivot(
        index="seed", columns=["target", "arm"], values="known"
    )
    rows = tuple(
        (str(seed), *(bounded_steps(row.get(where, np.nan), horizon) for where in heads))
        for seed, row in wide.to_dict("index").items()
    )
    return Table("Steps to each target, by seed", ("Seed", *heads.values()), rows)


@mpl.rc_context(RC_PARAMS)
def draw_paired_steps(
    points: pd.DataFrame, labels: Mapping[str, str], scale: Scale, source: str
) -> Figure:
    """Draw steps to each target, one panel per target, a line joining the arms of each seed.

    Parameters
    ----------
    points
        Columns ``target`` (its text), ``arm``, ``seed``, ``steps``, ``censored``.
    labels
        Text of each arm, in the order of their colours.
    scale
        Of the steps.
    source
        Line at the foot.
    """
    targets = list(dict.fromkeys(points["target"]))
    if len(labels) > 2:  # three names need the whole width
        figure, panels = new_figure(source, height=3.1 * len(targets) + 0.5, rows=len(targets))
    else:
        figure, panels = new_figure(source, height=3.9, columns=len(targets), share_y=True)
    for axes, target in zip(panels, targets, strict=False):
        rows = points[points["target"] == target]
        paired_dots(axes, rows, labels, "steps")
        axes.set_title(target)
        labelled = axes is panels[0] or len(labels) > 2
        format_axes(axes, scale if labelled else Scale("", log=scale.log), "")
    log_ticks(panels, points["steps"])
    return figure
