"""Exhibits of histograms and of gamma and beta: numbers known by construction."""

import functools
import re

import numpy as np
import pytest

from bnstudy.judging.measures import finished_runs
from bnstudy.report.build import build
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import make
from bnstudy.report.render import render
from tests.report.pages import shown
from tests.synthetic import examples, studies


def finding_of(kind, seeds=4, **gaps):
    planned = examples.histograms()
    plan = studies.plan(planned, seeds=seeds)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan, **gaps)))
    (exhibit,) = [each for each in planned.experiment.exhibits if each.kind == kind]
    return make(evidence, exhibit, kind)


def test_histograms_differ_by_half_the_sum_of_their_differences():
    found = finding_of("histogram-maps")
    # |.5| + |.3| + 0 + 0 + |.5| + |.3|, halved
    assert found.sentence == (
        "At the end at least this share of what comes into the layers lies elsewhere than at the "
        "start: 80% for without BN (95% CI 80% to 80%, 4 seeds) and 0% for with BN (95% CI 0% to "
        "0%, 4 seeds)"
    )
    (table,) = found.tables
    assert table.rows[0] == ("without BN, act1", "80% (80% to 80%)", "80% (80% to 80%)")


def agreement_of(seeds=4, **gaps):
    planned = examples.recorded()
    plan = studies.plan(planned, seeds=seeds)
    evidence = Evidence(plan, planned, finished_runs(plan, studies.tables(plan, **gaps)))
    return make(evidence, planned.experiment.exhibits[0], "agreement")


def test_two_readings_of_the_same_steps_differ_in_standard_deviations():
    found = agreement_of()
    assert found.sentence == (
        "At 2 steps of the first 0.5 epochs the two readings of a layer's percentiles differ by "
        "0.01 standard deviations at most (2 seeds)"
    )
    (table,) = found.tables
    assert table.rows == (
        ("with BN, act1", "2", "0.01", "0.1"),
        ("with BN, act2", "2", "less than 0.0001", "less than 0.0001"),
    )
    assert found.chart is None
    assert found.notes == ()  # an arm of two seeds is complete with two


@pytest.mark.parametrize("missing", ["bn", "bn/recorded"])
def test_readings_without_a_counterpart_are_not_compared(missing):
    found = agreement_of(missing=frozenset({missing}))
    assert found.sentence == "Nothing to show: no step of a seed was read in both ways"
    label = "with BN" if missing == "bn" else "recorded"
    assert found.notes == (f"No run of {label} is there.",)


def test_the_page_of_an_arm_with_few_seeds_counts_only_those():
    plan = studies.plan(examples.recorded(), seeds=4)
    one_gone = studies.tables(plan, missing=frozenset({("bn/recorded", 1)}))
    (page,) = build(plan, one_gone).pages
    assert page.state == "6 planned runs: 5 done and 1 missing."
    counts = {row[0]: row[-4:-1] for row in page.arms.rows}
    assert counts == {"with BN": ("4", "0", "0"), "recorded": ("1", "0", "1")}
    assert page.findings[0].notes == ("Only 1 of 2 runs of recorded is there.",)
    introduction = build(plan, one_gone).introduction
    assert "every variant (arm) 4 times (2 times where that is proof enough), from" in introduction


def test_the_table_of_a_histogram_has_all_values_even_those_that_are_not_drawn():
    data = finding_of("histogram-maps").chart.data
    assert [row[0] for row in data.rows] == [
        "act1, below −2",
        "act1, −2 to −1",
        "act1, −1 to 0",
        "act1, 0 to 1",
        "act1, 1 to 2",
        "act1, above 2",
    ]
    columns = np.array([[float(cell.strip("%")) for cell in row[1:]] for row in data.rows])
    np.testing.assert_allclose(columns.sum(axis=0), 100.0)
    assert columns[0].tolist() == [50.0, 0.0, 50.0, 50.0]


def test_cells_of_a_map_are_where_and_as_dark_as_their_shares():
    svg = finding_of("histogram-maps").chart.svg
    style = r'style="fill: #0067a5(?:; opacity: ([\d.]+))?"'
    drawn = re.findall(rf'<path d="([^"]*)"[^>]*{style}', svg)
    # with BN: shares of .3 and of .1, twice, each one box from first to last record
    boxes = {opacity or "1": path.count("M") for path, opacity in drawn}
    assert boxes == {"1": 1, "0.72": 2}


def test_gamma_and_beta_move_by_the_root_mean_square_of_their_channels():
    found = finding_of("affine-paths")
    # sqrt((.09 + .16 + .25) / 3) and sqrt((.01 + .04 + .04) / 3)
    assert found.sentence == (
        "In 1 epoch γ moves 0.41 away from 1 and β 0.17 away from 0; relative to its length, a "
        "step of γ is 10.0 times smaller than one of the weights before it (95% CI 10.0 to 10.0, "
        "4 seeds)"
    )
    (table,) = found.tables
    assert len(table.columns) <= 8
    # percentiles of .5, 1.3, 1.4 and of .1, .2, .2, linear between them
    ends = ("0.74 / 1.30 / 1.37", "0.41", "0.13 / 0.20 / 0.20", "0.17")
    assert table.rows == (("norm1", "3", *ends, "0.20%", "2.00%"),)


def test_the_paths_of_a_run_that_diverged_end_where_it_did():
    found = finding_of("affine-paths", diverged=frozenset({"bn"}))
    assert found.sentence.startswith("In 0 epochs γ moves 0.00 away from 1")
    assert any("diverged" in note for note in found.notes)


ALL = frozenset({"none", "bn"})
GAPS = {
    "nothing": {"missing": ALL},
    "all diverged": {"diverged": ALL},
    "bn missing": {"missing": frozenset({"bn"})},
    "bn diverged": {"diverged": frozenset({"bn"})},
    "whole": {},
}


@functools.cache  # drawing all charts takes seconds, and two tests read the whole study
def pages_of(gap, seeds):
    plan = studies.plan(examples.histograms(), seeds=seeds)
    return render(build(plan, studies.tables(plan, **GAPS[gap])))


@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("gap", GAPS)
def test_no_page_shows_what_is_no_number(gap, seeds):
    for name, page in pages_of(gap, seeds).items():
        if name.endswith((".html", ".md", ".svg")):
            found = re.search(r"\b(nan|NaN|None|inf|Infinity|NaT)\b", shown(page))
            assert not found, (name, found)


def test_the_order_of_rows_changes_no_byte():
    plan = studies.plan(examples.histograms(), seeds=4)
    mixed = studies.shuffled(studies.tables(plan))
    assert pages_of("whole", 4) == render(build(plan, mixed))
