"""The compiled kernel: drawn arms against float64 autograd, and what it refuses to read."""

import pytest

from bnstudy import compiling
from bnstudy.engines.lockstep.cpu import Kernel, lane_count
from tests.engines.arms import (
    PERCEPTRONS,
    check_fifty_steps,
    check_records,
    check_step,
    drawn_arm,
)

pytestmark = pytest.mark.skipif(compiling.compiler() is None, reason="no C++ compiler here")


@pytest.mark.parametrize("number", range(60))
def test_gradients_of_any_lenet_are_those_of_float64_autograd(number):
    config, splits = drawn_arm(number, "lenet")
    check_step(Kernel, config, range(1 + number % lane_count()), splits, times_torch=20.0)


@pytest.mark.parametrize("number", range(60))
def test_gradients_of_any_perceptron_are_those_of_float64_autograd(number):
    config, splits = drawn_arm(100 + number, "mlp")
    check_step(Kernel, config, range(1 + number % lane_count()), splits, times_torch=20.0)


@pytest.mark.parametrize("arm", PERCEPTRONS)
def test_losses_of_perceptrons_follow_the_reference_over_fifty_steps(arm, sample):
    check_fifty_steps(Kernel, arm, [4, 0, 9], sample)


@pytest.mark.parametrize("arm", PERCEPTRONS)
def test_a_record_of_a_perceptron_is_that_of_the_reference(arm, small):
    check_records(Kernel, arm, range(7, 10), small)
