"""The readers of a tensor, number by number against float64 numpy."""

import math
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnstudy import compiling
from bnstudy.activations import WatchWarning, histogram, statistic, watch
from bnstudy.activations.reading import compiled_functions, measurements
from bnstudy.activations.reading.compiled_functions import (
    ABOVE,
    ABSOLUTE,
    COLUMNS,
    ENDS,
    HIGHER,
    MOMENTS,
    OUTSIDE,
    ZEROS,
    Scan,
    column_powers,
)
from bnstudy.activations.reading.compiled_reader import CompiledReader
from bnstudy.activations.reading.numpy_reader import PlainReader
from bnstudy.activations.reading.reader import stride
from bnstudy.activations.reading.tensor import MeasuredTensor, reader_of
from bnstudy.errors import WatchError
from tests.activations.nets import built

pytestmark = pytest.mark.skipif(compiled_functions.scanner() is None, reason="no C++ compiler")
EVERYTHING = sum(COLUMNS)
ALWAYS = {"train": 1, "eval": 1}


def normal(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def expected(x, centre, limit, low, high):
    v, c = x.astype(np.float64), x.astype(np.float64) - centre
    low, high = np.float32(low), np.float32(high)
    return {
        MOMENTS: [c.sum(1), (c**2).sum(1)],
        HIGHER: [(c**3).sum(1), (c**4).sum(1)],
        ENDS: [v.min(1), v.max(1)],
        ABSOLUTE: [np.abs(v).sum(1)],
        ZEROS: [(v == 0).sum(1)],
        ABOVE: [(x > np.float32(limit)).sum(1)],
        OUTSIDE: [((x < low) | (x > high)).sum(1)],
    }


@given(
    # widths around a vector of 16 and a block of 4,096
    st.sampled_from([1, 2, 15, 16, 17, 49, 576, 4095, 4096, 4097, 10_000]),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.25, -3.0]),
    st.sampled_from([1e-30, 1.0, 1e6]),
    st.integers(1, EVERYTHING).map(lambda bits: bits | MOMENTS),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=80, derandomize=True)
def test_every_column_of_every_row_equals_numpy(width, rows, centre, scale, wanted, seed):
    x = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    x[x < -1] = 0.0
    x *= np.float32(scale)
    centre, limit, low, high = centre * scale, 0.5 * scale, -0.3 * scale, 1.2 * scale
    read = Scan(torch.from_numpy(x).view(-1), width, wanted, centre, limit, low, high)
    columns = expected(x, centre, limit, low, high)
    sizes = np.abs(x.astype(np.float64) - centre).max() ** np.arange(5) * width
    for bit, first in read.columns.items():
        for offset, column in enumerate(columns.get(bit, [])):
            power = {MOMENTS: 1, HIGHER: 3}.get(bit, 0) + offset
            near = 1e-12 * sizes[power]
            assert read.rows[first + offset] == pytest.approx(column, rel=1e-12, abs=near)
            fold = (np.min, np.max)[offset] if bit == ENDS else np.sum
            total = pytest.approx(fold(column), rel=1e-12, abs=near * rows)
            assert read.totals[first + offset] == total


def test_what_is_not_asked_for_is_not_there():
    read = Scan(torch.ones(8), 4, MOMENTS | ZEROS, 0.0, 0.0, 0.0, 0.0)
    assert (read.rows.shape, len(read.totals)) == ((3, 2), 3)
    with pytest.raises(KeyError):
        read.total(ABSOLUTE)


@pytest.mark.parametrize(("rows", "width"), [(1, 10_000), (7, 4_097), (300, 16), (1, 5), (3, 17)])
@pytest.mark.parametrize("sizes", [(), (1,), (40, 4_096), (4, 3, 2, 1)])
def test_samples_are_taken_in_the_same_pass_at_their_positions(rows, width, sizes):
    x = normal(rows, width)
    read = Scan(x.view(-1), width, MOMENTS | ENDS, 0.0, 0.0, 0.0, 0.0, sizes=sizes)
    assert list(read.samples) == list(sizes)
    for size in sizes:
        places = MeasuredTensor(x).sample(size)
        assert len(places) <= size
        assert np.array_equal(read.samples[size], places.numpy())
    assert read.totals[0] == pytest.approx(x.double().sum().item(), rel=1e-12, abs=1e-9)


def test_more_samples_than_one_pass_takes_are_still_right():
    x, sizes = normal(3, 400), (70, 60, 50, 40, 30, 20)
    tensor = MeasuredTensor(x, ("mean",), None, sizes)
    for size in sizes:
        assert np.array_equal(
            tensor.sample_on_host(size), x.view(-1)[:: stride(1200, size)].numpy()
        )


@pytest.mark.parametrize("shape", [(2, 1), (256, 120), (33, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_powers_of_columns_are_those_of_numpy(shape, dtype):
    x = normal(*shape).to(dtype)
    centre = x.double().mean(0).numpy() + 0.01
    d = x.double().numpy() - centre
    for laid_out in (x, x.T.contiguous().T):  # in a row, and not
        found = column_powers(laid_out, centre)
        for power, sums in zip((1, 2, 4), found, strict=True):
            assert sums == pytest.approx((d**power).sum(0), rel=1e-12, abs=1e-12)


def test_powers_of_columns_are_of_what_memory_reads_and_of_every_column():
    found = column_powers(torch._neg_view(torch.ones(4, 2)), np.zeros(2))
    assert found.tolist() == [[-4.0, -4.0], [4.0, 4.0], [4.0, 4.0]]
    with pytest.raises(ValueError, match="5 columns need as many centres"):
        column_powers(torch.ones(4, 5), np.zeros(3))


WRONG_SCANS = {
    "double": (lambda x: (x.double(), 4, MOMENTS), "a flat float32 tensor"),
    "matrix": (lambda x: (x.view(2, 4), 4, MOMENTS), "a flat float32 tensor"),
    "strided": (lambda x: (x[::2], 4, MOMENTS), "contiguous memory"),
    "negated": (lambda x: (torch._neg_view(x), 4, MOMENTS), "contiguous memory"),
    "empty": (lambda x: (x[:0], 4, MOMENTS), "got 0 in rows of 4"),
    "odd width": (lambda x: (x, 3, MOMENTS), "got 8 in rows of 3"),
    "no width": (lambda x: (x, 0, MOMENTS), "got 8 in rows of 0"),
    "nothing": (lambda x: (x, 4, 0), "wanted is a sum of bits"),
    "unknown bit": (lambda x: (x, 4, 128), "wanted is a sum of bits"),
    "higher alone": (lambda x: (x, 4, HIGHER), "higher moments need moments"),
}


@pytest.mark.parametrize("kind", WRONG_SCANS)
def test_a_scan_that_would_leave_the_memory_is_refused_in_a_line(kind):
    arguments, message = WRONG_SCANS[kind]
    with pytest.raises(ValueError, match=message) as raised:
        Scan(*arguments(torch.ones(8)), 0.0, 0.0, 0.0, 0.0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("limits", "sizes"), [((0.0,) * 3, ()), ((0.0,) * 4, (1,) * 5), ((0.0,) * 4, (2, 0))]
)
def test_limits_and_samples_of_another_number_are_refused(limits, sizes):
    with pytest.raises(ValueError, match="4 limits and at most 4 samples of at least 1 value"):
        Scan(torch.ones(8), 4, MOMENTS, *limits, sizes=sizes)


def test_centres_of_columns_may_be_of_any_float_type_and_layout():
    x, wide = torch.arange(8.0).view(4, 2), np.array([[1.0, 9.0], [2.0, 9.0]])
    wanted = column_powers(x, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(column_powers(x, wide[:, 0]), wanted)
    np.testing.assert_array_equal(column_powers(x, wide[:, 0].astype(np.float32)), wanted)


def test_a_library_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(compiled_functions, "SAMPLES", 5)
    compiled_functions.scanner.cache_clear()
    with pytest.raises(WatchError, match="constant 0 is 4, not 5"):
        compiled_functions.scanner()
    monkeypatch.undo()
    compiled_functions.scanner.cache_clear()
    assert compiled_functions.scanner() is not None


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_reaches_what_it_must(odd):
    x = normal(5, 3, 4, 4)
    x[2, 1, 0, 3] = odd
    wanted = ("min", "max", "dead")
    got, plain = CompiledReader(x, x.view(-1), wanted), PlainReader(x)
    for rows in (got, plain):
        assert not math.isfinite(rows.moments[0])
        assert math.isnan(rows.moments[1])
    assert np.array_equal(got.extremes, plain.extremes, equal_nan=True)
    assert np.array_equal(got.channel_maximum, plain.channel_maximum, equal_nan=True)
    assert got.outside(-1.0, 1.0) == pytest.approx(plain.outside(-1.0, 1.0))


@pytest.mark.parametrize("mean", [0.0, 3.0, 1e3, -1e5])
def test_moments_are_right_however_far_the_mean(mean):
    generator = np.random.default_rng(0)
    x = torch.from_numpy((generator.gamma(2.0, size=(40, 5, 6, 6)) + mean).astype(np.float32))
    v = x.double().numpy().ravel()
    for wanted in ((), ("skew", "std")):
        rows = CompiledReader(x, x.view(-1), wanted)
        c = (v - v.mean()) / v.std()
        assert rows.moments == (
            pytest.approx(v.mean(), rel=1e-12),
            pytest.approx(v.var(), rel=1e-8),
        )
        assert rows.higher == (
            pytest.approx((c**3).mean(), rel=1e-5),
            pytest.approx((c**4).mean(), rel=1e-5),
        )
        channels = np.moveaxis(x.double().numpy(), 1, 0).reshape(5, -1)
        assert rows.channel_moments[1] == pytest.approx(channels.var(1), rel=1e-5)


def test_memory_that_is_not_what_it_seems_is_read_as_it_is_meant():
    negated = torch.imag(normal(6, 4, dtype=torch.complex64).conj())
    assert negated.is_neg()
    repeated = torch.tensor([[1.0], [3.0]]).expand(2, 5)
    for x in (negated, repeated, normal(3, 4, 5, 6).transpose(1, 3)[:, 1:]):
        run = watch(nn.Sequential(nn.Identity()), layers="0", stats=["mean", "std", "min", "max"])
        with run:
            run._root(x)
        got = run.frame().set_index("stat")["value"]
        v = x.resolve_neg().double().numpy()
        assert got["mean"] == pytest.approx(v.mean(), rel=1e-6)
        assert got["std"] == pytest.approx(v.std(), rel=1e-6)
        assert (got["min"], got["max"]) == (v.min(), v.max())


def test_limits_that_are_known_beforehand_give_the_same_shares():
    x = torch.rand(20, 4, 7, 7, generator=torch.Generator().manual_seed(0))
    late, early = CompiledReader(x, x.view(-1)), CompiledReader(x, x.view(-1), (), (0.05, 0.95))
    assert early.outside(0.05, 0.95) == late.outside(0.05, 0.95)
    assert early.outside(0.2, 0.95) == late.outside(0.2, 0.95) != early.outside(0.05, 0.95)
    shares = ((x < 0.05) | (x > 0.95)).double().mean((0, 2, 3)).numpy()
    assert early.channel_outside(0.05, 0.95) == pytest.approx(shares)
    assert CompiledReader(x, x.view(-1), ("active",)).above(0.0) == late.above(0.0) == 1.0
    assert CompiledReader(x, x.view(-1), ("active",)).above(0.5) == late.above(0.5)


def test_without_a_compiler_numpy_reads(monkeypatch):
    x = normal(4, 3, 5, 5)
    assert type(reader_of(x, x.view(-1))) is CompiledReader
    assert type(reader_of(x.double(), x.double().view(-1))) is PlainReader
    monkeypatch.setenv("BNSTUDY_KERNEL", "off")
    for known in (compiling.compiled, compiled_functions.scanner):
        known.cache_clear()
    try:
        assert type(reader_of(x, x.view(-1))) is PlainReader
    finally:
        for known in (compiling.compiled, compiled_functions.scanner):
            known.cache_clear()


# Numbers computed at the end of the step ---------------------------------------------------


def watched_pass(net, x, **options):
    with torch.no_grad(), watch(net, **{"stats": "full", "every": ALWAYS, **options}) as run:
        net.eval()(x)
        yield run


def numbers(run):
    frame = run.frame().astype({"layer": str, "stat": str})
    return frame.set_index(["layer", "stat"])["value"].to_dict()


def test_numbers_are_those_of_the_moment_however_the_tensor_is_changed_after():
    net = built(lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True)))
    x = normal(40, 6)  # few values: the sample is all of them
    for run in watched_pass(net, x):
        before = net[0](x).detach().double().numpy()
        got = numbers(run)
        assert got["0", "mean"] == pytest.approx(before.mean(), rel=1e-6)
        assert got["0", "q15"] == pytest.approx(np.quantile(before, 0.15), rel=1e-6)
        assert got["0", "min"] == pytest.approx(before.min(), rel=1e-6)
        assert got["1", "active"] == pytest.approx((before > 0).mean())
        bins = [value for (layer, stat), value in got.items() if layer == "0" and "hist[" in stat]
        assert (len(bins), sum(bins)) == (42, pytest.approx(1.0))


def test_a_tensor_that_waits_for_its_numbers_is_not_kept():
    seen = []
    net = built(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.AvgPool2d(2)))
    net[1].register_forward_hook(lambda _m, _a, out: seen.append(weakref.ref(out)))
    for run in watched_pass(net, normal(3, 1, 8, 8)):
        assert seen[0]() is None
        assert {"1"} <= {layer for layer, _ in numbers(run)}


def test_rows_come_in_the_order_of_the_layers_and_none_waits_for_ever(monkeypatch):
    monkeypatch.setattr(measurements, "WAITING", 7)
    net = built(lambda: nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)), nn.Sigmoid()))
    own = statistic(lambda x: x.mean(), name="own")
    with torch.no_grad(), watch(net, stats=["mean", "stuck", own, "std"], every=ALWAYS) as run:
        for _ in range(5):
            net.eval()(normal(4, 3))
        assert len(run._measurements._deferred) == 4  # of 5 passes through 5 layers
        frame = run.frame()
        assert run._measurements._deferred == []
    assert list(frame["layer"][::3][:4]) == ["0", "1", "2", "3"]
    assert list(frame["layer"]) == [*"000111222333", *"4444"] * 5
    assert list(frame["stat"][:3]) == ["mean", "own", "std"]
    mean, own = (frame.loc[frame["stat"] == stat, "value"].to_numpy() for stat in ("mean", "own"))
    assert own == pytest.approx(mean, rel=1e-5, abs=1e-7)


def test_values_that_are_not_finite_are_measured_at_once():
    x = normal(4, 3)
    x[0, 0] = math.inf
    for run in watched_pass(nn.Sequential(nn.Identity()), x, layers="0"):
        assert run._measurements._deferred == []
        got = numbers(run)
        assert (got["0", "nonfinite"], got["0", "max"]) == (1.0, math.inf)


def test_a_statistic_that_fails_late_is_off_and_training_goes_on():
    net = built(lambda: nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 3)))
    broken = histogram(high=0.0)  # no width between the bounds of a sigmoid
    passes = watched_pass(net, normal(5, 4), stats=["mean", broken, "std"])
    with pytest.warns(WatchWarning, match="ZeroDivisionError"):
        (got,) = map(numbers, passes)
    assert {layer for layer, _ in got} == {"0", "1", "2"}
    assert all(math.isfinite(got[layer, stat]) for layer in "012" for stat in ("mean", "std"))
    assert all(math.isnan(v) for (layer, stat), v in got.items() if layer == "1" and "hist" in stat)


def test_what_a_statistic_gives_is_copied_before_it_can_change():
    kept = torch.zeros(())
    view = statistic(lambda x: x.flatten()[0], name="first value")
    again = statistic(lambda x: kept.copy_(x.mean()), name="used again")
    net = built(lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True)))
    x = normal(40, 6)
    for run in watched_pass(net, x, stats=["mean", view, again]):
        before, got = net[0](x), numbers(run)
        assert got["0", "first value"] == pytest.approx(before[0, 0].item())
        assert got["0", "used again"] == pytest.approx(got["0", "mean"], rel=1e-5)


def test_no_way_of_reading_keeps_a_tensor():
    seen = []
    net = built(lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)))
    for layer in net:
        layer.register_forward_hook(lambda _m, _a, out: seen.append(weakref.ref(out)))
    for _ in watched_pass(net, normal(4, 6)):
        assert [reference() for reference in seen[:2]] == [None, None]


def test_tensors_without_memory_of_their_own_are_no_danger():
    zero = torch._efficientzerotensor((4, 3))
    assert type(reader_of(zero, zero.view(-1))) is PlainReader
    negated = torch._neg_view(normal(6, 4))
    for run in watched_pass(nn.Sequential(nn.Identity()), negated, layers="0"):
        got = numbers(run)
        assert got["0", "mean"] == pytest.approx(negated.mean().item(), rel=1e-5)
        assert got["0", "q50"] == pytest.approx(np.median(negated.resolve_neg().numpy()), rel=1e-5)


def test_maps_of_few_positions_are_one_row():
    x = normal(8, 32, 2, 2)
    rows = CompiledReader(x, x.view(-1))
    assert rows._first.rows.shape[1] == 1
    assert rows.channel_moments[1] == pytest.approx(x.double().var((0, 2, 3), correction=0).numpy())
