"""Premises: refusals, defaults, and their part in a claim and a plan."""

import dataclasses

import pytest

from bnstudy.config import canonical_json
from bnstudy.errors import ConfigError
from bnstudy.plan import Estimand, Premise
from tests.synthetic.examples import ACCURACY, ORDER, SLOPE, STEPS, claim
from tests.synthetic.studies import claims_plan

PAIR = (("bn",), ("none",))
GRID = Estimand("loss", (("a", "b", "c"),), {"epochs": 1}, summary="slope", levels=(1, 2, 4))
FLAT = {"last": 2, "tolerance": 0.005}


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (
            "trainde",
            {"arms": PAIR},
            "there is no kind of premise 'trainde': did you mean 'trained'?",
        ),
        (
            "trained",
            {},
            "premise 'trained' is about arms, got neither arms nor an estimand",
        ),
        (
            "trained",
            {"estimand": ACCURACY},
            "premise 'trained' is about arms, got an estimand",
        ),
        (
            "effect-there",
            {"arms": PAIR, "options": {"direction": "less"}},
            "premise 'effect-there' is about an estimand, got arms",
        ),
        (
            "equal-fit",
            {"arms": PAIR, "estimand": ACCURACY, "options": {"margin": 0.1}},
            "premise 'equal-fit' is about arms or an estimand, got arms and an estimand",
        ),
        (
            "trained",
            {"arms": ("bn", "none")},
            "the arms of premise 'trained' must be tuples of names, one per group, got "
            "('bn', 'none')",
        ),
        (
            "trained",
            {"arms": (("bn",), ())},
            "the arms of premise 'trained' must be tuples of names, one per group, got "
            "(('bn',), ())",
        ),
        (
            "equal-fit",
            {"arms": (("bn",), ("bn",)), "options": {"margin": 0.1}},
            "premise 'equal-fit' names each arm once, got (('bn',), ('bn',))",
        ),
        (
            "equal-fit",
            {"arms": (("a",), ("b",), ("c",)), "options": {"margin": 0.1}},
            "premise 'equal-fit' compares two groups of arms, got 3: (('a',), ('b',), ('c',))",
        ),
        (
            "equal-fit",
            {"estimand": dataclasses.replace(ACCURACY, arms=(("a",),)), "options": {"margin": 0.1}},
            "premise 'equal-fit' compares two groups of arms, got 1: (('a',),)",
        ),
        (
            "trained",
            {"arms": PAIR, "options": {"abov": 0.1}},
            "there is no option of premise 'trained' 'abov': did you mean 'above'?",
        ),
        (
            "flat",
            {"arms": PAIR, "options": {"epochs": 8}},
            "premise 'flat' needs last and tolerance, got none",
        ),
        (
            "trained",
            {"arms": PAIR, "options": {"above": 0}},
            "above of premise 'trained' must be a number between 0 and 1, got 0",
        ),
        (
            "trained",
            {"arms": PAIR, "options": {"above": True}},
            "above of premise 'trained' must be a number between 0 and 1, got True",
        ),
        (
            "trained",
            {"arms": PAIR, "options": {"epochs": "all"}},
            "epochs of premise 'trained' must be a number 0 (all epochs) or above, got 'all'",
        ),
        (
            "flat",
            {"arms": PAIR, "options": {**FLAT, "tolerance": float("nan")}},
            "tolerance of premise 'flat' must be a number above 0, got nan",
        ),
        (
            "flat",
            {"arms": PAIR, "options": {**FLAT, "epochs": 2}},
            "the last epochs of premise 'flat' must be fewer than all of them, got 2 of 2",
        ),
        (
            "flat",
            {"arms": PAIR, "options": {**FLAT, "column": "test_acuracy"}},
            "there is no column of premise 'flat' 'test_acuracy': did you mean 'test_accuracy'?",
        ),
        (
            "effect-there",
            {"estimand": ACCURACY, "options": {"direction": "within"}},
            "there is no direction of premise 'effect-there' 'within': choose one of greater, less",
        ),
        (
            "effect-there",
            {"estimand": ORDER, "options": {"direction": "less"}, "unit": "of rank"},
            "premise 'effect-there' needs a number per seed, and an order has none: take the slope",
        ),
        (
            "effect-there",
            {"estimand": SLOPE, "options": {"direction": "less"}},
            "premise 'effect-there' needs the unit of its estimand, got none: give one",
        ),
        (
            "no-effect-there",
            {"estimand": STEPS, "options": {"margin": 0.8}},
            "the margin of premise 'no-effect-there' is a factor above 1 where the estimand is a "
            "ratio, got 0.8",
        ),
        (
            "no-effect-there",
            {"estimand": ACCURACY, "options": {"margin": -0.01}},
            "margin of premise 'no-effect-there' must be a number above 0, got -0.01",
        ),
        (
            "bracketed",
            {"estimand": SLOPE},
            "premise 'bracketed' needs an estimand with three levels or more, all different, got "
            "(2, 4)",
        ),
        (
            "bracketed",
            {"estimand": dataclasses.replace(GRID, levels=(1, 2, 2))},
            "premise 'bracketed' needs an estimand with three levels or more, all different, got "
            "(1, 2, 2)",
        ),
        (
            "bracketed",
            {"estimand": GRID, "options": {"best": "largest"}},
            "there is no best of premise 'bracketed' 'largest': did you mean 'least'?",
        ),
        (
            "bracketed",
            {"estimand": GRID, "options": {"share": 2}},
            "share of premise 'bracketed' must be a number in 0..1, got 2",
        ),
        (
            "equal-fit",
            {
                "estimand": Estimand("loss", PAIR, {"epochs": 4}),
                "options": {"margin": 0.1, "epochs": 4},
            },
            "premise 'equal-fit' of an estimand reads what the estimand says, got epochs 4 beside "
            "it: leave them out",
        ),
    ],
)
def test_an_impossible_premise_is_refused(kind, given, message):
    with pytest.raises(ConfigError) as refusal:
        Premise(kind, **given)
    assert str(refusal.value) == message


def test_options_and_units_are_filled_in():
    trained = Premise("trained", PAIR)
    assert (trained.options, trained.unit) == ({"above": 0.05, "epochs": 0.0}, "accuracy")
    assert trained == Premise("trained", PAIR, {"above": 0.05})
    flat = Premise("flat", PAIR, FLAT)
    assert (flat.options["column"], flat.unit) == ("test_accuracy_population", "points")
    loss = Premise("flat", PAIR, {**FLAT, "column": "validation_loss"})
    assert loss.unit == "of loss"
    assert Premise("equal-fit", PAIR, {"margin": 0.01}).unit == "of loss"
    control = {"direction": "greater"}
    assert Premise("effect-there", options=control, estimand=STEPS).unit == "times"
    assert Premise("effect-there", options=control, estimand=ACCURACY).unit == "points"
    grid = Premise("bracketed", estimand=GRID)
    assert (grid.options, grid.unit) == ({"best": "greatest", "share": 0.0}, "level")


def test_a_claim_is_about_the_arms_of_its_premises_too():
    made = claim(premises=(Premise("trained", (("gn", "bn"),)),))
    assert made.arm_names == ("bn", "none", "gn")
    with pytest.raises(ConfigError) as refusal:
        claims_plan(made)
    assert str(refusal.value) == "there is no arm 'gn': choose one of none, bn"


@pytest.mark.parametrize(
    ("premise", "given"),
    [
        (Premise("trained", PAIR, {"epochs": 9}), "epochs 9"),
        (Premise("flat", PAIR, {**FLAT, "epochs": 9}), "epochs 9, last 2"),
        (Premise("flat", PAIR, {**FLAT, "last": 4}), "last 4"),
    ],
)
def test_a_premise_reads_epochs_that_are_trained(premise, given):
    with pytest.raises(ConfigError) as refusal:
        claims_plan(claim(premises=(premise,)))
    assert str(refusal.value) == (
        f"premise {premise.kind!r} of claim 'speed' must read epochs that arm 'bn' is trained for, "
        f"4, got {given}: ask for fewer"
    )


def test_a_claim_states_a_premise_once():
    trained = Premise("trained", PAIR)
    with pytest.raises(ConfigError) as refusal:
        claim(premises=(trained, trained))
    assert str(refusal.value) == (
        "claim 'speed' states a premise twice, got the kinds ['trained', 'trained']"
    )


def test_a_premise_changes_the_hash_of_a_plan():
    premises = [
        (),
        (Premise("trained", PAIR),),
        (Premise("trained", PAIR, {"above": 0.1}),),
        (Premise("trained", (("bn",),)),),
        (Premise("flat", PAIR, FLAT),),
        (Premise("no-effect-there", options={"margin": 0.01}, estimand=ACCURACY),),
        (Premise("no-effect-there", options={"margin": 1.25}, estimand=STEPS),),
    ]
    hashes = {claims_plan(claim(premises=each)).sha256 for each in premises}
    assert len(hashes) == len(premises)
    one, two = (Premise("trained", PAIR, {"epochs": epochs}) for epochs in (2, 2.0))
    assert canonical_json(claim(premises=(one,)).canonical()) == canonical_json(
        claim(premises=(two,)).canonical()
    )
