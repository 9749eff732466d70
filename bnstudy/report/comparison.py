"""Comparison of two reported studies: changed verdicts, and the change of each effect.

Every report keeps its verdicts as data in ``verdicts.json``, so that studies can be
compared without their runs: yours with a published one, two machines, two versions.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnstudy.config import canonical_json
from bnstudy.errors import ReportError
from bnstudy.inference import Interval
from bnstudy.judging import Analysis, Outcome, Verdict
from bnstudy.plan import Plan
from bnstudy.report import text
from bnstudy.report.sentences import verdict_record

VERDICTS = "verdicts.json"
UNJUDGED = "explored"


@dataclass(frozen=True)
class Filed:
    """The record of a study that its report keeps as ``verdicts.json``.

    Attributes
    ----------
    folder
        Folder of the report.
    plan
        sha256 of the plan.
    seeds
        Number of seeds.
    data
        sha256 of the images.
    arms
        Settings by experiment and arm.
    verdicts
        Verdicts as plain data, by id of the claim.
    """

    folder: str
    plan: str
    seeds: int
    data: str
    arms: Mapping[str, Any]
    verdicts: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Pair:
    """A claim that both studies have.

    Attributes
    ----------
    claim
        Its id.
    outcomes
        Both verdict words; ``explored`` for a claim without.
    effects
        Both effects with their intervals, in natural units.
    moved
        From the first estimate to the second: a factor for ratios, else a difference.
    apart
        Whether the intervals do not overlap; None where one is missing.
    same_rule
        Whether the claim was registered with the same rule.
    """

    claim: str
    outcomes: tuple[str, str]
    effects: tuple[str, str]
    moved: str
    apart: bool | None
    same_rule: bool

    @property
    def changed(self) -> bool:
        """True if the verdict word differs."""
        return self.outcomes[0] != self.outcomes[1]


@dataclass(frozen=True)
class Comparison:
    """Two studies side by side.

    Attributes
    ----------
    first, second
        Line that names plan, seeds and data of each.
    pairs
        Claims of both, in the order of the first.
    only
        Ids of claims that only the first, or only the second has.
    other_arms
        Arms with other settings, or that one of them lacks.
    """

    first: str
    second: str
    pairs: tuple[Pair, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    other_arms: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The comparison in one sentence."""
        changed = sum(pair.changed for pair in self.pairs)
        apart = sum(pair.apart is True for pair in self.pairs)
        return (
            f"{len(self.pairs)} claims in both studies: {changed} with another verdict, "
            f"{apart} whose intervals do not overlap"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data for JSON."""
        pairs = [{**asdict(pair), "changed": pair.changed} for pair in self.pairs]
        return {**asdict(self), "pairs": pairs, "sentence": self.sentence}


def filed_text(plan: Plan, verdicts: Sequence[Verdict]) -> str:
    """Return the content of ``verdicts.json``: the same bytes for the same study."""
    content = {
        "plan": plan.sha256,
        "profile": plan.profile,
        "seeds": list(plan.seeds),
        "data": plan.data.digest,
        "arms": {
            f"{planned.experiment.name}: {arm.name}": arm.canonical()
            for planned in plan.experiments
            for arm in planned.arms
        },
        "verdicts": [verdict_record(verdict) for verdict in verdicts],
    }
    return canonical_json(content) + "\n"


def load_filed(study: str, reports: Path) -> Filed:
    """Read the record that a report keeps of its study.

    Parameters
    ----------
    study
        The folder of a report, or its name below ``reports``.
    reports
        Folder of all reports.

    Raises
    ------
    ReportError
        If there is no such report, or its record is missing or damaged.
    """
    folder = next((each for each in (reports / study, Path(study)) if each.is_dir()), None)
    if folder is None:
        raise ReportError(
            f"a study to compare must have a report, and there is none at {reports / study} "
            f"or {study}: write it with bnstudy report"
        )
    path = folder / VERDICTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Filed(
            folder=str(folder),
            plan=content["plan"],
            seeds=len(content["seeds"]),
            data=content["data"],
            arms=content["arms"],
            verdicts={each["claim"]["id"]: each for each in content["verdicts"]},
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise ReportError(
            f"a report to compare holds its verdicts in {VERDICTS}, and {path} is missing or "
            "damaged: write the report again with bnstudy report"
        ) from None


def compare(first: Filed, second: Filed) -> Comparison:
    """Compare two studies, claim by claim.

    Raises
    ------
    ReportError
        If they have no claim in common.
    """
    common = [claim for claim in first.verdicts if claim in second.verdicts]
    if not common:
        raise ReportError(
            f"studies to compare must share a claim, and {first.folder} and {second.folder} share "
            "none: compare reports of the same experiments, from the standard size up"
        )
    every = sorted({*first.arms, *second.arms})
    return Comparison(
        first=_introduced(first),
        second=_introduced(second),
        pairs=tuple(_pair(first.verdicts[claim], second.verdicts[claim]) for claim in common),
        only=(
            tuple(claim for claim in first.verdicts if claim not in second.verdicts),
            tuple(claim for claim in second.verdicts if claim not in first.verdicts),
        ),
        other_arms=tuple(a for a in every if first.arms.get(a) != second.arms.get(a)),
    )


def comparison_text(found: Comparison) -> str:
    """Return a comparison for the terminal: what changed first, then the rest."""
    lines = [f"A  {found.first}", f"B  {found.second}", found.sentence, ""]
    for title, wanted in (("another verdict", True), ("the same verdict", False)):
        pairs = [pair for pair in found.pairs if pair.changed == wanted]
        if pairs:
            lines += [f"{title}:", *(line for pair in pairs for line in _pair_lines(pair)), ""]
    for name, claims in zip("AB", found.only, strict=True):
        if claims:
            lines.append(f"only in {name}: {', '.join(claims)}")
    if found.other_arms:
        lines.append(f"arms that differ or are in one only: {'; '.join(found.other_arms)}")
    return "\n".join(lines).rstrip()


def _pair_lines(pair: Pair) -> list[str]:
    remarks = [f"moved {pair.moved}"]
    remarks += ["intervals do not overlap"] if pair.apart else []
    remarks += [] if pair.same_rule else ["registered with another rule"]
    return [
        f"  {pair.claim}: {', '.join(remarks)}",
        *(
            f"    {name}  {outcome:<14} {effect}"
            for name, outcome, effect in zip("AB", pair.outcomes, pair.effects, strict=True)
        ),
    ]


def _introduced(filed: Filed) -> str:
    return (
        f"{filed.folder}: plan {filed.plan[:12]}, {filed.seeds} seeds, images {filed.data[:12]}, "
        f"{len(filed.verdicts)} claims"
    )


def _pair(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pair:
    before, after = _analysis(first), _analysis(second)
    apart = None
    if before.effect is not None and after.effect is not None:
        apart = before.effect.high < after.effect.low or after.effect.high < before.effect.low
    return Pair(
        claim=first["claim"]["id"],
        outcomes=(first["outcome"] or UNJUDGED, second["outcome"] or UNJUDGED),
        effects=(
            text.effect_interval(before.effect, before.unit),
            text.effect_interval(after.effect, after.unit),
        ),
        moved=_moved(before, after),
        apart=apart,
        same_rule=first["claim"] == second["claim"],
    )


def _analysis(verdict: Mapping[str, Any]) -> Analysis:
    """Return a verdict's stored analysis, without its effect if a premise failed.

    JSON has no infinity, so an end that is None was infinite.
    """
    record = verdict["result"]
    stored, effect = record["effect"], None
    void = verdict["outcome"] == Outcome.PREMISE_FAILED
    if not void and stored is not None and stored["estimate"] is not None:
        low = -math.inf if stored["low"] is None else stored["low"]
        high = math.inf if stored["high"] is None else stored["high"]
        effect = Interval(**{**stored, "low": low, "high": high})
    return Analysis(**{**record, "effect": effect})


def _moved(first: Analysis, second: Analysis) -> str:
    if first.effect is None or second.effect is None or first.unit != second.unit:
        return text.MISSING
    if first.unit == "times":
        return f"x {text.factor(second.effect.estimate / first.effect.estimate)}"
    return text.effect(second.effect.estimate - first.effect.estimate, first.unit)
