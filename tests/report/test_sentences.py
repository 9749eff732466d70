"""Sentences on claims and verdicts: outcome, rule, runs, reliability."""

import dataclasses
import itertools
import json
import math

import pytest

from bnstudy.config import canonical_json
from bnstudy.judging import Calibration, FamilyError, Outcome, claimed_range, judge
from bnstudy.plan import Estimand
from bnstudy.report.claim_tables import power_table
from bnstudy.report.sentences import (
    NOT_CALIBRATED,
    verdict_record,
    write_claimed_range,
    write_data_basis,
    write_reliability,
    write_rule,
    write_sentence,
)
from tests.report.made_verdicts import verdict
from tests.synthetic import examples, studies

NAN = float("nan")
FAST = [80, 90, 100, 110, 120, 80, 90, 100, 110, 120]
SLOW = [240, 260, 280, 300, 320, 340, 240, 250, 260, 270]
DEGENERATE = {
    "tied": {"bn": [100] * 10, "none": [100] * 10},
    "constant": {"bn": [100] * 10, "none": [200] * 10},
    "censored": {"bn": [NAN] * 10, "none": [NAN] * 10},
    "one arm censored": {"bn": [NAN] * 10, "none": [100] * 10},
}
CALIBRATION = Calibration(
    2000, (FamilyError("primary", ("speed",), 2, 0.021, 0.003),), {"speed": 0.87}
)


def judged(claim, seeds=10, **given):
    """The verdict on a claim whose runs have given figures."""
    plan = studies.claims_plan(claim, seeds=seeds)
    (found,) = judge(
        plan, studies.tables(plan, **given), json.loads(canonical_json(plan.canonical()))
    )
    return found


def test_the_sentence_says_all_of_it():
    reached = {"bn": [100] * 10, "none": [200] * 8 + [NAN] * 2}
    found = judged(examples.claim(), reached=reached, diverged=[("none", 9)])
    assert write_sentence(found) == (
        'The data support "BN reaches the target in fewer steps"; estimated 0.44 times '
        "(95% interval 0.00 to 0.50); p ≤ 0.002, after Holm's correction over 1 primary claim "
        "≤ 0.002; 10 seeds, 20 runs, 2 censored, 1 diverged."
    )


def test_the_sentence_warns_where_the_horizon_cuts_most_of_an_arm():
    warning = "(more than half of an arm, so the effect is that within the horizon)."
    for lost, warned in ((5, False), (6, True)):
        reached = {"bn": FAST, "none": [200] * (10 - lost) + [NAN] * lost}
        found = judged(examples.claim(), reached=reached)
        assert found.outcome is Outcome.SUPPORTED
        assert write_sentence(found).endswith(warning) == warned == found.crowded


@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
@pytest.mark.parametrize("reached", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("lost", [(), ("bn",), ("bn", "none")])
@pytest.mark.parametrize("test", ["sign-flip", "t", "sign", "tost"])
def test_no_sentence_holds_what_is_no_number(seeds, reached, lost, test):
    changes = {"direction": "within", "margin": 1.25} if test == "tost" else {}
    diverged = list(itertools.product(lost, range(seeds)))
    claim = examples.claim(test=test, **changes)
    found = judged(claim, seeds=seeds, reached=reached, diverged=diverged)
    sentence = write_sentence(found).lower().replace("infer", "")
    assert "nan" not in sentence
    assert "inf" not in sentence
    assert "none times" not in sentence


def test_missing_runs_one_seed_exploration_and_a_changed_plan_have_their_sentences():
    runs = {"bn": FAST, "none": SLOW}
    missing = judged(examples.claim(), reached=runs, missing=[("bn", 3)])
    assert write_sentence(missing) == (
        'There are no data to judge "BN reaches the target in fewer steps" '
        "(missing are runs of bn (1 of 10))."
    )
    single = write_sentence(judged(examples.claim(), seeds=1, reached={"bn": [90], "none": [300]}))
    assert "one seed says nothing about the spread" in single
    assert "no interval from 1 seed" in single
    explored = write_sentence(judged(examples.claim(family="explored"), reached=runs))
    assert explored.startswith('Explored without a verdict: "BN reaches')
    changed = write_sentence(verdict(outcome=Outcome.DEVIATED))
    assert changed.startswith("A changed plan cannot judge")


def test_a_record_is_the_verdict_and_its_sentence():
    found = verdict()
    record = verdict_record(found)
    assert record.pop("sentence") == write_sentence(found)
    assert record == found.as_dict()


@pytest.mark.parametrize(
    ("claim", "expected", "written"),
    [
        (examples.claim(direction="less"), (0.0, 1.0), "below 1.00"),
        (examples.claim(direction="greater", centre=0.8), (0.8, math.inf), "above 0.80"),
        (
            examples.claim(
                direction="within", test="tost", margin=1.25, pilot=examples.accuracy_claim().pilot
            ),
            (0.8, 1.25),
            "0.80 to 1.25",
        ),
        (examples.accuracy_claim(margin=0.01, centre=0.02), (0.01, 0.03), "+1.00 to +3.00"),
        (
            examples.claim(
                estimand=examples.ACCURACY, unit="points", direction="less", centre=0.005
            ),
            (-math.inf, 0.005),
            "below +0.50",
        ),
    ],
)
def test_the_claimed_range_is_that_of_the_rule(claim, expected, written):
    assert claimed_range(claim) == pytest.approx(expected)
    assert write_claimed_range(claim) == written


def test_reliability_states_error_and_power_of_the_simulated_studies():
    plan = studies.claims_plan(examples.claim(), examples.accuracy_claim())
    said = " ".join(write_reliability(plan, CALIBRATION))
    assert "2,000 simulated studies" in said
    assert "2.1%" in said
    assert "1 primary claim of the 2" in said
    assert power_table(plan, CALIBRATION).rows == (
        ("BN reaches the target in fewer steps.", "87.0%"),
    )


def test_reliability_says_that_nothing_was_simulated():
    plan = studies.claims_plan(examples.claim())
    assert write_reliability(plan, None) == (NOT_CALIBRATED,)
    assert write_reliability(studies.claims_plan(), CALIBRATION) == ()
    assert power_table(plan, None) is power_table(studies.claims_plan(), CALIBRATION) is None


def test_a_judgement_says_which_data_it_rests_on():
    assert write_data_basis(verdict()) == (
        "Based on 20 runs, 10 seeds of every arm; 1 censored and 2 diverged; none is left out."
    )
    whole = dataclasses.replace(verdict(), censored=0, diverged=0)
    assert "; none censored or diverged; none is left out." in write_data_basis(whole)
    empty = dataclasses.replace(verdict().result, effect=None)
    missing = dataclasses.replace(verdict(), result=empty)
    assert write_data_basis(missing).endswith("not all of them can be read.")


def test_an_explored_rule_promises_no_verdict():
    assert write_rule(examples.claim()).startswith("Measured: steps-to-target")
    assert "Supported if" in write_rule(examples.claim())
    explored = write_rule(examples.claim(family="explored"))
    assert "Supported" not in explored
    assert "no verdict" in explored


def test_a_rule_says_how_the_second_reading_differs_and_what_ranks_are_compared_with():
    options = {"epochs": 10, "statistics": "running"}
    twice = Estimand("accuracy", (("bn",), ("bn",)), options, {"statistics": "population"})
    assert write_rule(examples.claim(estimand=twice, unit="points")).startswith(
        "Measured: accuracy (epochs 10, statistics running): bn against bn "
        "(statistics population). "
    )
    ranks = Estimand(
        "probe",
        (("none", "bn", "group"),),
        {"probe": "geometry", "stat": "cosine"},
        summary="correlation",
        against="steps-to-target",
        against_options={"target": 0.7},
    )
    assert write_rule(examples.claim(estimand=ranks, unit="of rank")).startswith(
        "Measured: probe (probe geometry, stat cosine), its rank correlation with steps-to-target "
        "(target 0.7): none + bn + group. "
    )
