"""The exact moments of the batch that a BN layer has just normalized, channel by channel.

Autograd already holds the mean and 1 / sqrt(var + eps) of the batch that a
native layer normalized by: reading them costs nothing and is exact.  Where it
does not, or reading would recompute a checkpointed segment, they are computed
from the layer's input.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bnstudy.activations.batchnorm.layer import read_state
from bnstudy.activations.reading.compiled_functions import column_powers
from bnstudy.activations.reading.reader import ImageSums
from bnstudy.activations.reading.tensor import MeasuredTensor

NATIVE = ("NativeBatchNormBackward", "CudnnBatchNormBackward", "MiopenBatchNormBackward")
CHANNEL_STATS = (
    "batch_mean", "batch_var", "image_mean_var", "image_square_var", "running_mean",
    "running_var", "gamma", "beta",
)  # fmt: skip


def batch_moments(module: Any, args: tuple[Any, ...], output: Any) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance, (C,) each, of the batch a layer has just normalized by.

    Parameters
    ----------
    module
        A layer for which :func:`~bnstudy.activations.batchnorm.layer.uses_batch` holds.
    args
        Its positional arguments.
    output
        Its result.
    """
    saved = saved_moments(output)
    if saved is not None:
        return moments_of(*saved, float(module.eps))
    mean, var = MeasuredTensor(args[0]).sums.channel_moments
    return torch.as_tensor(mean), torch.as_tensor(var)


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
    # empty or missing where the layer normalized by its running statistics
    if mean is None or inverse is None or mean.numel() != output.shape[1]:
        return None
    return mean.detach(), inverse.detach()


def image_noise(
    X: Tensor, mean: Tensor, images: ImageSums | None = None
) -> tuple[Tensor | np.ndarray, Tensor | np.ndarray]:
    """Return the variances between images, channel by channel: (N, C, ...) -> (C,), (C,).

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
    X: Tensor, mean: np.ndarray, images: ImageSums | None
) -> tuple[np.ndarray, np.ndarray]:
    images = images or MeasuredTensor(X).sums.images
    if images is None:
        return noise_of_columns(column_powers(X.detach(), mean), len(X))
    return noise_of_images(images, math.prod(X.shape[2:]), mean)


def noise_of_columns(powers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the same as :func:`image_noise` of images without positions, from their powers."""
    ones, squares, fourths = powers
    return _variance(count, ones, squares), _variance(count, squares, fourths)


def noise_of_images(
    images: ImageSums, positions: int, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same as :func:`image_noise` from the sums of at least 2 images."""
    own = images[0] / positions - mean  # small, so that little cancels in their variance
    # mean((x - m)^2) = mean(x^2) - (2 (mean(x) - m) + m) m
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
    module: Any, X: Tensor, moments: tuple[Tensor, Tensor], images: ImageSums | None = None
) -> list[Tensor | np.ndarray]:
    """Return the (C,) numbers of CHANNEL_STATS; NaN for what a layer does not have."""
    mean, var = moments
    return [mean, var, *image_noise(X, mean, images), *held_state(module, mean)]


def held_state(module: Any, like: Tensor) -> list[Tensor]:
    """Return running moments, gamma and beta, (C,) each; NaN for what a layer does not have."""
    state = read_state(module)
    found = (state.mean, state.var, state.gamma, state.beta)
    return [torch.full_like(like, torch.nan) if part is None else part for part in found]


def _copied(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def deferred_channel_state(
    module: Any, X: Tensor, saved: tuple[Tensor, Tensor], images: ImageSums | None
) -> Callable[[], list[Tensor | np.ndarray]] | None:
    """Return a function that gives :func:`channel_state` without the input, or None.

    There is one for a layer on a CPU whose moments autograd saved.
    """
    (mean, inverse), count = saved, len(X)
    if count < 2 or not X.is_cpu or (images is None and X.dim() > 2):
        return None
    positions = math.prod(X.shape[2:])
    powers = None if images else column_powers(X.detach(), _in_float64(mean))
    eps, state = float(module.eps), _copied(held_state(module, mean))  # copied: they will change

    def compute() -> list[Tensor | np.ndarray]:
        if powers is not None:
            noise = noise_of_columns(powers, count)
        else:
            noise = noise_of_images(cast(ImageSums, images), positions, _in_float64(mean))
        return [*moments_of(mean, inverse, eps), *noise, state]

    return compute
