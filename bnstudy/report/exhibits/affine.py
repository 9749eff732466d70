"""What normalization layers learn: how far gamma and beta go, and in what steps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bnstudy.inference import ratio_interval
from bnstudy.plan import Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

STARTS = {"gamma": ("γ, which starts at 1", 1.0), "beta": ("β, which starts at 0", 0.0)}
PERCENTILES = ("q15", "q50", "q85")
SINGLE = 6  # channels of a layer that are drawn one by one


def affine_paths(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show gamma and beta over training, and how large the steps of gamma are.

    How far they go is the root mean square over channels of the distance to the
    start; the size of a step of gamma, or of a layer's weights, is the median over
    records of the length of the change relative to the length, as the recorder of
    activations saw it.

    Options: ``arm``; ``layers``, those with gamma and beta; ``weights``, the layer before each.
    """
    (arm,) = evidence.arms([exhibit.options["arm"]])
    layers, weighted = exhibit.options["layers"], exhibit.options["weights"]
    seen = {
        tensor: evidence.measured((arm,), layers, tensor, ("value",), "affine", channels=True)
        for tensor in STARTS
    }
    points = pd.concat([rows.assign(tensor=tensor) for tensor, rows in seen.items()])
    points = points[np.isfinite(points["value"])]
    notes = parts.gaps(evidence, (arm,), "what was recorded until then is shown.")
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    percentiles = _percentiles(points)
    moved = _moved(points)
    steps = _steps(evidence, arm.name, [*layers, *weighted])
    sentence = f"{_how_far(moved, points)}{_compare(steps, layers, weighted)}"
    bands = percentiles.groupby(["tensor", "layer", "epoch"])[list(PERCENTILES)].mean()
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, (arm,)))
    figure = drawing.affine_paths(bands.reset_index(), _singles(points), layers, STARTS, source)
    table = _table(points, percentiles, moved, steps, layers, weighted)
    chart = parts.draw(
        evidence, anchor, figure, sentence, exhibit.caption, _over_time(bands, layers), percentiles
    )
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _percentiles(points: pd.DataFrame) -> pd.DataFrame:
    """Return ``tensor``, ``layer``, ``seed``, ``epoch`` and the percentiles over channels."""
    by = points.groupby(["tensor", "layer", "seed", "epoch"], sort=True)["value"]
    found = by.quantile(np.array([0.15, 0.5, 0.85])).unstack()
    found.columns = list(PERCENTILES)
    return found.reset_index()


def _moved(points: pd.DataFrame) -> pd.DataFrame:
    """Return ``tensor``, ``layer``, ``seed``, and how far from its start each is at its end."""
    start = points["tensor"].map({tensor: value for tensor, (_, value) in STARTS.items()})
    away = points.assign(square=(points["value"] - start.astype(float)) ** 2)
    last = away[away["epoch"] == away.groupby("seed")["epoch"].transform("max")]
    squares = last.groupby(["tensor", "layer", "seed"], sort=True)["square"].mean()
    return np.sqrt(squares).rename("value").reset_index()


def _steps(evidence: Evidence, arm: str, layers: Sequence[str]) -> pd.DataFrame:
    """Return the median relative step of the weights, or gamma, by ``layer`` and ``seed``."""
    (found,) = evidence.arms([arm])
    rows = evidence.measured((found,), layers, "weight", ("update_ratio",))
    rows = rows[np.isfinite(rows["value"]) & (rows["value"] > 0)]
    return rows.groupby(["layer", "seed"], sort=True)["value"].median().reset_index()


def _how_far(moved: pd.DataFrame, points: pd.DataFrame) -> str:
    means = moved.groupby("tensor")["value"].mean()
    far = {tensor: text.decimal(means.get(tensor), 2) for tensor in STARTS}
    epochs = text.epoch_count(float(points["epoch"].max()))
    return f"In {epochs} γ moves {far['gamma']} away from 1 and β {far['beta']} away from 0"


def _compare(steps: pd.DataFrame, layers: Sequence[str], weighted: Sequence[str]) -> str:
    """State how much smaller gamma's steps are than those of the weights before it."""
    wide = steps.pivot(index="seed", columns="layer", values="value")
    if not {*layers, *weighted} <= set(wide.columns):
        return ""
    whole = wide[[*layers, *weighted]].dropna()
    if whole.empty:
        return ""
    scales, weights = (
        np.exp(np.log(whole[list(names)].to_numpy(dtype=float)).mean(axis=1))  # (seeds,)
        for names in (layers, weighted)
    )
    ratio = ratio_interval(weights, scales)
    word = "smaller"
    if ratio.estimate < 1:
        ratio, word = ratio_interval(scales, weights), "larger"
    return (
        f"; relative to its length, a step of γ is {text.factor(ratio.estimate)} times {word} "
        f"than one of the weights before it ({parts.certainty(ratio, text.factor)})"
    )


def _singles(points: pd.DataFrame) -> pd.DataFrame:
    """Return a few channels of every layer, evenly spaced, of the first seed."""
    mine = points[points["seed"] == points["seed"].min()]
    count = mine.groupby(["tensor", "layer"])["channel"].transform("max") + 1
    every = np.maximum(1, count // SINGLE)
    return mine[(mine["channel"] % every == 0) & (mine["channel"] < SINGLE * every)]


def _table(
    points: pd.DataFrame,
    percentiles: pd.DataFrame,
    moved: pd.DataFrame,
    steps: pd.DataFrame,
    layers: Sequence[str],
    weighted: Sequence[str],
) -> Table:
    last = percentiles[percentiles["epoch"] == percentiles["epoch"].max()]
    rows = []
    for layer, before in zip(layers, weighted, strict=True):
        channels = points[points["layer"] == layer]["channel"].nunique()
        cells = [f"{channels:,}" if channels else text.MISSING]
        for tensor in STARTS:
            at = last[(last["layer"] == layer) & (last["tensor"] == tensor)]
            means = [text.decimal(at[each].mean(), 2) for each in PERCENTILES] if len(at) else []
            far = moved[(moved["layer"] == layer) & (moved["tensor"] == tensor)]["value"]
            cells += [" / ".join(means) or text.MISSING, text.decimal(far.mean(), 2)]
        for name in (layer, before):
            cells.append(text.percent(steps.loc[steps["layer"] == name, "value"].mean(), 2))
        rows.append((layer, *cells))
    heads = [f"{sign} at the end" if far else f"{sign} moved" for sign in "γβ" for far in (1, 0)]
    return Table(
        "γ and β at the end: 15th / 50th / 85th percentile of the channels; how far they moved: "
        "root mean square of the channels; a step: change relative to length, median of the "
        "records, of γ and of the weights before it; means of the seeds",
        ("Layer", "Channels", *heads, "Step of γ", "Step of weights"),
        tuple(rows),
    )


def _over_time(bands: pd.DataFrame, layers: Sequence[str]) -> Table:
    epochs = sorted(set(bands.index.get_level_values("epoch")))
    kept = [epochs[round(k)] for k in np.linspace(0, len(epochs) - 1, min(6, len(epochs)))]
    known = dict(zip(bands.index, bands.to_numpy(dtype=float), strict=True))
    rows = []
    for layer in layers:
        for tensor, sign in zip(STARTS, "γβ", strict=True):
            cells = []
            for epoch in kept:
                values = known.get((tensor, layer, epoch), ())
                written = " / ".join(text.decimal(float(value), 2) for value in values)
                cells.append(written or text.MISSING)
            rows.append((f"{layer}, {sign}", *cells))
    caption = "15th / 50th / 85th percentile of the channels, mean of the seeds"
    heads = (f"Epoch {text.epochs(epoch)}" for epoch in kept)
    return Table(caption, ("Layer and parameter", *heads), tuple(rows))
