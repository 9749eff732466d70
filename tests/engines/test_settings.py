"""Networks, inputs, optimizers and frozen normalization in training, against loops by hand."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bnstudy.config import RunConfig, stream
from bnstudy.engines import train
from bnstudy.engines.lockstep import unsupported
from bnstudy.engines.lockstep.gpu import Stack
from bnstudy.engines.lockstep.loop import train_by
from bnstudy.engines.probes import PROBES
from bnstudy.errors import ConfigError
from bnstudy.networks import build, norm_layers
from tests.conftest import SMALL
from tests.images import splits_of

TINY = RunConfig(
    norm="bn",
    network="mlp:depth=2,width=6",
    batch_size=10,
    epochs=2,
    learning_rate=0.01,
    population_images=20,
    evaluations_per_epoch=2,
)


def losses_by_hand(config, seed, splits, make, freeze=10**9):
    """Train by torch's optimizer and the shortest loop; return the losses."""
    net, rng, losses = build(config, seed, splits), stream(seed, "order"), []
    optimizer = make(net.parameters())
    n = len(splits.train)
    for _ in range(config.epochs):
        order = rng.permutation(n)
        for start in range(0, n, config.batch_size):
            if len(losses) >= freeze:
                for layer in norm_layers(net).values():
                    layer.eval()
            batch = torch.from_numpy(order[start : start + config.batch_size])
            X = splits.train.images[batch].float().unsqueeze(1) / 255
            loss = F.cross_entropy(net(X), splits.train.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def losses_of(config, seed, splits):
    """Return the losses of a run of the reference trainer."""
    losses = []
    observers = [[lambda step, run: losses.append(run.loss)]]
    train(config, [seed], splits, observers=observers)
    return losses[1:]


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"optimizer": "adam"}, partial(torch.optim.Adam, lr=0.01)),
        (
            {"optimizer": "adam:beta1=0.5,beta2=0.9,eps=0.001", "weight_decay": 0.1},
            partial(torch.optim.Adam, lr=0.01, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1),
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.3},
            partial(torch.optim.AdamW, lr=0.01, weight_decay=0.3),
        ),
        (
            {"optimizer": "sgd:nesterov=1", "momentum": 0.9},
            partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
        ),
    ],
)
def test_optimizers_are_torchs(settings, make):
    splits = splits_of((1, 9, 9))
    config = TINY.replace(**settings)
    np.testing.assert_array_equal(
        losses_of(config, 2, splits), losses_by_hand(config, 2, splits, make)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adan"}, "there is no optimizer 'adan': did you mean 'adam'"),
        ({"optimizer": "adam", "momentum": 0.9}, "momentum is a setting of sgd, got 0.9"),
        ({"optimizer": "adam:beta1=2"}, "beta1 and beta2 must be in"),
        ({"optimizer": "sgd:nesterov=1"}, "nesterov must be 0, or 1 with momentum above 0"),
        ({"optimizer": "sgd:lr=1"}, "there is no sgd option 'lr'"),
    ],
)
def test_impossible_optimizers_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        train(TINY.replace(**settings), [0], splits_of((1, 9, 9)))


@pytest.mark.parametrize("norm", ["bn", "scratch", "population"])
def test_frozen_normalization_uses_and_keeps_the_running_statistics(norm):
    splits, nets = splits_of((1, 9, 9)), []
    config = TINY.replace(norm=norm, freeze_norm_step=3)

    def look(step, run):
        nets.append(copy.deepcopy(run.net.state_dict()))

    train(config, [1], splits, observers=[[look]])
    moving = [
        [value for name, value in state.items() if "running" in name or "moving" in name]
        for state in nets
    ]
    assert len(nets) == 9
    assert not any(torch.equal(*pair) for pair in zip(moving[2], moving[3], strict=True))
    for later in moving[4:]:
        assert all(torch.equal(*pair) for pair in zip(moving[3], later, strict=True))
    by_hand = losses_by_hand(config, 1, splits, partial(torch.optim.SGD, lr=0.01), freeze=3)
    np.testing.assert_array_equal(losses_of(config, 1, splits), by_hand)


@pytest.mark.parametrize(
    ("settings", "shape", "classes"),
    [
        ({"network": "mlp:depth=3,width=9"}, (1, 9, 7), 26),
        ({"network": "lenet"}, (3, 32, 32), 10),
        ({"network": "lenet:padding=2,pooling=max", "inputs": "standardized"}, (3, 20, 20), 5),
        ({"network": "mlp:depth=1", "inputs": "scaled:size=5", "dropout": 0.3}, (2, 8, 8), 4),
        ({"network": "lenet", "norm": "noisy", "dropout": 0.3}, (1, 30, 26), 26),
        ({"network": "resnet:width=2,shortcuts=0", "activation": "relu"}, (3, 12, 12), 3),
    ],
)
def test_stacked_tensors_train_other_networks_and_images_as_the_reference_does(
    settings, shape, classes
):
    splits = splits_of(shape, classes, n=50)
    config = TINY.replace(**settings)
    assert unsupported(config, shape=shape, classes=classes, device="cuda") == ""
    ours = train_by(partial(Stack, device="cpu"), config, [3, 1], splits)
    for record, wanted in zip(ours, train(config, [3, 1], splits), strict=True):
        assert record.weights_digest == wanted.weights_digest
        for column in wanted.curve:
            # rounding may turn one of the 50 images, which are noise
            loose = {"rtol": 0.0, "atol": 1.01 / 50} if "accuracy" in column else {"rtol": 1e-4}
            pair = record.curve[column], wanted.curve[column]
            np.testing.assert_allclose(*pair, **loose, err_msg=column)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"optimizer": "adam"}, "optimizer 'adam' is trained by the reference engine"),
        ({"freeze_norm_step": 5}, "normalization frozen at a step"),
        ({"network": "resnet"}, "network 'resnet' has shortcuts"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_no_fast_engine_trains_has_a_reason(settings, reason, device):
    assert reason in unsupported(SMALL.replace(**settings), device=device)


@pytest.mark.parametrize("probe", sorted(PROBES))
@pytest.mark.parametrize("network", ["mlp:depth=2,width=6", "resnet:width=2"])
def test_every_probe_measures_every_network(probe, network):
    splits = splits_of((1, 12, 12), n=64)
    config = TINY.replace(network=network, epochs=1, batch_size=16, activation="relu")
    if network.startswith("mlp"):
        config = config.replace(dropout=0.2, dropout_placement="before-norm")
    options = {"batch-noise": {"sizes": [2, 4]}}.get(probe, {})
    record = train(config, [0], splits, probes={probe: options})[0]
    assert record.status == "done"
    assert record.measures is not None
    assert len(record.measures)
    assert np.isfinite(record.measures["value"]).mean() > 0.5


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ({"geometry": {"layers": ["act9"]}}, "there is no layer 'act9'"),
        ({"gradient-shift": {"layers": ["act1"]}}, "there is no layer with weights 'act1'"),
        ({"affine": {"epoch": [0]}}, "probe 'affine' cannot be made: got an unexpected keyword"),
        (
            {"activations": {"every": 5}},
            "argument 'every', its options are epochs, layers",
        ),
        ({"fixed-activations": {"params": True}}, "argument 'params', its options are epochs, cou"),
        ({"fixed-activations": {"count": 1}}, "^normalization needs a batch of 2 fixed images or"),
        ({"recorder": {"epochs": [9]}}, r"^a probe measures within 0\.\.\d epochs, got \[9\]$"),
    ],
)
def test_probes_of_what_is_not_there_are_refused_in_one_line(probes, message):
    with pytest.raises(ConfigError, match=message):
        train(TINY, [0], splits_of((1, 9, 9)), probes=probes)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("norm", ["none", "bn"])
@pytest.mark.parametrize("network", ["mlp:depth=20,width=16", "resnet:depth=14,width=2"])
def test_deep_networks_train_under_watch(network, norm, optimizer):
    splits = splits_of((1, 12, 12), n=60)
    config = TINY.replace(
        network=network, norm=norm, optimizer=optimizer, activation="relu", init="he", epochs=1
    )
    probes = {"activations": {"stats": "light"}, "recorder": {"stats": "light"}}
    watched = train(config, [0], splits, probes=probes)[0]
    alone = train(config, [0], splits)[0]
    assert watched.curve.equals(alone.curve)
    assert watched.measures is not None
    for _, measures in watched.measures.groupby("probe"):
        assert {"act1", "act12"} <= set(measures["layer"])
