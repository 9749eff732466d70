"""Measures and series of learning curves, and of final parameters: worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from bnstudy.config import RunConfig
from bnstudy.errors import NotMeasuredError
from bnstudy.judging.measures import Run, epoch_means, read, sorted_parameters
from tests.identities import FASHION, PETS

EMPTY = pd.DataFrame()


def run(curve, *, norms=EMPTY, diverged=False, data=FASHION, **settings):
    config = RunConfig(epochs=2, **settings)
    return Run(config, diverged, 10, pd.DataFrame(curve), norms, EMPTY, data)


CURVE = {
    "step": [4, 10, 14, 20],
    "epoch": [0.4, 1.0, 1.4, 2.0],
    "images": [40, 100, 140, 200],  # intervals of 40, 60, 40, 60 images
    "train_loss": [2.0, 1.0, 0.5, 0.25],
    "train_accuracy": [0.1, 0.6, 0.8, 0.9],
    "validation_accuracy": [0.2, 0.7, 0.6, 0.8],
    "test_accuracy": [np.nan, 0.6, np.nan, 0.8],
    "test_accuracy_population": [np.nan, 0.7, 0.9, 0.9],
}


def cut(rows):
    """The first rows of the curve."""
    return {column: values[:rows] for column, values in CURVE.items()}


def test_epoch_means_start_again_with_each_epoch_and_weigh_by_images():
    means = epoch_means(run(CURVE))
    np.testing.assert_allclose(means["train_loss"], [2.0, 1.4, 0.5, 0.35])
    np.testing.assert_allclose(means["train_accuracy"], [0.1, 0.4, 0.8, 0.86])


def test_an_epoch_has_the_images_that_were_trained_on_by_its_end():
    assert read(run(CURVE), "images-per-epoch", {}).value == 100
    with pytest.raises(NotMeasuredError, match=r"^no epoch was finished$"):
        read(run(cut(1)), "images-per-epoch", {})


def test_the_gain_of_population_statistics_is_the_mean_over_epochs_with_both():
    gain = read(run(CURVE), "statistics-gain", {}).value
    assert gain == pytest.approx((0.1 + 0.1) / 2)
    lost = read(run(cut(2), diverged=True), "statistics-gain", {}).value
    assert lost == pytest.approx(0.1)  # of the one epoch that it finished


def test_the_best_accuracy_is_on_validation_images_where_some_are_held_out():
    assert read(run(CURVE), "best-accuracy", {}).value == 0.8
    assert read(run(CURVE), "best-accuracy", {"epochs": 1.5}).value == 0.7
    assert read(run(CURVE, train_split="all"), "best-accuracy", {}).value == 0.9
    assert read(run(cut(3), diverged=True), "best-accuracy", {}).value == 0.6  # the last
    assert read(run(cut(0), diverged=True, data=PETS), "best-accuracy", {}).value == 0.25
    with pytest.raises(NotMeasuredError, match=r"^validation_accuracy was not measured$"):
        read(run(cut(0)), "best-accuracy", {})


def test_a_late_change_is_read_at_the_ends_of_the_epochs_named():
    options = {"column": "test_accuracy", "last": 1}
    assert read(run(CURVE), "late-change", options).value == pytest.approx(0.2)
    between = {"column": "test_accuracy_population", "last": 1, "epochs": 1.4}
    with pytest.raises(NotMeasuredError, match=r"^test_accuracy_population was not measured after"):
        read(run(CURVE), "late-change", between)
    with pytest.raises(NotMeasuredError, match=r"^0 epochs are read, 2 are trained$"):
        read(run(CURVE), "late-change", {**options, "last": 2})
    assert read(run(cut(1), diverged=True), "late-change", options).value == 0.0


def test_the_latest_value_is_that_of_the_horizon_and_of_guessing_once_diverged():
    options = {"column": "validation_accuracy"}
    assert read(run(CURVE), "latest", options).value == 0.8
    assert read(run(CURVE), "latest", {**options, "epochs": 1.5}).value == 0.6
    assert read(run(cut(2), diverged=True), "latest", options).value == 1 / 10
    loss = read(run(cut(2), diverged=True), "latest", {"column": "validation_loss"}).value
    assert loss == pytest.approx(math.log(10))


@pytest.mark.parametrize(("data", "classes"), [(FASHION, 10), (PETS, 4)])
def test_a_diverged_run_guesses_among_the_classes_of_its_images(data, classes):
    lost = run(cut(2), diverged=True, data=data)
    assert read(lost, "accuracy", {"epochs": 1}).value == pytest.approx(1 / classes)
    assert read(lost, "loss", {"epochs": 1}).value == pytest.approx(math.log(classes))
    options = {"column": "test_loss"}
    assert read(lost, "latest", options).value == pytest.approx(math.log(classes))


@pytest.mark.parametrize(
    ("data", "asked", "images"), [(FASHION, 0, 10_000), (FASHION, 50, 50), (PETS, 50, 40)]
)
def test_accuracy_is_resolved_to_one_of_the_images_tested_on(data, asked, images):
    lost = run(cut(2), diverged=True, data=data, test_images=asked)
    reading = read(lost, "accuracy-deviation", {"epochs": 2, "last": 2})
    assert reading.value == pytest.approx(1 / images)


def test_a_target_that_was_reached_before_a_run_diverged_is_reached():
    options = {"target": 0.7, "epochs": 2.0}
    assert read(run(cut(2), diverged=True), "steps-to-target", options).value == 10
    late = read(run(cut(1), diverged=True), "steps-to-target", options)
    assert (late.value, late.censored) == (20, True)


def test_parameters_are_ranked_from_the_smallest_and_without_those_that_are_not_finite():
    norms = pd.DataFrame(
        {
            "layer": ["norm1"] * 3 + ["norm2"],
            "channel": [0, 1, 2, 0],
            "gamma": [3.0, np.nan, 1.0, 9.0],
            "beta": [0.5, -0.5, 0.0, 9.0],
        }
    )
    found = sorted_parameters(run(CURVE, norms=norms), "norm1")
    by_parameter = {name: list(rows["value"]) for name, rows in found.groupby("parameter")}
    assert by_parameter == {"gamma": [1.0, 3.0], "beta": [-0.5, 0.0, 0.5]}
    assert list(found.loc[found["parameter"] == "beta", "rank"]) == [1, 2, 3]
