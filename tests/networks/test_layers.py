"""Networks of layers: what stands around each, against torch written out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnstudy.config import RunConfig
from bnstudy.data import Images, Splits
from bnstudy.errors import ConfigError
from bnstudy.networks import (
    NETWORKS,
    Layer,
    activation_layers,
    build,
    layers_of,
    layers_with_weights,
    norm_layers,
    register_network,
)
from tests.images import splits_of


def rand(*shape):
    """Return uniform numbers in 0..1 that leave the global generators alone."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def names(net):
    """Return the names of a network's layers in order."""
    return [name for name, _ in net.named_children()]


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Let tests register networks that others do not see."""
    monkeypatch.setattr(NETWORKS, "_factories", dict(NETWORKS._factories))


def test_a_perceptron_has_the_layers_of_ioffe_and_szegedy():
    config = RunConfig(network="mlp", norm="bn")
    assert [(each.name, each.outputs) for each in layers_of(config)] == [
        ("fc1", 100),
        ("fc2", 100),
        ("fc3", 100),
        ("fc4", 10),
    ]
    net = build(config, 0)
    assert names(net) == [
        "flatten",
        *("fc1", "norm1", "act1", "fc2", "norm2", "act2", "fc3", "norm3", "act3"),
        "fc4",
    ]
    assert net.fc1.in_features == 784
    X = rand(5, 1, 28, 28)
    hidden = X.flatten(1)
    for linear in (net.fc1, net.fc2, net.fc3):
        Z = linear(hidden)
        hidden = torch.sigmoid((Z - Z.mean(0)) / torch.sqrt(Z.var(0, correction=0) + 1e-5))
    torch.testing.assert_close(net(X), net.fc4(hidden))


@pytest.mark.parametrize("placement", ["output", "activated", "input"])
def test_dropout_and_normalization_have_the_same_places_in_every_network(placement):
    config = RunConfig(network="mlp:depth=2", norm="bn", placement=placement, dropout=0.5)
    of = {
        ("output", "hidden"): "fc1 norm1 act1 dropout1 fc2 norm2 act2 dropout2 fc3",
        ("output", "before-norm"): "fc1 dropout1 norm1 act1 fc2 dropout2 norm2 act2 fc3",
        ("output", "after-last-norm"): "fc1 norm1 act1 fc2 norm2 act2 dropout2 fc3",
        ("activated", "hidden"): "fc1 act1 norm1 dropout1 fc2 act2 norm2 dropout2 fc3",
        ("activated", "before-norm"): "fc1 act1 dropout1 norm1 fc2 act2 dropout2 norm2 fc3",
        ("activated", "after-last-norm"): "fc1 act1 norm1 fc2 act2 norm2 dropout2 fc3",
        ("input", "hidden"): "norm1 fc1 act1 dropout1 norm2 fc2 act2 dropout2 norm3 fc3",
        ("input", "before-norm"): "norm1 fc1 act1 dropout2 norm2 fc2 act2 dropout3 norm3 fc3",
        ("input", "after-last-norm"): "norm1 fc1 act1 norm2 fc2 act2 norm3 dropout3 fc3",
    }
    for (where, dropout), wanted in of.items():
        if where == placement:
            net = build(config.replace(dropout_placement=dropout), 0)
            assert names(net) == ["flatten", *wanted.split()]


def test_a_residual_network_adds_what_he_et_al_add():
    config = RunConfig(network="resnet:depth=8,width=4", norm="bn", activation="relu")
    net = build(config, 3)
    assert len(layers_with_weights(net)) == 8
    X = rand(6, 1, 28, 28)

    def block(H, first, second, width, stride):
        norm = [net.get_submodule(f"norm{i}") for i in (first, second)]
        conv = [net.get_submodule(f"conv{i}") for i in (first, second)]
        out = F.relu(norm[0](F.conv2d(H, conv[0].weight, conv[0].bias, stride, 1)))
        out = norm[1](F.conv2d(out, conv[1].weight, conv[1].bias, 1, 1))
        short = H[:, :, ::stride, ::stride]
        zeros = torch.zeros(len(H), width - H.shape[1], *short.shape[2:])
        return F.relu(out + torch.cat((short, zeros), 1))

    net.eval()
    H = F.relu(net.norm1(F.conv2d(X, net.conv1.weight, net.conv1.bias, 1, 1)))
    for first, width, stride in ((2, 4, 1), (4, 8, 2), (6, 16, 2)):
        H = block(H, first, first + 1, width, stride)
    torch.testing.assert_close(net(X), net.fc1(H.mean((2, 3))))
    plain = build(config.replace(network="resnet:depth=8,width=4,shortcuts=0"), 3).eval()
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), plain.parameters(), strict=True))
    assert not torch.allclose(plain(X), net(X))
    assert len(layers_with_weights(build(config.replace(network="resnet:depth=20"), 0))) == 20


def test_a_part_of_a_network_keeps_its_shortcuts_or_is_refused():
    net = build(RunConfig(network="resnet:width=2", activation="relu"), 0).eval()
    X = rand(2, 1, 28, 28)
    seen = []
    net.act5.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    part = net[: names(net).index("act5") + 1]
    net(X)
    part(X)
    assert torch.equal(*seen)
    with pytest.raises(ConfigError, match="holds its shortcuts whole, but 'act3' is outside"):
        net[names(net).index("conv4") :]


def test_lenet_with_padding_and_max_pooling_is_the_published_one():
    config = RunConfig(network="lenet:padding=2,pooling=max", activation="relu")
    net, X = build(config, 1), rand(3, 1, 28, 28)
    H = F.max_pool2d(F.relu(F.conv2d(X, net.conv1.weight, net.conv1.bias, padding=2)), 2)
    H = F.max_pool2d(F.relu(F.conv2d(H, net.conv2.weight, net.conv2.bias)), 2).flatten(1)
    assert H.shape == (3, 400)
    H = net.fc3(F.relu(net.fc2(F.relu(net.fc1(H)))))
    torch.testing.assert_close(net(X), H)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 20, 25), (2, 17, 19)])
@pytest.mark.parametrize("network", ["lenet", "lenet:padding=2", "mlp:depth=1,width=7", "resnet"])
def test_networks_fit_images_of_any_size_and_any_number_of_classes(network, shape):
    splits = splits_of(shape, classes=26)
    net = build(RunConfig(network=network, norm="bn"), 0, splits)
    assert net(rand(4, *shape)).shape == (4, 26)


def test_weights_have_the_bounds_of_their_initialization():
    fan_in, fan_out = 784, 100
    bounds = {
        ("xavier", "sigmoid"): math.sqrt(6 / (fan_in + fan_out)),
        ("xavier-gain", "sigmoid"): 4 * math.sqrt(6 / (fan_in + fan_out)),
        ("xavier-gain", "tanh"): math.sqrt(6 / (fan_in + fan_out)),
        ("xavier-gain", "relu"): math.sqrt(2) * math.sqrt(6 / (fan_in + fan_out)),
        ("he", "relu"): math.sqrt(6 / fan_in),
    }
    for (init, activation), bound in bounds.items():
        net = build(RunConfig(network="mlp", init=init, activation=activation), 0)
        weight = net.fc1.weight.detach()
        assert 0.999 * bound < float(weight.abs().max()) <= bound
        assert abs(float(weight.std()) - bound / math.sqrt(3)) < 0.01 * bound
    last = [build(RunConfig(network="mlp", init=each), 0).fc4.weight for each in ("xavier",) * 2]
    assert torch.equal(*last)
    gained = build(RunConfig(network="mlp", init="xavier-gain"), 0)
    assert torch.equal(gained.fc4.weight, last[0])  # no activation follows the last layer
    torch.testing.assert_close(gained.fc1.weight, 4 * build(RunConfig(network="mlp"), 0).fc1.weight)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_standardized_inputs_have_mean_0_and_variance_1_over_the_training_images(shape):
    splits = splits_of(shape, n=60)
    net = build(RunConfig(inputs="standardized"), 0, splits)
    pixels = splits.train.images.float().reshape(60, *shape) / 255
    Y = net.inputs(pixels).double()
    assert Y.mean((0, 2, 3)).abs().max() < 1e-6
    assert (Y.var((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert "inputs" not in names(build(RunConfig(), 0, splits))


def test_resized_inputs_are_torchvisions():
    transforms = pytest.importorskip("torchvision.transforms.functional")
    splits = splits_of((1, 28, 28))
    X = rand(4, 1, 28, 28)
    for size in (14, 32, 64):
        net = build(RunConfig(inputs=f"scaled:size={size}", network="mlp"), 0, splits)
        assert net.fc1.in_features == size**2
        wanted = transforms.resize(X, [size, size], antialias=True)
        torch.testing.assert_close(net.inputs(X), wanted)


def test_a_constant_channel_is_standardized_to_zero():
    images = Images(torch.full((8, 28, 28), 7, dtype=torch.uint8), torch.arange(8))
    splits = Splits(images, images, images, images, classes=10)
    net = build(RunConfig(inputs="standardized"), 0, splits)
    assert not net.inputs(torch.full((2, 1, 28, 28), 7 / 255)).any()


@pytest.mark.parametrize(
    ("given", "placement", "wanted"),
    [
        ("conv1,fc1", "output", "norm1 norm3"),
        ("1-3", "output", "norm1 norm2 norm3"),
        ("conv2-fc2", "activated", "norm2 norm3 norm4"),
        ("fc3", "input", "norm5"),
        ("134", "output", "norm1 norm3 norm4"),
    ],
)
def test_layers_to_normalize_by_names_numbers_and_ranges(given, placement, wanted):
    config = RunConfig(norm="bn", norm_layers=given, placement=placement)
    assert list(norm_layers(build(config, 0))) == wanted.split()


def test_layers_beyond_the_ninth_are_normalized_by_name_or_range():
    config = RunConfig(norm="bn", network="mlp:depth=12,width=8")
    for given in ("fc10-fc12", "10-12", "10,11,12"):
        layers = norm_layers(build(config.replace(norm_layers=given), 0))
        assert list(layers) == ["norm10", "norm11", "norm12"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "lenett"}, "there is no network 'lenett': did you mean 'lenet'"),
        ({"network": "mlp:depht=3"}, "there is no mlp option 'depht': did you mean 'depth'"),
        ({"network": "mlp:depth=x"}, "depth of mlp must be an integer in 0..1000, got 'x'"),
        ({"network": "mlp:width=0"}, "outputs of layer 'fc1' must be an integer of at least 1"),
        ({"network": "resnet:depth=10"}, "depth of resnet must be 6 n"),
        ({"network": "resnet:shortcuts=2"}, "shortcuts of resnet must be 0 or 1, got 2"),
        ({"network": "lenet:pooling=mean"}, "there is no pooling of lenet 'mean'"),
        ({"network": "lenet:padding=-1"}, "padding of layer 'conv1' must be an integer of at"),
        ({"network": "resnet", "dropout": 0.5}, "needs a hidden linear layer, which this"),
        ({"network": "lenet", "inputs": "scaled:size=8"}, "need larger images, got"),
        ({"inputs": "standardised"}, "there is no input 'standardised': did you mean 'stand"),
        ({"inputs": "scaled:size=-3"}, "size of inputs must be an integer in 0..1024, got -3"),
        ({"norm": "bn", "norm_layers": "fc9"}, "there is no layer to normalize 'fc9'"),
        ({"norm": "bn", "norm_layers": "fc3"}, "there is no layer to normalize 'fc3'"),
        ({"norm": "bn", "norm_layers": "3-1"}, "a range of norm_layers runs upwards, got '3-1'"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(settings, message):
    with pytest.raises(ConfigError) as refusal:
        build(RunConfig(**settings), 0)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_network_of_ones_own_gets_everything_that_lenet_gets():
    @register_network("pyramid")
    def pyramid(shape, classes, *, width=4):
        return [
            Layer("conv1", "conv", width, kernel=3, pooling="average"),
            Layer("conv2", "conv", 2 * width, kernel=3, padding=1, pooling="global"),
            Layer("hidden", "linear", 20),
            Layer("logits", "linear", classes),
        ]

    config = RunConfig(
        network="pyramid:width=6", norm="bn", norm_layers="conv2,hidden", dropout=0.1
    )
    net = build(config, 0, splits_of((3, 16, 16), classes=4))
    assert net(rand(2, 3, 16, 16)).shape == (2, 4)
    assert list(norm_layers(net)) == ["norm2", "norm3"]
    assert list(activation_layers(net)) == ["act1", "act2", "act3"]
    assert net.conv2.weight.shape == (12, 6, 3, 3)
    with pytest.raises(ConfigError, match="there is a network 'pyramid' already"):
        register_network("pyramid")(pyramid)
    register_network("pyramid", replace=True)(pyramid)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda shape, classes: None, "must return a list of Layer, got NoneType"),
        (lambda shape, classes: nn.Identity(), "must return a list of Layer, got Identity"),
        (lambda shape, classes: [], "must have an output for each of the 10 classes, got no layer"),
        (
            lambda shape, classes: [Layer("fc1", "linear", 3)],
            "must have an output for each of the 10 classes, got 3",
        ),
        (
            lambda shape, classes: [Layer("a", "linear", 5), Layer("a", "linear", classes)],
            "each layer of a network has a name of its own",
        ),
        (
            lambda shape, classes: [Layer("a", "linear", 5), Layer("b", "conv", classes)],
            "a network is convolutions, if any, then linear layers",
        ),
        (
            lambda shape, classes: [
                Layer("a", "conv", 5, add="b"),
                Layer("b", "linear", classes),
            ],
            "there is no layer before 'a' to add 'b'",
        ),
    ],
)
def test_what_a_factory_returns_is_checked(factory, message):
    register_network("mine")(factory)
    with pytest.raises(ConfigError) as refusal:
        build(RunConfig(network="mine"), 0)
    assert message in str(refusal.value)


def test_a_factory_that_takes_too_little_is_refused_when_it_is_registered():
    with pytest.raises(ConfigError, match=r"is made by factory\(shape, classes, \*\*options\)"):
        register_network("mine")(lambda shape: [])
    with pytest.raises(ConfigError, match="lower-case letters, digits and dashes"):
        register_network("My Net")(lambda shape, classes: [])
