"""Normalizations registered by users: the call, the decorator, and what is refused when."""

import pytest
import torch
from torch import nn

from bnstudy.config import stream
from bnstudy.errors import ConfigError
from bnstudy.networks.norm import make_norm, needs_batch, norm_names, register_norm, registry


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_NORMS", dict(registry._NORMS))


class Scaled(nn.Module):
    """Multiply by a number; draw noise to show whose stream it is."""

    def __init__(self, scale, rng=None):
        super().__init__()
        self.scale, self.rng = scale, rng
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, X):
        self.calls += 1
        if self.rng is not None:
            self.rng.random(3)
        return X * self.scale


def make(word, features=6, dims=4, rng=None):
    return make_norm(word, features, dims, rng=rng or stream(0, "noise"))


def test_a_decorator_registers_and_returns_the_factory():
    @register_norm("scaled", needs_batch=False)
    def scaled(num_features, num_dims, rng, scale=2.0):
        return Scaled(scale)

    assert isinstance(scaled(6, 4, None), Scaled)
    assert make("scaled:scale=3").scale == 3
    assert not needs_batch("scaled")
    assert norm_names()[-1] == "scaled"


def test_a_class_may_be_the_factory():
    @register_norm("own")
    class Own(Scaled):
        def __init__(self, num_features, num_dims, rng, scale=2.0):
            super().__init__(scale)

    assert type(make("own:scale=0.5")) is Own


def test_a_name_is_replaced_only_if_asked_for():
    register_norm("scaled", lambda C, dims, rng: Scaled(1.0))
    with pytest.raises(ConfigError) as refusal:
        register_norm("scaled", lambda C, dims, rng: Scaled(2.0))
    assert str(refusal.value) == (
        "there is a normalization 'scaled' already: choose another name, or pass replace=True"
    )
    register_norm("scaled", lambda C, dims, rng: Scaled(2.0), replace=True)
    assert make("scaled").scale == 2.0


@pytest.mark.parametrize("name", ["bn", "none", "ghost"])
def test_the_package_keeps_its_own_names(name):
    with pytest.raises(ConfigError) as refusal:
        register_norm(name, lambda C, dims, rng: Scaled(2.0), replace=True)
    assert str(refusal.value) == (
        f"there is a normalization {name!r} already, one of the package: choose another name"
    )


@pytest.mark.parametrize("name", ["Scaled", "a b", "", "a:b", "-"])
def test_a_name_has_letters_digits_and_dashes(name):
    with pytest.raises(ConfigError, match="is lower-case letters, digits and dashes, got"):
        register_norm(name, lambda C, dims, rng: Scaled(2.0))


RULE = "normalization 'bad' is made by factory(num_features, num_dims, rng, **options)"


def only_two(num_features, num_dims):
    return Scaled(1.0)


def without_default(num_features, num_dims, rng, scale):
    return Scaled(scale)


def by_position(num_features, num_dims, rng, scale=1.0, /):
    return Scaled(scale)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (only_two, " with a default for each option, got only_two: too many positional arguments"),
        (
            without_default,
            " with a default for each option, got without_default: "
            "missing a required argument: 'scale'",
        ),
        (
            by_position,
            ", got by_position(num_features, num_dims, rng, scale=1.0, /): take options by name",
        ),
        (Scaled(1.0), ", got Scaled(): pass a function or a class"),
        (3, ", got 3: pass a function or a class"),
    ],
)
@pytest.mark.parametrize("decorated", [True, False])
def test_a_factory_that_no_config_could_call_is_refused_when_registered(factory, reason, decorated):
    with pytest.raises(ConfigError) as refusal:
        register_norm("bad")(factory) if decorated else register_norm("bad", factory)
    assert str(refusal.value) == RULE + reason
    assert "bad" not in norm_names()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "the factory of normalization 'odd' must return a module, got None"),
        (nn.Identity, "the factory of normalization 'odd' must return a module, got the class"),
        (torch.relu, "the factory of normalization 'odd' must return a module, got <built-in"),
        (
            nn.Flatten(),
            "normalization 'odd' must return a tensor of the shape and dtype of its input, "
            "(9, 6, 8, 8), torch.float32, got (9, 384), torch.float32",
        ),
        (
            nn.GroupNorm(1, 5),
            "normalization 'odd' cannot normalize a batch of shape (9, 6, 8, 8): RuntimeError: ",
        ),
        (
            nn.BatchNorm1d(6),
            "normalization 'odd' cannot normalize a batch of shape (9, 6, 8, 8): ValueError: "
            "expected 2D or 3D input",
        ),
    ],
)
def test_what_no_network_can_train_with_is_refused_before_it_trains(returned, message):
    register_norm("odd", lambda C, dims, rng: returned)
    with pytest.raises(ConfigError) as refusal:
        make("odd")
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_another_dtype_or_no_tensor_is_refused():
    class Returns(nn.Module):
        def __init__(self, result):
            super().__init__()
            self.result = result

        def forward(self, X):
            return self.result(X)

    register_norm("double", lambda C, dims, rng: Returns(torch.Tensor.double))
    with pytest.raises(ConfigError, match=r"got \(9, 6\), torch.float64"):
        make("double", dims=2)
    register_norm("pair", lambda C, dims, rng: Returns(lambda X: (X, X)))
    with pytest.raises(ConfigError, match="got <class 'tuple'>"):
        make("pair")


def test_a_layer_that_is_wrong_in_evaluation_alone_is_refused():
    class Wrong(nn.Module):
        def forward(self, X):
            return X if self.training else X.sum()

    register_norm("wrong", lambda C, dims, rng: Wrong())
    with pytest.raises(ConfigError, match=r"got \(\), torch.float32"):
        make("wrong")


def test_the_check_leaves_the_layer_and_its_stream_as_they_were():
    rng, twin = stream(4, "noise"), stream(4, "noise")
    register_norm("scaled", lambda C, dims, rng: Scaled(2.0, rng))
    layer = make("scaled", rng=rng)
    assert layer.rng is rng
    assert float(layer.calls) == 0
    assert layer.training
    assert rng.bit_generator.state == twin.bit_generator.state


def test_options_are_those_of_the_factory_however_it_takes_them():
    register_norm("any", lambda C, dims, rng, **options: Scaled(options.get("scale", 1.0)))
    register_norm("tail", lambda *given, scale=2.0: Scaled(scale))
    assert make("any:scale=4").scale == 4
    assert make("tail:scale=5").scale == 5
    with pytest.raises(ConfigError, match="there is no tail option 'scael': did you mean 'scale'"):
        make("tail:scael=5")


def test_an_unknown_name_lists_those_registered():
    register_norm("zzz", lambda C, dims, rng: Scaled(1.0))
    with pytest.raises(ConfigError) as refusal:
        make("qqq")
    assert str(refusal.value) == (
        f"there is no normalization 'qqq': choose one of {', '.join(norm_names())}"
    )
    assert norm_names()[-1] == "zzz"
