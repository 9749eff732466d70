"""Make the bundled sample from the full data set: always the same bytes.

The first 800 training and 200 test images of each class, in the order of the
files, gzipped without a time stamp.  Prints the sha256 of each uncompressed
file, which ``bnstudy/data/known.py`` holds.

Run it: ``python tools/make_sample.py FOLDER_OF_THE_DATA_SET``.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

from bnstudy.data import load, sample_folder
from bnstudy.data.idx import sha256
from bnstudy.data.splits import first_of_each


def idx(array: np.ndarray) -> bytes:
    """Return an array of unsigned bytes as an IDX file."""
    shape = np.array(array.shape, dtype=">u4").tobytes()
    return bytes((0, 0, 8, array.ndim)) + shape + np.ascontiguousarray(array).tobytes()


def main(folder: str) -> None:
    """Write the four files of the sample and print their checksums."""
    dataset = load(folder=Path(folder))
    for prefix, images, labels, count in (
        ("train", dataset.train_images, dataset.train_labels, 8_000),
        ("t10k", dataset.test_images, dataset.test_labels, 2_000),
    ):
        where = first_of_each(labels.numpy(), count)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(values.numpy()[where])
            name = f"{prefix}-{kind}-ubyte"
            packed = gzip.compress(content, compresslevel=9, mtime=0)
            (sample_folder() / f"{name}.gz").write_bytes(packed)
            print(f"{name} {sha256(content)} ({len(packed):,} bytes gzipped)")


if __name__ == "__main__":
    main(*sys.argv[1:])
