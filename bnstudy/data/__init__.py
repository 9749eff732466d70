"""Fashion-MNIST as bytes in memory: sources, checksums, splits, order of an epoch."""

from bnstudy.data.sources import (
    SOURCES,
    Dataset,
    folder_of,
    load,
    read,
    sample_folder,
    system_folder,
    verify,
)
from bnstudy.data.splits import (
    Images,
    Splits,
    batches,
    epoch_order,
    epoch_orders,
    evaluation_steps,
    scale,
    split,
)

__all__ = [
    "SOURCES",
    "Dataset",
    "Images",
    "Splits",
    "batches",
    "epoch_order",
    "epoch_orders",
    "evaluation_steps",
    "folder_of",
    "load",
    "read",
    "sample_folder",
    "scale",
    "split",
    "system_folder",
    "verify",
]
