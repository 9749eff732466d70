"""The one formatter: numbers and missing values as a reader would write them."""

import math

import pytest

from bnstudy.inference import Interval
from bnstudy.report import text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize(
    "write",
    [
        text.percent,
        text.points,
        text.loss,
        text.steps,
        text.factor,
        text.fine_points,
        text.significant,
    ],
)
def test_what_is_no_number_is_written_as_a_dash(write, value):
    assert write(value) == "–"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.percent(0.8434), "84.3%"),
        (text.points(-0.22849), "−22.8"),
        (text.points(0.22849), "+22.8"),
        (text.points(-0.0001), "+0.0"),
        (text.factor(4.1249), "4.12"),
        (text.factor(13.37), "13.4"),
        (text.factor(9.996), "10.0"),
        (text.factor(99.96), "100"),
        (text.factor(0.03841), "0.0384"),
        (text.factor(0.0), "0.00"),
        (text.factor(0.0996), "0.10"),
        (text.effect(-0.0215, "points"), "−2.15"),
        (text.effect(14.35, "times"), "14.3"),
        (text.effect(-0.4981, "of loss"), "−0.498"),
        (text.p_value(0.00123), "0.0012"),
        (text.p_value(1e-7), "< 0.0001"),
        (text.p_value(None), "–"),
        (text.p_value(0.00123, smallest=True), "≤ 0.0012"),
        (text.p_value(1e-7, smallest=True), "< 0.0001"),
        (text.p_value(1.0, smallest=True), "1"),
        (text.p_equation(0.00123), "p = 0.0012"),
        (text.p_equation(0.00123, smallest=True), "p ≤ 0.0012"),
        (text.p_equation(1e-7), "p < 0.0001"),
        (text.power_of_ten(1e-4), "10⁻⁴"),
        (text.power_of_ten(0.5), "0.5"),
        (text.tick(2000.0), "2,000"),
        (text.tick(0.03), "0.03"),
        (text.factor(271_703.1), "272,000"),
        (text.steps(2150.4), "2,150"),
        (text.steps(47.0), "47"),
        (text.steps(47.5), "47.5"),
        (text.steps(math.exp(math.log(80.0))), "80"),  # 80 up to rounding
        (text.whole(1234.4), "1,234"),
        (text.fine_percent(0.84314), "84.31%"),
        (text.unsigned_points(0.0123), "1.2"),
        (text.tick(20_000.0), "20,000"),
        (text.tick(0.25), "0.25"),
        (text.percent_tick(0.57), "57%"),
        (text.percent_tick(0.825), "82.5%"),
        (text.power_of_ten(3e-4), "0.0003"),
        (text.target(0.7), "70%"),
        (text.target(0.825), "82.5%"),
        (text.duration(59.6), "1 min 0 s"),
        (text.duration(7265), "2 h 1 min"),
        (text.epoch_count(1.0), "1 epoch"),
        (text.epoch_count(2.4), "2.4 epochs"),
        (text.span("3.60", "–"), "–"),
        (text.listing(["a", "b", "c"]), "a, b and c"),
        (text.setting(True), "yes"),
        (text.setting(60_000), "60,000"),
    ],
)
def test_numbers_are_written_as_one_would_say_them(written, expected):
    assert written == expected


def test_the_interval_of_one_seed_is_a_dash():
    assert text.interval_span(Interval(1.0, -math.inf, math.inf, 1), text.factor) == "–"


# Evidence -----------------------------------------------------------------------------


def test_an_effect_has_the_same_digits_with_and_without_its_interval():
    interval = Interval(14.349, 12.98, 15.831, 16)
    assert text.effect_interval(interval, "times") == "14.3 times (95% CI 13.0 to 15.8)"
    single = Interval(-0.0215, -math.inf, math.inf, 1)
    assert text.effect_interval(single, "points") == "−2.15 points, no interval"
    assert text.effect_interval(None, "times") == text.MISSING


def test_significant_numbers_have_three_digits_and_no_exponent():
    written = {272_341.0: "272,000", 9_996.0: "10,000", 0.0357: "0.0357", 4.17e-5: "0.0000417",
               -0.4981: "−0.498", 1.0: "1", 99.96: "100", 0.1: "0.1", 0.0: "0"}  # fmt: skip
    assert {value: text.significant(value) for value in written} == written
