"""Average pooling against torch's own."""

import copy

import pytest
import torch
from torch import nn

from bnstudy.networks.pooling import AveragePooling

SHAPES = [(256, 6, 24, 24), (3, 16, 8, 8), (1, 1, 2, 2), (5, 4, 6), (2, 3, 7, 6)]


def maps(shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_means_and_gradients_are_torchs_to_the_last_bit(shape, dtype):
    own, theirs = (maps(shape, dtype).requires_grad_() for _ in range(2))
    means, others = AveragePooling()(own), nn.AvgPool2d(2)(theirs)
    assert torch.equal(means, others)
    upstream = maps(means.shape, dtype)
    means.backward(upstream)
    others.backward(upstream)
    assert torch.equal(own.grad, theirs.grad)


def test_any_layout_and_half_precision_are_pooled():
    for x in (
        maps((4, 3, 8, 8)).to(memory_format=torch.channels_last),
        maps((4, 3, 16, 8))[:, :, ::2],
        maps((4, 3, 8, 8)).to(torch.bfloat16),
    ):
        assert torch.equal(AveragePooling()(x), nn.AvgPool2d(2)(x))


def test_it_can_be_differentiated_twice_mapped_and_copied():
    x = maps((2, 3, 4, 4), torch.float64).requires_grad_()
    with torch.random.fork_rng():  # both draw
        assert torch.autograd.gradcheck(AveragePooling(), x)
        assert torch.autograd.gradgradcheck(AveragePooling(), x)
    stacked = maps((5, 2, 3, 4, 4))
    one_by_one = torch.stack([nn.AvgPool2d(2)(each) for each in stacked])
    assert torch.equal(torch.func.vmap(AveragePooling())(stacked), one_by_one)
    assert torch.equal(copy.deepcopy(AveragePooling())(stacked[0]), nn.AvgPool2d(2)(stacked[0]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")  # torch's own, of its own
def test_derivatives_forward_and_traces_are_those_of_torchs_layer():
    x, along = maps((2, 3, 4, 4), torch.float64), maps((2, 3, 4, 4), torch.float64) + 1.0
    for own, theirs in zip(
        torch.func.jvp(AveragePooling(), (x,), (along,)),
        torch.func.jvp(nn.AvgPool2d(2), (x,), (along,)),
        strict=True,
    ):
        assert torch.equal(own, theirs)
    traced = torch.jit.trace(AveragePooling(), x)
    assert "avg_pool2d" in str(traced.graph)
