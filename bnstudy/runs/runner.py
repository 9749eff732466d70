"""From a plan to a full store: plan minus store -> jobs -> worker processes -> store.

A worker writes its runs into the store itself, under their claims, so two
launchers on one store share the work, and killing any process costs no more
than the job it was on.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bnstudy.data import Dataset
from bnstudy.errors import BnstudyError, ConfigError, StoreError
from bnstudy.plan import Plan
from bnstudy.runs.jobs import (
    Job,
    Outcome,
    Setup,
    choose_engine,
    image_passes,
    make_trainer,
    plan_jobs,
)
from bnstudy.runs.processes import Pool
from bnstudy.runs.progress import Echo, StudyProgress, duration
from bnstudy.runs.provenance import commit, machine, versions
from bnstudy.runs.store import FINISHED, RunKey, Store, identify

ATTEMPTS = 3
TICK_SECONDS = 0.5
# image-passes a second of a worker, evaluation included, until a run has shown better
ASSUMED_RATES = {"reference": 10_000.0, "lockstep": 40_000.0}


@dataclass
class Summary:
    """What a call of :func:`run_study` did.

    Attributes
    ----------
    trained, skipped
        Runs trained now, and runs that were there before.
    failed
        One line for each run that failed.
    left
        Runs that are still to be trained.
    interrupted
        Whether Ctrl-C ended it.
    wall_seconds
        Time it took.
    """

    trained: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    left: int = 0
    interrupted: bool = False
    wall_seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """The summary for a console."""
        if self.interrupted:
            return (
                f"interrupted: {self.trained} runs trained, {self.left} left; "
                "run the same command again to go on"
            )
        if self.left:
            return f"{self.skipped} runs are there, {self.left} to train"
        if not self.trained and not self.failed:
            return f"nothing to train: all {self.skipped} runs are there"
        parts = [f"{self.trained} runs trained in {duration(self.wall_seconds)}"]
        if self.skipped:
            parts.append(f"{self.skipped} were there")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_study(
    plan: Plan,
    store: Store,
    dataset: Dataset,
    *,
    workers: int | None = None,
    device: str = "cpu",
    engine: str = "auto",
    dry_run: bool = False,
    echo: Echo = print,
) -> Summary:
    """Train every run of a plan that the store does not have.

    Parameters
    ----------
    plan, store
        What is wanted, and what is there.
    dataset
        The images, those that the plan names.
    workers
        Processes at once, a thread each; if None all cores, but one process
        where the lockstep engine has a GPU to keep busy.
    device
        A torch device.
    engine
        ``reference``; ``lockstep``; or ``auto``: lockstep where it is
        available, supports the arm and has at least four seeds to train.
    dry_run
        Only say what would be done; nothing is trained or written.
    echo
        Takes a line for the user.

    Returns
    -------
    Summary
        Also of a call that Ctrl-C ended or in which runs failed.

    Raises
    ------
    ConfigError
        If ``workers`` is below 1, or there is no such device or engine.
    StoreError
        If the disk is full; finished runs stay.
    PlanMismatchError
        If the store holds the runs of another plan.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    check_device(device)
    started = time.perf_counter()
    keys = list(
        {key.id: key for run in plan.runs for key in [identify(run, plan.data.digest)]}.values()
    )
    statuses = store.statuses(keys)
    todo = [key for key in keys if statuses[key.id] not in FINISHED]
    engine = choose_engine(engine, device, echo)
    count = workers or (1 if engine != "reference" and device != "cpu" else cores())
    jobs = plan_jobs(todo, engine, device)
    costs = {key.id: image_passes(key.run.arm.config, dataset) for key in todo}
    if dry_run:
        announce(plan, store, keys, statuses, jobs, costs, count, echo)
        return Summary(skipped=len(keys) - len(todo), left=len(todo))
    try:
        store.freeze(plan)
        for key in todo:
            if statuses[key.id] == "damaged":
                aside = store.set_aside(key)
                echo(f"damaged run kept aside as {aside.relative_to(store.root)}, training it anew")
        summary = Summary(skipped=len(keys) - len(todo))
        if todo:
            setup = Setup(
                store.root, dataset.folder, dataset.source, device, origin(dataset, device)
            )
            with StudyProgress(len(todo), sum(costs.values()), echo) as tell:
                _drive(jobs, costs, setup, min(count, len(jobs)), summary, tell)
    except OSError as error:
        if isinstance(error, BnstudyError):
            raise
        raise StoreError(f"{store.root} cannot be written ({error.strerror})") from None
    for line in summary.failed:
        echo(f"failed: {line}")
    summary.wall_seconds = time.perf_counter() - started
    return summary


def check_device(device: str) -> None:
    """Refuse a device that torch does not have.

    Raises
    ------
    ConfigError
        Naming the device.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(f"there is no device {device!r} here: choose cpu") from None


def origin(dataset: Dataset, device: str) -> dict[str, Any]:
    """Return the provenance that all runs of a call share."""
    accelerator = {}
    if torch.device(device).type == "cuda":
        accelerator = {"accelerator": torch.cuda.get_device_name(device)}
    return {
        "device": device,
        **accelerator,
        "threads": 1,
        "data": {"source": dataset.source, "sample": dataset.is_sample},
        "git": commit(),
        "versions": versions(),
        "machine": machine(),
    }


def announce(
    plan: Plan,
    store: Store,
    keys: list[RunKey],
    statuses: Mapping[str, str],
    jobs: list[Job],
    costs: Mapping[str, int],
    workers: int,
    echo: Echo,
) -> None:
    """Say what would be trained, and about how long it would take."""
    for planned in plan.experiments:
        mine = [key for key in keys if key.run.experiment == planned.experiment.name]
        found = [statuses[key.id] for key in mine]
        counts = ", ".join(
            f"{found.count(kind)} {kind}"
            for kind in ("done", "diverged", "damaged", "missing")
            if kind in found
        )
        echo(f"{planned.experiment.name}: {len(mine)} runs ({counts or 'shared with others'})")
    rates, basis = measured_rates(plan, store)
    seconds = [sum(costs[key.id] for key in job.keys) / rates[job.engine] for job in jobs]
    # no sooner than the longest job, however many workers there are
    wall = max(sum(seconds) / workers, max(seconds, default=0.0))
    stacks = sum(job.engine == "lockstep" for job in jobs)
    echo(
        f"{len(costs)} runs to train, {stacks} stacks and {len(jobs) - stacks} single runs, "
        f"{sum(costs.values()) / 1e6:.1f} M image-passes, "
        f"about {duration(wall)} with {workers} workers ({basis})"
    )


def measured_rates(plan: Plan, store: Store) -> tuple[dict[str, float], str]:
    """Return image-passes a second of one worker by engine, and where the figures are from."""
    runs = store.tables(plan).runs
    if "images_per_second" not in runs or not (runs["status"] != "missing").any():
        return ASSUMED_RATES, "at assumed speeds"
    found = runs.groupby("engine")["images_per_second"].median().dropna()
    measured = {str(engine): float(rate) for engine, rate in found.items()}
    return {**ASSUMED_RATES, **measured}, "at the speed of the runs that are there"


def _drive(
    jobs: list[Job],
    costs: Mapping[str, int],
    setup: Setup,
    workers: int,
    summary: Summary,
    tell: Callable[[int, int], None],
) -> None:
    """Give out jobs and collect outcomes until none is left."""
    pending, elsewhere = deque(jobs), deque[Job]()
    attempts: Counter[Job] = Counter()
    summary.left = sum(len(job.keys) for job in jobs)
    pool = Pool(workers, make_trainer, setup)
    try:
        while summary.left:
            for worker in pool.idle:
                if pending:
                    pool.give(worker, pending.popleft())
            for job, outcomes in pool.results(TICK_SECONDS):
                if outcomes is None:
                    attempts[job] += 1
                    if attempts[job] < ATTEMPTS:
                        pending.append(job)
                        continue
                    outcomes = [Outcome("failed", "its process was killed (out of memory?)")]
                    outcomes *= len(job.keys)
                ended = []
                for key, outcome in zip(job.keys, outcomes, strict=True):
                    if outcome.kind == "elsewhere":
                        elsewhere.append(Job((key,), "reference"))
                    else:
                        _count(key, outcome, summary)
                        ended.append(costs[key.id])
                tell(len(ended), sum(ended))
            if not pending and elsewhere and pool.idle:
                pending.append(elsewhere.popleft())  # another launcher's: look again
                time.sleep(TICK_SECONDS)
    except KeyboardInterrupt:
        summary.interrupted = True
    finally:
        pool.close()


def _count(key: RunKey, outcome: Outcome, summary: Summary) -> None:
    """Enter what became of a run into the summary.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    if outcome.kind == "no-space":
        raise StoreError(
            f"the disk is full: {outcome.reason}; finished runs are kept, free some "
            "space and run the same command again"
        )
    summary.left -= 1
    if outcome.kind == "failed":
        summary.failed.append(f"{name_of(key)}: {outcome.reason}")
    else:
        summary.trained += 1


def name_of(key: RunKey) -> str:
    """Name a run for a person."""
    return f"{key.run.experiment}, arm {key.run.arm.name}, seed {key.run.seed}"
