"""Fashion-MNIST as bytes in memory: sources, checksums, splits, order of an epoch.

Reading order: ``idx`` (the file format), ``dataset``, ``sources``, ``splits``.
"""

from bnstudy.data.dataset import DataIdentity, Dataset
from bnstudy.data.sources import (
    SOURCES,
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
    "DataIdentity",
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
