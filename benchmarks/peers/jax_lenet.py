"""Sixteen LeNets by JAX: a step jitted, vmapped over seeds, its arrays donated.

Convolutions are written twice, as XLA's and as patches times a matrix, images
last in channels both times; each batch size is measured with the faster one.
"""

import time
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.serving import serve
from bnstudy.config import RunConfig
from bnstudy.data import Dataset
from bnstudy.networks import build, layers_of

SEEDS, RATE, EPS, KEEP = 16, 0.1, 1e-5, 0.9
LAYERS = layers_of(RunConfig())
Arrays = dict[str, jax.Array]


def by_xla(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve (N, H, W, C) with (5, 5, C, O)."""
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def by_patches(x: jax.Array, w: jax.Array) -> jax.Array:
    """Do the same as one matrix product."""
    side = x.shape[1] - 4
    patches = [x[:, i : i + side, j : j + side, :] for i in range(5) for j in range(5)]
    return jnp.concatenate(patches, axis=3) @ w.reshape(-1, w.shape[-1])


def normalized(x: jax.Array, name: str, params: Arrays, moving: Arrays) -> jax.Array:
    """Normalize by the batch's moments; ``moving`` gets the new moving ones."""
    if f"{name}.gamma" not in params:
        return x
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    unbiased = var * (x.size / mean.size) / (x.size / mean.size - 1)
    for what, value in (("mean", mean), ("var", unbiased)):
        key = f"{name}.{what}"
        moving[key] = KEEP * moving[key] + (1 - KEEP) * value
    x_hat = (x - mean) * jax.lax.rsqrt(var + EPS)
    return params[f"{name}.gamma"] * x_hat + params[f"{name}.beta"]


def forward(convolve: Callable, params: Arrays, moving: Arrays, x: jax.Array) -> jax.Array:
    """Return the logits (N, 10) of images (N, 28, 28, 1)."""
    for layer in LAYERS:
        name, kind, outputs = layer.name, layer.kind, layer.outputs
        if name == "fc1":
            x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        w = params[f"{name}.w"]
        x = (convolve(x, w) if kind == "conv" else x @ w) + params[f"{name}.b"]
        if name == "fc3":
            break
        x = jax.nn.sigmoid(normalized(x, name, params, moving))
        if kind == "conv":
            side = x.shape[1] // 2
            x = x.reshape(len(x), side, 2, side, 2, outputs).mean((2, 4))
    return x


def one_step(convolve, params, moving, images, labels, index):
    """Train one net on the images of an index; return its new arrays and its loss."""
    x, y = images[index][..., None].astype(jnp.float32) / 255, labels[index]

    def loss_of(params):
        moved = dict(moving)
        logits = forward(convolve, params, moved, x)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        return -picked.mean(), moved

    (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    new = jax.tree.map(lambda p, g: p - RATE * g, params, gradients)
    return new, moved, loss


@cache
def stepper(convolve: Callable) -> Callable:
    """Return the compiled step of all seeds."""
    many = jax.vmap(partial(one_step, convolve), in_axes=(0, 0, None, None, 0))
    return jax.jit(many, donate_argnums=(0, 1))


def initial(norm: str) -> tuple[Arrays, Arrays]:
    """Return parameters and moving moments with a leading axis of seeds."""
    params: dict[str, list] = {}
    moving: dict[str, list] = {}
    for seed in range(SEEDS):
        net = build(RunConfig(norm=norm), seed)
        for described in LAYERS:
            name, kind, outputs = described.name, described.kind, described.outputs
            layer = net.get_submodule(name)
            order = (2, 3, 1, 0) if kind == "conv" else (1, 0)
            params.setdefault(f"{name}.w", []).append(layer.weight.detach().permute(order).numpy())
            params.setdefault(f"{name}.b", []).append(layer.bias.detach().numpy())
            if norm == "none" or name == "fc3":
                continue
            for arrays, key, start in (
                (params, "gamma", np.ones),
                (params, "beta", np.zeros),
                (moving, "mean", np.zeros),
                (moving, "var", np.ones),
            ):
                arrays.setdefault(f"{name}.{key}", []).append(start(outputs, np.float32))
    stack = partial(jax.tree.map, lambda each: jnp.asarray(np.stack(each)))
    is_list = {"is_leaf": lambda each: isinstance(each, list)}
    return stack(params, **is_list), stack(moving, **is_list)


class ByJax:
    """Trains sixteen seeds at once, with the faster convolution of each batch size."""

    def __init__(self, dataset: Dataset) -> None:
        self.images = jnp.asarray(dataset.train_images.numpy())
        self.labels = jnp.asarray(dataset.train_labels.numpy().astype(np.int32))
        self._faster: dict[tuple[str, int], Callable] = {}

    def train(self, norm: str, order: np.ndarray, convolve: Callable) -> tuple[list, float]:
        """Train on batches (steps, SEEDS, N) of image numbers; return losses and seconds."""
        params, moving = initial(norm)
        step, losses = stepper(convolve), []
        started = time.perf_counter()
        for index in order:
            params, moving, loss = step(params, moving, self.images, self.labels, index)
            losses.append(loss)
        jax.block_until_ready((params, losses))
        return losses, time.perf_counter() - started

    def faster(self, norm: str, batch_size: int) -> Callable:
        """Return the faster convolution, after compiling both."""
        if (norm, batch_size) not in self._faster:
            order = np.zeros((3, SEEDS, batch_size), np.int32)
            seconds = {}
            for convolve in (by_xla, by_patches):
                self.train(norm, order[:1], convolve)
                seconds[convolve] = self.train(norm, order, convolve)[1]
            self._faster[norm, batch_size] = min(seconds, key=seconds.__getitem__)
        return self._faster[norm, batch_size]

    def losses(self, norm: str, batch_size: int, steps: int) -> list[float]:
        """Return the losses of the first steps of seed 0."""
        order = np.arange(steps * batch_size, dtype=np.int32).reshape(steps, 1, batch_size)
        order = np.repeat(order, SEEDS, axis=1)
        found, _ = self.train(norm, order, self.faster(norm, batch_size))
        return [float(loss[0]) for loss in found]

    def rate(self, norm: str, batch_size: int, images: int) -> float:
        """Return images per second of all seeds."""
        steps = max(1, images // (SEEDS * batch_size))
        shape = (steps, SEEDS, batch_size)
        order = np.random.default_rng(0).integers(len(self.labels), size=shape, dtype=np.int32)
        return order.size / self.train(norm, order, self.faster(norm, batch_size))[1]


if __name__ == "__main__":
    serve(ByJax)
