"""A data set in memory: its images, labels and identity."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor

from bnstudy.config import digest

# sha256 of the uncompressed files of Fashion-MNIST, and of the bundled part of it
FULL = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SAMPLE = {
    "train-images-idx3-ubyte": "75160f837651dde775b4fd9dea1bb7553cfac40348cc57c68f6b39cb0074904a",
    "train-labels-idx1-ubyte": "04f45099e6fb006d6bc9513294ffdae927861e382b72e36787b8e11d386e3ea3",
    "t10k-images-idx3-ubyte": "15a92dd1e9b16ea361928086e77df4dfa890c255c00b5a8c8162c1040ce8eef1",
    "t10k-labels-idx1-ubyte": "234596aeb6eb48133ec99a62541f90bc0728c9559a681f1e0638037462458f2c",
}


@dataclass(frozen=True)
class Dataset:
    """Images held once in memory, as bytes.

    Attributes
    ----------
    name
        ``fashion-mnist``.
    source
        The source they were read from; see :data:`bnstudy.data.SOURCES`.
    folder
        Folder they were read from; never recorded.
    train_images, train_labels, test_images, test_labels
        uint8 tensors (n, 28, 28) and (n,).
    digests
        sha256 of each uncompressed file.
    notes
        Lines that a reader of the study must know about its data.
    """

    name: str
    source: str
    folder: Path
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    digests: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def is_sample(self) -> bool:
        """True for the bundled sample's images."""
        return dict(self.digests) == SAMPLE

    @property
    def digest(self) -> str:
        """One sha256 over the files."""
        return digest(dict(self.digests))


@dataclass(frozen=True)
class DataIdentity:
    """Identity of the images that a plan is about.

    Attributes
    ----------
    name
        For example ``fashion-mnist``.
    digest
        One sha256 over the uncompressed files.
    sample
        Whether it is the bundled sample instead of the whole data set.
    """

    name: str
    digest: str
    sample: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Return the identity of images in memory."""
        return cls(dataset.name, dataset.digest, dataset.is_sample)
