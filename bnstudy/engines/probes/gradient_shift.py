"""Probe ``gradient-shift``: internal covariate shift, measured by gradients.

The gradient of a layer on the batch of a step, before and after the layers below
it take that step while it does not (Santurkar, Tsipras, Ilyas & Madry 2018,
definition 2.1).
"""

from collections.abc import Iterator, Sequence, Set

import torch.nn.functional as F
from torch import Tensor

from bnstudy.activations import gradient_shift, snapshot
from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ALL_CHANNELS,
    NETWORK,
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
)
from bnstudy.errors import find
from bnstudy.networks import layers_with_weights

STATS = ("norm", "shift", "relative", "cosine")


class GradientShift(ScheduledProbe):
    """Change of each layer's gradient G to G' by the update of the layers below it.

    Rows of each layer, ``tensor`` ``gradient``: ``norm`` of G, ``shift`` = |G' - G|,
    ``relative`` = shift / norm, ``cosine`` of G and G'; and of the layer
    ``network`` the ``loss`` of the batch before its step.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done before the step: 0 is the first step.
    layers
        By name, those with weights; by default all but the first, which has no layer below
        it that could move.
    """

    def __init__(
        self, run: ProbedRun, epochs: Sequence[float] = (0,), layers: Sequence[str] = ()
    ) -> None:
        super().__init__(run, epochs)
        self._layers = tuple(layers)
        self._before: dict[str, Tensor] | None = None

    def steps(self, per_epoch: int) -> Set[int]:
        """Return the scheduled steps, and the steps after them, whose change is measured."""
        before = super().steps(per_epoch)
        return before | {count + 1 for count in before}

    def __call__(self, step: Step, training: Training) -> None:
        """Compare with the weights kept before this step, and keep those before the next."""
        if self._before is not None:
            self.keep(step.count - 1, self.measure(step, training))
        self._before = snapshot(training.net) if self.is_scheduled(step) else None

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return the change of the gradients by the step just made."""
        images, labels = training.images, training.labels
        shifts = gradient_shift(
            training.net, lambda net: F.cross_entropy(net(images), labels), self._before or {}
        ).set_index("layer")
        layers = layers_with_weights(training.net)
        for layer in self._layers or list(layers)[1:]:
            find("layer with weights", layer, layers)
            for stat in STATS:
                yield layer, "gradient", ALL_CHANNELS, stat, float(shifts.loc[layer, stat])  # type: ignore[arg-type]
        yield NETWORK, "gradient", ALL_CHANNELS, "loss", training.loss
