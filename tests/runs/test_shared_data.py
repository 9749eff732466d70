"""Images that processes share: what arrives, and what is left behind."""

from collections import Counter, deque
from pathlib import Path

import torch

from bnstudy.data import from_arrays
from bnstudy.runs.processes import Pool, collect
from bnstudy.runs.shared_data import SharedDataset
from tests.data.files import patterns

PAGES = 64  # megabytes of images


def own_megabytes() -> int:
    """Return how much memory this process has that is no part of a file: copies, above all."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) // 1024


def describe(dataset):
    def do(job):
        before = own_megabytes()
        digest = dataset.digest  # reads every byte
        return digest, dataset.classes, dataset.source, own_megabytes() - before

    return do


def results_of(dataset, workers, folder):
    shared = SharedDataset(dataset, folder)
    pool = Pool(workers, describe, shared)
    try:
        pending, attempts, found = deque(range(workers)), Counter(), []
        while len(found) < workers:
            found += collect(pool, pending, attempts)
        assert list(folder.iterdir()) == []  # the file has no name that could be left behind
        return [result for _, result in found]
    finally:
        pool.close()
        shared.close()


def test_workers_hold_the_launchers_tensors_and_share_their_memory(tmp_path):
    images = torch.zeros(PAGES, 1024, 1024, dtype=torch.uint8)
    images[:, ::7] = 3
    labels = torch.arange(PAGES) % 2
    dataset = from_arrays("big", images, labels, images[:2], labels[:2])
    for digest, _, _, grown in results_of(dataset, 2, tmp_path):
        assert digest == dataset.digest
        assert grown < PAGES / 2


def test_a_data_set_arrives_with_every_field(tmp_path):
    dataset = from_arrays("mine", **patterns(classes=3, train=4, test=2, shape=(3, 5, 4)))
    ((digest, classes, source, _),) = results_of(dataset, 1, tmp_path)
    assert (digest, classes, source) == (dataset.digest, ("0", "1", "2"), "arrays")
