"""The share of seeds that have not reached a target yet, by step: Kaplan-Meier curves."""

import numpy as np
import pandas as pd

from bnstudy.inference import Survival, survival
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import parts
from bnstudy.report.exhibits.steps import all_steps, targets_of
from bnstudy.report.model import Finding, Table

NEVER = "not by the last step"


def kaplan_meier(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show the share of runs still below each target of the experiment.

    Options: ``arms``, their names (all if not given).  All are watched up to the
    last step of the shortest; a run that diverged never reaches a target.
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    horizon, targets = evidence.horizon(arms), targets_of(evidence, exhibit)
    notes = parts.gaps(evidence, arms, "they count as not having reached what they had not.")
    steps = all_steps(evidence, arms, targets, horizon)
    if steps.empty:
        return parts.nothing(anchor, exhibit, notes)
    goals = [text.target(target) for target in targets]
    curves = {
        (goal, arm.name): found
        for goal in goals
        for arm in arms
        if (found := _curve(steps, goal, arm, horizon)) is not None
    }
    points = _points(curves, horizon)
    figure = drawing.survival_curves(
        points, parts.labels_of(arms), drawing.Scale("Runs still below", percent=True),
        parts.source_line(evidence.plan, parts.seeds_of(evidence, arms)),
    )  # fmt: skip
    sentence = _sentence(curves, arms, goals[0], horizon)
    table = _table(curves, arms, goals, horizon)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _curve(steps: pd.DataFrame, goal: str, arm: Arm, horizon: float) -> Survival | None:
    mine = steps[(steps["target"] == goal) & (steps["arm"] == arm.name)]
    reached = mine["steps"].where(~mine["censored"].astype(bool), np.nan)
    return survival(reached.to_numpy(dtype=float), horizon) if len(mine) else None


def _points(curves: dict[tuple[str, str], Survival], horizon: float) -> pd.DataFrame:
    """Return the corners of every curve, the last one at the horizon."""
    frames = []
    for (goal, arm), found in curves.items():
        columns = {name: getattr(found, name) for name in ("steps", "share", "low", "high")}
        frame = pd.DataFrame(columns)
        end = frame.tail(1).assign(steps=horizon)
        frame = pd.concat([frame, end], ignore_index=True).drop_duplicates(ignore_index=True)
        frame.insert(0, "arm", arm)
        frame.insert(0, "target", goal)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _half(found: Survival) -> str:
    """Write by which step half of the runs are there."""
    there = found.steps[found.share <= 0.5]
    return f"by step {text.steps(float(there[0]))}" if len(there) else NEVER


def _sentence(
    curves: dict[tuple[str, str], Survival], arms: tuple[Arm, ...], goal: str, horizon: float
) -> str:
    when: dict[str, list[str]] = {}
    for arm in arms:
        if (goal, arm.name) in curves:
            when.setdefault(_half(curves[goal, arm.name]), []).append(arm.label)
    never = when.pop(NEVER, [])
    said = [f"{step} for {text.listing(labels)}" for step, labels in when.items()]
    if not said:
        return f"Fewer than half of the seeds reach {goal} by step {text.steps(horizon)}"
    sentence = f"Half of the seeds have reached {goal} {text.listing(said)}"
    if not never:
        return sentence
    return f"{sentence}, but {NEVER} ({text.steps(horizon)}) for {text.listing(never)}"


def _table(
    curves: dict[tuple[str, str], Survival],
    arms: tuple[Arm, ...],
    goals: list[str],
    horizon: float,
) -> Table:
    rows = []
    for goal in goals:
        for arm in arms:
            found = curves.get((goal, arm.name))
            if found is None:
                rows.append((goal, arm.label, *[text.MISSING] * 3))
                continue
            left, low, high = (float(each[-1]) for each in (found.share, found.low, found.high))
            ends = text.span(text.percent(low, 0), text.percent(high, 0))
            rows.append((goal, arm.label, _half(found), text.percent(left, 0), ends))
    return Table(
        f"Kaplan-Meier: when half of the runs have reached a target, and the share that has not "
        f"by step {text.steps(horizon)}, with its 95% interval (log-log)",
        ("Target", "Arm", "Half of the runs", "Still below", "95% CI"),
        tuple(rows),
    )
