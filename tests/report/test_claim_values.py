"""claims.csv: what every claim read of every run, missing runs included."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest

from bnstudy.config import canonical_json
from bnstudy.judging import judge
from bnstudy.plan import Estimand
from bnstudy.report.claim_values import COLUMNS, claim_values_text
from tests.synthetic import examples, studies


def written(*claims, arms=("none", "bn"), seeds=10, **changes):
    """Return the text of claims.csv, and its rows."""
    plan = studies.claims_plan(*claims, arms=arms, seeds=seeds)
    frozen = json.loads(canonical_json(plan.canonical()))
    text = claim_values_text(judge(plan, studies.tables(plan, **changes), frozen))
    return text, list(csv.DictReader(io.StringIO(text)))


REACHED = {"bn": examples.FAST, "none": [*examples.SLOW[:9], np.nan]}


def test_a_row_holds_the_reading_of_each_arm_and_the_number_of_the_seed():
    _, rows = written(examples.claim(), reached=REACHED, diverged=[("bn", 4)])
    assert [(row["seed"], row["group"], row["arm"]) for row in rows[:3]] == [
        ("0", "1", "bn"), ("0", "2", "none"), ("1", "1", "bn"),
    ]  # fmt: skip
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first["value"] == second["value"]
        ratio = float(first["reading"]) / float(second["reading"])
        assert float(first["value"]) == pytest.approx(np.log(ratio), rel=1e-14)
        assert float(first["natural_value"]) == pytest.approx(ratio, rel=1e-14)
    cut = [(row["arm"], row["seed"], row["status"]) for row in rows if row["censored"] == "True"]
    assert cut == [("bn", "4", "diverged"), ("none", "9", "done")]


def test_a_missing_run_is_a_row_that_says_so_and_the_rest_is_kept():
    _, rows = written(examples.claim(), reached=REACHED, missing=[("bn", 3)])
    assert len(rows) == 20
    (gone,) = [row for row in rows if row["status"] == "missing"]
    assert (gone["arm"], gone["seed"]) == ("bn", "3")
    assert gone["reading"] == gone["censored"] == ""
    assert {row["value"] for row in rows} == {""}
    assert sum(row["reading"] != "" for row in rows) == 19


def test_a_run_without_the_measure_is_unreadable():
    gaps = {"bn": {"test_accuracy_population": [[np.nan] * examples.EPOCHS] * 10}}
    _, rows = written(examples.accuracy_claim(), values=gaps)
    assert {(row["arm"], row["status"]) for row in rows} == {("bn", "unreadable"), ("none", "done")}


def test_an_order_has_a_value_per_arm_with_its_level():
    order = examples.claim("order", estimand=examples.ORDER, test="page", direction="greater")
    losses = {arm: {"test_loss_population": [mean] * 10} for arm, mean in (("a", 0.4), ("b", 0.6))}
    _, rows = written(order, arms=("a", "b"), values=losses)
    assert [(row["level"], row["value"]) for row in rows[:2]] == [("2.0", "0.4"), ("4.0", "0.6")]


def test_a_correlation_reads_two_measures_of_each_run():
    estimand = Estimand(
        "steps-to-target", (("bn",),), examples.STEPS.options, summary="correlation",
        against="loss", against_options={"epochs": examples.EPOCHS},
    )  # fmt: skip
    claim = examples.claim("rank", estimand=estimand, unit="rho")
    losses = {"bn": {"test_loss_population": np.linspace(1, 2, 10).tolist()}}
    _, rows = written(claim, reached=REACHED, values=losses)
    assert [(row["group"], row["measure"]) for row in rows[:2]] == [
        ("1", "steps-to-target"), ("2", "loss"),
    ]  # fmt: skip
    assert float(rows[-1]["reading"]) == 2.0


def test_explored_claims_are_there_and_equal_studies_give_equal_bytes():
    explored = examples.claim("further", family="explored")
    text, rows = written(examples.claim(), explored, reached=REACHED)
    assert {row["family"] for row in rows} == {"primary", "explored"}
    assert written(examples.claim(), explored, reached=REACHED)[0] == text
    assert text.splitlines()[0] == ",".join(COLUMNS)


def test_a_study_without_claims_has_the_columns_alone():
    assert written()[0] == ",".join(COLUMNS) + "\n"


# Missing runs are counted once -----------------------------------------------------------

BOTH_SIDES = Estimand(
    "steps-to-target", (("bn",), ("bn",)), examples.STEPS.options, {"target": 0.5}, scale="ratio"
)
SQUARE = Estimand("accuracy", (("both",), ("bn",), ("drop",), ("bn",)), {"epochs": examples.EPOCHS})


@pytest.mark.parametrize(
    ("estimand", "arms"),
    [
        (examples.STEPS, ("none", "bn")),
        (BOTH_SIDES, ("bn",)),
        (SQUARE, ("both", "bn", "drop")),
        (
            dataclasses.replace(examples.STEPS, arms=(("bn", "none"), ("bn", "b")), summary="slope",
                                levels=(1, 2)),
            ("none", "bn", "b"),
        ),
    ],
    ids=["pair", "same arm on both sides", "2x2 with a shared arm", "slopes with a shared arm"],
)  # fmt: skip
def test_one_missing_run_is_one(estimand, arms):
    claim = examples.claim(estimand=estimand, unit="steps")
    plan = studies.claims_plan(claim, arms=arms)
    frozen = json.loads(canonical_json(plan.canonical()))
    (verdict,) = judge(plan, studies.tables(plan, missing=[("bn", 3)]), frozen)
    assert verdict.reason == "missing are runs of bn (1 of 10)"
