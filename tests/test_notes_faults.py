"""The faults of the lecture notes: each check passes on our code and fails on theirs."""

import contextlib
import copy
import io
import itertools
import warnings

import pytest
import torch
from torch import nn

from bnstudy.config import RunConfig
from bnstudy.data import Images, evaluation_steps, scale
from bnstudy.engines.reference import evaluate
from bnstudy.errors import ConfigError
from bnstudy.networks import build, norm
from tests import notes_code


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fails_on(check, *arguments) -> bool:
    """Whether a check finds the fault: it must be able to, or it proves nothing."""
    try:
        check(*arguments)
    except (AssertionError, ZeroDivisionError):
        return True
    return False


# 1: the 'test accuracy' is that of the first batch


def covers_every_image(accuracy_of_all) -> None:
    """Of six images, the first three are right and the others wrong: one half."""

    class FirstThree(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, X):
            value = X.reshape(len(X), -1).mean(1)
            return torch.stack([value, 1 - value], 1) * self.weight

    images = torch.zeros(6, 28, 28, dtype=torch.uint8)
    images[:3] = 255
    assert accuracy_of_all(FirstThree(), images, torch.zeros(6, dtype=torch.long)) == 0.5


def theirs_of_all(net, images, labels):
    batches = [(scale(images[i : i + 3]), labels[i : i + 3]) for i in (0, 3)]
    return notes_code.evaluate_accuracy_gpu(net, batches)


def test_evaluation_covers_every_batch():
    covers_every_image(lambda net, X, y: evaluate(net, Images(X, y), batch_size=3).accuracy)
    assert fails_on(covers_every_image, theirs_of_all)


# 2: moving moments are plain attributes


def saves_its_moments(layer: nn.Module) -> None:
    assert {"running_mean", "running_var"} <= set(layer.state_dict())


def evaluates_the_same_once_loaded(layer: nn.Module) -> None:
    fresh, X = copy.deepcopy(layer), draw(4, 3, seed=1)
    layer(draw(8, 3) + 5)
    fresh.load_state_dict(layer.state_dict())
    layer.eval()
    fresh.eval()
    with torch.no_grad():
        assert torch.equal(layer(X), fresh(X))


def moves_its_moments(layer: nn.Module) -> None:
    moved = layer.to(torch.float64)
    assert moved.moving_mean.dtype == moved.moving_var.dtype == torch.float64


@pytest.mark.parametrize(
    "check", [saves_its_moments, evaluates_the_same_once_loaded, moves_its_moments]
)
def test_moving_moments_are_saved_loaded_and_moved(check):
    check(norm.BatchNorm(3))
    assert fails_on(check, notes_code.BatchNorm(3, 2))


# 3: training mode is read off whether gradients are enabled


def evaluates_each_image_alone(layer: nn.Module) -> None:
    layer.eval()
    batch = draw(8, 3) + 5
    assert torch.allclose(layer(batch[:1]), layer(batch)[:1])  # gradients are enabled here


def learns_nothing_in_evaluation(layer: nn.Module) -> None:
    layer.eval()
    before = layer.moving_mean.clone()
    layer(draw(8, 3) + 5)
    assert torch.equal(layer.moving_mean, before)


def learns_in_train_mode_without_gradients(layer: nn.Module) -> None:
    layer.train()
    with torch.no_grad():
        layer(draw(8, 3) + 5)
    assert (layer.moving_mean.flatten() > 0.1).all()


@pytest.mark.parametrize(
    "check",
    [
        evaluates_each_image_alone,
        learns_nothing_in_evaluation,
        learns_in_train_mode_without_gradients,
    ],
)
def test_the_mode_is_that_of_the_module(check):
    check(norm.BatchNorm(3))
    assert fails_on(check, notes_code.BatchNorm(3, 2))


# 4: momentum and moving variance are not torch's


def averages_as_torch_does(layer: nn.Module) -> None:
    theirs, X = nn.BatchNorm1d(3), draw(8, 3)
    theirs(X)
    layer(X)
    assert torch.allclose(layer.moving_mean.flatten(), theirs.running_mean)
    assert torch.allclose(layer.moving_var.flatten(), theirs.running_var)


def test_both_conventions_can_be_had():
    averages_as_torch_does(norm.BatchNorm(3, momentum=0.9, variance="unbiased"))
    averages_as_torch_does(norm.BatchNorm.from_torch(nn.BatchNorm1d(3)))
    assert fails_on(averages_as_torch_does, notes_code.BatchNorm(3, 2))
    ours, theirs, X = norm.BatchNorm(3), notes_code.BatchNorm(3, 2), draw(8, 3)
    assert torch.allclose(ours(X), theirs(X), atol=1e-6)  # and the notes' own by default
    assert torch.allclose(ours.moving_var, theirs.moving_var.flatten())


# 5: a batch of one through a fully connected layer silently gives beta


def refuses_a_batch_of_one(layer: nn.Module) -> None:
    refused = False
    try:
        layer(draw(1, 3))
    except (ConfigError, ValueError):
        refused = True
    assert refused


def test_a_batch_of_one_is_refused_in_training():
    refuses_a_batch_of_one(norm.BatchNorm(3))
    refuses_a_batch_of_one(nn.BatchNorm1d(3))
    assert fails_on(refuses_a_batch_of_one, notes_code.BatchNorm(3, 2))


# 6: few batches divide by zero, checks are asserts (the slow loader is in the benchmark)


def evaluates_short_epochs(steps_of) -> None:
    for steps in (1, 2, 3, 4, 5, 43, 235):
        assert steps_of(steps)[-1] == steps
        assert len(steps_of(steps)) == min(steps, 5)


def steps_their_loop_prints(num_batches: int) -> list[int]:
    """Run one epoch of the notes' loop and read its printed epochs, as steps."""
    batch, printed = (draw(2, 2), torch.tensor([0, 1])), io.StringIO()
    # the notes draw weights from the global generator, and sum losses with their graphs
    with (
        contextlib.redirect_stdout(printed),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(action="ignore", category=UserWarning),
    ):
        notes_code.train(nn.Linear(2, 2), [batch] * num_batches, [batch], 1, 0.1, "cpu")
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("epoch")]
    return [round(float(line.split()[1].rstrip(",")) * num_batches) for line in lines]


def test_short_epochs_are_evaluated():
    evaluates_short_epochs(lambda steps: evaluation_steps(steps, 5))
    assert fails_on(evaluates_short_epochs, steps_their_loop_prints)


@pytest.mark.parametrize("steps", [1, 4])
def test_their_loop_divides_by_zero_in_a_short_epoch(steps):
    with pytest.raises(ZeroDivisionError):
        steps_their_loop_prints(steps)


def test_the_notes_own_epoch_is_evaluated_where_they_print():
    assert evaluation_steps(235, 5) == steps_their_loop_prints(235)


def refuses_with_a_sentence(layer: nn.Module) -> None:
    message = ""
    try:
        layer(draw(3))
    except ConfigError as refusal:
        message = str(refusal)
    except AssertionError:
        pass  # what python -O removes, and says nothing
    assert "got (3,)" in message


def test_bad_input_is_refused_by_a_sentence_not_an_assert():
    refuses_with_a_sentence(norm.BatchNorm(3))
    assert fails_on(refuses_with_a_sentence, notes_code.BatchNorm(3, 2))


# 7: a bias before BN is redundant


def has_no_redundant_bias(net: nn.Module) -> None:
    layers, redundant = list(net.children()), []
    for before, after in itertools.pairwise(layers):
        if type(after).__name__ == "BatchNorm":
            redundant.append(before.bias is not None)
    assert redundant == [False] * 4


def test_the_redundant_bias_can_be_left_out_and_is_kept_in_the_notes_arms():
    config = RunConfig(norm="scratch")
    has_no_redundant_bias(build(config.replace(bias=False), 0))
    assert fails_on(has_no_redundant_bias, build(config, 0))
    with torch.random.fork_rng(devices=[]):
        theirs = notes_code.lenet()
    assert fails_on(has_no_redundant_bias, theirs)


def test_without_the_bias_logits_and_gradients_in_training_are_the_same():
    config, X = RunConfig(norm="scratch"), draw(6, 1, 28, 28).double()
    with_bias, without = (build(config.replace(bias=bias), 0).double() for bias in (True, False))
    logits = [net(X) for net in (with_bias, without)]
    assert torch.allclose(*logits, atol=1e-9)
    for each in logits:
        each.square().sum().backward()
    for name, parameter in without.named_parameters():
        assert torch.allclose(parameter.grad, with_bias.get_parameter(name).grad, atol=1e-9), name


def test_a_bias_before_bn_changes_nothing():
    config = RunConfig(norm="scratch")
    net = build(config, 0).double()
    moved = copy.deepcopy(net)
    with torch.no_grad():
        moved.conv1.bias += 3.0
        moved.fc1.bias -= 2.0
    X = draw(6, 1, 28, 28).double()
    assert torch.allclose(net(X), moved(X), atol=1e-9)
    net(X).square().sum().backward()
    # zero up to rounding, where the next weights' gradients are of order one
    assert net.conv1.bias.grad.abs().max() < 1e-11
    assert net.fc1.bias.grad.abs().max() < 1e-11
    assert net.conv1.weight.grad.abs().max() > 1e-4
