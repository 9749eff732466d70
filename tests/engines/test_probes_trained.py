"""One number of every probe that looks at moments, on a trained network, recomputed by hand."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bnstudy import data
from bnstudy.config import RunConfig, Step
from bnstudy.data import scale
from bnstudy.engines.observer import Training
from bnstudy.engines.probes import PROBES, ProbedRun
from bnstudy.engines.reference import train
from bnstudy.networks import StreamDropout

SEED, LAST = 6, Step(10, 5)
CONFIG = RunConfig(
    norm="bn",
    batch_size=50,
    epochs=2,
    learning_rate=0.5,
    train_images=230,
    validation_images=100,
    test_images=120,
    population_images=230,
    evaluations_per_epoch=1,
)
DROPPED = CONFIG.replace(dropout=0.5, dropout_placement="before-norm")


@pytest.fixture(scope="module")
def small(sample):
    return data.split(sample, CONFIG)


@pytest.fixture(scope="module")
def trained(small):
    nets = {}
    for config in (CONFIG, DROPPED):

        def keep(step, training, config=config):
            nets[config] = copy.deepcopy(training.net)

        train(config, SEED, small, observers=[keep])
    return nets


def seen(name, options, net, small, config=CONFIG):
    probe = PROBES[name](ProbedRun(config, SEED, small), epochs=[2], **options)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate)
    none = torch.empty(0, 1, 28, 28), torch.empty(0).long()
    probe(LAST, Training(net, optimizer, *none, math.nan))
    return probe.close().set_index(["layer", "tensor", "stat"])["value"]


def up_to(net, name):
    """Return a copy of a network up to a layer, in training mode."""
    names = [child for child, _ in net.named_children()]
    return copy.deepcopy(net[: names.index(name) + 1]).train()


def inputs_of(net, name, batches):
    """Return what comes into a layer, (values, channels) in float64, over some batches."""
    rows = []
    layer = net.get_submodule(name)
    layer.register_forward_pre_hook(lambda _, args: rows.append(args[0].double().numpy()))
    with torch.no_grad():
        for images in batches:
            net(images)
    return np.concatenate([np.moveaxis(row, 1, -1).reshape(-1, row.shape[1]) for row in rows])


def test_geometry(trained, small):
    found = seen("geometry", {"images": 70}, trained[CONFIG], small)
    with torch.no_grad():
        A = up_to(trained[CONFIG], "act3")(scale(small.train.images[:70])).double().numpy()
    unit = A / np.linalg.norm(A, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[np.triu_indices(70, 1)]
    assert found["act3", "out", "cosine"] == pytest.approx(pairs.mean(), rel=1e-6)
    singular = np.linalg.svd(A - A.mean(0), compute_uv=False)
    rank = (singular**2).sum() / singular[0] ** 2
    assert found["act3", "out", "centred_rank"] == pytest.approx(rank, rel=1e-6)


def test_batch_noise_behind_another_normalization(trained, small):
    found = seen("batch-noise", {"sizes": [8, 16], "batches": 5}, trained[CONFIG], small)
    rng = ProbedRun(CONFIG, SEED, small).stream("batch-noise 10")
    net = up_to(trained[CONFIG], "conv2")
    with torch.no_grad():
        batches = [
            net(scale(small.train.images[rng.choice(230, 8, replace=False)])).double().numpy()
            for _ in range(5)
        ]
    means = np.array([x.mean((0, 2, 3)) for x in batches])
    whole = np.concatenate(batches).std((0, 2, 3))
    noise = math.sqrt(((means.std(0, ddof=1) / whole) ** 2).mean())
    assert found["norm2", "in", "mean_noise_8"] == pytest.approx(noise, rel=1e-3)


def test_landscape(trained, small):
    found = seen("landscape", {"images": 60, "points": 2}, trained[CONFIG], small)
    X, y = scale(small.train.images[:60]), small.train.labels[:60]

    def gradient(net):
        loss = F.cross_entropy(net.train()(X), y)
        return torch.autograd.grad(loss, list(net.parameters()))

    def length(vectors):
        return math.sqrt(sum(float(v.double().square().sum()) for v in vectors))

    here = gradient(copy.deepcopy(trained[CONFIG]))
    changes = []
    for rates in (0.5, 4.0):
        moved = copy.deepcopy(trained[CONFIG])
        with torch.no_grad():
            for parameter, g in zip(moved.parameters(), here, strict=True):
                parameter -= rates * CONFIG.learning_rate * g
        there = gradient(moved)
        changes.append(length([a - b for a, b in zip(there, here, strict=True)]))
    change = found["network", "loss", "gradient_change"]
    assert change == pytest.approx(max(changes), rel=1e-3)
    ways = [rates * CONFIG.learning_rate * length(here) for rates in (0.5, 4.0)]
    beta = max(change / way for change, way in zip(changes, ways, strict=True))
    assert found["network", "loss", "beta"] == pytest.approx(beta, rel=1e-3)


def test_variance_shift(trained, small):
    found = seen("variance-shift", {"batches": 4}, trained[DROPPED], small, DROPPED)
    rng = ProbedRun(DROPPED, SEED, small).stream("variance-shift 10")
    net = copy.deepcopy(trained[DROPPED]).train()
    droppers = [layer for layer in net.modules() if isinstance(layer, StreamDropout)]
    for layer in droppers:
        layer.rng = rng
    order = (rng.choice(230, 50, replace=False) for _ in range(4))
    with torch.random.fork_rng(devices=[]):  # dropout without gradients may be a checkpoint's
        dropped = inputs_of(net, "norm3", (scale(small.train.images[each]) for each in order))
    plain = copy.deepcopy(trained[DROPPED]).train()
    for layer in plain.modules():
        if isinstance(layer, StreamDropout):
            layer.eval()
    # all images as one batch normalize by population statistics, but for n / (n - 1)
    whole = inputs_of(plain, "norm3", [scale(small.population.images)])
    shift = np.log(whole.var(0) / dropped.var(0)).mean()
    assert found["norm3", "in", "observed"] == pytest.approx(shift, abs=0.02)
    assert shift < -0.3


def test_uncertainty_over_batches(trained, small):
    found = seen("uncertainty", {"batches": 3}, trained[CONFIG], small)
    rng = ProbedRun(CONFIG, SEED, small).stream("uncertainty 10")
    net, p = trained[CONFIG], 0.0
    for _ in range(3):
        b = scale(small.train.images[rng.choice(230, 50, replace=False)])
        t = scale(small.test.images)
        with torch.no_grad():
            for layer in net.children():
                if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                    axes = [axis for axis in range(b.dim()) if axis != 1]
                    mean, var = b.mean(axes), b.var(axes, correction=0)
                    both = mean, var, layer.weight, layer.bias, False, 0.0, layer.eps
                    b, t = F.batch_norm(b, *both), F.batch_norm(t, *both)
                else:
                    b, t = layer(b), layer(t)
        p = p + t.double().softmax(1).numpy() / 3
    nll = -np.log(p[np.arange(120), small.test.labels.numpy()]).mean()
    assert found["network", "batches", "nll"] == pytest.approx(nll, rel=1e-5)
