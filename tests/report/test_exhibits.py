"""Exhibits of batch sizes, of a 2x2 and of probes: numbers known by construction."""

import dataclasses
import functools
import math
import re

import numpy as np
import pytest

from bnstudy.errors import ConfigError
from bnstudy.judging.measures import finished_runs
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.build import build
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import make
from bnstudy.report.render import render
from tests.report.pages import shown
from tests.synthetic import examples, records, studies

EXPERIMENTS = (examples.batches, examples.square, examples.probed)


def finding_of(planned, kind, number=0, seeds=4, **gaps):
    plan = studies.plan(planned, seeds=seeds)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan, **gaps)))
    exhibits = [each for each in planned.experiment.exhibits if each.kind == kind]
    return make(evidence, exhibits[number], kind)


def test_accuracy_by_batch_compares_the_smallest_batch_to_the_largest_seed_by_seed():
    found = finding_of(examples.batches(), "accuracy-by-batch")
    # one point a doubling with BN, four doublings; nothing without
    assert found.sentence == (
        "With batches of 8 instead of 128 test accuracy differs by: no BN +0.0 points (95% CI "
        "+0.0 to +0.0, 4 seeds) and BN −4.0 points (95% CI −4.0 to −4.0, 4 seeds)"
    )


def test_the_table_by_batch_has_mean_and_interval_of_every_size():
    (table,) = finding_of(examples.batches(), "accuracy-by-batch").tables
    assert [row[0] for row in table.rows] == [f"{size}" for size in examples.BATCH_SIZES]
    half = 3.182446 * np.std([0, 0.2, 0.4, 0.6], ddof=1) / 2  # t(3) quantile, in points
    low, high = 70.3 - half, 70.3 + half
    assert table.rows[0][1] == f"70.3% ({low:.1f}% to {high:.1f}%)"


def test_the_knee_of_steps_is_where_halving_ends():
    found = finding_of(examples.batches(), "steps-by-batch")
    bends = [int(number) for number in re.findall(r"(\d+) images for", found.sentence)]
    assert bends == [records.HALVED_UP_TO["none"], records.HALVED_UP_TO["bn"]]


def test_steps_by_few_batch_sizes_are_compared_without_a_knee():
    gaps = frozenset(f"{norm}/B={size}" for norm in examples.NORMS for size in (16, 32, 64))
    found = finding_of(examples.batches(), "steps-by-batch", missing=gaps)
    assert found.sentence.startswith("From batches of 8 to 128 steps to 80% are 2.00 times fewer")
    assert "8.00 times fewer for BN" in found.sentence


def test_half_of_the_seeds_are_there_where_the_curve_crosses_one_half():
    found = finding_of(examples.batches(), "kaplan-meier")
    assert found.sentence == (
        "Half of the seeds have reached 80% by step 320 for none/B=8 and bn/B=8"
    )
    (table,) = found.tables
    assert all(row[3:] == ("0%", "0% to 0%") for row in table.rows)


def test_a_diverged_arm_stays_below_its_target_to_the_end():
    found = finding_of(examples.batches(), "kaplan-meier", diverged=frozenset({"bn/B=8"}))
    assert ", but not by the last step (400) for bn/B=8" in found.sentence
    corners = [line.split(",") for line in found.chart.csv.splitlines()[1:]]
    lost = [(float(row[2]), float(row[3])) for row in corners if row[1] == "bn/B=8"]
    assert lost == [(0.0, 1.0), (400.0, 1.0)]


def test_arms_are_ranked_by_their_steps_with_ratios_to_the_baseline():
    found = finding_of(examples.batches(), "ranking")
    assert found.sentence == (
        "Steps to 80% beside bn/B=8: fewest bn/B=32, 0.25 times (95% CI 0.25 to 0.25, 4 seeds); "
        "most none/B=8, 1.00 times (95% CI 1.00 to 1.00, 4 seeds)"
    )
    (table,) = found.tables
    assert [(row[0], row[1], row[2], row[4]) for row in table.rows] == [
        ("bn/B=32", "4 of 4", "80", "0.25"),
        ("bn/B=16", "4 of 4", "160", "0.50"),
        ("bn/B=8", "4 of 4", "320", "–"),
        ("none/B=8", "4 of 4", "320", "1.00"),
    ]


def test_an_arm_that_diverged_ranks_last_with_the_last_step():
    found = finding_of(examples.batches(), "ranking", diverged=frozenset({"bn/B=32"}))
    (table,) = found.tables
    assert table.rows[-1][:3] == ("bn/B=32", "0 of 4", "400")
    assert "most bn/B=32, at least 1.25 times" in found.sentence
    assert found.notes[0] == (
        "A run that has not reached the target by step 400 counts with 400 steps, so the mean of "
        "its arm is a lower bound."
    )


def test_arms_are_ranked_by_accuracy_with_intervals_of_differences():
    found = finding_of(examples.batches(), "ranking", number=1)
    (table,) = found.tables
    assert [(row[0], row[4], row[5]) for row in table.rows] == [
        ("bn/B=32", "–", "–"),
        ("bn/B=16", "−1.00", "−1.00 to −1.00"),
        ("bn/B=8", "−2.00", "−2.00 to −2.00"),
        ("none/B=8", "−5.00", "−5.00 to −5.00"),
    ]
    half = 3.182446 * np.std([0, 0.2, 0.4, 0.6], ddof=1) / 2  # t(3) quantile, in points
    assert table.rows[0][2:4] == ("75.3%", f"{75.3 - half:.1f}% to {75.3 + half:.1f}%")


def test_a_ranking_is_of_steps_or_accuracy():
    message = "there is no criterion of a ranking 'loss': choose one of steps, accuracy"
    plan = studies.plan(examples.batches(), seeds=4)
    evidence = Evidence(plan, examples.batches(), finished_runs(plan, studies.tables(plan)))
    with pytest.raises(ConfigError, match=f"^{message}$"):
        make(evidence, Exhibit("ranking", "Loss.", {"of": "loss"}), "loss")


def test_without_a_run_there_is_nothing_to_rank():
    found = finding_of(examples.batches(), "ranking", missing=frozenset(examples.RANKED))
    assert found.sentence == "Nothing to show: none of its runs is there"


def test_the_interaction_is_the_contrast_of_the_four_cells():
    found = finding_of(examples.square(), "interaction")
    assert found.sentence.startswith(
        "Dropout changes test accuracy by −2.00 points with BN and by −10.00 without: an "
        "interaction of +8.00 points"
    )


def test_a_seed_without_all_four_arms_has_no_contrast():
    found = finding_of(examples.square(), "interaction", missing=frozenset({"none"}))
    assert found.sentence == "Nothing to show: no seed has all four arms"


def test_noise_has_the_slope_it_was_made_with():
    found = finding_of(examples.probed(), "batch-noise")
    (table,) = found.tables
    assert len(table.rows) == 2 * 2 * len(examples.LAYERS)  # of what, when, where
    assert {row[1] for row in table.rows} == {"−0.500"}


def test_the_predicted_slope_is_drawn_as_such():
    found = finding_of(examples.probed(), "batch-noise")
    assert found.chart.svg.count("slope −1/2") == 4
    guide = drawing.Guide("slope −1/2", (4, 64), (1.0, 0.25), above=True)
    slope = math.log(guide.values[1] / guide.values[0]) / math.log(64 / 4)
    assert slope == pytest.approx(-0.5)


def test_the_shift_is_told_in_multiples_of_the_predicted_where_one_is_predicted():
    found = finding_of(examples.probed(), "variance-shift")
    assert found.sentence.startswith("Observed over predicted shift into norm1, by dropout: 1.50 (")
    assert "at before BN" in found.sentence
    assert "at after BN" not in found.sentence


def test_readings_of_the_same_weights_are_compared_seed_by_seed_at_the_end():
    found = finding_of(examples.probed(), "probe-readings")
    assert found.sentence == (
        "NLL against running averages: before BN −0.250 by averaging over batches (95% CI −0.250 "
        "to −0.250, 4 seeds); after BN −0.250 by averaging over batches (95% CI −0.250 to "
        "−0.250, 4 seeds)"
    )
    (table,) = found.tables
    running = table.rows[0]
    assert running[:6] == ("before BN", "running averages", "4", "1.150", "1.000", "1.300")
    assert running[6:] == (text.MISSING, text.MISSING)


def test_an_arm_that_no_probe_saw_has_no_reading():
    found = finding_of(examples.probed(), "probe-readings", missing=frozenset({"before"}))
    assert "before BN" not in found.sentence
    assert {row[0] for row in found.tables[0].rows} == {"after BN"}


def test_bands_compare_the_arms_at_the_last_epoch_by_ratios():
    found = finding_of(examples.probed(), "probe-bands")
    assert found.sentence.startswith(
        "At epoch 4.0 the change per weight is 3.00 times that of before BN for after BN (95% CI "
        "3.00 to 3.00"
    )


def test_at_the_same_loss_only_losses_that_both_arms_pass_count():
    found = finding_of(examples.probed(), "probe-bands", number=1)
    assert found.sentence == (
        "At losses of 1.50 to 2.00, which both arms pass, the median change per weight is 6 for "
        "after BN and 2 for before BN"
    )


ALL = frozenset(arm.name for planned in EXPERIMENTS for arm in planned().arms)
GAPS = {
    "nothing": {"missing": ALL},
    "all diverged": {"diverged": ALL},
    "first arms missing": {"missing": frozenset({"none/B=8", "bn/B=8", "bn", "before"})},
    "first arms diverged": {"diverged": frozenset({"none/B=8", "bn/B=8", "bn", "before"})},
    "whole": {},
}


@functools.cache  # drawing all charts takes seconds, and two tests read the whole study
def pages_of(gap, seeds):
    plan = studies.plan(*(each() for each in EXPERIMENTS), seeds=seeds)
    return render(build(plan, studies.tables(plan, **GAPS[gap])))


@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("gap", GAPS)
def test_no_page_shows_what_is_no_number(gap, seeds):
    for name, page in pages_of(gap, seeds).items():
        if name.endswith((".html", ".md", ".svg")):
            found = re.search(r"\b(nan|NaN|None|inf|Infinity|NaT)\b", shown(page))
            assert not found, (name, found)


def test_the_order_of_rows_changes_no_byte():
    plan = studies.plan(*(each() for each in EXPERIMENTS), seeds=4)
    mixed = studies.shuffled(studies.tables(plan))
    assert pages_of("whole", 4) == render(build(plan, mixed))


def test_the_table_of_a_long_curve_is_thinned_from_first_to_last():
    planned = examples.probed()
    plan = studies.plan(planned, seeds=4)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan)))
    table = make(evidence, Exhibit("learning-curves", "Curves."), "curves").chart.data
    times = [row[0] for row in table.rows]
    assert len(times) == len(set(times)) == 24  # of 40
    assert (times[0], times[-1]) == ("0.1", "4.0")
    assert table.caption.endswith("; 24 of 40 times")


def test_an_arm_that_never_reaches_its_target_is_given_no_factor():
    planned = examples.batches()
    plan = studies.plan(planned, seeds=4)
    lost = studies.tables(plan, diverged=frozenset({"none/B=8"}))
    evidence = Evidence(plan, planned, finished_runs(plan, lost))
    pair = ("none/B=8", "bn/B=8")
    for baseline in pair:
        exhibit = Exhibit("steps-to-target", "", {"arms": pair, "baseline": baseline})
        sentence = make(evidence, exhibit, "a").sentence
        assert sentence.startswith("Bn/B=8 reaches 80% with 4 of 4 seeds within ")
        assert sentence.endswith(", none/B=8 with 0 of 4")


def test_several_arms_are_each_compared_to_the_baseline():
    planned = examples.square()
    plan = studies.plan(planned, seeds=4)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan)))
    found = make(evidence, Exhibit("final-accuracy", "", {"baseline": "bn"}), "a")
    (table,) = found.tables
    assert len(table.rows) == 4
    for row in table.rows:
        if row[5] != "–":
            assert f"{row[5]} for {row[0]} (95% CI {row[6]}, {row[1]} seeds)" in found.sentence


def test_items_with_commas_are_kept_apart_by_semicolons():
    assert text.listing(["a", "b", "c"]) == "a, b and c"
    assert text.listing(["1 for a, small", "2 for b"]) == "1 for a, small; and 2 for b"
    assert text.listing(["1 (of 2, or 3)", "2", "4"]) == "1 (of 2, or 3), 2 and 4"


def test_arms_that_a_small_profile_levels_are_named():
    planned = examples.convergence()
    twin = dataclasses.replace(planned.arms[0], name="twin", label="its twin")
    plan = studies.plan(dataclasses.replace(planned, arms=(*planned.arms, twin)))
    (page,) = build(plan, studies.tables(plan)).pages
    assert page.state.endswith(" Trained the same at this size: without BN = its twin.")
    plain = studies.plan(planned)
    assert "same" not in build(plain, studies.tables(plain)).pages[0].state


def test_rates_of_another_network_are_no_part_of_a_family_of_rates():
    planned = examples.convergence()
    relu = next(arm for arm in planned.arms if arm.name == "bn/lr=3").config.replace(
        activation="relu", epochs=1
    )
    arms = (*planned.arms, Arm("bn/relu", relu))
    experiment = dataclasses.replace(planned.experiment, arms=lambda profile: arms)
    plan = studies.plan(dataclasses.replace(planned, experiment=experiment, arms=arms))
    evidence = Evidence(plan, plan.experiments[0], finished_runs(plan, studies.tables(plan)))
    finding = make(evidence, Exhibit("learning-rates", "", {"heads": ("none", "bn")}), "rates")
    (table,) = finding.tables
    seeds = len(plan.seeds)
    assert [row[2].rpartition(" ")[2] for row in table.rows] == [str(seeds)] * 4
    assert (
        f"within {examples.STEPS_PER_EPOCH * 3:,} steps" in table.caption
    )  # not the other's 1 epoch


def test_steps_by_batch_of_a_line_that_never_gets_there_are_not_compared():
    planned = examples.batches()
    lost = frozenset({"none/B=128"})
    gaps = frozenset(f"{norm}/B={size}" for norm in examples.NORMS for size in (16, 32, 64))
    found = finding_of(planned, "steps-by-batch", missing=gaps, diverged=lost)
    assert "not known for no BN, which does not get there" in found.sentence
    assert "8.00 times fewer for BN" in found.sentence
