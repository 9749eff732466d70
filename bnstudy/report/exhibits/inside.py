"""What probes saw inside the networks: percentiles of layers, and numbers of layers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import gmean

from bnstudy.inference import Interval, mean_interval, ratio_interval
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence, grouped, pair_up
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

PERCENTILES = ("q15", "q50", "q85")


def percentile_bands(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show the percentiles of layers over training, and how far they drift.

    The drift of a run is the way its three percentiles cover from record to
    record (their total variation), in units of the mean distance of the outer
    two, averaged over layers and percentiles.

    Options: ``arms``; ``layers``; ``tensor``, which tensor of them; ``names``, what to call
    the layers.
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    layers = exhibit.options["layers"]
    rows = evidence.measured(arms, layers, exhibit.options.get("tensor", "in"), PERCENTILES)
    notes = parts.gaps(evidence, arms, "what was recorded until then is shown.")
    if rows.empty:
        return parts.nothing(anchor, exhibit, notes)
    points = rows.pivot(
        index=["arm", "layer", "seed", "epoch"], columns="stat", values="value"
    ).reset_index()
    drifts = _drifts(points)
    sentence, table = _compare(drifts, arms, evidence)
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.percentile_bands(points, parts.labels_of(arms), layers, source)
    data = _percentile_table(points, arms, layers)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, data, points)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _drifts(points: pd.DataFrame) -> pd.DataFrame:
    """Return the drift of every run: columns ``arm``, ``seed``, ``layer``, ``value``."""
    rows = []
    for where, run in points.sort_values("epoch").groupby(["arm", "seed", "layer"], sort=True):
        way = np.abs(np.diff(run[list(PERCENTILES)].to_numpy(dtype=float), axis=0)).sum(axis=0)
        width = float((run["q85"] - run["q15"]).mean())
        if len(run) > 1 and width > 0 and np.isfinite(way).all():
            rows.append((*where, float(way.mean()) / width))
    return pd.DataFrame(rows, columns=["arm", "seed", "layer", "value"])


def _compare(drifts: pd.DataFrame, arms: Sequence[Arm], evidence: Evidence) -> tuple[str, Table]:
    means = drifts.groupby(["arm", "seed"], sort=True)["value"].mean().reset_index()
    intervals: dict[str, Interval] = {}
    for arm in arms:
        mine = means.loc[means["arm"] == arm.name, "value"].to_numpy(dtype=float)
        if len(mine):
            intervals[arm.name] = mean_interval(mine)
    rows = []
    for arm in arms:
        layers = drifts[drifts["arm"] == arm.name].groupby("layer", sort=True)["value"].mean()
        listed = ", ".join(f"{layer} {_plain(value)}" for layer, value in layers.items())
        found = intervals.get(arm.name)
        rows.append(
            (
                arm.label,
                _plain(found.estimate) if found else text.MISSING,
                text.interval_span(found, _plain) if found else text.MISSING,
                listed or text.MISSING,
            )
        )
    table = Table(
        "Drift: way covered by the 15th, 50th and 85th percentile, in units of the distance "
        "between the outer two; mean of layers and seeds",
        ("Arm", "Drift", "95% CI", "By layer"),
        tuple(rows),
    )
    if len(arms) != 2:
        listed = text.listing([f"{arm.label} {_plain(intervals[arm.name].estimate)}" for arm in arms
                               if arm.name in intervals])  # fmt: skip
        return f"Drift of the percentiles, in widths of the band: {listed}", table
    first, second = arms
    seeds, mine, theirs = pair_up(means, first.name, second.name, "value")
    if not seeds:
        return "The arms have no seed in common", table
    ratio = ratio_interval(mine, theirs)
    if ratio.estimate < 1:
        first, second, ratio = second, first, ratio_interval(theirs, mine)
    return (
        f"In widths of their band, percentiles drift {_plain(ratio.estimate)} times as far for "
        f"{first.label} as for {second.label} ({parts.certainty(ratio, _plain)})"
    ), table


def _percentile_table(points: pd.DataFrame, arms: Sequence[Arm], layers: Sequence[str]) -> Table:
    epochs = sorted(set(points["epoch"]))
    shown = sorted({epochs[0], epochs[len(epochs) // 2], epochs[-1]})
    rows = []
    for layer in layers:
        for epoch in shown:
            cells = []
            for arm in arms:
                at = points[
                    (points["arm"] == arm.name)
                    & (points["layer"] == layer)
                    & (points["epoch"] == epoch)
                ]
                means = (
                    [text.decimal(at[each].mean(), 2) for each in PERCENTILES] if len(at) else []
                )
                cells.append(" / ".join(means) or text.MISSING)
            rows.append((f"{layer}, epoch {text.epochs(epoch)}", *cells))
    caption = "15th / 50th / 85th percentile, mean of the seeds"
    return Table(caption, ("Layer", *(arm.label for arm in arms)), tuple(rows))


def layer_lines(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show one number of several layers over training.

    Options: ``arms``; ``layers``; ``probe`` (the recorder by default), ``tensor`` and ``stat``,
    which number; ``label``, its name,
    ``percent`` or ``log``, its scale; ``ratio``, a pair of layers whose ratio over the first
    epoch is the finding, or none, where it is the layer with the highest last value.
    """
    options = exhibit.options
    arms, layers = evidence.arms(options.get("arms")), options["layers"]
    rows = evidence.measured(
        arms, layers, options["tensor"], (options["stat"],), options.get("probe", "activations")
    )
    notes = parts.gaps(evidence, arms, "what was recorded until then is shown.")
    points = rows[np.isfinite(rows["value"])].drop(columns="stat").reset_index(drop=True)
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    percent, log = options.get("percent", False), options.get("log", False)
    scale = drawing.Scale(options["label"], percent, log)
    write = text.percent if scale.percent else _short
    pair = options.get("ratio")
    sentence = _ratios(points, arms, pair, scale) if pair else _highest(points, arms, scale, write)
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.layer_lines(points, parts.labels_of(arms), layers, scale, source)
    data = _line_table(points, arms, layers, scale, write)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, data, points)
    return Finding(anchor, sentence, exhibit.caption, (), chart, notes)


def _ratios(
    points: pd.DataFrame, arms: Sequence[Arm], pair: tuple[str, str], scale: drawing.Scale
) -> str:
    """State the ratio of two layers over the first epoch, arm by arm."""
    upper, lower = pair
    said = []
    for arm in arms:
        mine = points[(points["arm"] == arm.name) & (points["epoch"] <= 1)]
        wide = mine.pivot(index=["seed", "epoch"], columns="layer", values="value")
        if not {upper, lower} <= set(wide.columns):
            continue
        ratios = (wide[upper] / wide[lower]).loc[lambda r: np.isfinite(r) & (r > 0)]
        per_seed = ratios.groupby("seed").apply(gmean).to_numpy(dtype=float)
        if len(per_seed):
            ratio = ratio_interval(per_seed, np.ones(len(per_seed)))
            said.append(
                f"{_short(ratio.estimate)} times that of {lower} for {arm.label} "
                f"({parts.certainty(ratio, _short)})"
            )
    what = f"{scale.label[0].lower()}{scale.label[1:]}"
    if not said:
        return f"The {what} of {upper} and {lower} cannot be compared"
    return f"Over the first epoch the {what} of {upper} is {text.listing(said)}"


def _highest(
    points: pd.DataFrame, arms: Sequence[Arm], scale: drawing.Scale, write: text.Writer
) -> str:
    """State which layer has the highest last value, arm by arm."""
    said, several = [], points["layer"].nunique() > 1
    for arm in arms:
        mine = points[points["arm"] == arm.name]
        if mine.empty:
            continue
        last = mine[mine["epoch"] == mine["epoch"].max()].groupby("layer")["value"].mean()
        where = f" in {last.idxmax()}" if several else ""
        value = f"{write(float(last.max()))}{where}" if last.max() > 0 else "none"
        said.append(f"{value} for {arm.label}")
    most = ", in the layer with most" if several else ""
    return f"{scale.label} at the end{most}: {text.listing(said)}"


def _line_table(
    points: pd.DataFrame,
    arms: Sequence[Arm],
    layers: Sequence[str],
    scale: drawing.Scale,
    write: text.Writer,
) -> Table:
    epochs = sorted(set(points["epoch"]))
    kept = [epochs[round(k)] for k in np.linspace(0, len(epochs) - 1, min(6, len(epochs)))]
    rows = []
    for arm in arms:
        for layer in layers:
            mine = points[(points["arm"] == arm.name) & (points["layer"] == layer)]
            by_epoch = {epoch: at["value"].mean() for epoch, at in grouped(mine, "epoch")}
            cells = [write(by_epoch[e]) if e in by_epoch else text.MISSING for e in kept]
            rows.append((f"{arm.label}, {layer}", *cells))
    heads = ("Arm and layer", *(f"Epoch {text.epochs(epoch)}" for epoch in kept))
    return Table(f"{scale.label}: mean of the seeds", heads, tuple(rows))


def _plain(value: float) -> str:
    return text.decimal(value, 1)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"
