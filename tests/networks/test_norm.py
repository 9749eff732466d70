"""Batch normalization and its relatives, against torch's layers, float64 and cases by hand."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnstudy.config import stream
from bnstudy.errors import ConfigError
from bnstudy.networks.norm import (
    BatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
    batch_norm,
    ghost_sizes,
    has_running_statistics,
    make_norm,
    needs_batch,
    norm_names,
    parameters_of,
    register_norm,
    registry,
    set_running_statistics,
)

PLENTY = settings(max_examples=100, deadline=None, derandomize=True)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(shape, seed=0, dtype=torch.float64, spread=2.0, shift=0.5):
    values = torch.randn(shape, generator=generator(seed), dtype=torch.float64)
    return (values * spread + shift).to(dtype)


@st.composite
def inputs(draw):
    """Draw a batch and everything else that batch_norm takes, in one dtype."""
    C = draw(st.integers(1, 5))
    positions = draw(st.lists(st.integers(1, 4), max_size=3))
    N = draw(st.integers(2, 7))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    seed = draw(st.integers(0, 10_000))
    X = drawn((N, C, *positions), seed, dtype)
    affine = draw(st.booleans())
    gamma, beta = (drawn((C,), seed + each, dtype) if affine else None for each in (1, 2))
    moving = drawn((C,), seed + 3, dtype), drawn((C,), seed + 4, dtype).abs() + 0.1
    eps = draw(st.sampled_from([1e-5, 1e-3, 0.1]))
    momentum = draw(st.floats(0.0, 1.0))
    return X, gamma, beta, moving, eps, momentum


def close(ours, torchs, dtype):
    """Whether two tensors agree to the tolerance of their type, relative to their scale."""
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    scale = max(1.0, float(torchs.detach().abs().max()))
    return float((ours - torchs).detach().abs().max()) <= tolerance * scale


def sizes_of_terms(X, gamma, moving, eps, training, dy):
    """Return the size of what is added up in Y, dX, dgamma and dbeta.

    Rounding is relative to the terms of a sum: with two images dX is a
    difference that cancels almost wholly, in torch as in ours.
    """
    X, dy = X.double(), dy.double()
    axes = [axis for axis in range(X.dim()) if axis != 1]
    var, mean = torch.var_mean(X, axes, correction=0)
    mean, var = (mean, var) if training else (tensor.double() for tensor in moving)
    shape = (1, -1, *[1] * (X.dim() - 2))
    x_hat = (X - mean.reshape(shape)) / (var.reshape(shape) + eps).sqrt()
    scale = torch.ones_like(mean) if gamma is None else gamma.double().abs()
    terms_of_Y = scale.max() * x_hat.abs().max() + 3 * scale.max() + 3
    terms_of_dX = (scale / (var + eps).sqrt()).max() * dy.abs().max() * (1 + x_hat.abs().max())
    sums = (dy * x_hat).abs().sum(axes).max(), dy.abs().sum(axes).max()
    return [max(1.0, float(size)) for size in (terms_of_Y, terms_of_dX, *sums)]


@PLENTY
@given(inputs(), st.booleans())
def test_forward_and_all_gradients_equal_torchs(case, training):
    X, gamma, beta, moving, eps, momentum = case
    dy = drawn(X.shape, 99, X.dtype)
    results = []
    for ours in (True, False):
        own = [tensor.clone().requires_grad_() for tensor in (X, gamma, beta) if tensor is not None]
        x, g, b = own if gamma is not None else (*own, None, None)
        if ours:
            options = {"eps": eps, "momentum": momentum, "training": training}
            y, _, _ = batch_norm(x, g, b, *moving, **options)
        else:
            running = [tensor.clone() for tensor in moving]
            y = F.batch_norm(x, *running, g, b, training, 1 - momentum, eps)
        results.append((y, *torch.autograd.grad(y, own, dy)))
    tolerance = 1e-6 if X.dtype == torch.float32 else 1e-12
    sizes = sizes_of_terms(X, gamma, moving, eps, training, dy)
    for ours, torchs, size in zip(*results, sizes[: len(results[0])], strict=True):
        assert float((ours - torchs).detach().abs().max()) <= tolerance * size


@PLENTY
@given(inputs())
def test_unbiased_moving_moments_equal_torchs(case):
    X, gamma, beta, moving, eps, momentum = case
    running = [tensor.clone() for tensor in moving]
    F.batch_norm(X, *running, gamma, beta, True, 1 - momentum, eps)
    _, mean, var = batch_norm(
        X, gamma, beta, *moving, eps=eps, momentum=momentum, training=True, variance="unbiased"
    )
    assert close(mean, running[0], X.dtype)
    assert close(var, running[1], X.dtype)


@PLENTY
@given(inputs())
def test_biased_moving_variance_is_the_average_of_biased_variances(case):
    X, _, _, (mean, var), eps, momentum = case
    found = batch_norm(X, None, None, mean, var, eps=eps, momentum=momentum, training=True)[2]
    batch = X.transpose(0, 1).flatten(1).var(1, correction=0)
    assert close(found, momentum * var + (1 - momentum) * batch, X.dtype)


def test_a_case_worked_by_hand():
    X = torch.tensor([[1.0], [3.0]], dtype=torch.float64)  # mean 2, biased var 1, unbiased 2
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    Y, mean, var = batch_norm(X, 3 * one, 5 * one, zero, one, eps=0.0, momentum=0.9, training=True)
    assert Y.tolist() == [[2.0], [8.0]]
    assert mean.item() == pytest.approx(0.2)
    assert var.item() == pytest.approx(0.9 * 1 + 0.1 * 1)
    _, _, var = batch_norm(
        X, None, None, zero, one, eps=0.0, momentum=0.9, training=True, variance="unbiased"
    )
    assert var.item() == pytest.approx(0.9 * 1 + 0.1 * 2)


@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 3), (2, 2, 2, 2), (2, 2, 2, 1, 2)])
def test_gradcheck(shape):
    X, gamma, beta = (drawn(s, i).requires_grad_() for i, s in enumerate([shape, (2,), (2,)]))
    moving = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)

    def function(X, gamma, beta):
        return batch_norm(X, gamma, beta, *moving, eps=1e-5, momentum=0.9, training=True)[0]

    assert torch.autograd.gradcheck(function, (X, gamma, beta))


def test_nothing_given_is_changed_and_moments_carry_no_gradient():
    X, mean, var = drawn((5, 3)).requires_grad_(), torch.zeros(3).double(), torch.ones(3).double()
    before = [tensor.clone() for tensor in (X, mean, var)]
    _, new_mean, new_var = batch_norm(
        X, None, None, mean, var, eps=1e-5, momentum=0.5, training=True
    )
    assert all(torch.equal(a, b) for a, b in zip(before, (X, mean, var), strict=True))
    assert not new_mean.requires_grad
    assert not new_var.requires_grad


def test_variance_keeps_its_precision_far_from_zero():
    X = drawn((4096, 1), spread=1.0, shift=0.0, dtype=torch.float32) + 1_000.0
    exact = X.double().var(0, correction=0)
    _, _, var = batch_norm(
        X, None, None, torch.zeros(1), torch.ones(1), eps=0.0, momentum=0.0, training=True
    )
    assert var.item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3,), "takes (N, 4) or (N, 4, ...) with up to 5 axes, got (3,)"),
        ((2, 3), "takes (N, 4) or (N, 4, ...) with up to 5 axes, got (2, 3)"),
        ((2, 4, 1, 1, 1, 1), "got (2, 4, 1, 1, 1, 1)"),
        ((1, 4), "more than 1 value per channel in training, got (1, 4)"),
        ((1, 4, 1, 1), "more than 1 value per channel in training, got (1, 4, 1, 1)"),
    ],
)
@pytest.mark.parametrize(
    "layer",
    [
        BatchNorm,
        GhostBatchNorm,
        PopulationBatchNorm,
        FrozenBatchNorm,
        MeanOnlyBatchNorm,
        VarianceOnlyBatchNorm,
    ],
)
def test_what_cannot_be_normalized_is_refused(layer, shape, message):
    with pytest.raises(ConfigError) as refusal:
        layer(4)(torch.zeros(shape))
    assert message in str(refusal.value)


def test_one_image_with_several_positions_is_fine_and_one_in_evaluation_too():
    assert torch.isfinite(BatchNorm(4)(drawn((1, 4, 2, 2), dtype=torch.float32))).all()
    assert torch.isfinite(BatchNorm(4).eval()(torch.zeros(1, 4))).all()


# The layer ------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3, 4, 5])
@pytest.mark.parametrize("affine", [True, False])
def test_a_layer_from_torch_does_what_torchs_does_in_both_modes(dims, affine):
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[dims]
    theirs = kind(3, eps=1e-3, momentum=0.2, affine=affine).double()
    if affine:
        with torch.no_grad():
            theirs.weight.copy_(drawn((3,), 1))
            theirs.bias.copy_(drawn((3,), 2))
    ours = BatchNorm.from_torch(theirs)
    X = drawn((4, 3, *[2] * (dims - 2)), 3)
    for _ in range(3):
        assert torch.allclose(ours(X), theirs(X), atol=1e-12)
        X = X * 1.5 + 1
    assert torch.allclose(ours.moving_mean, theirs.running_mean, atol=1e-12)
    assert torch.allclose(ours.moving_var, theirs.running_var, atol=1e-12)
    back = ours.eval().to_torch(dims)
    assert type(back) is kind
    assert torch.allclose(back(X), theirs.eval()(X), atol=1e-12)
    assert not back.training


def test_conversion_carries_dtype_mode_and_copies():
    theirs = nn.BatchNorm1d(3).double().eval()
    ours = BatchNorm.from_torch(theirs)
    assert ours.gamma.dtype == ours.moving_var.dtype == torch.float64
    assert not ours.training
    ours.moving_mean += 1
    assert theirs.running_mean.tolist() == [0, 0, 0]
    assert (ours.momentum, ours.momentum_of, ours.keep) == (0.1, "new", 0.9)


def test_what_torch_cannot_do_is_not_converted():
    with pytest.raises(ConfigError) as refusal:
        BatchNorm(3).to_torch()
    assert str(refusal.value) == (
        "torch averages the unbiased variance only, this layer the biased one: "
        "call .eval() first, or make it with variance='unbiased'"
    )
    with pytest.raises(ConfigError, match="num_dims must be 2, 3, 4 or 5, got 1"):
        BatchNorm(3).to_torch(1)
    with pytest.raises(ConfigError, match="got GroupNorm"):
        BatchNorm.from_torch(nn.GroupNorm(1, 3))
    with pytest.raises(ConfigError, match="got track_running_stats=False"):
        PopulationBatchNorm.from_torch(nn.BatchNorm1d(3, track_running_stats=False))


@pytest.mark.parametrize(("momentum", "of"), [(0.9, "old"), (0.1, "new")])
def test_both_momentum_conventions_say_the_same(momentum, of):
    layer = BatchNorm(1, momentum=momentum, momentum_of=of)
    layer(torch.tensor([[9.0], [11.0]]))
    assert layer.moving_mean.item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"num_features": 0},
        {"num_features": 2, "eps": -1.0},
        {"num_features": 2, "momentum": 1.5},
        {"num_features": 2, "momentum_of": "both"},
        {"num_features": 2, "variance": "true"},
    ],
)
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ConfigError):
        BatchNorm(**options)


def trained_layer() -> BatchNorm:
    layer = BatchNorm(3)
    layer(drawn((8, 3), dtype=torch.float32))
    return layer


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_copies_keep_the_moving_moments(duplicate):
    layer = trained_layer()
    assert torch.equal(duplicate(layer).moving_var, layer.moving_var)


def test_saving_and_loading_keeps_the_moving_moments():
    layer, fresh = trained_layer(), BatchNorm(3)
    assert set(layer.state_dict()) == set(nn.BatchNorm1d(3).state_dict())
    fresh.load_state_dict(layer.state_dict())
    X = drawn((4, 3), 5, torch.float32)
    assert torch.equal(fresh.eval()(X), layer.eval()(X))


def test_moving_a_layer_moves_its_moments():
    layer = trained_layer().to(torch.float64).to("meta")
    assert layer.moving_mean.dtype == torch.float64
    assert layer.moving_mean.device.type == layer.gamma.device.type == "meta"


@pytest.mark.parametrize(
    "word",
    [
        "scratch",
        "ghost:size=4",
        "population",
        "frozen",
        "noisy",
        "mean-only",
        "variance-only",
        "scratch:affine=0",
    ],
)
def test_evaluation_does_not_depend_on_the_batch_and_leaves_buffers_alone(word):
    layer = make_norm(word, 3, 4, rng=stream(0, "noise"))
    for seed in range(3):
        layer(drawn((8, 3, 2, 2), seed, torch.float32))
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    X = drawn((6, 3, 2, 2), 9, torch.float32)
    alone = torch.cat([layer(image.unsqueeze(0)) for image in X])
    assert torch.allclose(layer(X), alone, atol=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_scaling_the_weights_before_bn_keeps_the_output_and_divides_the_gradient(scale):
    X, W, target = drawn((9, 4), 0), drawn((3, 4), 1), drawn((9, 3), 2)

    def output_and_gradient(weights):
        weights = weights.clone().requires_grad_()
        layer = BatchNorm(3, eps=0.0).double()
        Y = layer(X @ weights.T)
        return Y.detach(), torch.autograd.grad(((Y - target) ** 2).sum(), weights)[0]

    (Y, gradient), (scaled_Y, scaled) = output_and_gradient(W), output_and_gradient(scale * W)
    assert torch.allclose(Y, scaled_Y, atol=1e-12)
    assert torch.allclose(gradient / scale, scaled, rtol=1e-9, atol=1e-12)
    # so the gradient is orthogonal to the weights, and plain gradient descent never shrinks them
    assert abs((gradient * W).sum(1)).max() < 1e-10 * gradient.abs().max() * W.abs().max() * 100
    assert ((W - 0.5 * gradient).norm(dim=1) >= W.norm(dim=1)).all()


def test_a_bias_before_bn_gets_no_gradient():
    X, bias = drawn((9, 3), 0), drawn((3,), 1).requires_grad_()
    Y = BatchNorm(3).double()(X + bias)
    gradient = torch.autograd.grad((Y * drawn((9, 3), 2)).sum(), bias)[0]
    assert gradient.abs().max() < 1e-12


def small_nets(variance):
    """Return a net on torch's layers and, with the same weights, one on ours."""
    shapes = [(3, 1, 3, 3), (3,), (5, 12), (5,), (2, 5), (2,)]
    with torch.random.fork_rng(devices=[]):  # weights are filled below
        before, between = nn.Conv2d(1, 3, 3), nn.Linear(12, 5)
        theirs = nn.Sequential(
            before, nn.BatchNorm2d(3), nn.Sigmoid(), nn.Flatten(), between,
            nn.BatchNorm1d(5), nn.Sigmoid(), nn.Linear(5, 2),
        ).double()  # fmt: skip
    with torch.no_grad():
        for layer, pair in zip((0, 4, 7), zip(shapes[::2], shapes[1::2], strict=True), strict=True):
            theirs[layer].weight.copy_(drawn(pair[0], layer))
            theirs[layer].bias.copy_(drawn(pair[1], layer + 1))
    ours = copy.deepcopy(theirs)
    ours[1], ours[5] = (BatchNorm(C, variance=variance).double() for C in (3, 5))
    return theirs, ours


@pytest.mark.parametrize("variance", ["biased", "unbiased"])
def test_twenty_training_steps_and_their_running_statistics_are_torchs(variance):
    theirs, ours = small_nets(variance)
    averages = {1: torch.ones(3).double(), 5: torch.ones(5).double()}

    def average(layer, X):
        batch = X.transpose(0, 1).flatten(1).var(1, correction=int(variance == "unbiased"))
        averages[layer] = 0.9 * averages[layer] + 0.1 * batch.detach()

    for layer in averages:  # the variance that torch's layer meets, averaged either way
        theirs[layer].register_forward_pre_hook(lambda _, X, layer=layer: average(layer, *X))
    for step in range(20):
        X, y = drawn((8, 1, 4, 4), step), torch.arange(8) % 2
        for net in (theirs, ours):
            net.zero_grad()
            F.cross_entropy(net(X), y).backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.5 * parameter.grad
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    for layer, var in averages.items():
        assert torch.allclose(ours[layer].moving_mean, theirs[layer].running_mean, atol=1e-10)
        assert torch.allclose(ours[layer].moving_var, var, atol=1e-10)
    assert torch.allclose(theirs[1].running_var, averages[1]) is (variance == "unbiased")


def test_a_layer_to_torch_and_back_trains_on_alike():
    first = BatchNorm(3, momentum=0.7, eps=1e-3, variance="unbiased").double()
    first(drawn((6, 3), 0))
    theirs = first.to_torch(2)
    back = BatchNorm.from_torch(theirs)
    for seed in range(1, 4):
        outputs = [layer(drawn((6, 3), seed)) for layer in (first, theirs, back)]
        assert torch.allclose(outputs[0], outputs[1], atol=1e-12)
        assert torch.allclose(outputs[0], outputs[2], atol=1e-12)
    assert torch.allclose(first.moving_var, theirs.running_var, atol=1e-12)
    assert torch.allclose(first.moving_var, back.moving_var, atol=1e-12)


def test_a_printed_layer_names_its_conventions():
    assert repr(GhostBatchNorm(3, size=4)) == (
        "GhostBatchNorm(3, eps=1e-05, momentum=0.9, momentum_of='old', variance='biased', size=4)"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gamma": (1,)}, "gamma must hold one value per channel, (3,), got (1,)"),
        ({"beta": (1, 3)}, "beta must hold one value per channel, (3,), got (1, 3)"),
        ({"moving_var": (1,)}, "moving_var must hold one value per channel, (3,), got (1,)"),
        ({"variance": "sample"}, "variance must be 'biased' or 'unbiased', got 'sample'"),
    ],
)
def test_vectors_of_another_length_and_other_variances_are_refused(changes, message):
    given = {"gamma": None, "beta": None, "moving_var": (3,), "variance": "biased"} | changes
    given = {k: torch.ones(v) if isinstance(v, tuple) else v for k, v in given.items()}
    with pytest.raises(ConfigError) as refusal:
        batch_norm(
            torch.ones(2, 3), moving_mean=torch.zeros(3), eps=1e-5, momentum=0.9,
            training=True, **given,
        )  # fmt: skip
    assert str(refusal.value) == message


def test_conversion_carries_the_momentum_exactly_and_what_is_learned():
    theirs = nn.BatchNorm2d(3, momentum=0.1)
    theirs.weight.requires_grad_(False)
    back = BatchNorm.from_torch(theirs).to_torch()
    assert back.momentum == 0.1
    assert (back.weight.requires_grad, back.bias.requires_grad) == (False, True)


@pytest.mark.parametrize("kind", [GhostBatchNorm, PopulationBatchNorm, FrozenBatchNorm])
def test_a_relative_becomes_torchs_in_evaluation_only(kind):
    layer, X = with_affine(kind(3, variance="unbiased")), drawn((6, 3))
    layer(X)
    with pytest.raises(ConfigError) as refusal:
        layer.to_torch(2)
    assert str(refusal.value) == (
        f"torch has no layer that trains as {kind.__name__} does: call .eval() first"
    )
    assert torch.allclose(layer.eval().to_torch(2)(X), layer(X), atol=1e-12)


def test_a_relative_from_torch_takes_its_own_options():
    theirs = nn.BatchNorm1d(3)
    assert GhostBatchNorm.from_torch(theirs, size=8).size == 8
    assert NoisyBatchNorm.from_torch(theirs, rng=stream(0, "noise")).keep == 0.9


@pytest.mark.parametrize("kind", [PopulationBatchNorm, FrozenBatchNorm])
@pytest.mark.parametrize("given", ["from_torch", "set"])
def test_moments_from_elsewhere_keep_their_weight_in_further_training(kind, given):
    mean, var = torch.full((3,), 5.0), torch.full((3,), 2.0)
    layer, theirs, X = kind(3), nn.BatchNorm1d(3), drawn((6, 3), dtype=torch.float32)
    set_running_statistics(theirs, mean, var)
    if given == "from_torch":
        layer = kind.from_torch(theirs)
    else:
        set_running_statistics(layer, mean, var)
    layer(X)
    assert torch.allclose(layer.moving_mean, 0.9 * mean + 0.1 * X.mean(0), atol=1e-6)


def test_a_fresh_layer_from_torch_starts_with_the_first_batch_alone():
    X = drawn((6, 3), dtype=torch.float32)
    layer = PopulationBatchNorm.from_torch(nn.BatchNorm1d(3))
    layer(X)
    assert torch.allclose(layer.moving_mean, X.mean(0), atol=1e-6)
    assert torch.allclose(layer.moving_var, X.var(0), atol=1e-5)


# Relatives ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [(256, 32, [32] * 8), (10, 4, [4, 4, 2]), (9, 4, [4, 5]), (5, 8, [5]), (8, 8, [8])],
)
def test_ghost_batches_are_consecutive_and_no_image_stands_alone(n, size, sizes):
    assert ghost_sizes(n, size) == sizes


def test_ghost_bn_is_bn_on_each_part():
    X, layer = drawn((10, 3, 2, 2)), GhostBatchNorm(3, size=4).double()
    parts = [BatchNorm(3).double()(part) for part in (X[:4], X[4:8], X[8:])]
    assert torch.allclose(layer(X), torch.cat(parts), atol=1e-12)
    means = [part.mean((0, 2, 3)) for part in (X[:4], X[4:8], X[8:])]
    expected = 0.1 * (0.4 * means[0] + 0.4 * means[1] + 0.2 * means[2])
    assert torch.allclose(layer.moving_mean, expected, atol=1e-12)


def gradients(layer, X, seed=9):
    """Return the gradients of a random weighting of the output for X, gamma and beta."""
    X = X.clone().requires_grad_()
    return torch.autograd.grad(
        (layer(X) * drawn(X.shape, seed)).sum(), (X, layer.gamma, layer.beta)
    )


def with_affine(layer):
    """Return a float64 layer whose gamma and beta are not 1 and 0."""
    layer = layer.double()
    with torch.no_grad():
        layer.gamma.copy_(drawn((3,), 1))
        layer.beta.copy_(drawn((3,), 2))
    return layer


@pytest.mark.parametrize("variance", ["biased", "unbiased"])
def test_gradients_and_moving_variance_of_ghost_bn_are_those_of_its_parts(variance):
    X, cotangent = drawn((9, 3, 2, 2)), drawn((9, 3, 2, 2), 9)
    ghost = with_affine(GhostBatchNorm(3, size=4, variance=variance))
    found = gradients(ghost, X)
    dX, dgamma, dbeta, var = [], 0, 0, 0
    for rows in (slice(0, 4), slice(4, 9)):  # the ninth image joins the second part
        part = X[rows].clone().requires_grad_()
        plain = with_affine(BatchNorm(3))
        loss = (plain(part) * cotangent[rows]).sum()
        each = torch.autograd.grad(loss, (part, plain.gamma, plain.beta))
        dX.append(each[0])
        dgamma, dbeta = dgamma + each[1], dbeta + each[2]
        correction = int(variance == "unbiased")
        var = var + len(part) / 9 * part.detach().var((0, 2, 3), correction=correction)
    for ours, expected in zip(found, (torch.cat(dX), dgamma, dbeta), strict=True):
        assert torch.allclose(ours, expected, atol=1e-12)
    assert torch.allclose(ghost.moving_var, 0.9 + 0.1 * var, atol=1e-12)


def test_ghost_bn_of_the_whole_batch_is_bn():
    X, ghost, plain = drawn((6, 3)), GhostBatchNorm(3, size=8).double(), BatchNorm(3).double()
    assert torch.equal(ghost(X), plain(X))
    assert torch.allclose(ghost.moving_var, plain.moving_var, atol=1e-15)


@pytest.mark.parametrize("size", [0, 1, 2.5])
def test_a_ghost_batch_holds_at_least_two_images(size):
    with pytest.raises(ConfigError, match="a ghost batch must hold at least 2 images"):
        GhostBatchNorm(3, size=size)


def population_oracle(X, mean, var, eps):
    """Ioffe's r and d written out, mean and var the moving moments used."""
    mu, sigma_b = X.mean(0), (X.var(0, correction=0) + eps).sqrt()
    sigma = (var + eps).sqrt()
    r, d = (sigma_b / sigma).detach(), ((mu - mean) / sigma).detach()
    return (X - mu) / sigma_b * r + d


def test_population_bn_is_forward_by_moving_moments_and_backward_as_bn():
    layer, weights = PopulationBatchNorm(3).double(), drawn((7, 3), 50)
    for seed in range(4):
        X = drawn((7, 3), seed).requires_grad_()
        Y = layer(X)
        mean, var = layer.moving_mean.clone(), layer.moving_var.clone()
        assert torch.allclose(Y, (X - mean) / (var + layer.eps).sqrt(), atol=1e-12)
        expected = population_oracle(X, mean, var, layer.eps)
        gradients = [torch.autograd.grad((y * weights).sum(), X)[0] for y in (Y, expected)]
        assert torch.allclose(*gradients, atol=1e-12)


def test_population_bn_starts_as_bn_and_averages_without_the_bias_of_the_start():
    layer, batches = PopulationBatchNorm(2).double(), [drawn((5, 2), seed) for seed in range(3)]
    assert torch.allclose(layer(batches[0]), BatchNorm(2).double()(batches[0]), atol=1e-12)
    layer(batches[1])
    layer(batches[2])
    weights = torch.tensor([0.81, 0.9, 1.0], dtype=torch.float64)
    means = torch.stack([batch.mean(0) for batch in batches])
    expected = (weights[:, None] * means).sum(0) / weights.sum()
    assert torch.allclose(layer.moving_mean, expected, atol=1e-12)


def test_population_bn_of_images_has_the_gradients_of_batch_renormalization():
    layer, X = with_affine(PopulationBatchNorm(3)), drawn((5, 3, 2, 2), 1)
    layer(drawn((5, 3, 2, 2), 0))
    found = gradients(layer, X)
    x = X.clone().requires_grad_()
    flat = x.transpose(1, 3).reshape(-1, 3)  # (N, C, H, W) -> (N W H, C): channels last
    x_hat = population_oracle(flat, layer.moving_mean, layer.moving_var, layer.eps)
    Y = layer.gamma * x_hat + layer.beta
    cotangent = drawn(X.shape, 9).transpose(1, 3).reshape(-1, 3)
    expected = torch.autograd.grad((Y * cotangent).sum(), (x, layer.gamma, layer.beta))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("layer", [PopulationBatchNorm, FrozenBatchNorm])
def test_population_and_frozen_bn_take_in_the_batch_before_they_use_it(layer):
    layer, X = with_affine(layer(3)), drawn((5, 3, 2, 2), 1)
    layer(drawn((5, 3, 2, 2), 0))
    before, Y = copy.deepcopy(layer).eval()(X), layer(X)
    assert torch.allclose(Y, layer.eval()(X), atol=1e-12)
    assert not torch.allclose(Y, before, atol=1e-3)


def test_frozen_bn_treats_its_moments_as_constants():
    layer = FrozenBatchNorm(3).double()
    layer(drawn((7, 3), 0))
    X = drawn((7, 3), 1).requires_grad_()
    Y = layer(X)
    gradient = torch.autograd.grad(Y.sum(), X)[0]
    expected = (1 / (layer.moving_var + layer.eps).sqrt()).expand(7, 3)
    assert torch.allclose(gradient, expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 2, 2)])
def test_noisy_bn_is_bn_with_the_noise_of_its_stream(shape):
    X = drawn(shape, dtype=torch.float32)
    noisy = NoisyBatchNorm(3, rng=stream(4, "noise"))(X)
    rng, f4 = stream(4, "noise"), np.float32
    mu = rng.random(3, dtype=f4) - f4(0.5)
    sigma = 1 + f4(0.25) * rng.random(3, dtype=f4)
    m = mu - f4(0.1) + f4(0.2) * rng.random((6, 3), dtype=f4)
    s = sigma + f4(0.1) * rng.standard_normal((6, 3), dtype=f4)
    axes = (..., *[None] * (len(shape) - 2))
    expected = torch.from_numpy(s)[axes] * BatchNorm(3)(X) + torch.from_numpy(m)[axes]
    assert torch.allclose(noisy, expected, atol=1e-6)


def test_noise_is_drawn_in_the_stated_order_and_amount_and_only_in_training():
    rng, twin = stream(4, "noise"), stream(4, "noise")
    layer = NoisyBatchNorm(3, rng=rng)
    for n in (6, 5):  # mu, sigma, m: uniforms; s: normals
        layer(drawn((n, 3), dtype=torch.float32))
        twin.random(6 + 3 * n, dtype=np.float32)
        twin.standard_normal(3 * n, dtype=np.float32)
        assert rng.bit_generator.state == twin.bit_generator.state
    layer.eval()(drawn((6, 3), dtype=torch.float32))
    assert rng.bit_generator.state == twin.bit_generator.state


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_a_copied_noisy_layer_draws_the_same_noise(duplicate):
    layer, X = NoisyBatchNorm(3, rng=stream(4, "noise")), drawn((6, 3), dtype=torch.float32)
    layer(X)
    twin = duplicate(layer)
    assert torch.equal(layer(X), twin(X))


def test_the_noise_has_the_published_moments():
    layer = NoisyBatchNorm(4000, rng=stream(0, "noise"))
    s, m = layer.draw(8)
    assert np.abs(m).max() <= 0.6
    assert m.mean(0).std() == pytest.approx(1 / np.sqrt(12), rel=0.05)
    assert s.mean() == pytest.approx(1.125, abs=0.01)
    assert (s - s.mean(0)).std(ddof=0) * np.sqrt(8 / 7) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("word", "groups"), [("group:groups=3", 3), ("layer", 1)])
def test_group_and_layer_norm_are_torchs(word, groups):
    X = drawn((4, 6, 3, 3), dtype=torch.float32)
    layer = make_norm(word, 6, 4, rng=stream(0, "noise"))
    assert torch.allclose(layer(X), F.group_norm(X, groups), atol=1e-6)
    flat = drawn((4, 6), dtype=torch.float32)
    layer = make_norm("layer", 6, 2, rng=stream(0, "noise"))
    assert torch.allclose(layer(flat), F.layer_norm(flat, (6,)), atol=1e-6)


# Parts ----------------------------------------------------------------------------------

SHAPES = [(5, 3), (4, 3, 2), (4, 3, 2, 2), (3, 3, 2, 1, 2)]


def channels_of(X):
    """Put the values of each channel in a row, and axes behind a vector of channels."""
    return X.transpose(0, 1).flatten(1), (slice(None), *[None] * (X.dim() - 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_only_bn_centres_each_channel_and_adds_beta(shape):
    X, layer = drawn(shape, shift=3.0), MeanOnlyBatchNorm(3).double()
    with torch.no_grad():
        layer.beta.copy_(drawn((3,), 2))
    rows, axes = channels_of(X)
    assert torch.allclose(layer(X), X - rows.mean(1)[axes] + layer.beta[axes], atol=1e-12)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_mean_only_bn_loses_its_mean_and_nothing_else(shape):
    X, dy = drawn(shape).requires_grad_(), drawn(shape, 1)
    (found,) = torch.autograd.grad(MeanOnlyBatchNorm(3).double()(X), X, dy)
    rows, axes = channels_of(dy)
    assert torch.allclose(found, dy - rows.mean(1)[axes], atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_variance_only_bn_is_bn_with_the_mean_put_back(shape):
    X = drawn(shape, shift=3.0)
    layer, plain = with_affine(VarianceOnlyBatchNorm(3)), with_affine(BatchNorm(3))
    rows, axes = channels_of(X)
    sigma = (rows.var(1, correction=0) + layer.eps).sqrt()
    expected = plain(X) + (plain.gamma * rows.mean(1) / sigma)[axes]
    assert torch.allclose(layer(X), expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradients_of_variance_only_bn_are_those_of_its_formula(shape):
    X, dy, layer = drawn(shape, shift=3.0), drawn(shape, 9), with_affine(VarianceOnlyBatchNorm(3))
    found = gradients(layer, X)
    rows, axes = channels_of(X)
    sigma = (rows.var(1, correction=0) + layer.eps).sqrt()[axes]
    u, x_hat = X / sigma, (X - rows.mean(1)[axes]) / sigma
    along = channels_of(dy * u)[0]
    dX = layer.gamma[axes] / sigma * (dy - x_hat * along.mean(1)[axes])
    expected = (dX, along.sum(1), channels_of(dy)[0].sum(1))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("kind", [MeanOnlyBatchNorm, VarianceOnlyBatchNorm])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradcheck_of_the_parts(kind, shape):
    layer = kind(3).double()
    assert torch.autograd.gradcheck(layer, drawn(shape, shift=2.0).requires_grad_())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_two_parts_one_after_the_other_are_bn(shape):
    X = drawn(shape, shift=3.0)
    centre, divide = MeanOnlyBatchNorm(3).double(), with_affine(VarianceOnlyBatchNorm(3))
    both = nn.Sequential(centre, divide)
    both.gamma, both.beta = divide.gamma, divide.beta
    for ours, whole in zip(
        (both(X), *gradients(both, X)),
        (with_affine(BatchNorm(3))(X), *gradients(with_affine(BatchNorm(3)), X)),
        strict=True,
    ):
        assert torch.allclose(ours, whole, atol=1e-11)


@pytest.mark.parametrize("variance", ["biased", "unbiased"])
@pytest.mark.parametrize("kind", [MeanOnlyBatchNorm, VarianceOnlyBatchNorm])
def test_the_parts_average_both_moments_as_bn_does(kind, variance):
    layer, plain = (each(3, variance=variance).double() for each in (kind, BatchNorm))
    for seed in range(3):
        layer(drawn((5, 3, 2, 2), seed))
        plain(drawn((5, 3, 2, 2), seed))
    assert torch.allclose(layer.moving_mean, plain.moving_mean, atol=1e-12)
    assert torch.allclose(layer.moving_var, plain.moving_var, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(MeanOnlyBatchNorm, [[4.0, 8.0]]), (VarianceOnlyBatchNorm, [[2.5, 10.0 / 3.0]])],
)
def test_in_evaluation_a_part_uses_the_moving_moment_that_is_its_own(kind, expected):
    layer = kind(2, eps=0.0).double().eval()
    mean, var = torch.tensor([1.0, 2.0]).double(), torch.tensor([4.0, 9.0]).double()
    set_running_statistics(layer, mean, var)
    found = layer(torch.tensor([[5.0, 10.0]]).double())
    assert torch.allclose(found, torch.tensor(expected).double(), atol=1e-12)


@pytest.mark.parametrize("kind", [MeanOnlyBatchNorm, VarianceOnlyBatchNorm])
def test_a_part_neither_becomes_torchs_nor_comes_from_one(kind):
    for layer in (kind(3), kind(3).eval()):
        with pytest.raises(ConfigError) as refusal:
            layer.to_torch(2)
        assert str(refusal.value) == f"torch has no layer that does what {kind.__name__} does"
    with pytest.raises(ConfigError) as refusal:
        kind.from_torch(nn.BatchNorm1d(3))
    assert str(refusal.value) == f"{kind.__name__} does less than a batch norm of torch's"


@pytest.mark.parametrize("word", ["bn", "scratch"])
@pytest.mark.parametrize("dims", [2, 4])
def test_bn_without_gamma_and_beta_learns_nothing_and_is_bn_at_its_start(word, dims):
    bare, whole = (
        make_norm(w, 3, dims, rng=stream(0, "noise")) for w in (f"{word}:affine=0", word)
    )
    X = drawn((5, 3, *[2] * (dims - 2)), dtype=torch.float32)
    assert torch.equal(bare(X), whole(X))
    assert list(bare.parameters()) == []


# State and words ------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["bn", "scratch", "ghost", "population", "frozen", "noisy"])
@pytest.mark.parametrize("dims", [2, 4])
def test_running_statistics_that_are_set_are_those_used(word, dims):
    layer = make_norm(word, 3, dims, rng=stream(0, "noise"))
    mean, var = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])
    set_running_statistics(layer, mean, var)
    state = parameters_of(layer)
    assert torch.equal(state.mean, mean)
    assert torch.equal(state.var, var)
    X = drawn((5, 3, *[2] * (dims - 2)), dtype=torch.float32)
    shape = (1, 3, *[1] * (dims - 2))
    expected = (X - mean.reshape(shape)) / (var.reshape(shape) + 1e-5).sqrt()
    assert torch.allclose(layer.eval()(X), expected, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm2d(3, affine=False), BatchNorm(3, affine=False), nn.LayerNorm(3, bias=False)],
)
def test_a_missing_gamma_is_ones_and_a_missing_beta_zeros(layer):
    state = parameters_of(layer)
    assert state.gamma.tolist() == [1, 1, 1]
    assert state.beta.tolist() == [0, 0, 0]


def test_a_module_that_does_not_tell_its_channels_has_an_empty_state():
    for layer in (nn.Identity(), torch.nn.utils.skip_init(nn.Linear, 3, 3)):
        assert [len(values) for values in parameters_of(layer)] == [0, 0, 0, 0]


def test_running_statistics_of_a_wrong_layer_or_shape_are_refused():
    with pytest.raises(ConfigError) as refusal:
        set_running_statistics(nn.GroupNorm(1, 3), torch.ones(3), torch.ones(3))
    assert str(refusal.value) == (
        "running statistics can be set only of a layer that keeps them, got GroupNorm"
    )
    for layer in (BatchNorm(3), nn.BatchNorm1d(3)):
        with pytest.raises(ConfigError) as refusal:
            set_running_statistics(layer, torch.ones(1), torch.ones(3))
        assert str(refusal.value) == (
            "running statistics must hold one value per channel, (3,), got (1,) and (3,)"
        )


def test_state_is_a_copy_without_gradient():
    layer = BatchNorm(3)
    state = parameters_of(layer)
    layer(drawn((4, 3), dtype=torch.float32))
    with torch.no_grad():
        layer.gamma += 1
    assert (state.gamma.tolist(), state.mean.tolist()) == ([1, 1, 1], [0, 0, 0])
    assert not state.gamma.requires_grad


@pytest.mark.parametrize("word", ["group:groups=1", "layer"])
def test_layers_without_running_statistics_say_so(word):
    layer = make_norm(word, 3, 4, rng=stream(0, "noise"))
    assert not has_running_statistics(layer)
    state = parameters_of(layer)
    assert state.gamma.tolist() == [1, 1, 1]
    assert state.mean.isnan().all()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("batchnorm", "there is no normalization 'batchnorm': choose one of none, bn,"),
        ("gost:size=3", "there is no normalization 'gost': did you mean 'ghost'?"),
        ("ghost:siez=3", "there is no ghost option 'siez': did you mean 'size'?"),
        ("none:size=3", "normalization 'none' takes no options, got 'size': leave it out"),
        ("ghost:size", "an option of 'ghost' is written key=value, got 'size'"),
        ("ghost:size=1", "a ghost batch must hold at least 2 images, got size=1"),
        ("group:groups=4", "groups must divide the 6 channels of a layer, got 4"),
        ("scratch:momentum=x", "momentum must be a number in [0, 1], got 'x'"),
        ("bn:momentum=x", "momentum must be a number in [0, 1], got 'x'"),
        ("bn:momentum=5", "momentum must be a number in [0, 1], got 5"),
        ("bn:eps=-1", "eps must be a number finite and at least 0, got -1"),
        ("scratch:eps=nan", "eps must be a number finite and at least 0, got nan"),
        ("group:eps=inf", "eps must be a number finite and at least 0, got inf"),
        ("layer:eps=x", "eps must be a number finite and at least 0, got 'x'"),
        ("bn:affine=2", "affine must be 0 or 1, got 2"),
        ("scratch:affine=no", "affine must be 0 or 1, got 'no'"),
        (
            "mean-only:eps=0.1",
            "normalization 'mean-only' takes no options, got 'eps'",
        ),
        ("variance-only:eps=-1", "eps must be a number finite and at least 0, got -1"),
        ("ghost:size=4,size=8", "an option is given once, got 'size' twice in"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(word, message):
    with pytest.raises(ConfigError) as refusal:
        make_norm(word, 6, 4, rng=stream(0, "noise"))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("word", "settings_of_layer"),
    [
        ("bn", {"eps": 1e-5, "momentum": 0.1}),
        ("bn:momentum=0.3,eps=0.01", {"eps": 0.01, "momentum": 0.3}),
        ("scratch", {"eps": 1e-5, "keep": 0.9, "variance": "biased"}),
        (
            "scratch:momentum=0.3,momentum_of=new,variance=unbiased,eps=0.01",
            {"eps": 0.01, "keep": 0.7, "variance": "unbiased"},
        ),
        ("ghost:size=8,eps=0.01", {"size": 8, "eps": 0.01}),
        ("population:momentum=0.5,eps=0.01", {"keep": 0.5, "eps": 0.01}),
        ("frozen:momentum=0.5,eps=0.01", {"keep": 0.5, "eps": 0.01}),
        ("noisy:eps=0.01", {"eps": 0.01, "keep": 0.9}),
        ("variance-only:eps=0.01", {"eps": 0.01, "keep": 0.9}),
        ("mean-only", {"keep": 0.9, "gamma": None}),
        ("scratch:affine=0", {"gamma": None, "beta": None}),
        ("bn:affine=0", {"affine": False}),
        ("bn:affine=1", {"affine": True}),
        ("group:groups=3,eps=0.01", {"num_groups": 3, "eps": 0.01}),
        ("layer:eps=0.01", {"eps": 0.01}),
    ],
)
@pytest.mark.parametrize("dims", [2, 4])
def test_the_options_of_a_word_are_those_of_its_layer(word, settings_of_layer, dims):
    layer = make_norm(word, 6, dims, rng=stream(0, "noise"))
    assert {name: getattr(layer, name) for name in settings_of_layer} == settings_of_layer


def test_every_word_makes_a_layer_that_trains():
    for word in norm_names():
        layer = make_norm(word, 6, 4, rng=stream(0, "noise"))
        if word == "none":
            assert layer is None
            continue
        X = drawn((4, 6, 2, 2), dtype=torch.float32).requires_grad_()
        layer(X).square().sum().backward()
        assert torch.isfinite(X.grad).all()


def test_a_normalization_from_outside_is_known_by_its_word():
    class Centred(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, X):
            return X - X.mean(0) + self.shift

    register_norm("centred", lambda C, dims, rng, shift=0.0: Centred(shift), needs_batch=True)
    try:
        layer = make_norm("centred:shift=2.5", 6, 2, rng=stream(0, "noise"))
        assert layer(torch.ones(3, 6)).tolist() == [[2.5] * 6] * 3
        assert needs_batch("centred")
        with pytest.raises(ConfigError, match="there is a normalization 'centred' already"):
            register_norm("centred", Centred)
    finally:
        del registry._NORMS["centred"]


@pytest.mark.parametrize(
    ("word", "needs"),
    [
        ("none", False),
        ("bn", True),
        ("layer", False),
        ("ghost:size=2", True),
        ("mean-only", True),
        ("variance-only", True),
    ],
)
def test_words_know_whether_they_need_a_batch(word, needs):
    assert needs_batch(word) is needs
