"""Each statistic against float64 numpy, over drawn shapes, types and memory formats."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle
from torch import nn

from bnstudy.activations import histogram, quantiles, statistic
from bnstudy.activations.builtin_statistics import SHAPE_SAMPLE
from bnstudy.activations.reading import compiled_functions
from bnstudy.activations.reading.tensor import MeasuredTensor
from bnstudy.activations.statistics import Site, resolve
from bnstudy.errors import WatchError

SHAPES = [(1,), (7,), (2, 3), (64, 10), (4, 3, 5, 5), (3, 2, 4, 3, 2), (300, 6, 12, 12)]
PIECE = 1 << 18
FORMATS = ("contiguous", "channels_last", "strided")


@pytest.fixture(scope="module", params=["compiled", "plain"], autouse=True)
def reader(request):
    """Read tensors by the compiled code, and without it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain":
            patch.setattr(compiled_functions, "scanner", lambda: None)
        elif compiled_functions.scanner() is None:
            pytest.skip("no C++ compiler")
        yield request.param


def drawn(shape, dtype, form, seed, shift, scale):
    g = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=g, dtype=torch.float64) * scale + shift).to(dtype)
    if form == "channels_last" and len(shape) == 4:
        return x.to(memory_format=torch.channels_last)
    if form == "strided":
        return torch.stack([x, x], -1)[..., 0]
    return x


@st.composite
def tensors(draw, shapes=tuple(SHAPES)):
    return drawn(
        draw(st.sampled_from(shapes)),
        draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])),
        draw(st.sampled_from(FORMATS)),
        draw(st.integers(0, 99)),
        draw(st.sampled_from([0.0, 1.0, -30.0])),
        draw(st.sampled_from([0.01, 1.0, 20.0])),
    )


def measured(x, name, module=None, kind="out", wanted=(), on_host=True):
    found, tensor = {}, MeasuredTensor(x, wanted)
    tensor.on_host = on_host  # False: the reader of accelerators
    for item in resolve(name):
        bound = item.bind(Site(module, kind))
        if bound is not None:
            value = bound.measure(tensor)
            found |= zip(bound.labels, np.ravel(value).tolist(), strict=True)
    return found


@given(tensors(), st.booleans())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_whole_tensor_statistics_equal_float64_numpy(x, announced):
    v = x.double().numpy().ravel()
    names = ["mean", "std", "min", "max", "rms", "l2", "abs_mean", "skew", "kurtosis", "zeros"]
    got = measured(x, names, wanted=names if announced else ())
    spread = v.std()
    expected = {
        "mean": v.mean(), "std": spread, "min": v.min(), "max": v.max(),
        "rms": math.sqrt((v**2).mean()), "l2": math.sqrt((v**2).sum()),
        "abs_mean": np.abs(v).mean(), "zeros": (v == 0).mean(),
    }  # fmt: skip
    for name, value in expected.items():
        near_zero = 1e-6 * max(spread, abs(v).max() * 1e-2)
        assert got[name] == pytest.approx(value, rel=1e-5, abs=near_zero), name
    if spread > 1e-3 * abs(v.mean()) and len(v) > 1:
        assert got["skew"] == pytest.approx(oracle.skew(v), rel=1e-4, abs=1e-4)
        assert got["kurtosis"] == pytest.approx(oracle.kurtosis(v), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("scale", [1e-25, 1e-9, 1e25])
def test_moments_of_values_whose_powers_leave_float32(scale):
    x = drawn((300, 6, 12, 12), torch.float32, "contiguous", 7, 0.5, 1.0) * scale
    v = x.double().numpy().ravel()
    got = measured(x, ["mean", "std", "rms", "skew", "kurtosis"])
    assert got["mean"] == pytest.approx(v.mean(), rel=1e-5)
    assert got["std"] == pytest.approx(v.std(), rel=1e-5)
    assert got["rms"] == pytest.approx(math.sqrt((v**2).mean()), rel=1e-5)
    assert got["skew"] == pytest.approx(oracle.skew(v), abs=1e-4)
    assert got["kurtosis"] == pytest.approx(oracle.kurtosis(v), abs=1e-4)


def test_a_tensor_of_zeros_has_no_spread():
    got = measured(torch.zeros(300, 200), ["mean", "std", "min", "zeros", "kurtosis"])
    assert (got["mean"], got["std"], got["min"], got["zeros"]) == (0.0, 0.0, 0.0, 1.0)
    assert math.isnan(got["kurtosis"])


@given(tensors(), st.sampled_from([nn.Sigmoid(), nn.ReLU(), None]))
@settings(deadline=None, max_examples=40, derandomize=True)
def test_on_an_accelerator_the_statistics_are_those_of_the_cpu(x, module):
    if module is not None:
        x = module(x)
    names = ["full"]
    near = 1e-5 * max(x.double().abs().max().item(), 1e-3)
    host = measured(x, names, module)
    device = measured(x, names, module, on_host=False)
    flat = host["std"] <= 1e-3 * abs(host["mean"])
    for label, value in host.items():
        if not (flat and label in ("skew", "kurtosis", "participation")):
            close = pytest.approx(value, rel=1e-3, abs=max(near, 2e-3), nan_ok=True)
            assert device[label] == close, label


@given(tensors(shapes=((64, 10), (4, 3, 5, 5), (300, 6, 12, 12))))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_channel_statistics_equal_float64_numpy(x):
    v = np.moveaxis(x.double().numpy(), 1, 0).reshape(x.shape[1], -1)
    got = measured(x, "channels")
    assert got["within"] == pytest.approx(v.var(1).mean(), rel=1e-5)
    assert got["mean_square"] == pytest.approx((v.mean(1) ** 2).mean(), rel=1e-5, abs=1e-9)
    tolerance = 1e-6 * abs(v).max() * v.mean(1).std() + 1e-12
    assert got["between"] == pytest.approx(v.mean(1).var(), rel=1e-5, abs=tolerance)


def test_channel_variance_survives_a_mean_far_from_zero():
    x = drawn((50, 3, 8, 8), torch.float32, "contiguous", 0, 0.0, 1.0)
    x += torch.tensor([1000.0, 0.0, -1000.0]).reshape(1, 3, 1, 1)
    v = np.moveaxis(x.double().numpy(), 1, 0).reshape(3, -1)
    assert measured(x, "channels")["within"] == pytest.approx(v.var(1).mean(), rel=1e-5)


def test_variance_survives_a_mean_of_a_thousand():
    x = drawn((PIECE * 2,), torch.float32, "contiguous", 1, 1000.0, 1.0)
    assert measured(x, "std")["std"] == pytest.approx(x.double().numpy().std(), rel=1e-5)


def test_variance_survives_a_first_piece_unlike_the_rest():
    x = torch.cat(
        [torch.zeros(PIECE), drawn((PIECE,) * 1, torch.float32, "contiguous", 2, 1e4, 1.0)]
    )
    x = torch.cat([x, x[PIECE:].repeat(40)])
    v = x.double().numpy()
    assert measured(x, "std")["std"] == pytest.approx(v.std(), rel=1e-5)
    assert measured(x, "mean")["mean"] == pytest.approx(v.mean(), rel=1e-6)


@pytest.mark.parametrize(("module", "low", "high"), [(nn.Sigmoid(), 0, 1), (nn.Tanh(), -1, 1)])
def test_b12_saturation_equals_its_definition(module, low, high):
    g = torch.Generator().manual_seed(3)
    y = module(
        torch.randn(400, 6, 9, 9, generator=g)
        * torch.tensor([0.1, 1, 2, 5, 50, 500]).reshape(1, 6, 1, 1)
    )
    v = y.double().numpy()
    near = (v < low + 0.05 * (high - low)) | (v > high - 0.05 * (high - low))
    got = measured(y, ["saturated", "stuck", "slope"], module)
    assert got["saturated"] == pytest.approx(near.mean(), rel=1e-6)
    assert got["stuck"] == np.mean(np.moveaxis(near, 1, 0).reshape(6, -1).mean(1) > 0.95) == 2 / 6
    slope = 4 * ((v - low) * (high - v)).mean() / (high - low) ** 2
    assert got["slope"] == pytest.approx(slope, rel=1e-5)


def test_b12_slope_is_one_at_the_middle_and_zero_at_the_bounds():
    assert measured(torch.full((4, 2), 0.5), "slope", nn.Sigmoid())["slope"] == pytest.approx(1.0)
    ends = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert measured(ends, "slope", nn.Sigmoid())["slope"] == pytest.approx(0.0, abs=1e-7)


def test_saturation_has_no_meaning_for_a_convolution_or_a_gradient():
    assert measured(torch.ones(4, 2), ["saturated", "active", "dead"], nn.Flatten()) == {}
    assert measured(torch.ones(4, 2), ["saturated"], nn.Sigmoid(), kind="grad") == {}


def test_active_and_dead_count_values_and_units():
    y = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    got = measured(y, ["active", "dead"], nn.ReLU())
    assert got == pytest.approx({"active": 3 / 9, "dead": 1 / 3})


@given(tensors(shapes=((1,), (7,), (64, 10), (300, 6, 12, 12))))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_quantiles_lie_within_the_stated_error_of_the_whole(x):
    v = np.sort(x.double().numpy().ravel())
    got = measured(x, quantiles(0.15, 0.5, 0.85))
    error = 0.0 if len(v) <= 4096 else math.sqrt(math.log(40) / (2 * 4096))
    for label, p in (("q15", 0.15), ("q50", 0.5), ("q85", 0.85)):
        low, high = np.quantile(v, (max(0, p - error), min(1, p + error)))
        slack = 1e-5 * max(1e-3, abs(v).max())
        assert low - slack <= got[label] <= high + slack


def test_a_sample_visits_every_channel_and_column():
    x = torch.arange(256 * 6 * 24 * 24, dtype=torch.float64)
    places = MeasuredTensor(x).sample(4096).numpy().astype(int)
    assert len(places) <= 4096
    assert set(places % 24) == set(range(24))
    assert set(places // 576 % 6) == set(range(6))


def test_histogram_equals_numpy_and_keeps_what_is_outside():
    g = torch.Generator().manual_seed(4)
    x = torch.randn(2000, generator=g) * 3
    got = measured(x, histogram(10, -4.0, 4.0))
    edges = [-np.inf, *np.linspace(-4, 4, 11), np.inf]
    expected = np.histogram(x.double().numpy(), edges)[0] / len(x)
    assert list(got.values()) == pytest.approx(expected, abs=1 / len(x))
    assert sum(got.values()) == pytest.approx(1.0)
    assert next(iter(got)) == "hist[-inf,-4)"


def test_a_histogram_of_gradients_bins_their_size():
    x = torch.tensor([1e-3, -1e-3, 0.0, 10.0])
    got = measured(x, histogram(16, -12.0, 4.0), kind="grad")
    assert got["log_hist[-inf,-12)"] == 0.25
    assert got["log_hist[1,2)"] == 0.25
    assert got["log_hist[-3,-2)"] + got["log_hist[-4,-3)"] == 0.5


def test_near_zero_is_relative_to_the_rms_and_counts_negatives():
    x = torch.tensor([-1.0, 1.0, -1.0, 1.0, 0.01, -0.01])
    assert measured(x, "near_zero")["near_zero"] == pytest.approx(2 / 6)
    normal = torch.randn(SHAPE_SAMPLE, generator=torch.Generator().manual_seed(0))
    assert measured(normal, "near_zero")["near_zero"] == pytest.approx(0.04, abs=0.007)


def test_participation_and_rank_of_known_covariances():
    g = torch.Generator().manual_seed(5)
    white = torch.randn(500, 8, generator=g)
    line = torch.randn(500, 1, generator=g) * torch.ones(1, 8)
    assert measured(white, "participation")["participation"] == pytest.approx(8, rel=0.03)
    assert measured(line, "participation")["participation"] == pytest.approx(1, rel=1e-4)
    got = measured(white, "rank")
    v = np.linalg.eigvalsh(np.cov(white.double().numpy().T, bias=True))
    p = np.sqrt(v) / np.sqrt(v).sum()
    assert got["effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert got["stable_rank"] == pytest.approx(v.sum() / v.max(), rel=1e-4)


def test_a_covariance_of_maps_takes_positions_as_samples():
    g = torch.Generator().manual_seed(6)
    maps = torch.randn(4, 3, 10, 10, generator=g)
    rows = MeasuredTensor(maps).rows(10_000, 256).double().numpy()
    expected = np.moveaxis(maps.double().numpy(), 1, -1).reshape(-1, 3)
    assert np.array_equal(np.sort(rows, 0), np.sort(expected, 0))
    assert rows.T @ rows == pytest.approx(expected.T @ expected)


def test_a_new_statistic_is_one_decorated_function():
    @statistic
    def positive_share(x):
        return (x > 0).float().mean()

    assert measured(torch.tensor([1.0, -1.0, 2.0, 3.0]), "positive_share") == {
        "positive_share": 0.75
    }


def test_a_statistic_of_several_numbers_names_them():
    @statistic(labels=("first", "second"), name="pair")
    def two(x):
        return torch.stack([x.sum(), x.prod()])

    assert measured(torch.tensor([2.0, 3.0]), two) == {"first": 5.0, "second": 6.0}


def test_an_unknown_statistic_is_refused_with_the_nearest_name():
    with pytest.raises(
        WatchError, match="there is no statistic 'quantile': did you mean 'quantiles'"
    ):
        resolve(["quantile"])


@pytest.mark.parametrize(
    "bad",
    [
        lambda: quantiles(1.5),
        lambda: quantiles(sample=0),
        lambda: histogram(0),
        lambda: histogram(4, 1.0, 1.0),
    ],
)
def test_impossible_options_are_refused(bad):
    with pytest.raises(WatchError, match="need"):
        bad()
