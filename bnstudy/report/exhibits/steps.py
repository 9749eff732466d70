"""Steps to a target accuracy, paired by seed, and how they depend on the learning rate."""

import numpy as np
import pandas as pd

from bnstudy.errors import ConfigError
from bnstudy.inference import Interval, ratio_interval
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import CHANCE, Evidence, grouped, pair_up
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

STEPS = drawing.Scale("Optimizer steps", log=True)


def steps_to_target(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show when each seed first reached each target of the experiment.

    Options: ``arms``, their names (all if not given); ``baseline``, the arm
    that the others are compared to (the first if not given).
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    (baseline,) = evidence.arms([exhibit.options.get("baseline", arms[0].name)])
    horizon, targets = evidence.horizon(arms), targets_of(evidence, exhibit)
    notes = parts.gaps(
        evidence, arms, "those that had not reached a target count as censored at the last step."
    )
    points = all_steps(evidence, arms, targets, horizon)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    rows, sentences = [], []
    for target in targets:
        at = points[points["target"] == text.target(target)]
        for arm in arms:
            ratio = None if arm == baseline else _ratio(at, arm, baseline)
            rows.append(_row(evidence, at, arm, target, horizon, ratio))
            if arm != baseline:
                sentences.append(_sentence(at, arm, baseline, target, horizon, ratio))
    sentence = sentences[0] if sentences else f"{baseline.label} has no other arm beside it"
    notes = (*_meaning(points, baseline, horizon), *notes)
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.paired_steps(points, parts.labels_of(arms), STEPS, source)
    data = _by_seed(points, arms, horizon)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, data, points)
    return Finding(
        anchor, sentence, exhibit.caption, (_table(tuple(rows), baseline, horizon),), chart, notes
    )


def targets_of(evidence: Evidence, exhibit: Exhibit) -> tuple[float, ...]:
    """Return the targets of an experiment.

    Raises
    ------
    ConfigError
        If it has none.
    """
    experiment = evidence.planned.experiment
    if not experiment.targets:
        raise ConfigError(
            f"an exhibit of kind {exhibit.kind!r} needs a target, and experiment "
            f"{experiment.name!r} has none: give it targets"
        )
    return experiment.targets


def all_steps(
    evidence: Evidence, arms: tuple[Arm, ...], targets: tuple[float, ...], horizon: float
) -> pd.DataFrame:
    """Return when each seed reached each target: :meth:`Evidence.steps_to`, with ``target``."""
    parts_of = [
        evidence.steps_to(target, arm, horizon).assign(target=text.target(target))
        for target in targets
        for arm in arms
        if evidence.finished(arm.name)
    ]
    columns = ["target", "arm", "seed", "steps", "censored"]
    if not parts_of:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts_of, ignore_index=True)[columns]


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
        return (text.target(target), arm.label, *["no run"] * 1, *[text.MISSING] * 5)
    return (
        text.target(target),
        arm.label,
        f"{int((~mine['censored']).sum())} of {len(mine)}",
        str(len(evidence.finished(arm.name, "diverged"))),
        text.steps(float(mine["steps"].mean())),
        _median(mine, horizon),
        text.MISSING if ratio is None else text.factor(ratio.estimate),
        text.MISSING if ratio is None else text.interval_span(ratio, text.factor),
    )


def _median(mine: pd.DataFrame, horizon: float) -> str:
    """Write the median steps; where half of the seeds or more are censored, only a bound."""
    middle = float(np.median(mine["steps"].where(~mine["censored"], np.inf)))
    return text.steps(middle) if np.isfinite(middle) else f"over {text.steps(horizon)}"


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
    goal = text.target(target)
    if ratio is None:
        return f"No seed has both {arm.label} and {baseline.label}, so their steps to {goal} "\
            "cannot be compared"  # fmt: skip
    reached = {
        each.name: int((~at.loc[at["arm"] == each.name, "censored"]).sum())
        for each in (arm, baseline)
    }
    within = f"within {text.steps(horizon)} steps"
    if not any(reached.values()):
        return (
            f"Neither {arm.label} nor {baseline.label} reaches {goal} {within} "
            f"({text.count(ratio.n, 'seed')})"
        )
    if not all(reached.values()):
        there, not_there = (arm, baseline) if reached[arm.name] else (baseline, arm)
        return text.opened(
            f"{there.label} reaches {goal} with {reached[there.name]} of {ratio.n} seeds {within}, "
            f"{not_there.label} with 0 of {ratio.n}"
        )
    # the steps of a run that was cut are a bound, and so is then the ratio, if only the slower
    # of the arms has such runs
    faster, slower = (arm, baseline) if ratio.estimate >= 1 else (baseline, arm)
    cut = {name: bool(at.loc[at["arm"] == name, "censored"].any()) for name in reached}
    least = "at least " if cut[slower.name] and not cut[faster.name] else ""
    if ratio.estimate >= 1:
        return text.opened(
            f"{arm.label} reaches {goal} in {least}{text.factor(ratio.estimate)} times fewer steps "
            f"than {baseline.label} ({parts.certainty(ratio, text.factor)})"
        )
    more = Interval(1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low, ratio.n, ratio.confidence)
    return text.opened(
        f"{arm.label} needs {least}{text.factor(more.estimate)} times the steps of "
        f"{baseline.label} to reach {goal} ({parts.certainty(more, text.factor)})"
    )


def _meaning(points: pd.DataFrame, baseline: Arm, horizon: float) -> tuple[str, ...]:
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
    targets = list(dict.fromkeys(points["target"]))
    columns = {(goal, arm.name): f"{goal}, {arm.label}" for goal in targets for arm in arms}
    rows = []
    for seed, at in grouped(points, "seed"):
        cells = {
            columns[row["target"], row["arm"]]: _cell(row["steps"], row["censored"], horizon)
            for row in at.to_dict("records")
        }
        rows.append((str(seed), cells))
    return parts.wide_table("Steps to each target, by seed", ("Seed", *columns.values()), rows)


def _cell(steps: float, censored: bool, horizon: float) -> str:
    return f"over {text.steps(horizon)}" if censored else text.steps(steps)


def learning_rates(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show steps to the primary target, and accuracy, against the learning rate.

    Options: ``heads``, names of arms; the arms that differ from one of them in
    their learning rate only are one family.  All arms are watched up to the last
    step of the shortest.
    """
    heads = evidence.arms(exhibit.options["heads"])
    families = {head.name: _family(evidence, head) for head in heads}
    arms = tuple(arm for family in families.values() for arm in family)
    labels = {head.name: head.label for head in heads}
    horizon, target = evidence.horizon(arms), targets_of(evidence, exhibit)[0]
    notes = parts.gaps(
        evidence,
        arms,
        f"they count as not reached, with the accuracy of guessing, {text.percent(CHANCE, 0)}.",
    )
    points = _by_rate(evidence, families, target, horizon)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    best = [
        _best(points[points["arm"] == norm], labels[norm], horizon) for norm in reversed(families)
    ]
    sentence = f"{text.target(target)} at the best learning rate: {'; '.join(best)}"
    scales = {
        "steps": drawing.Scale(f"Steps to {text.target(target)}", log=True),
        "accuracy": drawing.Scale("Validation accuracy", percent=True),
    }
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.learning_rates(points, labels, scales, source)
    table = _rates_table(points, labels, target, horizon)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    chosen = (
        "The best rate of each family is picked from these same runs, which flatters both: read "
        "it as a description, not as a test.",
    )
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, (*chosen, *notes))


def _family(evidence: Evidence, head: Arm) -> tuple[Arm, ...]:
    """Return the arms that differ from one in their learning rate only."""
    # how long they are trained and how often they are read may differ, too
    free = ("learning_rate", "epochs", "evaluations_per_epoch", "test_every")
    like = {name: getattr(head.config, name) for name in free}
    return tuple(arm for arm in evidence.arms() if arm.config.replace(**like) == head.config)


def _by_rate(
    evidence: Evidence, families: dict[str, tuple[Arm, ...]], target: float, horizon: float
) -> pd.DataFrame:
    frames = []
    for norm, family in families.items():
        for arm in family:
            if not evidence.finished(arm.name):
                continue
            steps = evidence.steps_to(target, arm, horizon)
            last = evidence.last_values("validation_accuracy", arm, horizon)
            merged = steps.merge(last[["seed", "value"]], on="seed", how="left")
            frames.append(merged.assign(arm=norm, rate=arm.config.learning_rate))
    columns = ["arm", "rate", "seed", "steps", "censored", "accuracy"]
    if not frames:
        return pd.DataFrame(columns=columns)
    points = pd.concat(frames, ignore_index=True).rename(columns={"value": "accuracy"})[columns]
    return points.sort_values(["arm", "rate", "seed"], kind="stable", ignore_index=True)


def _best(points: pd.DataFrame, label: str, horizon: float) -> str:
    """Say at which rate the median of a family is lowest, and what it is there."""
    if points.empty:
        return f"{label} has no run"
    medians = {
        rate: float(np.median(at["steps"].where(~at["censored"], np.inf)))
        for rate, at in grouped(points, "rate")
    }
    rate = min(medians, key=lambda each: medians[each])
    if not np.isfinite(medians[rate]):
        return f"{label} not within {text.steps(horizon)} steps at any rate"
    return f"{label} in {text.steps(medians[rate])} steps (median, rate {text.rate(rate)})"


def _rates_table(
    points: pd.DataFrame, labels: dict[str, str], target: float, horizon: float
) -> Table:
    rows = [
        (
            text.rate(rate),
            label,
            f"{int((~at['censored']).sum())} of {len(at)}",
            _median(at, horizon),
            parts.spread(at["accuracy"].dropna(), text.percent),
        )
        for rate in sorted(set(points["rate"]))
        for norm, label in labels.items()
        if len(at := points[(points["arm"] == norm) & (points["rate"] == rate)])
    ]
    return Table(
        f"Reaching {text.target(target)} within {text.steps(horizon)} steps, and validation "
        "accuracy at the last of them: mean of the seeds (lowest to highest)",
        ("Learning rate", "Arm", "Reached", "Median steps", "Validation accuracy"),
        tuple(rows),
    )
