"""The runner: what it trains, what it leaves, and what killing any process costs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bnstudy.errors import ConfigError, StoreError
from bnstudy.report.console import StudyConsole, summary_lines
from bnstudy.runs import runner
from bnstudy.runs.jobs import RunResult
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import Store, identify
from bnstudy.runs.tables import read_tables
from tests.plans import LONG, SMALL, plan_of

# A launcher as a user starts it: python launch.py STORE SEEDS EPOCHS
LAUNCH = """
import sys
from pathlib import Path
from bnstudy import data
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import Store
from tests.plans import LONG, plan_of
if __name__ == "__main__":
    from bnstudy.report.console import StudyConsole, summary_lines  # not for workers
    root, seeds, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dataset = data.load(source="sample")
    summary = run_study(plan_of(dataset, LONG.replace(epochs=epochs), seeds), Store(root), dataset,
                        workers=2, listener=StudyConsole())
    print(*summary_lines(summary), sep="\\n", flush=True)
    sys.exit(130 if summary.interrupted else 0)
"""


def launch(tmp_path: Path, seeds: int, epochs: int) -> subprocess.Popen:
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "store"), str(seeds), str(epochs)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # tests that a shell started in the background ignore Ctrl-C, and so would this
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def results(root: Path) -> list[Path]:
    return sorted(root.glob("speed/*/*/result.json"))


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


def workers_of(pid: int) -> list[int]:
    """Return the processes below a launcher that train, as Linux knows them."""
    found = []
    for task in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = task.read_text().rsplit(")", 1)[1].split()
            command = (task.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in command and fields[0] != "Z":
            found.append(int(task.parent.name))
    return found


def test_a_study_is_trained_once(sample, tmp_path):
    store, plan, lines = Store(tmp_path / "store"), plan_of(sample), []
    first = run_study(plan, store, sample, workers=2, listener=StudyConsole(lines.append))
    assert (first.trained, first.skipped, first.failed) == (4, 0, [])
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    again = run_study(plan, store, sample, workers=2, listener=StudyConsole(lines.append))
    assert (again.trained, again.skipped) == (0, 4)
    assert summary_lines(again) == ["nothing to train: all 4 runs are there"]
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    tables = read_tables(store, plan)
    assert set(tables.runs["status"]) == {"done"}
    assert (tables.runs["threads"] == 1).all()
    no_secret = b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file())
    for secret in (str(tmp_path), os.uname().nodename, str(Path.home())):
        assert secret.encode() not in no_secret or len(secret) < 4


def test_a_damaged_run_is_kept_aside_and_trained_again_to_the_same_result(sample, tmp_path):
    store, plan = Store(tmp_path / "store"), plan_of(sample, seeds=1)
    run_study(plan, store, sample, workers=1)
    before = read_tables(store, plan).curves
    victim = store.folder(identify(plan.runs[1], plan.data.digest))
    (victim / "curve.parquet").write_bytes(b"cut")
    lines = []
    summary = run_study(plan, store, sample, workers=1, listener=StudyConsole(lines.append))
    assert (summary.trained, summary.skipped) == (1, 1)
    assert any("damaged run kept aside as speed/bn/" in line for line in lines)
    pd.testing.assert_frame_equal(read_tables(store, plan).curves, before, check_exact=True)


def test_a_dry_run_says_what_is_missing_and_writes_nothing(sample, tmp_path):
    store, lines = Store(tmp_path / "store"), []
    console = StudyConsole(lines.append)
    summary = run_study(plan_of(sample), store, sample, workers=2, dry_run=True, listener=console)
    assert summary.left == 4
    assert lines[0] == "speed: 4 runs (4 missing)"
    assert lines[1] == (
        "4 runs to train, 0 stacks and 4 single runs, 0.0 M image-passes, "
        "about 0 s with 2 workers (at assumed speeds)"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, -1])
def test_there_must_be_a_worker(sample, tmp_path, workers):
    with pytest.raises(ConfigError) as refusal:
        run_study(plan_of(sample), Store(tmp_path), sample, workers=workers)
    assert str(refusal.value) == f"workers must be at least 1, got {workers}"


def test_an_unknown_device_is_refused(sample, tmp_path):
    with pytest.raises(ConfigError, match="there is no device 'warp' here: choose cpu"):
        run_study(plan_of(sample), Store(tmp_path), sample, device="warp")


def test_a_run_that_fails_is_listed_and_the_others_are_kept(sample, tmp_path):
    config = SMALL.replace(batch_size=199)  # a batch of one image is left over
    store, plan = Store(tmp_path / "store"), plan_of(sample, config, seeds=1)
    summary = run_study(plan, store, sample, workers=1)
    assert summary.trained == 1
    assert len(summary.failed) == 1
    assert summary.failed[0].startswith(
        "speed, arm bn, seed 0: norm 'bn' needs at least 2 images in every batch"
    )
    assert list(read_tables(store, plan).runs["status"]) == ["done", "missing"]


def test_a_store_that_cannot_be_written_is_one_line(sample, tmp_path):
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        run_study(plan_of(sample), Store(tmp_path / "store"), sample, workers=1)


def test_a_full_disk_stops_the_study_with_one_line(sample, tmp_path, monkeypatch):
    class FullPool:
        idle = property(lambda self: [self])

        def __init__(self, *_):
            self.jobs = []

        def give(self, worker, job):
            self.jobs.append(job)

        def results(self, timeout):
            full = RunResult("no-space", "No space left on device")
            return [(job, [full] * len(job.keys)) for job in self.jobs]

        def close(self):
            pass

    monkeypatch.setattr(runner, "Pool", FullPool)
    with pytest.raises(StoreError) as refusal:
        run_study(plan_of(sample), Store(tmp_path / "store"), sample, workers=1)
    assert str(refusal.value) == (
        "the disk is full: No space left on device; finished runs are kept, free some space "
        "and run the same command again"
    )


# Killing ----------------------------------------------------------------------------------


def test_killing_a_worker_costs_its_run_only_and_that_is_tried_again(sample, tmp_path):
    process = launch(tmp_path, seeds=3, epochs=3)
    wait_for(lambda: len(workers_of(process.pid)) == 2)
    wait_for(lambda: len(results(tmp_path / "store")) >= 1)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "6 runs trained" in output
    assert len(results(tmp_path / "store")) == 6


def test_killing_the_launcher_ends_its_workers_and_loses_no_finished_run(sample, tmp_path):
    process = launch(tmp_path, seeds=3, epochs=3)
    wait_for(lambda: len(results(tmp_path / "store")) >= 2)
    workers = workers_of(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=10)
    done = {path: path.stat().st_mtime_ns for path in results(tmp_path / "store")}
    assert 2 <= len(done) < 6
    again = launch(tmp_path, seeds=3, epochs=3)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert f"{6 - len(done)} runs trained" in output
    assert len(results(tmp_path / "store")) == 6
    assert all(path.stat().st_mtime_ns == written for path, written in done.items())


def test_two_launchers_at_once_train_each_run_once(sample, tmp_path):
    both = [launch(tmp_path, seeds=3, epochs=2) for _ in range(2)]
    outputs = [process.communicate(timeout=180)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len(results(tmp_path / "store")) == 6
    plan = plan_of(sample, LONG.replace(epochs=2), 3)
    assert set(read_tables(Store(tmp_path / "store"), plan).runs["status"]) == {"done"}
    assert not list((tmp_path / "store").rglob("*damaged*"))


def test_ctrl_c_ends_a_study_cleanly_and_it_goes_on_later(sample, tmp_path):
    process = launch(tmp_path, seeds=3, epochs=3)
    wait_for(lambda: len(results(tmp_path / "store")) >= 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "run the same command again to go on" in output
    assert "Traceback" not in output
    done = len(results(tmp_path / "store"))
    output, _ = launch(tmp_path, seeds=3, epochs=3).communicate(timeout=120)
    assert f"{6 - done} runs trained" in output


def test_a_run_whose_process_keeps_dying_is_given_up(sample, tmp_path, monkeypatch):
    class DyingPool:
        idle = property(lambda self: [self])

        def __init__(self, *_):
            self.jobs, self.given = [], 0

        def give(self, worker, job):
            self.jobs.append(job)

        def results(self, timeout):
            jobs, self.jobs = self.jobs, []
            return [(job, None) for job in jobs]

        def close(self):
            pass

    monkeypatch.setattr(runner, "Pool", DyingPool)
    plan = plan_of(sample, seeds=1, norms=("bn",))
    summary = run_study(plan, Store(tmp_path / "s"), sample, workers=1)
    assert summary.failed == ["speed, arm bn, seed 0: its process was killed (out of memory?)"]
