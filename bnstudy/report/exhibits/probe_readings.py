"""One number at the end of training, measured under several conditions on the same weights."""

from collections.abc import Mapping

import pandas as pd

from bnstudy.inference import Interval, difference_interval, mean_interval
from bnstudy.plan import Arm
from bnstudy.report import text
from bnstudy.report.drawing import Scale
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits.frame import Content, Nothing, Options, exhibit, seeds_of
from bnstudy.report.exhibits.ranking import draw_ranking
from bnstudy.report.model import Table


@exhibit("probe-readings", diverged="they count with what was seen of them.")
def probe_readings(
    evidence: Evidence, arms: tuple[Arm, ...], options: Options
) -> Content | Nothing:
    """Show what a probe last saw under several names of a tensor, one row per arm and name.

    Options: ``probe``, ``stat`` and ``label`` of the number; ``readings``, the text of
    each name of a tensor, the first of which the others are compared to, seed by
    seed; ``preposition``, which joins them to the number (``by`` if not given);
    ``arms``, their names (all if not given).
    """
    tensors: Mapping[str, str] = options["readings"]
    values = {arm.name: _last_values(evidence, arm, options) for arm in arms}
    arms = tuple(arm for arm in arms if len(values[arm.name]))
    if not arms:
        return Nothing()
    points, means, labels = [], [], {}
    for arm in arms:
        wide = values[arm.name]
        for tensor, words in tensors.items():
            name = f"{arm.name} {tensor}"
            labels[name] = f"{arm.label}: {words}"
            points.append(pd.DataFrame({"arm": name, "seed": wide.index, "value": wide[tensor]}))
            mean = mean_interval(wide[tensor].to_numpy())
            means.append((name, mean.estimate, mean.low, mean.high))
    rows = pd.concat(points, ignore_index=True).assign(censored=False)
    intervals = pd.DataFrame(means, columns=["arm", "mean", "low", "high"])
    differences = {arm.name: _differences(values[arm.name]) for arm in arms}
    return Content(
        sentence=_sentence(arms, differences, options),
        values=rows,
        draw=lambda source: draw_ranking(
            rows, intervals, labels, Scale(options["label"]), "", source
        ),
        tables=(_table(arms, values, differences, options),),
        seeds=seeds_of(evidence, arms),
    )


def _last_values(evidence: Evidence, arm: Arm, options: Options) -> pd.DataFrame:
    """Return the last values: a row per seed that has them all, a column per tensor."""
    columns = {}
    for tensor in options["readings"]:
        found = evidence.readings(
            (arm,),
            "probe",
            probe=options["probe"],
            stat=options["stat"],
            tensor=tensor,
            take="last",
        )
        columns[tensor] = found.set_index("seed")["value"]
    return pd.DataFrame(columns).dropna()


def _differences(wide: pd.DataFrame) -> dict[str, Interval]:
    """Return the paired differences of all columns but the first to the first."""
    first, *others = wide.columns
    return {
        each: difference_interval(wide[each].to_numpy(), wide[first].to_numpy()) for each in others
    }


def _sentence(
    arms: tuple[Arm, ...], differences: Mapping[str, Mapping[str, Interval]], options: Options
) -> str:
    tensors, joined = options["readings"], options.get("preposition", "by")
    stated = []
    for arm in arms:
        changes = [
            f"{text.loss_difference(each.estimate)} {joined} {tensors[tensor]} "
            f"({text.certainty(each, text.loss_difference)})"
            for tensor, each in differences[arm.name].items()
        ]
        stated.append(f"{arm.label} {text.listing(changes)}")
    return f"{options['label']} against {next(iter(tensors.values()))}: {'; '.join(stated)}"


def _table(
    arms: tuple[Arm, ...],
    values: Mapping[str, pd.DataFrame],
    differences: Mapping[str, Mapping[str, Interval]],
    options: Options,
) -> Table:
    tensors, joined = options["readings"], options.get("preposition", "by")
    write, rows = text.loss_difference, []
    for arm in arms:
        for tensor, words in tensors.items():
            column, found = values[arm.name][tensor], differences[arm.name].get(tensor)
            rows.append(
                (
                    arm.label,
                    words,
                    str(len(column)),
                    text.loss(float(column.mean())),
                    text.loss(float(column.min())),
                    text.loss(float(column.max())),
                    write(found.estimate) if found else text.MISSING,
                    text.interval_span(found, write) if found else text.MISSING,
                )
            )
    first = next(iter(tensors.values()))
    return Table(
        f"{options['label']}, and its mean paired difference to that {joined} {first} with a 95% "
        "t interval",
        ("Arm", joined.capitalize(), "Seeds", "Mean", "Lowest", "Highest", "Difference", "95% CI"),
        tuple(rows),
    )
