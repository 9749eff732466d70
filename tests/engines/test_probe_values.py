"""What probes compute, against hand-worked cases and numpy in float64."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from bnstudy import data
from bnstudy.activations import Population
from bnstudy.config import RunConfig, Step, stream
from bnstudy.data import epoch_order, scale
from bnstudy.engines import train
from bnstudy.engines.observer import Training
from bnstudy.engines.probes import PROBES, ProbedRun
from bnstudy.engines.probes.batch_noise import BatchNoise, log_slope, noise_of
from bnstudy.engines.probes.geometry import geometry_of
from bnstudy.engines.probes.landscape import landscape
from bnstudy.engines.probes.uncertainty import (
    calibration_error,
    probabilities,
    scores,
    take_statistics,
)
from bnstudy.engines.probes.variance_shift import (
    VarianceShift,
    dropped_by,
    predicted_shift,
    through_origin,
)
from bnstudy.engines.reference import train as train_by_reference
from bnstudy.errors import ConfigError
from bnstudy.networks import build

CONFIG = RunConfig(
    norm="bn",
    batch_size=50,
    epochs=1,
    learning_rate=0.5,
    train_images=230,
    validation_images=100,
    test_images=120,
    population_images=230,
    evaluations_per_epoch=1,
)


@pytest.fixture(scope="module")
def small(sample):
    return data.split(sample, CONFIG)


def at_start(config, seed=0):
    net = build(config, seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate)
    return Training(net, optimizer, torch.empty(0, 1, 28, 28), torch.empty(0).long(), math.nan)


def test_noise_of_independent_gaussian_values_is_that_of_theory():
    rng, m = np.random.default_rng(0), 100
    x = rng.normal(3.0, 2.0, (4_000, m, 5))
    ones = np.full(4_000, m)
    moments = Population(x.mean(1), x.var(1), ones, ones, np.ones(5), 1e-5)
    mean, sd = noise_of(moments)
    assert mean == pytest.approx(1 / math.sqrt(m), rel=0.02)
    assert sd == pytest.approx(1 / math.sqrt(2 * m), rel=0.02)


def test_the_slope_of_a_power_law_is_its_exponent():
    assert log_slope((4, 16, 64), (3 / 2, 3 / 4, 3 / 8)) == pytest.approx(-0.5)
    assert math.isnan(log_slope((4, 16), (1.0, 0.0)))


def test_batch_noise_of_the_first_layer_is_numpys(small):
    frame = BatchNoise(ProbedRun(CONFIG, 5, small), sizes=[8, 16], batches=6)
    training = at_start(CONFIG, 5)
    frame(Step(0, 5), training)
    found = frame.close().query("layer == 'norm1'").set_index("stat")["value"]
    with torch.no_grad():  # the layer before the first normalization
        inputs = training.net.conv1(scale(small.train.images)).double().numpy()
    rng = ProbedRun(CONFIG, 5, small).stream("batch-noise 0")
    for size in (8, 16):
        chosen = [inputs[rng.choice(230, size, replace=False)] for _ in range(6)]
        means = np.array([x.mean((0, 2, 3)) for x in chosen])
        deviations = np.array([x.std((0, 2, 3)) for x in chosen])
        whole = np.concatenate(chosen).std((0, 2, 3))
        of_mean = math.sqrt(((means.std(0, ddof=1) / whole) ** 2).mean())
        of_sd = math.sqrt(((deviations.std(0, ddof=1) / deviations.mean(0)) ** 2).mean())
        assert found[f"mean_noise_{size}"] == pytest.approx(of_mean, rel=1e-3)
        assert found[f"sd_noise_{size}"] == pytest.approx(of_sd, rel=1e-3)
        assert found[f"effective_{size}"] == pytest.approx(1 / (size * of_mean**2), rel=2e-3)
    ratio = found["mean_noise_16"] / found["mean_noise_8"]
    assert found["mean_slope"] == pytest.approx(math.log(ratio) / math.log(2))


def test_batch_noise_leaves_out_sizes_that_are_much_of_the_images(small):
    probe = BatchNoise(ProbedRun(CONFIG, 0, small), batches=2)
    probe(Step(0, 5), at_start(CONFIG))
    stats = set(probe.close()["stat"])
    assert "mean_noise_16" in stats
    assert "mean_noise_32" not in stats  # 230 / 8 is 28
    with pytest.raises(ConfigError, match="two sizes up to 28"):
        BatchNoise(ProbedRun(CONFIG, 0, small), sizes=[4, 64])


def test_geometry_of_hand_worked_matrices():
    same = geometry_of(np.array([[3.0, 4.0]] * 3))
    assert same["varying_share"] == pytest.approx(0.0)
    assert same["cosine"] == pytest.approx(1.0)
    assert same["stable_rank"] == pytest.approx(1.0)
    assert math.isnan(same["centred_rank"])
    cross = geometry_of(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))
    assert cross["varying_share"] == pytest.approx(1.0)
    assert cross["cosine"] == pytest.approx(-1 / 3)  # of 6 pairs, 2 opposite and 4 at right angles
    assert cross["stable_rank"] == pytest.approx(2.0)
    assert cross["centred_rank"] == pytest.approx(2.0)
    # mean (2, 0), deviations (-1, 0) and (1, 0): 2 of the energy 1 + 9
    line = geometry_of(np.array([[1.0, 0.0], [3.0, 0.0]]))
    assert line["varying_share"] == pytest.approx(0.2)
    assert math.isnan(geometry_of(np.array([[1.0, np.nan], [3.0, 0.0]]))["cosine"])


def test_geometry_sees_the_layers_of_a_network_in_training_mode(small):
    measures = train(CONFIG, [3], small, probes={"geometry": {"images": 60}})[0].measures
    found = measures.query("layer == 'act4'").set_index("stat")["value"]
    with torch.no_grad():
        net = build(CONFIG, 3)
        A = net[: list(dict(net.named_children())).index("act4") + 1](
            scale(small.train.images[:60])
        )
    A = A.double().numpy()
    unit = A / np.linalg.norm(A, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[~np.eye(60, dtype=bool)]
    assert found["cosine"] == pytest.approx(pairs.mean(), rel=1e-6)
    share = ((A - A.mean(0)) ** 2).sum() / (A**2).sum()
    assert found["varying_share"] == pytest.approx(share, rel=1e-6)
    singular = np.linalg.svd(A, compute_uv=False)
    assert found["stable_rank"] == pytest.approx((singular**2).sum() / singular[0] ** 2, rel=1e-6)


class Quadratic(nn.Module):
    """A loss a x^2 / 2 + b y^2 / 2 of its two weights."""

    def __init__(self, x, y):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))

    def forward(self, curvature):
        return (curvature * self.w**2).sum() / 2


def test_the_landscape_of_a_quadratic_is_worked_by_hand():
    # w = (1, 0), curvature (2, 5): L = 1, g = (2, 0); at w - h g: L = (1 - 2 h)^2
    curvature, net = torch.tensor([2.0, 5.0], dtype=torch.float64), Quadratic(1.0, 0.0)
    found = landscape(net, lambda n, w: functional_call(n, w, (curvature,)), [0.1, 0.25, 0.75])
    assert found["loss"] == pytest.approx(1.0)
    assert found["gradient"] == pytest.approx(2.0)
    assert found["loss_range"] == pytest.approx(0.64 - 0.25)  # losses 0.64, 0.25, 0.25
    assert found["gradient_change"] == pytest.approx(2 * 0.75 * 2)  # curvature times the way
    assert found["gradient_change_relative"] == pytest.approx(1.5)
    assert found["beta"] == pytest.approx(2.0)  # the curvature along the gradient, at any step
    assert net.w.tolist() == [1.0, 0.0]


def test_the_landscape_probe_steps_by_learning_rates_of_the_run(small):
    options = {"images": 50, "points": 2}
    found = train(CONFIG, [2], small, probes={"landscape": options})[0].measures.set_index("stat")[
        "value"
    ]
    net = build(CONFIG, 2)
    X, y = scale(small.train.images[:50]), small.train.labels[:50]
    loss = F.cross_entropy(net(X), y)
    loss.backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    after = []
    for rates in (0.5, 4.0):
        moved = build(CONFIG, 2)
        with torch.no_grad():
            for p, g in zip(moved.parameters(), gradients, strict=True):
                p -= rates * 0.5 * g
            after.append(float(F.cross_entropy(moved(X), y)))
    assert found["loss"] == pytest.approx(loss.item())
    assert found["loss_range"] == pytest.approx(abs(after[1] - after[0]), rel=1e-4)


def test_gradient_shift_moves_only_the_layers_below(small):
    measures = train(CONFIG, [4], small, probes={"gradient-shift": {"layers": ["fc1"]}})[0].measures
    found = measures.set_index(["layer", "stat"])["value"]
    where = epoch_order(stream(4, "order"), 230)[:50]
    X, y = scale(small.train.images[where]), small.train.labels[where]

    def gradient(net):
        net.zero_grad()
        loss = F.cross_entropy(net(X), y)
        loss.backward()
        parts = [p.grad.reshape(-1) for p in net.fc1.parameters()]
        return torch.cat(parts).double().numpy(), loss.item()

    net = build(CONFIG, 4)
    before, loss = gradient(net)
    with torch.no_grad():  # make the step, but for the layer and those above
        for name in ("conv1", "norm1", "conv2", "norm2"):
            for p in net.get_submodule(name).parameters():
                p -= 0.5 * p.grad
    after, _ = gradient(net)
    shift = np.linalg.norm(after - before)
    assert found["fc1", "relative"] == pytest.approx(shift / np.linalg.norm(before), rel=1e-4)
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert found["fc1", "cosine"] == pytest.approx(cosine, rel=1e-5)
    assert found["network", "loss"] == pytest.approx(loss, rel=1e-6)


def test_predicted_shift_is_that_of_units_dropped_one_by_one():
    # a unit of values 1 and 3, each kept or dropped with p = 1/2: 0, 2, 0, 6, all equally likely
    values = np.array([0.0, 2.0, 0.0, 6.0])
    found = predicted_shift(np.array([2.0]), np.array([1.0]), 0.5)
    assert found[0] == pytest.approx(math.log(1.0 / values.var()))
    assert predicted_shift(np.array([2.0]), np.array([1.0]), 1.0)[0] == pytest.approx(0.0)
    assert through_origin(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == pytest.approx(0.6)


def test_dropout_right_before_a_layer_is_found_by_placement():
    before = CONFIG.replace(dropout=0.5, dropout_placement="before-norm")
    assert dropped_by(build(before, 0)) == {"norm3": "dropout3", "norm4": "dropout4"}
    after = CONFIG.replace(dropout=0.5, dropout_placement="after-last-norm")
    assert dropped_by(build(after, 0)) == {}


def test_variance_shift_at_the_start_is_close_to_the_prediction(small):
    config = CONFIG.replace(dropout=0.5, dropout_placement="before-norm")
    training = at_start(config, 1)
    with torch.no_grad():  # so that training and testing differ by dropout alone
        for _ in range(200):
            training.net.norm1(training.net.conv1(scale(small.train.images)))
        hidden = training.net[:4](scale(small.train.images))
        for _ in range(200):
            training.net.norm2(training.net.conv2(hidden))
    probe = VarianceShift(ProbedRun(config, 1, small), batches=60)
    probe(Step(0, 5), training)
    found = probe.close().set_index(["layer", "stat"])["value"]
    assert found["norm3", "predicted"] < -0.6  # at least half of the variance
    assert found["norm3", "observed"] == pytest.approx(found["norm3", "predicted"], abs=0.1)
    assert found["norm3", "slope"] == pytest.approx(1.0, abs=0.1)
    assert found["norm1", "predicted"] == 0.0
    assert found["norm1", "observed"] == pytest.approx(0.0, abs=0.05)
    assert ("norm1", "slope") not in found.index


def test_scores_are_worked_by_hand():
    p = np.array([[0.7, 0.3], [0.7, 0.3], [0.02, 0.98]])
    found = scores(p, np.array([0, 1, 1]))
    assert found["nll"] == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.98)) / 3)
    assert found["brier"] == pytest.approx((0.18 + 0.98 + 0.0008) / 3)
    # the bin of 0.7 holds two, one right: |1/2 - 0.7|; that of 0.98 one: 0.02
    assert found["ece"] == pytest.approx(2 / 3 * 0.2 + 1 / 3 * 0.02)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert calibration_error(np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.0


def test_a_network_takes_the_statistics_of_one_training_batch(small):
    net = build(CONFIG, 0)
    images = data.Images(small.train.images[:50], small.train.labels[:50])
    trained = probabilities(net, images)  # in training mode, by the batch's own statistics
    fresh = build(CONFIG, 0)
    take_statistics(fresh, scale(images.images))
    np.testing.assert_allclose(probabilities(fresh.eval(), images), trained, atol=1e-6)


def test_the_gap_is_that_of_the_same_weights_in_evaluation(small):
    found = train(CONFIG, [1], small, probes={"generalization": {}})[0].measures
    found = found.set_index(["tensor", "stat"])["value"]
    last = train_by_reference(CONFIG, 1, small).curve.iloc[-1]
    assert found["test", "loss"] == pytest.approx(last["test_loss_population"], rel=1e-5)
    assert found["test", "accuracy"] == pytest.approx(last["test_accuracy_population"])
    assert found["gap", "loss"] == pytest.approx(found["test", "loss"] - found["train", "loss"])
    assert found["gap", "accuracy"] == found["train", "accuracy"] - found["test", "accuracy"]


def test_the_training_half_of_the_gap_is_without_the_noise_of_batches(small):
    # all training images as one batch normalize by population statistics, but for n / (n - 1)
    config = CONFIG.replace(norm="ghost:size=5")
    probe = PROBES["generalization"](ProbedRun(config, 2, small), [0])
    training = at_start(config, 2)
    probe(Step(0, 5), training)
    found = probe.close().set_index(["tensor", "stat"])["value"]
    X, y = scale(small.train.images), small.train.labels
    plain = build(config.replace(norm="bn"), 2)
    with torch.no_grad():
        assert found["train", "loss"] == pytest.approx(
            F.cross_entropy(plain(X), y).item(), abs=2e-3
        )
        noisy = F.cross_entropy(build(config, 2)(X), y).item()
    assert abs(found["train", "loss"] - noisy) > 0.008


def test_uncertainty_by_running_averages_is_what_the_trainer_measures(small):
    record = train(CONFIG, [1], small, probes={"uncertainty": {"batches": 2}})[0]
    found = record.measures.set_index(["tensor", "stat"])["value"]
    last = train_by_reference(CONFIG, 1, small).curve.iloc[-1]
    assert found["running", "nll"] == pytest.approx(last["test_loss"], rel=1e-5)
    assert found["running", "accuracy"] == pytest.approx(last["test_accuracy"])
    assert found["population", "nll"] == pytest.approx(last["test_loss_population"], rel=1e-5)
    assert {"running", "population", "batches"} == set(found.index.get_level_values(0))


def test_gamma_and_beta_are_read_at_the_end_as_the_record_has_them(small):
    record = train(CONFIG, [4], small, probes={"affine": {"epochs": (0, 1)}})[0]
    start, end = (record.measures.query("step == @step") for step in (0, record.steps))
    assert set(start.query("tensor == 'gamma'")["value"]) == {1.0}
    assert set(start.query("tensor == 'beta'")["value"]) == {0.0}
    for tensor in ("gamma", "beta"):
        read = end[end["tensor"] == tensor]
        assert read[["layer", "channel"]].to_numpy().tolist() == (
            record.norms[["layer", "channel"]].to_numpy().tolist()
        )
        np.testing.assert_array_equal(read["value"].to_numpy(), record.norms[tensor].to_numpy())


@pytest.mark.parametrize("probe", ["activations", "fixed-activations", "recorder"])
def test_histograms_are_of_what_comes_into_layers_and_add_up_to_one(probe, small):
    watch = {"layers": ["act1"], "tensors": "both", "stats": ["std"], "grads": True}
    watch["epochs"] = (0, 0.4, 0.8)
    bins = {"bins": 6, "low": -3.0, "high": 3.0}
    seen = train(CONFIG, [4], small, probes={probe: {**watch, "histogram": bins}})[0].measures
    rows = seen[seen["stat"].str.contains("hist")]
    assert set(rows["tensor"]) == {"in"}
    middle = {f"hist[{low},{low + 1})" for low in range(-3, 3)}
    assert set(rows["stat"]) == {"hist[-inf,-3)", *middle, "hist[3,inf)"}
    np.testing.assert_allclose(rows.groupby("step")["value"].sum(), 1.0)
    plain = train(CONFIG, [4], small, probes={probe: watch})[0].measures
    others = seen[~seen["stat"].str.contains("hist")].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, plain)
