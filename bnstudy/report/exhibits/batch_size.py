"""Test accuracy, and steps to a target, against the batch size."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bnstudy.inference import (
    Interval,
    difference_interval,
    knees,
    ratio_interval,
)
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import Guide, Scale, levels
from bnstudy.report.evidence import Evidence, grouped, seed_means
from bnstudy.report.exhibits.final_accuracy import POPULATION
from bnstudy.report.exhibits.frame import Content, Nothing, Options, as_guessing, exhibit
from bnstudy.report.model import Table

GROUP = ["panel", "arm", "level"]
COLUMNS = [*GROUP, "seed", "value", "censored"]
X_LABEL = "Images in a batch"
FEWEST = 4  # levels that a knee needs


def norm_families(evidence: Evidence, options: Options) -> dict[str, tuple[Arm, ...]]:
    """Return the arms of each kind of normalization, by its text."""
    return {
        label: tuple(arm for arm in evidence.arms() if arm.config.norm == norm)
        for norm, label in options["norms"].items()
    }


def family_arms(evidence: Evidence, options: Options) -> tuple[Arm, ...]:
    """Return the arms of all kinds of normalization."""
    return tuple(arm for family in norm_families(evidence, options).values() for arm in family)


@exhibit("accuracy-by-batch", diverged=as_guessing, arms=family_arms)
def accuracy_by_batch(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show test accuracy at the end against the batch size, one line per kind of normalization.

    Options: ``norms``, the text of each normalization word; the arms with it are
    one line.
    """
    families = norm_families(evidence, options)
    readings = {arm.name: evidence.latest(POPULATION, [arm]) for arm in arms}
    points = _by_level(readings, families)
    if points.empty:
        return Nothing()
    means = seed_means(points, GROUP)
    scale = Scale("Test accuracy", percent=True)
    return Content(
        sentence=_accuracy_sentence(points, families),
        values=points,
        draw=lambda source: _draw(points, means, families, scale, source),
        tables=(_table(means, families, "Test accuracy", text.percent),),
    )


@exhibit("steps-by-batch", diverged="they count as censored at their last step.", arms=family_arms)
def steps_by_batch(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show steps to the primary target against the batch size, with the knee of every line.

    Options: ``norms``, as in :func:`accuracy_by_batch`.  Every arm is watched up
    to its own last step; the guide is a halving of steps with every doubling.
    """
    families, target = norm_families(evidence, options), evidence.targets()[0]
    readings = {arm.name: evidence.steps_to(target, [arm], evidence.horizon([arm])) for arm in arms}
    points = _by_level(readings, families)
    if points.empty:
        return Nothing()
    means, found = seed_means(points, GROUP, log=True), _knees(points, families)
    scale = Scale(f"Steps to {text.target(target)}", log=True)
    what = f"Steps to {text.target(target)}, geometric mean"
    return Content(
        sentence=_knee_sentence(found) if found else _steps_sentence(points, families, target),
        values=points,
        draw=lambda source: _draw(
            points, means, families, scale, source, guide=_halving(means), knees=found
        ),
        tables=(_table(means, families, what, text.steps),),
    )


def _by_level(
    readings: Mapping[str, pd.DataFrame], families: Mapping[str, tuple[Arm, ...]]
) -> pd.DataFrame:
    """Return the readings of each arm as those of its family at its batch size."""
    frames = [
        readings[arm.name].assign(arm=label, level=float(arm.config.batch_size), panel="")
        for label, family in families.items()
        for arm in family
        if len(readings[arm.name])
    ]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    points = pd.concat(frames, ignore_index=True)[COLUMNS]
    return points.sort_values(["panel", "arm", "seed", "level"], kind="stable", ignore_index=True)


def _wide(points: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the values of a line, one row per seed that has every level."""
    mine = points[points["arm"] == label]
    return mine.pivot(index="seed", columns="level", values="value").dropna()


def _accuracy_sentence(points: pd.DataFrame, families: Mapping[str, tuple[Arm, ...]]) -> str:
    """Compare the smallest batch to the largest, by seed."""
    said = []
    for label in families:
        wide = _wide(points, label)
        if len(wide) and wide.shape[1] > 1:
            small, large = wide.columns[0], wide.columns[-1]
            found = difference_interval(wide[small].to_numpy(), wide[large].to_numpy())
            said.append(
                f"{label} {text.points(found.estimate)} points "
                f"({text.certainty(found, text.points)})"
            )
    if not said:
        return "Test accuracy at one batch size only"
    sizes = sorted(set(points["level"]))
    return (
        f"With batches of {text.whole(sizes[0])} instead of {text.whole(sizes[-1])} test accuracy "
        f"differs by: {text.listing(said)}"
    )


def _knees(points: pd.DataFrame, families: Mapping[str, tuple[Arm, ...]]) -> dict[str, Interval]:
    """Return where each line bends, in images: the geometric mean of the seeds' knees."""
    found = {}
    for label in families:
        wide = _wide(points, label)
        if len(wide) and wide.shape[1] >= FEWEST:
            sizes = np.log2(wide.columns.to_numpy(dtype=float))
            bends = 2.0 ** knees(np.log(wide.to_numpy(dtype=float)), sizes)
            found[label] = ratio_interval(bends, np.ones(len(bends)))
    return found


def _knee_sentence(found: Mapping[str, Interval]) -> str:
    said = [
        f"{text.whole(each.estimate)} images for {label} ({text.certainty(each, text.whole)})"
        for label, each in found.items()
    ]
    return f"Larger batches save steps in proportion up to about {text.listing(said)}"


def _steps_sentence(
    points: pd.DataFrame, families: Mapping[str, tuple[Arm, ...]], target: float
) -> str:
    """Compare the smallest batch to the largest, where there are too few sizes for a knee."""
    said = []
    for label in families:
        wide = _wide(points, label)
        if len(wide) and wide.shape[1] > 1:
            first, last = wide.columns[0], wide.columns[-1]
            mine = points[points["arm"] == label]
            if mine[mine["level"].isin((first, last))].groupby("level")["censored"].all().any():
                said.append(f"not known for {label}, which does not get there")
                continue
            found = ratio_interval(wide[first].to_numpy(), wide[last].to_numpy())
            said.append(
                f"{text.factor(found.estimate)} times fewer for {label} "
                f"({text.certainty(found, text.factor)})"
            )
    if not said:
        return f"Steps to {text.target(target)} at one batch size only"
    sizes = sorted(set(points["level"]))
    return (
        f"From batches of {text.whole(sizes[0])} to {text.whole(sizes[-1])} steps to "
        f"{text.target(target)} are {text.listing(said)}"
    )


def _halving(means: pd.DataFrame) -> Guide:
    """Return the line on which every doubling of the batch halves the steps."""
    first, last = float(means["level"].min()), float(means["level"].max())
    # below what was measured, so that it hides nothing
    start = 0.8 * float(means.loc[means["level"] == first, "mean"].min())
    end = max(start * first / last, 0.8 * float(means["mean"].min()))
    return Guide(
        "half the steps per doubling", (first, first * start / end), (start, end), above=False
    )


def _table(
    means: pd.DataFrame,
    families: Mapping[str, tuple[Arm, ...]],
    what: str,
    write: text.Writer,
) -> Table:
    rows = []
    for level, at in grouped(means, "level"):
        cells = {
            row["arm"]: f"{write(row['mean'])} ({text.span(write(row['low']), write(row['high']))})"
            for row in at.to_dict("records")
        }
        rows.append((text.whole(level), cells))
    caption = f"{what} with its 95% t interval, by images in a batch"
    return Table.of_cells(caption, (X_LABEL, *families), rows)


def _draw(
    points: pd.DataFrame,
    means: pd.DataFrame,
    families: Mapping[str, tuple[Arm, ...]],
    scale: Scale,
    source: str,
    *,
    guide: Guide | None = None,
    knees: Mapping[str, Interval] | None = None,
) -> Figure:
    found = knees or {}
    return levels(
        points,
        means,
        {label: label for label in families},
        {"": scale},
        X_LABEL,
        source,
        guides=None if guide is None else {"": guide},
        knees={label: (each.estimate, each.low, each.high) for label, each in found.items()},
    )
