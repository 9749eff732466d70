"""From a plan to a full store: plan minus store -> jobs -> worker processes -> store.

A job is one run for the reference engine, or a stack for the lockstep engine:
up to sixteen seeds of an arm at once.  A worker writes its runs into the store
itself, under their claims, so two launchers on one store share the work, and
killing any process costs no more than the job it was on.
"""

import errno
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bnstudy.config import RunConfig, canonical_json
from bnstudy.data import Dataset, Splits, read, split
from bnstudy.errors import BnstudyError, ConfigError, StoreError
from bnstudy.lockstep import LANES, available, train_stack, unsupported
from bnstudy.progress import Echo, StudyProgress, duration
from bnstudy.provenance import commit, machine, versions
from bnstudy.store import FINISHED, RunKey, Store, identify
from bnstudy.study import Plan
from bnstudy.training import train
from bnstudy.workers import Pool

ATTEMPTS = 3
ENGINES = ("auto", "reference", "lockstep")
FEWEST_SEEDS = 4  # with fewer, most lanes of a stack would be idle
TICK_SECONDS = 0.5
ASSUMED_RATE = 10_000.0  # image-passes a second of a worker, until a run has shown better
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Job:
    """Runs that are trained together: one, or a stack of one arm.

    Attributes
    ----------
    keys
        The runs.
    engine
        ``reference`` or ``lockstep``.
    """

    keys: tuple[RunKey, ...]
    engine: str


@dataclass(frozen=True)
class Outcome:
    """What became of a run: ``trained``, ``elsewhere``, ``failed`` or ``no-space``.

    ``reason`` says why, for the last two.
    """

    kind: str
    reason: str = ""


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


@dataclass(frozen=True)
class Setup:
    """What every worker process is told once."""

    root: Path
    data_folder: Path
    data_source: str
    device: str
    provenance: Mapping[str, Any]


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
        Processes at once, a thread each; all cores if None.
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
    count = cores() if workers is None else workers
    if count < 1:
        raise ConfigError(f"workers must be at least 1, got {count}")
    check_device(device)
    started = time.perf_counter()
    keys = list(
        {key.id: key for run in plan.runs for key in [identify(run, plan.data.digest)]}.values()
    )
    statuses = store.statuses(keys)
    todo = [key for key in keys if statuses[key.id] not in FINISHED]
    jobs = plan_jobs(todo, choose_engine(engine, device, echo))
    costs = {key.id: image_passes(key.run.arm.config, dataset) for key in todo}
    if dry_run:
        announce(plan, store, keys, statuses, costs, count, echo)
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


def choose_engine(engine: str, device: str, echo: Echo) -> str:
    """Return ``auto``, ``lockstep`` or ``reference`` after asking what is possible here.

    Raises
    ------
    ConfigError
        If there is no such engine, or lockstep was asked for and cannot be had.
    """
    if engine not in ENGINES:
        raise ConfigError(f"there is no engine {engine!r}: choose one of {', '.join(ENGINES)}")
    if engine == "reference":
        return engine
    possible, reason = available()
    if device != "cpu":
        possible, reason = False, f"it runs on the cpu, and the device is {device!r}"
    if not possible and engine == "lockstep":
        raise ConfigError(f"the lockstep engine cannot be had: {reason}; choose --engine reference")
    if not possible:
        echo(f"reference engine: the faster lockstep engine cannot be had, {reason}")
    return engine if possible else "reference"


def plan_jobs(keys: list[RunKey], engine: str) -> list[Job]:
    """Group runs into jobs, in their order; a stack stands where its first run does."""
    groups: dict[str, list[RunKey]] = {}
    for key in keys:
        arm = canonical_json(key.run.arm.config.canonical())
        alone = engine == "reference" or bool(unsupported(key.run.arm.config))
        groups.setdefault(key.id if alone else arm, []).append(key)
    jobs = []
    for group in groups.values():
        config = group[0].run.arm.config
        stacked = engine != "reference" and not unsupported(config)
        if stacked and (engine == "lockstep" or len(group) >= FEWEST_SEEDS):
            parts = (group[start : start + LANES] for start in range(0, len(group), LANES))
            jobs += [Job(tuple(part), "lockstep") for part in parts]
        else:
            jobs += [Job((key,), "reference") for key in group]
    return jobs


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
    return {
        "device": device,
        "threads": 1,
        "data": {"source": dataset.source, "sample": dataset.is_sample},
        "git": commit(),
        "versions": versions(),
        "machine": machine(),
    }


def image_passes(config: RunConfig, dataset: Dataset) -> int:
    """Return how many times a run trains on an image: images an epoch times epochs."""
    labels = len(dataset.train_labels)
    there = labels if config.train_split == "all" else labels - labels // 12
    return config.epochs * min(config.train_images or there, there)


def announce(
    plan: Plan,
    store: Store,
    keys: list[RunKey],
    statuses: Mapping[str, str],
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
    passes = sum(costs.values())
    rate, basis = measured_rate(plan, store)
    seconds = passes / (rate * workers)
    echo(
        f"{len(costs)} runs to train, {passes / 1e6:.1f} M image-passes, "
        f"about {duration(seconds)} with {workers} workers ({basis})"
    )


def measured_rate(plan: Plan, store: Store) -> tuple[float, str]:
    """Return image-passes a second of one worker, evaluation included, and where it is from."""
    runs = store.tables(plan).runs
    if "images_per_second" not in runs or not (runs["status"] != "missing").any():
        return ASSUMED_RATE, f"assuming {ASSUMED_RATE:,.0f} images/s a worker"
    rate = float(runs["images_per_second"].median())
    return rate, f"measured on the runs that are there: {rate:,.0f} images/s a worker"


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


def make_trainer(setup: Setup) -> Callable[[Job], list[Outcome]]:
    """Prepare a worker process; return the function that trains a job into the store."""
    torch.set_num_threads(1)
    dataset = read(setup.data_folder, setup.data_source)
    store = Store(setup.root)
    last: dict[str, Splits] = {}

    def splits_of(config: RunConfig) -> Splits:
        fields = ("train_split", "train_images", "validation_images", "test_images")
        name = str([getattr(config, each) for each in (*fields, "population_images")])
        if name not in last:
            last.clear()
            last[name] = split(dataset, config)
        return last[name]

    def trainer(job: Job) -> list[Outcome]:
        outcomes = {key.id: Outcome("trained") for key in job.keys}
        try:
            with ExitStack() as claims:
                mine = []
                for key in job.keys:
                    if not claims.enter_context(store.claim(key)):
                        outcomes[key.id] = Outcome("elsewhere")
                    elif store.status(key) not in FINISHED:
                        mine.append(key)
                if mine:
                    _train_into(store, mine, splits_of(mine[0].run.arm.config), job.engine, setup)
        except OSError as error:
            kind = "no-space" if error.errno in NO_SPACE else "failed"
            reason = str(error.strerror) if kind == "no-space" else one_line(error)
            return [Outcome(kind, reason)] * len(job.keys)
        except Exception as error:  # a run that fails must not take the others along
            return [Outcome("failed", one_line(error))] * len(job.keys)
        return list(outcomes.values())

    return trainer


def _train_into(
    store: Store, keys: list[RunKey], splits: Splits, engine: str, setup: Setup
) -> None:
    """Train runs of one arm and write them."""
    config, seeds = keys[0].run.arm.config, [key.run.seed for key in keys]
    if engine == "lockstep":
        records = train_stack(config, seeds, splits)
    else:
        records = [train(config, seed, splits, device=setup.device) for seed in seeds]
    for key, record in zip(keys, records, strict=True):
        images = record.steps / record.steps_per_epoch * len(splits.train)
        times = {
            "train_seconds": record.train_seconds,
            "wall_seconds": record.wall_seconds,
            "images_per_second": images / record.wall_seconds,
        }
        store.write(key, record, {**setup.provenance, "engine": engine, **times})


def one_line(error: Exception) -> str:
    """Return an error as one line, with its kind if it was not foreseen."""
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, BnstudyError) else f"{type(error).__name__}: {text}"
