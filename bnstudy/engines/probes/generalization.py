"""Probe ``generalization``: how much better a network does on the images it was trained on.

Training and test images are classified by the same weights, in evaluation, with
population statistics in all normalization layers.  The training figures of the
curve are something else: they are of weights on their way, and of batches whose
statistics are noisy, the more so the smaller the groups, which costs loss in
training alone and so hides part of the gap.
"""

from collections.abc import Iterator, Sequence

from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.base import NETWORK, WHOLE, Moments, Scene, Seen, twin_of
from bnstudy.engines.probes.uncertainty import probabilities, scores
from bnstudy.engines.reference import population_statistics


class Generalization(Moments):
    """Loss and accuracy on training and on test images.

    Rows of the layer ``network``: ``loss`` (natural logarithm) and ``accuracy``
    (0..1) of the tensors ``train`` and ``test``; and of ``gap``, by how much each
    is better in training.

    Parameters
    ----------
    scene
        The run.
    epochs
        When to look; the end of the run if not given.
    """

    def __init__(self, scene: Scene, epochs: Sequence[float] = ()) -> None:
        super().__init__(scene, epochs or (scene.config.epochs,))

    def look(self, step: Step, training: Training) -> Iterator[Seen]:
        """Return the figures at the weights of now."""
        splits = self.scene.splits
        found = {}
        with twin_of(training.net) as twin, population_statistics(twin, splits.population):
            for name, images in (("train", splits.train), ("test", splits.test)):
                of = scores(probabilities(twin.eval(), images), images.labels.numpy())
                found[name] = {"loss": of["nll"], "accuracy": of["accuracy"]}
        train, test = found["train"], found["test"]
        found["gap"] = {
            "loss": test["loss"] - train["loss"],
            "accuracy": train["accuracy"] - test["accuracy"],
        }
        for tensor, figures in found.items():
            for stat, value in figures.items():
                yield NETWORK, tensor, WHOLE, stat, value
