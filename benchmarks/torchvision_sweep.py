"""Does watching change training? Every classification model of torchvision, bit by bit.

Each model takes three steps of Adam on the same four images, 64 x 64 where it can be made for
them, once alone and once watched with everything there is to record; weights, buffers,
optimizer state, losses and generator states must be the same bits, and no hook may be left.
A process for each model.

Run it: ``python -m benchmarks.torchvision_sweep`` (about 40 minutes on a core).
"""

import argparse
import os
import subprocess
import sys
import time

import torch
import torchvision

from tests.activations.comparison import FULL, assert_same
from tests.activations.nets import generator, labels

SIDE, IMAGES = 64, 4
COPIES = 12  # of the parameters in memory at once: weights, gradients and moments of two runs
OPTIONS = {
    "googlenet": {"init_weights": True, "aux_logits": False},
    "inception_v3": {"init_weights": True, "aux_logits": False},
}
SIDES = {"inception_v3": 96, "maxvit_t": 224, "vit_h_14": 70}  # pixels, of those that refuse 64


def options_of(name: str) -> dict[str, object]:
    """Return how a model is made for small images."""
    return {"image_size": side_of(name)} if name.startswith("vit") else OPTIONS.get(name, {})


def side_of(name: str) -> int:
    """Return the width and height of a model's images, in pixels."""
    return SIDES.get(name, SIDE)


def available_memory() -> float:
    """Return the bytes that can be had without swapping; infinite where /proc does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    except OSError:
        return float("inf")
    return 1024.0 * kilobytes["MemAvailable"]


def check(name: str) -> str:
    """Train one model both ways; return ``same``, or why it could not be trained at all."""
    torch.set_num_threads(1)

    def make() -> torch.nn.Module:
        return torchvision.models.get_model(name, num_classes=10, **options_of(name))

    count = sum(parameter.numel() for parameter in make().parameters())
    if COPIES * 4 * count > available_memory():
        return f"skipped: {count / 1e6:.0f} M parameters need more memory than there is"
    x = torch.rand(IMAGES, 3, side_of(name), side_of(name), generator=generator())
    try:
        with torch.random.fork_rng(devices=()):
            make().train()(x)
    except Exception as error:
        return f"skipped: it does not train on such images ({one_line(error)})"
    assert_same(make, x, labels(IMAGES, 10), **FULL)
    return "same"


def one_line(error: Exception) -> str:
    """Return the beginning of an error as one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def names() -> list[str]:
    """Return every classification model."""
    return torchvision.models.list_models(module=torchvision.models)


def sweep() -> int:
    """Check every model in a process of its own; print a line each; return how many differ."""
    counts = {"same": 0, "skipped": 0, "DIFFERENT": 0}
    started = time.perf_counter()
    for name in names():
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.torchvision_sweep", "--model", name],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        lines = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()
        word = lines[-1] if done.returncode == 0 else f"DIFFERENT: {lines[-1]}"
        counts[word.split(":")[0]] += 1
        print(f"{name:<20} {word}", flush=True)
    minutes = (time.perf_counter() - started) / 60
    print(
        f"{len(names())} models in {minutes:.0f} min: {counts['same']} the same bits, "
        f"{counts['DIFFERENT']} different, {counts['skipped']} skipped "
        f"(torch {torch.__version__}, torchvision {torchvision.__version__})"
    )
    return counts["DIFFERENT"]


def main() -> None:
    """Sweep, or check one model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model")
    name = parser.parse_args().model
    if name is None:
        sys.exit(sweep())
    print(check(name))


if __name__ == "__main__":
    main()
