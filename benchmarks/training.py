"""Training images per second of LeNet and of perceptrons: bnstudy's two engines beside other tools.

Contestants, each at five batch sizes, with batch normalization and without:

the notes' loop
    As printed: torchvision's data set, ``ToTensor`` per image, a DataLoader with four
    worker processes, metrics as Python floats, their own ``BatchNorm``.
Lightning
    ``Trainer(barebones=True)``, images in memory; a process a core, one thread each.
torch eager
    bnstudy's reference trainer: images in memory, one thread; one process, or one a core.
JAX
    Sixteen seeds vmapped in a jitted step, all cores.
lockstep
    bnstudy's kernel: as many seeds a process as it has lanes, a process a core.

Contestants take turns, so that a slow minute of the machine hits all of them.  Loading
data, compiling and evaluation are left out everywhere; drawing orders and gathering
images are in.  Processes get the allocator setting of bnstudy's own workers.  The floor is
what the arithmetic alone would take: the operations of a training image at the rate of
a product of two 1024 x 1024 matrices, by torch or numpy, whichever is faster here, measured
in turn with the rest.  Lightning and
JAX are measured if ``--peers`` names a Python that has them, after their losses of the first
steps were found equal to torch's.

Multilayer perceptrons have a table of their own, with bnstudy's two engines and the floor of
their linear layers; normalization and activations, which the floor leaves out, are a larger part
of them than of LeNet.

Run it: ``make bench``, or ``python -m benchmarks.training --repeats 5`` (about 10 minutes).
"""

import argparse
import os
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.contestants import (
    eager_rate,
    lockstep_rate,
    losses_of_torch,
    notes_loop,
    sgemm_rate,
    torchvision_copy,
    training_flops,
)
from benchmarks.peers.serving import CHECKED_STEPS, Peer
from bnstudy import data
from bnstudy.engines.lockstep import available, lane_count
from bnstudy.runs.processes import worker_environment
from bnstudy.runs.runner import cores

BATCH_SIZES = (4, 16, 64, 256, 1024)
NORMS = ("bn", "none")
PERCEPTRONS = ("mlp:depth=3,width=100", "mlp:depth=20,width=100")
PERCEPTRON_BATCH_SIZES = (60, 256)  # 60: Ioffe & Szegedy (2015), section 4.1
LOCKSTEP, EAGER, NOTES, SGEMM = "lockstep", "torch eager", "the notes' loop", "sgemm"
Contestant = Callable[[str, int], float]


@contextmanager
def peers(python: Path, module: str, folder: Path, count: int) -> Iterator[Contestant]:
    """Start processes of a peer and check its losses; yield what measures it."""
    started = [Peer(python, f"benchmarks.peers.{module}", folder) for _ in range(count)]

    def all_of(**question: Any) -> list[Any]:
        for peer in started:
            peer.ask(**question)
        return [peer.answer() for peer in started]

    def rate(norm: str, batch_size: int) -> float:
        images = max(2_048, min(20_480, 200 * batch_size))
        return sum(all_of(tell="rate", norm=norm, batch_size=batch_size, images=images))

    try:
        for norm in NORMS:
            wanted = losses_of_torch(folder, norm, 64, CHECKED_STEPS)
            for found in all_of(tell="losses", norm=norm, batch_size=64, steps=CHECKED_STEPS):
                worst = max(abs(a / b - 1) for a, b in zip(found, wanted, strict=True))
                if worst > 1e-4:
                    raise SystemExit(f"error: {module} trains another net: losses {worst:.1e} off")
        yield rate
    finally:
        for peer in started:
            peer.close()


@contextmanager
def contestants(
    folder: Path, root: Path, processes: int, python: Path | None
) -> Iterator[dict[str, dict[str, Contestant]]]:
    """Start everything that lives as long as the benchmark; yield contestants by network and name.

    All of them train LeNet, bnstudy's engines the perceptrons too.
    """
    with ExitStack() as stack:
        stack.enter_context(worker_environment())
        pool = stack.enter_context(ProcessPoolExecutor(processes, get_context("spawn")))

        def together(task: Callable[..., float], count: int) -> Contestant:
            def rate(norm: str, batch_size: int) -> float:
                jobs = [pool.submit(task, str(folder), norm, batch_size, k) for k in range(count)]
                return sum(job.result() for job in jobs)

            return rate

        found: dict[str, Contestant] = {NOTES: partial(notes_loop, root, 4)}
        if python:
            start = lambda *what: stack.enter_context(peers(python, *what))  # noqa: E731
            name = f"Lightning, {processes} processes"
            found[name] = start("lightning_lenet", folder, processes)
        found[f"{EAGER}, 1 process"] = together(eager_rate, 1)
        found[f"{EAGER}, {processes} processes"] = together(eager_rate, processes)
        if python:
            found["JAX, 16 seeds"] = start("jax_lenet", folder, 1)
        if available()[0]:
            found[f"{LOCKSTEP}, {processes} x {lane_count()} seeds"] = together(
                lockstep_rate, processes
            )
            together(lockstep_rate, processes)("bn", 256)  # compiles
        found[SGEMM] = together(sgemm_rate, processes)
        networks = {"lenet": found}
        for network in PERCEPTRONS if available()[0] else ():
            networks[network] = {
                EAGER: together(partial(eager_rate, network=network), processes),
                LOCKSTEP: together(partial(lockstep_rate, network=network), processes),
                SGEMM: found[SGEMM],
            }
        yield networks


def measure(
    found: dict[str, Contestant], batch_sizes: Sequence[int], repeats: int
) -> dict[tuple[str, str, int], list[float]]:
    """Let every contestant run in turn; return the rates of (name, norm, batch size)."""
    rates: dict[tuple[str, str, int], list[float]] = {}
    for _ in range(repeats):
        for norm in NORMS:
            for batch_size in batch_sizes:
                for name, rate in found.items():
                    rates.setdefault((name, norm, batch_size), []).append(rate(norm, batch_size))
    return rates


def tables(rates: dict[tuple[str, str, int], list[float]]) -> str:
    """Return the tables in Markdown: median and range of every contestant and batch size."""
    names = list(dict.fromkeys(name for name, _, _ in rates if name != SGEMM))
    batch_sizes = list(dict.fromkeys(batch_size for _, _, batch_size in rates))
    sgemm = statistics.median([r for key, each in rates.items() if key[0] == SGEMM for r in each])
    floor = sgemm / training_flops()
    fastest_eager = [name for name in names if name.startswith(EAGER)][-1]
    lines = []
    for norm in NORMS:
        lines += [
            f"| {norm}, batch | {' | '.join(names)} | lockstep is | of the floor |",
            "|---" * (len(names) + 3) + "|",
        ]
        for batch_size in batch_sizes:
            median = {name: statistics.median(rates[name, norm, batch_size]) for name in names}
            cells = []
            for name in names:
                low, high = min(rates[name, norm, batch_size]), max(rates[name, norm, batch_size])
                cells.append(f"{median[name] / 1e3:.1f}k ({low / 1e3:.1f}-{high / 1e3:.1f})")
            ours = median[names[-1]]
            times = (
                f"{ours / median[NOTES]:.1f} x notes, {ours / median[fastest_eager]:.1f} x eager"
            )
            lines.append(f"| {batch_size} | {' | '.join(cells)} | {times} | {ours / floor:.0%} |")
        lines.append("")
    lines.append(
        f"Floor: {floor / 1e3:.0f}k images/s: {training_flops():,} operations an image at the "
        f"{sgemm / 1e9:.0f} GFLOP/s of sgemm."
    )
    return "\n".join(lines)


def perceptron_table(rates: dict[str, dict[tuple[str, str, int], list[float]]]) -> str:
    """Return the table of perceptrons in Markdown, from the rates of each network."""
    lines = [
        "| network, norm, batch | torch eager | lockstep | lockstep is | of its floor |",
        "|---" * 5 + "|",
    ]
    for network, of_network in rates.items():
        sgemm = [rate for key, each in of_network.items() if key[0] == SGEMM for rate in each]
        floor = statistics.median(sgemm) / training_flops(network)
        for norm, batch_size in dict.fromkeys(key[1:] for key in of_network):
            cells, median = [], {}
            for name in (EAGER, LOCKSTEP):
                each = of_network[name, norm, batch_size]
                median[name] = statistics.median(each)
                low, high = min(each) / 1e3, max(each) / 1e3
                cells.append(f"{median[name] / 1e3:.1f}k ({low:.1f}-{high:.1f})")
            times = f"{median[LOCKSTEP] / median[EAGER]:.1f} x eager"
            share = f"{median[LOCKSTEP] / floor:.0%}"
            row = [f"{network}, {norm}, {batch_size}", *cells, times, share]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the tables."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # that is the point
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=cores())
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--data", default="auto")
    parser.add_argument("--peers", type=Path, help="a Python that has Lightning and JAX")
    options = parser.parse_args()
    dataset = data.load(options.data)
    if dataset.is_sample:
        raise SystemExit("error: the benchmark needs the whole data set: make bench DATA=<folder>")
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        raw = torchvision_copy(dataset, Path(folder))
        with contestants(raw, Path(folder), options.processes, options.peers) as networks:
            rates = measure(networks.pop("lenet"), options.batch_sizes, options.repeats)
            of_perceptrons = {
                network: measure(found, PERCEPTRON_BATCH_SIZES, options.repeats)
                for network, found in networks.items()
            }
    print(f"Training images/s, median and range of {options.repeats} interleaved repeats; ", end="")
    print(f"{platform.machine()}, {cores()} cores, load before {load_before:.1f}\n")
    print(tables(rates))
    if of_perceptrons:
        print("\n" + perceptron_table(of_perceptrons))


if __name__ == "__main__":
    main()
