"""Agreement of two ways to read the same runs: at scheduled steps, and by an attached recorder."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit
from bnstudy.report.model import Table

READ, ATTACHED = "activations", "recorder"  # the probes that are compared
PERCENTILES = ("q15", "q50", "q85")
SPREAD = "std"  # the unit of differences
SMALL = 1e-4  # of a standard deviation: nobody could see it in a figure
KEYS = ["seed", "step", "epoch", "layer"]


def paired_arms(evidence: Evidence, options: Options) -> tuple[Arm, ...]:
    """Return the arms of the option ``pairs``, each before the one it is compared with."""
    return evidence.arms(name for pair in options["pairs"].items() for name in pair)


@exhibit("probe-agreement", diverged="what was recorded until then is compared.", arms=paired_arms)
def probe_agreement(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show how far apart two probes read the percentiles of layers' inputs at the same steps.

    A difference is in standard deviations of the layer's input at that step, as the attached
    recorder reads it.

    Options: ``pairs``, arms read by the probe ``activations`` and, for each, the arm of the same
    settings with the probe ``recorder``; ``layers``; ``early``, the epoch up to which the
    sentence compares them.
    """
    pairs: Mapping[str, str] = options["pairs"]
    layers, early = options["layers"], options["early"]
    found = pd.concat(
        [_differences(evidence, layers, *pair) for pair in pairs.items()], ignore_index=True
    )
    if found.empty:
        return Nothing("no step of a seed was read in both ways")
    return Content(
        sentence=_sentence(found[found["epoch"] <= early], early),
        values=found,
        draw=None,
        tables=(_table(found, arms[::2], layers, early),),
    )


def _differences(
    evidence: Evidence, layers: Sequence[str], name: str, recorded: str
) -> pd.DataFrame:
    """Return columns ``arm``, :data:`KEYS` and ``value``, the largest of the percentiles."""
    read, attached = (
        evidence.seen(evidence.arms([arm]), layers, "in", (*PERCENTILES, SPREAD), probe)
        .pivot(index=KEYS, columns="stat", values="value")
        .astype(float)
        for arm, probe in ((name, READ), (recorded, ATTACHED))
    )
    same = read.index.intersection(attached.index)
    if not len(same):
        return pd.DataFrame(columns=["arm", *KEYS, "value"])
    percentiles = list(PERCENTILES)
    apart = (read.loc[same, percentiles] - attached.loc[same, percentiles]).abs().max(axis=1)
    found = (apart / attached.loc[same, SPREAD]).rename("value").reset_index()
    found = found[np.isfinite(found["value"])]  # not after a run diverged
    return found.assign(arm=name)[["arm", *KEYS, "value"]]


def _sentence(found: pd.DataFrame, early: float) -> str:
    if found.empty:
        return f"No step of the first {text.epochs(early)} epochs was read in both ways"
    steps = text.count(found["step"].nunique(), "step")
    return (
        f"At {steps} of the first {text.epochs(early)} epochs the two readings of a layer's "
        f"percentiles differ by {_write(found['value'].max())} standard deviations at most "
        f"({text.count(found['seed'].nunique(), 'seed')})"
    )


def _write(value: float) -> str:
    """Write a number of standard deviations; zeros after the point say less than a bound."""
    return f"less than {text.significant(SMALL)}" if 0 < value < SMALL else text.significant(value)


def _table(found: pd.DataFrame, arms: Sequence[Arm], layers: Sequence[str], early: float) -> Table:
    rows = []
    for arm in arms:
        mine = found[found["arm"] == arm.name]
        for layer in layers:
            at = mine[mine["layer"] == layer]
            largest = (at[at["epoch"] <= early]["value"].max(), at["value"].max())
            cells = map(_write, largest)
            rows.append((f"{arm.label}, {layer}", str(at["seed"].nunique()), *cells))
    return Table(
        "Largest difference of the 15th, 50th and 85th percentile of a layer's inputs between the "
        "two readings, in standard deviations of these inputs, over steps and seeds",
        ("Arm and layer", "Seeds", f"Up to epoch {text.epochs(early)}", "Up to the last step"),
        tuple(rows),
    )
