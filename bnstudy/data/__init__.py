"""Images as bytes in memory: sources, checksums, splits, order of an epoch.

Reading order: ``idx`` (the file format), ``dataset``, ``folders``, ``sources``, ``splits``.
"""

from bnstudy.data.dataset import DataIdentity, Dataset, from_arrays
from bnstudy.data.folders import verify
from bnstudy.data.known import title_of
from bnstudy.data.sources import (
    DATASETS,
    folder_of,
    load,
    register_dataset,
    sample_folder,
    system_folder,
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
    "DATASETS",
    "DataIdentity",
    "Dataset",
    "Images",
    "Splits",
    "batches",
    "epoch_order",
    "epoch_orders",
    "evaluation_steps",
    "folder_of",
    "from_arrays",
    "load",
    "register_dataset",
    "sample_folder",
    "scale",
    "split",
    "system_folder",
    "title_of",
    "verify",
]
