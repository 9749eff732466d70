"""Histograms of layers over training: how they look, and how far they come from their start."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.inference import mean_interval
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table

BIN = re.compile(r"hist\[(?P<low>\S+),(?P<high>\S+)\)")


def histogram_maps(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show the histograms of layers' inputs over training, and how much of them is elsewhere.

    Two histograms p and q differ by sum |p - q| / 2, the least share of values that
    have to change their bin to make one of the other (their total variation).

    Options: ``arms``; ``layers``.
    """
    arms, layers = evidence.arms(exhibit.options.get("arms")), exhibit.options["layers"]
    edges, points = _histograms(evidence, arms, layers)
    notes = parts.gaps(evidence, arms, "what was recorded until then is shown.")
    if points.empty:
        return parts.nothing(anchor, exhibit, notes)
    changes = _changes(points)
    sentence, table = _compare(changes, arms, layers)
    maps = {
        (layer, arm.name): _map(at, edges)
        for arm in arms
        for layer in layers
        if len(at := points[(points["arm"] == arm.name) & (points["layer"] == layer)])
    }
    source = parts.source_line(evidence.plan, parts.seeds_of(evidence, arms))
    figure = drawing.histogram_maps(maps, parts.labels_of(arms), layers, source)
    data = _coarse(maps, edges, arms, layers)
    drawn = points.round(4)  # a share of 8,192 values is known to half a percent
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, data, drawn)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _histograms(
    evidence: Evidence, arms: Sequence[Arm], layers: Sequence[str]
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the edges of all bins, and shares: ``arm``, ``layer``, ``seed``, ``epoch``, bins."""
    found = {label: BIN.fullmatch(label) for label in set(evidence.measures["stat"])}
    bins = {label: float(match["low"]) for label, match in found.items() if match}
    rows = evidence.measured(arms, layers, "in", bins)
    wide = rows.pivot(index=["arm", "layer", "seed", "epoch"], columns="stat", values="value")
    ordered = sorted(wide.columns, key=bins.__getitem__)
    whole = wide[ordered].dropna()  # a run that diverged has no shares at its end
    return np.array([*(bins[label] for label in ordered), np.inf]), whole.reset_index()


def _shares(rows: pd.DataFrame) -> np.ndarray:
    return rows.drop(columns=["arm", "layer", "seed", "epoch"]).to_numpy(dtype=float)


def _changes(points: pd.DataFrame) -> pd.DataFrame:
    """Return how much changed in each layer of a run with two records or more.

    Columns ``arm``, ``layer``, ``seed``, ``whole``, from start to end, and ``last``, between
    the last two records: what is left when hardly anything changes any more.
    """
    rows = []
    for where, run in points.groupby(["arm", "layer", "seed"], sort=True):
        shares = _shares(run.sort_values("epoch"))
        if len(shares) > 1:
            from_end = np.abs(shares[[0, -2]] - shares[-1]).sum(axis=1) / 2
            rows.append((*where, *from_end))
    return pd.DataFrame(rows, columns=["arm", "layer", "seed", "whole", "last"])


def _compare(
    changes: pd.DataFrame, arms: Sequence[Arm], layers: Sequence[str]
) -> tuple[str, Table]:
    said, rows = [], []
    for arm in arms:
        mine = changes[changes["arm"] == arm.name]
        per_seed = mine.groupby("seed")["whole"].mean().to_numpy(dtype=float)
        if len(per_seed):
            mean = mean_interval(per_seed)
            said.append(
                f"{text.percent(mean.estimate, 0)} for {arm.label} "
                f"({parts.certainty(mean, _whole)})"
            )
        for layer in layers:
            at = mine[mine["layer"] == layer]
            rows.append(
                (
                    f"{arm.label}, {layer}",
                    parts.spread(at["whole"], _whole),
                    parts.spread(at["last"], _whole),
                )
            )
    table = Table(
        "Share of values that lie in other bins: mean of the seeds (lowest to highest)",
        ("Arm and layer", "At the end than at the start", "Between the last two records"),
        tuple(rows),
    )
    if not said:
        return "No run has two records to compare", table
    return (
        "At the end at least this share of what comes into the layers lies elsewhere than at the "
        f"start: {text.listing(said)}"
    ), table


def _map(rows: pd.DataFrame, edges: np.ndarray) -> drawing.Map:
    """Return epochs (T,), edges (B + 1,), and the seeds' mean shares (T, B)."""
    by_epoch = rows.drop(columns=["arm", "layer", "seed"]).groupby("epoch", sort=True).mean()
    return by_epoch.index.to_numpy(dtype=float), edges, by_epoch.to_numpy()


def _coarse(
    maps: Mapping[tuple[str, str], drawing.Map],
    edges: np.ndarray,
    arms: Sequence[Arm],
    layers: Sequence[str],
) -> Table:
    """Return shares at the first and the last record, below, between and above whole numbers."""
    inner = edges[1:-1]
    cuts = sorted({*np.arange(np.ceil(inner[0]), inner[-1] + 0.5), inner[0], inner[-1]})
    rows = []
    for layer in layers:
        for low, high in zip([-np.inf, *cuts], [*cuts, np.inf], strict=True):
            cells = []
            for arm in arms:
                cells += _ends(maps.get((layer, arm.name)), low, high)
            rows.append((f"{layer}, {_range(low, high)}", *cells))
    heads = [f"{arm.label}, {end}" for arm in arms for end in ("start", "end")]
    return Table("Shares of values, mean of the seeds", ("Layer and values", *heads), tuple(rows))


def _ends(drawn: drawing.Map | None, low: float, high: float) -> list[str]:
    """Write the share between two values at the first and at the last record."""
    if drawn is None:
        return [text.MISSING, text.MISSING]
    _, edges, shares = drawn
    inside = (edges[:-1] >= low - 1e-9) & (edges[1:] <= high + 1e-9)
    return [text.percent(float(shares[row][inside].sum())) for row in (0, -1)]


def _range(low: float, high: float) -> str:
    ends = [text.decimal(end, 0 if float(end).is_integer() else 1) for end in (low, high)]
    if not np.isfinite(low):
        return f"below {ends[1]}"
    return f"above {ends[0]}" if not np.isfinite(high) else text.span(*ends)


def _whole(value: float) -> str:
    return text.percent(value, 0)
