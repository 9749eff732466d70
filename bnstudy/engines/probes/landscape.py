r"""Probe ``landscape``: smoothness of the loss along its gradient.

At weights w with loss L and gradient g, on a fixed batch in training mode, for
steps of h = 1/2 .. 4 learning rates to w_h = w - h g with loss L_h, gradient g_h:

=========================  ======================================================
loss_range                 max - min of L_h over h
gradient_change            max |g_h - g| over h
beta                       max |g_h - g| / |w_h - w| over h, per unit of weight: a
                           lower bound of the Lipschitz constant of the gradient
                           along this line ("effective beta")
loss_range_relative,       the first two over L and |g|: they do not grow only
gradient_change_relative   because the loss is larger
loss, gradient             L and \|g\|
=========================  ======================================================

Source: Santurkar, Tsipras, Ilyas & Madry (2018), section 3 and figure 4.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bnstudy.config import Step
from bnstudy.engines.observer import Training
from bnstudy.engines.probes.probe import (
    ALL_CHANNELS,
    NETWORK,
    ProbedRun,
    ProbedValue,
    ScheduledProbe,
    batch_of,
    working_copy,
)

LossOf = Callable[[nn.Module, dict[str, Tensor]], Tensor]
FEWEST, MOST = 0.5, 4.0  # learning rates


class Landscape(ScheduledProbe):
    """Loss and gradient along the gradient; ``tensor`` ``loss``, layer ``network``.

    All parameters move, gamma and beta among them.

    Parameters
    ----------
    run
        The run to probe.
    epochs
        When to measure, in epochs done.
    images
        Number of training images, the first ones: the same for every seed.
    points
        Number of steps h, evenly spaced from 1/2 to 4 learning rates.
    """

    def __init__(
        self,
        run: ProbedRun,
        epochs: Sequence[float] = (0,),
        images: int = 1024,
        points: int = 8,
    ) -> None:
        super().__init__(run, epochs)
        self._images, self._points = images, points

    def measure(self, step: Step, training: Training) -> Iterator[ProbedValue]:
        """Return the loss and gradient along the gradient, at the current weights."""
        images, labels = batch_of(self.run.splits.train, slice(self._images), training.net)
        rate = training.optimizer.param_groups[0]["lr"]
        sizes = rate * np.linspace(FEWEST, MOST, self._points)

        def loss_of(net: nn.Module, weights: dict[str, Tensor]) -> Tensor:
            return F.cross_entropy(functional_call(net, weights, (images,)), labels)

        for stat, value in landscape(training.net, loss_of, sizes).items():
            yield NETWORK, "loss", ALL_CHANNELS, stat, value


def landscape(net: nn.Module, loss_of: LossOf, sizes: Sequence[float]) -> dict[str, float]:
    """Return the statistics of this module's table.

    Parameters
    ----------
    net
        Not changed.
    loss_of
        Returns the loss of a network, to call by ``torch.func.functional_call``, at
        given weights by name.
    sizes
        Steps h along the gradient, not in learning rates.
    """
    start = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    loss, gradient = _loss_and_gradient(net, loss_of, start)
    losses, changes, betas = [], [], []
    length = _length(gradient)
    for size in sizes:
        moved = {name: w - float(size) * gradient[name] for name, w in start.items()}
        there, other = _loss_and_gradient(net, loss_of, moved)
        change = _length({name: other[name] - g for name, g in gradient.items()})
        losses.append(there)
        changes.append(change)
        betas.append(change / (size * length) if length else math.nan)
    span, change = float(np.ptp(losses)), max(changes)
    return {
        "loss": loss,
        "gradient": length,
        "loss_range": span,
        "loss_range_relative": span / loss if loss else math.nan,
        "gradient_change": change,
        "gradient_change_relative": change / length if length else math.nan,
        "beta": float(max(betas)),
    }


def _loss_and_gradient(
    net: nn.Module, loss_of: LossOf, weights: dict[str, Tensor]
) -> tuple[float, dict[str, Tensor]]:
    leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
    # a new copy each time, so that dropout and noise are the same at every point
    with working_copy(net) as copy, torch.enable_grad():
        loss = loss_of(copy.train(), leaves)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    gradient = {
        name: torch.zeros_like(leaf) if g is None else g
        for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }
    return loss.item(), gradient


def _length(vectors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(v.double().square().sum()) for v in vectors.values()))
