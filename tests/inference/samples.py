"""Samples and tests that the tests of statistics share."""

import numpy as np

from bnstudy import inference

SEEDS = range(5)


def draw(seed, n=10, effect=0.4):
    return np.random.default_rng(seed).normal(effect, 1.0, n)


def flip(values, **options):
    return inference.sign_flip_test(np.asarray(values), np.random.default_rng(0), **options)


TESTS = {
    "sign-flip": flip,
    "t": inference.t_test,
    "sign": inference.sign_test,
    "tost": lambda values: inference.equivalence_test(values, 0.7),
    "beyond-margin": lambda values: inference.beyond_margin(values, 0.1),
}
NULLS = {name: TESTS[name] for name in ("sign-flip", "t", "sign")}
