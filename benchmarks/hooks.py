"""What watching costs: a training step of LeNet + BN at batch 256, watched in several ways.

All contestants train the same net on the same batch in one process.  Each
turn times watched steps between as many unwatched ones, half before and half
after; the ratio is the median over turns of the ratios within a turn, so that
a slow minute of a shared machine hits both, and a machine that gets slower or
faster meanwhile neither.  The first two watched steps of a turn do not count.
The last column compares the medians of single steps over all turns, which slow
moments move less; of a contestant that records some steps only, it leaves those out.
The imitations do what the originals do inside their hooks: fastai's
ActivationStats reads mean, standard deviation and near-zero share of each leaf
as Python numbers; tensor_tracker keeps a clone of every tensor, forward and
backward, for statistics at the end.  TorchLens is measured if it is installed.

Run it: ``make bench-peers bench-hooks``, or ``python -m benchmarks.hooks --turns 30``
(8 minutes).  Whether memory stays flat: ``python -m benchmarks.hooks --memory 10000``
(about a minute).
"""

import argparse
import gc
import importlib
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from statistics import mean, median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnstudy.activations import watch
from bnstudy.config import RunConfig
from bnstudy.networks import build

Contestant = Callable[[nn.Module, torch.optim.Optimizer], Any]


@contextmanager
def fastai_like(net: nn.Module, bins: int = 0) -> Iterator[list[Any]]:
    """Read mean, std and near-zero share of every leaf with ``.item()``, as fastai does."""
    rows: list[Any] = []

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
        out = output.detach()
        rows.append((out.mean().item(), out.std().item(), (out <= 0.05).float().mean().item()))
        if bins:
            rows.append(out.cpu().float().histc(bins, 0, 10))

    handles = [m.register_forward_hook(hook) for m in net.modules() if not any(m.children())]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def tracker_like(net: nn.Module) -> Iterator[list[Tensor]]:
    """Clone every output and gradient to the host, as tensor_tracker does."""
    kept: list[Tensor] = []

    def forward(_module: nn.Module, _args: Any, output: Tensor) -> None:
        kept.append(output.detach().cpu().clone())

    def backward(_module: nn.Module, gradients: Any) -> None:
        kept.extend(g.detach().cpu().clone() for g in gradients if g is not None)

    with ExitStack() as stack:
        for module in net.modules():
            stack.callback(module.register_forward_hook(forward).remove)
            stack.callback(module.register_full_backward_pre_hook(backward).remove)
        yield kept


def contestants() -> dict[str, Contestant]:
    """Return what is compared, by its name in the table."""
    return {
        "bnstudy `light`, every step": lambda n, o: watch(n, o, stats="light"),
        "bnstudy `default`, every step": lambda n, o: watch(n, o),
        "bnstudy `default`, every=20": lambda n, o: watch(n, o, every=20),
        "bnstudy `full` with histograms, every step": lambda n, o: watch(n, o, stats="full"),
        "bnstudy `default` + gradients + updates": lambda n, o: watch(
            n, o, grads=True, params=True
        ),
        "like fastai ActivationStats": lambda n, o: fastai_like(n),
        "like fastai ActivationStats with_hist": lambda n, o: fastai_like(n, 40),
        "like tensor_tracker, grad=True": lambda n, o: tracker_like(n),
    }


def steps(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, count: int
) -> list[float]:
    """Train some steps; return the seconds of each."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return seconds


@dataclass
class Timings:
    """Seconds of steps, watched and not, turn by turn."""

    watched: list[list[float]] = field(default_factory=list)
    plain: list[list[float]] = field(default_factory=list)

    def row(self) -> str:
        """Return the ratios: of turns, their quartiles, and of the middle steps."""
        ratios = [mean(a) / mean(b) for a, b in zip(self.watched, self.plain, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        one = median(chain(*self.watched)) / median(chain(*self.plain))
        return f"{middle:.2f} | {low:.2f} - {high:.2f} | {one:.2f}"


def measure(turns: int, count: int, only: str = "") -> tuple[dict[str, Timings], nn.Module, Tensor]:
    """Let each contestant run in turn between unwatched steps; return the seconds of all."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(256, 1, 28, 28, generator=generator)
    y = torch.randint(0, 10, (256,), generator=generator)
    net = build(RunConfig(norm="bn"), 0)
    for name in ("pool1", "pool2"):  # torch's own layers throughout, as users have them
        setattr(net, name, nn.AvgPool2d(2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    steps(net, optimizer, x, y, count)
    chosen = {name: attach for name, attach in contestants().items() if only in name}
    timings = {name: Timings() for name in chosen}
    half = max(1, count // 2)
    for _ in range(turns):
        for name, attach in chosen.items():
            before = steps(net, optimizer, x, y, half)
            with attach(net, optimizer):
                steps(net, optimizer, x, y, 2)  # the layers are met, and memory is made
                timings[name].watched.append(steps(net, optimizer, x, y, count))
            timings[name].plain.append(before + steps(net, optimizer, x, y, half))
    return timings, net, x


def torchlens_forward(net: nn.Module, x: Tensor) -> float | None:
    """Return a traced forward pass over a plain one, or None without TorchLens."""
    if importlib.util.find_spec("torchlens") is None:
        return None
    trace = importlib.import_module("torchlens").trace
    seconds = []
    for run in (lambda: trace(net, x), lambda: net(x)):
        run()
        started = time.perf_counter()
        for _ in range(5):
            run()
        seconds.append(time.perf_counter() - started)
    return seconds[0] / seconds[1]


def resident() -> float:
    """Return the MiB this process holds in memory now; NaN where /proc does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as numbers:
            pages = int(numbers.read().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(count: int) -> None:
    """Train a small net, watched with everything there is, and print what the process holds."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 8, generator=generator)
    y = torch.randint(0, 3, (32,), generator=generator)
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    print("| steps | MiB |\n|---|---|")
    with watch(net, optimizer, stats="full", grads=True, params=True, keep=50):
        for done in range(0, count, max(1, count // 10)):
            steps(net, optimizer, x, y, max(1, count // 10))
            gc.collect()
            print(f"| {done + max(1, count // 10)} | {resident():.1f} |", flush=True)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", metavar="WORD", help="those with this in their name")
    parser.add_argument("--memory", type=int, metavar="STEPS", help="measure memory instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        memory(options.memory)
        return
    if not any(options.only in name for name in contestants()):
        parser.error(f"no contestant has {options.only!r} in its name")
    timings, net, x = measure(options.turns, options.steps, options.only)
    plain = list(chain(*(turn for each in timings.values() for turn in each.plain)))
    print(
        f"LeNet + BN, batch 256, {options.threads} thread(s), {platform.machine()}, "
        f"torch {torch.__version__}; unwatched step {1e3 * median(plain):.1f} ms "
        f"({1e3 * min(plain):.1f} at best), {options.turns} turns\n"
    )
    print("| watched | times the unwatched step | quartiles | middle step |")
    print("|---|---|---|---|")
    for name, timing in timings.items():
        print(f"| {name} | {timing.row()} |")
    lens = None if options.only else torchlens_forward(net, x)
    if lens is not None:
        print(f"| TorchLens `trace` (forward pass over a plain one) | {lens:.2f} | | |")


if __name__ == "__main__":
    main()
