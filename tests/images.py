"""Images that are made up, of any shape and number of classes."""

import numpy as np
import torch

from bnstudy.data import Images, Splits


def splits_of(shape, classes=10, n=40, seed=0):
    """Return splits of random images of a shape (C, H, W), which stand without C if it is 1."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, *(shape[1:] if shape[0] == 1 else shape)), dtype=np.uint8)
    images = Images(torch.from_numpy(pixels), torch.arange(n) % classes)
    return Splits(images, images, images, images, classes)
