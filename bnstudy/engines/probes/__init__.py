"""Probes: what looks inside a network while an engine trains it.

A probe is an observer (:mod:`bnstudy.engines.observer`) that ends with a tidy table.  It
leaves no trace: the run is bit by bit the one without it.  Those that look at
chosen moments work with either engine; the recorder of activations sees every
step, and only the reference engine has those.

Reading order: ``base`` (what a probe is), ``registry`` (their names, and how a
run is trained with them), then a file for each.
"""

from bnstudy.engines.probes.base import Probe, Scene
from bnstudy.engines.probes.registry import PROBES, at_moments, modules_of, probed, probed_stack

__all__ = ["PROBES", "Probe", "Scene", "at_moments", "modules_of", "probed", "probed_stack"]
