"""Observers: functions that an engine calls while it trains a run."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bnstudy.config import Step


@dataclass
class Training:
    """State of a run at the moment of the call.

    Attributes
    ----------
    net, optimizer
        Of the run, or a faithful copy.  An observer may read them and must leave
        them as they are.  Of the optimizer rely on ``param_groups`` alone: in the
        lockstep engine it has no state.
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


class ScheduledObserver(Protocol):
    """An observer that names its steps, so that it need not be called after each.

    The lockstep engine copies a network out of the stack for every call, and
    takes no others.
    """

    def steps(self, per_epoch: int) -> Collection[int]:
        """Return after how many steps it is called; 0 is before the first."""

    def __call__(self, step: Step, training: Training) -> None:
        """Observe the run after one of these steps."""
