"""LeNet: layers, shapes, costs, initial weights."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from bnstudy.config import RunConfig, stream
from bnstudy.errors import ConfigError
from bnstudy.networks import StreamDropout, build, norm_layers, trace

BN = RunConfig(norm="bn")


def names(config: RunConfig) -> list[str]:
    return [name for name, _ in build(config, 0).named_children()]


def test_the_shapes_are_those_printed_in_the_notes():
    printed = [
        ("Conv2d", (1, 6, 24, 24)),
        ("BatchNorm", (1, 6, 24, 24)),
        ("Sigmoid", (1, 6, 24, 24)),
        ("AveragePooling", (1, 6, 12, 12)),
        ("Conv2d", (1, 16, 8, 8)),
        ("BatchNorm", (1, 16, 8, 8)),
        ("Sigmoid", (1, 16, 8, 8)),
        ("AveragePooling", (1, 16, 4, 4)),
        ("Flatten", (1, 256)),
        ("Linear", (1, 120)),
        ("BatchNorm", (1, 120)),
        ("Sigmoid", (1, 120)),
        ("Linear", (1, 84)),
        ("BatchNorm", (1, 84)),
        ("Sigmoid", (1, 84)),
        ("Linear", (1, 10)),
    ]
    rows = trace(RunConfig(norm="scratch"))
    assert [(row.kind, row.output_shape) for row in rows] == printed


def test_parameters_and_operations_are_those_counted_by_hand():
    rows = {row.name: row for row in trace(RunConfig())}
    assert sum(row.parameters for row in rows.values()) == 44_426
    # 2 x multiply-adds per image, and one addition of the bias per output
    assert rows["conv1"].flops == 2 * 86_400 + 3_456
    assert rows["conv2"].flops == 2 * 153_600 + 1_024
    assert rows["fc1"].flops == 2 * 30_720 + 120
    assert rows["fc3"].flops == 2 * 840 + 10
    assert sum(row.parameters for row in trace(BN)) == 44_426 + 2 * (6 + 16 + 120 + 84)


def test_normalization_goes_where_the_config_says():
    assert names(BN)[:4] == ["conv1", "norm1", "act1", "pool1"]
    assert names(BN.replace(placement="activated"))[:4] == ["conv1", "act1", "norm1", "pool1"]
    placed = names(BN.replace(placement="input"))
    assert placed[:2] == ["norm1", "conv1"]
    assert placed[-2:] == ["norm5", "fc3"]
    assert [name for name in names(RunConfig()) if name.startswith("norm")] == []


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({"norm_layers": "2"}, ["norm2"]),
        ({"norm_layers": "134", "placement": "activated"}, ["norm1", "norm3", "norm4"]),
        ({"norm_layers": "15", "placement": "input"}, ["norm1", "norm5"]),
        ({"norm_layers": "12", "norm": "none"}, []),
    ],
)
def test_only_the_layers_named_are_normalized(settings, there):
    config = BN.replace(**settings)
    assert list(norm_layers(build(config, 0))) == there
    every = names(config.replace(norm_layers="all"))
    assert names(config) == [name for name in every if name in there or name[:4] != "norm"]


@pytest.mark.parametrize(
    ("placement", "dropout_placement", "tail"),
    [
        ("output", "hidden", "fc1 norm3 act3 dropout3 fc2 norm4 act4 dropout4 fc3"),
        ("output", "before-norm", "fc1 dropout3 norm3 act3 fc2 dropout4 norm4 act4 fc3"),
        ("output", "after-last-norm", "fc1 norm3 act3 fc2 norm4 act4 dropout4 fc3"),
        ("activated", "before-norm", "fc1 act3 dropout3 norm3 fc2 act4 dropout4 norm4 fc3"),
        ("activated", "after-last-norm", "fc1 act3 norm3 fc2 act4 norm4 dropout4 fc3"),
        ("input", "hidden", "norm3 fc1 act3 dropout3 norm4 fc2 act4 dropout4 norm5 fc3"),
        ("input", "after-last-norm", "norm3 fc1 act3 norm4 fc2 act4 norm5 dropout5 fc3"),
    ],
)
def test_dropout_goes_where_the_config_says(placement, dropout_placement, tail):
    config = BN.replace(placement=placement, dropout=0.5, dropout_placement=dropout_placement)
    assert " ".join(names(config)).endswith("flatten " + tail)


@pytest.mark.parametrize("kind", ["sigmoid", "relu", "tanh"])
def test_the_activation_is_the_one_asked_for(kind):
    net, X = build(RunConfig(activation=kind), 0), torch.linspace(-3, 3, 7)
    for name in ("act1", "act2", "act3", "act4"):
        assert torch.equal(net.get_submodule(name)(X), getattr(torch, kind)(X))


def test_weights_are_xavier_uniform_and_biases_as_in_torch():
    net = build(RunConfig(), 3)
    for name, fan_in, fan_out in (("conv1", 25, 150), ("conv2", 150, 400), ("fc1", 256, 120)):
        layer = net.get_submodule(name)
        for tensor, bound in (
            (layer.weight, math.sqrt(6 / (fan_in + fan_out))),
            (layer.bias, 1 / math.sqrt(fan_in)),
        ):
            values = tensor.detach().numpy().ravel()
            uniform = scipy.stats.uniform(-bound, 2 * bound)
            assert scipy.stats.kstest(values, uniform.cdf).pvalue > 0.001, name


@pytest.mark.parametrize(
    "arm",
    [
        {"norm": "bn"},
        {"norm": "scratch", "placement": "input"},
        {"norm": "group:groups=2", "dropout": 0.5},
        {"activation": "relu"},
        {"bias": False},
    ],
)
def test_every_arm_of_a_seed_starts_from_the_same_weights(arm):
    plain, other = build(RunConfig(), 5), build(RunConfig(**arm), 5)
    for name in ("conv1", "conv2", "fc1", "fc2", "fc3"):
        assert torch.equal(plain.get_submodule(name).weight, other.get_submodule(name).weight)
    assert torch.equal(plain.fc3.bias, other.fc3.bias)


def test_without_bias_only_the_last_layer_has_one():
    net = build(RunConfig(bias=False), 0)
    assert [name for name, _ in net.named_parameters() if "bias" in name] == ["fc3.bias"]


def test_another_seed_gives_other_weights():
    first, second = build(RunConfig(), 0), build(RunConfig(), 1)
    assert not torch.isclose(first.fc1.weight, second.fc1.weight).any()


def test_dropout_masks_are_those_of_the_stream():
    layer = StreamDropout(0.3, stream(9, "dropout"))
    X = torch.linspace(1, 2, 40).reshape(8, 5)
    rng = stream(9, "dropout")
    for _ in range(3):
        kept = torch.from_numpy(rng.random((8, 5), dtype=np.float32) >= 0.3)
        assert torch.equal(layer(X), torch.where(kept, X / 0.7, 0.0))


def test_dropout_keeps_the_mean_and_drops_its_share():
    dropped = StreamDropout(0.3, stream(1, "dropout"))(torch.ones(1_000, 200))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)


def test_dropout_does_nothing_in_evaluation_and_draws_nothing():
    layer, X = StreamDropout(0.5, stream(1, "dropout")), torch.ones(4, 3)
    assert torch.equal(layer.eval()(X), X)
    assert torch.equal(layer.train()(X), StreamDropout(0.5, stream(1, "dropout"))(X))


def test_an_unknown_normalization_is_refused_by_name():
    with pytest.raises(ConfigError, match="'batchnrom'"):
        build(RunConfig(norm="batchnrom"), 0)


def test_normalization_layers_are_found_by_name():
    assert list(norm_layers(build(BN, 0))) == ["norm1", "norm2", "norm3", "norm4"]
    assert norm_layers(build(RunConfig(), 0)) == {}
