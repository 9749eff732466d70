"""What a batch normalization layer is, whoever wrote it, and its batch's exact moments.

Autograd already holds the mean and 1 / sqrt(var + eps) of the batch that a
native layer normalized by: reading them costs nothing and is exact.  Where it
does not, or reading would recompute a checkpointed segment, they are computed
from the layer's input.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnstudy.activations.scanned import column_powers
from bnstudy.activations.view import Images, View

SCRATCH = ("moving_mean", "moving_var", "gamma", "beta", "eps")
NATIVE = ("NativeBatchNormBackward", "CudnnBatchNormBackward", "MiopenBatchNormBackward")
CHANNEL_STATS = (
    "batch_mean", "batch_var", "image_mean_var", "image_square_var", "running_mean",
    "running_var", "gamma", "beta",
)  # fmt: skip


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module is torch's BN or one with ``moving_mean``, ``gamma``, ``eps``, ...."""
    return isinstance(module, _BatchNorm) or all(hasattr(module, name) for name in SCRATCH)


@dataclass(frozen=True)
class Norm:
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


def read_norm(module: Any) -> Norm:
    """Return the state of a layer, its tensors detached but not copied."""
    if isinstance(module, _BatchNorm):
        names = ("running_mean", "running_var", "weight", "bias")
        momentum = module.momentum
    else:
        names = SCRATCH[:4]
        momentum = 1.0 - float(getattr(module, "keep", getattr(module, "momentum", 0.9)))
    parts: list[Tensor | None] = [getattr(module, name) for name in names]
    mean, var, gamma, beta = (None if part is None else part.detach() for part in parts)
    return Norm(mean, var, gamma, beta, eps=float(module.eps), momentum=momentum)


def uses_batch(module: Any) -> bool:
    """Whether a layer normalizes by its batch now."""
    if isinstance(module, _BatchNorm):
        return module.training or module.running_mean is None
    return bool(module.training)


def batch_moments(module: Any, args: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance, (C,) each, of the batch a layer has just normalized by.

    Parameters
    ----------
    module
        A layer for which :func:`uses_batch` holds.
    args
        What it was called with.
    output
        What it returned.
    """
    saved = saved_moments(output)
    if saved is not None:
        return moments_of(*saved, float(module.eps))
    both = View(args[0]).sums.channel_moments
    return torch.as_tensor(both[0]), torch.as_tensor(both[1])


def moments_of(mean: Tensor, inverse: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and variance, (C,) each, from mean and 1 / sqrt(var + eps)."""
    if inverse.is_cpu:  # numpy is quicker at so few numbers
        spread = _in_float64(inverse) ** -2 - eps
        return mean, torch.from_numpy(np.maximum(spread, 0.0, out=spread))
    return mean, (inverse.double() ** -2.0 - eps).clamp_min_(0.0)


def saved_moments(output: Any) -> tuple[Tensor, Tensor] | None:
    """Return mean and 1 / sqrt(var + eps), (C,) each, that autograd holds of a batch, or None."""
    node = getattr(output, "grad_fn", None)
    if node is None or not node.name().startswith(NATIVE):
        return None
    # With hooks on saved tensors (checkpointing, offloading) reading would run them.
    if torch._C._autograd._top_saved_tensors_default_hooks(False) is not None:
        return None
    mean, inverse = node._saved_result1, node._saved_result2
    if mean is None or inverse is None or mean.numel() != output.shape[1]:
        return None
    return mean.detach(), inverse.detach()


def image_noise(
    X: Tensor, mean: Tensor, images: Images | None = None
) -> tuple[Tensor | np.ndarray, Tensor | np.ndarray]:
    """Return how much images differ, channel by channel: (N, C, ...) -> (C,), (C,).

    Parameters
    ----------
    X
        A layer's input.
    mean
        (C,), of the batch.
    images
        Sums and sums of squares of each image's channels, if they are known.

    Returns
    -------
    mean_var, square_var
        Unbiased variance over images of the image's own mean, and of its own
        mean square about ``mean``; NaN of a single image.  Images of a batch
        are independent where positions are not: divided by N these are the
        variances of the batch's mean and variance.
    """
    if len(X) < 2:
        missing = torch.full_like(mean, torch.nan)
        return missing, missing
    if X.device.type == "cpu":
        return _image_noise_on_host(X, _in_float64(mean), images)
    wide = X.detach() if X.dtype == torch.float64 else X.detach().float()
    axes = tuple(range(2, X.dim()))
    own = wide.mean(axes) if axes else wide  # (N, C, ...) -> (N, C)
    positions = X[0, 0].numel()
    power = torch.linalg.vector_norm(wide, dim=axes) if axes else wide.abs()
    mean = mean.to(own.dtype)
    squares = power.square() / positions - (2 * own - mean) * mean
    return own.var(0), squares.var(0)


def _image_noise_on_host(
    X: Tensor, mean: np.ndarray, images: Images | None
) -> tuple[np.ndarray, np.ndarray]:
    images = images or View(X).sums.images
    if images is None:
        return noise_of_columns(column_powers(X.detach(), mean), len(X))
    return noise_of_images(images, math.prod(X.shape[2:]), mean)


def noise_of_columns(powers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`image_noise` does of images without places, from their powers."""
    ones, squares, fourths = powers
    return _variance(count, ones, squares), _variance(count, squares, fourths)


def noise_of_images(
    images: Images, positions: int, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`image_noise` does from the sums of at least 2 images of some places."""
    own = images[0] / positions - mean
    squares = images[1] / positions - (2 * own + mean) * mean
    return _variance_of(own), _variance_of(squares)


def _in_float64(tensor: Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:  # numpy has no such type
        tensor = tensor.float()
    return tensor.numpy().astype(np.float64)


def _variance_of(values: np.ndarray) -> np.ndarray:
    """Return the unbiased variance of columns, in float64.  Their means are small."""
    squares = np.einsum("nc,nc->c", values, values)  # matrix products start threads
    return _variance(len(values), np.add.reduce(values, 0), squares)


def _variance(count: int, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    return (squares - total * total / count) / (count - 1)


def channel_state(
    module: Any, X: Tensor, moments: tuple[Tensor, Tensor], images: Images | None = None
) -> list[Tensor | np.ndarray]:
    """Return the (C,) numbers of CHANNEL_STATS; NaN for what a layer does not have."""
    mean, var = moments
    return [mean, var, *image_noise(X, mean, images), *kept_state(module, mean)]


def kept_state(module: Any, like: Tensor) -> list[Tensor]:
    """Return running moments, gamma and beta, (C,) each; NaN for what a layer does not have."""
    norm = read_norm(module)
    state = (norm.mean, norm.var, norm.gamma, norm.beta)
    return [torch.full_like(like, torch.nan) if part is None else part for part in state]


def _copied(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def channel_state_later(
    module: Any, X: Tensor, saved: tuple[Tensor, Tensor], images: Images | None
) -> Callable[[], list[Tensor | np.ndarray]] | None:
    """Return what does as :func:`channel_state` when called, without the input; None if it cannot.

    Of a layer on a CPU, with what autograd saved of it.
    """
    (mean, inverse), count = saved, len(X)
    if count < 2 or not X.is_cpu or (images is None and X.dim() > 2):
        return None
    positions = math.prod(X.shape[2:])
    powers = None if images else column_powers(X.detach(), _in_float64(mean))
    eps, state = float(module.eps), _copied(kept_state(module, mean))  # for they change

    def make() -> list[Tensor | np.ndarray]:
        if powers is not None:
            noise = noise_of_columns(powers, count)
        else:
            noise = noise_of_images(cast(Images, images), positions, _in_float64(mean))
        return [*moments_of(mean, inverse, eps), *noise, state]

    return make
