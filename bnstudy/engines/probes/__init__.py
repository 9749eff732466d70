"""Probes: measurements inside a network while an engine trains it.

A probe is an observer (:mod:`bnstudy.engines.observer`) that ends with a tidy
table.  It changes nothing: the run is bit by bit the one without it.  Probes
that measure at scheduled steps work with either engine; the probe ``recorder``
attaches hooks to the network for the whole run, which only the reference engine allows.

Reading order: ``probe`` (the protocol, and what scheduled probes share),
``registry`` (their names), then one file per probe.
"""

from bnstudy.engines.probes.probe import Probe, ProbedRun, ScheduledProbe
from bnstudy.engines.probes.registry import PROBES, all_scheduled, make, modules_of

__all__ = [
    "PROBES",
    "Probe",
    "ProbedRun",
    "ScheduledProbe",
    "all_scheduled",
    "make",
    "modules_of",
]
