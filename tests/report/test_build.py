"""Contents of the report model: banner, cost of the arms, engines."""

import dataclasses

import pandas as pd

from bnstudy.report.build import build, value_counts
from bnstudy.report.render import render
from tests.synthetic import examples, studies


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
    assert value_counts(frame, "engine") == "lockstep (1 run), reference (1 run)"


def test_a_missing_run_that_two_experiments_share_is_one():
    twice = dataclasses.replace(examples.speed(), experiment=examples.convergence().experiment)
    plan = studies.plan(examples.speed(), twice, seeds=2)
    tables = studies.tables(plan, missing=[("bn", 1)])
    # the second experiment asks for the same runs as the first
    same = tables.runs["arm"] + tables.runs["seed"].astype(str)
    shared = dataclasses.replace(tables, runs=tables.runs.assign(id=same))
    report = build(plan, shared)
    assert "4 planned runs: 3 done and 1 missing." in report.introduction
    for page in report.pages:
        assert page.state.startswith("4 planned runs: 3 done and 1 missing.")
        assert [row[-4:-1] for row in page.arms.rows] == [("2", "0", "0"), ("1", "0", "1")]


def test_commands_begin_at_the_seed_of_the_study():
    plan = dataclasses.replace(studies.claims_plan(), seeds=tuple(range(2000, 2010)))
    report = build(plan, studies.tables(studies.claims_plan()))
    assert all(" --first-seed 2000" in command for command in report.commands)
    assert report.banner == build(studies.claims_plan(), studies.tables(plan)).banner
