"""Layers of K networks side by side, as torch operations.

Between convolutions a stack's activations are (N, K*C, H, W), channels side by
side; between linear layers they are (K, F, N), one matrix per network with one
column per image.  So each layer is one operation for all networks, and no
network's values depend on another's.  Backward is autograd's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnstudy.engines.lockstep.parameters import (
    BETA,
    BIAS,
    GAMMA,
    RUNNING_MEAN,
    RUNNING_VAR,
    WEIGHT,
    Conventions,
    TensorId,
    conventions,
    tensors_of,
)
from bnstudy.networks import Inputs, StreamDropout
from bnstudy.networks.norm import (
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
    ghost_sizes,
)


@dataclass
class TrainingPass:
    """State and random numbers of a training pass; an evaluation pass has None.

    Attributes
    ----------
    active
        bool (K,): networks that have not diverged; the others' moments do not move.
    steps
        float64 (1,): steps taken, this one included.
    draws, noise
        (K, count) each: random numbers of the batch, in the order of the layers
        (see ``Program.train``).
    """

    active: Tensor
    steps: Tensor
    draws: Tensor
    noise: Tensor
    _drawn: int = 0  # numbers that earlier layers have taken
    _noised: int = 0

    def next_draws(self, images: int, units: int) -> Tensor:
        """Return the next uniform numbers of dropout: (K, images, units)."""
        start, self._drawn = self._drawn, self._drawn + images * units
        return self.draws[:, start : self._drawn].unflatten(1, (images, units))

    def next_noise(self, images: int, channels: int) -> tuple[Tensor, Tensor]:
        """Return the next scales and shifts: (K, images, channels) each."""
        start, size = self._noised, images * channels
        self._noised += 2 * size
        scale, shift = self.noise[:, start : self._noised].split(size, dim=1)
        return scale.unflatten(1, (images, channels)), shift.unflatten(1, (images, channels))


CHANNEL_BY_CHANNEL = (
    nn.Sigmoid,
    nn.ReLU,
    nn.Tanh,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
)
StackedLayer = Callable[[Tensor, TrainingPass | None], Tensor]


def stacked_layers(
    net: nn.Module, tensors: Mapping[TensorId, Tensor], count: int
) -> list[StackedLayer]:
    """Return the layers of a network for a stack, in the order of its forward pass.

    Parameters
    ----------
    net
        Any network of the arm, of :func:`bnstudy.networks.build`.
    tensors
        Parameters and running moments of the stack, (K, ...) each.
    count
        K.
    """
    id_of = {id(tensor): of for of, tensor in tensors_of(net)}
    layers: list[StackedLayer] = []
    norms = 0  # normalization layers so far
    for module in net.children():
        if isinstance(module, nn.Conv2d | nn.Linear):
            index = id_of[id(module.weight)].layer
            own = tensors[TensorId(WEIGHT, index)], tensors.get(TensorId(BIAS, index))
            if isinstance(module, nn.Linear):
                layers.append(StackedLinear(*own))
            else:
                layers.append(StackedConvolution(*own, module.stride, module.padding))
        elif isinstance(module, Inputs):
            layers.append(StackedInputs(module, count, tensors[TensorId(WEIGHT, 0)].device))
        elif isinstance(module, StreamDropout):
            layers.append(StackedDropout(module.rate))
        elif isinstance(module, nn.Flatten):
            # (N, K*C, H, W) -> (K, C*H*W, N)
            layers.append(lambda X, _: X.unflatten(1, (count, -1)).flatten(2).permute(1, 2, 0))
        elif isinstance(module, CHANNEL_BY_CHANNEL):
            layers.append(ActivationOrPooling(module))
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            affine = (tensors[TensorId(kind, norms)] for kind in (GAMMA, BETA))
            layers.append(StackedGroupNorm(conventions(module), *affine))
            norms += 1
        else:
            mean, var = (tensors[TensorId(kind, norms)] for kind in (RUNNING_MEAN, RUNNING_VAR))
            gamma = tensors.get(TensorId(GAMMA, norms), torch.ones_like(mean))
            beta = tensors.get(TensorId(BETA, norms), torch.zeros_like(mean))
            layers.append(StackedBatchNorm(module, gamma, beta, mean, var))
            norms += 1
    return layers


@dataclass
class ActivationOrPooling:
    """A layer of torch that computes each value from values of the same channel alone."""

    module: nn.Module

    def __call__(self, X: Tensor, _: TrainingPass | None) -> Tensor:
        """Apply the layer to activations, which networks side by side do not change."""
        return self.module(X)


class StackedInputs:
    """The layer :class:`~bnstudy.networks.Inputs`, which is the same in all networks."""

    def __init__(self, module: Inputs, count: int, device: torch.device) -> None:
        mean, sd = (each.repeat(count, 1, 1) for each in (module.mean, module.sd))
        self._module = Inputs(mean.flatten().tolist(), sd.flatten().tolist(), module.size)
        self._module.to(device)

    def __call__(self, X: Tensor, _: TrainingPass | None) -> Tensor:
        """(N, K*C, H, W) -> the same, or of another height and width."""
        return self._module(X)


@dataclass
class StackedConvolution:
    """K convolutions: weight (K, O, I, kernel, kernel), bias (K, O) or None."""

    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any

    def __call__(self, X: Tensor, _: TrainingPass | None) -> Tensor:
        """(N, K*I, H, W) -> (N, K*O, height, width)."""
        bias = None if self.bias is None else self.bias.flatten()
        sides = self.stride, self.padding
        return F.conv2d(X, self.weight.flatten(0, 1), bias, *sides, groups=len(self.weight))


@dataclass
class StackedLinear:
    """K linear layers: weight (K, O, I), bias (K, O) or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, X: Tensor, _: TrainingPass | None) -> Tensor:
        """(K, I, N) -> (K, O, N)."""
        if self.bias is None:
            return torch.bmm(self.weight, X)
        return torch.baddbmm(self.bias.unsqueeze(2), self.weight, X)


@dataclass
class StackedDropout:
    """Dropout of :class:`~bnstudy.networks.StreamDropout`, by numbers drawn beforehand."""

    rate: float

    def __call__(self, X: Tensor, training: TrainingPass | None) -> Tensor:
        """(K, F, N) -> (K, F, N)."""
        if training is None:
            return X
        drawn = training.next_draws(X.shape[2], X.shape[1])  # (K, N, F)
        return X * (drawn >= self.rate).mT / (1.0 - self.rate)


@dataclass
class StackedGroupNorm:
    """K group normalizations: gamma, beta (K, C); the same in training and evaluation."""

    options: Conventions
    gamma: Tensor
    beta: Tensor

    def __call__(self, X: Tensor, _: TrainingPass | None) -> Tensor:
        """(N, K*C, H, W) -> the same, or (K, C, N) -> the same."""
        groups = len(self.gamma) * self.options.groups
        affine = self.gamma.flatten(), self.beta.flatten(), self.options.eps
        if X.dim() == 4:
            return F.group_norm(X, groups, *affine)
        columns = X.flatten(0, 1).T  # (N, K*C)
        return F.group_norm(columns, groups, *affine).T.view(X.shape)


class StackedBatchNorm:
    """K batch normalizations or relatives of one kind, for either layout of activations.

    torch's ``batch_norm`` does the arithmetic: with moving moments of zero and
    full weight for the new value, it also returns the moments of the batch.  The
    relatives of batch normalization are defined in :mod:`bnstudy.networks.norm`.

    Parameters
    ----------
    module
        The layer of one network, of a kind that the lockstep engine supports.
    gamma, beta
        (K, C), learned, or constant 1 and 0.
    mean, var
        (K, C), running moments.
    """

    def __init__(
        self, module: nn.Module, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor
    ) -> None:
        self.kind: type[nn.Module] = type(module)
        self.options: Conventions = conventions(module)
        self.gamma, self.beta, self.mean, self.var = gamma, beta, mean, var

    def __call__(self, X: Tensor, training: TrainingPass | None) -> Tensor:
        """(N, K*C, H, W) -> the same, or (K, C, N) -> the same."""
        if self.kind in (MeanOnlyBatchNorm, VarianceOnlyBatchNorm):
            return self._centre_or_divide(X, training)
        if training is None:
            return self._by_running(X)
        if self.kind is FrozenBatchNorm:
            self._average(X, training)
            return self._by_running(X)
        if self.kind is PopulationBatchNorm:
            return self._by_population(X, training)
        if self.kind is GhostBatchNorm:
            return self._by_subbatches(X, training)
        Y, mean, var = self._by_batch(self._channels(X), self.gamma, self.beta)
        self._move(mean, var, training)
        Y = Y.view(X.shape)
        return self._noisy(Y, training) if self.kind is NoisyBatchNorm else Y

    def moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of every channel, (K, C) each, without gradient."""
        return self._moments(X.detach())

    def _moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        X = self._channels(X)
        axes = [axis for axis in range(X.dim()) if axis != 1]
        var, mean = torch.var_mean(X, axes, correction=0)
        return mean.view(self.mean.shape), var.view(self.mean.shape)

    def _channels(self, X: Tensor) -> Tensor:
        """Put all channels on axis 1: (N, K*C, H, W) as it is, (K, C, N) -> (1, K*C, N)."""
        return X if X.dim() == 4 else X.flatten(0, 1).unsqueeze(0)

    def _by_running(self, X: Tensor) -> Tensor:
        # clones: the moments change in place while autograd still needs these
        mean, var = self.mean.flatten().clone(), self.var.flatten().clone()
        weights = self.gamma.flatten(), self.beta.flatten()
        return F.batch_norm(self._channels(X), mean, var, *weights, eps=self.options.eps).view_as(X)

    def _by_batch(self, X: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalize X (N, channels, ...); return its moments too, in the shape of gamma."""
        mean, var = X.new_zeros(2, X.shape[1]).unbind()
        Y = F.batch_norm(
            X,
            mean,
            var,
            gamma.flatten(),
            beta.flatten(),
            training=True,
            momentum=1.0,
            eps=self.options.eps,
        )
        if not self.options.unbiased:  # torch returned the unbiased one
            m = X.numel() // X.shape[1]
            var = var * ((m - 1) / m)
        return Y, mean.view(gamma.shape), var.view(gamma.shape)

    def _by_subbatches(self, X: Tensor, training: TrainingPass) -> Tensor:
        """Normalize consecutive sub-batches: those of equal size at once, then the rest."""
        n = X.shape[0] if X.dim() == 4 else X.shape[2]
        # either layout -> (K*C, N, positions)
        images = X.flatten(2).transpose(0, 1) if X.dim() == 4 else X.flatten(0, 1).unsqueeze(2)
        sizes = ghost_sizes(n, self.options.ghost_size)
        equal = sizes.count(sizes[0])
        groups = [(0, equal, sizes[0]), *((n - size, 1, size) for size in sizes[equal:])]
        Y, moments = [], []
        for start, repeats, size in groups:
            # sub-batches of equal size become channels of their own
            channels = images[:, start : start + repeats * size].reshape(
                1, images.shape[0] * repeats, size * images.shape[2]
            )
            # (K, C) -> (K, C, repeats)
            weights = (
                each.unsqueeze(2).expand(-1, -1, repeats) for each in (self.gamma, self.beta)
            )
            normalized, mean, var = self._by_batch(channels, *weights)
            Y.append(normalized.view(images.shape[0], repeats * size, images.shape[2]))
            moments.append(torch.stack((mean, var)).sum(3) * (size / n))
        mean, var = torch.stack(moments).sum(0)
        self._move(mean, var, training)
        joined = torch.cat(Y, dim=1)  # (K*C, N, positions)
        return (joined.transpose(0, 1) if X.dim() == 4 else joined).reshape(X.shape)

    def _by_population(self, X: Tensor, training: TrainingPass) -> Tensor:
        """Normalize forward by the running moments, backward as through the batch's."""
        mean, var = self._average(X, training)
        sigma = torch.sqrt(self.var + self.options.eps)
        r = torch.sqrt(var + self.options.eps) / sigma
        d = (mean - self.mean) / sigma
        Y, _, _ = self._by_batch(self._channels(X), self.gamma * r, self.gamma * d + self.beta)
        return Y.view_as(X)

    def _centre_or_divide(self, X: Tensor, training: TrainingPass | None) -> Tensor:
        """Centre without dividing, or divide without centring."""
        if training is None:
            mean, var = self.mean, self.var
        else:
            mean, var = self._moments(X)
            self._move(mean, self._moving_variance(X, var), training)
        shape = (1, -1, 1, 1) if X.dim() == 4 else (*mean.shape, 1)
        if self.kind is MeanOnlyBatchNorm:
            return X - mean.reshape(shape) + self.beta.reshape(shape)
        scale = self.gamma / torch.sqrt(var + self.options.eps)
        return X * scale.reshape(shape) + self.beta.reshape(shape)

    def _average(self, X: Tensor, training: TrainingPass) -> tuple[Tensor, Tensor]:
        """Move the running moments towards a batch's; return these, the variance biased."""
        mean, var = self.moments(X)
        self._move(mean, self._moving_variance(X, var), training)
        return mean, var

    def _moving_variance(self, X: Tensor, var: Tensor) -> Tensor:
        """Return the variance that enters the running one, from the biased one."""
        m = X.numel() // var.numel()
        return var * (m / (m - 1)) if self.options.unbiased else var

    def _noisy(self, Y: Tensor, training: TrainingPass) -> Tensor:
        if Y.dim() == 3:
            scale, shift = (each.mT for each in training.next_noise(Y.shape[2], Y.shape[1]))
            return scale * Y + shift
        noise = training.next_noise(Y.shape[0], self.gamma.shape[1])
        # (K, N, C) -> (N, K*C, 1, 1)
        scale, shift = (each.transpose(0, 1).flatten(1)[:, :, None, None] for each in noise)
        return scale * Y + shift

    @torch.no_grad()
    def _move(self, mean: Tensor, var: Tensor, training: TrainingPass) -> None:
        """Move the running moments of active networks towards a batch's, (K, C) each."""
        keep = self.options.keep
        new: float | Tensor = 1.0 - keep
        if self.kind in (PopulationBatchNorm, FrozenBatchNorm):
            # without the bias of the initial values, as in the layer of one network
            new = 1.0 / training.steps if keep == 1.0 else new / (1.0 - keep**training.steps)
            new = new.to(mean.dtype)
        for moving, value in ((self.mean, mean), (self.var, var)):
            moved = moving * (1.0 - new) + value * new
            moving.copy_(torch.where(training.active[:, None], moved, moving))
