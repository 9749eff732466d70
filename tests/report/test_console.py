"""The console's lines: progress at a readable pace, the workload, and every kind of ending."""

import dataclasses

import numpy as np
import pytest

from bnstudy.judging import Calibration, FamilyError
from bnstudy.plan import Pilot
from bnstudy.report.console import (
    StudyConsole,
    calibration_lines,
    pilot_lines,
    summary_lines,
    workload_lines,
)
from bnstudy.runs.progress import Progress, Workload
from bnstudy.runs.runner import Summary
from bnstudy.runs.tables import Tables
from tests.synthetic import examples, studies
from tests.synthetic.examples import NAN


def test_progress_is_a_line_every_ten_seconds_once_some_runs_have_ended():
    lines = []
    console = StudyConsole(lines.append)
    for done, seconds in ((0, 0.0), (3, 30.0), (4, 40.0), (5, 49.0), (10, 60.0)):
        console.progressed(Progress(done, 16, done * 100, 1_600, seconds))
    assert lines == ["4 of 16 runs, about 2 min left", "10 of 16 runs, about 36 s left"]


def test_time_left_is_counted_in_image_passes_since_runs_differ_in_length():
    # three of four runs took 60 s, but the last one is as long as the three
    assert Progress(3, 4, 300, 600, 60.0).seconds_left == 60.0
    assert Progress(0, 4, 0, 600, 60.0).seconds_left == float("inf")


def test_notes_are_written_as_they_are():
    lines = []
    StudyConsole(lines.append).note("damaged run kept aside")
    assert lines == ["damaged run kept aside"]


def test_a_terminal_gets_a_bar_that_ends_with_the_study(monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    lines = []
    with StudyConsole(lines.append) as console:
        console.progressed(Progress(0, 8, 0, 800, 0.0))
        console.progressed(Progress(5, 8, 500, 800, 50.0))
        (task,) = console._bar.tasks
        assert (task.completed, task.total, task.fields["runs"]) == (500, 800, 5)
        assert console._bar.live.is_started
    assert not console._bar.live.is_started
    assert lines == []


WORKLOAD = Workload(
    statuses={"speed": {"missing": 3, "done": 1}, "noise": {}},
    runs=3,
    stacks=1,
    single_runs=2,
    image_passes=2_345_678,
    workers=2,
    seconds=3_000.0,
    measured=False,
)


def test_a_workload_is_a_line_per_experiment_and_one_for_all():
    assert workload_lines(WORKLOAD) == [
        "speed: 4 runs (1 done, 3 missing)",
        "noise: 0 runs (shared with others)",
        "3 runs to train, 1 stacks and 2 single runs, 2.3 M image-passes, "
        "about 50 min with 2 workers (at assumed speeds)",
    ]


@pytest.mark.parametrize(
    ("summary", "lines"),
    [
        (Summary(skipped=4), ["nothing to train: all 4 runs are there"]),
        (Summary(skipped=4, left=2), ["4 runs are there, 2 to train"]),
        (Summary(trained=4, wall_seconds=12.3), ["4 runs trained in 12 s"]),
        (
            Summary(trained=4, skipped=1, failed=["a: no"], wall_seconds=8_000.0),
            ["failed: a: no", "4 runs trained in 2.2 h, 1 were there, 1 failed"],
        ),
        (
            Summary(trained=4, left=2, interrupted=True),
            ["interrupted: 4 runs trained, 2 left; run the same command again to go on"],
        ),
    ],
)
def test_every_ending_of_a_study_is_a_sentence(summary, lines):
    assert summary_lines(summary) == lines


def test_a_calibration_is_a_line_per_family_and_per_claim():
    errors = (
        FamilyError("primary", ("speed",), 2, 0.0215, 0.0032),
        FamilyError("secondary", ("other", "more"), 2, 0.04, 0.005),
    )
    found = Calibration(2_000, errors, {"speed": 0.8734})
    assert calibration_lines("standard", found) == [
        "study standard: family-wise error of 1 of 2 primary claims 0.021 "
        "(standard error 0.003) in 2,000 null studies",
        "study standard: family-wise error of 2 of 2 secondary claims 0.040 "
        "(standard error 0.005) in 2,000 null studies",
        "speed: found in 87.3% of studies with the pilot's effect",
    ]


def test_a_pilot_is_a_line_to_paste_with_the_hash_of_its_arms():
    claims = (examples.claim(), examples.claim("gone", estimand=examples.ACCURACY))
    plan = dataclasses.replace(studies.claims_plan(*claims), seeds=tuple(range(1000, 1010)))
    steps = {"bn": [100] * 10, "none": [200] * 9 + [NAN]}
    tables = shifted(studies.tables(studies.claims_plan(*claims), steps, missing=()), 1000)
    (planned,) = plan.experiments
    lines = pilot_lines(plan, tables)
    assert lines[0].startswith("speed: pilot=Pilot(")
    pasted = eval(f"dict({lines[0].removeprefix('speed: ')})", {"Pilot": Pilot})["pilot"]
    logs = np.log([0.5] * 9 + [0.25])
    assert pasted == Pilot(
        float(f"{logs.mean():.4g}"), float(f"{logs.std(ddof=1):.4g}"), plan.seeds, 0.1,
        planned.arms_digest(claims[0]),
    )  # fmt: skip
    assert pilot_lines(plan, studies.tables(studies.claims_plan()))[1] == (
        "gone: missing are runs of bn (10 of 10), runs of none (10 of 10)"
    )
    one = dataclasses.replace(plan, seeds=(1000,))
    assert pilot_lines(one, tables)[0] == "speed: a pilot's spread needs two seeds or more, got 1"


def shifted(tables, first):
    """Return the same tables with seeds from another one on."""
    frames = (tables.runs, tables.curves, tables.norms, tables.measures)
    return Tables(*(frame.assign(seed=frame["seed"] + first) for frame in frames))
