"""Many arms side by side, the best first: steps to a target, or accuracy, of every seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bnstudy.errors import find
from bnstudy.inference import Interval, difference_interval, mean_interval, ratio_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import INK, LINE_STYLES, MUTED, RC_PARAMS, Scale, new_figure
from bnstudy.report.drawing.intervals import round_numbers
from bnstudy.report.drawing.marks import dots, seed_offsets
from bnstudy.report.drawing.styles import wrap_in_two
from bnstudy.report.evidence import Evidence, pair_up
from bnstudy.report.exhibits.final_accuracy import POPULATION
from bnstudy.report.exhibits.frame import Content, Nothing, Options, as_guessing, exhibit, labels_of
from bnstudy.report.exhibits.steps_to_target import reached_of
from bnstudy.report.model import Table

ROW = 0.33  # inches


@dataclass(frozen=True)
class Criterion:
    """A quantity by which arms are ranked: how it is averaged, compared and written.

    Attributes
    ----------
    points
        Columns ``arm``, ``seed``, ``value``, ``censored``.
    geometric
        Whether means are geometric, and few is good.
    compare
        Of an arm's values and the baseline's.
    scale, write
        Of a value.
    write_compared, unit
        Of a comparison.
    name, best, worst
        In the sentence.
    caption, heads
        Of the table; heads of the second column and of the comparison.
    """

    points: pd.DataFrame
    geometric: bool
    compare: Callable[[np.ndarray, np.ndarray], Interval]
    scale: Scale
    write: text.Writer
    write_compared: text.Writer
    unit: str
    name: str
    best: str
    worst: str
    caption: str
    heads: tuple[str, str]


def _steps(evidence: Evidence, arms: tuple[Arm, ...], baseline: Arm) -> Criterion:
    horizon, target = evidence.horizon(arms), evidence.targets()[0]
    goal = text.target(target)
    return Criterion(
        points=evidence.steps_to(target, arms, horizon),
        geometric=True,
        compare=ratio_interval,
        scale=Scale(f"Optimizer steps to {goal}", log=True),
        write=text.steps,
        write_compared=text.factor,
        unit="times",
        name=f"Steps to {goal} beside {baseline.label}",
        best="fewest",
        worst="most",
        caption=f"Steps to {goal}, counted up to {text.steps(horizon)}: geometric mean of the "
        f"seeds, and of the paired ratios to {baseline.label}, with 95% t intervals",
        heads=("Reached", f"Times the steps of {baseline.label}"),
    )


def _accuracy(evidence: Evidence, arms: tuple[Arm, ...], baseline: Arm) -> Criterion:
    horizon = evidence.horizon(arms)
    return Criterion(
        points=evidence.latest(POPULATION, arms, horizon),
        geometric=False,
        compare=difference_interval,
        scale=Scale("Test accuracy", percent=True),
        write=text.percent,
        write_compared=text.fine_points,
        unit="points",
        name=f"Test accuracy at step {text.steps(horizon)} beside {baseline.label}",
        best="highest",
        worst="lowest",
        caption=f"Test accuracy with population statistics at step {text.steps(horizon)}: mean of "
        f"the seeds, and of the paired differences to {baseline.label} in percentage points, "
        "with 95% t intervals",
        heads=("Seeds", f"Above {baseline.label}"),
    )


CRITERIA = {"steps": _steps, "accuracy": _accuracy}
CENSORED = "they count as not having reached what they had not."


def _diverged(evidence: Evidence, options: Options) -> str:
    criterion = options.get("of", "steps")
    find("criterion of a ranking", criterion, CRITERIA)
    return CENSORED if criterion == "steps" else as_guessing(evidence, options)


@exhibit("ranking", diverged=_diverged)
def ranking(evidence: Evidence, arms: tuple[Arm, ...], options: Options) -> Content | Nothing:
    """Show one number of each seed, one row per arm, the best arm first.

    Options: ``of``, ``steps`` to the experiment's first target (the default) or test
    ``accuracy`` with population statistics; ``arms``, their names (all if not given);
    ``baseline``, the arm that the others are compared to (the first if not given).
    All arms are watched up to the last step of the shortest.
    """
    (baseline,) = evidence.arms([options.get("baseline", arms[0].name)])
    criterion = CRITERIA[options.get("of", "steps")](evidence, arms, baseline)
    points, labels = criterion.points, labels_of(arms)
    if points.empty:
        return Nothing()
    means = _means(criterion)
    compared = _compared(criterion, baseline)
    notes: tuple[str, ...] = ()
    if points["censored"].any():
        cut = text.steps(evidence.horizon(arms))
        notes = (
            f"A run that has not reached the target by step {cut} counts with {cut} steps, so "
            "the mean of its arm is a lower bound.",
        )
    return Content(
        sentence=_sentence(criterion, means, compared, labels, baseline),
        values=points,
        draw=lambda source: draw_ranking(
            points, means, labels, criterion.scale, baseline.name, source
        ),
        tables=(_table(criterion, means, compared, labels),),
        notes=notes,
    )


def _means(criterion: Criterion) -> pd.DataFrame:
    """Return each arm's mean with its interval, the best first."""
    points, rows = criterion.points, []
    for arm in dict.fromkeys(points["arm"]):
        values = points.loc[points["arm"] == arm, "value"].to_numpy(dtype=float)
        found = mean_interval(np.log(values) if criterion.geometric else values)
        ends = np.array([found.estimate, found.low, found.high])
        rows.append((arm, *(np.exp(ends) if criterion.geometric else ends)))
    means = pd.DataFrame(rows, columns=["arm", "mean", "low", "high"])
    return means.sort_values(
        "mean", ascending=criterion.geometric, kind="stable", ignore_index=True
    )


def _compared(criterion: Criterion, baseline: Arm) -> dict[str, Interval]:
    """Return how each arm compares to the baseline, where there is a pair of seeds."""
    found = {}
    for arm in dict.fromkeys(criterion.points["arm"]):
        _, mine, theirs = pair_up(criterion.points, arm, baseline.name)
        if arm != baseline.name and len(mine):
            found[arm] = criterion.compare(mine, theirs)
    return found


def _sentence(
    criterion: Criterion,
    means: pd.DataFrame,
    compared: Mapping[str, Interval],
    labels: Mapping[str, str],
    baseline: Arm,
) -> str:
    """State how the best and the worst arm compare to the baseline."""
    ranked = [arm for arm in means["arm"] if arm in compared]
    if not ranked:
        return f"{baseline.label} has no other arm beside it"
    said = []
    ends = {ranked[0]: criterion.best}
    ends.setdefault(ranked[-1], criterion.worst)
    for arm, word in ends.items():
        cut = criterion.points.loc[criterion.points["arm"] == arm, "censored"].any()
        interval = compared[arm]
        value = f"{criterion.write_compared(interval.estimate)} {criterion.unit}"
        said.append(
            f"{word} {labels[arm]}, {'at least ' if cut else ''}{value} "
            f"({text.certainty(interval, criterion.write_compared)})"
        )
    return f"{criterion.name}: {'; '.join(said)}"


def _table(
    criterion: Criterion,
    means: pd.DataFrame,
    compared: Mapping[str, Interval],
    labels: Mapping[str, str],
) -> Table:
    write, write_compared, rows = criterion.write, criterion.write_compared, []
    for row in means.to_dict("records"):
        mine = criterion.points[criterion.points["arm"] == row["arm"]]
        comparison = (text.MISSING, text.MISSING)
        if (interval := compared.get(row["arm"])) is not None:
            span = text.interval_span(interval, write_compared)
            comparison = (write_compared(interval.estimate), span)
        rows.append(
            (
                labels[row["arm"]],
                reached_of(mine) if criterion.geometric else str(len(mine)),
                write(row["mean"]),
                text.span(write(row["low"]), write(row["high"])),
                *comparison,
            )
        )
    heads = ("Arm", criterion.heads[0], "Mean", "95% CI", criterion.heads[1], "95% CI")
    return Table(criterion.caption, heads, tuple(rows))


@mpl.rc_context(RC_PARAMS)
def draw_ranking(
    points: pd.DataFrame,
    means: pd.DataFrame,
    labels: Mapping[str, str],
    scale: Scale,
    baseline: str,
    source: str,
) -> Figure:
    """Draw the values of each arm in a row of its own, from the top in the order of ``means``.

    Parameters
    ----------
    points
        Columns ``arm``, ``seed``, ``value``, ``censored``.
    means
        Columns ``arm``, ``mean``, ``low``, ``high``; the last two infinite or NaN where there
        is no interval.
    labels
        Text of each arm.
    scale
        Of the values, across.
    baseline
        The arm whose mean is drawn through all rows.
    source
        Line at the foot.
    """
    figure, (axes,) = new_figure(source, height=ROW * len(means) + 0.95)
    _scale_across(axes, points["value"], scale)
    for number, row in enumerate(means.to_dict("records")):
        mine, own = points[points["arm"] == row["arm"]], row["arm"] == baseline
        heights = number + seed_offsets(mine["seed"], 0.26)
        dots(
            axes,
            mine["value"],
            heights,
            mine["censored"],
            LINE_STYLES[1] if own else LINE_STYLES[0],
        )
        if np.isfinite([row["low"], row["high"]]).all():
            axes.plot([row["low"], row["high"]], [number] * 2, color=INK, lw=2.2, zorder=4)
        axes.plot([row["mean"]], [number], ls="", marker="D", ms=5.5, color=INK, zorder=5)
        if own:
            axes.axvline(row["mean"], color=MUTED, lw=1.3, ls=(0, (6, 3)), zorder=1)
    axes.set_ylim(len(means) - 0.4, -0.6)
    axes.set_yticks(range(len(means)), [wrap_in_two(labels[arm]) for arm in means["arm"]])
    axes.tick_params(length=3)
    axes.set_xlabel(scale.label)
    return figure


def _scale_across(axes: Axes, values: pd.Series, scale: Scale) -> None:
    """Scale the horizontal axis to some values."""
    low, high = float(values.min()), float(values.max())
    if scale.log:
        axes.set_xscale("log")
        low, high = low / 1.08, high * 1.08
        axes.xaxis.set_major_locator(FixedLocator(round_numbers(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        margin = 0.04 * (high - low) or 0.01
        low, high = low - margin, high + margin
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.set_xlim(low, high)
    write = text.percent_tick if scale.percent else text.tick
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
