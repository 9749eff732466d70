"""Plans and claims on the command line, on the standard plan and the bundled sample."""

import json

import pytest
from click.testing import CliRunner

from bnstudy.cli import main
from bnstudy.config import digest
from bnstudy.experiments import EXPERIMENTS

STANDARD = ["--data", "sample", "--profile", "standard"]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run a command in an empty folder without network; return its result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BNSTUDY_OFFLINE", "1")
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def test_the_shown_plan_is_the_frozen_one(invoke, tmp_path):
    shown = invoke("plan", "show", *STANDARD)
    assert shown.exit_code == 0, shown.output
    plan = json.loads(shown.output.splitlines()[-1])
    assert invoke("plan", "freeze", *STANDARD).exit_code == 0
    stored = json.loads((tmp_path / "runs/standard-sample/plan.json").read_text())
    assert stored["sha256"] == digest(stored["plan"])
    by_name = {each["name"]: each for each in plan["experiments"]}
    assert {each["name"]: each for each in stored["plan"]["experiments"]} == by_name
    assert set(by_name) == set(EXPERIMENTS)
    again = invoke("plan", "check", *STANDARD)
    assert "the stored plan is" in again.output
    assert "all can come out" in again.output


def test_too_few_seeds_for_the_claims_are_refused_before_anything_is_trained(invoke, tmp_path):
    # all claims together need more seeds than those of one experiment
    for command, needed in (
        (["plan", "check"], 11),
        (["plan", "freeze"], 11),
        (["run", "convergence", "--dry-run"], 9),
    ):
        refused = invoke(*command, *STANDARD, "--seeds", "6")
        assert refused.exit_code == 1
        assert "error: a plan must be able to decide its claims, but 6 seeds cannot decide" in (
            refused.output
        )
        assert (
            " speed (even its smallest possible p is not significant after Holm's correction: "
            f"takes {needed} seeds)"
        ) in refused.output
    assert not (tmp_path / "runs").exists()


def test_claims_without_runs_are_inadmissible_and_say_what_is_missing(invoke):
    printed = invoke("claims", "convergence", *STANDARD)
    assert printed.exit_code == 0, printed.output
    lines = [line for line in printed.output.splitlines() if line.startswith("speed")]
    assert len(lines) == 2
    assert all("There are no data to judge" in line for line in lines)
    assert "missing are runs of none (16 of 16), runs of bn (16 of 16)" in lines[0]
    as_json = invoke("claims", "convergence", *STANDARD, "--json")
    verdicts = json.loads(as_json.stdout[as_json.stdout.index("[\n") :])
    assert [each["outcome"] for each in verdicts] == ["INADMISSIBLE"] * 8 + [None] * 2
    assert verdicts[0]["claim"]["estimand"]["arms"] == [["none"], ["bn"]]


def test_a_first_look_registers_nothing(invoke):
    assert "registers no claims" in invoke("claims", "--data", "sample", "--profile", "tiny").output


def test_a_calibration_is_stored_with_the_plan_it_belongs_to(invoke, tmp_path):
    done = invoke("plan", "calibrate", *STANDARD, "--studies", "50")
    assert done.exit_code == 0, done.output
    assert "family-wise error" in done.output
    stored = json.loads((tmp_path / "runs/standard-sample/calibration.json").read_text())
    assert stored["studies"] == 50
    assert set(stored["power"]) >= {"speed", "speed-tuned", "eval-stats"}
    assert len(stored["plan"]) == 64


def test_a_pilot_has_seeds_that_no_claim_uses(invoke):
    shown = invoke("plan", "show", "--pilot", *STANDARD)
    plan = json.loads(shown.output.splitlines()[-1])
    assert plan["seeds"] == list(range(1_000, 1_016))
    missing = invoke("plan", "pilot", *STANDARD)
    assert "speed: missing are runs of none (16 of 16), runs of bn (16 of 16)" in missing.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--first-seed", "1000"],
            "seeds 1000 to 1999 are for pilots, which judge no claim, got --first-seed 1000: give "
            "2000 or above, or --pilot instead",
        ),
        (
            ["--first-seed", "2000", "--pilot"],
            "the seeds of a pilot begin at 1000, got --first-seed 2000 with --pilot: leave one of "
            "the two out",
        ),
        (["--first-seed", "-1"], "seed must be an integer of at least 0, got -1"),
        (
            ["--first-seed", "990"],
            "seeds 1000 to 1999 are for pilots alone, got 990 to 1005: take fewer seeds, or begin "
            "at 2000 or above",
        ),
    ],
)
def test_a_first_seed_that_cannot_be_is_refused(invoke, options, message):
    refused = invoke("plan", "show", "convergence", *STANDARD, *options)
    assert refused.exit_code == 1
    assert refused.output.splitlines()[-1] == f"error: {message}"


def test_a_study_keeps_the_seeds_it_was_begun_with(invoke, tmp_path):
    fresh = ["convergence", *STANDARD, "--first-seed", "2000"]
    shown = invoke("plan", "show", *fresh)
    assert json.loads(shown.output.splitlines()[-1])["seeds"] == list(range(2_000, 2_016))
    assert invoke("plan", "freeze", "convergence", *STANDARD).exit_code == 0
    for command in (["run"], ["run", "--dry-run"], ["report"], ["claims"], ["plan", "check"]):
        refused = invoke(*command, *fresh)
        assert refused.exit_code == 1
        assert refused.output.splitlines()[-1] == (
            "error: study 'standard-sample' was begun with other seeds (0 to 15, not 2000 to "
            "2015): take these with --first-seed 0, or give the changed study another name with "
            "--study"
        )
    assert not (tmp_path / "reports").exists()
    assert invoke("plan", "check", *fresh, "--study", "fresh").exit_code == 0
