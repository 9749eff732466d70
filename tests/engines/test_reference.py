"""The reference trainer, against plain loops written out here."""

import copy
import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import Images, Splits, scale
from bnstudy.engines.lockstep import train_stack
from bnstudy.engines.reference import (
    evaluate,
    population_statistics,
    train,
)
from bnstudy.engines.run_record import digest_order
from bnstudy.errors import ConfigError
from bnstudy.networks import build
from tests.conftest import SMALL

BN = SMALL.replace(norm="bn")
TRAINED = ["train_loss", "train_accuracy"]


def plain_losses(config: RunConfig, seed: int, splits: Splits) -> list[float]:
    """Losses of the same run by the shortest possible loop, SGD written out."""
    net, rng, losses = build(config, seed), stream(seed, "order"), []
    velocity = [torch.zeros_like(parameter) for parameter in net.parameters()]
    n = len(splits.train)
    for _ in range(config.epochs):
        order = rng.permutation(n)
        for start in range(0, n, config.batch_size):
            batch = torch.from_numpy(order[start : start + config.batch_size])
            X = splits.train.images[batch].float().unsqueeze(1) / 255
            loss = F.cross_entropy(net(X), splits.train.labels[batch])
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for parameter, g, v in zip(net.parameters(), gradients, velocity, strict=True):
                    v.mul_(config.momentum).add_(g + config.weight_decay * parameter)
                    parameter.sub_(config.learning_rate * v)
            losses.append(loss.item())
    return losses


def observed_losses(config: RunConfig, seed: int, splits: Splits) -> list[float]:
    losses = []
    train(config, seed, splits, observers=[lambda step, run: losses.append(run.loss)])
    assert math.isnan(losses[0])  # the call before the first step
    return losses[1:]


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        BN,
        SMALL.replace(norm="scratch", activation="relu", learning_rate=0.1),
        BN.replace(momentum=0.9, weight_decay=0.01, learning_rate=0.05),
        BN.replace(dropout=0.5),
    ],
    ids=["none", "bn", "scratch-relu", "momentum", "dropout"],
)
def test_training_is_plain_sgd_on_batches_in_the_order_of_the_stream(config, small):
    expected = plain_losses(config, 4, small)
    assert len(expected) == 10  # 230 images in batches of 50 for 2 epochs, partial batch kept
    assert observed_losses(config, 4, small) == pytest.approx(expected, rel=2e-5)


def test_training_figures_are_means_since_the_row_before(small):
    seen = []
    config = BN.replace(evaluations_per_epoch=2)

    def watch(step, run):
        seen.append((step.count, run.loss * len(run.labels), len(run.labels)))

    curve = train(config, 0, small, observers=[watch]).curve
    assert curve["step"].tolist() == [3, 5, 8, 10]
    assert curve["images"].tolist() == [150, 230, 380, 460]
    for first, row in zip([1, 4, 6, 9], curve.itertuples(), strict=True):
        part = [entry for entry in seen if first <= entry[0] <= row.step]
        total = sum(loss for _, loss, _ in part) / sum(images for *_, images in part)
        assert row.train_loss == pytest.approx(total, rel=1e-12)


def test_test_figures_stand_in_rows_that_end_an_epoch_only(small):
    curve = train(BN, 0, small).curve
    measured = curve["test_accuracy_population"].notna()
    assert curve.loc[measured, "epoch"].tolist() == [1.0, 2.0]
    assert curve["validation_accuracy"].notna().all()


@pytest.mark.parametrize(
    "engine", [train, lambda config, seed, s: train_stack(config, [seed], s)[0]]
)
def test_test_images_are_seen_every_few_epochs_and_after_the_last(engine, small):
    often, rare = (engine(BN.replace(epochs=5, test_every=k), 0, small) for k in (1, 2))
    seen = rare.curve["test_accuracy_population"].notna()
    assert rare.curve.loc[seen, "epoch"].tolist() == [2.0, 4.0, 5.0]
    assert rare.curve["test_accuracy"].notna().equals(seen)
    pd.testing.assert_frame_equal(rare.curve[seen], often.curve[seen], check_exact=True)
    untested = rare.curve.columns.difference([c for c in rare.curve if c.startswith("test")])
    pd.testing.assert_frame_equal(rare.curve[untested], often.curve[untested], check_exact=True)


def test_evaluation_uses_every_image_once(small):
    net = build(BN, 0).eval()
    images = small.test
    logits = net(scale(images.images))
    expected = F.cross_entropy(logits, images.labels).item()
    correct = (logits.argmax(1) == images.labels).double().mean().item()
    for batch_size in (1, 7, 70, 1_000):
        score = evaluate(net, images, batch_size=batch_size)
        assert score.loss == pytest.approx(expected, rel=1e-6)
        assert score.accuracy == pytest.approx(correct, abs=1e-12)


def test_evaluation_leaves_mode_buffers_and_gradients_untouched(small):
    net = build(BN, 0).train()
    before = copy.deepcopy(net.state_dict())
    evaluate(net, small.test)
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("norm", ["none", "bn", "scratch"])
def test_nothing_is_learned_from_validation_or_test_images(norm, small):
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (70, 28, 28), np.uint8))
    other = Images(noise, small.test.labels.flip(0))
    changed = dataclasses.replace(small, validation=other, test=other)
    config = SMALL.replace(norm=norm)
    true, fooled = train(config, 0, small), train(config, 0, changed)
    pd.testing.assert_frame_equal(true.curve[TRAINED], fooled.curve[TRAINED], check_exact=True)
    pd.testing.assert_frame_equal(true.norms, fooled.norms, check_exact=True)


def test_the_same_run_gives_the_same_bytes(small):
    first, second = (train(BN.replace(dropout=0.5), 11, small) for _ in range(2))
    pd.testing.assert_frame_equal(first.curve, second.curve, check_exact=True)
    pd.testing.assert_frame_equal(first.norms, second.norms, check_exact=True)


def test_the_from_scratch_layer_trains_a_network_as_torchs_does(small):
    config = SMALL.replace(train_images=200, epochs=1)
    first = Images(small.train.images[:200], small.train.labels[:200])
    part = dataclasses.replace(small, train=first)
    ours, theirs = (train(config.replace(norm=norm), 3, part) for norm in ("scratch", "bn"))
    for column in TRAINED:
        np.testing.assert_allclose(ours.curve[column], theirs.curve[column], rtol=1e-5)
    for column in ("gamma", "beta", "running_mean"):
        np.testing.assert_allclose(ours.norms[column], theirs.norms[column], rtol=1e-3, atol=1e-5)
    # biased against unbiased: after 4 steps 0.9^4 of the initial 1 is left in both averages
    start = 0.9**ours.steps
    last = (ours.norms["layer"] == "norm4").to_numpy()  # of 50 values per channel and batch
    biased, unbiased = (run.norms["running_var"][last] - start for run in (ours, theirs))
    np.testing.assert_allclose(biased / unbiased, 49 / 50, rtol=1e-3)


def test_dropout_shifts_neither_weights_nor_order(small):
    plain, dropped = train(BN, 2, small), train(BN.replace(dropout=0.5), 2, small)
    assert plain.weights_digest == dropped.weights_digest
    assert plain.order_digest == dropped.order_digest
    assert plain.weights_digest != train(BN, 3, small).weights_digest


def test_the_order_digest_is_that_of_the_first_epoch(small):
    order = torch.from_numpy(stream(2, "order").permutation(230))
    assert train(BN, 2, small).order_digest == digest_order(order)


def test_evaluating_more_often_changes_no_training(small):
    config = BN.replace(dropout=0.3)
    rare = observed_losses(config.replace(evaluations_per_epoch=1), 0, small)
    assert observed_losses(config.replace(evaluations_per_epoch=5), 0, small) == rare


def test_a_run_that_diverges_is_kept_up_to_its_last_finite_loss(small):
    config = SMALL.replace(activation="relu", learning_rate=1e30)
    record = train(config, 0, small)
    assert record.status == "diverged"
    assert 0 < record.steps < 10
    assert (record.curve["step"] <= record.steps).all()
    assert np.isfinite(record.curve[TRAINED].to_numpy()).all()


def test_a_run_that_diverges_before_its_first_evaluation_has_an_empty_curve(small):
    config = SMALL.replace(activation="relu", learning_rate=1e30, evaluations_per_epoch=1)
    record = train(config, 0, small)
    assert record.status == "diverged"
    assert len(record.curve) == 0
    assert record.curve["step"].dtype == np.int64


def test_arms_without_validation_have_none(small):
    empty = Images(small.test.images[:0], small.test.labels[:0])
    curve = train(BN, 0, dataclasses.replace(small, validation=empty)).curve
    assert curve[["validation_loss", "validation_accuracy"]].isna().all(axis=None)


def test_arms_without_running_statistics_have_one_test_accuracy(small):
    ends = train(SMALL, 0, small).curve.dropna()
    assert (ends["test_accuracy"] == ends["test_accuracy_population"]).all()


@pytest.mark.parametrize("batch_size", [1, 229])
def test_a_batch_of_one_image_is_refused_before_training(batch_size, small):
    with pytest.raises(ConfigError) as refusal:
        train(BN.replace(batch_size=batch_size), 0, small)
    assert str(refusal.value) == (
        f"norm 'bn' needs at least 2 images in every batch, but 230 images in batches of "
        f"{batch_size} leave a batch of 1: change batch_size or train_images"
    )
    assert train(SMALL.replace(batch_size=229, epochs=1), 0, small).status == "done"


def test_population_statistics_are_the_moments_of_each_layers_input(small):
    net = build(BN.replace(dropout=0.5), 0).double()
    X = scale(small.population.images).double()
    expected = []
    for layer in copy.deepcopy(net).eval():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            axes = [0, 2, 3] if X.dim() == 4 else [0]
            mean, var = X.mean(axes), X.var(axes, correction=0)
            expected.append((mean, var))
            shape = [1, -1] + [1] * (X.dim() - 2)
            X = (X - mean.reshape(shape)) / (var.reshape(shape) + layer.eps).sqrt()
        else:
            X = layer(X)
    net.float()
    with population_statistics(net, small.population):
        found = [(net.get_submodule(f"norm{i}")) for i in range(1, 5)]
        for layer, (mean, var) in zip(found, expected, strict=True):
            assert torch.allclose(layer.running_mean.double(), mean, atol=1e-5)
            assert torch.allclose(layer.running_var.double(), var, rtol=1e-4)


@pytest.mark.parametrize("norm", ["bn", "scratch", "ghost:size=16", "noisy", "population"])
def test_population_statistics_are_put_back_bit_by_bit_even_after_an_error(norm, small):
    net = build(SMALL.replace(norm=norm), 0).train()
    net(scale(small.train.images[:50]))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(KeyError), population_statistics(net, small.population):
        raise KeyError
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in net.modules())


@pytest.mark.parametrize(
    ("config", "scheduler"),
    [
        (
            BN.replace(schedule="step", schedule_epochs=2, schedule_factor=0.5, epochs=6),
            lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=10, gamma=0.5),
        ),
        (
            BN.replace(schedule="cosine", epochs=6),
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=30),
        ),
    ],
    ids=["step", "cosine"],
)
def test_schedules_are_those_of_torch(config, scheduler):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    oracle = scheduler(optimizer)
    for count in range(30):
        rate = config.rate_at(Step(count, 5))
        assert rate == pytest.approx(oracle.get_last_lr()[0], rel=1e-9, abs=1e-12)
        optimizer.step()
        oracle.step()


def test_the_scheduled_rate_is_the_one_used(small):
    rates = []
    config = BN.replace(schedule="cosine")

    def watch(step, run):
        rates.append(run.optimizer.param_groups[0]["lr"])

    train(config, 0, small, observers=[watch])
    assert rates[1:] == pytest.approx([0.45 * (1 + math.cos(math.pi * t / 10)) for t in range(10)])


def test_norms_hold_every_channel_at_the_end_of_training(small):
    nets = []
    record = train(BN, 0, small, observers=[lambda step, run: nets.append(run.net)])
    net = nets[-1]
    assert record.norms.groupby("layer").size().to_dict() == {
        "norm1": 6,
        "norm2": 16,
        "norm3": 120,
        "norm4": 84,
    }
    first = record.norms[record.norms["layer"] == "norm1"]
    assert first["gamma"].tolist() == net.norm1.weight.double().tolist()
    assert first["running_var"].tolist() == net.norm1.running_var.double().tolist()
    assert train(SMALL, 0, small).norms.empty
