"""Checks that every program of the lockstep engine must pass, and the arms they are made on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bnstudy import data
from bnstudy.config import RunConfig, stream
from bnstudy.engines.lockstep.loop import train_by
from bnstudy.engines.lockstep.parameters import RUNNING_MEAN, RUNNING_VAR, tensors_of
from bnstudy.engines.lockstep.random_draws import RandomDraws
from bnstudy.engines.reference import train
from bnstudy.networks import build
from tests.conftest import SMALL

ARMS = {
    "none": {},
    "bn": {"norm": "bn"},
    "scratch": {"norm": "scratch:eps=0.001"},
    "no-bias": {"norm": "bn", "bias": False},
    "relu": {"norm": "bn", "activation": "relu"},
    "tanh": {"activation": "tanh"},
    "activated": {"norm": "bn", "placement": "activated"},
    "activated-tanh": {"norm": "bn", "placement": "activated", "activation": "tanh"},
    "input": {"norm": "scratch", "placement": "input"},
    "ghost": {"norm": "ghost:size=8"},
    "ghost-activated": {"norm": "ghost:size=7", "placement": "activated"},
    "ghost-input": {"norm": "ghost:size=7", "placement": "input"},
    "noisy": {"norm": "noisy"},
    "noisy-activated": {"norm": "noisy", "placement": "activated"},
    "noisy-input": {"norm": "noisy", "placement": "input"},
    "population": {"norm": "population"},
    "population-activated": {"norm": "population:momentum=0.5", "placement": "activated"},
    "frozen": {"norm": "frozen"},
    "mean-only": {"norm": "mean-only"},
    "mean-only-activated": {"norm": "mean-only", "placement": "activated"},
    "mean-only-input": {"norm": "mean-only", "placement": "input"},
    "variance-only": {"norm": "variance-only"},
    "variance-only-activated": {
        "norm": "variance-only",
        "placement": "activated",
        "norm_layers": "1",
    },
    "variance-only-input": {
        "norm": "variance-only:eps=0.001",
        "placement": "input",
        "norm_layers": "1",
    },
    "no-affine": {"norm": "bn:affine=0"},
    "no-affine-activated": {
        "norm": "scratch:affine=0",
        "placement": "activated",
        "norm_layers": "12",
    },
    "layers-1": {"norm": "bn", "norm_layers": "1"},
    "layers-24": {"norm": "bn", "norm_layers": "24"},
    "layers-3": {"norm": "bn", "norm_layers": "3"},
    "layers-14-activated": {"norm": "bn", "placement": "activated", "norm_layers": "14"},
    "layers-25-input": {
        "norm": "scratch",
        "placement": "input",
        "activation": "tanh",
        "norm_layers": "25",
    },
    "layers-123-noisy": {"norm": "noisy", "norm_layers": "123", "dropout": 0.3},
    "layers-23-ghost": {"norm": "ghost:size=7", "norm_layers": "23"},
    "group": {"norm": "group:groups=2"},
    "group-activated": {"norm": "group:groups=2", "placement": "activated"},
    "layer": {"norm": "layer"},
    "layer-input": {"norm": "layer", "placement": "input"},
    "dropout": {"norm": "bn", "dropout": 0.5},
    "dropout-before": {"norm": "bn", "dropout": 0.3, "dropout_placement": "before-norm"},
    "dropout-last": {"dropout": 0.5, "dropout_placement": "after-last-norm"},
    "dropout-before-input": {
        "norm": "bn",
        "placement": "input",
        "dropout": 0.3,
        "dropout_placement": "before-norm",
    },
    "dropout-last-activated": {
        "norm": "bn",
        "placement": "activated",
        "dropout": 0.3,
        "dropout_placement": "after-last-norm",
    },
    "batch-mates": {"norm": "bn", "batch_mates": "fixed"},
    "momentum": {"norm": "bn", "momentum": 0.9, "weight_decay": 0.01},
}

# perceptrons of other shapes than LeNet's linear layers
PERCEPTRONS = {
    "mlp": {"network": "mlp:depth=3,width=100"},
    "mlp-bn": {"network": "mlp:depth=3,width=33", "norm": "bn"},
    "mlp-deep": {"network": "mlp:depth=8,width=17", "norm": "bn", "norm_layers": "1-3,fc6"},
    "mlp-input": {
        "network": "mlp:depth=2,width=20",
        "norm": "scratch",
        "placement": "input",
        "inputs": "standardized",
        "activation": "tanh",
    },
    "mlp-noisy": {"network": "mlp:depth=2,width=31", "norm": "noisy", "dropout": 0.3},
    "mlp-none": {"network": "mlp:depth=0", "init": "he", "inputs": "standardized"},
    "mlp-momentum": {
        "network": "mlp:depth=2,width=24",
        "norm": "population",
        "momentum": 0.9,
        "weight_decay": 0.01,
        "init": "xavier-gain",
    },
    "lenet-standardized": {"norm": "bn", "inputs": "standardized", "init": "he"},
}
EVERY_ARM = {**ARMS, **PERCEPTRONS}

CALM = (
    "none",
    "bn",
    "scratch",
    "no-bias",
    "noisy",
    "population",
    "mean-only",
    "no-affine",
    "layers-1",
    "layers-24",
    "group",
    "dropout",
    "dropout-last",
    "mlp",
    "mlp-bn",
)

# where rounding changes a gradient more than by torch's own: relu has a kink, and a unit that
# rounding puts on its other side counts or not; a sigmoid's spread is small beside its mean,
# most of all in the last ghost group, which may hold two images
# beta of a layer before a single-channel image is one number, which may all but cancel
ROUGH = ("relu", "variance-only-activated", "ghost-activated", "layer-input")

RATES = {"variance-only": 0.0005}  # of what stands uncentred, a step undoes the layers above


def splits_of(images, classes=10):
    """Return splits that train on some images."""
    empty = data.Images(images.images[:0], images.labels[:0])
    return data.Splits(images, empty, empty, empty, classes)


def one_step(make, config, seeds, splits):
    """Train one step with momentum, which leaves every gradient behind as its velocity."""
    count = len(splits.train)
    config = config.replace(momentum=0.5, batch_size=count)
    nets = [build(config, seed, splits) for seed in seeds]
    program = make(config, nets, splits.train)
    order = np.stack([stream(seed, "order").permutation(count) for seed in seeds])
    program.start_epoch(order)
    draws = RandomDraws(config, seeds, nets).draw([count])
    program.train(0, 1, np.full(1, 0.1, np.float32), *draws)
    losses, correct = program.scores()
    return program, order, losses[0], correct[0]


def gradients_of_torch(config, seed, splits, picked, dtype):
    """Return loss, correct images, gradients with decay, and network after a backward pass."""
    net = build(config, seed, splits).to(dtype)
    images, labels = splits.train.images[picked], splits.train.labels[picked]
    images = images if images.ndim == 4 else images.unsqueeze(1)
    logits = net(images.to(dtype) / 255)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    gradients = {
        name: p.grad.double() + config.weight_decay * p.detach().double()
        for name, p in net.named_parameters()
    }
    return loss.item(), int((logits.argmax(1) == labels).sum()), gradients, net


def check_one_step(make, arm, batch, count, start, sample, times_torch):
    """Compare a step of an arm on images of the sample, see :func:`check_step`."""
    config = RunConfig(**{**arm, "momentum": 0.0, "weight_decay": 0.0})
    where = torch.arange(start, start + batch)
    images = data.Images(sample.train_images[where], sample.train_labels[where].long())
    check_step(make, config, range(start, start + count), splits_of(images), times_torch)


def check_step(make, config, seeds, splits, times_torch):
    """Compare a step's loss, gradients and running moments with float64 autograd's.

    A bias before normalization has gradient zero, of which only rounding is left; and
    some gradients are small differences of large numbers, most of all in batches of two
    or three, where torch's own float32 loses digits too: a few times its worst loss over
    all parameters is allowed.
    """
    program, order, losses, correct = one_step(make, config, seeds, splits)
    for lane in {0, len(seeds) - 1}:
        picked = torch.from_numpy(order[lane])
        loss, right, exact, net = gradients_of_torch(
            config, seeds[lane], splits, picked, torch.float64
        )
        _, _, single, net32 = gradients_of_torch(config, seeds[lane], splits, picked, torch.float32)
        assert losses[lane] == pytest.approx(loss, rel=1e-5 if len(picked) > 3 else 1e-4)
        assert correct[lane] == right
        largest = max(float(g.abs().max()) for g in exact.values())
        sizes = {name: float(g.abs().max()) for name, g in exact.items()}
        sizes = {name: size if size > 1e-9 * largest else largest for name, size in sizes.items()}
        torchs = max(float((single[n] - exact[n]).abs().max()) / sizes[n] for n in exact)
        id_of = {id(tensor): of for of, tensor in tensors_of(net)}
        for name, parameter in net.named_parameters():
            found = torch.from_numpy(program.velocity(id_of[id(parameter)])[:, lane].copy())
            error = float((found.reshape(parameter.shape) - exact[name]).abs().max()) / sizes[name]
            assert error <= max(1e-5, times_torch * torchs), (name, error, torchs)
        check_running_moments(program, lane, net, net32, times_torch)
    program.close()


def check_running_moments(program, lane, net, net32, times_torch):
    """Compare with those of float64, to 1e-5 of a channel's spread or as torch's float32."""
    exact, single = dict(tensors_of(net)), dict(tensors_of(net32))
    for of, wanted in exact.items():
        if of.kind not in (RUNNING_MEAN, RUNNING_VAR):
            continue
        # a mean may be zero but for rounding, so that its own size says nothing
        spread = float(exact[of._replace(kind=RUNNING_VAR)].abs().max()) ** 0.5
        size = max(float(wanted.abs().max()), spread if of.kind == RUNNING_MEAN else 0.0)
        torchs = float((single[of] - wanted).abs().max())
        found = torch.from_numpy(program.lanes(of)[:, lane].copy()).double()
        error = float((found - wanted).abs().max())
        assert error <= max(1e-5 * size, times_torch * torchs), (of, error, size, torchs)


NORMS = (
    "none",
    "bn",
    "bn:affine=0",
    "scratch:eps=0.001",
    "ghost:size=7",
    "noisy",
    "population",
    "frozen",
    "mean-only",
    "layer",
)


def drawn_arm(number, network):
    """Draw an arm, images of its shape and labels of its classes: for ``lenet`` or ``mlp``."""
    rng = np.random.default_rng(number)

    def choice(*words):
        return words[rng.integers(len(words))]

    shape, classes, depth = (1, 28, 28), int(rng.integers(2, 27)), 2
    if network == "mlp":
        shape = (int(rng.integers(1, 4)), int(rng.integers(1, 20)), int(rng.integers(1, 20)))
        depth = choice(1, 2, 3, 5, 20)
        network = f"mlp:depth={depth},width={rng.integers(1, 60)}"
        layers = choice("all", "1", f"1-{depth}", f"fc1,fc{depth}")
    else:
        layers = choice("all", "1", "23", "134", "2", "14")
    arm = {
        "network": network,
        "norm": NORMS[number % len(NORMS)],
        "placement": choice("output", "activated", "input"),
        "norm_layers": layers,
        "activation": choice("sigmoid", "relu", "tanh"),
        "bias": choice(True, False),
        "dropout": choice(0.0, 0.0, 0.4),
        "dropout_placement": choice("hidden", "before-norm", "after-last-norm"),
        "weight_decay": choice(0.0, 0.01),
        "inputs": choice("scaled", "standardized"),
        "init": choice("xavier", "xavier-gain", "he"),
    }
    images = drawn_images(int(rng.integers(4, 70)), shape, classes, rng)
    return RunConfig(**arm), splits_of(images, classes)


def drawn_images(count, shape, classes, rng=None):
    """Draw pixels and labels."""
    rng = rng or np.random.default_rng(count)
    pixels = rng.integers(0, 256, (count, *shape), np.uint8)
    return data.Images(torch.from_numpy(pixels), torch.from_numpy(rng.integers(0, classes, count)))


def check_fifty_steps(make, arm, seeds, sample):
    """Compare the losses of the first seeds over fifty steps with the reference's."""
    config = RunConfig(**EVERY_ARM[arm]).replace(
        batch_size=20,
        epochs=1,
        train_images=1_000,
        validation_images=10,
        test_images=10,
        population_images=10,
        evaluations_per_epoch=50,
        # rounding grows from step to step, with some arms and rates a thousandfold in fifty:
        # torch in float32 leaves torch in float64 as fast as the engine does
        learning_rate=RATES.get(arm, 0.3 if arm in CALM else 0.005),
    )
    splits = data.split(sample, config)
    records = train_by(make, config, seeds, splits)
    for seed, ours in zip(seeds[:2], records, strict=False):
        reference = train(config, seed, splits)
        assert len(reference.curve) == 50
        pairs = ours.curve["train_loss"], reference.curve["train_loss"]
        np.testing.assert_allclose(*pairs, rtol=1e-4)


def check_records(make, arm, seeds, small):
    """Compare the records of two epochs, with a partial last batch, with the reference's."""
    config = SMALL.replace(**EVERY_ARM[arm], learning_rate=0.1, schedule="cosine")
    for seed, ours in zip(seeds, train_by(make, config, seeds, small), strict=True):
        reference = train(config, seed, small)
        assert (ours.status, ours.steps, ours.steps_per_epoch) == ("done", 10, 5)
        assert ours.weights_digest == reference.weights_digest
        assert ours.order_digest == reference.order_digest
        for ours_table, table in ((ours.curve, reference.curve), (ours.norms, reference.norms)):
            assert list(ours_table.columns) == list(table.columns)
            assert list(ours_table.dtypes) == list(table.dtypes)
            for column in table.select_dtypes("number"):
                pair = ours_table[column], table[column]
                np.testing.assert_allclose(*pair, rtol=2e-4, atol=1e-5, err_msg=column)
