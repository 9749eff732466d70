"""Claims: refusals, defaults and canonical JSON."""

import dataclasses
import json

import pytest

from bnstudy.config import canonical_json
from bnstudy.errors import ConfigError
from bnstudy.plan import Claim, Estimand, Pilot, Variant
from tests.synthetic.examples import ORDER, SLOPE, STEPS

PAIR = (("bn",), ("none",))


def claim(**changes):
    settings = {
        "id": "speed",
        "sentence": "BN reaches the target in fewer steps.",
        "source": "Ioffe & Szegedy 2015",
        "estimand": STEPS,
        "unit": "times",
        "direction": "less",
        "test": "sign-flip",
    }
    return Claim(**{**settings, **changes})


SAME = {"direction": "within", "test": "tost", "margin": 1.25}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "Speed!"}, "a claim's id must be lower-case letters, digits and '-', got 'Speed!'"),
        ({"sentence": " "}, "claim 'speed' needs a sentence, got none"),
        ({"unit": " "}, "claim 'speed' needs a unit, got none"),
        (
            {"source": "folklore"},
            "the source of claim 'speed' must state a year, or the notes be quoted, got 'folklore'",
        ),
        (
            {"direction": "different"},
            "there is no direction 'different': choose one of greater, less, within",
        ),
        (
            {"test": "anova"},
            "there is no test 'anova': choose one of sign-flip, t, sign, tost, page",
        ),
        (
            {"family": "x"},
            "there is no family 'x': choose one of primary, secondary, explored",
        ),
        (
            {"test": "tost"},
            "claim 'speed': 'within' is tested by 'tost', and nothing else is, "
            "got direction 'less' with test 'tost'",
        ),
        (
            {"test": "page"},
            "claim 'speed': an 'order' is tested by 'page', and nothing else is, "
            "got summary 'value' with test 'page'",
        ),
        (
            {"margin": 2.0},
            "claim 'speed': a claim of equivalence, and no other, has a margin, "
            "got 2.0 with direction 'less'",
        ),
        (
            {**SAME, "margin": None},
            "claim 'speed': a claim of equivalence, and no other, has a margin, "
            "got None with direction 'within'",
        ),
        ({**SAME, "margin": 1.0}, "claim 'speed': its margin must be above 1, got 1.0"),
        (
            {**SAME, "margin": 0.0, "estimand": dataclasses.replace(STEPS, scale="difference")},
            "claim 'speed': its margin must be above 0, got 0.0",
        ),
        (
            {"centre": -1.0},
            "claim 'speed': its centre must be finite, and positive for a ratio, got -1.0",
        ),
        (
            {"estimand": ORDER, "test": "page", "centre": 0.5},
            "claim 'speed': an order has no centre, got 0.5",
        ),
        (
            {"robustness": (Variant("x"), Variant("x"))},
            "each robustness check of claim 'speed' needs a label of its own, got ['x', 'x']",
        ),
        (
            {"robustness": (Variant("x", test="tost"),)},
            "claim 'speed': 'within' is tested by 'tost', and nothing else is, "
            "got direction 'less' with test 'tost'",
        ),
    ],
)
def test_an_impossible_claim_is_refused(changes, message):
    with pytest.raises(ConfigError) as refusal:
        claim(**changes)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": "odds"}, "there is no measure scale 'odds': choose one of difference, ratio"),
        ({"arms": (("a",),) * 3}, "compares 1, 2 or 4 groups of arms, got 3"),
        ({"arms": ((),)}, "compares 1, 2 or 4 groups of arms, got 1"),
        ({"levels": (1.0, 2.0)}, "levels are for slopes, ranges, knees and orders"),
        ({"arms": (("a", "b"),)}, "each group of a value must have 1 arms"),
        ({"summary": "slope"}, "a slope needs at least two different levels"),
        (
            {"summary": "slope", "levels": (0, 1), "arms": (("a", "b"),), "level_scale": "log2"},
            "levels on a logarithmic scale must be positive",
        ),
        (
            {"summary": "range", "levels": (1, 2), "arms": (("a", "b"),)},
            "a range is already measured in decades: use the scale 'difference'",
        ),
        (
            {"summary": "order", "levels": (1, 2), "arms": (("a", "b"), ("c", "d"))},
            "an order is tested within one group of arms, got several",
        ),
        ({"summary": "correlation"}, "a correlation, and no other summary, is against a second"),
        ({"against": "loss"}, "a correlation, and no other summary, is against a second"),
        ({"summary": "correlation", "against": "loss"}, "over one group of three arms or more"),
        (
            {"summary": "correlation", "against": "loss", "arms": (("a", "b"),)},
            "or over the seeds of one arm, got (('a', 'b'),)",
        ),
        (
            {"summary": "correlation", "against": "loss", "arms": (("a",),)},
            "takes the scale 'difference' and no levels, got 'ratio' and ()",
        ),
    ],
)
def test_an_impossible_estimand_is_refused(changes, message):
    with pytest.raises(ConfigError) as refusal:
        dataclasses.replace(STEPS, **changes)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("pilot", "message"),
    [
        ((float("nan"), 1.0, (1000, 1001)), "a pilot's effect and spread must be finite"),
        ((0.0, -1.0, (1000, 1001)), "a pilot's effect and spread must be finite"),
        ((0.0, 1.0, (1000,)), "a pilot's spread needs two seeds or more, got (1000,)"),
        ((0.0, 1.0, (1000, 1001), 1.5), "a pilot's censored share is in 0..1, got 1.5"),
    ],
)
def test_an_impossible_pilot_is_refused(pilot, message):
    with pytest.raises(ConfigError) as refusal:
        Pilot(*pilot)
    assert message in str(refusal.value)


def test_the_notes_need_no_year_when_they_are_quoted():
    assert claim(source="the notes", quote="speeds up convergence").quote


@pytest.mark.parametrize(
    ("estimand", "unit"),
    [
        (STEPS, "times"),
        (Estimand("accuracy", PAIR), "points"),
        (Estimand("accuracy", PAIR, scale="ratio"), "times"),
    ],
)
def test_a_ratio_is_in_times_and_a_difference_of_accuracies_in_points(estimand, unit):
    assert claim(estimand=estimand, unit="").unit == unit
    assert claim(estimand=estimand, unit="of my own").unit == "of my own"


@pytest.mark.parametrize("estimand", [Estimand("loss", PAIR), SLOPE])
def test_any_other_number_needs_a_unit(estimand):
    with pytest.raises(ConfigError) as refusal:
        claim(estimand=estimand, unit="")
    assert str(refusal.value) == "claim 'speed' needs a unit, got none"


def test_a_margin_is_tested_by_tost_and_all_else_by_sign_flips_unless_said():
    assert claim(test="").test == "sign-flip"
    assert claim(direction="within", margin=1.25, test="").test == "tost"
    assert claim(test="") == claim(test="sign-flip")
    assert claim(test="").canonical()["test"] == "sign-flip"


def test_the_canonical_form_holds_every_field_and_is_json():
    full = claim(
        pilot=Pilot(-0.3, 0.1, (1000, 1001)),
        robustness=(Variant("75 %", options={"target": 0.75}),),
    )
    plain = json.loads(canonical_json(full.canonical()))
    assert set(plain) == {field.name for field in dataclasses.fields(Claim)}
    assert set(plain["estimand"]) == {field.name for field in dataclasses.fields(Estimand)}
    assert plain["robustness"][0]["options"] == {"target": 0.75}
    assert plain["estimand"]["arms"] == [["bn"], ["none"]]


def test_a_whole_number_and_its_float_are_one_setting():
    one = claim(estimand=dataclasses.replace(STEPS, options={"target": 0.8, "epochs": 4}))
    two = claim(estimand=dataclasses.replace(STEPS, options={"target": 0.8, "epochs": 4.0}))
    assert canonical_json(one.canonical()) == canonical_json(two.canonical())


def test_a_variant_changes_what_it_says_and_nothing_else():
    base = claim(robustness=(Variant("75 %", options={"target": 0.75}, test="sign"),))
    varied = base.varied(base.robustness[0])
    assert varied.estimand.options == {"target": 0.75, "epochs": 4}
    assert varied.test == "sign"
    assert dataclasses.replace(varied, estimand=STEPS, test="sign-flip") == claim()
