"""B1 to B14: each quantity against its closed form or an independent computation."""
# ruff: noqa: E501

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from bnstudy.activations import (
    FixedBatch,
    gradient_shift,
    population,
    running_gap,
    snapshot,
    split_gap,
    train_eval_gap,
    watch,
)  # fmt: skip
from bnstudy.activations.batchnorm.gaps import noise_floor
from bnstudy.activations.batchnorm.layer import read_state, uses_batch
from bnstudy.activations.batchnorm.moments import image_noise
from bnstudy.activations.batchnorm.results import share_active, share_outside
from bnstudy.errors import WatchError
from bnstudy.networks.norm import BatchNorm
from tests.activations.nets import (
    built,
    conv_net,
    fc_net,
    generator,
    images,
    labels,
    sgd,
    train,
    vectors,
)  # fmt: skip


def white(batches, shape, seed=0, mean=3.0, sigma=2.0):
    g = generator(seed)
    return [torch.randn(shape, generator=g) * sigma + mean for _ in range(batches)]


def noise_of(layer, loader, batches=400):
    return population(layer, loader, batches=batches)["(model)"].noise()


def test_b1_mean_noise_of_independent_values_is_one_over_root_m():
    assert noise_of(nn.BatchNorm1d(20), white(200, (50, 20)))["mean_noise"] == pytest.approx(
        1 / np.sqrt(50), rel=0.03
    )


def test_b1_the_recorded_estimate_agrees_without_a_loader():
    layer = nn.BatchNorm2d(5)
    with watch(layer) as run:
        for x in white(20, (40, 5, 3, 3)):
            layer(x)
    table = run.bn.noise().iloc[0]
    assert table["mean_noise"] == pytest.approx(1 / np.sqrt(40 * 9), rel=0.05)
    assert table["variance_cv"] == pytest.approx(np.sqrt(2 / (40 * 9 - 1)), rel=0.05)
    exact = noise_of(layer, white(300, (40, 5, 3, 3)))
    for name in ("mean_noise", "scale_noise", "output_noise"):
        assert table[name] == pytest.approx(exact[name], rel=0.08), name


def test_b2_scale_noise_of_gaussian_values():
    noise = noise_of(nn.BatchNorm1d(20), white(200, (50, 20)))
    assert noise["variance_cv"] == pytest.approx(np.sqrt(2 / 49), rel=0.03)
    log_chi2 = np.log(stats.chi2(49).rvs(100_000, random_state=0) / 50)  # v_B / sigma^2
    assert noise["scale_noise"] == pytest.approx(np.sqrt((log_chi2**2).mean()) / 2, rel=0.03)


@pytest.mark.parametrize(
    ("name", "worth"), [("vectors", 30), ("white maps", 30 * 16), ("constant maps", 30)]
)
def test_b3_effective_size_of_a_batch(name, worth):
    shape = (30, 8) if name == "vectors" else (30, 8, 4, 4)
    loader = white(400, shape if name != "constant maps" else (30, 8, 1, 1))
    if name == "constant maps":
        loader = [x.expand(30, 8, 4, 4).contiguous() for x in loader]
    layer = nn.BatchNorm1d(8) if name == "vectors" else nn.BatchNorm2d(8)
    noise = noise_of(layer, loader)
    assert noise["effective_size"] == pytest.approx(worth, rel=0.06)
    assert noise["effective_per_image"] == pytest.approx(worth / 30, rel=0.06)


def test_b4_injected_noise_equals_the_difference_of_two_normalizations():
    layer = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
    loader = [x.double() for x in white(6, (5, 3, 4, 4))]
    truth = population(layer, loader)["(model)"]
    mean, var, gamma = (
        torch.tensor(a).reshape(1, 3, 1, 1) for a in (truth.mean, truth.variance, truth.gamma)
    )
    squares = [
        ((F.batch_norm(x, None, None, None, None, True) - (x - mean) / (var + 1e-5).sqrt()) * gamma)
        ** 2
        for x in loader
    ]
    assert truth.output_noise() == pytest.approx(float(torch.cat(squares).mean().sqrt()), rel=1e-9)


def test_population_moments_are_those_of_all_values_even_of_unequal_batches():
    loader = [x[:n].double() for x, n in zip(white(4, (9, 3, 2, 2)), (9, 9, 4, 2), strict=True)]
    truth = population(nn.BatchNorm2d(3).double(), loader)["(model)"]
    everything = torch.cat(loader).transpose(0, 1).reshape(3, -1).numpy()
    assert truth.mean == pytest.approx(everything.mean(1), rel=1e-12)
    assert truth.variance == pytest.approx(everything.var(1), rel=1e-12)


def test_population_leaves_model_mode_and_generators_untouched():
    net = conv_net()
    net.append(nn.Dropout(0.5)).append(nn.BatchNorm1d(5, momentum=None))
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    population(net, [images(seed=s) for s in range(3)])  # the generators: conftest's check
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert net[-1].momentum is None


def running_after(k):
    layer = nn.BatchNorm1d(6, momentum=k)
    layer.running_mean.fill_(3.0)
    layer.running_var.fill_(4.0)
    return layer


def test_b5_gap_of_hand_set_statistics():
    layer = nn.BatchNorm1d(2, momentum=0.1).double()
    layer.running_mean.copy_(torch.tensor([1.0, 0.0]))
    layer.running_var.copy_(torch.tensor([1.0, 4.0]))
    loader = [torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()] * 2  # mean 0, variance 1
    row = running_gap(layer, loader).iloc[0]
    assert row["mean_gap"] == pytest.approx(np.sqrt((1 + 0) / 2))
    assert row["log_var_gap"] == pytest.approx(np.sqrt(np.log(4) ** 2 / 2))

    def kl(m, s, n, t):
        return np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5

    both = [kl(m, s, 0, 1) + kl(0, 1, m, s) for m, s in ((1, 1), (0, 2))]
    assert row["kl"] == pytest.approx(np.mean(both))


@pytest.mark.parametrize("k", [0.1, 0.5])
def test_b5_noise_floor_is_what_sampling_keeps_up_at_fixed_weights(k):
    layer, squares = running_after(k), []
    for x in white(3000, (25, 6)):
        layer(x)
        squares.append(((layer.running_mean - 3.0) ** 2 / 4).mean())
    seen = float(torch.stack(squares[50:]).mean().sqrt())
    assert noise_floor(k, 1 / 5) == pytest.approx(seen, rel=0.04)


def test_b6_lag_is_zero_at_fixed_weights_and_the_parts_add_up():
    rng = np.random.default_rng(0)
    true, batch = np.full((50, 4), 2.0), rng.normal(2.0, 1.0, (50, 4))
    lag, noise = split_gap(true, batch, 0.1, true[0])
    assert np.abs(lag).max() < 1e-12
    moving = np.cumsum(rng.normal(size=(50, 4)), 0)
    lag, noise = split_gap(moving, batch, 0.1, np.zeros(4))
    running = np.zeros(4)
    for t in range(50):
        running = 0.9 * running + 0.1 * batch[t]
        assert lag[t] + noise[t] == pytest.approx(running - moving[t])


def test_b6_lag_of_a_steady_drift_is_its_known_limit():
    true = np.arange(400.0)[:, None]
    lag, _ = split_gap(true, true, 0.1, np.zeros(1))
    assert lag[-1, 0] == pytest.approx(-(1 - 0.1) / 0.1)


def test_b6_the_lag_column_is_near_zero_once_running_statistics_have_settled():
    layer = running_after(0.1)
    for x in white(300, (25, 6)):
        layer(x)
    row = running_gap(layer, white(300, (25, 6), seed=5)).iloc[0]
    assert row["noise_floor"] == pytest.approx(np.sqrt(0.1 / 1.9) / 5, rel=0.05)
    assert row["lag"] < 2 * row["noise_floor"]
    layer.running_mean += 4.0  # two standard deviations
    assert running_gap(layer, white(300, (25, 6), seed=5)).iloc[0]["lag"] == pytest.approx(
        2, rel=0.1
    )


def test_b7_with_momentum_one_only_the_bessel_factor_remains():
    layer, m = nn.BatchNorm1d(3, momentum=1.0, eps=1e-14).double(), 5
    x = vectors(m, width=3).double()
    layer(x)
    gap = train_eval_gap(layer, x)
    assert gap["rms"] == pytest.approx(1 - np.sqrt((m - 1) / m), rel=1e-9)
    assert gap["disagreement"] == 0.0


def test_b7_disagreement_counts_rows_whose_greatest_column_differs():
    layer = nn.BatchNorm1d(2).eval()
    layer.running_mean.copy_(torch.tensor([0.0, 100.0]))
    x = torch.tensor([[1.0, 3.0], [2.0, 1.0], [3.0, 2.0]])  # evaluation always picks column 0
    train_picks = F.batch_norm(x, None, None, None, None, True).argmax(1)
    assert train_eval_gap(layer, x)["disagreement"] == float((train_picks != 0).double().mean())


def test_b8_without_learning_nothing_shifts():
    net = fc_net()
    with watch(net, sgd(net, lr=0.0, momentum=0.0), probe=vectors(30)) as run:
        for seed in range(3):
            train(net, run._optimizer, vectors(12, seed), labels(12))
    shift = run.shift().pivot(index=["step", "layer"], columns="stat", values="value")
    assert (shift[["mean_shift", "std_shift", "w1", "w1_first"]] == 0).all(axis=None)
    assert shift["cka_first"].to_numpy() == pytest.approx(1.0)
    assert shift["cosine"].to_numpy() == pytest.approx(1.0)


def test_b8_w1_of_a_moved_input_is_the_distance_it_moved():
    net = built(lambda: nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)))
    probe = FixedBatch(net, vectors(50), ["1"])
    probe.observe(0)
    before = net[0](vectors(50)).detach()
    with torch.no_grad():
        net[0].bias += 0.7
    probe.observe(1)
    last = probe.frame().query("step == 1").set_index("stat")["value"]
    after = net[0](vectors(50)).detach()
    expected = stats.wasserstein_distance(before.flatten().numpy(), after.flatten().numpy())
    assert last["w1"] == pytest.approx(expected, rel=1e-5) == pytest.approx(0.7, rel=1e-5)
    assert last["mean_shift"] == pytest.approx(0.7, rel=1e-5)
    assert last["cka_first"] == pytest.approx(1.0)
    rows = torch.nn.functional.cosine_similarity(before.double(), after.double()).mean().item()
    assert last["cosine"] == pytest.approx(rows, rel=1e-6)
    assert last["cosine_first"] == pytest.approx(rows, rel=1e-6)


def test_b9_gradient_shift_equals_gradients_at_hand_mixed_weights():
    net, x, y = fc_net(), vectors(), labels()
    optimizer, before = sgd(net, 0.5), snapshot(net)
    train(net, optimizer, x, y)
    after = snapshot(net)
    table = gradient_shift(net, lambda f: F.cross_entropy(f(x), y), before).set_index("layer")
    assert table.loc["0", "shift"] == 0.0
    assert table.loc["0", "cosine"] == pytest.approx(1.0)

    def gradient(mixed):
        twin = fc_net()
        twin.load_state_dict(mixed, strict=False)
        F.cross_entropy(twin(x), y).backward()
        return torch.cat([twin[3].weight.grad.flatten(), twin[3].bias.grad.flatten()]).double()

    mixed = {k: before[k] if k.startswith("3.") else after[k] for k in before}
    old, new = gradient(before), gradient(mixed)
    assert table.loc["3", "shift"] == pytest.approx(float((new - old).norm()), rel=1e-4)
    assert table.loc["3", "norm"] == pytest.approx(float(old.norm()), rel=1e-5)
    assert table.loc["3", "cosine"] == pytest.approx(
        float(F.cosine_similarity(old, new, dim=0)), rel=1e-5
    )


def test_b10_gamma_and_beta_start_at_one_and_zero_and_follow_the_layer():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer) as run:
        train(net, optimizer, vectors(), labels())
        gamma = net[1].weight.detach().clone()
        train(net, optimizer, vectors(), labels())
    table = run.bn.parameters()
    first, second = table[table["step"] == 0], table[table["step"] == 1]
    assert (first["gamma"] == 1).all()
    assert (first["distance"] == 0).all()
    assert second["gamma"].to_numpy() == pytest.approx(gamma.numpy())
    var = run.bn.frame().query("step == 0")["batch_var"]
    assert first["scale"].to_numpy() == pytest.approx(1 / np.sqrt(var.to_numpy() + 1e-5))
    assert (run.bn.small_gamma()["share"] == 0).all()


def test_b11_predictions_equal_the_normal_distribution():
    gamma, beta = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, -3.0])
    z = stats.norm(beta, np.abs(gamma))
    edge = np.log(0.95 / 0.05)
    assert share_active(gamma, beta) == pytest.approx(z.sf(0))
    assert share_outside(gamma, beta) == pytest.approx(z.cdf(-edge) + z.sf(edge))
    assert share_active(np.zeros(2), np.array([1.0, -1.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh])
def test_b11_gaussian_inputs_give_the_predicted_shares(activation):
    net = nn.Sequential(nn.BatchNorm1d(4), activation())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 3.0, 0.5, 2.0]))
        net[0].bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))
    with watch(net) as run:
        net(white(1, (20_000, 4))[0])
    row = run.bn.predicted().iloc[0]
    assert row["activation"] == "1"
    assert row["seen"] == pytest.approx(row["predicted"], abs=0.005)


def test_b13_percentiles_of_one_named_units_input_in_one_call():
    net = fc_net()
    optimizer, x = sgd(net), vectors(40)
    with watch(net, optimizer, layers="2[7]", tensors="in", stats="quantiles") as run:
        expected = np.quantile(
            F.batch_norm(net[0](x), None, None, training=True)[:, 7].detach().numpy(), 0.5
        )
        train(net, optimizer, x, labels(40), steps=3)
    rows = run.frame("q50", layer="2[7]")
    assert len(rows) == 3
    assert rows["value"][0] == pytest.approx(expected, rel=1e-5)
    assert run.plot("2[7]", "quantiles", tensor="in").get_title(loc="left").startswith("2[7]")


def test_b14_the_gradient_is_orthogonal_to_the_weight_before_bn():
    net = built(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4, eps=1e-14),
            nn.Flatten(),
            nn.Linear(144, 5),
        )
    )
    net = net.double()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    with watch(net, optimizer, params=True) as run:
        w = net[0].weight.detach().clone()
        train(net, optimizer, images().double(), labels(classes=5), steps=2)
    table = run.bn.scale_invariance()
    assert table["layer"].tolist() == ["0", "0"]
    assert table["bn"].unique().tolist() == ["1"]
    assert np.abs(table["grad_cosine"]).max() < 1e-12
    assert table["effective_lr"][0] == pytest.approx(0.3 / float((w**2).sum()))
    free = run.frame("grad_cosine", layer="3", tensor="weight")["value"]
    assert np.abs(free).min() > 1e-3


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(3), (6, 3)), (nn.BatchNorm1d(3), (6, 3, 4)), (nn.BatchNorm2d(3), (6, 3, 4, 5)),
        (nn.BatchNorm3d(3), (6, 3, 2, 4, 2)), (nn.SyncBatchNorm(3), (6, 3, 4)), (BatchNorm(3), (6, 3, 4, 5)),
        (nn.BatchNorm2d(3, momentum=None), (6, 3, 4, 5)), (nn.BatchNorm2d(3, affine=False), (6, 3, 4, 5)),
        (nn.BatchNorm2d(3, track_running_stats=False), (2, 3, 1, 1)),
    ],
)  # fmt: skip
def test_p24_exact_batch_moments_of_every_kind_of_bn_layer(layer, shape):
    x = (torch.randn(shape, generator=generator()) * 2 + 5).requires_grad_()
    with watch(layer, stats=[]) as run:
        layer(x)
    v = np.moveaxis(x.detach().double().numpy(), 1, 0).reshape(3, -1)
    table = run.bn.frame()
    assert table["batch_mean"].to_numpy() == pytest.approx(v.mean(1), rel=1e-6)
    assert table["batch_var"].to_numpy() == pytest.approx(v.var(1), rel=1e-5)
    assert set(table["values"]) == {v.shape[1]}
    assert set(table["images"]) == {shape[0]}
    has_state = getattr(layer, "track_running_stats", True)
    assert table["running_mean"].notna().all() == has_state


def test_moments_read_from_autograd_are_those_computed():
    net, x = conv_net(), images()
    with watch(net, stats=[]) as run:
        net(x)
    expected = net[0](x).detach().double().numpy()
    first = run.bn.frame().query("layer == '1'")
    assert first["batch_var"].to_numpy() == pytest.approx(expected.var((0, 2, 3)), rel=1e-5)


def test_p24_a_frozen_bn_layer_is_noted_not_recorded():
    net = conv_net()
    net[1].eval()
    with watch(net) as run:
        net(images())
    assert set(run.bn.frame()["layer"]) == {"4"}
    assert ("1", "norm", "it normalizes by its running statistics") in run.recording().notes


def test_p24_layer_and_group_norm_are_not_taken_for_bn():
    net = conv_net(norm=lambda c: nn.GroupNorm(2, c))
    with watch(net) as run:
        net(images())
    with pytest.raises(WatchError, match="no batch normalization layer was recorded"):
        run.bn.frame()


def test_p24_a_lazy_bn_layer_is_watched_once_it_has_a_size():
    net = nn.Sequential(nn.LazyBatchNorm1d())
    with watch(net) as run:
        net(vectors(6))
        net(vectors(6))
    assert len(run.bn.frame()) == 16


class Projected(nn.BatchNorm1d):
    """Normalizes something else than what it is called with."""

    def __init__(self, inputs, features):
        super().__init__(features)
        self.project = nn.Linear(inputs, features)

    def forward(self, x):
        return super().forward(self.project(x))


@pytest.mark.parametrize("inputs", [9, 3])
def test_a_layer_that_normalizes_something_else_than_its_input_is_noted(inputs):
    net = built(lambda: nn.Sequential(nn.Linear(8, inputs), Projected(inputs, 5)))
    with watch(net) as run:
        net(vectors(4)).sum().backward()
    assert ("1", "norm", "its input is not what it normalizes") in run.recording().notes
    with pytest.raises(WatchError, match="no batch normalization layer was recorded"):
        run.bn.frame()


def test_the_noise_of_images_is_right_where_the_mean_is_rounded():
    x = 1e4 + 1e-2 * torch.randn(64, 3, generator=generator())
    rounded = x.mean(0) + 1e-2  # as far as a saved mean may be off
    of_mean, _ = image_noise(x, rounded)
    assert of_mean == pytest.approx(x.double().var(0).numpy(), rel=1e-9)


def test_what_a_layer_held_at_its_pass_is_recorded_though_it_changes_within_the_step():
    net = built(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    x, held = torch.randn(6, 1, 8, 8, generator=generator()), []
    with watch(net, optimizer) as run:
        for _ in range(2):  # two passes, one step
            net(x).square().sum().backward()
            layer = net[1]
            held.append(
                [t.detach().double().numpy().copy() for t in layer.state_dict().values()][:4]
            )
        optimizer.step()
    frame = run.recording().rows.astype({"stat": str, "tensor": str})
    rows = frame[frame["tensor"] == "norm"].set_index(["forward", "stat"]).sort_index()
    for forward, (gamma, beta, mean, var) in enumerate(held):
        for stat, value in {
            "gamma": gamma, "beta": beta, "running_mean": mean, "running_var": var,
        }.items():  # fmt: skip
            got = rows.loc[(forward, stat), "value"].to_numpy()
            assert got == pytest.approx(value, rel=1e-6), (forward, stat)
    assert not np.allclose(held[0][2], held[1][2])
    assert not np.allclose(net[1].weight.detach().numpy(), held[1][0])


@pytest.mark.parametrize(
    ("options", "weight_of_new"),
    [
        ({}, 0.1),
        ({"momentum": 0.3}, 0.7),
        ({"momentum": 0.3, "momentum_of": "new"}, 0.3),
        ({"momentum": None}, None),
    ],
)
def test_the_momentum_of_a_layer_is_read_as_the_weight_of_the_new_value(options, weight_of_new):
    found = read_state(BatchNorm(3, **options)).momentum
    assert found == (None if weight_of_new is None else pytest.approx(weight_of_new))
    layer = nn.BatchNorm1d(3, momentum=weight_of_new)
    assert read_state(layer).momentum == weight_of_new


def test_a_layer_without_moments_uses_its_batch_in_evaluation_too():
    for kind in (BatchNorm, nn.BatchNorm1d):
        assert uses_batch(kind(3, track_running_stats=False).eval())
        assert not uses_batch(kind(3).eval())
