"""Measures of learning curves: steps to a target, accuracy, loss, what training reached."""

import numpy as np
import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.errors import ConfigError, NotMeasuredError, unknown
from bnstudy.inference import log_deviations
from bnstudy.judging.measures.registry import measure
from bnstudy.judging.measures.run import Reading, Run

STATISTICS = ("population", "running")
AFTER = 1e-9  # epochs and steps are compared as floats


@measure("steps-to-target")
def steps_to_target(
    run: Run, *, target: float, epochs: float = 0.0, column: str = "validation_accuracy"
) -> Reading:
    """Return optimizer steps until ``column`` first reaches ``target``.

    A run that does not reach it within ``epochs`` (0: all of its epochs), or
    diverges before, is censored there: min(T, horizon).
    """
    epochs = epochs or run.config.epochs
    steps, values = _watched(run, column, epochs)
    if not (run.diverged or len(values)):
        raise NotMeasuredError(f"{column} was not measured")
    there = steps[values >= target]
    if not len(there):
        return Reading(float(round(epochs * run.steps_per_epoch)), censored=True)
    return Reading(float(there[0]))


@measure("accuracy")
def accuracy(run: Run, *, epochs: float, statistics: str = "population") -> Reading:
    """Return test accuracy in 0..1 after ``epochs``; a diverged run guesses among the classes.

    ``statistics`` are the ``population`` statistics re-estimated on training
    images, or the ``running`` averages.
    """
    if run.diverged:
        return Reading(run.data.chance)
    return Reading(_test(run, "accuracy", epochs, statistics)[-1])


@measure("loss")
def loss(run: Run, *, epochs: float, statistics: str = "population") -> Reading:
    """Return test cross-entropy after ``epochs``; a diverged run guesses: log of the classes."""
    if run.diverged:
        return Reading(run.data.guessing_loss)
    return Reading(_test(run, "loss", epochs, statistics)[-1])


@measure("accuracy-deviation")
def accuracy_deviation(
    run: Run, *, epochs: float, last: int, statistics: str = "population"
) -> Reading:
    """Return the standard deviation of test accuracy over the ``last`` epochs up to ``epochs``.

    At least 1 / the images tested on; a diverged run has this, guessing all along.
    """
    asked, there = run.config.test_images, run.data.test_images
    resolution = 1.0 / min(asked or there, there)
    if run.diverged:
        return Reading(resolution)
    values = _test(run, "accuracy", epochs, statistics, since=epochs - last)
    if len(values) < max(last, 2):
        raise NotMeasuredError(f"test accuracy was not measured in each of the last {last} epochs")
    return Reading(float(np.exp(log_deviations(values[None], resolution)[0])))


@measure("trains")
def trains(run: Run, *, threshold: float, epochs: float) -> Reading:
    """Return 1 if training accuracy reaches ``threshold`` within ``epochs``, else 0.

    Not whether the loss is finite: sigmoids stay finite and learn nothing.
    """
    _, values = _watched(run, "train_accuracy", epochs)
    return Reading(float((values >= threshold).any() and not run.diverged))


@measure("best-accuracy")
def best_accuracy(run: Run, *, epochs: float = 0.0) -> Reading:
    """Return the best accuracy within ``epochs`` (0: all of them), on :func:`watched_images`.

    Of a run that diverged, the last accuracy, which it may have fallen to; that of guessing
    if it has none.
    """
    column = f"{watched_images(run.config)}_accuracy"
    _, values = _watched(run, column, epochs or run.config.epochs)
    if run.diverged:
        return Reading(float(values[-1]) if len(values) else run.data.chance)
    if not len(values):
        raise NotMeasuredError(f"{column} was not measured")
    return Reading(float(values.max()))


@measure("late-change")
def late_change(run: Run, *, column: str, last: float, epochs: float = 0.0) -> Reading:
    """Return the change of a column over the ``last`` epochs up to ``epochs`` (0: all of them).

    0 of a diverged run, which guesses from then on.
    """
    if run.diverged:
        return Reading(0.0)
    end = epochs or run.config.epochs
    before, after = (_measured_after(run, column, moment) for moment in (end - last, end))
    return Reading(after - before)


@measure("latest")
def latest(run: Run, *, column: str, epochs: float = 0.0) -> Reading:
    """Return the last value of a test or validation column up to ``epochs`` (0: all of them).

    A diverged run guesses among the classes: leaving it out would flatter its arm.
    """
    if run.diverged:
        return Reading(run.data.chance if "accuracy" in column else run.data.guessing_loss)
    _, values = _watched(run, column, epochs or run.config.epochs)
    if not len(values):
        raise NotMeasuredError(f"{column} was not measured")
    return Reading(float(values[-1]))


@measure("statistics-gain")
def statistics_gain(run: Run) -> Reading:
    """Return test accuracy by population statistics less that by running averages.

    The mean over the epochs after which both were measured; of a run that diverged, over
    those that it finished.
    """
    running, population = (
        run.curve[column].to_numpy(dtype=float)
        for column in ("test_accuracy", "test_accuracy_population")
    )
    both = ~np.isnan(running) & ~np.isnan(population)
    if not both.any():
        raise NotMeasuredError("test accuracy was not measured by both kinds of statistics")
    return Reading(float(population[both].mean() - running[both].mean()))


@measure("images-per-epoch")
def images_per_epoch(run: Run) -> Reading:
    """Return how many images an epoch trains on."""
    epochs = run.curve["epoch"].to_numpy(dtype=float)
    ends = np.abs(epochs - np.round(epochs)) < AFTER
    if not ends.any():
        raise NotMeasuredError("no epoch was finished")
    images = run.curve["images"].to_numpy(dtype=float)
    return Reading(float((images[ends] / epochs[ends]).max()))


@measure("images-trained")
def images_trained(run: Run) -> Reading:
    """Return how many images a run was trained on, counted as often as they were seen."""
    if run.curve.empty:
        raise NotMeasuredError("no evaluation point was reached")
    return Reading(float(run.curve["images"].iloc[-1]))


def curve_points(run: Run, *columns: str) -> pd.DataFrame:
    """Return the rows of a curve in which all of some columns were measured, with ``epoch``."""
    points = run.curve[["epoch", *columns]]
    return points[points[list(columns)].notna().all(axis=1)]


def epoch_means(run: Run) -> pd.DataFrame:
    """Return training loss and accuracy as means since the start of each epoch.

    A curve's training figures are means since the row before; weighted by the
    images between two rows they add up to what the notes print.

    Returns
    -------
    pandas.DataFrame
        Columns ``epoch``, ``train_loss``, ``train_accuracy``.
    """
    curve = run.curve
    weights = np.diff(curve["images"].to_numpy(dtype=float), prepend=0.0)
    number = np.ceil(curve["epoch"].to_numpy(dtype=float) - AFTER)  # 1 in the first epoch
    seen = pd.Series(weights).groupby(number).cumsum().to_numpy()
    means = {"epoch": curve["epoch"].to_numpy(dtype=float)}
    for column in ("train_loss", "train_accuracy"):
        sums = pd.Series(weights * curve[column].to_numpy(dtype=float)).groupby(number).cumsum()
        means[column] = sums.to_numpy() / seen
    return pd.DataFrame(means)


def watched_images(config: RunConfig) -> str:
    """Return the images that training is watched on: ``validation``, or ``train`` without them."""
    return "train" if config.train_split == "all" else "validation"


def _watched(run: Run, column: str, epochs: float) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and what was measured there, up to a horizon the run was to be watched to."""
    if not 0 < epochs <= run.config.epochs:
        raise NotMeasuredError(f"{epochs} epochs are read, {run.config.epochs} are trained")
    steps, values = run.curve["step"].to_numpy(), run.curve[column].to_numpy(dtype=float)
    kept = (steps <= epochs * run.steps_per_epoch + AFTER) & ~np.isnan(values)
    return steps[kept], values[kept]


def _measured_after(run: Run, column: str, epochs: float) -> float:
    """Return what was measured right after some epochs, not before."""
    steps, values = _watched(run, column, epochs)
    if not len(steps) or steps[-1] != round(epochs * run.steps_per_epoch):
        raise NotMeasuredError(f"{column} was not measured after {epochs} epochs")
    return float(values[-1])


def _test(run: Run, what: str, epochs: float, statistics: str, since: float = 0.0) -> np.ndarray:
    """Return a test figure at the ends of epochs after ``since`` up to a horizon, which is one."""
    if statistics not in STATISTICS:
        raise ConfigError(unknown("kind of statistics", statistics, STATISTICS))
    column = f"test_{what}" + ("_population" if statistics == "population" else "")
    steps, values = _watched(run, column, epochs)
    if not len(steps) or steps[-1] != round(epochs * run.steps_per_epoch):
        raise NotMeasuredError(f"{column} was not measured after {epochs} epochs")
    return values[steps > since * run.steps_per_epoch + AFTER]
