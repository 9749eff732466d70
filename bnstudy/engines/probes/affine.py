"""Probe ``affine``: gamma and beta of every normalization layer, channel by channel."""

from collections.abc import Iterator

from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import ProbedValue, ScheduledProbe
from bnstudy.networks import norm_layers
from bnstudy.networks.norm import parameters_of


class Affine(ScheduledProbe):
    """Learned scales and shifts; tensors ``gamma`` and ``beta``, stat ``value``.

    A network without normalization has no rows.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done.
    """

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return the current gamma and beta, one value per channel."""
        for name, layer in norm_layers(training.net).items():
            state = parameters_of(layer)
            for tensor, values in (("gamma", state.gamma), ("beta", state.beta)):
                for channel, value in enumerate(values.detach().double().cpu().tolist()):
                    yield name, tensor, channel, "value", value
