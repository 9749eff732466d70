"""The frame around every exhibit: which runs are missing, the source line, the chart, the CSV.

An exhibit is one file: it reads the evidence, says the finding in a sentence, makes
tables and draws.  It registers itself with :func:`exhibit` and returns a
:class:`Content`, or :class:`Nothing` with the reason; all the rest stands here once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bnstudy.errors import ConfigError, find
from bnstudy.plan import Arm, Exhibit
from bnstudy.report import text
from bnstudy.report.captions import source_line
from bnstudy.report.drawing import to_svg
from bnstudy.report.evidence import Evidence
from bnstudy.report.model import Chart, Finding, Table

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """What an exhibit shows, without its frame.

    Attributes
    ----------
    sentence
        The finding, computed.
    values
        What is drawn, as CSV in full precision.
    draw
        Draws it, given the source line; None where a table says it all.
    tables
        Results in numbers.
    data
        The values drawn, summarized over seeds; None if ``tables`` hold them already.
    notes
        Sentences that qualify the finding, before those on missing and diverged runs.
    seeds
        How many seeds are drawn, if not all those of the arms.
    """

    sentence: str
    values: pd.DataFrame
    draw: Callable[[str], Figure] | None
    tables: tuple[Table, ...] = ()
    data: Table | None = None
    notes: tuple[str, ...] = ()
    seeds: str = ""


@dataclass(frozen=True)
class Nothing:
    """Why an exhibit has nothing to show, the end of a sentence."""

    reason: str = "none of its runs is there"


Maker = Callable[[Evidence, tuple[Arm, ...], Options], Content | Nothing]
ChooseArms = Callable[[Evidence, Options], tuple[Arm, ...]]
Diverged = str | Callable[[Evidence, Options], str]


@dataclass(frozen=True)
class Registered:
    """A maker, which arms it shows, and what becomes of diverged runs there."""

    make: Maker
    arms: ChooseArms
    diverged: Diverged


EXHIBITS: dict[str, Registered] = {}


def named_arms(evidence: Evidence, options: Options) -> tuple[Arm, ...]:
    """Return the arms of the option ``arms``, all of the experiment if it is not given."""
    return evidence.arms(options.get("arms"))


def one_arm(evidence: Evidence, options: Options) -> tuple[Arm, ...]:
    """Return the arm of the option ``arm``."""
    return evidence.arms([options["arm"]])


def exhibit(
    kind: str, *, diverged: Diverged, arms: ChooseArms = named_arms
) -> Callable[[Maker], Maker]:
    """Register a maker of exhibits under the kind that experiments ask for.

    Parameters
    ----------
    kind
        For example ``learning-curves``.
    diverged
        What becomes of diverged runs in it, the end of a sentence; or a function of the
        evidence and the exhibit's options that returns it.
    arms
        Which arms it shows.

    Raises
    ------
    ConfigError
        If there is an exhibit of that kind already.
    """

    def register(make: Maker) -> Maker:
        if kind in EXHIBITS:
            raise ConfigError(f"there is an exhibit {kind!r} already: choose another name")
        EXHIBITS[kind] = Registered(make, arms, diverged)
        return make

    return register


def make(evidence: Evidence, asked: Exhibit, anchor: str) -> Finding:
    """Make an exhibit that an experiment asks for.

    Parameters
    ----------
    evidence
        The experiment's runs.
    asked
        Its kind, caption and options.
    anchor
        Id of the finding on its page.

    Raises
    ------
    ConfigError
        If there is no exhibit of this kind, or it names an arm that does not exist.
    """
    registered = find("exhibit", asked.kind, EXHIBITS)
    arms = registered.arms(evidence, asked.options)
    diverged = registered.diverged
    diverged = diverged if isinstance(diverged, str) else diverged(evidence, asked.options)
    missing = gaps(evidence, arms, diverged)
    found = registered.make(evidence, arms, asked.options)
    if isinstance(found, Nothing):
        return Finding(anchor, f"Nothing to show: {found.reason}", asked.caption, notes=missing)
    notes = (*found.notes, *missing)
    if found.draw is None:
        return Finding(anchor, found.sentence, asked.caption, found.tables, notes=notes)
    source = source_line(evidence.plan, found.seeds or seeds_of(evidence, arms))
    name = f"{evidence.planned.experiment.name}-{anchor}"
    chart = Chart(
        name,
        to_svg(found.draw(source), name, found.sentence, asked.caption),
        asked.caption,
        found.data,
        text.csv(found.values),
    )
    return Finding(anchor, found.sentence, asked.caption, found.tables, chart, notes)


def as_guessing(evidence: Evidence, options: Options) -> str:
    """Say that diverged runs count with the accuracy of guessing."""
    chance = text.percent(evidence.plan.data.chance, 0)
    return f"they count with the accuracy of guessing, {chance}."


def labels_of(arms: Iterable[Arm]) -> dict[str, str]:
    """Return the label of each arm by its name."""
    return {arm.name: arm.label for arm in arms}


def seeds_of(evidence: Evidence, arms: Iterable[Arm]) -> str:
    """Say how many seeds are there: '16 seeds', or '12 to 16 seeds' if the arms differ."""
    numbers = sorted({len(evidence.finished(arm.name)) for arm in arms})
    if len(numbers) < 2:
        return text.count(numbers[0] if numbers else 0, "seed")
    return f"{numbers[0]} to {text.count(numbers[-1], 'seed')}"


def gaps(evidence: Evidence, arms: Iterable[Arm], diverged: str) -> tuple[str, ...]:
    """Say which runs are missing and which diverged.

    Parameters
    ----------
    evidence, arms
        Whose runs are meant.
    diverged
        What becomes of diverged runs here, the end of a sentence.
    """
    sentences = []
    for arm in arms:
        planned = len(evidence.plan.seeds_of(arm))
        there = len(evidence.finished(arm.name))
        lost = len(evidence.finished(arm.name, "diverged"))
        if there < planned:
            runs = "No run" if there == 0 else f"Only {there} of {text.count(planned, 'run')}"
            verb = "is" if there <= 1 else "are"
            sentences.append(f"{runs} of {arm.label} {verb} there.")
        if lost:
            runs = "All" if lost == there > 1 else f"{lost} of {there}"
            sentences.append(
                f"{runs} {'run' if there == 1 else 'runs'} of {arm.label} diverged; {diverged}"
            )
    return tuple(sentences)
