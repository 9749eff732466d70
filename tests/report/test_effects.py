"""Charts of claims, surprises and reliability: rules applied to verdicts that are made up."""

import dataclasses
import json
import math

import pandas as pd
import pytest

from bnstudy.errors import StoreError
from bnstudy.inference import Interval
from bnstudy.judging import Calibration, Outcome, Row, Verdict, stored_calibration
from bnstudy.plan.claim import Estimand, Variant
from bnstudy.report import build, drawing, write
from bnstudy.report.build import mix
from bnstudy.report.effects import effects, judgement_chart, scales
from bnstudy.report.reliability import NONE_YET, reliability
from bnstudy.report.render import render
from bnstudy.report.surprises import surprises
from bnstudy.report.verdicts import claimed, claimed_range, counts, rule
from bnstudy.runs.provenance import commit_date
from tests.synthetic import examples, studies

POWERED = {"speed": 0.9}


def verdict(claim=None, outcome=Outcome.SUPPORTED, ends=(0.5, 0.4, 0.6), others=()) -> Verdict:
    """A verdict with this effect; ``others`` are the ends of its robustness rows."""
    claim = claim or examples.claim(
        robustness=tuple(Variant(f"way {n}") for n, _ in enumerate(others))
    )
    low, high = claimed_range(claim)

    def row(label, found):
        inside = low < found[0] < high
        return Row(label, claim.test, Interval(*found, 10), claim.unit, 0.01, inside)

    return Verdict(
        claim, "speed", outcome, "", row("as registered", ends), 0.02, 3, 10, 20, 1, 2,
        tuple(row(f"way {n}", found) for n, found in enumerate(others)), "Said.",
    )  # fmt: skip


def kinds(*verdicts, power=None):
    return [each.kind for each in surprises(verdicts, power)]


@pytest.mark.parametrize(
    ("claim", "expected", "words"),
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
def test_the_claimed_range_is_that_of_the_rule(claim, expected, words):
    assert claimed_range(claim) == pytest.approx(expected)
    assert claimed(claim) == words


def test_charts_do_not_mix_units_and_count_their_marks():
    slope = examples.claim("slope", unit="of loss", estimand=Estimand("loss", (("bn",),)))
    found = effects(
        studies.claims_plan(),
        [
            verdict(),
            verdict(examples.claim("other"), Outcome.REFUTED, (2.0, 1.5, 3.0)),
            verdict(examples.accuracy_claim(), None, (0.02, 0.01, 0.03)),
            verdict(slope, Outcome.INCONCLUSIVE, (0.1, -0.1, 0.3)),
        ],
    )
    assert [each.anchor for each in found] == [
        "effects-ratios",
        "effects-points",
        "effects-others",
    ]
    assert found[0].sentence == "Of 2 claims about ratios: 1 supported and 1 refuted"
    assert found[1].sentence.endswith("1 explored only")
    assert found[2].sentence.endswith("1 undecided")


def test_the_chart_holds_estimate_interval_and_claimed_range_as_numbers():
    (chart,) = (
        each.chart
        for each in effects(studies.claims_plan(), [verdict(examples.accuracy_claim(), None)])
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
    axes = drawing.effect_intervals(table, scales(table), "source").axes[0]
    (band,) = axes.collections
    across = band.get_paths()[0].vertices[:, 0]
    assert (across.min(), across.max()) == (-1.0, 1.0)
    drawn = [tuple(line.get_xdata()) for line in axes.lines]
    assert (-0.4, 0.5) in drawn
    assert (0.1,) in drawn


@pytest.mark.parametrize("end", [math.inf, math.nan])
def test_an_effect_without_an_interval_is_a_point_alone(end):
    found = effects(studies.claims_plan(), [verdict(ends=(0.5, -end, end))])
    assert "nan" not in found[0].chart.svg.lower()


def test_a_judgement_draws_its_ways_below_the_registered_computation():
    chart = judgement_chart(
        studies.claims_plan(), verdict(others=((0.7, 0.6, 0.8), (1.2, 1.1, 1.3)))
    )
    labels = [line.split(",")[1].strip('"') for line in chart.csv.splitlines()[1:]]
    assert labels == ["as registered", "way 0", "way 1"]


def test_a_claim_without_effect_has_no_chart():
    empty = dataclasses.replace(verdict().result, effect=None)
    nothing = dataclasses.replace(verdict(), result=empty)
    assert judgement_chart(studies.claims_plan(), nothing) is None
    assert effects(studies.claims_plan(), [nothing]) == ()


def test_a_refuted_claim_is_a_surprise():
    assert kinds(verdict(outcome=Outcome.REFUTED, ends=(2.0, 1.5, 3.0))) == ["Refuted"]


def test_a_supported_claim_is_none():
    assert kinds(verdict(), power=POWERED) == []


@pytest.mark.parametrize("outcome", [None, Outcome.INCONCLUSIVE])
def test_an_interval_wholly_on_the_denied_side_is_a_surprise(outcome):
    assert kinds(verdict(outcome=outcome, ends=(2.0, 1.5, 3.0))) == ["Against the literature"]
    assert kinds(verdict(outcome=outcome, ends=(2.0, 0.9, 3.0))) == []


def test_undecided_is_a_surprise_only_with_power():
    undecided = verdict(outcome=Outcome.INCONCLUSIVE, ends=(0.9, 0.7, 1.1))
    assert kinds(undecided, power=POWERED) == ["Undecided although powered"]
    assert kinds(undecided, power={"speed": 0.79}) == []
    assert kinds(undecided) == []


def test_a_supported_claim_that_another_way_denies_is_a_surprise():
    (found,) = surprises([verdict(others=((0.7, 0.6, 0.8), (1.2, 1.1, 1.3)))])
    assert found.kind == "Depends on how it is computed"
    (statement,) = found.statements
    assert "way 1: 1.20 times" in statement.sentence
    assert "way 0" not in statement.sentence
    assert (statement.link.page, statement.link.anchor) == ("speed", "claim-speed")


CALIBRATION = Calibration(2000, ("speed",), 2, 0.021, 0.003, {"speed": 0.87})


def test_reliability_states_error_and_power_of_the_simulated_studies():
    sentences, power = reliability(
        studies.claims_plan(examples.claim(), examples.accuracy_claim()), CALIBRATION
    )
    said = " ".join(sentences)
    assert "2,000 simulated studies" in said
    assert "2.1%" in said
    assert "1 claim of the 2" in said
    assert power.rows == (("BN reaches the target in fewer steps.", "87.0%"),)


def test_reliability_says_that_nothing_was_simulated():
    assert reliability(studies.claims_plan(examples.claim()), None) == ((NONE_YET,), None)
    assert reliability(studies.claims_plan(), None) == ((), None)


def stored(folder, plan, /, **changes):
    content = {"plan": plan.sha256, **dataclasses.asdict(CALIBRATION), **changes}
    (folder / "calibration.json").write_text(json.dumps(content), encoding="utf-8")
    return stored_calibration(folder, plan)


def test_a_stored_calibration_comes_back(tmp_path):
    assert stored_calibration(tmp_path, studies.claims_plan(examples.claim())) is None
    assert stored(tmp_path, studies.claims_plan(examples.claim())) == CALIBRATION


def test_a_calibration_of_another_plan_does_not_count(tmp_path):
    assert stored(tmp_path, studies.claims_plan(examples.claim()), plan="ab") is None


def test_an_edited_calibration_is_one_line(tmp_path):
    with pytest.raises(StoreError, match=r"calibration\.json was cut or edited: make it anew"):
        stored(tmp_path, studies.claims_plan(examples.claim()), another=1)


def test_a_judgement_says_which_data_it_rests_on():
    assert counts(verdict()) == (
        "Read are 20 runs, 10 seeds of every arm; 1 censored and 2 diverged; none is left out."
    )
    whole = dataclasses.replace(verdict(), censored=0, diverged=0)
    assert "; none censored or diverged; none is left out." in counts(whole)
    empty = dataclasses.replace(verdict().result, effect=None)
    missing = dataclasses.replace(verdict(), result=empty)
    assert counts(missing).endswith("not all of them can be read.")


def test_an_exploratory_rule_promises_no_verdict():
    assert rule(examples.claim()).startswith("Read is steps-to-target")
    assert "Supported if" in rule(examples.claim())
    explored = rule(examples.claim(family="exploratory"))
    assert "Supported" not in explored
    assert "no verdict" in explored


def test_a_rule_says_how_the_second_reading_differs_and_what_ranks_are_compared_with():
    options = {"epochs": 10, "statistics": "running"}
    twice = Estimand("accuracy", (("bn",), ("bn",)), options, {"statistics": "population"})
    assert rule(examples.claim(estimand=twice, unit="points")).startswith(
        "Read is accuracy (epochs 10, statistics running): bn against bn (statistics population). "
    )
    ranks = Estimand(
        "probe",
        (("none", "bn", "group"),),
        {"probe": "geometry", "stat": "cosine"},
        summary="correlation",
        against="steps-to-target",
        against_options={"target": 0.7},
    )
    assert rule(examples.claim(estimand=ranks, unit="of rank")).startswith(
        "Read is probe (probe geometry, stat cosine), its rank correlation with steps-to-target "
        "(target 0.7): none + bn + group. "
    )


def runs(*commits):
    return pd.DataFrame({"git.commit": list(commits)})


def test_a_plan_is_registered_with_the_first_commit_that_trained_a_run(monkeypatch):
    days = {"a" * 40: "2026-02-03", "b" * 40: "2026-02-01", "c" * 40: None}
    monkeypatch.setattr(write, "commit_date", days.get)
    assert write.registration(runs(*days, None)) == {
        "Plan registered": f"2026-02-01, by commit {'b' * 12}"
    }
    assert write.registration(runs("c" * 40)) == {}
    assert write.registration(pd.DataFrame({"seed": [0]})) == {}


def test_only_a_revision_is_looked_up_in_git():
    assert commit_date("--all") is None
    assert commit_date("c0ffee" * 6) is None


def test_a_pilot_says_on_every_page_that_it_judges_nothing():
    plan = dataclasses.replace(
        studies.claims_plan(examples.claim()), seeds=tuple(range(1000, 1010))
    )
    files = render(build(plan, studies.tables(studies.claims_plan()), None))
    for name in ("index.html", "speed.html", "README.md", "speed.md"):
        assert "These are pilot runs" in files[name]
    assert "--pilot" in files["speed.md"]


def test_the_cost_of_an_arm_is_the_sum_of_its_runs_last_counts():
    plan = studies.claims_plan()
    tables = studies.tables(plan, values={"bn": {"images": [1000.0] * 10}})
    (page,) = build(plan, tables).pages
    assert page.arms.columns[-1] == "Image-passes"
    assert page.arms.rows[1][-1] == "10,000"


def test_engines_are_counted_by_distinct_runs():
    frame = pd.DataFrame(
        {
            "id": ["1", "1", "2", "3"],
            "status": ["done", "done", "done", "missing"],
            "engine": ["lockstep", "lockstep", "reference", None],
        }
    )
    assert mix(frame, "engine") == "lockstep (1 run), reference (1 run)"
