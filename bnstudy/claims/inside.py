"""What a claim reads of probes where an average is not enough: drift, layers, matched loss.

A diverged run counts for as long as what was seen of it was finite.
"""

import math

import numpy as np
import pandas as pd

from bnstudy.claims.measures import Reading, Run, measure, where
from bnstudy.errors import NotMeasuredError

PERCENTILES = ("q15", "q50", "q85")


@measure("drift")
def drift(run: Run, *, probe: str = "activations", tensor: str = "in", layer: str = "") -> Reading:
    """Return how far the percentiles of layers wander, in widths of their band.

    Of a layer: the total variation of its 15th, 50th and 85th percentile from
    record to record, averaged, over the mean distance of the outer two; then
    the mean over layers.
    """
    rows = _seen(run, probe, tensor, PERCENTILES)
    rows = rows[rows["layer"] == layer] if layer else rows
    drifts = []
    means = rows.groupby(["layer", "step", "stat"])["value"].mean().unstack("stat")
    for name, wide in means.groupby(level="layer"):
        wide = wide.dropna(axis="columns", how="all")
        if len(wide) < 2 or not set(PERCENTILES) <= set(wide.columns):
            continue
        traces = wide[list(PERCENTILES)].to_numpy(dtype=float)
        way = np.abs(np.diff(traces, axis=0)).sum(axis=0).mean()
        width = (traces[:, 2] - traces[:, 0]).mean()
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
    rows = _seen(run, probe, tensor, (stat,))
    rows = rows[rows["step"] <= end * run.steps_per_epoch]
    wide = rows.groupby(["step", "layer"])["value"].mean().unstack("layer")
    if not {upper, lower} <= set(wide.columns):
        raise NotMeasuredError(f"probe {probe} saw no {stat} of both {upper} and {lower}")
    values = wide[[upper, lower]].to_numpy(dtype=float)
    values = values[(values > 0).all(axis=1)]  # a step that leaves a layer alone has no ratio
    if not len(values):
        raise NotMeasuredError(f"{stat} of {upper} and {lower} is never positive in both")
    log_ratio = float(np.log(values[:, 0] / values[:, 1]).mean())
    return Reading(math.exp(abs(log_ratio) if distance else log_ratio))


@measure("probe-at-loss")
def probe_at_loss(
    run: Run, *, probe: str, stat: str, tensor: str, loss: float, layer: str = ""
) -> Reading:
    """Return what a probe saw when its own ``loss`` was first at most this, mean over layers.

    So that arms are compared at the same loss, not at the same step.  A run
    that does not get there is read where its loss was least, as censored.
    """
    rows = _seen(run, probe, tensor, (stat, "loss"))
    losses = rows[rows["stat"] == "loss"].groupby("step")["value"].mean()
    rows = rows[(rows["stat"] == stat) & rows["step"].isin(losses.index)]
    rows = rows[rows["layer"] == layer] if layer else rows
    losses = losses[losses.index.isin(rows["step"])]
    if losses.empty:
        raise NotMeasuredError(f"probe {probe} saw no {stat} beside a loss")
    there = losses[losses <= loss]
    step = losses.idxmin() if there.empty else there.index.min()
    value = float(rows.loc[rows["step"] == step, "value"].mean())
    return Reading(value, censored=there.empty)


def _seen(run: Run, probe: str, tensor: str, stats: tuple[str, ...]) -> pd.DataFrame:
    """Return what a probe saw of whole layers, and was finite."""
    found = where(run, {"probe": (probe,), "tensor": (tensor,), "stat": stats})
    found &= (run.measures["channel"] == -1).to_numpy()
    rows = run.measures.loc[found, ["step", "layer", "stat", "value"]]
    rows = rows.astype({"layer": str, "stat": str, "value": float})
    return rows[np.isfinite(rows["value"])] if run.diverged else rows
