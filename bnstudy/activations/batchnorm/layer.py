"""Recognizing batch normalization layers, whoever wrote them, and reading their state."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Attributes by which a layer written from scratch, as in d2l.ai, is recognized.
SCRATCH = ("moving_mean", "moving_var", "gamma", "beta", "eps")


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether a module is torch's BN or has ``moving_mean``, ``gamma``, ``eps``, ....

    Examples
    --------
    >>> is_batch_norm(nn.BatchNorm2d(3)), is_batch_norm(nn.LayerNorm(3))
    (True, False)
    """
    return isinstance(module, _BatchNorm) or all(hasattr(module, name) for name in SCRATCH)


@dataclass(frozen=True)
class BatchNormState:
    """The state of a batch normalization layer, in one vocabulary.

    Attributes
    ----------
    mean, var
        (C,) running moments, or None if there are none.
    gamma, beta
        (C,), or None without.
    eps
        Added to the variance.
    momentum
        Weight of the NEW value in the running moments; None for a plain
        average over all batches so far.
    """

    mean: Tensor | None
    var: Tensor | None
    gamma: Tensor | None
    beta: Tensor | None
    eps: float
    momentum: float | None


def read_state(module: Any) -> BatchNormState:
    """Return the state of a layer, its tensors detached but not copied."""
    if isinstance(module, _BatchNorm):
        names = ("running_mean", "running_var", "weight", "bias")
        momentum = module.momentum
    else:
        names = SCRATCH[:4]
        # from scratch the momentum is usually the weight of the OLD value
        momentum = 1.0 - float(getattr(module, "momentum", 0.9))
    if hasattr(module, "keep"):  # a layer that says itself which weight the OLD value has
        momentum = None if module.keep is None else 1.0 - float(module.keep)
    found: list[Tensor | None] = [getattr(module, name) for name in names]
    mean, var, gamma, beta = (None if tensor is None else tensor.detach() for tensor in found)
    return BatchNormState(mean, var, gamma, beta, eps=float(module.eps), momentum=momentum)


def uses_batch(module: Any) -> bool:
    """Return whether a layer normalizes by its batch in its current mode."""
    if isinstance(module, _BatchNorm):
        return module.training or module.running_mean is None
    return bool(module.training)
