"""Premises of claims on small studies: each kind holds in one and fails in another."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from bnstudy.config import canonical_json
from bnstudy.errors import ConfigError
from bnstudy.judging import Outcome, judge, shortfalls
from bnstudy.judging.premises import PREMISE_TESTS
from bnstudy.plan import Estimand, Plan, Premise
from bnstudy.plan.premise import KINDS
from bnstudy.runs.tables import Tables
from tests.synthetic.examples import ACCURACY, EPOCHS, FAST, NAN, SLOW, STEPS, claim
from tests.synthetic.studies import claims_plan as plan
from tests.synthetic.studies import tables

TRAINED = Premise("trained", (("bn",), ("none",)))
SQUARE = ("bn+dropout", "bn", "none+dropout", "none")
SPEED = {"bn": FAST, "none": SLOW}


def frozen(plan: Plan) -> dict:
    return json.loads(canonical_json(plan.canonical()))


def verdicts(made: Plan, runs: Tables, before: Plan | None = None):
    return judge(made, runs, frozen(before or made))


def check(premise: Premise, runs: Tables | None = None, *, arms=("none", "bn"), **given):
    """Return the verdict on a claim with a premise, and what was found of the premise."""
    made = plan(claim(premises=(premise,)), arms=arms)
    given = {"reached": SPEED, **given}
    (verdict,) = verdicts(made, tables(made, **given) if runs is None else runs)
    (found,) = verdict.premises
    failed = verdict.outcome is Outcome.PREMISE_FAILED
    assert failed == (found.holds is False)
    if failed:
        assert verdict.reason == found.sentence
        assert verdict.result.p is verdict.p_adjusted is None
    return verdict, found


def with_accuracy(runs: Tables, arm: str, accuracy: float, seeds=range(100)) -> Tables:
    """Return the tables with one validation accuracy at every point of an arm's curves."""
    curves = runs.curves.copy()
    mine = (curves["arm"] == arm) & curves["seed"].isin(list(seeds))
    curves.loc[mine, "validation_accuracy"] = accuracy
    return dataclasses.replace(runs, curves=curves)


def t_interval(values):
    """Student's 95 % interval, by scipy."""
    spread = scipy.stats.sem(values)
    return scipy.stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread)


def test_every_kind_that_can_be_registered_has_a_test():
    assert set(PREMISE_TESTS) == set(KINDS)


# trained --------------------------------------------------------------------------------


def test_arms_that_learned_are_compared():
    verdict, found = check(TRAINED)
    assert verdict.outcome is Outcome.SUPPORTED
    assert (found.figure, found.unit) == (0.9, "accuracy")
    assert found.sentence == (
        'the arms "bn" and "none" learned in 10 of 10 seeds: best validation accuracy 0.900, '
        "chance is 0.1, and 0.15 counts as learned"
    )


def test_a_contrast_with_an_arm_at_chance_is_no_contrast():
    # dropout costs 2 points with BN; without BN its arm never begins to learn
    cells = dict(zip(SQUARE, (0.86, 0.88, 0.1, 0.7), strict=True))
    contrast = dataclasses.replace(ACCURACY, arms=tuple((name,) for name in SQUARE))
    interaction = claim(
        "interaction", estimand=contrast, unit="points", sentence="Dropout gains less with BN."
    )
    premise = Premise("trained", tuple((name,) for name in SQUARE))
    values = {arm: {"test_accuracy_population": [value] * 10} for arm, value in cells.items()}
    bare = plan(interaction, arms=SQUARE)
    runs = with_accuracy(tables(bare, {}, values), "none+dropout", 0.1)
    (without,) = verdicts(bare, runs)
    assert without.outcome is Outcome.REFUTED
    assert without.result.effect.estimate == pytest.approx((0.86 - 0.88) - (0.1 - 0.7))
    made = plan(dataclasses.replace(interaction, premises=(premise,)), arms=SQUARE)
    (verdict,) = verdicts(made, runs)
    assert verdict.outcome is Outcome.PREMISE_FAILED
    assert verdict.reason == (
        'the arm "none+dropout" learned in 0 of 10 seeds: best validation accuracy 0.100, chance '
        "is 0.1, and 0.15 counts as learned"
    )


@pytest.mark.parametrize(
    ("accuracy", "seeds", "holds"),
    [(0.15, range(10), True), (0.149, range(10), False), (0.1, [7], False)],
)
def test_every_seed_must_be_the_registered_amount_above_chance(accuracy, seeds, holds):
    made = plan(claim(premises=(TRAINED,)))
    runs = with_accuracy(tables(made, SPEED), "none", accuracy, seeds)
    verdict, found = check(TRAINED, runs)
    assert (found.holds, found.figure) == (holds, pytest.approx(accuracy))
    if list(seeds) == [7]:
        assert verdict.reason == (
            'the arm "none" learned in 9 of 10 seeds: best validation accuracy 0.100 to 0.900, '
            "chance is 0.1, and 0.15 counts as learned"
        )


def test_the_amount_and_the_epochs_are_options():
    strict = dataclasses.replace(TRAINED, options={"above": 0.85})
    _, found = check(strict)
    assert found.holds is False
    # the slow arm rises at step 240 and later, after two of four epochs
    early = dataclasses.replace(TRAINED, options={"epochs": 2, "above": 0.2})
    _, found = check(early)
    assert found.sentence.startswith('the arm "none" learned in 0 of 10 seeds: best validation')
    assert found.figure == 0.2


@pytest.mark.parametrize(("last", "holds"), [(0.1, False), (0.5, True)])
def test_of_a_diverged_run_the_last_accuracy_counts(last, holds):
    made = plan(claim(premises=(TRAINED,)))
    whole = tables(made, SPEED)
    mine = (whole.curves["arm"] == "none") & (whole.curves["seed"] == 3)
    curves = whole.curves.copy()
    curves.loc[mine & (curves["step"] == curves["step"].max()), "validation_accuracy"] = last
    rows = whole.runs.copy()
    rows.loc[(rows["arm"] == "none") & (rows["seed"] == 3), "status"] = "diverged"
    _, found = check(TRAINED, dataclasses.replace(whole, curves=curves, runs=rows))
    assert (found.holds, found.figure) == (holds, last)
    _, lost = check(TRAINED, diverged=[("none", 3)])  # at once: it guesses
    assert (lost.holds, lost.figure) == (False, 0.1)


def test_without_validation_images_training_accuracy_counts():
    made = plan(claim(premises=(TRAINED,)))
    (planned,) = made.experiments
    arms = tuple(
        dataclasses.replace(arm, config=arm.config.replace(train_split="all"))
        for arm in planned.arms
    )
    made = dataclasses.replace(made, experiments=(dataclasses.replace(planned, arms=arms),))
    runs = tables(made, SPEED, {"bn": {"train_accuracy": [0.7] * 10}})
    for arm in ("bn", "none"):
        runs = with_accuracy(runs, arm, NAN)
    (verdict,) = verdicts(made, runs)
    (found,) = verdict.premises
    assert found.sentence == (
        'the arms "bn" and "none" learned in 10 of 10 seeds: best training accuracy 0.500 to '
        "0.700, chance is 0.1, and 0.15 counts as learned"
    )


# flat -----------------------------------------------------------------------------------


def flat(**options):
    return Premise("flat", (("bn",), ("none",)), {"last": 2, "tolerance": 0.005, **options})


def test_a_flat_curve_holds_by_the_bound_of_its_interval_and_not_by_its_mean():
    gains = np.array([0.001, 0.003, 0.002, 0.004, 0.000, 0.002, 0.003, 0.001, 0.002, 0.002])
    ends = [[0.5, 0.85, 0.85, 0.85 + gain] for gain in gains]
    _, found = check(flat(), values={"none": {"test_accuracy_population": ends}})
    assert found.holds
    assert (found.figure, found.unit) == (pytest.approx(t_interval(gains)[1]), "points")
    assert found.sentence == (
        'the curve of "none" changed by +0.20 points (95% interval +0.12 to +0.28) over the last 2 '
        "epochs, where less than 0.50 points counts as flat, and no other arm by more"
    )
    wide = [[0.5, 0.85, 0.85, 0.85 + gain] for gain in 10 * (gains - 0.002) + 0.002]
    _, found = check(flat(), values={"none": {"test_accuracy_population": wide}})
    assert found.holds is False  # +0.20 points again, up to +1.0
    assert found.figure > 0.005


@pytest.mark.parametrize("change", [0.017, -0.017])
def test_a_curve_that_still_rises_or_falls_is_not_flat(change):
    ends = [[0.5, 0.80, 0.82, 0.80 + change]] * 10
    verdict, found = check(flat(), values={"none": {"test_accuracy_population": ends}})
    assert found.figure == pytest.approx(0.017)
    assert verdict.reason == (
        f'the curve of "none" changed by {100 * change:+.2f} points (95% interval '
        f"{100 * change:+.2f} to {100 * change:+.2f}) over the last 2 epochs, where less than 0.50 "
        "points counts as flat"
    )


def test_flatness_is_read_of_any_column_at_the_ends_of_the_epochs():
    falling = {"none": {"validation_loss": [[0.9, 0.5, 0.42, 0.41]] * 10}}
    ends = {"column": "validation_loss", "tolerance": 0.05}
    assert check(flat(last=1, **ends), values=falling)[1].holds
    assert check(flat(last=2, **ends), values=falling)[1].holds is False
    assert check(flat(last=1, epochs=3, **ends), values=falling)[1].holds is False
    assert check(flat(last=1, **ends), values=falling)[1].unit == "of loss"
    sparse = {"none": {"test_accuracy_population": [[NAN, 0.8, NAN, 0.8]] * 10}}
    verdict, found = check(flat(last=1), values=sparse)
    assert (verdict.outcome, found.holds, found.figure) == (Outcome.INADMISSIBLE, None, None)
    assert verdict.reason == (
        "missing are none: test_accuracy_population was not measured after 3 epochs (10 of 10)"
    )


def test_a_diverged_run_is_not_flat():
    verdict, _ = check(flat(), diverged=[("none", 1), ("none", 2)])
    assert verdict.reason == 'the arm "none" diverged in 2 of 10 seeds'


# equal-fit ------------------------------------------------------------------------------


def losses(values):
    return {"train_loss": list(values)}


def equal_fit(margin=0.01, arms=(("bn",), ("none",))):
    return Premise("equal-fit", arms, {"margin": margin})


NOISE = np.array([-3, -2, -1, 0, 0, 0, 0, 1, 2, 3]) / 1000


def test_equal_fit_is_by_the_interval():
    close = {"bn": losses(0.302 + NOISE), "none": losses([0.300] * 10)}
    _, found = check(equal_fit(), values=close)
    assert (found.holds, found.figure, found.unit) == (True, pytest.approx(0.002), "of loss")
    assert found.sentence == (
        'training loss of "bn" against "none": +0.002 of loss (95% interval +0.000738 to +0.00326),'
        " where 0.01 of loss either way is allowed"
    )
    # the same estimate, and an interval of -0.011 to 0.015
    wide = {"bn": losses(0.302 + 10 * NOISE), "none": losses([0.300] * 10)}
    _, found = check(equal_fit(), values=wide)
    assert (found.holds, found.figure) == (False, pytest.approx(0.002))


def test_arms_that_fit_less_are_not_compared_in_their_gap():
    verdict, found = check(
        equal_fit(), values={"bn": losses([0.345] * 10), "none": losses([0.307] * 10)}
    )
    assert verdict.outcome is Outcome.PREMISE_FAILED
    assert found.figure == pytest.approx(0.038)


def test_a_diverged_run_fits_nothing():
    verdict, found = check(
        equal_fit(),
        diverged=[(arm, 3) for arm in ("bn", "none")],
        values={"bn": losses([0.5] * 10)},
    )
    assert (found.holds, found.figure) == (False, 0.0)
    assert verdict.reason.endswith("; runs that were censored or diverged may hide a difference")


def test_groups_of_arms_are_compared_by_their_means():
    arms = ("none", "bn", "gn")
    pair = equal_fit(arms=(("bn", "gn"), ("none",)))
    values = {"bn": losses([0.1] * 10), "gn": losses([0.5] * 10), "none": losses([0.3] * 10)}
    _, found = check(pair, arms=arms, values=values)
    assert (found.holds, found.figure) == (True, pytest.approx(0.0))
    assert found.sentence.startswith('training loss of "bn" and "gn" against "none": ')


def test_fit_can_be_read_by_another_measure():
    loss = Estimand("loss", (("bn",), ("none",)), {"epochs": EPOCHS})
    premise = Premise("equal-fit", options={"margin": 0.01}, estimand=loss)
    tests = {
        "bn": {"test_loss_population": [0.5] * 10},
        "none": {"test_loss_population": [0.4] * 10},
    }
    _, found = check(premise, values=tests)
    assert (found.holds, found.figure, found.unit) == (False, pytest.approx(0.1), "of loss")


# Controls -------------------------------------------------------------------------------


def control(direction="greater", estimand=ACCURACY):
    return Premise("effect-there", options={"direction": direction}, estimand=estimand)


def accuracies(mean, noise=0.0):
    return {"test_accuracy_population": list(mean + noise * NOISE)}


@pytest.mark.parametrize(
    ("gain", "noise", "holds"),
    [(0.02, 1.0, True), (-0.02, 1.0, False), (0.002, 10.0, False), (0.0, 1.0, False)],
)
def test_a_positive_control_shows_its_effect_on_the_named_side(gain, noise, holds):
    values = {"bn": accuracies(0.8 + gain, noise), "none": accuracies(0.8)}
    _, found = check(control(), values=values)
    assert (found.holds, found.unit) == (holds, "points")
    assert found.figure == pytest.approx(gain, abs=1e-9)
    _, other = check(control("less"), values=values)
    assert other.holds == (gain == -0.02)


def test_a_control_is_told_in_a_sentence():
    values = {"bn": accuracies(0.82), "none": accuracies(0.8)}
    _, found = check(control("less"), values=values)
    assert found.sentence == (
        'accuracy of "bn" against "none": +2.00 points (95% interval +2.00 to +2.00), which does '
        "not lie below 0"
    )
    _, found = check(control("less", STEPS), values=values)
    ratio = np.exp(np.log(np.array(FAST) / np.array(SLOW)).mean())
    assert (found.figure, found.unit) == (pytest.approx(ratio), "times")
    assert found.sentence.endswith("which lies below 1")


def no_effect(margin, estimand=ACCURACY):
    return Premise("no-effect-there", options={"margin": margin}, estimand=estimand)


def test_a_control_arm_shows_none_of_the_effect():
    lag = dataclasses.replace(
        ACCURACY, arms=(("none",), ("none",)), baseline_options={"statistics": "running"}
    )
    near = {"none": {"test_accuracy": list(0.847 + NOISE), **accuracies(0.85)}}
    _, found = check(no_effect(0.01, lag), values=near)
    assert (found.holds, found.figure) == (True, pytest.approx(0.003))
    assert found.sentence == (
        'accuracy of "none" against "none" (statistics running): +0.30 points (95% interval +0.17 '
        "to +0.43), where 1.00 points either way is allowed"
    )
    # the 'rescue' where nothing was shifted
    far = {"none": {"test_accuracy": list(0.8231 + NOISE), **accuracies(0.85)}}
    verdict, found = check(no_effect(0.01, lag), values=far)
    assert verdict.outcome is Outcome.PREMISE_FAILED
    assert found.figure == pytest.approx(0.0269)
    loose = {"none": {"test_accuracy": list(0.847 + 10 * NOISE), **accuracies(0.85)}}
    assert check(no_effect(0.01, lag), values=loose)[1].holds is False


def test_the_margin_of_a_ratio_is_a_factor_and_the_horizon_hides_no_difference():
    alike = {"bn": [100] * 10, "none": [110] * 10}
    assert check(no_effect(1.25, STEPS), reached=alike)[1].holds
    apart = {"bn": [100] * 10, "none": [130] * 10}
    assert check(no_effect(1.25, STEPS), reached=apart)[1].holds is False
    never = {arm: [100] * 9 + [NAN] for arm in ("bn", "none")}
    _, found = check(no_effect(1.25, STEPS), reached=never)
    assert found.holds is False
    assert found.sentence.endswith(
        "where a factor of 1.25 either way is allowed; runs that were censored or diverged may "
        "hide a difference"
    )


# bracketed ------------------------------------------------------------------------------

RATES = (0.1, 1.0, 10.0, 100.0)
GRID = tuple(f"lr={rate:g}" for rate in RATES)


def bracketed(group=GRID, levels=RATES, **options):
    estimand = Estimand("loss", (group,), {"epochs": EPOCHS}, summary="slope", levels=levels)
    return Premise("bracketed", options={"best": "least", **options}, estimand=estimand)


def grid(*losses):
    """Return the test loss of each arm of the grid, the same in all seeds or one per seed."""
    return {
        arm: {"test_loss_population": [loss] * 10 if isinstance(loss, float) else loss}
        for arm, loss in zip(GRID, losses, strict=True)
    }


ARMS = (*GRID, "none", "bn")


@pytest.mark.parametrize(
    ("losses", "holds", "words"),
    [
        ((0.9, 0.4, 0.5, 2.0), True, "the best mean is at 1, between the ends of the grid"),
        (
            (0.9, 0.6, 0.5, 0.4),
            False,
            "no mean between the ends of the grid is better than that at its end 100",
        ),
        (
            (0.4, 0.4, 0.5, 2.0),
            False,
            "no mean between the ends of the grid is better than that at its end 0.1",
        ),
        ((0.4, 0.4, 0.4, 0.4), False, "the mean is the same at every level, so none is the best"),
    ],
)
def test_the_best_level_lies_between_the_ends(losses, holds, words):
    _, found = check(bracketed(), arms=ARMS, values=grid(*losses))
    assert found.holds is holds
    seeds = 10 if holds else 0
    assert found.sentence == (
        f'loss over the arms "lr=0.1" to "lr=100": {words}; in {seeds} of 10 seeds the best is '
        "between the ends"
    )


def test_the_best_is_greatest_or_least_and_levels_may_stand_in_any_order():
    values = grid(0.9, 0.4, 0.5, 2.0)
    assert check(bracketed(best="greatest"), arms=ARMS, values=values)[1].holds is False
    shuffled = bracketed(GRID[1::-1] + GRID[2:], RATES[1::-1] + RATES[2:])
    _, found = check(shuffled, arms=ARMS, values=values)
    assert (found.holds, found.figure) == (True, 1.0)


def test_a_share_of_seeds_can_be_asked():
    # the mean is best at 1, but two of ten seeds are best at 0.1
    values = grid([0.9] * 8 + [0.3] * 2, 0.4, 0.5, 2.0)
    assert check(bracketed(), arms=ARMS, values=values)[1].holds
    assert check(bracketed(share=0.8), arms=ARMS, values=values)[1].holds
    verdict, _ = check(bracketed(share=1.0), arms=ARMS, values=values)
    assert verdict.reason == (
        'loss over the arms "lr=0.1" to "lr=100": the best mean is at 1, between the ends of the '
        "grid; in 8 of 10 seeds the best is between the ends, where 10 are asked"
    )


def test_the_width_of_a_grid_is_no_range_of_rates_that_train():
    bn, none = ([f"{norm}/{rate:g}" for rate in RATES] for norm in ("bn", "none"))
    rates = Estimand(
        "trains",
        (tuple(bn), tuple(none)),
        {"threshold": 0.7, "epochs": 3},
        summary="range",
        levels=RATES,
    )
    premise = Premise("bracketed", options={"share": 1.0}, estimand=rates)
    arms = (*bn, *none, "bn", "none")

    def trained(*names):
        return {arm: {"train_accuracy": [0.8] * 10} for arm in names}

    assert check(premise, arms=arms, values=trained(bn[1], bn[2], none[1]))[1].holds
    everywhere = check(premise, arms=arms, values=trained(*bn, none[1]))[1]
    assert everywhere.holds is False
    nowhere = check(premise, arms=arms, values=trained(bn[1]))[1]
    assert 'over the arms "none/0.1" to "none/100": the mean is the same' in nowhere.sentence


# The word -------------------------------------------------------------------------------


def at_chance(made, arm="none", **given):
    return with_accuracy(tables(made, SPEED, **given), arm, 0.1)


def test_missing_runs_go_before_a_failed_premise_and_a_changed_plan_before_both():
    made = plan(claim(premises=(TRAINED,)))
    (missing,) = verdicts(made, at_chance(made, missing=[("bn", 3)]))
    assert (missing.outcome, missing.reason) == (
        Outcome.INADMISSIBLE,
        "missing are runs of bn (1 of 10)",
    )
    (changed,) = verdicts(made, at_chance(made), plan(claim(centre=2.0, premises=(TRAINED,))))
    assert changed.outcome is Outcome.DEVIATED


def test_runs_that_only_a_premise_reads_can_be_missing():
    other = Premise("trained", (("gn",),))
    made = plan(claim(premises=(other,)), arms=("none", "bn", "gn"))
    (verdict,) = verdicts(made, tables(made, SPEED, missing=["gn"]))
    assert (verdict.outcome, verdict.reason) == (
        Outcome.INADMISSIBLE,
        "missing are runs of gn (10 of 10)",
    )
    assert verdict.result.p is verdict.p_adjusted is None
    assert verdict.premises[0].sentence == "not tested: missing are runs of gn (10 of 10)"


@pytest.mark.parametrize(
    "premises",
    [(), (dataclasses.replace(TRAINED, options={"above": 0.01}),), (TRAINED, flat())],
)
def test_a_premise_that_changed_after_the_runs_began_deviates(premises):
    before, now = plan(claim(premises=(TRAINED,))), plan(claim(premises=premises))
    assert before.sha256 != now.sha256
    (verdict,) = verdicts(now, tables(now, SPEED), before)
    assert (verdict.outcome, verdict.reason) == (
        Outcome.DEVIATED,
        "its premises changed after the runs began",
    )


def test_an_arm_that_only_a_premise_reads_deviates_with_it():
    made = plan(claim(premises=(Premise("trained", (("gn",),)),)), arms=("none", "bn", "gn"))
    stored = frozen(made)
    stored["experiments"][0]["arms"]["gn"]["learning_rate"] = 0.1
    (verdict,) = judge(made, tables(made, SPEED), stored)
    assert verdict.reason == "arm gn changed after the runs began"


def test_a_failed_premise_counts_in_the_family_with_p_1():
    made = plan(
        claim("speed"),
        claim("failed", premises=(TRAINED, Premise("trained", (("gn",),)))),
        arms=("none", "bn", "gn"),
    )
    first, failed = verdicts(made, at_chance(made, "gn"))
    assert failed.outcome is Outcome.PREMISE_FAILED
    assert [each.holds for each in failed.premises] == [True, False]
    assert failed.reason == failed.premises[1].sentence
    assert first.p_adjusted == pytest.approx(2 * first.result.p)


def test_an_explored_claim_with_a_failed_premise_says_so():
    made = plan(claim(family="explored", premises=(TRAINED,)))
    (held,) = verdicts(made, tables(made, SPEED))
    assert held.outcome is None
    assert held.premises[0].holds
    (failed,) = verdicts(made, at_chance(made))
    assert failed.outcome is Outcome.PREMISE_FAILED
    assert failed.result.p is failed.p_adjusted is None


def test_one_seed_shows_no_interval_and_so_no_premise_that_needs_one():
    made = plan(claim(premises=(control(),)), seeds=1)
    (verdict,) = verdicts(made, tables(made, {"bn": [90], "none": [300]}))
    assert verdict.outcome is Outcome.PREMISE_FAILED
    assert "(no interval from 1 seed)" in verdict.reason
    json.loads(canonical_json(verdict.as_dict()))


def test_a_verdict_holds_its_premises_as_plain_data():
    made = plan(claim(premises=(TRAINED,)))
    (verdict,) = verdicts(made, at_chance(made))
    plain = json.loads(canonical_json(verdict.as_dict()))
    assert plain["outcome"] == "PREMISE FAILED"
    (found,) = plain["premises"]
    assert found == {
        "kind": "trained",
        "holds": False,
        "figure": 0.1,
        "unit": "accuracy",
        "sentence": verdict.reason,
        "missing": [],
    }
    (registered,) = plain["claim"]["premises"]
    assert registered["options"] == {"above": 0.05, "epochs": 0.0}


def test_a_plan_is_refused_for_what_no_measure_reads_of_a_premise():
    wrong = dataclasses.replace(ACCURACY, options={"target": 0.8})
    with pytest.raises(ConfigError, match="measure 'accuracy' does not take the options"):
        shortfalls(plan(claim(premises=(control(estimand=wrong),))))
