"""Probes: what looks inside a network while the reference engine trains it.

A probe is an observer of :func:`bnstudy.training.train` that ends with a tidy
table.  It leaves no trace: the run is bit by bit the one without it.

Reading order: ``base`` (what a probe is), ``registry`` (their names, and how a
run is trained with them), then a file for each.
"""

from bnstudy.probes.base import Probe, Scene
from bnstudy.probes.registry import PROBES, probed

__all__ = ["PROBES", "Probe", "Scene", "probed"]
