"""Batch normalization as a pure function, with its derivation."""

import math
from numbers import Real

import torch
from torch import Tensor

from bnstudy.errors import ConfigError

VARIANCES = ("biased", "unbiased")


def batch_norm(
    X: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    moving_mean: Tensor | None,
    moving_var: Tensor | None,
    *,
    eps: float,
    momentum: float | Tensor,
    training: bool,
    variance: str = "biased",
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    r"""Normalize every channel of a batch (Ioffe & Szegedy 2015, algorithm 1).

    In training by the batch's own mean and biased variance, in evaluation by
    the moving ones.  The gradient is autograd's; over the m values of a channel
    it is

        dx = gamma / sqrt(var + eps) (dy - mean(dy) - x_hat mean(dy x_hat)).

    Parameters
    ----------
    X
        (N, C) or (N, C, ...) with one to three axes of positions; not changed.
    gamma, beta
        (C,), scale and shift; None for 1 and 0.
    moving_mean, moving_var
        (C,), moving moments so far, not changed; both None to keep none, and to
        normalize by the batch in evaluation too.
    eps
        Added to the variance.
    momentum
        Weight of the OLD moving value, as in the notes: 0.9 is torch's 0.1.
    training
        True to normalize by the batch and to move the moments.
    variance
        Variance of the batch that enters the moving one: ``biased`` (notes)
        or ``unbiased`` (torch).  The batch itself is always divided by the
        biased one.

    Returns
    -------
    Y, moving_mean, moving_var
        (N, C, ...) in the dtype of X, (C,), (C,); the moments without gradient,
        and in evaluation, or for an empty batch, the ones given.

    Raises
    ------
    ConfigError
        If a tensor has a wrong shape or dtype, a training batch has one value per
        channel, or the variance is neither of the two.
    """
    if (moving_mean is None) != (moving_var is None):
        raise ConfigError("moving_mean and moving_var are given both or neither, got one of them")
    by_batch = training or moving_mean is None
    features = len(moving_mean) if moving_mean is not None else X.shape[1] if X.dim() > 1 else 0
    check_input(X, features, training=by_batch)
    vectors = {"gamma": gamma, "beta": beta, "moving_mean": moving_mean, "moving_var": moving_var}
    for name, values in vectors.items():
        if values is not None and values.shape != (features,):
            raise ConfigError(
                f"{name} must hold one value per channel, ({features},), got {tuple(values.shape)}"
            )
    if variance not in VARIANCES:
        raise ConfigError(f"variance must be 'biased' or 'unbiased', got {variance!r}")
    x = at_least_float32(X)
    if training or moving_mean is None or moving_var is None:
        mean, var = moments(x)  # (N, C, ...) -> (C,), (C,)
    else:
        mean, var = moving_mean, moving_var
    Y = affine(normalize(x, mean, var, eps), gamma, beta).to(X.dtype)
    # the mean of no values is NaN, which a moving average would never forget
    if not training or moving_mean is None or moving_var is None or X.numel() == 0:
        return Y, moving_mean, moving_var
    moved_mean = moved(moving_mean, mean, momentum)
    moved_var = moved(moving_var, var * bessel(X, variance), momentum)
    return Y, moved_mean, moved_var


def check_input(X: Tensor, features: int, *, training: bool) -> None:
    """Refuse a tensor that cannot be normalized channel by channel.

    Raises
    ------
    ConfigError
        If it does not have 2 to 5 axes with ``features`` channels on axis 1, its
        values are not floating-point numbers, or in training it has one value per
        channel, which would be normalized to beta whatever it was.
    """
    if X.dim() not in (2, 3, 4, 5) or X.shape[1] != features:
        raise ConfigError(
            f"batch normalization of {features} features takes (N, {features}) or "
            f"(N, {features}, ...) with up to 5 axes, got {tuple(X.shape)}"
        )
    if not X.is_floating_point():
        raise ConfigError(
            f"batch normalization takes floating-point values, got {X.dtype}: "
            "convert them with .float()"
        )
    if training and X.numel() == features:
        raise ConfigError(
            "batch normalization needs more than 1 value per channel in training, "
            f"got {tuple(X.shape)}: use batches of at least 2 images"
        )


def check_numbers(eps: object, momentum: object) -> None:
    """Refuse an eps or a momentum that no batch can be normalized with.

    Raises
    ------
    ConfigError
        If eps is not finite and at least 0, or momentum not in [0, 1].
    """
    for name, value, bounds, high in (
        ("eps", eps, "finite and at least 0", math.nextafter(math.inf, 0.0)),
        ("momentum", momentum, "in [0, 1]", 1.0),
    ):
        if not isinstance(value, Real) or not 0 <= float(value) <= high:
            raise ConfigError(f"{name} must be a number {bounds}, got {value!r}")


def at_least_float32(X: Tensor) -> Tensor:
    """Return a tensor in the dtype to compute in: float32 for half precision, else its own."""
    # a sum of squares in float16 overflows above 65504, and in bfloat16 keeps 8 bits
    return X.to(torch.promote_types(X.dtype, torch.float32))


def moments(X: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of every channel: (N, C, ...) -> (C,), (C,).

    In two passes, so that a large mean costs no precision.
    """
    axes = [axis for axis in range(X.dim()) if axis != 1]
    mean = X.mean(axes)
    return mean, ((X - per_channel(mean, X)) ** 2).mean(axes)


def normalize(X: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Return (X - mean) / sqrt(var + eps), channel by channel."""
    mean, var = at_least_float32(mean), at_least_float32(var)
    return (X - per_channel(mean, X)) / torch.sqrt(per_channel(var, X) + eps)


def affine(X_hat: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Return gamma X_hat + beta, channel by channel; None stands for 1 and for 0."""
    Y = X_hat if gamma is None else per_channel(gamma, X_hat) * X_hat
    return Y if beta is None else Y + per_channel(beta, X_hat)


def per_channel(values: Tensor, X: Tensor) -> Tensor:
    """Reshape one value per channel, (C,), to broadcast over X: (1, C, 1, ...)."""
    return values.reshape(1, -1, *[1] * (X.dim() - 2))


def moved(old: Tensor, new: Tensor, momentum: float | Tensor) -> Tensor:
    """Return the moving average after one more value, ``momentum`` the weight of the old."""
    # products in half precision would round the average once more than torch does
    return momentum * at_least_float32(old) + (1.0 - momentum) * new.detach()


def bessel(X: Tensor, variance: str) -> float:
    """Return the factor from the biased variance of a channel to the one asked for."""
    m = X.numel() // X.shape[1]
    return m / (m - 1) if variance == "unbiased" else 1.0
