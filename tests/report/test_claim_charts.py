"""Charts of claims: units, marks, intervals and claimed ranges."""

import dataclasses
import io
import math

import pandas as pd
import pytest

from bnstudy.judging import Outcome
from bnstudy.plan import Estimand
from bnstudy.report import drawing
from bnstudy.report.claim_charts import axis_scales, effect_charts, judgement_chart
from tests.report.made_verdicts import verdict
from tests.synthetic import examples, studies


def test_charts_do_not_mix_units_and_count_their_marks():
    slope = examples.claim("slope", unit="of loss", estimand=Estimand("loss", (("bn",),)))
    found = effect_charts(
        studies.claims_plan(),
        [
            verdict(),
            verdict(examples.claim("other"), Outcome.REFUTED, (2.0, 1.5, 3.0)),
            verdict(examples.accuracy_claim(), None, (0.02, 0.01, 0.03)),
            verdict(slope, Outcome.INCONCLUSIVE, (0.1, -0.1, 0.3)),
            verdict(dataclasses.replace(slope, id="void"), Outcome.PREMISE_FAILED, (0.2, 0.1, 0.3)),
        ],
    )
    assert [each.anchor for each in found] == [
        "effects-ratios",
        "effects-points",
        "effects-others",
    ]
    assert found[0].sentence == "Of 2 claims about ratios: 1 supported and 1 refuted"
    assert found[1].sentence.endswith("1 explored only")
    assert found[2].sentence.endswith("1 undecided and 1 with a failed premise")
    *_, void = found[2].chart.data.rows
    assert void[1:3] == ("premise failed", "–")
    assert drawing.intervals.MARKS["premise failed"]["marker"] not in {
        mark["marker"] for word, mark in drawing.intervals.MARKS.items() if word != "premise failed"
    }


def test_the_chart_holds_estimate_interval_and_claimed_range_as_numbers():
    (chart,) = (
        each.chart
        for each in effect_charts(studies.claims_plan(), [verdict(examples.accuracy_claim(), None)])
    )
    head, row = chart.csv.splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True)) == {
        "claim": "same",
        "unit": "points",
        "label": "BN does not change final accuracy.",
        "mark": "explored",
        "estimate": "50",
        "low": "40",
        "high": "60",
        "claimed_low": "-1",
        "claimed_high": "1",
    }


def test_the_claimed_range_is_drawn_where_the_rule_has_it():
    rows = [("points", "A claim", "supported", 0.1, -0.4, 0.5, -1.0, 1.0)]
    names = ["unit", "label", "mark", "estimate", "low", "high", "claimed_low", "claimed_high"]
    table = pd.DataFrame(rows, columns=names)
    axes = drawing.effect_intervals(table, axis_scales(table), "source").axes[0]
    (band,) = axes.collections
    across = band.get_paths()[0].vertices[:, 0]
    assert (across.min(), across.max()) == (-1.0, 1.0)
    drawn = [tuple(line.get_xdata()) for line in axes.lines]
    assert (-0.4, 0.5) in drawn
    assert (0.1,) in drawn


@pytest.mark.parametrize("end", [math.inf, math.nan])
def test_an_effect_without_an_interval_is_a_point_alone(end):
    found = effect_charts(studies.claims_plan(), [verdict(ends=(0.5, -end, end))])
    assert "nan" not in found[0].chart.svg.lower()


def test_a_judgement_draws_its_robustness_analyses_below_the_registered_computation():
    chart = judgement_chart(
        studies.claims_plan(), verdict(others=((0.7, 0.6, 0.8), (1.2, 1.1, 1.3)))
    )
    labels = [line.split(",")[1].strip('"') for line in chart.csv.splitlines()[1:]]
    assert labels == ["as registered", "way 0", "way 1"]


def test_a_judgement_with_a_failed_premise_draws_no_analysis_as_an_estimate():
    void = verdict(outcome=Outcome.PREMISE_FAILED, others=((0.7, 0.6, 0.8),))
    chart = judgement_chart(studies.claims_plan(), void)
    marks = pd.read_csv(io.StringIO(chart.csv))["mark"]
    assert list(marks) == ["premise failed"] * 2
    assert "a premise of the claim failed" in chart.description


def test_a_claim_without_effect_has_no_chart():
    empty = dataclasses.replace(verdict().result, effect=None)
    nothing = dataclasses.replace(verdict(), result=empty)
    assert judgement_chart(studies.claims_plan(), nothing) is None
    assert effect_charts(studies.claims_plan(), [nothing]) == ()
