"""Plots of a recording (F38)."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnstudy.activations import plots
from bnstudy.errors import WatchError

PICTURES = {
    "percentiles": lambda r, ax: plots.percentiles(r, "0", ax=ax),
    "heat": lambda r, ax: plots.heat(r, "0", ax=ax),
    "gradient heat": lambda r, ax: plots.heat(r, "0", tensor="grad", ax=ax),
    "layers": lambda r, ax: plots.layers(r, "std", ax=ax),
    "lines": lambda r, ax: plots.lines(r, "std", tensor="grad", ax=ax),
    "shares": lambda r, ax: plots.shares(r, ax=ax),
    "ratios": lambda r, ax: plots.ratios(r, ax=ax),
    "compare": lambda r, ax: plots.compare({"a": r, "b": r}, "0", "quantiles", ax=ax),
    "affine": lambda r, ax: plots.affine(r, "1", ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_f38_every_picture_draws_on_the_axes_given_and_returns_them(recording, name):
    ax = Figure().subplots()
    assert PICTURES[name](recording, ax) is ax
    assert ax.get_xlabel() == "Optimizer steps done"
    assert isinstance(PICTURES[name](recording, None), Axes)


def test_f38_the_median_drawn_is_the_recorded_one(recording):
    ax = recording.plot("0", "quantiles")
    drawn = ax.get_lines()[1].get_ydata()
    assert list(drawn) == recording.frame("q50", layer="0", tensor="out")["value"].tolist()


def test_f38_the_colours_of_a_layer_map_are_the_recorded_numbers(recording):
    ax = recording.plot(what="std")
    expected = recording.frame("std", tensor="out", wide=True).T.to_numpy()
    assert np.array_equal(ax.collections[0].get_array(), expected)


def test_f38_a_picture_of_what_was_not_recorded_is_refused(recording):
    with pytest.raises(WatchError, match="there is no recorded stat 'skewness'"):
        recording.plot("0", "skewness")
    with pytest.raises(WatchError, match="has several: ask for one label"):
        plots.layers(recording, "quantiles")
