"""The stack as tensors: any number of networks of one arm, side by side on any torch device.

A step is a fixed list of torch operations on tensors that stay where they are:
on a GPU it is recorded once as a CUDA graph and then only replayed.  What
changes from step to step, such as the number of the batch, is counted on the
device, so nothing waits for it between two evaluation points.  Without graphs
the same operations are called one by one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnstudy.config import RunConfig
from bnstudy.data import Images, batches
from bnstudy.engines.lockstep.gpu_layers import (
    StackedBatchNorm,
    TrainingPass,
    stacked_layers,
)
from bnstudy.engines.lockstep.parameters import RUNNING_MEAN, RUNNING_VAR, TensorId, tensors_of
from bnstudy.engines.lockstep.random_draws import DrawCounts, draw_counts
from bnstudy.errors import ConfigError

EVALUATED_AT_ONCE = 1 << 14  # images of all networks together: half a gigabyte
WARM_UP_STEPS = 3  # before a graph is recorded: libraries choose and allocate in the first


class Stack:
    """Networks of one arm as stacked tensors.

    A :class:`~bnstudy.engines.lockstep.loop.Program`.  Parameters of all networks
    are one vector, of which each layer has a view (K, ...).

    Parameters
    ----------
    config
        The arm.
    nets
        K networks with their initial weights, of :func:`bnstudy.networks.build`.
    train
        The images to train on.
    device
        A torch device.
    graphs
        Whether to record steps as CUDA graphs; by default where there are any.

    Raises
    ------
    ConfigError
        If there are no networks.
    """

    def __init__(
        self,
        config: RunConfig,
        nets: Sequence[nn.Module],
        train: Images,
        *,
        device: str = "cpu",
        graphs: bool | None = None,
    ) -> None:
        if not nets:
            raise ConfigError("a stack holds at least 1 seed, got none")
        self.config, self.device, self.count = config, torch.device(device), len(nets)
        self.batch_size = min(config.batch_size, len(train))
        self._sizes = [where.stop - where.start for where in batches(len(train), self.batch_size)]
        self._there: dict[int, tuple[Images, Tensor, Tensor]] = {}
        self._images, self._labels = self._on_device(train)
        self._lay_out(nets)
        self._allocate(len(train), draw_counts(config, nets))
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._read = self._done = 0  # batches of the epoch whose scores were read; trained on
        if self.device.type == "cuda" if graphs is None else graphs:
            with exact_float32(self.device):
                self._record()

    def _lay_out(self, nets: Sequence[nn.Module]) -> None:
        """Put the networks' tensors side by side, and make the layers that use them."""
        columns = zip(*(tensors_of(net) for net in nets), strict=True)
        stacked = {column[0][0]: torch.stack([t.detach() for _, t in column]) for column in columns}
        running = (RUNNING_MEAN, RUNNING_VAR)
        learned = {of: t for of, t in stacked.items() if of.kind not in running}
        sizes = [tensor.numel() for tensor in learned.values()]
        self._values = torch.cat([t.flatten() for t in learned.values()]).to(self.device)
        self._velocity = torch.zeros_like(self._values) if self.config.momentum else None
        owner = torch.arange(self.count, dtype=torch.int32)
        owners = [owner.repeat_interleave(size // self.count) for size in sizes]
        self._owner = torch.cat(owners).to(self.device)  # the network of each parameter value
        views = self._values.split(sizes)
        self._parameters = {
            of: view.view(t.shape).detach().requires_grad_()
            for (of, t), view in zip(learned.items(), views, strict=True)
        }
        moments = {of: t.to(self.device) for of, t in stacked.items() if of.kind in running}
        self.tensors: dict[TensorId, Tensor] = {**self._parameters, **moments}
        self._layers = stacked_layers(nets[0], self.tensors, self.count)
        self._norms = [layer for layer in self._layers if isinstance(layer, StackedBatchNorm)]

    def _allocate(self, n: int, counts: DrawCounts) -> None:
        """Allocate the tensors that a recorded step reads and writes at fixed addresses."""

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        integer, count, steps = torch.int64, self.count, len(self._sizes)
        self._order = zeros(count, n, dtype=integer)
        self._batch, self._first = zeros(1, dtype=integer), zeros(1, dtype=integer)
        self._steps = zeros(1, dtype=torch.float64)
        self._active = torch.ones(count, dtype=torch.bool, device=self.device)
        self._rates = zeros(steps)
        self._losses, self._correct = zeros(steps, count), zeros(steps, count, dtype=integer)
        images = self.batch_size * min(counts.batches_at_once, steps)
        self._draws = zeros(count, counts.dropout * images)
        self._noise = zeros(count, counts.noise * images)
        self._per_image = counts.dropout, counts.noise

    def _record(self) -> None:
        """Record the step of a whole batch, and of a partial last one, as graphs."""
        self._active.fill_(False)  # so that nothing is learned from these steps
        for n in dict.fromkeys(self._sizes):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP_STEPS):
                    self._batch.zero_()
                    self._step(n)
            torch.cuda.current_stream().wait_stream(side)
            self._batch.zero_()
            # one pool for both: they never run at once, and nothing in it outlives a step
            pool = next((graph.pool() for graph in self._graphs.values()), None)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._step(n)
            self._graphs[n] = graph
        self._active.fill_(True)
        self._steps.zero_()

    def start_epoch(self, orders: np.ndarray) -> None:
        """Set each seed's order of the training images: int64 (K, n)."""
        self._send(orders, self._order)
        self._read = self._done = 0

    def train(
        self,
        first: int,
        last: int,
        rates: np.ndarray,
        draws: np.ndarray | None = None,
        noise: np.ndarray | None = None,
    ) -> None:
        """Start training on the batches [first, last); see :class:`Program`."""
        with exact_float32(self.device):
            self._send(rates, self._rates[first:last])
            for values, to in ((draws, self._draws), (noise, self._noise)):
                if values is not None:
                    self._send(values, to[:, : values.shape[1]])
            self._batch.fill_(first)
            self._first.fill_(first)
            for n in self._sizes[first:last]:
                if n in self._graphs:
                    self._graphs[n].replay()
                else:
                    self._step(n)
        self._done = last

    def scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Wait for the device; return losses and numbers of correct images, (batches, K) each."""
        unread = slice(self._read, self._done)
        self._read = self._done
        return self._losses[unread].cpu().numpy(), self._correct[unread].cpu().numpy()

    def _step(self, n: int) -> None:
        """Take an optimizer step on the next batch, of n images per network."""
        at = self._batch * self.batch_size + torch.arange(n, device=self.device)
        where = self._order.index_select(1, at)  # (K, n)
        labels = self._labels[where]
        self._steps += 1
        dropout, noise = self._per_image
        draws = self._drawn(self._draws, dropout, n), self._drawn(self._noise, noise, n)
        training = TrainingPass(self._active, self._steps, *draws)
        images = side_by_side(self._images[where.t()])  # (N, K, [C,] H, W) -> (N, K*C, H, W)
        logits = self._logits(scaled(images), training)
        losses = F.cross_entropy(logits, labels, reduction="none").mean(1)  # (K, n) -> (K,)
        # gradient of the sum: no network's loss depends on another's parameters
        gradients = torch.autograd.grad(losses.sum(), list(self._parameters.values()))
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum(1)
            self._losses.index_copy_(0, self._batch, losses.detach().unsqueeze(0))
            self._correct.index_copy_(0, self._batch, correct.unsqueeze(0))
            self._active &= losses.isfinite()
            self._descend(torch.cat([gradient.flatten() for gradient in gradients]))
            self._batch += 1

    def _drawn(self, buffer: Tensor, per_image: int, n: int) -> Tensor:
        """Return the random numbers of the next batch: (K, n * per_image)."""
        if not per_image:
            return buffer
        start = (self._batch - self._first) * (self.batch_size * per_image)
        return buffer.index_select(1, start + torch.arange(n * per_image, device=self.device))

    def _descend(self, gradient: Tensor) -> None:
        """Take the step of ``torch.optim.SGD`` in every active network."""
        active = self._active.index_select(0, self._owner)
        if self.config.weight_decay:
            gradient = gradient.add(self._values, alpha=self.config.weight_decay)
        if self._velocity is not None:
            gradient = self._velocity * self.config.momentum + gradient
            self._velocity.copy_(torch.where(active, gradient, self._velocity))
        rate = self._rates.index_select(0, self._batch)
        self._values.copy_(torch.where(active, self._values - rate * gradient, self._values))

    def _logits(
        self, X: Tensor, training: TrainingPass | None, until: StackedBatchNorm | None = None
    ) -> Tensor:
        """Return the logits (K, classes, N) of images (N, K*C, H, W), or the input of a layer."""
        for layer in self._layers:
            if layer is until:
                break
            X = layer(X, training)
        return X

    def evaluate(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return mean loss and accuracy of each network, by running statistics."""
        loss = torch.zeros(self.count, dtype=torch.float64, device=self.device)
        correct = torch.zeros(self.count, dtype=torch.int64, device=self.device)
        with torch.no_grad(), exact_float32(self.device):
            for X, labels in self._portions(images):
                logits, wanted = self._logits(X, None), labels.expand(self.count, -1)
                losses = F.cross_entropy(logits, wanted, reduction="none")  # (K, N)
                loss += losses.sum(1, dtype=torch.float64)
                correct += (logits.argmax(1) == wanted).sum(1)
        return loss.cpu().numpy() / len(images), correct.cpu().numpy() / len(images)

    def evaluate_population(
        self, population: Images, images: Images
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the same by the statistics of a population; the running ones are restored.

        Layer by layer, so that the layers before already normalize by theirs.
        """
        if not self._norms:
            return self.evaluate(images)
        before = [(norm.mean.clone(), norm.var.clone()) for norm in self._norms]
        with torch.no_grad(), exact_float32(self.device):
            for norm in self._norms:
                found = [
                    (len(labels), *norm.moments(self._logits(X, None, until=norm)))
                    for X, labels in self._portions(population)
                ]
                mean, var = merged(found)
                norm.mean.copy_(mean)
                norm.var.copy_(var)
        scores = self.evaluate(images)
        for norm, (mean, var) in zip(self._norms, before, strict=True):
            norm.mean.copy_(mean)
            norm.var.copy_(var)
        return scores

    def _portions(self, images: Images) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images in portions, the same for each network: (N, K*C, H, W) and (N,)."""
        there, labels = self._on_device(images)
        for where in batches(len(images), max(1, EVALUATED_AT_ONCE // self.count)):
            X = scaled(there[where]).unsqueeze(1)  # (N, 1, [C,] H, W)
            repeated = X.expand(-1, self.count, *X.shape[2:])
            yield side_by_side(repeated), labels[where]

    def _on_device(self, images: Images) -> tuple[Tensor, Tensor]:
        """Return images and labels on the device, sent there once."""
        if id(images) not in self._there:
            there = images.images.to(self.device), images.labels.to(self.device)
            self._there[id(images)] = images, *there
        return self._there[id(images)][1:]

    def _send(self, values: np.ndarray, to: Tensor) -> None:
        """Copy into a tensor of the device, without waiting for it."""
        source = torch.from_numpy(values)
        if self.device.type == "cuda":
            source = source.pin_memory()  # torch keeps it alive until it is copied
        to.copy_(source, non_blocking=True)

    def phase_seconds(self) -> dict[str, float]:
        """Return nothing: the phases of a step run on the device, in the background."""
        return {}

    @torch.no_grad()
    def take(self, lane: int, net: nn.Module) -> None:
        """Copy a seed's parameters and running moments into a network."""
        for of, tensor in tensors_of(net):
            tensor.copy_(self.tensors[of][lane])

    def lanes(self, of: TensorId) -> np.ndarray:
        """Return a copy of a parameter or running moment: float32 (size, K)."""
        return self.tensors[of].detach().flatten(1).t().cpu().numpy()

    def velocity(self, of: TensorId) -> np.ndarray:
        """Return a copy of a parameter's velocity, in arms with momentum: (size, K)."""
        if self._velocity is None:
            raise ConfigError("an arm without momentum has no velocity")
        sizes = {each: tensor.numel() for each, tensor in self._parameters.items()}
        velocities = dict(zip(sizes, self._velocity.split(list(sizes.values())), strict=True))
        return velocities[of].view(self.count, -1).t().cpu().numpy()

    def close(self) -> None:
        """Free the memory; the object must not be used afterwards."""
        self.__dict__.clear()


def side_by_side(images: Tensor) -> Tensor:
    """Return images (N, K, H, W) as they are, and (N, K, C, H, W) as (N, K*C, H, W)."""
    return images if images.dim() == 4 else images.flatten(1, 2)


def scaled(images: Tensor) -> Tensor:
    """Return images in 0..1: uint8 -> float32, of the same shape."""
    return images.float().div_(255.0)


def merged(portions: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of all images from (images, mean, variance) of portions."""
    total = sum(n for n, _, _ in portions)
    mean = torch.stack([own.double() * (n / total) for n, own, _ in portions]).sum(0)
    # variance = mean of the variances + variance of the means
    spread = [(var + (own - mean) ** 2) * (n / total) for n, own, var in portions]
    return mean, torch.stack(spread).sum(0)


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Make a GPU the current one, compute without TF32 and deterministically, within the context.

    TF32 keeps 10 of the 23 bits of a factor's mantissa, and torch uses it in
    convolutions by default.  The settings are restored afterwards.  For other
    devices nothing is set.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    switches: list[Any] = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    precisions = [switch.fp32_precision for switch in switches]
    choices = cudnn.benchmark, cudnn.deterministic
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        cudnn.benchmark, cudnn.deterministic = False, True
        with torch.cuda.device(device):
            yield
    finally:
        for switch, precision in zip(switches, precisions, strict=True):
            switch.fp32_precision = precision
        cudnn.benchmark, cudnn.deterministic = choices
