"""Draw the figures of docs/activations.md by doing what it says, on the bundled sample.

Run it: ``python -m tools.activation_figures`` (about half a minute).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from matplotlib.axes import Axes
from torch import nn

from bnstudy import data
from bnstudy.activations import Recording, plots, watch
from bnstudy.config import RunConfig
from bnstudy.networks.lenet import lenet

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "activations"
STEPS, BATCH = 200, 64


def batches(dataset: data.Dataset, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the sample's training images as batches, in a fixed order."""
    order = torch.randperm(len(dataset.train_images), generator=torch.Generator().manual_seed(0))
    images, labels = dataset.train_images[order].float() / 255, dataset.train_labels[order].long()
    return [
        (x.unsqueeze(1), y)
        for x, y in zip(images.split(size), labels.split(size), strict=True)
        if len(x) == size
    ]


def trained(net: nn.Module, rate: float, loader: list, steps: int) -> Recording:  # type: ignore[type-arg]
    """Train some steps and return what was recorded."""
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    with watch(net, optimizer, every=4, stats="full", grads=True, params=True) as run:
        for step in range(steps):
            x, y = loader[step % len(loader)]
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    for sentence in run.report()["sentence"]:
        print("   ", sentence)
    if run.recording().info["norms"]:
        print(run.bn.noise().round(4).to_string())
        print(run.bn.noise(loader, batches=60).round(4).to_string())
        print(run.bn.gap(loader, batches=60).round(3).to_string())
    return run.recording()


def save(ax: Axes, name: str) -> None:
    """Write a figure as PNG."""
    ax.figure.savefig(FOLDER / f"{name}.png", dpi=110)


def main() -> None:
    """Train LeNet without and with BN, and resnet18, and draw."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    loader = batches(data.load(source="sample"), BATCH)
    print("LeNet without BN")
    plain = trained(lenet(RunConfig(norm="none"), 0), 0.9, loader, STEPS)
    print("LeNet with BN")
    bn = trained(lenet(RunConfig(norm="bn"), 0), 0.9, loader, STEPS)
    save(bn.plot("act4", "quantiles"), "percentiles")
    save(bn.plot("norm1", "histogram"), "histogram")
    save(plain.plot(what="std"), "layers")
    save(
        plots.lines(plain, "std", tensor="grad", which=["fc3", "fc2", "fc1", "conv2", "conv1"]),
        "gradients",
    )
    save(bn.plot(what="shares"), "shares")
    save(bn.plot(what="update_ratio"), "updates")
    save(plots.compare({"no norm": plain, "BN": bn}, "act4", "quantiles"), "compare")
    save(bn.plot("norm3", "affine"), "affine")
    print("resnet18")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        resnet = torchvision.models.resnet18(num_classes=10)
    small = [(x[:32].expand(-1, 3, -1, -1), y[:32]) for x, y in loader]
    save(trained(resnet, 0.05, small, 40).plot(what="std", tensor="grad"), "resnet18")


if __name__ == "__main__":
    main()
