"""The registry of probes: names, as an arm writes them, to classes."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from bnstudy.engines.probes.activations import Activations, AttachedRecorder, FixedActivations
from bnstudy.engines.probes.affine import Affine
from bnstudy.engines.probes.batch_noise import BatchNoise
from bnstudy.engines.probes.generalization import Generalization
from bnstudy.engines.probes.geometry import Geometry
from bnstudy.engines.probes.gradient_shift import GradientShift
from bnstudy.engines.probes.landscape import Landscape
from bnstudy.engines.probes.probe import Probe, ProbedRun, ScheduledProbe
from bnstudy.engines.probes.uncertainty import Uncertainty
from bnstudy.engines.probes.variance_shift import VarianceShift
from bnstudy.errors import ConfigError, find

PROBES: Mapping[str, Callable[..., Probe]] = {
    "activations": Activations,
    "affine": Affine,
    "batch-noise": BatchNoise,
    "fixed-activations": FixedActivations,
    "generalization": Generalization,
    "geometry": Geometry,
    "gradient-shift": GradientShift,
    "landscape": Landscape,
    "recorder": AttachedRecorder,
    "uncertainty": Uncertainty,
    "variance-shift": VarianceShift,
}


def make(probes: Mapping[str, Mapping[str, Any]], run: ProbedRun) -> dict[str, Probe]:
    """Make the probes of a run.

    Parameters
    ----------
    probes
        Options by the name of the probe.
    run
        The run to probe.

    Raises
    ------
    ConfigError
        If a name is unknown, or the options of a probe are unknown, missing or impossible.
    """
    made = {}
    for name, options in probes.items():
        probe = find("probe", name, PROBES)
        try:
            inspect.signature(probe).bind(run, **options)
        except TypeError as error:
            options_there = ", ".join(list(inspect.signature(probe).parameters)[1:])
            raise ConfigError(
                f"probe {name!r} cannot be made: {error}, its options are {options_there}"
            ) from None
        made[name] = probe(run, **options)
    return made


def all_scheduled(probes: Iterable[str]) -> bool:
    """Return whether all these probes measure at scheduled steps, not at every step."""
    return all(
        issubclass(cast(type, PROBES[name]), ScheduledProbe) for name in probes if name in PROBES
    )


def modules_of(probes: Iterable[str]) -> list[str]:
    """Return the modules whose code, with what they import, determines what probes measure."""
    return sorted({PROBES[name].__module__ for name in probes if name in PROBES})
