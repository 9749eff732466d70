"""Verdicts on small studies whose answer is known by construction."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from bnstudy.config import RunConfig, canonical_json
from bnstudy.errors import ConfigError, NotMeasuredError
from bnstudy.judging import Outcome, judge, measure, shortfalls
from bnstudy.judging.measures import Reading, Run, read, registry
from bnstudy.plan import Estimand, Variant
from bnstudy.runs.tables import Tables
from tests.identities import FASHION
from tests.synthetic.examples import (
    ACCURACY,
    EPOCHS,
    FAST,
    HORIZON,
    NAN,
    SLOW,
    STEPS,
    accuracy_claim,
    claim,
)
from tests.synthetic.studies import claims_plan as plan
from tests.synthetic.studies import tables


def frozen(plan):
    return json.loads(canonical_json(plan.canonical()))


def verdicts(plan, tables, stored=None):
    return judge(plan, tables, frozen(stored or plan))


def one(claim, seeds=10, arms=("none", "bn"), **given):
    made = plan(claim, seeds=seeds, arms=arms)
    (verdict,) = verdicts(made, tables(made, **given))
    return verdict


# The words ------------------------------------------------------------------------------


def test_a_clear_effect_supports_its_claim():
    verdict = one(claim(), reached={"bn": FAST, "none": SLOW})
    log = np.log(np.array(FAST) / np.array(SLOW))
    assert verdict.outcome is Outcome.SUPPORTED
    assert verdict.result.effect.estimate == pytest.approx(np.exp(log.mean()))
    assert verdict.result.p == 2 / 2**10 == verdict.p_adjusted
    assert (verdict.seeds, verdict.runs, verdict.censored, verdict.diverged) == (10, 20, 0, 0)


def test_the_opposite_refutes_it():
    verdict = one(claim(), reached={"bn": SLOW, "none": FAST})
    assert verdict.outcome is Outcome.REFUTED
    assert verdict.result.p == 2 / 2**10
    other = one(claim(direction="greater"), reached={"bn": SLOW, "none": FAST})
    assert other.outcome is Outcome.SUPPORTED


def test_swapping_the_arms_inverts_the_ratio_and_keeps_p():
    swapped = dataclasses.replace(STEPS, arms=STEPS.arms[::-1])
    there = one(claim(), reached={"bn": FAST, "none": SLOW})
    back = one(claim(estimand=swapped), reached={"bn": FAST, "none": SLOW})
    assert back.outcome is Outcome.REFUTED
    assert back.result.p == there.result.p
    assert back.result.effect.estimate == pytest.approx(1 / there.result.effect.estimate)
    assert back.result.effect.low == pytest.approx(1 / there.result.effect.high)


def test_no_effect_is_inconclusive():
    verdict = one(claim(), reached={"bn": FAST, "none": FAST[::-1]})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "p is above 0.05 after Holm's correction"


# Censored, diverged, missing ------------------------------------------------------------


def test_censored_pairs_are_kept_and_dropping_them_would_change_the_verdict():
    slow = [100, 90, 110, 80, NAN, NAN, NAN, NAN, NAN, NAN]
    fast = [90, 100, 100, 90, 110, 120, 130, 140, 150, 160]
    kept = one(claim(), reached={"bn": fast, "none": slow})
    assert (kept.outcome, kept.censored, kept.seeds) == (Outcome.SUPPORTED, 6, 10)
    steps = np.nan_to_num(np.array(slow), nan=HORIZON)
    assert kept.result.effect.estimate == pytest.approx(np.exp(np.log(fast / steps).mean()))
    reached = [seed for seed in range(10) if not np.isnan(slow[seed])]
    pairs = {"bn": [fast[s] for s in reached], "none": [slow[s] for s in reached]}
    assert one(claim(), seeds=len(reached), reached=pairs).outcome is Outcome.INCONCLUSIVE


def test_a_diverged_run_counts_as_never_reaching_and_as_guessing():
    lost = [("none", seed) for seed in range(10)]
    speed = one(claim(), reached={"bn": FAST}, diverged=lost)
    assert (speed.outcome, speed.censored, speed.diverged) == (Outcome.SUPPORTED, 10, 10)
    accuracy = one(claim(estimand=ACCURACY, direction="greater", unit="points"), diverged=lost)
    assert accuracy.result.effect.estimate == pytest.approx(0.85 - 0.1)


@pytest.mark.parametrize("made", [claim(), accuracy_claim()])
def test_where_every_run_diverged_there_is_nothing_to_compare(made):
    lost = list(itertools.product(("bn", "none"), range(10)))
    verdict = one(made, diverged=lost)
    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, "every run diverged")


def test_arms_that_are_cut_at_one_horizon_are_not_equal():
    equal = claim(direction="within", test="tost", margin=1.25)
    never = {"bn": [NAN] * 10, "none": [NAN] * 10}
    verdict = one(equal, reached=never)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "more than half of the runs of an arm were cut short"
    assert one(claim(), reached=never).outcome is Outcome.INCONCLUSIVE


def test_a_claim_of_hardly_any_effect_is_not_supported_by_what_the_horizon_hides():
    hardly = claim(
        estimand=dataclasses.replace(STEPS, arms=STEPS.arms[::-1]), centre=1.25, direction="less"
    )
    bn, never = {"bn": [HORIZON - 50] * 10}, [NAN] * 6  # at the horizon the ratio is 1.14
    verdict = one(hardly, reached={**bn, "none": [HORIZON] * 4 + never})
    assert verdict.result.effect.estimate < 1.25
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "more than half of the runs of an arm were cut short"
    assert one(hardly, reached={**bn, "none": [HORIZON] * 10}).outcome is Outcome.SUPPORTED
    # what shows in spite of the horizon may contradict it
    assert one(hardly, reached={"bn": FAST, "none": [NAN] * 10}).outcome is Outcome.REFUTED


def test_one_missing_run_makes_a_claim_inadmissible():
    verdict = one(claim(), reached={"bn": FAST, "none": SLOW}, missing=[("bn", 3)])
    assert verdict.outcome is Outcome.INADMISSIBLE
    assert verdict.reason == "missing are runs of bn (1 of 10)"
    assert verdict.result.p is verdict.p_adjusted is verdict.result.effect is None


def test_what_was_not_measured_is_missing():
    unmeasured = {"bn": {"test_accuracy_population": [[NAN] * EPOCHS] * 10}}
    verdict = one(accuracy_claim(), values=unmeasured)
    assert verdict.reason == (
        "missing are bn: test_accuracy_population was not measured after 4 epochs (10 of 10)"
    )
    longer = dataclasses.replace(STEPS, options={"target": 0.8, "epochs": 9})
    assert "9 epochs are read, 4 are trained" in one(claim(estimand=longer)).reason


def test_one_seed_is_inconclusive():
    verdict = one(claim(), seeds=1, reached={"bn": [90], "none": [300]})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "one seed says nothing about the spread"
    assert (verdict.result.effect.low, verdict.result.effect.high) == (0.0, np.inf)


# Equivalence ----------------------------------------------------------------------------


def accuracies(mean, spread=0.003, n=10):
    noise = np.array(scipy.stats.norm.ppf((np.arange(n) + 0.5) / n))
    return {"test_accuracy_population": (mean + spread * noise).tolist()}


@pytest.mark.parametrize(
    ("gain", "outcome"),
    [
        (0.001, Outcome.SUPPORTED),
        (0.009, Outcome.INCONCLUSIVE),
        (0.011, Outcome.INCONCLUSIVE),
        (0.03, Outcome.REFUTED),
        (-0.03, Outcome.REFUTED),
    ],
)
def test_equivalence_is_supported_within_and_refuted_beyond_the_margin(gain, outcome):
    verdict = one(accuracy_claim(), values={"bn": accuracies(0.85 + gain)})
    assert verdict.outcome is outcome
    assert verdict.result.effect.estimate == pytest.approx(gain)
    within = abs(gain) < 0.01
    # The level of the interval is that of the test which the estimate selects.
    assert verdict.result.effect.confidence == pytest.approx(0.9 if within else 0.95)
    assert verdict.result.as_claimed == within


def test_a_margin_of_a_ratio_is_the_same_factor_both_ways():
    equal = claim(direction="within", test="tost", margin=1.25)
    for bn, none in ((100, 110), (110, 100)):
        assert one(equal, reached={"bn": [bn] * 10, "none": [none] * 10}).outcome == "SUPPORTED"
    for bn, none in ((100, 130), (130, 100)):
        assert one(equal, reached={"bn": [bn] * 10, "none": [none] * 10}).outcome == "REFUTED"


def test_a_direction_may_ask_for_more_than_nothing():
    at_least_twice = claim(centre=0.5)
    assert one(at_least_twice, reached={"bn": FAST, "none": SLOW}).outcome == "SUPPORTED"
    slower = {"bn": [200] * 10, "none": [300] * 10}
    assert one(at_least_twice, reached=slower).outcome == "REFUTED"
    assert one(claim(), reached=slower).outcome == "SUPPORTED"


# What is read ---------------------------------------------------------------------------


def test_targets_are_read_on_validation_and_accuracy_on_population_statistics():
    values = {
        "bn": {"test_accuracy": [0.3] * 10, "train_accuracy": [0.99] * 10},
        "none": {"test_accuracy": [0.99] * 10},
    }
    assert one(claim(), reached={"bn": FAST, "none": SLOW}, values=values).outcome == "SUPPORTED"
    assert one(accuracy_claim(), values=values).result.effect.estimate == 0.0


def test_one_arm_can_be_read_in_two_ways():
    running = dataclasses.replace(
        ACCURACY,
        arms=(("bn",), ("bn",)),
        options={"epochs": EPOCHS, "statistics": "running"},
        baseline_options={"statistics": "population"},
    )
    eval_stats = claim(estimand=running, unit="points", test="t")
    verdict = one(eval_stats, values={"bn": {"test_accuracy": [0.8 - i / 1000 for i in range(10)]}})
    assert verdict.outcome is Outcome.SUPPORTED
    assert verdict.result.effect.estimate == pytest.approx(0.8 - 0.0045 - 0.85)
    assert verdict.runs == 10


def test_the_deviation_over_epochs_is_compared_as_a_ratio():
    wild = [[0.8, 0.7, 0.85, 0.75]] * 10
    estimand = Estimand(
        "accuracy-deviation",
        (("bn",), ("bn",)),
        {"epochs": EPOCHS, "last": 3, "statistics": "running"},
        {"statistics": "population"},
        scale="ratio",
    )
    values = {
        "bn": {"test_accuracy": wild, "test_accuracy_population": [[0.8, 0.8, 0.81, 0.8]] * 10}
    }
    verdict = one(claim(estimand=estimand, direction="greater"), values=values)
    ratio = np.std([0.7, 0.85, 0.75], ddof=1) / np.std([0.8, 0.81, 0.8], ddof=1)
    assert verdict.result.effect.estimate == pytest.approx(ratio)


def test_a_deviation_over_epochs_is_not_taken_over_more_of_them():
    estimand = Estimand(
        "accuracy-deviation", (("bn",), ("none",)), {"epochs": EPOCHS, "last": 2}, scale="ratio"
    )
    sparse = {"test_accuracy_population": [[NAN, 0.8, NAN, 0.9]] * 10}
    verdict = one(claim(estimand=estimand), values={"bn": sparse})
    assert verdict.reason == (
        "missing are bn: test accuracy was not measured in each of the last 2 epochs (10 of 10)"
    )


def test_a_slope_is_compared_to_its_predicted_exponent():
    sizes = (4.0, 16.0, 64.0)
    arms = [f"b={size:g}" for size in sizes]
    estimand = Estimand(
        "loss",
        (tuple(arms),),
        {"epochs": EPOCHS},
        summary="slope",
        levels=sizes,
        level_scale="log",
        scale="ratio",
    )
    law = accuracy_claim(estimand=estimand, unit="exponent", centre=-0.5, margin=0.05)
    rng = np.random.default_rng(0)
    for exponent, outcome in ((-0.5, "SUPPORTED"), (-0.8, "REFUTED")):
        values = {
            arm: {"test_loss_population": size**exponent * np.exp(rng.normal(0, 0.02, 10))}
            for arm, size in zip(arms, sizes, strict=True)
        }
        verdict = one(law, arms=arms, values=values)
        assert verdict.outcome == outcome
        assert verdict.result.effect.estimate == pytest.approx(exponent, abs=0.01)


def test_an_order_and_its_reverse():
    arms = ["g=8", "g=32", "g=128"]
    estimand = Estimand(
        "accuracy",
        (tuple(arms),),
        {"epochs": EPOCHS},
        summary="order",
        levels=(8, 32, 128),
    )
    grows = claim(estimand=estimand, direction="greater", test="page", unit="rank correlation")
    values = {
        arm: {"test_accuracy_population": [0.8 + 0.02 * place] * 10}
        for place, arm in enumerate(arms)
    }
    assert one(grows, arms=arms, values=values).outcome == "SUPPORTED"
    backwards = dataclasses.replace(estimand, arms=(tuple(arms[::-1]),))
    verdict = one(dataclasses.replace(grows, estimand=backwards), arms=arms, values=values)
    assert (verdict.outcome, verdict.result.effect.estimate) == ("REFUTED", pytest.approx(-1.0))


def test_a_range_of_learning_rates_is_in_decades():
    rates = (0.01, 0.1, 1.0, 10.0)
    bn, none = ([f"{norm}/{rate:g}" for rate in rates] for norm in ("bn", "none"))
    estimand = Estimand(
        "trains",
        (tuple(bn), tuple(none)),
        {"threshold": 0.7, "epochs": 3},
        summary="range",
        levels=rates,
    )
    wider = claim(estimand=estimand, direction="greater", centre=1.0, unit="decades")
    trained = {arm: {"train_accuracy": [0.8] * 10} for arm in (*bn, none[1])}
    verdict = one(wider, arms=[*bn, *none], values=trained, diverged=[(none[3], 0)])
    assert verdict.result.effect.estimate == pytest.approx(3.0)
    assert verdict.outcome is Outcome.SUPPORTED


def test_a_two_by_two_is_the_contrast_of_its_cells():
    cells = {"both": 0.84, "bn": 0.86, "dropout": 0.83, "neither": 0.80}
    estimand = dataclasses.replace(ACCURACY, arms=tuple((name,) for name in cells))
    values = {name: {"test_accuracy_population": [value] * 10} for name, value in cells.items()}
    verdict = one(claim(estimand=estimand, unit="points"), arms=list(cells), values=values)
    assert verdict.result.effect.estimate == pytest.approx((0.84 - 0.86) - (0.83 - 0.80))


def test_a_knee_is_found_where_two_lines_meet():
    sizes = (8, 16, 32, 64, 128, 256)
    arms = [f"b={size}" for size in sizes]
    estimand = Estimand(
        "loss",
        (tuple(arms),),
        {"epochs": EPOCHS},
        summary="knee",
        levels=sizes,
        level_scale="log2",
    )
    values = {
        arm: {"test_loss_population": [max(9 - np.log2(size), 3.0)] * 10}
        for arm, size in zip(arms, sizes, strict=True)
    }
    later = claim(estimand=estimand, direction="greater", centre=5.0, unit="doublings")
    assert one(later, arms=arms, values=values).result.effect.estimate == pytest.approx(6, abs=0.02)


ARMS = ("none", "layer", "group", "bn")


def correlated(*arms):
    return claim(
        estimand=Estimand(
            "steps-to-target",
            (arms,),
            {"target": 0.8, "epochs": EPOCHS},
            summary="correlation",
            against="loss",
            against_options={"epochs": EPOCHS},
        ),
        test="t",
        unit="rank correlation",
        family="explored",
    )


def test_a_correlation_over_arms_is_one_a_seed_and_keeps_the_censored():
    steps = {"none": [NAN] * 10, "layer": [300] * 10, "group": [200] * 10, "bn": [50] * 10}
    losses = {
        arm: {"test_loss_population": [value] * 9 + [1.0]}  # in the last seed all alike
        for arm, value in zip(ARMS, (0.1, 0.2, 0.4, 0.3), strict=True)
    }
    verdict = one(correlated(*ARMS), arms=ARMS, reached=steps, values=losses)
    in_a_seed = scipy.stats.spearmanr([400, 300, 200, 50], [0.1, 0.2, 0.4, 0.3]).statistic
    assert verdict.result.effect.estimate == pytest.approx(0.9 * in_a_seed)
    assert (verdict.runs, verdict.censored, verdict.outcome) == (40, 10, None)


def test_a_correlation_over_seeds_is_of_one_arm_and_needs_four_of_them():
    losses = {"bn": {"test_loss_population": [1.0 / step for step in FAST]}}
    verdict = one(correlated("bn"), reached={"bn": FAST}, values=losses)
    assert verdict.result.effect.estimate == pytest.approx(-1.0)
    few = one(correlated("bn"), seeds=3, reached={"bn": FAST}, values=losses)
    assert few.reason == "missing are seeds to correlate over, 4 or more (3 of 3)"
    gone = one(correlated("bn"), reached={"bn": FAST}, missing=[("bn", 2)])
    assert gone.reason == "missing are runs of bn (1 of 10)"


def test_a_plan_is_refused_for_what_no_second_measure_reads():
    wrong = dataclasses.replace(correlated("bn").estimand, against_options={"epoch": 3})
    with pytest.raises(ConfigError, match="measure 'loss' does not take the options"):
        shortfalls(plan(dataclasses.replace(correlated("bn"), estimand=wrong)))


def watched(rows, *, diverged=False):
    """A run in which a probe saw some (step, layer, value) of one statistic."""
    frame = pd.DataFrame(rows, columns=["step", "layer", "value"])
    frame = frame.assign(probe="activations", stat="std", tensor="output", channel=-1)
    empty = pd.DataFrame()
    return Run(RunConfig(epochs=EPOCHS), diverged, 100, empty, empty, frame, FASHION)


SEEN = [(0, "conv1", 1.0), (0, "fc1", 3.0), (100, "conv1", 2.0), (100, "fc1", 6.0)]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 3.0),
        ({"layer": "fc1"}, 4.5),
        ({"take": "last"}, 4.0),
        ({"end": 0.5}, 2.0),
        ({"start": 0.5, "layer": "conv1"}, 2.0),
    ],
)
def test_what_a_probe_saw_is_averaged(options, value):
    seen = {"probe": "activations", "stat": "std", **options}
    assert read(watched(SEEN), "probe", seen).value == value


def test_a_probe_of_a_diverged_run_counts_while_it_was_finite():
    seen, broken = {"probe": "activations", "stat": "std"}, [*SEEN, (200, "fc1", np.inf)]
    assert read(watched(broken, diverged=True), "probe", seen).value == 3.0
    for run, words in (
        (watched(broken), "probe is not finite"),
        (watched([]), "probe activations saw no std"),
    ):
        with pytest.raises(NotMeasuredError) as refusal:
            read(run, "probe", seen)
        assert str(refusal.value) == words


def test_two_arms_can_be_compared_in_two_readings_each():
    estimand = Estimand(
        "accuracy",
        (("bn",), ("bn",), ("none",), ("none",)),
        {"epochs": EPOCHS, "statistics": "population"},
        {"statistics": "running"},
    )
    values = {"bn": {"test_accuracy": [0.80] * 10}, "none": {"test_accuracy": [0.84] * 10}}
    verdict = one(claim(estimand=estimand, unit="points"), values=values)
    assert verdict.result.effect.estimate == pytest.approx((0.85 - 0.80) - (0.85 - 0.84))
    assert verdict.runs == 20


def test_a_measure_can_be_added_once_and_is_known_by_name():
    with pytest.raises(ConfigError) as refusal:
        measure("accuracy")(lambda run: None)
    assert str(refusal.value) == (
        "there is a measure 'accuracy' already, one of the package: choose another name"
    )
    with pytest.raises(ConfigError, match="there is no measure 'acuracy': did you mean 'accuracy'"):
        one(accuracy_claim(estimand=dataclasses.replace(ACCURACY, measure="acuracy")))
    with pytest.raises(ConfigError, match="measure 'accuracy' does not take the options"):
        one(accuracy_claim(estimand=dataclasses.replace(ACCURACY, options={"target": 0.8})))


@pytest.mark.parametrize("returned", [None, 0.5, Reading("much"), [0.5]])
def test_what_a_measure_returns_is_checked(returned, monkeypatch):
    monkeypatch.setattr(registry, "MEASURES", dict(registry.MEASURES))
    measure("mine")(lambda run: returned)
    with pytest.raises(ConfigError, match="measure 'mine' must return a Reading of a number, got"):
        one(accuracy_claim(estimand=dataclasses.replace(ACCURACY, measure="mine", options={})))
    with pytest.raises(ConfigError, match="measure 'mine' already: choose another name, or pass"):
        measure("mine")(lambda run: Reading(1.0))
    measure("mine", replace=True)(lambda run: Reading(np.float32(1.0)))


# The family and the frozen plan ---------------------------------------------------------


def test_holm_runs_over_the_whole_family_and_a_missing_claim_counts():
    made = plan(
        claim("speed"),
        claim("other"),
        accuracy_claim(estimand=dataclasses.replace(ACCURACY, arms=(("gn",), ("none",)))),
        arms=("none", "bn", "gn"),
    )
    found = verdicts(made, tables(made, {"bn": FAST, "none": SLOW}, missing=[("gn", 0)]))
    assert [each.outcome for each in found] == ["SUPPORTED", "SUPPORTED", "INADMISSIBLE"]
    assert [each.family for each in found] == [3, 3, 3]
    assert found[0].p_adjusted == pytest.approx(3 * found[0].result.p)


def test_a_family_can_be_too_large_for_the_seeds():
    claims = [claim(f"speed-{number}") for number in range(40)]
    made = plan(*claims)
    found = verdicts(made, tables(made, {"bn": FAST, "none": SLOW}))
    assert {each.outcome for each in found} == {Outcome.INCONCLUSIVE}


def test_an_explored_claim_has_an_estimate_and_nothing_else():
    made = plan(claim("speed"), claim("look", family="explored"))
    judged, explored = verdicts(made, tables(made, {"bn": FAST, "none": SLOW}))
    assert (judged.family, explored.family) == (1, 0)
    assert explored.outcome is explored.result.p is explored.p_adjusted is None
    assert explored.result.effect == judged.result.effect


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (plan(claim(centre=2.0)), "its centre changed after the runs began"),
        (plan(claim("other")), "it was registered after the runs began"),
        (plan(), "it was registered after the runs began"),
        (plan(claim(), seeds=9), "the seeds of the plan changed after the runs began"),
    ],
)
def test_a_claim_that_is_not_the_frozen_one_deviates(before, reason):
    now = plan(claim())
    (verdict,) = verdicts(now, tables(now, {"bn": FAST, "none": SLOW}), before)
    assert (verdict.outcome, verdict.reason) == (Outcome.DEVIATED, reason)
    assert verdict.p_adjusted is verdict.result.p is None


def test_an_arm_that_changed_deviates():
    now = plan(claim())
    stored = frozen(now)
    stored["experiments"][0]["arms"]["bn"]["learning_rate"] = 0.1
    (verdict,) = judge(now, tables(now, {"bn": FAST, "none": SLOW}), stored)
    assert verdict.reason == "arm bn changed after the runs began"


def test_a_claim_that_was_given_up_still_counts():
    now = plan(claim())
    before = plan(claim(), claim("other"), claim("look", family="explored"))
    (verdict,) = verdicts(now, tables(now, {"bn": FAST, "none": SLOW}), before)
    assert (verdict.family, verdict.outcome) == (2, Outcome.SUPPORTED)
    assert verdict.p_adjusted == pytest.approx(2 * verdict.result.p)


def test_each_family_is_corrected_on_its_own():
    first = [claim(f"first-{number}") for number in range(2)]
    second = [claim(f"second-{number}", family="secondary") for number in range(5)]
    made = plan(*first, *second, claim("look", family="explored"))
    found = verdicts(made, tables(made, {"bn": FAST, "none": SLOW}))
    assert [each.family for each in found] == [2] * 2 + [5] * 5 + [0]
    smallest = 2 / 2**10
    assert {each.p_adjusted for each in found[:2]} == {2 * smallest}
    assert {each.p_adjusted for each in found[2:7]} == {5 * smallest}


def test_a_claim_that_left_its_family_counts_there_still():
    before = plan(claim(), claim("other"), claim("third", family="secondary"))
    now = plan(claim(), claim("other", family="secondary"), claim("third", family="secondary"))
    speed, moved, third = verdicts(now, tables(now, {"bn": FAST, "none": SLOW}), before)
    assert (speed.family, moved.family, third.family) == (2, 2, 2)
    assert speed.p_adjusted == pytest.approx(2 * speed.result.p)
    assert moved.outcome is Outcome.DEVIATED
    assert moved.reason == "its family changed after the runs began"
    assert third.p_adjusted == pytest.approx(2 * third.result.p)
    dropped = plan(claim(), claim("third", family="secondary"))
    speed, third = verdicts(dropped, tables(dropped, {"bn": FAST, "none": SLOW}), before)
    assert (speed.family, third.family) == (2, 1)


def test_a_missing_run_of_an_arm_on_both_sides_is_missing_once():
    running = dataclasses.replace(
        ACCURACY, arms=(("bn",), ("bn",)), baseline_options={"statistics": "running"}
    )
    verdict = one(claim(estimand=running, unit="points"), missing=[("bn", 3)])
    assert verdict.reason == "missing are runs of bn (1 of 10)"


def test_the_order_of_rows_and_seeds_beyond_the_plan_change_nothing():
    wide, made = plan(claim(), seeds=10), plan(claim(), seeds=8)
    there = verdicts(made, tables(made, {"bn": FAST, "none": SLOW}))
    more = tables(wide, {"bn": FAST, "none": SLOW})
    shuffled = Tables(
        *(
            table.sample(frac=1, random_state=1)
            for table in (more.runs, more.curves, more.norms, more.measures)
        )
    )
    assert verdicts(made, shuffled) == there


# Robustness, words, JSON ----------------------------------------------------------------


def test_robustness_rows_are_computed_their_own_way():
    rows = (
        Variant("an earlier target", options={"target": 0.1}),
        Variant("in steps", scale="difference", unit="steps", test="t"),
        Variant("signs alone", test="sign"),
    )
    verdict = one(claim(robustness=rows), reached={"bn": FAST, "none": SLOW})
    earlier, steps, signs = verdict.robustness
    assert earlier.effect.estimate == 1.0
    assert earlier.p == 1.0
    assert steps.effect.estimate == pytest.approx(np.mean(FAST) - np.mean(SLOW))
    assert steps.unit == "steps"
    assert signs.p == 2 / 2**10
    assert verdict.result.label == "as registered"


DEGENERATE = {
    "tied": {"bn": [100] * 10, "none": [100] * 10},
    "constant": {"bn": [100] * 10, "none": [200] * 10},
    "censored": {"bn": [NAN] * 10, "none": [NAN] * 10},
    "one arm censored": {"bn": [NAN] * 10, "none": [100] * 10},
}


@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
@pytest.mark.parametrize("reached", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("lost", [(), ("bn",), ("bn", "none")])
@pytest.mark.parametrize("test", ["sign-flip", "t", "sign", "tost"])
def test_degenerate_runs_have_a_verdict(seeds, reached, lost, test):
    changes = {"direction": "within", "margin": 1.25} if test == "tost" else {}
    diverged = list(itertools.product(lost, range(seeds)))
    verdict = one(claim(test=test, **changes), seeds=seeds, reached=reached, diverged=diverged)
    assert verdict.outcome is not None
    json.loads(canonical_json(verdict.as_dict()))


SUMMED = {
    "slope": {"levels": (1.0, 2.0, 4.0, 8.0)},
    "knee": {"levels": (1.0, 2.0, 4.0, 8.0)},
    "order": {"levels": (1.0, 2.0, 4.0, 8.0)},
    "range": {"levels": (1.0, 2.0, 4.0, 8.0)},
    "correlation": {"against": "loss", "against_options": {"epochs": EPOCHS}},
}


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("step", [100.0, NAN])
@pytest.mark.parametrize("lost", [0, 1, 4])
@pytest.mark.parametrize("summary", SUMMED)
def test_arms_that_are_all_alike_or_all_lost_have_an_answer(summary, lost, step, seeds):
    arms = ("none", "layer", "group", "bn")
    measure_of = {"measure": "steps-to-target", "options": {"target": 0.8, "epochs": EPOCHS}}
    if summary == "range":
        measure_of = {"measure": "trains", "options": {"threshold": 0.7, "epochs": EPOCHS}}
    estimand = Estimand(arms=(arms,), summary=summary, **measure_of, **SUMMED[summary])
    made = claim(estimand=estimand, unit="units", test="page" if summary == "order" else "t")
    diverged = list(itertools.product(arms[:lost], range(seeds)))
    reached = {arm: [step] * seeds for arm in arms}
    verdict = one(made, seeds=seeds, arms=arms, reached=reached, diverged=diverged)
    assert verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.SUPPORTED, Outcome.REFUTED)
    assert 0 < verdict.result.p <= 1
    assert np.isfinite(verdict.result.effect.estimate)
    if not lost and summary in ("slope", "order", "range", "correlation"):
        assert verdict.result.effect.estimate == 0.0
    json.loads(canonical_json(verdict.as_dict()))


def test_relabelling_the_seeds_changes_no_verdict():
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    there = one(claim(test="t"), reached={"bn": FAST, "none": SLOW[::-1]})
    moved = {"bn": FAST, "none": SLOW[::-1]}
    moved = {arm: [steps[seed] for seed in order] for arm, steps in moved.items()}
    back = one(claim(test="t"), reached=moved)
    assert back.result.p == pytest.approx(there.result.p, rel=1e-12)
    assert back.result.effect.low == pytest.approx(there.result.effect.low)
    assert back.outcome is there.outcome


def test_a_verdict_is_json_with_its_rule():
    plain = one(claim(), seeds=2, reached={"bn": FAST, "none": SLOW}).as_dict()
    assert plain["outcome"] == "INCONCLUSIVE"
    assert plain["result"]["effect"]["high"] is None
    assert plain["claim"]["estimand"]["options"] == {"target": 0.8, "epochs": 4.0}
