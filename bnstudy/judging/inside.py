"""What a claim reads of probes where an average is not enough: drift, layers, matched loss.

A diverged run counts for as long as what was seen of it was finite.
"""

import math
from functools import reduce

import numpy as np

from bnstudy.errors import NotMeasuredError
from bnstudy.judging.measures import Reading, Run, measure, measured

PERCENTILES = ("q15", "q50", "q85")


@measure("drift")
def drift(run: Run, *, probe: str = "activations", tensor: str = "in", layer: str = "") -> Reading:
    """Return how far the percentiles of layers wander, in widths of their band.

    Of a layer: the total variation of its 15th, 50th and 85th percentile from
    record to record, averaged, over the mean distance of the outer two; then
    the mean over layers.
    """
    drifts = []
    for name in [layer] if layer else sorted(run.measures["layer"].unique()):
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
