"""Where the time of a study goes: seconds by engine and phase, from the first import to the report.

Trains a small study in a scratch folder by the commands a user gives, then reads the times that
every run keeps of itself.  ``--runs`` prints the same of a study that was trained before.

Seconds are of processes: with two workers, a minute of wall time is two minutes of processes.
``waiting`` is the time in which a worker had nothing left to do while another was still training.

Run it: ``make bench-study``, or ``python -m benchmarks.study convergence noisy --profile quick``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from bnstudy import data
from bnstudy.engines.phases import PHASES
from bnstudy.runs.runner import cores

PREFIX = "phase_seconds."


def by_phase(runs: pd.DataFrame) -> pd.DataFrame:
    """Return seconds of all runs: a row per phase, a column per engine."""
    columns = [PREFIX + phase for phase in PHASES if PREFIX + phase in runs]
    table = runs.groupby("engine")[columns].sum().T
    table.index = [name.removeprefix(PREFIX) for name in table.index]
    return table


def outside_runs(runs: pd.DataFrame, begun: float, ended: float) -> dict[str, float]:
    """Return the seconds that worker processes spent between ``begun`` and ``ended`` on no run.

    Starting; writing, which includes reading the images; and waiting at the end.
    """
    starting = writing = waiting = 0.0
    for _, of_process in runs.groupby("process"):
        first, last = of_process["started"].min(), of_process["finished"].max()
        starting += first - begun
        writing += last - first - of_process["wall_seconds"].sum()
        waiting += ended - last
    return {"starting": starting, "writing": writing, "waiting": waiting}


def timed(*command: str) -> float:
    """Run a command, silently; return its seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def print_table(table: pd.DataFrame) -> None:
    """Print seconds by phase and engine, and their shares."""
    total = table.to_numpy().sum()
    print(f"{'seconds of processes':22}" + "".join(f"{name:>12}" for name in table) + "     share")
    for phase, row in table.iterrows():
        cells = "".join(f"{value:12.1f}" for value in row)
        print(f"{phase:22}{cells}{row.sum() / total:10.1%}")
    print(f"{'sum':22}" + "".join(f"{value:12.1f}" for value in table.sum()) + f"{1:10.1%}")
    training = table.loc[[name for name in table.index if name in PHASES[1:6]]].to_numpy().sum()
    readings = table.filter(regex="readings", axis=0).to_numpy().sum()
    print(f"readings are {readings / training:.1%} of training")


def finished_runs(folder: Path) -> pd.DataFrame:
    """Return what each run in a folder keeps of its training, one row per run."""
    kept = [json.loads(path.read_bytes()) for path in sorted(folder.rglob("provenance.json"))]
    if not kept:
        raise SystemExit(f"error: {folder} holds no runs: name the folder of a study's runs")
    return pd.json_normalize(kept)


def main() -> None:
    """Train a small study, or read one, and print where its time went."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("experiments", nargs="*", default=["all"])
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--data", default="auto")
    parser.add_argument("--runs", type=Path, help="a study's folder of runs: train nothing")
    options = parser.parse_args()
    if options.runs:
        print_table(by_phase(finished_runs(options.runs)))
        return
    bnstudy = str(Path(sys.executable).with_name("bnstudy"))
    data.load(options.data)  # downloads it, if need be
    with tempfile.TemporaryDirectory() as folder:
        where = ("--runs", f"{folder}/runs", "--profile", options.profile)
        seeds = ("--seeds", str(options.seeds)) if options.seeds else ()
        command = (bnstudy, "run", *options.experiments, *where, *seeds, "--data", options.data)
        planning = timed(*command, "--dry-run")
        begun = time.time()
        timed(*command)
        ended = time.time()
        runs = finished_runs(Path(folder) / "runs")
        report = timed(bnstudy, "report", *where, *seeds, "--reports", f"{folder}/reports")
    wall, processes = ended - begun, runs["process"].nunique()
    print_table(by_phase(runs))
    print(
        f"\n{len(runs)} runs in {wall:.1f} s by {processes} processes on {cores()} cores; of these"
    )
    for name, seconds in outside_runs(runs, begun, ended).items():
        print(f"{name:22}{seconds:12.1f}{seconds / (wall * processes):10.1%}")
    print(f"\nplanning (--dry-run)  {planning:12.1f}\nreport                {report:12.1f}")


if __name__ == "__main__":
    main()
