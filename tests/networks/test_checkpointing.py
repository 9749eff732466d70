"""Activation checkpointing draws the same masks and noise again, and leaves the stream alone."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bnstudy.config import stream
from bnstudy.errors import ConfigError
from bnstudy.networks import checkpointing
from bnstudy.networks.dropout import StreamDropout
from bnstudy.networks.norm import (
    BatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
)

MODES = pytest.mark.parametrize("reentrant", [True, False])


@pytest.fixture(autouse=True)
def generators_kept():
    """Put back torch's generator, from which checkpointed layers take a ticket."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Blocks(nn.Module):
    """Three blocks with noise and dropout of one stream each, checkpointed or not."""

    def __init__(self, run):
        super().__init__()
        noise, masks = stream(3, "noise"), stream(3, "dropout")
        self.run = run
        self.blocks = nn.ModuleList()
        for seed in range(3):
            linear = torch.nn.utils.skip_init(nn.Linear, 4, 4, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(drawn(4, 4, seed=seed))
                linear.bias.copy_(drawn(4, seed=seed))
            norm = NoisyBatchNorm(4, rng=noise, dtype=torch.float64)
            self.blocks.append(
                nn.Sequential(
                    linear, StreamDropout(0.3, masks), norm, nn.Tanh(), StreamDropout(0.2, masks)
                )
            )

    def forward(self, X):
        for block in self.blocks:
            X = self.run(block, X)
        return X

    def states(self):
        first = self.blocks[0]
        return [layer.rng.bit_generator.state for layer in (first[1], first[2])]


def checkpointed(reentrant, **options):
    return lambda block, X: checkpoint(block, X, use_reentrant=reentrant, **options)


def gradients_of(net, batches, order):
    """Return the gradients after all forward passes, then the backward passes in an order."""
    inputs = [batch.clone().requires_grad_() for batch in batches]
    losses = [net(X).square().sum() for X in inputs]
    for at in order:
        losses[at].backward()
    return [X.grad for X in inputs] + [each.grad for each in net.parameters()]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


@MODES
@pytest.mark.parametrize("order", [(0,), (0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_gradients_and_streams_are_those_without_checkpointing(reentrant, order):
    batches = [drawn(6, 4, seed=9 + at) for at in range(len(order))]
    plain, saving = Blocks(lambda block, X: block(X)), Blocks(checkpointed(reentrant))
    assert_same(gradients_of(saving, batches, order), gradients_of(plain, batches, order))
    assert saving.states() == plain.states()


@MODES
def test_further_steps_go_on_from_the_same_numbers(reentrant):
    plain, saving = Blocks(lambda block, X: block(X)), Blocks(checkpointed(reentrant))
    for step in range(3):
        batch = [drawn(6, 4, seed=step)]
        assert_same(gradients_of(saving, batch, (0,)), gradients_of(plain, batch, (0,)))


# not both reentrant: torch has no gradient of that
@pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True), (False, False)])
def test_checkpoints_may_be_nested(outer, inner):
    plain, nested = Blocks(lambda block, X: block(X)), Blocks(checkpointed(inner))

    class Outer(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, X):
            return checkpoint(self.net, X, use_reentrant=outer)

    batch = [drawn(6, 4, seed=9)]
    assert_same(gradients_of(Outer(nested), batch, (0,)), gradients_of(plain, batch, (0,)))
    assert nested.states() == plain.states()


def test_a_backward_pass_may_be_repeated():
    net, X = Blocks(checkpointed(False)), drawn(6, 4).requires_grad_()
    loss = net(X).square().sum()
    first, again = (torch.autograd.grad(loss, X, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, again)


@MODES
def test_seeding_torch_alike_before_each_step_repeats_nothing(reentrant):
    plain, saving = Blocks(lambda block, X: block(X)), Blocks(checkpointed(reentrant))
    for step in range(3):
        torch.manual_seed(0)  # the tickets are those of the step before
        batch = [drawn(6, 4, seed=step)]
        assert_same(gradients_of(saving, batch, (0,)), gradients_of(plain, batch, (0,)))
    assert saving.states() == plain.states()


@MODES
def test_two_forward_passes_under_way_from_one_seed_are_refused(reentrant):
    net, losses = Blocks(checkpointed(reentrant)), []
    for seed in range(2):
        torch.manual_seed(0)
        losses.append(net(drawn(6, 4, seed=seed).requires_grad_()).square().sum())
    with pytest.raises(ConfigError) as refusal:
        losses[0].backward()
    assert str(refusal.value) == (
        "forward passes that are checkpointed are told apart by torch's generator, and two "
        "began with the same state of it: seed it once, not before each forward pass"
    )


@MODES
def test_a_checkpoint_that_does_not_keep_the_generators_is_refused(reentrant):
    net, X = Blocks(checkpointed(reentrant, preserve_rng_state=False)), drawn(6, 4)
    loss = net(X.requires_grad_()).square().sum()
    with pytest.raises(ConfigError) as refusal:
        loss.backward()
    assert str(refusal.value) == (
        "random numbers are repeated in a backward pass only for one of the last 10,000 "
        "checkpointed forward passes, and this is none of them: call checkpoint with "
        "preserve_rng_state=True"
    )


@MODES
def test_forward_passes_that_are_no_longer_remembered_are_refused(reentrant, monkeypatch):
    monkeypatch.setattr(checkpointing, "REMEMBERED", 5)
    net, X = Blocks(checkpointed(reentrant)), drawn(6, 4)
    loss = net(X.requires_grad_()).square().sum()  # nine draws
    with pytest.raises(ConfigError, match="one of the last 5 checkpointed forward passes"):
        loss.backward()


def test_without_a_checkpoint_nothing_is_drawn_from_torchs_generator():
    net, state = Blocks(lambda block, X: block(X)), torch.get_rng_state()
    gradients_of(net, [drawn(6, 4)], (0,))
    with torch.inference_mode():
        net(drawn(6, 4))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_copy_draws_what_the_layer_would_and_the_layer_goes_on():
    layer, X = StreamDropout(0.5, stream(1, "dropout")), drawn(6, 4).requires_grad_()
    Y = checkpoint(layer, X, use_reentrant=False)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(X), layer(X))
    Y.sum().backward()
    assert torch.equal(X.grad != 0, Y != 0)


@MODES
def test_noise_of_torchs_generator_is_repeated_too(reentrant):
    def gradient(run):
        torch.manual_seed(5)
        layer, X = NoisyBatchNorm(4, dtype=torch.float64), drawn(6, 4).requires_grad_()
        run(layer, X).square().sum().backward()
        return X.grad

    expected = gradient(lambda layer, X: layer(X))
    assert torch.allclose(gradient(checkpointed(reentrant)), expected, atol=1e-14)
    assert not torch.allclose(
        gradient(lambda layer, X: BatchNorm.forward(layer.eval(), X)), expected
    )


@MODES
@pytest.mark.parametrize("kind", [PopulationBatchNorm, FrozenBatchNorm])
def test_layers_whose_moments_have_moved_cannot_be_recomputed(reentrant, kind):
    layer, X = kind(4, dtype=torch.float64), drawn(6, 4).requires_grad_()
    loss = checkpoint(layer, X, use_reentrant=reentrant).square().sum()
    with pytest.raises(ConfigError) as refusal:
        loss.backward()
    assert str(refusal.value) == (
        "a checkpoint must compute the same again, but the moments of "
        f"{kind.__name__} have moved since: leave the layer out of the checkpoint"
    )
    layer.eval()
    checkpoint(layer, X, use_reentrant=reentrant).square().sum().backward()


@MODES
@pytest.mark.parametrize("kind", [BatchNorm, GhostBatchNorm])
def test_batch_norm_has_the_same_gradients_and_moves_twice_as_torchs_does(reentrant, kind):
    def trained(make, run):
        layer, X = make(), drawn(6, 4).requires_grad_()
        run(layer, X).pow(3).sum().backward()
        return layer, X.grad

    layer, gradient = trained(lambda: kind(4, dtype=torch.float64), checkpointed(reentrant))
    _, expected = trained(lambda: kind(4, dtype=torch.float64), lambda layer, X: layer(X))
    theirs, _ = trained(lambda: nn.BatchNorm1d(4, dtype=torch.float64), checkpointed(reentrant))
    assert torch.allclose(gradient, expected, atol=1e-14)
    assert torch.allclose(layer.running_mean, theirs.running_mean)


def test_noise_of_torchs_generator_has_the_distribution_of_a_stream():
    layer = NoisyBatchNorm(4000)
    s, m = layer._noise(torch.zeros(8, 4000))
    assert m.abs().max() <= 0.6
    assert float(m.mean(0).std()) == pytest.approx(1 / np.sqrt(12), rel=0.05)
    assert float(s.mean()) == pytest.approx(1.125, abs=0.01)
    assert float((s - s.mean(0)).std(correction=0)) * np.sqrt(8 / 7) == pytest.approx(0.1, rel=0.05)
