"""Whole models from torch's batch norms to ours and back."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from bnstudy.config import stream
from bnstudy.errors import ConfigError
from bnstudy.networks.norm import (
    BatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    from_torch,
    to_torch,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Net(nn.Module):
    """A network with batch norms of all kinds of input, one of them used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1 = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=0.3)
        self.inner = nn.ModuleDict({"same": self.bn1, "line": nn.BatchNorm1d(3, affine=False)})
        self.fc, self.bn2 = nn.Linear(3, 3), nn.BatchNorm1d(3, momentum=None, eps=1e-3)

    def forward(self, X):
        X = self.inner["same"](torch.tanh(self.bn1(self.conv(X))))  # (N, 3, H, W)
        X = self.inner["line"](X.flatten(2)).mean(2)  # (N, 3, H*W) -> (N, 3)
        return self.bn2(self.fc(X))


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net().double()


def stepped(model, optimizer, steps=3, seed=0):
    for step in range(steps):
        optimizer.zero_grad()
        model(drawn(6, 1, 5, 5, seed=seed + step)).pow(3).mean().backward()
        optimizer.step()


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def assert_same_states(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-10), name


def test_in_place_the_optimizer_goes_on_and_training_is_torchs(net):
    twin = copy.deepcopy(net)
    optimizer, other = optimizer_of(net), optimizer_of(twin)
    stepped(net, optimizer)
    stepped(twin, other)
    parameters = list(net.parameters())
    assert from_torch(net, inplace=True) is net
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    stepped(net, optimizer, seed=5)
    stepped(twin, other, seed=5)
    assert_same_states(net, twin)
    assert to_torch(net, inplace=True) is net
    stepped(net, optimizer, seed=9)
    stepped(twin, other, seed=9)
    assert_same_states(net, twin)


def test_a_copy_is_converted_and_the_model_stays(net):
    before = copy.deepcopy(net)
    converted = from_torch(net)
    assert {type(each) for each in net.modules()} == {type(each) for each in before.modules()}
    stepped(converted, optimizer_of(converted))
    assert_same_states(net, before)


def test_names_order_shared_layers_modes_and_what_is_learned_are_kept(net):
    net.bn1.eval()
    net.bn2.weight.requires_grad_(False)
    names, states = [name for name, _ in net.named_modules()], list(net.state_dict())
    for model in (from_torch(net), to_torch(from_torch(net))):
        assert [name for name, _ in model.named_modules()] == names
        assert list(model.state_dict()) == states
        assert model.inner["same"] is model.bn1
        assert (model.bn1.training, model.bn2.training, model.training) == (False, True, True)
        assert (model.bn2.weight.requires_grad, model.bn2.bias.requires_grad) == (False, True)
        assert model.bn1.weight.dtype == torch.float64
    assert isinstance(from_torch(net).bn1, BatchNorm)


def test_there_and_back_is_the_same_class_with_the_same_settings(net):
    class Named(nn.BatchNorm2d):
        """A subclass with the forward pass of torch's."""

    net.bn1 = Named(3, eps=1e-2, momentum=0.3)
    back = to_torch(from_torch(net))
    for before, after in zip(net.modules(), back.modules(), strict=True):
        assert type(after) is type(before)
        if isinstance(before, nn.modules.batchnorm._BatchNorm):
            assert {k: v for k, v in vars(after).items() if k[0] != "_"} == {
                k: v for k, v in vars(before).items() if k[0] != "_"
            }


@pytest.mark.parametrize("inplace", [True, False])
def test_hooks_stay_and_can_still_be_removed(net, inplace):
    calls = []
    handles = [
        net.bn1.register_forward_hook(lambda module, _, Y: calls.append(type(module).__name__)),
        net.bn2.register_forward_pre_hook(lambda module, _: calls.append(type(module).__name__)),
        net.bn2.register_full_backward_hook(lambda *_: calls.append("backward")),
    ]
    converted = from_torch(net, inplace=inplace)
    converted(drawn(6, 1, 5, 5)).sum().backward()
    assert calls == ["BatchNorm", "BatchNorm", "BatchNorm", "backward"]
    calls.clear()
    for handle in handles:
        handle.remove()
    net(drawn(6, 1, 5, 5)).sum().backward()
    assert calls == []


def test_a_single_layer_is_a_model_too():
    layer = nn.BatchNorm1d(3)
    assert isinstance(from_torch(layer), BatchNorm)
    assert from_torch(layer, inplace=True) is layer
    assert type(to_torch(layer)) is nn.BatchNorm1d


def test_options_and_relatives_are_those_of_every_layer(net):
    converted = from_torch(net, variance="biased")
    assert (converted.bn1.variance, converted.bn1.keep, converted.bn2.keep) == ("biased", 0.7, None)
    converted = from_torch(net, GhostBatchNorm, size=3)
    assert [converted.bn1.size, converted.bn2.size] == [3, 3]
    noise = stream(0, "noise")
    assert from_torch(net, NoisyBatchNorm, inplace=True, rng=noise).bn2.rng is noise


def test_a_layer_without_its_own_averages_converts():
    theirs = nn.BatchNorm1d(3, track_running_stats=False).double()
    ours, X = from_torch(theirs), drawn(6, 3)
    for training in (True, False):
        assert torch.allclose(ours.train(training)(X), theirs.train(training)(X), atol=1e-12)
    assert to_torch(ours.train()).track_running_stats is False


def test_a_meta_model_converts():
    net = nn.Sequential(nn.BatchNorm1d(3)).to("meta")
    for kind in (BatchNorm, PopulationBatchNorm):
        assert from_torch(net, kind)[0].weight.is_meta


class Fused(nn.BatchNorm2d):
    """A batch norm that does more than torch's."""

    def forward(self, X):
        return torch.relu(super().forward(X))


def pruned():
    return prune.l1_unstructured(nn.BatchNorm2d(3), "weight", 1)


def parametrized():
    layer = nn.BatchNorm2d(3)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())
    return layer


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.BatchNorm2d(3))


def patched():
    layer = nn.BatchNorm2d(3)
    layer.forward = lambda X: X
    return layer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: nn.SyncBatchNorm(3),
            "only torch's BatchNorm1d, 2d and 3d with their own forward pass convert, "
            "got SyncBatchNorm",
        ),
        (
            lambda: Fused(3),
            "only torch's BatchNorm1d, 2d and 3d with their own forward pass convert, got Fused",
        ),
        (
            patched,
            "only torch's BatchNorm1d, 2d and 3d with their own forward pass convert, "
            "got BatchNorm2d",
        ),
        (
            nn.LazyBatchNorm2d,
            "only a layer of known size converts, got LazyBatchNorm2d: "
            "run the model on a batch first",
        ),
        (
            pruned,
            "a layer that was pruned or parametrized does not convert, got 'weight_mask' in "
            "BatchNorm2d: remove it first",
        ),
        (
            parametrized,
            "a layer that was pruned or parametrized does not convert, got 'parametrizations' in "
            "ParametrizedBatchNorm2d: remove it first",
        ),
        (scripted, "a scripted batch norm does not convert: convert, then script"),
    ],
)
@pytest.mark.parametrize("inplace", [True, False])
def test_what_does_not_convert_is_refused_by_name_and_nothing_is_changed(make, reason, inplace):
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(make()))
    types = [type(each) for each in net.modules()]
    with pytest.raises(ConfigError) as refusal:
        from_torch(net, inplace=inplace)
    assert str(refusal.value) == f"layer '1.0': {reason}"
    assert [type(each) for each in net.modules()] == types


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        (BatchNorm, {"affine": False}, "'affine' stays that of the converted layer: leave it out"),
        (BatchNorm, {"momentum": 2.0}, "momentum must be a number in [0, 1], got 2.0"),
        (BatchNorm, {"size": 3}, "BatchNorm cannot be made: "),
        (GhostBatchNorm, {"size": 1}, "a ghost batch must hold at least 2 images, got size=1"),
        (MeanOnlyBatchNorm, {}, "MeanOnlyBatchNorm does less than a batch norm of torch's"),
    ],
)
def test_impossible_options_are_refused_and_nothing_is_changed(kind, options, reason):
    net = nn.Sequential(nn.BatchNorm2d(3))
    with pytest.raises(ConfigError) as refusal:
        from_torch(net, kind, inplace=True, **options)
    assert str(refusal.value).startswith(f"layer '0': {reason}")
    assert type(net[0]) is nn.BatchNorm2d


def test_a_kind_that_is_no_batch_norm_of_ours_is_refused():
    with pytest.raises(ConfigError, match=r"kind must be BatchNorm or a subclass of it, got 8"):
        from_torch(nn.BatchNorm2d(3), 8)


# To torch -------------------------------------------------------------------------------


def by_hand():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3), BatchNorm(3, variance="unbiased"), nn.Flatten(2),
            BatchNorm(3, variance="unbiased", momentum=None), nn.Flatten(),
            nn.LazyLinear(4), BatchNorm(4, variance="unbiased", affine=False),
        )  # fmt: skip
        net(torch.zeros(2, 1, 5, 5))
    return net.double()


def test_an_example_finds_the_axes_of_each_input_and_changes_nothing():
    net = by_hand()
    net[1].eval()
    before = copy.deepcopy(net)
    modes = [each.training for each in net.modules()]
    converted = to_torch(net, drawn(1, 1, 5, 5))
    assert [type(converted[at]) for at in (1, 3, 6)] == [
        nn.BatchNorm2d,
        nn.BatchNorm1d,
        nn.BatchNorm1d,
    ]
    assert [each.training for each in converted.modules()] == modes
    assert_same_states(converted, before)
    for _ in range(2):
        X = drawn(6, 1, 5, 5)
        assert torch.allclose(converted(X), net(X), atol=1e-10)
    assert_same_states(converted, net)
    assert converted[1].momentum == pytest.approx(0.1)
    assert converted[3].momentum is None


def test_a_tuple_holds_the_arguments_of_a_model():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = BatchNorm(3).eval()

        def forward(self, X, shift):
            return self.bn(X) + shift

    converted = to_torch(Two().double(), (drawn(2, 3, 4), 1.0))
    assert type(converted.bn) is nn.BatchNorm1d


@pytest.mark.parametrize("inplace", [True, False])
def test_layers_that_torch_has_no_equal_for_are_refused_and_nothing_is_changed(inplace):
    net, X = by_hand(), drawn(2, 1, 5, 5)
    for change, reason in (
        (lambda: setattr(net[6], "variance", "biased"), "layer '6': torch averages the unbiased"),
        (lambda: net.insert(7, PopulationBatchNorm(4).double()), "torch averages the unbiased"),
    ):
        change()
        with pytest.raises(ConfigError, match=reason):
            to_torch(net, X, inplace=inplace)
        assert not any(type(each).__module__.endswith("batchnorm") for each in net)
    assert type(to_torch(net.eval(), X, inplace=inplace)[7]) is nn.BatchNorm1d


def test_axes_that_no_example_shows_are_asked_for():
    net = by_hand()
    with pytest.raises(ConfigError) as refusal:
        to_torch(net)
    assert str(refusal.value) == (
        "layer '1': the axes of its input are unknown: pass an example input that reaches it"
    )
    net.spare = BatchNorm(3, variance="unbiased")
    net.forward = lambda X: net[1](net[0](X))
    with pytest.raises(ConfigError, match=r"layer '3': the axes of its input are unknown"):
        to_torch(net, drawn(2, 1, 5, 5), inplace=True)


def test_spectral_norm_elsewhere_in_the_model_does_not_matter():
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.BatchNorm1d(3))
    assert isinstance(from_torch(net)[1], BatchNorm)
