"""The compiled way through a tensor, number by number against float64 numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bnstudy import compiling
from bnstudy.activations import scanned, watch
from bnstudy.activations.rows import Rows
from bnstudy.activations.scanned import (
    ABOVE,
    ABSOLUTE,
    COLUMNS,
    ENDS,
    HIGHER,
    MOMENTS,
    OUTSIDE,
    ZEROS,
    Scan,
    Scanned,
    rows_of,
)

pytestmark = pytest.mark.skipif(scanned.scanner() is None, reason="no C++ compiler")
EVERYTHING = sum(COLUMNS)


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
    for bit, place in read.places.items():
        for offset, column in enumerate(columns.get(bit, [])):
            power = {MOMENTS: 1, HIGHER: 3}.get(bit, 0) + offset
            near = 1e-12 * sizes[power]
            assert read.rows[place + offset] == pytest.approx(column, rel=1e-12, abs=near)
            fold = (np.min, np.max)[offset] if bit == ENDS else np.sum
            total = pytest.approx(fold(column), rel=1e-12, abs=near * rows)
            assert read.totals[place + offset] == total


def test_what_is_not_asked_for_is_not_there():
    read = Scan(torch.ones(8), 4, MOMENTS | ZEROS, 0.0, 0.0, 0.0, 0.0)
    assert (read.rows.shape, len(read.totals)) == ((3, 2), 3)
    with pytest.raises(KeyError):
        read.total(ABSOLUTE)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_reaches_what_it_must(odd):
    x = normal(5, 3, 4, 4)
    x[2, 1, 0, 3] = odd
    wanted = ("min", "max", "dead")
    got, plain = (kind(x, x.view(-1), wanted) for kind in (Scanned, Rows))
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
        rows = Scanned(x, x.view(-1), wanted)
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
    late, early = Scanned(x, x.view(-1)), Scanned(x, x.view(-1), (), (0.05, 0.95))
    assert early.outside(0.05, 0.95) == late.outside(0.05, 0.95)
    assert early.outside(0.2, 0.95) == late.outside(0.2, 0.95) != early.outside(0.05, 0.95)
    shares = ((x < 0.05) | (x > 0.95)).double().mean((0, 2, 3)).numpy()
    assert early.channel_outside(0.05, 0.95) == pytest.approx(shares)
    assert Scanned(x, x.view(-1), ("active",)).above(0.0) == late.above(0.0) == 1.0
    assert Scanned(x, x.view(-1), ("active",)).above(0.5) == late.above(0.5)


def test_without_a_compiler_torch_reads(monkeypatch):
    x = normal(4, 3, 5, 5)
    assert type(rows_of(x, x.view(-1))) is Scanned
    assert type(rows_of(x.double(), x.double().view(-1))) is Rows
    monkeypatch.setenv("BNSTUDY_KERNEL", "off")
    for known in (compiling.compiled, scanned.scanner):
        known.cache_clear()
    try:
        assert type(rows_of(x, x.view(-1))) is Rows
    finally:
        for known in (compiling.compiled, scanned.scanner):
            known.cache_clear()
