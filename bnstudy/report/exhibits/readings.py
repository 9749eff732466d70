"""One number of each seed, read in several ways of the same weights, at the end of training."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bnstudy.engines.probes.probe import NETWORK
from bnstudy.inference import Interval, difference_interval, mean_interval
from bnstudy.plan.plan import Arm, Exhibit
from bnstudy.report import drawing, text
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import parts
from bnstudy.report.model import Finding, Table


def probe_readings(evidence: Evidence, exhibit: Exhibit, anchor: str) -> Finding:
    """Show what a probe last saw under several names of a tensor, a row an arm and a name.

    Options: ``probe``, ``stat`` and ``label`` of the number; ``readings``, words for
    each name of a tensor, the first of which the others are compared to, seed by
    seed; ``preposition``, which joins them to the number (``by`` if not given);
    ``arms``, their names (all if not given).
    """
    arms = evidence.arms(exhibit.options.get("arms"))
    readings: Mapping[str, str] = exhibit.options["readings"]
    label, joined = exhibit.options["label"], exhibit.options.get("preposition", "by")
    notes = parts.gaps(evidence, arms, "they count with what was seen of them.")
    wide = {arm.name: _read(evidence, arm, exhibit) for arm in arms}
    there = tuple(arm for arm in arms if len(wide[arm.name]))
    if not there:
        return parts.nothing(anchor, exhibit, notes)
    points, means, labels = [], [], {}
    for arm in there:
        for tensor, words in readings.items():
            name = f"{arm.name} {tensor}"
            labels[name] = f"{arm.label}: {words}"
            column = wide[arm.name][tensor]
            points.append(pd.DataFrame({"arm": name, "seed": column.index, "value": column}))
            found = mean_interval(column.to_numpy())
            means.append((name, found.estimate, found.low, found.high))
    rows = pd.concat(points, ignore_index=True).assign(censored=False)
    figure = drawing.ranking(
        rows,
        pd.DataFrame(means, columns=["arm", "mean", "low", "high"]),
        labels,
        drawing.Scale(label),
        "",
        parts.source_line(evidence.plan, parts.seeds_of(evidence, there)),
    )
    gains = {arm.name: _gains(wide[arm.name], readings) for arm in there}
    sentence = _sentence(there, readings, gains, label, joined)
    chart = parts.draw(evidence, anchor, figure, sentence, exhibit.caption, None, rows)
    table = _table(there, readings, wide, gains, label, joined)
    return Finding(anchor, sentence, exhibit.caption, (table,), chart, notes)


def _read(evidence: Evidence, arm: Arm, exhibit: Exhibit) -> pd.DataFrame:
    """Return the last values, a row a seed that has them all, a column a tensor."""
    options, columns = exhibit.options, {}
    for tensor in options["readings"]:
        seen = evidence.measured(
            (arm,), (NETWORK,), tensor, (options["stat"],), options["probe"]
        ).sort_values("epoch")
        columns[tensor] = seen.groupby("seed")["value"].last()
    wide = pd.DataFrame(columns).astype(float)
    return wide.replace([np.inf, -np.inf], np.nan).dropna()


def _gains(wide: pd.DataFrame, readings: Mapping[str, str]) -> dict[str, Interval]:
    first, *others = readings
    return {
        each: difference_interval(wide[each].to_numpy(), wide[first].to_numpy()) for each in others
    }


def _sentence(
    arms: tuple[Arm, ...],
    readings: Mapping[str, str],
    gains: Mapping[str, Mapping[str, Interval]],
    label: str,
    joined: str,
) -> str:
    first, *others = readings
    said = []
    for arm in arms:
        changes = [
            f"{text.loss(gains[arm.name][each].estimate, sign=True)} {joined} {readings[each]} "
            f"({parts.certainty(gains[arm.name][each], _signed)})"
            for each in others
        ]
        said.append(f"{arm.label} {text.listing(changes)}")
    return f"{label} against {readings[first]}: {'; '.join(said)}"


def _signed(value: float | None) -> str:
    return text.loss(value, sign=True)


def _table(
    arms: tuple[Arm, ...],
    readings: Mapping[str, str],
    wide: Mapping[str, pd.DataFrame],
    gains: Mapping[str, Mapping[str, Interval]],
    label: str,
    joined: str,
) -> Table:
    rows = []
    for arm in arms:
        for tensor, words in readings.items():
            values, gain = wide[arm.name][tensor], gains[arm.name].get(tensor)
            rows.append(
                (
                    arm.label,
                    words,
                    str(len(values)),
                    text.loss(float(values.mean())),
                    text.loss(float(values.min())),
                    text.loss(float(values.max())),
                    text.MISSING if gain is None else _signed(gain.estimate),
                    text.MISSING if gain is None else text.interval_span(gain, _signed),
                )
            )
    first = next(iter(readings.values()))
    return Table(
        f"{label}, and its mean paired difference to that {joined} {first} with a 95% t interval",
        ("Arm", joined.capitalize(), "Seeds", "Mean", "Lowest", "Highest", "Difference", "95% CI"),
        tuple(rows),
    )
