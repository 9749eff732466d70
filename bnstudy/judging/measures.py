"""What a claim reads of one run: small named functions from a run to a number.

Each follows the same rule for a run that diverged: it stays, with the value of
a network that guesses, or censored at the horizon.  Add one with
:func:`measure`, from inside or outside the package.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bnstudy.config import RunConfig, check_choice
from bnstudy.errors import ConfigError, NotMeasuredError, find
from bnstudy.inference import log_deviations
from bnstudy.networks.lenet import CLASSES
from bnstudy.plan import Option

CHANCE = 1.0 / CLASSES
TEST_IMAGES = 10_000


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, as measures see it.

    Attributes
    ----------
    config
        Its settings.
    diverged
        Whether its loss stopped being finite.
    steps_per_epoch
        Optimizer steps in one epoch.
    curve, norms, measures
        Its rows of the store's tables, in the order of steps.
    readings
        What was read of it before: a claim's robustness rows often read the same.
    """

    config: RunConfig
    diverged: bool
    steps_per_epoch: int
    curve: pd.DataFrame
    norms: pd.DataFrame
    measures: pd.DataFrame
    readings: dict[Any, "Reading"] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Reading:
    """A number read of a run.

    Attributes
    ----------
    value
        Finite.
    censored
        Whether the true one is at least this, but was not seen.
    """

    value: float
    censored: bool = False


Measure = Callable[..., Reading]
MEASURES: dict[str, Measure] = {}


def measure(name: str) -> Callable[[Measure], Measure]:
    """Register a measure under a name that estimands can use.

    Raises
    ------
    ConfigError
        If the name is taken.
    """

    def register(function: Measure) -> Measure:
        if name in MEASURES:
            raise ConfigError(f"there is a measure {name!r} already: choose another name")
        MEASURES[name] = function
        return function

    return register


def find_measure(name: str, options: Mapping[str, Option]) -> Measure:
    """Return the measure of a name, if it takes these options.

    Raises
    ------
    ConfigError
        If there is no such measure, or it has no such option, or lacks one.
    """
    function = find("measure", name, MEASURES)
    try:
        inspect.signature(function).bind(None, **options)
    except TypeError as error:
        raise ConfigError(
            f"measure {name!r} does not take the options {dict(options)!r}: {error}"
        ) from None
    return function


def read(run: Run, name: str, options: Mapping[str, Option]) -> Reading:
    """Return what a measure reads of a run.

    Raises
    ------
    ConfigError
        If there is no such measure, or it does not take these options.
    NotMeasuredError
        If the run does not hold what it reads.
    """
    asked = name, *sorted(options.items())
    if asked not in run.readings:
        run.readings[asked] = find_measure(name, options)(run, **options)
    reading = run.readings[asked]
    if not math.isfinite(reading.value):
        raise NotMeasuredError(f"{name} is not finite")
    return reading


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
    return Reading(CHANCE if run.diverged else _test(run, "accuracy", epochs, statistics)[-1])


@measure("loss")
def loss(run: Run, *, epochs: float, statistics: str = "population") -> Reading:
    """Return test cross-entropy after ``epochs``; a diverged run guesses: log of the classes."""
    return Reading(
        math.log(CLASSES) if run.diverged else _test(run, "loss", epochs, statistics)[-1]
    )


@measure("accuracy-deviation")
def accuracy_deviation(
    run: Run, *, epochs: float, last: int, statistics: str = "population"
) -> Reading:
    """Return the standard deviation of test accuracy over the ``last`` epochs up to ``epochs``.

    At least 1 / the images tested on; a diverged run has this, guessing all along.
    """
    resolution = 1.0 / (run.config.test_images or TEST_IMAGES)
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
    check_choice("way to take a probe", take, ("mean", "last"))
    words = {"probe": probe, "stat": stat, "layer": layer, "tensor": tensor}
    steps, values = measured(run, {column: word for column, word in words.items() if word})
    epochs = steps / run.steps_per_epoch
    kept = (epochs >= start) & (epochs <= end) & (np.isfinite(values) | (not run.diverged))
    if not kept.any():
        raise NotMeasuredError(f"probe {probe} saw no {stat}" + (f" of {layer}" if layer else ""))
    if take == "last":
        kept &= steps == steps[kept].max()
    return Reading(float(values[kept].mean()))


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


def _watched(run: Run, column: str, epochs: float) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and what was measured there, up to a horizon the run was to be watched to."""
    if not 0 < epochs <= run.config.epochs:
        raise NotMeasuredError(f"{epochs:g} epochs are read, {run.config.epochs} are trained")
    steps, values = run.curve["step"].to_numpy(), run.curve[column].to_numpy(dtype=float)
    kept = (steps <= epochs * run.steps_per_epoch + 1e-9) & ~np.isnan(values)
    return steps[kept], values[kept]


def _test(run: Run, what: str, epochs: float, statistics: str, since: float = 0.0) -> np.ndarray:
    """Return a test figure at the ends of epochs after ``since`` up to a horizon, which is one."""
    check_choice("kind of statistics", statistics, ("population", "running"))
    column = f"test_{what}" + ("_population" if statistics == "population" else "")
    steps, values = _watched(run, column, epochs)
    if not len(steps) or steps[-1] != round(epochs * run.steps_per_epoch):
        raise NotMeasuredError(f"{column} was not measured after {epochs:g} epochs")
    return values[steps > since * run.steps_per_epoch + 1e-9]
