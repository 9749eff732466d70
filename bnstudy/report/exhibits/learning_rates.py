"""Steps to a target and validation accuracy against the learning rate."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import RC_PARAMS, Scale, line_styles, new_figure
from bnstudy.report.drawing.marks import dots, format_axes, label_ends, log_ticks, seed_offsets
from bnstudy.report.evidence import Evidence, grouped
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, labels_of
from bnstudy.report.exhibits.steps_to_target import bounded_steps, known_steps, reached_of
from bnstudy.report.model import Table

# Settings that arms of one family may differ in: besides the learning rate, how long they are
# trained and how often they are evaluated.
FREE = ("learning_rate", "epochs", "evaluations_per_epoch", "test_every")
CHOSEN = (
    "The best rate of each family is picked from these same runs, which flatters both: read "
    "it as a description, not as a test."
)


def rate_families(evidence: Evidence, options: Options) -> dict[str, tuple[Arm, ...]]:
    """Return, for each head, the arms that differ from it in their learning rate only."""
    families = {}
    for head in evidence.arms(options["heads"]):
        like = {name: getattr(head.config, name) for name in FREE}
        families[head.name] = tuple(
            arm for arm in evidence.arms() if arm.config.replace(**like) == head.config
        )
    return families


def family_arms(evidence: Evidence, options: Options) -> tuple[Arm, ...]:
    """Return the arms of all families."""
    return tuple(arm for family in rate_families(evidence, options).values() for arm in family)


def _diverged(evidence: Evidence, options: Options) -> str:
    chance = text.percent(evidence.plan.data.chance, 0)
    return f"they count as not reached, with the accuracy of guessing, {chance}."


@exhibit("learning-rates", diverged=_diverged, arms=family_arms)
def learning_rates(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show steps to the primary target, and accuracy, against the learning rate.

    Options: ``heads``, names of arms; the arms that differ from one of them in
    their learning rate only are one family.  All arms are watched up to the last
    step of the shortest.
    """
    labels = labels_of(evidence.arms(options["heads"]))
    families = rate_families(evidence, options)
    horizon, target = evidence.horizon(arms), evidence.targets()[0]
    points = _by_rate(evidence, families, target, horizon)
    if points.empty:
        return Nothing()
    best = [
        _best(points[points["arm"] == head], labels[head], horizon) for head in reversed(families)
    ]
    scales = {
        "steps": Scale(f"Steps to {text.target(target)}", log=True),
        "accuracy": Scale("Validation accuracy", percent=True),
    }
    return Content(
        sentence=f"{text.target(target)} at the best learning rate: {'; '.join(best)}",
        values=points,
        draw=lambda source: draw_learning_rates(points, labels, scales, source),
        tables=(_table(points, labels, target, horizon),),
        notes=(CHOSEN,),
    )


def _by_rate(
    evidence: Evidence, families: Mapping[str, tuple[Arm, ...]], target: float, horizon: float
) -> pd.DataFrame:
    columns = ["arm", "rate", "seed", "steps", "censored", "accuracy"]
    frames = []
    for head, family in families.items():
        for arm in family:
            steps = evidence.steps_to(target, [arm], horizon).rename(columns={"value": "steps"})
            last = evidence.latest("validation_accuracy", [arm], horizon)
            merged = steps.merge(last[["seed", "value"]], on="seed", how="left")
            if len(merged):
                frames.append(merged.assign(arm=head, rate=arm.config.learning_rate))
    if not frames:
        return pd.DataFrame(columns=columns)
    points = pd.concat(frames, ignore_index=True).rename(columns={"value": "accuracy"})[columns]
    return points.sort_values(["arm", "rate", "seed"], kind="stable", ignore_index=True)


def _best(points: pd.DataFrame, label: str, horizon: float) -> str:
    """Say at which rate the median of a family is lowest, and what it is there."""
    if points.empty:
        return f"{label} has no run"
    medians = {rate: float(np.median(known_steps(at))) for rate, at in grouped(points, "rate")}
    rate = min(medians, key=lambda each: medians[each])
    if not np.isfinite(medians[rate]):
        return f"{label} not within {text.steps(horizon)} steps at any rate"
    return f"{label} in {text.steps(medians[rate])} steps (median, rate {text.rate(rate)})"


def _table(points: pd.DataFrame, labels: Mapping[str, str], target: float, horizon: float) -> Table:
    rows = [
        (
            text.rate(rate),
            label,
            reached_of(at),
            bounded_steps(float(np.median(known_steps(at))), horizon),
            text.mean_and_range(at["accuracy"].dropna(), text.percent),
        )
        for rate in sorted(set(points["rate"]))
        for head, label in labels.items()
        if len(at := points[(points["arm"] == head) & (points["rate"] == rate)])
    ]
    return Table(
        f"Reaching {text.target(target)} within {text.steps(horizon)} steps, and validation "
        "accuracy at the last of them: mean of the seeds (lowest to highest)",
        ("Learning rate", "Arm", "Reached", "Median steps", "Validation accuracy"),
        tuple(rows),
    )


@mpl.rc_context(RC_PARAMS)
def draw_learning_rates(
    points: pd.DataFrame, labels: Mapping[str, str], scales: Mapping[str, Scale], source: str
) -> Figure:
    """Draw each quantity against the learning rate: a dot per seed, a line through the medians.

    Parameters
    ----------
    points
        Columns ``arm`` (the family), ``rate``, ``seed``, ``censored``, and one
        for each key of ``scales``.  ``censored`` concerns the first of these.
    labels
        Text of each family.
    scales
        Axis of each quantity, one panel each.
    source
        Line at the foot.
    """
    figure, panels = new_figure(source, height=2.6 * len(scales) + 0.5, rows=len(scales))
    families = line_styles(labels)
    rates = sorted(set(points["rate"]))
    for number, (axes, (column, scale)) in enumerate(zip(panels, scales.items(), strict=True)):
        ends = []
        for index, (family, style) in enumerate(families.items()):
            rows = points[points["arm"] == family]
            shift = 1.08 ** (2 * index - len(families) + 1)  # side by side, not on each other
            censored = rows["censored"] & (number == 0)
            x = rows["rate"] * shift * 1.03 ** seed_offsets(rows["seed"], 1.0)
            dots(axes, x, rows[column], censored, style)
            middle = rows.groupby("rate", sort=True)[column].median()
            if len(middle):
                axes.plot(
                    middle.index * shift, middle, color=style.color, ls=style.linestyle, lw=2.0
                )
                last = float(middle.index[-1]) * shift
                ends.append((last, float(middle.iloc[-1]), labels[family], style.color))
        axes.set_xscale("log")
        format_axes(axes, scale, "Learning rate" if number == len(scales) - 1 else "")
        axes.xaxis.set_major_locator(FixedLocator(rates))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text.rate(value)))
        axes.xaxis.set_minor_locator(FixedLocator([]))
        if scale.log:
            log_ticks([axes], points[column])
        label_ends(axes, ends)
    return figure
