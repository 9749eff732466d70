"""What a probe saw of whole networks, the arms side by side: by epoch, or at the same loss."""

import numpy as np
import pandas as pd

from bnstudy.inference import Interval, mean_interval, ratio_interval
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence, grouped, pair_up
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

KEYS = ["panel", "arm", "seed", "epoch", "value"]
LOSS = "loss"


def probe_bands(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show numbers of one layer over training, the arms in one panel.

    Options: ``arms``; ``probe``, ``layer`` and ``tensor``; ``stats``, the text of each
    number, a panel each; ``log``, whether they are positive and compared by ratios;
    ``against_loss``, whether they are drawn against the probe's own loss instead of
    the epoch.  The finding is of the first number: two arms at the end.
    """
    options = exhibit.options
    arms, log = evidence.arms(options.get("arms")), bool(options.get("log", False))
    notes = parts.gaps(evidence, arms, "what was measured until then is shown.")
    points = _points(evidence, arms, exhibit)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    labels = parts.labels_of(arms)
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    scales = {words: drawing.Scale("", log=log) for words in options["stats"].values()}
    means = _means(points, log=log)
    sentence = _sentence(points, arms, next(iter(scales)), log=log)
    if options.get("against_loss", False):
        points = _with_loss(evidence, points, arms, exhibit)
        if points.empty:
            return parts.nothing(anchor, exhibit, notes, "no loss was measured beside it")
        sentence = _at_same_loss(points, arms, next(iter(scales)))
        figure = drawing.by_loss(points, labels, scales, source)
    else:
        figure = drawing.bands(points, means, labels, scales, source)
    data = _table(means, arms)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, data, points)
    return Finding(anchor, sentence, exhibit.caption, (), chart, notes)


def _points(evidence: Evidence, arms: tuple[Arm, ...], exhibit: Exhibit) -> pd.DataFrame:
    options = exhibit.options
    rows = evidence.measured(
        arms, (options["layer"],), options["tensor"], options["stats"], options["probe"]
    )
    rows = rows[np.isfinite(rows["value"])]
    rows = rows[rows["value"] > 0] if options.get("log", False) else rows
    place = {stat: number for number, stat in enumerate(options["stats"])}
    rows = rows.assign(panel=rows["stat"].map(options["stats"]), place=rows["stat"].map(place))
    rows = rows.sort_values(["place", "arm", "seed", "epoch"], kind="stable")
    return rows[KEYS].reset_index(drop=True)


def _means(points: pd.DataFrame, *, log: bool) -> pd.DataFrame:
    rows = []
    for where, at in points.groupby(["panel", "arm", "epoch"], sort=False):
        values = at["value"].to_numpy(dtype=float)
        found = ratio_interval(values, np.ones(len(values))) if log else mean_interval(values)
        ends = (found.low, found.high) if np.isfinite(found.high) else (np.nan, np.nan)
        rows.append((*where, found.estimate, *ends))
    return pd.DataFrame(rows, columns=["panel", "arm", "epoch", "mean", "low", "high"])


def _with_loss(
    evidence: Evidence, points: pd.DataFrame, arms: tuple[Arm, ...], exhibit: Exhibit
) -> pd.DataFrame:
    options = exhibit.options
    losses = evidence.measured(
        arms, (options["layer"],), options["tensor"], (LOSS,), options["probe"]
    ).rename(columns={"value": LOSS})
    joined = points.merge(losses[["arm", "seed", "epoch", LOSS]], on=["arm", "seed", "epoch"])
    return joined[np.isfinite(joined[LOSS])].reset_index(drop=True)


def _compared(points: pd.DataFrame, first: Arm, second: Arm, *, log: bool) -> Interval | None:
    _, mine, theirs = pair_up(points, first.name, second.name, "value")
    if not len(mine):
        return None
    return ratio_interval(mine, theirs) if log else mean_interval(mine - theirs)


def _sentence(points: pd.DataFrame, arms: tuple[Arm, ...], panel: str, *, log: bool) -> str:
    """Compare the last arm to the first at the last moment that all of them have."""
    mine = points[points["panel"] == panel]
    shared = [set(mine.loc[mine["arm"] == arm.name, "epoch"]) for arm in arms]
    both = set.intersection(*shared)
    what = f"{panel[0].upper()}{panel[1:]}"
    if len(arms) < 2 or not both:
        return f"{what}: the arms cannot be compared"
    at = mine[mine["epoch"] == max(both)]
    found = _compared(at, arms[-1], arms[0], log=log)
    if found is None:
        return f"{what}: no seed has all arms"
    when = f"At epoch {text.epochs(max(both))}"
    if log:
        return (
            f"{when} the {panel} is {text.factor(found.estimate)} times that of {arms[0].label} "
            f"for {arms[-1].label} ({parts.certainty(found, text.factor)})"
        )
    return (
        f"{when} the {panel} is {_signed(found.estimate)} for {arms[-1].label} against "
        f"{arms[0].label} ({parts.certainty(found, _signed)})"
    )


def _signed(value: float) -> str:
    return text.decimal(value, 3, sign=True)


def _at_same_loss(points: pd.DataFrame, arms: tuple[Arm, ...], panel: str) -> str:
    """State over which losses the arms meet, and how often the last one is above the first there.

    Losses are cut to those that both arms have; within, medians are compared.
    """
    mine = points[points["panel"] == panel]
    losses = [mine.loc[mine["arm"] == arm.name, LOSS] for arm in (arms[0], arms[-1])]
    if any(each.empty for each in losses):
        return "The arms have no loss in common"
    low, high = max(each.min() for each in losses), min(each.max() for each in losses)
    inside = mine[(mine[LOSS] >= low) & (mine[LOSS] <= high)]
    medians = [inside.loc[inside["arm"] == arm.name, "value"].median() for arm in
               (arms[0], arms[-1])]  # fmt: skip
    if low > high or not np.isfinite(medians).all():
        return "The arms have no loss in common"
    ends = text.span(text.decimal(low, 2), text.decimal(high, 2))
    return (
        f"At losses of {ends}, which both arms pass, the median {panel} is {medians[1]:.3g} for "
        f"{arms[-1].label} and {medians[0]:.3g} for {arms[0].label}"
    )


def _table(means: pd.DataFrame, arms: tuple[Arm, ...]) -> Table:
    heads = ("When", *(arm.label for arm in arms))
    labels = parts.labels_of(arms)
    rows = []
    for panel in dict.fromkeys(means["panel"]):
        mine = means[means["panel"] == panel]
        epochs = sorted(set(mine["epoch"]))
        kept = {epochs[round(k)] for k in np.linspace(0, len(epochs) - 1, min(8, len(epochs)))}
        for epoch, at in grouped(mine, "epoch"):
            if epoch in kept:
                cells = {
                    labels[row["arm"]]: f"{row['mean']:.3g} ({_ends(row['low'], row['high'])})"
                    for row in at.to_dict("records")
                }
                rows.append((f"{panel}, epoch {text.epochs(epoch)}", cells))
    return parts.wide_table("Mean of the seeds with its 95% interval", heads, rows)


def _ends(low: float, high: float) -> str:
    return text.span(*(f"{end:.3g}" if np.isfinite(end) else text.MISSING for end in (low, high)))
