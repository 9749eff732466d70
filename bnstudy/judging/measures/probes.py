"""Measures of what probes saw: means, drift, ratios of layers, numbers at the same loss.

A diverged run counts for as long as what was seen of it was finite.
"""

import math
from collections.abc import Iterable, Mapping
from functools import reduce

import numpy as np
import pandas as pd

from bnstudy.errors import ConfigError, NotMeasuredError, unknown
from bnstudy.judging.measures.registry import measure
from bnstudy.judging.measures.run import Reading, Run

PERCENTILES = ("q15", "q50", "q85")
TAKEN = ("mean", "last")
SINCE = ("start", "before")
WHOLE = -1  # the channel of a number that is of a whole tensor


@measure("probe")
def probe(
    run: Run,
    *,
    probe: str,
    stat: str,
    layer: str = "",
    tensor: str = "",
    start: float = 0.0,
    end: float = math.inf,
    take: str = "mean",
) -> Reading:
    """Return the ``mean`` of what a probe saw from epoch ``start`` to ``end``, or the ``last``.

    Averaged over steps, layers and channels, of one layer or tensor where they
    are named.  Of a diverged run, what was seen while it was finite.
    """
    if take not in TAKEN:
        raise ConfigError(unknown("way to take what a probe saw", take, TAKEN))
    words = {"probe": probe, "stat": stat, "layer": layer, "tensor": tensor}
    steps, values = measured(run, {column: word for column, word in words.items() if word})
    epochs = steps / run.steps_per_epoch
    kept = (epochs >= start) & (epochs <= end) & (np.isfinite(values) | (not run.diverged))
    if not kept.any():
        raise NotMeasuredError(f"probe {probe} saw no {stat}" + (f" of {layer}" if layer else ""))
    if take == "last":
        kept &= steps == steps[kept].max()
    return Reading(float(values[kept].mean()))


@measure("drift")
def drift(run: Run, *, probe: str = "activations", tensor: str = "in", layer: str = "") -> Reading:
    """Return how far the percentiles of layers wander, in widths of their band.

    Of a layer: the total variation of its 15th, 50th and 85th percentile from
    record to record, averaged, over the mean distance of the outer two; then
    the mean over layers: those named, separated by spaces, or all of them.
    """
    drifts = []
    for name in layer.split() or sorted(run.measures["layer"].unique()):
        seen = [_seen(run, probe, tensor, stat, name) for stat in PERCENTILES]
        steps, *traces = _together(*seen)
        if len(steps) < 2:
            continue
        if not run.diverged and any(len(each) > len(steps) for each, _ in seen):
            raise NotMeasuredError(f"some percentiles of {name} are missing at some steps")
        way = np.mean([np.abs(np.diff(trace)).sum() for trace in traces])
        width = (traces[2] - traces[0]).mean()
        if width == 0:
            raise NotMeasuredError(f"the percentiles of {name} have no width to measure drift by")
        drifts.append(way / width)
    if not drifts:
        raise NotMeasuredError(f"probe {probe} saw no percentiles at two steps")
    return Reading(float(np.mean(drifts)))


@measure("layer-ratio")
def layer_ratio(
    run: Run,
    *,
    stat: str,
    tensor: str,
    upper: str,
    lower: str,
    end: float,
    probe: str = "activations",
    distance: bool = False,
) -> Reading:
    """Return the ratio of a number in two layers, its geometric mean up to epoch ``end``.

    With ``distance``, how far that is from 1, either way: at least 1.
    """
    steps, above, below = _together(
        *(_seen(run, probe, tensor, stat, layer) for layer in (upper, lower))
    )
    if not len(steps):
        raise NotMeasuredError(f"probe {probe} saw no {stat} of both {upper} and {lower}")
    # a step that leaves a layer alone has no ratio
    kept = (steps <= end * run.steps_per_epoch) & (above > 0) & (below > 0)
    if not kept.any():
        raise NotMeasuredError(f"{stat} of {upper} and {lower} is never positive in both")
    log_ratio = float(np.log(above[kept] / below[kept]).mean())
    return Reading(math.exp(abs(log_ratio) if distance else log_ratio))


@measure("probe-at-loss")
def probe_at_loss(
    run: Run, *, probe: str, stat: str, tensor: str, loss: float, layer: str = ""
) -> Reading:
    """Return what a probe saw when its own ``loss`` was first at most this, mean over layers.

    So that arms are compared at the same loss, not at the same step.  A run
    that does not get there is read where its loss was least, as censored.
    """
    _, losses, values = _together(
        _seen(run, probe, tensor, "loss"), _seen(run, probe, tensor, stat, layer or None)
    )
    if np.isnan(losses).all():
        raise NotMeasuredError(f"probe {probe} saw no {stat} beside a loss")
    there = losses <= loss
    place = there.argmax() if there.any() else np.nanargmin(losses)
    return Reading(float(values[place]), censored=not there.any())


@measure("median")
def median(run: Run, *, stat: str, layer: str, tensor: str, probe: str = "activations") -> Reading:
    """Return the median over records of a positive number of a layer, such as a relative step."""
    _, values = _seen(run, probe, tensor, stat, layer)
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        raise NotMeasuredError(f"probe {probe} saw no positive {stat} of {layer}")
    return Reading(float(np.median(values)))


@measure("histogram-change")
def histogram_change(
    run: Run,
    *,
    layer: str,
    tensor: str = "in",
    probe: str = "activations",
    since: str = "start",
) -> Reading:
    """Return the share of values that lie in other bins at the end than before, mean over layers.

    Two histograms p and q differ by sum |p - q| / 2, the least share of values that have
    to change their bin to make one of the other (their total variation).  ``since`` the
    ``start``, or the record ``before`` the last: what is left when hardly anything changes.
    Layers are those named, separated by spaces, that have two histograms.
    """
    if since not in SINCE:
        raise ConfigError(unknown("moment to compare with", since, SINCE))
    rows = probe_rows(run, probe, tensor, layer.split())
    changes = []
    for _, mine in rows[rows["stat"].str.startswith("hist[")].groupby("layer", sort=True):
        shares = mine.pivot(index="step", columns="stat", values="value")
        known = shares.dropna().to_numpy(dtype=float)  # a diverged run has no shares at its end
        if len(known) > 1:
            earlier = known[0 if since == "start" else -2]
            changes.append(np.abs(earlier - known[-1]).sum() / 2)
    if not changes:
        raise NotMeasuredError(f"probe {probe} saw no two histograms of {layer}")
    return Reading(float(np.mean(changes)))


@measure("distance-from-start")
def distance_from_start(
    run: Run, *, layer: str, tensor: str, start: float, probe: str = "affine"
) -> Reading:
    """Return how far a layer's channels are from where they started, at the last record.

    Root mean square over channels of the distance to ``start``.
    """
    rows = probe_rows(run, probe, tensor, [layer], ["value"], channels=True)
    rows = rows[np.isfinite(rows["value"])]
    if rows.empty:
        raise NotMeasuredError(f"probe {probe} saw no {tensor} of {layer}")
    last = rows.loc[rows["step"] == rows["step"].max(), "value"].to_numpy()
    return Reading(float(np.sqrt(((last - start) ** 2).mean())))


def probe_rows(
    run: Run,
    probe: str,
    tensor: str,
    layers: Iterable[str],
    stats: Iterable[str] | None = None,
    *,
    channels: bool = False,
) -> pd.DataFrame:
    """Return what a probe saw of some layers, by step.

    Parameters
    ----------
    run
        A run.
    probe, tensor, layers
        Of which rows.
    stats
        Which numbers; all if not given.
    channels
        Those of channels, with the column ``channel``; else those of whole tensors.

    Returns
    -------
    pandas.DataFrame
        Columns ``step``, ``epoch``, ``layer``, ``stat``, ``value``, and perhaps ``channel``,
        sorted by step, layer and stat.
    """
    table = run.measures
    channel = table["channel"].to_numpy()
    kept = (channel != WHOLE) if channels else (channel == WHOLE)
    kept = kept & _is(table["probe"], probe) & _is(table["tensor"], tensor)
    kept &= table["layer"].isin(list(layers)).to_numpy()
    if stats is not None:
        kept &= table["stat"].isin(list(stats)).to_numpy()
    rows = table.loc[kept, ["step", "layer", "stat", "value", *["channel"] * channels]]
    # in the store's tables these are categories
    rows = rows.astype({"layer": str, "stat": str, "value": float})
    rows.insert(1, "epoch", rows["step"].astype(float) / run.steps_per_epoch)
    return rows.sort_values(["step", "layer", "stat"], kind="stable")


def channel_percentiles(run: Run, probe: str, tensor: str, layers: Iterable[str]) -> pd.DataFrame:
    """Return the 15th, 50th and 85th percentile over a layer's channels of what a probe saw.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer``, ``epoch``, ``q15``, ``q50``, ``q85``.
    """
    rows = probe_rows(run, probe, tensor, layers, ["value"], channels=True)
    rows = rows[np.isfinite(rows["value"])]
    if rows.empty:  # then quantiles would have no columns either
        return pd.DataFrame(columns=["layer", "epoch", *PERCENTILES])
    by = rows.groupby(["layer", "epoch"], sort=True)["value"]
    found = by.quantile(np.array([0.15, 0.5, 0.85])).unstack()
    found.columns = list(PERCENTILES)
    return found.reset_index()


def sorted_parameters(run: Run, layer: str) -> pd.DataFrame:
    """Return a normalization layer's gamma and beta at the end, sorted, ranks from 1.

    Returns
    -------
    pandas.DataFrame
        Columns ``parameter``, ``rank``, ``value``; values that are not finite have no rank.
    """
    mine = run.norms[run.norms["layer"] == layer]
    frames = []
    for parameter in ("beta", "gamma"):
        values = np.sort(mine[parameter].to_numpy(dtype=float))
        values = values[np.isfinite(values)]
        ranks = np.arange(1, len(values) + 1)
        frames.append(pd.DataFrame({"parameter": parameter, "rank": ranks, "value": values}))
    return pd.concat(frames, ignore_index=True)


def _seen(
    run: Run, probe: str, tensor: str, stat: str, layer: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return when a probe saw a number of whole layers, and its mean over layers, or of one.

    NaN where it saw nothing else; of a diverged run, only what was finite.
    """
    words = {"probe": probe, "tensor": tensor, "stat": stat}
    words |= {} if layer is None else {"layer": layer}
    steps, values = measured(run, words, whole=True)
    if run.diverged:
        finite = np.isfinite(values)
        steps, values = steps[finite], values[finite]
    steps, places = np.unique(steps, return_inverse=True)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means = np.bincount(places, np.where(known, values, 0.0)) / np.bincount(places, known)
    return steps, means


def _together(*series: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Return the steps that all series have, in order, and the values of each there."""
    steps = reduce(np.intersect1d, [each[0] for each in series])
    return [steps, *(values[np.isin(own, steps)] for own, values in series)]


def measured(
    run: Run, words: Mapping[str, str], *, whole: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of the rows of measures that have these words in these columns.

    If ``whole``, only those of whole tensors, not of their channels.
    """
    found = np.ones(len(run.measures), dtype=bool)
    if whole:
        found &= run.measures["channel"].to_numpy() == -1
    for column, word in words.items():
        found &= _is(run.measures[column], word)
    steps, values = (run.measures[column].to_numpy() for column in ("step", "value"))
    return steps[found], values[found].astype(float)


def _is(column: pd.Series, word: str) -> np.ndarray:
    """Return which rows are a word; of categories the numbers are compared, which is faster."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return (column == word).to_numpy(dtype=bool)
    words = column.dtype.categories
    return column.array.codes == (words.get_loc(word) if word in words else len(words))
