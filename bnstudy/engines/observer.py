"""What observers of a run see, whichever engine trains it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bnstudy.config import Step


@dataclass
class Training:
    """The run as it is at the moment of the call.

    Attributes
    ----------
    net, optimizer
        Of the run, or a faithful copy.  An observer may read them, and must leave
        no trace.  Of the optimizer rely on ``param_groups`` alone: in the lockstep
        engine it has no state.
    images, labels
        The batch of the last step: float32 (N, 1, 28, 28) and int64 (N,);
        N = 0 before the first step.
    loss
        Of that batch, before its step; NaN before the first.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    loss: float


Observer = Callable[[Step, Training], None]


class MomentObserver(Protocol):
    """An observer that says when it looks, so that it need not be called at every step."""

    def steps(self, per_epoch: int) -> Collection[int]:
        """Return after how many steps it is called; 0 is before the first."""

    def __call__(self, step: Step, training: Training) -> None:
        """Look."""
