"""The layers of K networks side by side, as torch operations.

Between convolutions a stack's activations are (N, K*C, H, W), channels side by
side; between linear layers they are (K, F, N), a matrix a network with an image
a column.  So each layer is one operation for all networks, and none meets a
number of another.  Backward is autograd's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    Place,
    conventions,
    places,
)
from bnstudy.networks.lenet import StreamDropout
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
class Pass:
    """What a training pass brings along; a pass of evaluation brings nothing.

    Attributes
    ----------
    active
        bool (K,): which networks still train; the others' moments stay.
    steps
        float64 (1,): steps taken, this one included.
    draws, noise
        (K, numbers) each: those of the batch, in the order of the layers (see
        ``Program.train``).
    """

    active: Tensor
    steps: Tensor
    draws: Tensor
    noise: Tensor
    _drawn: int = 0
    _noised: int = 0

    def draw(self, images: int, units: int) -> Tensor:
        """Take the next uniform numbers of dropout: (K, images, units)."""
        start, self._drawn = self._drawn, self._drawn + images * units
        return self.draws[:, start : self._drawn].unflatten(1, (images, units))

    def add_noise(self, images: int, channels: int) -> tuple[Tensor, Tensor]:
        """Take the next scales and shifts: (K, images, channels) each."""
        start, size = self._noised, images * channels
        self._noised += 2 * size
        scale, shift = self.noise[:, start : self._noised].split(size, dim=1)
        return scale.unflatten(1, (images, channels)), shift.unflatten(1, (images, channels))


Layer = Callable[[Tensor, Pass | None], Tensor]


def stacked_layers(net: nn.Module, tensors: Mapping[Place, Tensor], count: int) -> list[Layer]:
    """Return the layers of a network for a stack, in the order of its forward pass.

    Parameters
    ----------
    net
        Any network of the arm, of :func:`bnstudy.networks.lenet.lenet`.
    tensors
        Parameters and running moments of the stack, (K, ...) each.
    count
        K.
    """
    place_of = {id(tensor): place for place, tensor in places(net)}
    layers: list[Layer] = []
    norms = 0
    for module in net.children():
        if isinstance(module, nn.Conv2d | nn.Linear):
            index = place_of[id(module.weight)].layer
            kind = Convolution if isinstance(module, nn.Conv2d) else Linear
            layers.append(kind(tensors[Place(WEIGHT, index)], tensors.get(Place(BIAS, index))))
        elif isinstance(module, StreamDropout):
            layers.append(Dropout(module.rate))
        elif isinstance(module, nn.Flatten):
            layers.append(lambda X, _: X.unflatten(1, (count, -1)).flatten(2).permute(1, 2, 0))
        elif isinstance(module, nn.Sigmoid | nn.ReLU | nn.Tanh | nn.AvgPool2d):
            layers.append(Alone(module))
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            affine = (tensors[Place(kind, norms)] for kind in (GAMMA, BETA))
            layers.append(GroupNorm(conventions(module), *affine))
            norms += 1
        else:
            mean, var = (tensors[Place(kind, norms)] for kind in (RUNNING_MEAN, RUNNING_VAR))
            gamma = tensors.get(Place(GAMMA, norms), torch.ones_like(mean))
            beta = tensors.get(Place(BETA, norms), torch.zeros_like(mean))
            layers.append(Norm(module, gamma, beta, mean, var))
            norms += 1
    return layers


@dataclass
class Alone:
    """A layer that treats every number, or every plane of them, on its own."""

    module: nn.Module

    def __call__(self, X: Tensor, _: Pass | None) -> Tensor:
        """Pass on activations of either layout."""
        return self.module(X)


@dataclass
class Convolution:
    """K convolutions: weight (K, O, I, 5, 5), bias (K, O) or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, X: Tensor, _: Pass | None) -> Tensor:
        """(N, K*I, H, W) -> (N, K*O, H - 4, W - 4)."""
        bias = None if self.bias is None else self.bias.flatten()
        return F.conv2d(X, self.weight.flatten(0, 1), bias, groups=len(self.weight))


@dataclass
class Linear:
    """K linear layers: weight (K, O, I), bias (K, O) or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, X: Tensor, _: Pass | None) -> Tensor:
        """(K, I, N) -> (K, O, N)."""
        if self.bias is None:
            return torch.bmm(self.weight, X)
        return torch.baddbmm(self.bias.unsqueeze(2), self.weight, X)


@dataclass
class Dropout:
    """Dropout of :class:`~bnstudy.networks.lenet.StreamDropout`, by numbers drawn before."""

    rate: float

    def __call__(self, X: Tensor, training: Pass | None) -> Tensor:
        """(K, F, N) -> (K, F, N)."""
        if training is None:
            return X
        drawn = training.draw(X.shape[2], X.shape[1])  # (K, N, F)
        return X * (drawn >= self.rate).mT / (1.0 - self.rate)


@dataclass
class GroupNorm:
    """K group normalizations: gamma, beta (K, C); the same in training and evaluation."""

    counts: Conventions
    gamma: Tensor
    beta: Tensor

    def __call__(self, X: Tensor, _: Pass | None) -> Tensor:
        """(N, K*C, H, W) -> the same, or (K, C, N) -> the same."""
        groups = len(self.gamma) * self.counts.groups
        affine = self.gamma.flatten(), self.beta.flatten(), self.counts.eps
        if X.dim() == 4:
            return F.group_norm(X, groups, *affine)
        columns = X.flatten(0, 1).T  # (N, K*C)
        return F.group_norm(columns, groups, *affine).T.view(X.shape)


class Norm:
    """K normalization layers of a kind, for either layout of activations.

    torch's ``batch_norm`` does the arithmetic: given empty moving moments and
    the new value's full weight, it also returns the moments of the batch.  What
    the relatives of batch normalization change is in :mod:`bnstudy.networks.norm`.

    Parameters
    ----------
    module
        The layer of one network, of a kind the lockstep engine knows.
    gamma, beta
        (K, C), learned, or 1 and 0.
    mean, var
        (K, C), running moments.
    """

    def __init__(
        self, module: nn.Module, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor
    ) -> None:
        self.kind: type[nn.Module] = type(module)
        self.counts: Conventions = conventions(module)
        self.gamma, self.beta, self.mean, self.var = gamma, beta, mean, var

    def __call__(self, X: Tensor, training: Pass | None) -> Tensor:
        """(N, K*C, H, W) -> the same, or (K, C, N) -> the same."""
        if self.kind in (MeanOnlyBatchNorm, VarianceOnlyBatchNorm):
            return self._in_part(X, training)
        if training is None:
            return self._by_running(X)
        if self.kind is FrozenBatchNorm:
            self._take_in(X, training)
            return self._by_running(X)
        if self.kind is PopulationBatchNorm:
            return self._by_population(X, training)
        if self.kind is GhostBatchNorm:
            return self._by_parts(X, training)
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
        return F.batch_norm(self._channels(X), mean, var, *weights, eps=self.counts.eps).view_as(X)

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
            eps=self.counts.eps,
        )
        if not self.counts.unbiased:  # torch's is
            m = X.numel() // X.shape[1]
            var = var * ((m - 1) / m)
        return Y, mean.view(gamma.shape), var.view(gamma.shape)

    def _by_parts(self, X: Tensor, training: Pass) -> Tensor:
        """Normalize consecutive parts of the batch: equal ones at once, then the rest."""
        n = X.shape[0] if X.dim() == 4 else X.shape[2]
        images = X.flatten(2).transpose(0, 1) if X.dim() == 4 else X.flatten(0, 1).unsqueeze(2)
        sizes = ghost_sizes(n, self.counts.part_size)  # images: (K*C, N, positions)
        equal = sizes.count(sizes[0])
        groups = [(0, equal, sizes[0]), *((n - size, 1, size) for size in sizes[equal:])]
        Y, moments = [], []
        for start, parts, size in groups:
            part = images[:, start : start + parts * size].reshape(
                1, images.shape[0] * parts, size * images.shape[2]
            )
            # (K, C) -> (K, C, parts)
            weights = (each.unsqueeze(2).expand(-1, -1, parts) for each in (self.gamma, self.beta))
            normalized, mean, var = self._by_batch(part, *weights)
            Y.append(normalized.view(images.shape[0], parts * size, images.shape[2]))
            moments.append(torch.stack((mean, var)).sum(3) * (size / n))
        mean, var = torch.stack(moments).sum(0)
        self._move(mean, var, training)
        joined = torch.cat(Y, dim=1)  # (K*C, N, positions)
        return (joined.transpose(0, 1) if X.dim() == 4 else joined).reshape(X.shape)

    def _by_population(self, X: Tensor, training: Pass) -> Tensor:
        """Normalize forward by the running moments, backward as through the batch's."""
        mean, var = self._take_in(X, training)
        sigma = torch.sqrt(self.var + self.counts.eps)
        r = torch.sqrt(var + self.counts.eps) / sigma
        d = (mean - self.mean) / sigma
        Y, _, _ = self._by_batch(self._channels(X), self.gamma * r, self.gamma * d + self.beta)
        return Y.view_as(X)

    def _in_part(self, X: Tensor, training: Pass | None) -> Tensor:
        """Centre without dividing, or divide without centring."""
        if training is None:
            mean, var = self.mean, self.var
        else:
            mean, var = self._moments(X)
            self._move(mean, self._averaged(X, var), training)
        shape = (1, -1, 1, 1) if X.dim() == 4 else (*mean.shape, 1)
        if self.kind is MeanOnlyBatchNorm:
            return X - mean.reshape(shape) + self.beta.reshape(shape)
        scale = self.gamma / torch.sqrt(var + self.counts.eps)
        return X * scale.reshape(shape) + self.beta.reshape(shape)

    def _take_in(self, X: Tensor, training: Pass) -> tuple[Tensor, Tensor]:
        """Move the running moments by those of a batch; return these, the variance biased."""
        mean, var = self.moments(X)
        self._move(mean, self._averaged(X, var), training)
        return mean, var

    def _averaged(self, X: Tensor, var: Tensor) -> Tensor:
        """Return the variance that the running one takes in, from the biased one."""
        m = X.numel() // var.numel()
        return var * (m / (m - 1)) if self.counts.unbiased else var

    def _noisy(self, Y: Tensor, training: Pass) -> Tensor:
        if Y.dim() == 3:
            scale, shift = (each.mT for each in training.add_noise(Y.shape[2], Y.shape[1]))
            return scale * Y + shift
        noise = training.add_noise(Y.shape[0], self.gamma.shape[1])
        # (K, N, C) -> (N, K*C, 1, 1)
        scale, shift = (each.transpose(0, 1).flatten(1)[:, :, None, None] for each in noise)
        return scale * Y + shift

    @torch.no_grad()
    def _move(self, mean: Tensor, var: Tensor, training: Pass) -> None:
        """Move the running moments of active networks towards a batch's, (K, C) each."""
        keep = self.counts.keep
        new: float | Tensor = 1.0 - keep
        if self.kind in (PopulationBatchNorm, FrozenBatchNorm):  # without the bias of the start
            new = 1.0 / training.steps if keep == 1.0 else new / (1.0 - keep**training.steps)
            new = new.to(mean.dtype)
        for moving, value in ((self.mean, mean), (self.var, var)):
            moved = moving * (1.0 - new) + value * new
            moving.copy_(torch.where(training.active[:, None], moved, moving))
