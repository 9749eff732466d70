"""The options of a recorder, as :func:`~bnstudy.activations.watch` takes them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bnstudy.activations.schedule import When
from bnstudy.activations.selection import Layers
from bnstudy.activations.statistics import Statistic
from bnstudy.errors import WatchError

Sink = Callable[[pd.DataFrame], None]
TENSORS = ("in", "out", "both")


@dataclass(frozen=True)
class WatchOptions:
    """The keyword arguments of :func:`~bnstudy.activations.watch`, which explains them.

    Raises
    ------
    WatchError
        If ``tensors`` or ``keep`` is impossible.
    """

    every: When | Mapping[str, When] = 1
    layers: Layers = None
    tensors: str = "out"
    stats: str | Statistic | Iterable[str | Statistic] = "default"
    grads: bool = False
    params: bool = False
    bn: bool = True
    scaler: Any = None
    probe: Any = None
    sinks: Iterable[Sink] = ()
    keep: int | None = None

    def __post_init__(self) -> None:
        if self.tensors not in TENSORS:
            raise WatchError(f"tensors must be 'in', 'out' or 'both', got {self.tensors!r}")
        if self.keep is not None and (not isinstance(self.keep, int) or self.keep < 1):
            raise WatchError(f"keep must be a number of steps of at least 1, got {self.keep!r}")
