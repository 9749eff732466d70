"""The protocol of probes, and the class that those at scheduled steps share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bnstudy.activations.model_copies import generators_kept, shared_copy
from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import Images, Splits, scale
from bnstudy.engines.observer import Training
from bnstudy.engines.run_record import MEASURE_COLUMNS
from bnstudy.errors import ConfigError
from bnstudy.networks import StreamDropout

ProbedValue: TypeAlias = tuple[str, str, int, str, float]  # layer, tensor, channel, stat, value
NETWORK = "network"  # the layer of a value that concerns the whole network
ALL_CHANNELS = -1  # the channel of a value that concerns a whole layer


class Probe(Protocol):
    """An observer that ends with a table."""

    def __call__(self, step: Step, training: Training) -> None:
        """Observe a run, first at step 0."""

    def close(self) -> pd.DataFrame:
        """End; return what was measured: all of ``MEASURE_COLUMNS`` but ``probe``."""


@dataclass(frozen=True)
class ProbedRun:
    """The run that a probe is made for.

    Attributes
    ----------
    config, seed
        Determine the run.
    splits
        Its images.
    """

    config: RunConfig
    seed: int
    splits: Splits

    def stream(self, purpose: str) -> np.random.Generator:
        """Return the probe's own generator, independent of all that the run draws from."""
        return stream(self.seed, f"probe {purpose}")


def table(rows: Iterable[tuple[int, str, str, int, str, float]]) -> pd.DataFrame:
    """Return the table of a probe from (step, layer, tensor, channel, stat, value) of each row.

    Without rows it has the same columns and types.
    """
    frame = pd.DataFrame(list(rows), columns=list(MEASURE_COLUMNS[1:]))
    types = {"step": np.int64, "channel": np.int64, "value": np.float64}
    return frame.astype(types | dict.fromkeys(("layer", "tensor", "stat"), str))


def check_epochs(run: ProbedRun, epochs: Sequence[float]) -> None:
    """Refuse moments, in epochs done, that are not within a run."""
    if not epochs or not all(0 <= epoch <= run.config.epochs for epoch in epochs):
        raise ConfigError(
            f"a probe measures within 0..{run.config.epochs} epochs, got {list(epochs)!r}"
        )


def steps_at(epochs: Iterable[float], per_epoch: int) -> set[int]:
    """Return the steps that are nearest to some moments in epochs done."""
    return {round(epoch * per_epoch) for epoch in epochs}


class ScheduledProbe(ABC):
    """A probe that measures at scheduled steps: subclasses implement ``measure``.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done: 0 before the first step, 1.5 in the middle
        of the second epoch; rounded to steps.

    Raises
    ------
    ConfigError
        If one of ``epochs`` is not within the run.
    """

    def __init__(self, run: ProbedRun, epochs: Sequence[float] = (0,)) -> None:
        check_epochs(run, epochs)
        self.run, self.epochs = run, tuple(epochs)
        self._rows: list[tuple[int, str, str, int, str, float]] = []

    def steps(self, per_epoch: int) -> Set[int]:
        """Return after how many steps the probe is called."""
        return steps_at(self.epochs, per_epoch)

    def __call__(self, step: Step, training: Training) -> None:
        """Measure, if this step is scheduled."""
        if self.is_scheduled(step):
            self.keep(step.count, self.measure(step, training))

    def keep(self, count: int, values: Iterable[ProbedValue]) -> None:
        """Append the values measured after ``count`` steps to the table."""
        self._rows += [(count, *value) for value in values]

    def is_scheduled(self, step: Step) -> bool:
        """Return whether to measure at this step."""
        # not self.steps: a subclass may ask to be called at further steps
        return step.count in ScheduledProbe.steps(self, step.per_epoch)

    @abstractmethod
    def measure(self, step: Step, training: Training) -> Iterable[ProbedValue]:
        """Return layer, tensor, channel, stat and value of everything measured."""

    def close(self) -> pd.DataFrame:
        """Return what was measured."""
        return table(self._rows)


@contextmanager
def working_copy(net: nn.Module, masks: np.random.Generator | None = None) -> Iterator[nn.Module]:
    """Yield a copy of a network to run freely, and restore the global generators afterwards.

    The copy shares the weights of the network, so do not write to these; it has
    buffers, mode and generators of its own, so changes of these leave the run as it is.

    Parameters
    ----------
    net
        Of a run.
    masks
        Where the copy's dropout draws from; by default a copy of the run's stream.
    """
    with generators_kept():
        copy = shared_copy(net)
        for layer in copy.modules():
            if masks is not None and isinstance(layer, StreamDropout):
                layer.rng = masks
        yield copy


def device_of(net: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next(net.parameters()).device


def batch_of(images: Images, where: object, net: nn.Module) -> tuple[Tensor, Tensor]:
    """Return selected images, float32 (N, 1, 28, 28), and labels, (N,), on a network's device."""
    device = device_of(net)
    return scale(images.images[where]).to(device), images.labels[where].to(device)  # type: ignore[index]


def random_batch(rng: np.random.Generator, n: int, size: int) -> Tensor:
    """Draw a batch as an epoch has it: indices (size,) out of n, none twice."""
    return torch.from_numpy(rng.choice(n, size, replace=False))
