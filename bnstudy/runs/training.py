"""The obvious call: one config, any number of seeds, all cores, one table of curves."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, overload

import numpy as np
import pandas as pd
import torch

from bnstudy import engines
from bnstudy.config import RunConfig, check_seed
from bnstudy.data import Dataset, load, split
from bnstudy.engines.lockstep import stack_size
from bnstudy.engines.optimizers import check_optimizer
from bnstudy.engines.run_record import CURVE_COLUMNS, Record
from bnstudy.engines.training import Options
from bnstudy.errors import BnstudyError, ConfigError, RunFailedError
from bnstudy.networks import check_network
from bnstudy.runs.jobs import FEWEST_SEEDS, choose_engine, stackable
from bnstudy.runs.processes import Pool, collect, one_line, refuse_while_starting
from bnstudy.runs.runner import check_device, check_workers, cores
from bnstudy.runs.shared_data import SharedDataset

Task: TypeAlias = tuple[str, tuple[int, ...]]  # an engine, and the seeds that it trains together


@dataclass(frozen=True)
class TrainingSetup:
    """Settings that all runs of a call share, sent to each worker process once."""

    config: RunConfig
    dataset: Dataset | SharedDataset
    probes: Options
    device: str


@overload
def train(
    config: RunConfig,
    seeds: Iterable[int] = ...,
    data: Dataset | str | Path = ...,
    *,
    workers: int | None = ...,
    engine: str = ...,
    device: str = ...,
    probes: Options | None = ...,
    return_records: Literal[False] = ...,
) -> pd.DataFrame: ...


@overload
def train(
    config: RunConfig,
    seeds: Iterable[int] = ...,
    data: Dataset | str | Path = ...,
    *,
    workers: int | None = ...,
    engine: str = ...,
    device: str = ...,
    probes: Options | None = ...,
    return_records: Literal[True],
) -> tuple[pd.DataFrame, dict[int, Record]]: ...


def train(
    config: RunConfig,
    seeds: Iterable[int] = range(32),
    data: Dataset | str | Path = "auto",
    *,
    workers: int | None = None,
    engine: str = "auto",
    device: str = "cpu",
    probes: Options | None = None,
    return_records: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, dict[int, Record]]:
    """Train networks of one config, one per seed, on all cores.

    A program that calls this with more than one worker is imported by each worker
    process, so the call stands under ``if __name__ == "__main__":``.  A notebook needs
    nothing of the kind, but a layer that is registered in one is unknown to workers: use
    ``workers=1`` then.

    Parameters
    ----------
    config
        Settings of the runs.
    seeds
        Whole numbers from 0, each once.  Run s is the same whichever others are trained.
    data
        Images: a data set, or what :func:`bnstudy.load` takes, such as ``mnist`` or a folder.
    workers
        Number of processes, each with one thread; with 1 (or if there is only one stack of
        seeds to train) this process trains.  If None, one per core, and one on a GPU.
    engine
        ``reference``; ``lockstep``; or ``auto``: lockstep where it is available,
        supports the config and has at least four seeds to train.
    device
        A torch device, such as ``cpu`` or ``cuda``.
    probes
        Options by the name of the probe; see :data:`bnstudy.engines.probes.PROBES`.
    return_records
        Whether to return the whole records too: parameters of normalization layers,
        digests, times, measurements of probes.

    Returns
    -------
    pandas.DataFrame
        The curves: a row per seed and evaluation point, in the order of the seeds, with
        columns ``seed``, those of :attr:`Record.curve <bnstudy.engines.Record>`, and
        ``status``, which is ``diverged`` for a run whose loss stopped being finite.
    dict of int to Record
        By seed, only with ``return_records``.

    Raises
    ------
    ConfigError
        If the settings cannot be trained, or worker processes cannot import the program.
    DataError
        If there are no such images, or they cannot be used.
    RunFailedError
        If a run crashed, or no worker process can start.
    """
    refuse_while_starting()
    check_workers(workers)
    check_device(device)
    wanted = _checked_seeds(seeds)
    dataset = data if isinstance(data, Dataset) else _loaded(data)
    check_network(config, dataset.shape, len(dataset.classes))
    check_optimizer(config)
    engine = choose_engine(engine, device, _say)
    setup = TrainingSetup(config, dataset, probes or {}, device)
    tasks = _tasks(setup, wanted, engine)
    count = min(workers or (1 if device != "cpu" else cores()), len(tasks))
    train_all = _train_here if count == 1 else _train_in_workers
    records: dict[int, Record] = {}
    with _progress(len(wanted)) as show:
        for (_, trained), found in train_all(setup, tasks, count):
            records |= zip(trained, found, strict=True)
            show(len(records))
    records = {seed: records[seed] for seed in wanted}
    curves = _curves(records)
    return (curves, records) if return_records else curves


def _checked_seeds(seeds: Iterable[int]) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise ConfigError(f"seeds must be a sequence such as range(8), got {seeds!r}")
    # numpy's integers are no int, but good seeds
    wanted = [check_seed(int(seed) if isinstance(seed, np.integer) else seed) for seed in seeds]
    twice = [seed for seed, count in Counter(wanted).items() if count > 1]
    if not wanted or twice:
        fault = f"{twice[0]} twice" if twice else "none"
        raise ConfigError(f"seeds must be one or more, each once, got {fault}: mend the list")
    return wanted


def _loaded(data: str | Path) -> Dataset:
    """Load images by a word; say so if ``auto`` had to take a sample."""
    dataset = load(data)
    if len(dataset.notes) > 1:  # sources were passed over
        for line in dataset.notes:
            _say(line)
    return dataset


def _tasks(setup: TrainingSetup, seeds: Sequence[int], engine: str) -> list[Task]:
    """Group seeds into what is trained together: stacks for lockstep, else one by one."""
    stacked = engine == "lockstep"  # asked for: it refuses what it cannot train
    if engine == "auto":
        possible = stackable(setup.config, setup.probes, setup.device, cast(Dataset, setup.dataset))
        stacked = possible and len(seeds) >= FEWEST_SEEDS
    size = stack_size(setup.config, setup.device) if stacked else 1
    name = "lockstep" if stacked else "reference"
    return [(name, tuple(seeds[start : start + size])) for start in range(0, len(seeds), size)]


def make_seed_trainer(
    setup: TrainingSetup,
) -> Callable[[Task], list[Record]]:
    """Select the images of a config; return the function that trains some seeds on them."""
    splits = split(cast(Dataset, setup.dataset), setup.config)

    def trainer(task: Task) -> list[Record]:
        engine, seeds = task
        return engines.train(
            setup.config, seeds, splits, probes=setup.probes, engine=engine, device=setup.device
        )

    return trainer


def _train_here(
    setup: TrainingSetup, tasks: list[Task], workers: int
) -> Iterator[tuple[Task, list[Record]]]:
    threads = torch.get_num_threads()
    # as in a worker: the number of threads changes the last bits of sums
    torch.set_num_threads(1)
    try:
        trainer = make_seed_trainer(setup)
        for task in tasks:
            yield task, trainer(task)
    finally:
        torch.set_num_threads(threads)


def make_worker(setup: TrainingSetup) -> Callable[[Task], list[Record] | BnstudyError]:
    """Prepare a worker process; its function returns an error instead of raising it."""
    torch.set_num_threads(1)
    trainer = make_seed_trainer(setup)

    def worker(task: Task) -> list[Record] | BnstudyError:
        try:
            return trainer(task)
        except BnstudyError as error:
            return error
        except Exception as error:
            return RunFailedError(f"seeds {_span(task)} crashed: {one_line(error)}")

    return worker


def _train_in_workers(
    setup: TrainingSetup, tasks: list[Task], workers: int
) -> Iterator[tuple[Task, list[Record]]]:
    dataset = cast(Dataset, setup.dataset)
    split(dataset, setup.config)  # impossible numbers of images end the call before it starts
    shared = SharedDataset(dataset)
    pool = None
    try:
        pool = Pool(
            workers,
            make_worker,
            TrainingSetup(setup.config, shared, setup.probes, setup.device),
        )
        pending, attempts, left = deque(tasks), Counter[Task](), len(tasks)
        while left:
            for task, found in collect(pool, pending, attempts):
                if found is None:
                    raise RunFailedError(
                        f"seeds {_span(task)}: the process was killed (out of memory?)"
                    )
                if isinstance(found, BnstudyError):
                    raise found
                left -= 1
                yield task, found
    finally:
        if pool is not None:
            pool.close()
        shared.close()


def _span(task: Task) -> str:
    return ", ".join(map(str, task[1]))


def _curves(records: dict[int, Record]) -> pd.DataFrame:
    frames = [
        record.curve.assign(seed=seed, status=record.status) for seed, record in records.items()
    ]
    return pd.concat(frames, ignore_index=True)[["seed", *CURVE_COLUMNS, "status"]]


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@contextmanager
def _progress(seeds: int) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many seeds are trained, in a line of a terminal."""
    started = time.perf_counter()
    terminal = sys.stderr.isatty()

    def show(done: int) -> None:
        if terminal:
            seconds = round(time.perf_counter() - started)
            sys.stderr.write(f"\r{done} of {seeds} seeds trained, {seconds} s")
            sys.stderr.flush()

    show(0)
    try:
        yield show
    finally:
        if terminal:
            sys.stderr.write("\n")
