"""The lockstep engine's stacked tensors, against float64 autograd and the reference trainer."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bnstudy import lockstep
from bnstudy.errors import ConfigError
from bnstudy.lenet import lenet, norm_layers
from bnstudy.lockstep.chance import Chance
from bnstudy.lockstep.engine import train_by
from bnstudy.lockstep.kernel import Kernel
from bnstudy.lockstep.precision import exactly
from bnstudy.lockstep.stacked import Stack, merged
from bnstudy.norm import parameters_of
from bnstudy.training import train
from tests.conftest import SMALL
from tests.stacks import ARMS, check_fifty_steps, check_one_step, check_records

GPU = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
everywhere = pytest.mark.parametrize("device", ["cpu", GPU])


def on(device):
    return partial(Stack, device=device)


@settings(max_examples=2, deadline=None, derandomize=True, phases=[Phase.generate])
@given(batch=st.integers(7, 41), count=st.sampled_from([1, 3, 19]), start=st.integers(0, 999))
@everywhere
@pytest.mark.parametrize("arm", ARMS)
def test_loss_and_every_gradient_are_those_of_float64_autograd(
    arm, device, batch, count, start, sample
):
    # relu has a kink, and a unit that rounding puts on its other side changes a gradient
    times = 100.0 if arm == "relu" else 10.0
    check_one_step(on(device), ARMS[arm], batch, count, start, sample, times_torch=times)


@everywhere
@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("arm", ARMS)
def test_gradients_of_tiny_batches_lose_no_more_digits_than_torchs(arm, batch, device, sample):
    check_one_step(on(device), ARMS[arm], batch, 1, 7, sample, times_torch=100.0)


@everywhere
@pytest.mark.parametrize("arm", sorted(set(ARMS) - {"relu"}))
def test_losses_follow_the_reference_over_fifty_steps(arm, device, sample):
    check_fifty_steps(on(device), arm, [4, 0, 9], sample)


@everywhere
@pytest.mark.parametrize("arm", ["none", "bn", "scratch", "dropout", "noisy", "ghost"])
def test_a_record_is_that_of_the_reference(arm, device, small):
    check_records(on(device), arm, range(7, 10), small)


@everywhere
@pytest.mark.parametrize("count", [1, 19])
def test_a_stack_holds_any_number_of_seeds(count, device, small):
    check_records(on(device), "bn", range(count), small)
