"""What a probe is, and what those that look at chosen moments share."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bnstudy.activations.copies import generators_kept, shared_copy
from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import Images, Splits, scale
from bnstudy.engines.observer import Training
from bnstudy.engines.record import MEASURE_COLUMNS
from bnstudy.errors import ConfigError
from bnstudy.networks.lenet import StreamDropout

Seen: TypeAlias = tuple[str, str, int, str, float]  # layer, tensor, channel, stat, value
NETWORK = "network"  # the layer of a number that is of the whole network
WHOLE = -1  # the channel of a number that is of a whole layer


class Probe(Protocol):
    """An observer that ends with a table."""

    def __call__(self, step: Step, training: Training) -> None:
        """Look at a run, first at step 0."""

    def close(self) -> pd.DataFrame:
        """End; return what was seen: all of ``MEASURE_COLUMNS`` but ``probe``."""


@dataclass(frozen=True)
class Scene:
    """The run that a probe looks into.

    Attributes
    ----------
    config, seed
        Decide the run.
    splits
        Its images.
    """

    config: RunConfig
    seed: int
    splits: Splits

    def stream(self, purpose: str) -> np.random.Generator:
        """Return a generator of the probe's own, apart from all that the run draws from."""
        return stream(self.seed, f"probe {purpose}")


class Row(NamedTuple):
    """A number that a probe saw; the columns of its table, in order."""

    step: int
    layer: str
    tensor: str
    channel: int
    stat: str
    value: float


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """Return the table of a probe, columns and types in place even without rows."""
    frame = pd.DataFrame(list(rows), columns=list(MEASURE_COLUMNS[1:]))
    types = {"step": np.int64, "channel": np.int64, "value": np.float64}
    return frame.astype(types | dict.fromkeys(("layer", "tensor", "stat"), str))


class Moments(ABC):
    """A probe that looks at chosen moments: give it a method ``look``.

    Parameters
    ----------
    scene
        The run.
    epochs
        When to look, in epochs done: 0 before the first step, 1.5 in the middle
        of the second epoch; rounded to steps.

    Raises
    ------
    ConfigError
        If a moment is not within the run.
    """

    def __init__(self, scene: Scene, epochs: Sequence[float]) -> None:
        if not epochs or not all(0 <= epoch <= scene.config.epochs for epoch in epochs):
            raise ConfigError(
                f"a probe looks at moments within 0..{scene.config.epochs} epochs, "
                f"got {list(epochs)!r}"
            )
        self.scene, self.epochs = scene, tuple(epochs)
        self._rows: list[Row] = []

    def steps(self, per_epoch: int) -> Set[int]:
        """Return after how many steps it wants to be called."""
        return {round(epoch * per_epoch) for epoch in self.epochs}

    def __call__(self, step: Step, training: Training) -> None:
        """Look, if it is time."""
        if self.due(step):
            self.note(step.count, self.look(step, training))

    def note(self, count: int, seen: Iterable[Seen]) -> None:
        """Keep what was seen at a step."""
        self._rows += [Row(count, *each) for each in seen]

    def due(self, step: Step) -> bool:
        """Whether this is one of the moments."""
        return step.count in Moments.steps(self, step.per_epoch)

    @abstractmethod
    def look(self, step: Step, training: Training) -> Iterable[Seen]:
        """Return what there is to see: layer, tensor, channel, stat and value of each number."""

    def close(self) -> pd.DataFrame:
        """Return what was seen."""
        return table(self._rows)


@contextmanager
def twin_of(net: nn.Module, masks: np.random.Generator | None = None) -> Iterator[nn.Module]:
    """Give a copy of a network that shares its weights, and put global generators back after.

    Buffers, mode and generators of the copy are its own, so that whatever is
    done to them leaves the run alone.  Do not write to its weights.

    Parameters
    ----------
    net
        Of a run.
    masks
        Where the copy's dropout draws from; else from where the run would go on.
    """
    with generators_kept():
        twin = shared_copy(net)
        for layer in twin.modules():
            if masks is not None and isinstance(layer, StreamDropout):
                layer.rng = masks
        yield twin


def device_of(net: nn.Module) -> torch.device:
    """Return where the parameters of a network are."""
    return next(net.parameters()).device


def batch_of(images: Images, where: object, net: nn.Module) -> tuple[Tensor, Tensor]:
    """Return some images, float32 (N, 1, 28, 28), and labels, (N,), where a network is."""
    device = device_of(net)
    return scale(images.images[where]).to(device), images.labels[where].to(device)  # type: ignore[index]


def random_batch(rng: np.random.Generator, n: int, size: int) -> Tensor:
    """Draw a batch as an epoch gives it: places (size,) out of n, none twice."""
    return torch.from_numpy(rng.choice(n, size, replace=False))
