"""LeNet by Lightning, ``barebones``: its own setting for measuring overhead, the fastest it has."""

import logging
import time
import warnings

import lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.serving import serve
from bnstudy.config import RunConfig
from bnstudy.data import Dataset
from bnstudy.networks import build


class LeNet(lightning.LightningModule):
    """LeNet, cross-entropy, plain SGD."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.net = build(RunConfig(norm=norm), seed=0)
        self.losses: list[torch.Tensor] = []
        self.seconds = 0.0

    def training_step(self, batch, index):
        """Return the loss of a batch."""
        X, y = batch
        loss = F.cross_entropy(self.net(X), y)
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self):
        """Return plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_epoch_start(self) -> None:
        """Start the clock: what comes before is done once a training."""
        self.seconds = -time.perf_counter()

    def on_train_epoch_end(self) -> None:
        """Stop the clock."""
        self.seconds += time.perf_counter()


class ByLightning:
    """Trains over images that were scaled once and stay in memory."""

    def __init__(self, dataset: Dataset) -> None:
        self.X = dataset.train_images.float().unsqueeze(1) / 255
        self.y = dataset.train_labels.long()

    def fit(self, norm: str, batch_size: int, images: int, *, shuffle: bool) -> LeNet:
        """Train an epoch over the first images."""
        part = TensorDataset(self.X[:images], self.y[:images])
        model = LeNet(norm)
        trainer = lightning.Trainer(barebones=True, max_epochs=1, accelerator="cpu")
        trainer.fit(model, DataLoader(part, batch_size, shuffle))
        return model

    def losses(self, norm: str, batch_size: int, steps: int) -> list[float]:
        """Return the losses of the first steps."""
        model = self.fit(norm, batch_size, steps * batch_size, shuffle=False)
        return [float(loss) for loss in model.losses]

    def rate(self, norm: str, batch_size: int, images: int) -> float:
        """Return images per second of an epoch."""
        return images / self.fit(norm, batch_size, images, shuffle=True).seconds


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    serve(ByLightning)
