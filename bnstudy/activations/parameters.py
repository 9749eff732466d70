"""Weights, their gradients and their updates: eight numbers per parameter and step.

With w the parameter before the optimizer's step, g its gradient as the
optimizer sees it and d the change the step makes:

norm           ||w||
grad_norm      ||g||
grad_ratio     ||g|| / ||w||
grad_cosine    <w, g> / (||w|| ||g||): 0 where the loss does not depend on the scale of w
update_ratio   ||d|| / ||w||
update_cosine  <d, d'> / (||d|| ||d'||), d' the change at the last recorded step
from_init      ||w + d - w0|| / ||w0||, w0 the parameter when watching began
effective_lr   lr / ||w||^2, the rate at which the direction of a scale-free w turns
               (van Laarhoven 2017)

A quotient by zero is NaN.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

LABELS = (
    "norm", "grad_norm", "grad_ratio", "grad_cosine", "update_ratio", "update_cosine",
    "from_init", "effective_lr",
)  # fmt: skip


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.reshape(-1).double(), b.reshape(-1).double())


class ParameterTracker:
    """One parameter: its start, and its value and gradient before the current step.

    Three copies of the parameter are kept, made once.
    """

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter
        self.first = parameter.detach().clone()
        self.before = torch.empty_like(self.first)
        self.last: Tensor | None = None
        self._numbers: list[Tensor] = []

    def before_step(self, rate: float | Tensor, grad_scale: Tensor | None) -> None:
        """Read the parameter and its gradient."""
        self.before.copy_(self.parameter.detach())
        w, g = self.before, self.parameter.grad
        nan = torch.full((), torch.nan, dtype=torch.float64, device=w.device)
        norm = _dot(w, w).sqrt()
        grad_norm = cosine = nan
        if g is not None and g.layout == torch.strided:
            g = g.detach() if grad_scale is None else g.detach() / grad_scale
            grad_norm = _dot(g, g).sqrt()
            cosine = _dot(w, g) / (norm * grad_norm)
        ratio = grad_norm / norm
        self._numbers = [norm, grad_norm, ratio, cosine, rate / norm**2]

    def after_step(self) -> list[Tensor]:
        """Return the numbers of LABELS for the step just done."""
        norm, grad_norm, ratio, cosine, rate = self._numbers
        now = self.parameter.detach()
        update = now - self.before
        size = _dot(update, update).sqrt()
        turned = torch.full_like(norm, torch.nan)
        if self.last is not None:
            turned = _dot(update, self.last) / (size * _dot(self.last, self.last).sqrt())
        moved = now - self.first
        away = (_dot(moved, moved) / _dot(self.first, self.first)).sqrt()
        self.last = update
        return [norm, grad_norm, ratio, cosine, size / norm, turned, away, rate]


def learning_rates(optimizer: Any) -> dict[int, float | Tensor]:
    """Return the learning rate, a number or a tensor, of each parameter, by its id."""
    rates: dict[int, float | Tensor] = {}
    for group in _groups(optimizer):
        rate = group.get("lr", torch.nan)
        rates.update((id(p), rate) for p in group["params"])
    return rates


def _groups(optimizer: Any) -> Iterable[dict[str, Any]]:
    return optimizer.param_groups if optimizer is not None else ()
