"""Measures of what probes saw: worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from bnstudy.config import RunConfig
from bnstudy.errors import NotMeasuredError
from bnstudy.judging.measures import Run, channel_percentiles, read
from tests.identities import FASHION


def run(rows, *, probe="activations", tensor="in", diverged=False):
    """A run in which a probe saw some (step, layer, stat, value)."""
    frame = pd.DataFrame(rows, columns=["step", "layer", "stat", "value"])
    frame = frame.assign(probe=probe, tensor=tensor, channel=-1)
    words = ["probe", "layer", "tensor", "stat"]
    frame[words] = frame[words].astype("category")  # as the store has them
    empty = pd.DataFrame()
    return Run(RunConfig(epochs=4), diverged, 100, empty, empty, frame, FASHION)


def traces(layer, **values):
    return [
        (10 * k, layer, stat, value)
        for stat, column in values.items()
        for k, value in enumerate(column)
    ]


# ways 2, 4 and 0 over widths 4, 4 and 4: a mean of 2 over 4; and one that stands still
MOVING = traces("act1", q15=(0.0, 1.0, 0.0), q50=(2.0, 4.0, 2.0), q85=(4.0, 4.0, 4.0))
STILL = traces("act2", q15=(0.0, 0.0), q50=(1.0, 1.0), q85=(2.0, 2.0))


def test_drift_is_the_way_of_the_percentiles_in_widths_of_their_band():
    width = np.mean([4.0, 3.0, 4.0])
    assert read(run(MOVING), "drift", {}).value == pytest.approx(2.0 / width)
    assert read(run([*MOVING, *STILL]), "drift", {}).value == pytest.approx(1.0 / width)
    assert read(run([*MOVING, *STILL]), "drift", {"layer": "act2"}).value == 0.0
    nameless = run([*MOVING, *STILL, (0, "", "loss", 2.3)])  # no layer, not all layers
    assert read(nameless, "drift", {}).value == pytest.approx(1.0 / width)
    with pytest.raises(NotMeasuredError, match="no percentiles at two steps"):
        read(run(MOVING[:1]), "drift", {})


def test_a_step_without_all_its_percentiles_counts_for_no_drift():
    """A run that diverges may have finite lower percentiles at its last step."""
    last = (30, "act1", "q15", -50.0), (30, "act1", "q50", 0.0), (30, "act1", "q85", math.inf)
    gone = run([*MOVING, *last], diverged=True)
    assert read(gone, "drift", {}) == read(run(MOVING), "drift", {})


def test_a_done_run_that_lacks_a_percentile_measures_no_drift():
    for odd in ([], [(30, "act1", "q85", math.nan)]):
        rows = [*MOVING, (30, "act1", "q15", 0.0), (30, "act1", "q50", 0.0), *odd]
        with pytest.raises(NotMeasuredError):
            read(run(rows), "drift", {})


def test_percentiles_without_a_width_measure_no_drift():
    flat = traces("act3", q15=(1.0, 2.0), q50=(1.0, 2.0), q85=(1.0, 2.0))
    with pytest.raises(NotMeasuredError, match="percentiles of act3 have no width"):
        read(run([*MOVING, *flat]), "drift", {})


PACE = {"stat": "update_ratio", "tensor": "weight", "upper": "fc3", "lower": "conv1", "end": 1.0}
UPDATES = [
    *((step, "fc3", "update_ratio", value) for step, value in ((0, 2.0), (100, 8.0), (200, 99.0))),
    *((step, "conv1", "update_ratio", value) for step, value in ((0, 4.0), (100, 64.0), (200, 1))),
]


def test_the_ratio_of_layers_is_a_geometric_mean_over_the_epoch():
    found = run(UPDATES, tensor="weight")
    assert read(found, "layer-ratio", PACE).value == pytest.approx(0.25)  # of 1/2 and 1/8
    assert read(found, "layer-ratio", {**PACE, "distance": True}).value == pytest.approx(4.0)
    still = [*UPDATES, (50, "fc3", "update_ratio", 0.0), (50, "conv1", "update_ratio", 1.0)]
    assert read(run(still, tensor="weight"), "layer-ratio", PACE).value == pytest.approx(0.25)
    with pytest.raises(NotMeasuredError, match="of both fc3 and conv1"):
        read(run(UPDATES[:3], tensor="weight"), "layer-ratio", PACE)


LOSSES = [(0, "", "loss", 2.3), (10, "", "loss", 0.9), (20, "", "loss", 1.1), (30, "", "loss", 0.5)]
CHANGES = [
    (step, layer, "relative", value * (1 if layer == "fc1" else 3))
    for step, value in ((0, 1.0), (10, 2.0), (20, 3.0), (30, 4.0))
    for layer in ("fc1", "fc2")
]
AT = {"probe": "gradient-shift", "tensor": "gradient", "stat": "relative"}


@pytest.mark.parametrize(
    ("loss", "layer", "value", "censored"),
    [
        (1.0, "", 4.0, False),  # first at step 10: 2 and 6
        (1.0, "fc1", 2.0, False),
        (3.0, "fc1", 1.0, False),
        (0.1, "fc2", 12.0, True),
    ],
)
def test_arms_are_read_where_they_first_reach_the_same_loss(loss, layer, value, censored):
    found = run([*LOSSES, *CHANGES], probe="gradient-shift", tensor="gradient")
    reading = read(found, "probe-at-loss", {**AT, "loss": loss, "layer": layer})
    assert (reading.value, reading.censored) == (value, censored)


def test_what_is_nan_at_the_loss_is_not_read_somewhere_else():
    rows = [*LOSSES, *CHANGES[:2], (10, "fc1", "relative", math.nan), *CHANGES[4:]]
    found = run(rows, probe="gradient-shift", tensor="gradient")
    with pytest.raises(NotMeasuredError, match="not finite"):
        read(found, "probe-at-loss", {**AT, "loss": 1.0, "layer": "fc1"})
    assert read(found, "probe-at-loss", {**AT, "loss": 0.6, "layer": "fc1"}).value == 4.0
    blind = run([(0, "", "loss", math.nan), *CHANGES], probe="gradient-shift", tensor="gradient")
    with pytest.raises(NotMeasuredError, match="beside a loss"):
        read(blind, "probe-at-loss", {**AT, "loss": 1.0})


def test_a_diverged_run_is_read_while_it_was_finite():
    rows = [*LOSSES, *CHANGES, (40, "", "loss", math.nan), (40, "fc1", "relative", math.nan)]
    found = run(rows, probe="gradient-shift", tensor="gradient", diverged=True)
    assert read(found, "probe-at-loss", {**AT, "loss": 0.1, "layer": "fc1"}).value == 4.0
    with pytest.raises(NotMeasuredError, match="saw no curl beside a loss"):
        read(found, "probe-at-loss", {**AT, "stat": "curl", "loss": 1.0})


def histograms(layer, *records):
    return [
        (10 * k, layer, f"hist[{low},{low + 1})", share)
        for k, record in enumerate(records)
        for low, share in enumerate(record)
    ]


def test_histograms_change_by_half_the_sum_of_their_differences_mean_over_layers():
    # |.4| + |-.1| + |-.3| halved since the start, |.1| + |-.1| + 0 halved since the record before
    moving = histograms("act1", (0.1, 0.4, 0.5), (0.4, 0.4, 0.2), (0.5, 0.3, 0.2))
    still = histograms("act2", (0.2, 0.8, 0.0), (0.2, 0.8, 0.0))
    lone = histograms("act3", (1.0, 0.0, 0.0))
    found = run([*moving, *still, *lone])
    for layers, since, change in (
        ("act1", "start", 0.4),
        ("act1", "before", 0.1),
        ("act2", "start", 0.0),
        ("act1 act2", "start", 0.2),
        ("act1 act2 act3", "start", 0.2),
    ):
        reading = read(found, "histogram-change", {"layer": layers, "since": since})
        assert reading.value == pytest.approx(change)
    with pytest.raises(NotMeasuredError, match="no two histograms of act3"):
        read(found, "histogram-change", {"layer": "act3"})


def test_a_diverged_run_has_no_histogram_at_its_end():
    rows = histograms("act1", (0.1, 0.9), (0.3, 0.7), (math.nan, math.nan))
    reading = read(run(rows, diverged=True), "histogram-change", {"layer": "act1"})
    assert reading.value == pytest.approx(0.2)


def channels(*rows):
    found = run([(step, "norm1", "value", value) for step, _, value in rows], probe="affine")
    measures = found.measures.assign(channel=[channel for _, channel, _ in rows])
    return Run(found.config, found.diverged, 100, found.curve, found.norms, measures, FASHION)


def test_channels_move_by_the_root_mean_square_of_their_distances_at_the_last_record():
    found = channels((0, 0, 1.0), (0, 1, 1.0), (50, 0, 4.0), (50, 1, -3.0), (100, 1, math.nan))
    asked = {"layer": "norm1", "tensor": "in", "start": 1.0}
    reading = read(found, "distance-from-start", asked)
    assert reading.value == pytest.approx(math.sqrt((9 + 16) / 2))


def test_percentiles_over_channels_are_linear_between_values():
    rows = channel_percentiles(channels(*((50, k, float(k)) for k in range(11))), "affine", "in",
                               ["norm1"])  # fmt: skip
    assert rows.to_dict("list") == {
        "layer": ["norm1"], "epoch": [0.5], "q15": [1.5], "q50": [5.0], "q85": [8.5]
    }  # fmt: skip
    nothing = channel_percentiles(channels(), "affine", "in", ["norm1"])
    assert nothing.empty
