"""Probe ``generalization``: how much better a network does on its training images.

Training and test images are classified by the same weights, in evaluation, with
population statistics in all normalization layers.  The training figures of the
curve differ from these: they average over weights that still change, and over
batches with noisy statistics.  This noise is the larger the fewer images share
the statistics, raises the loss in training alone and so hides part of the gap.
"""

from collections.abc import Iterator, Sequence

from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ALL_CHANNELS,
    NETWORK,
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
    working_copy,
)
from bnstudy.engines.probes.uncertainty import probabilities, scores
from bnstudy.engines.reference import population_statistics


class Generalization(ScheduledProbe):
    """Loss and accuracy on training and on test images.

    Rows of the layer ``network``: ``loss`` (natural logarithm) and ``accuracy``
    (0..1) of the tensors ``train`` and ``test``; and of ``gap``, the amount by
    which each is better on training images.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure; the end of the run if not given.
    """

    def __init__(self, run: ProbedRun, epochs: Sequence[float] = ()) -> None:
        super().__init__(run, epochs or (run.config.epochs,))

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return loss and accuracy at the current weights."""
        splits = self.run.splits
        found = {}
        with working_copy(training.net) as copy, population_statistics(copy, splits.population):
            for name, images in (("train", splits.train), ("test", splits.test)):
                of = scores(probabilities(copy.eval(), images), images.labels.numpy())
                found[name] = {"loss": of["nll"], "accuracy": of["accuracy"]}
        train, test = found["train"], found["test"]
        found["gap"] = {
            "loss": test["loss"] - train["loss"],
            "accuracy": train["accuracy"] - test["accuracy"],
        }
        for tensor, figures in found.items():
            for stat, value in figures.items():
                yield NETWORK, tensor, ALL_CHANNELS, stat, value
