"""Probe ``gradient-shift``: internal covariate shift, measured by gradients.

How the gradient of a layer on a step's own batch changes when the layers below
it make that step and it does not (Santurkar, Tsipras, Ilyas & Madry 2018,
definition 2.1).
"""

from collections.abc import Iterator, Sequence, Set

import torch.nn.functional as F
from torch import Tensor

from bnstudy.activations import gradient_shift, snapshot
from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.base import NETWORK, WHOLE, Moments, Scene, Seen

LAYERS = ("conv2", "fc1", "fc2", "fc3")  # below the first there is nothing that moves
STATS = ("norm", "shift", "relative", "cosine")


class GradientShift(Moments):
    """Change of each layer's gradient G to G' by the update of the layers below it.

    Rows of each layer, ``tensor`` ``gradient``: ``norm`` of G, ``shift`` = |G' - G|,
    ``relative`` = shift / norm, ``cosine`` of G and G'; and of the layer
    ``network`` the ``loss`` of the batch before its step.

    Parameters
    ----------
    scene
        The run.
    epochs
        When to look, 0 standing for the first step: each is the moment before a step.
    layers
        By name, those with weights.
    """

    def __init__(
        self, scene: Scene, epochs: Sequence[float] = (0,), layers: Sequence[str] = LAYERS
    ) -> None:
        super().__init__(scene, epochs)
        self._layers = tuple(layers)
        self._before: dict[str, Tensor] | None = None

    def steps(self, per_epoch: int) -> Set[int]:
        """Return the moments, and the steps after them, whose change is looked at."""
        before = super().steps(per_epoch)
        return before | {count + 1 for count in before}

    def __call__(self, step: Step, training: Training) -> None:
        """Compare with the weights kept before this step, and keep those before the next."""
        if self._before is not None:
            self.note(step.count - 1, self.look(step, training))
        self._before = snapshot(training.net) if self.due(step) else None

    def look(self, step: Step, training: Training) -> Iterator[Seen]:
        """Return what the step just made did to the gradients."""
        images, labels = training.images, training.labels
        shifts = gradient_shift(
            training.net, lambda net: F.cross_entropy(net(images), labels), self._before or {}
        ).set_index("layer")
        for layer in self._layers:
            for stat in STATS:
                yield layer, "gradient", WHOLE, stat, float(shifts.loc[layer, stat])  # type: ignore[arg-type]
        yield NETWORK, "gradient", WHOLE, "loss", training.loss
