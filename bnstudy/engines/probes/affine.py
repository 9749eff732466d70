"""Probe ``affine``: gamma and beta of every normalization layer, channel by channel."""

from collections.abc import Iterator

from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.base import Moments, Seen
from bnstudy.networks.lenet import norm_layers
from bnstudy.networks.norm import parameters_of


class Affine(Moments):
    """What layers learn to scale and shift by; tensors ``gamma`` and ``beta``, stat ``value``.

    A network without normalization has no rows.

    Parameters
    ----------
    scene
        The run.
    epochs
        When to look.
    """

    def look(self, step: Step, training: Training) -> Iterator[Seen]:
        """Return gamma and beta of now, a number a channel."""
        for name, layer in norm_layers(training.net).items():
            state = parameters_of(layer)
            for tensor, values in (("gamma", state.gamma), ("beta", state.beta)):
                for channel, value in enumerate(values.detach().double().cpu().tolist()):
                    yield name, tensor, channel, "value", value
