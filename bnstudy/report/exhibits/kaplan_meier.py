"""The share of seeds that have not reached a target yet, by step: Kaplan-Meier curves."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bnstudy.inference import Survival, survival
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import PAPER, RC_PARAMS, LineStyle, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import format_axes
from bnstudy.report.drawing.styles import shorten
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.exhibits.steps_to_target import steps_to_targets
from bnstudy.report.model import Table

SCALE = Scale("Runs still below", percent=True)
NEVER = "not by the last step"

Curves = Mapping[tuple[str, str], Survival]  # by target (its text) and arm


@exhibit("kaplan-meier", diverged="they count as not having reached what they had not.")
def kaplan_meier(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> Content | Nothing:
    """Show the share of runs still below each target of the experiment.

    Options: ``arms``, their names (all if not given).  All are watched up to the
    last step of the shortest; a run that diverged never reaches a target.
    """
    horizon, targets = evidence.horizon(arms), evidence.targets()
    steps = steps_to_targets(evidence, arms, targets, horizon)
    if steps.empty:
        return Nothing()
    goals = [text.target(target) for target in targets]
    curves = {
        (goal, arm.name): found
        for goal in goals
        for arm in arms
        if (found := _curve(steps, goal, arm, horizon)) is not None
    }
    points = _corners(curves, horizon)
    return Content(
        sentence=_sentence(curves, arms, goals[0], horizon),
        values=points,
        draw=lambda source: draw_survival_curves(points, labels_of(arms), SCALE, source),
        tables=(_table(curves, arms, goals, horizon),),
    )


def _curve(steps: pd.DataFrame, goal: str, arm: Arm, horizon: float) -> Survival | None:
    mine = steps[(steps["target"] == goal) & (steps["arm"] == arm.name)]
    reached = mine["steps"].where(~mine["censored"], np.nan)
    return survival(reached.to_numpy(dtype=float), horizon) if len(mine) else None


def _corners(curves: Curves, horizon: float) -> pd.DataFrame:
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


def _median(found: Survival) -> str:
    """Write by which step half of the runs have reached the target."""
    there = found.steps[found.share <= 0.5]
    return f"by step {text.steps(float(there[0]))}" if len(there) else NEVER


def _sentence(curves: Curves, arms: tuple[Arm, ...], goal: str, horizon: float) -> str:
    """State when half of the seeds of each arm have reached the first target."""
    when: dict[str, list[str]] = {}
    for arm in arms:
        if (goal, arm.name) in curves:
            when.setdefault(_median(curves[goal, arm.name]), []).append(arm.label)
    never = when.pop(NEVER, [])
    said = [f"{step} for {text.listing(labels)}" for step, labels in when.items()]
    if not said:
        return f"Fewer than half of the seeds reach {goal} by step {text.steps(horizon)}"
    sentence = f"Half of the seeds have reached {goal} {text.listing(said)}"
    if not never:
        return sentence
    return f"{sentence}, but {NEVER} ({text.steps(horizon)}) for {text.listing(never)}"


def _table(curves: Curves, arms: tuple[Arm, ...], goals: list[str], horizon: float) -> Table:
    rows = []
    for goal in goals:
        for arm in arms:
            found = curves.get((goal, arm.name))
            if found is None:
                rows.append((goal, arm.label, *[text.MISSING] * 3))
                continue
            left, low, high = (float(each[-1]) for each in (found.share, found.low, found.high))
            ends = text.span(text.percent(low, 0), text.percent(high, 0))
            rows.append((goal, arm.label, _median(found), text.percent(left, 0), ends))
    return Table(
        f"Kaplan-Meier: when half of the runs have reached a target, and the share that has not "
        f"by step {text.steps(horizon)}, with its 95% interval (log-log)",
        ("Target", "Arm", "Half of the runs", "Still below", "95% CI"),
        tuple(rows),
    )


@mpl.rc_context(RC_PARAMS)
def draw_survival_curves(
    points: pd.DataFrame, labels: Mapping[str, str], scale: Scale, source: str
) -> Figure:
    """Draw the share of runs that have not reached a target yet, one panel per target.

    Parameters
    ----------
    points
        Columns ``target`` (its text), ``arm``, ``steps``, ``share``, ``low``, ``high``: where
        the share changes, up to the last step watched.
    labels
        Text of each arm.
    scale
        Of the shares.
    source
        Line at the foot.
    """
    targets = list(dict.fromkeys(points["target"]))
    figure, panels = new_figure(source, height=2.5 * len(targets) + 0.5, rows=len(targets))
    for number, (axes, target) in enumerate(zip(panels, targets, strict=True)):
        at = points[points["target"] == target]
        # each name stands where its curve passes a height of its own
        heights, above = np.linspace(0.85, 0.3, len(labels)), 0
        for (arm, style), height in zip(line_styles(labels).items(), heights, strict=True):
            rows = at[at["arm"] == arm]
            if len(rows):
                above += _draw_curve(axes, rows, shorten(labels[arm]), style, height, above)
        axes.set_title(target)
        format_axes(axes, scale, "Optimizer steps" if number == len(targets) - 1 else "")
        axes.set_ylim(-0.04, 1.04)
        _end_after_last(axes, at)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text.tick(value)))
    return figure


def _draw_curve(
    axes: Axes, rows: pd.DataFrame, label: str, style: LineStyle, height: float, above: int
) -> bool:
    """Draw one curve and its name; return whether it stays above its height.

    The names of such curves go below each other at the right end; ``above`` are there already.
    """
    axes.fill_between(
        rows["steps"], rows["low"], rows["high"], step="post", color=style.color,
        alpha=0.16, lw=0,
    )  # fmt: skip
    axes.step(
        rows["steps"], rows["share"], where="post", color=style.color, ls=style.linestyle, lw=2.2
    )
    there = rows[rows["share"] <= height]
    stays = there.empty
    beside = rows.iloc[-1] if stays else there.iloc[0]
    axes.annotate(
        label, (beside["steps"], max(height, beside["share"])),
        xytext=(-6, -9 - 15 * above) if stays else (6, 0),
        textcoords="offset points", color=style.color, fontweight="bold", va="center",
        ha="right" if stays else "left",
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
    )  # fmt: skip
    return stays


def _end_after_last(axes: Axes, rows: pd.DataFrame) -> None:
    """Cut the steps after the last run reached the target, where all did: nothing happens there."""
    if (rows.groupby("arm")["share"].min() == 0).all():
        last = rows.loc[rows["share"] > 0, "steps"].max()
        there = rows.loc[(rows["share"] == 0) & (rows["steps"] >= last), "steps"].min()
        axes.set_xlim(0.0, 1.15 * there)
