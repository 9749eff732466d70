"""What depends on the batch size: accuracy, steps to a target, the noise of batch statistics."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.inference import (
    Interval,
    difference_interval,
    knees,
    mean_interval,
    ratio_interval,
)
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import CHANCE, Evidence, grouped
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

KEYS = ["panel", "arm", "level", "seed", "value", "censored"]
FEWEST = 4  # levels that a knee needs


def accuracy_by_batch(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show test accuracy at the end against the batch size, a line a kind of normalization.

    Options: ``norms``, the text of each normalization word; the arms with it are
    one line.
    """
    families = _families(evidence, exhibit)
    arms = [arm for family in families.values() for arm in family]
    notes = parts.gaps(
        evidence, arms, f"they count with the accuracy of guessing, {text.percent(CHANCE, 0)}."
    )
    frames = [
        evidence.last_values("test_accuracy_population", arm).assign(
            arm=label, level=float(arm.config.batch_size), censored=False, panel=""
        )
        for label, family in families.items()
        for arm in family
    ]
    points = _joined(frames)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    means = _means(points)
    sentence = _change(points, families)
    figure = drawing.levels(
        points, means, {label: label for label in families},
        {"": drawing.Scale("Test accuracy", percent=True)}, "Images in a batch",
        parts.source_line(evidence.plan, parts.seeds_of(evidence, arms)),
    )  # fmt: skip
    table = _table(means, families, "Test accuracy", text.percent)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def steps_by_batch(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show steps to the primary target against the batch size, with the knee of every line.

    Options: ``norms``, as in :func:`accuracy_by_batch`.  Every arm is watched up
    to its own last step; the guide is a halving of steps with every doubling.
    """
    families = _families(evidence, exhibit)
    arms = [arm for family in families.values() for arm in family]
    target = evidence.planned.experiment.targets[0]
    notes = parts.gaps(evidence, arms, "they count as censored at their last step.")
    frames = [
        evidence.steps_to(target, arm, evidence.horizon((arm,)))
        .rename(columns={"steps": "value"})
        .assign(arm=label, level=float(arm.config.batch_size), panel="")
        for label, family in families.items()
        for arm in family
        if evidence.finished(arm.name)
    ]
    points = _joined(frames)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    means = _means(points, ratio=True)
    found = _knees(points, families)
    sentence = _knee_sentence(found) if found else _fewer(points, families, target)
    figure = drawing.levels(
        points, means, {label: label for label in families},
        {"": drawing.Scale(f"Steps to {text.target(target)}", log=True)}, "Images in a batch",
        parts.source_line(evidence.plan, parts.seeds_of(evidence, arms)),
        guides=_halving(means),
        knees={label: (each.estimate, each.low, each.high) for label, each in found.items()},
    )  # fmt: skip
    table = _table(means, families, f"Steps to {text.target(target)}, geometric mean", text.steps)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, points)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _families(evidence: Evidence, exhibit: Exhibit) -> dict[str, tuple[Arm, ...]]:
    return {
        label: tuple(arm for arm in evidence.arms() if arm.config.norm == norm)
        for norm, label in exhibit.options["norms"].items()
    }


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    there = [frame for frame in frames if len(frame)]
    if not there:
        return pd.DataFrame(columns=KEYS)
    points = pd.concat(there, ignore_index=True)[KEYS]
    return points.sort_values(["panel", "arm", "seed", "level"], kind="stable", ignore_index=True)


def _means(points: pd.DataFrame, *, ratio: bool = False) -> pd.DataFrame:
    """Return mean and t interval of every level, geometric where ratios count."""
    rows = []
    for where, at in points.groupby(["panel", "arm", "level"], sort=True):
        values = at["value"].to_numpy(dtype=float)
        found = ratio_interval(values, np.ones(len(values))) if ratio else mean_interval(values)
        high = found.high if np.isfinite(found.high) else np.nan
        low = found.low if np.isfinite(high) else np.nan
        rows.append((*where, found.estimate, low, high))
    return pd.DataFrame(rows, columns=["panel", "arm", "level", "mean", "low", "high"])


def _wide(points: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return a line's values, a row a seed that has every level."""
    mine = points[points["arm"] == label]
    return mine.pivot(index="seed", columns="level", values="value").dropna()


def _change(points: pd.DataFrame, families: Mapping[str, tuple[Arm, ...]]) -> str:
    said = []
    for label in families:
        wide = _wide(points, label)
        if len(wide) and wide.shape[1] > 1:
            small, large = wide.columns[0], wide.columns[-1]
            found = difference_interval(wide[small].to_numpy(), wide[large].to_numpy())
            said.append(
                f"{label} {text.points(found.estimate)} points "
                f"({parts.certainty(found, text.points)})"
            )
    if not said:
        return "Test accuracy at one batch size only"
    sizes = sorted(set(points["level"]))
    return (
        f"With batches of {sizes[0]:,.0f} instead of {sizes[-1]:,.0f} test accuracy differs by: "
        f"{text.listing(said)}"
    )


def _knees(points: pd.DataFrame, families: Mapping[str, tuple[Arm, ...]]) -> dict[str, Interval]:
    """Return where each line bends, in images: the geometric mean of the seeds' knees."""
    found = {}
    for label in families:
        wide = _wide(points, label)
        if len(wide) and wide.shape[1] >= FEWEST:
            levels = np.log2(wide.columns.to_numpy(dtype=float))
            bends = 2.0 ** knees(np.log(wide.to_numpy(dtype=float)), levels)
            found[label] = ratio_interval(bends, np.ones(len(bends)))
    return found


def _knee_sentence(found: Mapping[str, Interval]) -> str:
    said = [
        f"{text.decimal(each.estimate, 0)} images for {label} "
        f"({parts.certainty(each, lambda value: text.decimal(value, 0))})"
        for label, each in found.items()
    ]
    return f"Larger batches save steps in proportion up to about {text.listing(said)}"


def _fewer(points: pd.DataFrame, families: Mapping[str, tuple[Arm, ...]], target: float) -> str:
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
                f"({parts.certainty(found, text.factor)})"
            )
    sizes = sorted(set(points["level"]))
    if not said:
        return f"Steps to {text.target(target)} at one batch size only"
    return (
        f"From batches of {sizes[0]:,.0f} to {sizes[-1]:,.0f} steps to {text.target(target)} are "
        f"{text.listing(said)}"
    )


def _halving(means: pd.DataFrame) -> dict[str, drawing.Guide]:
    """Return the line on which every doubling of the batch halves the steps."""
    first, last = float(means["level"].min()), float(means["level"].max())
    start = 0.8 * float(means.loc[means["level"] == first, "mean"].min())
    end = max(start * first / last, 0.8 * float(means["mean"].min()))
    text_of = "half the steps per doubling"
    return {"": drawing.Guide(text_of, (first, first * start / end), (start, end), False)}


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
        rows.append((f"{level:,.0f}", cells))
    caption = f"{what} with its 95% t interval, by images in a batch"
    return parts.wide_table(caption, ("Images in a batch", *families), rows)
