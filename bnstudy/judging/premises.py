"""Tests of premises: a figure, whether the premise holds, and a sentence that says so.

Each kind is two small functions, registered together by :func:`premise_test`: the
estimands it reads, and the test of their samples.  Intervals are at 95 %: a premise must
be shown by the runs, so an interval that is too wide fails it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np

from bnstudy.inference import Interval, mean_interval, paired_differences
from bnstudy.judging.measures import RunName, watched_images
from bnstudy.judging.measures.run import Run
from bnstudy.judging.samples import Sample, sample_estimand
from bnstudy.plan import Arm, Estimand, Plan, PlannedExperiment, Premise

ROUNDING = 1e-9  # of an accuracy: 0.1 + 0.05 is not quite 0.15


@dataclass(frozen=True)
class TestedPremise:
    """A premise of a claim, tested on the runs of a study.

    Attributes
    ----------
    kind
        Its kind.
    holds
        Whether the premise holds; None where it could not be tested.
    figure, unit
        The number it rests on, of several arms that of the worst; None without a test.
    sentence
        What was found, or what is missing.
    missing
        Names of what is missing, with counts; empty if nothing is.
    """

    kind: str
    holds: bool | None
    figure: float | None
    unit: str
    sentence: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class PremiseSamples:
    """The samples that a premise is tested on.

    Attributes
    ----------
    premise
        The premise.
    samples
        One per estimand that it reads, none of them incomplete.
    arms
        Its arms, by name.
    chance
        Accuracy of guessing among the classes.
    """

    premise: Premise
    samples: tuple[Sample, ...]
    arms: Mapping[str, Arm]
    chance: float

    def named(self, names: Sequence[str], last: str = " and ") -> str:
        """Return the labels of some arms in quotation marks, with a word before the last."""
        *labels, final = (f'"{self.arms[name].label}"' for name in names)
        return f"{', '.join(labels)}{last}{final}" if labels else final


Reads: TypeAlias = Callable[[Premise], tuple[Estimand, ...]]
Test: TypeAlias = Callable[[PremiseSamples], tuple[bool, float, str]]
PREMISE_TESTS: dict[str, tuple[Reads, Test]] = {}


def premise_test(kind: str, reads: Reads) -> Callable[[Test], Test]:
    """Register the test of a kind of premise, with the function that names what it reads."""

    def register(test: Test) -> Test:
        PREMISE_TESTS[kind] = (reads, test)
        return test

    return register


def estimands_of(premise: Premise) -> tuple[Estimand, ...]:
    """Return the estimands whose samples a premise is tested on."""
    reads, _ = PREMISE_TESTS[premise.kind]
    return reads(premise)


def check_premise(
    premise: Premise, plan: Plan, planned: PlannedExperiment, runs: Mapping[RunName, Run]
) -> TestedPremise:
    """Test a premise on the runs of a study.

    Parameters
    ----------
    premise
        Of a claim of the experiment.
    plan, planned
        The study, whose seeds are read, and the experiment.
    runs
        From :func:`~bnstudy.judging.measures.finished_runs`.

    Raises
    ------
    ConfigError
        If a measure is unknown, or does not take its options.
    """
    samples = tuple(
        sample_estimand(estimand, plan, planned, runs) for estimand in estimands_of(premise)
    )
    missing = tuple(dict.fromkeys(each for sample in samples for each in sample.missing))
    if missing:
        sentence = f"not tested: missing are {', '.join(missing)}"
        return TestedPremise(premise.kind, None, None, premise.unit, sentence, missing)
    arms = {name: planned.arm(name) for name in premise.arm_names}
    _, test = PREMISE_TESTS[premise.kind]
    holds, figure, sentence = test(PremiseSamples(premise, samples, arms, plan.data.chance))
    return TestedPremise(premise.kind, holds, figure, premise.unit, sentence)


# Premises on arms -----------------------------------------------------------------------


def _best_accuracies(premise: Premise) -> tuple[Estimand, ...]:
    return _one_per_arm(premise, "best-accuracy", "epochs")


def _late_changes(premise: Premise) -> tuple[Estimand, ...]:
    return _one_per_arm(premise, "late-change", "epochs", "last", "column")


def _one_per_arm(premise: Premise, measure: str, *names: str) -> tuple[Estimand, ...]:
    options = {name: premise.options[name] for name in names}
    return tuple(Estimand(measure, ((arm,),), options) for arm in premise.arm_names)


@premise_test("trained", _best_accuracies)
def _trained(given: PremiseSamples) -> tuple[bool, float, str]:
    """Test that in every seed each arm's best accuracy is clearly above chance."""
    enough = given.chance + float(given.premise.options["above"]) - ROUNDING
    best = {
        name: sample.values
        for name, sample in zip(given.premise.arm_names, given.samples, strict=True)
    }
    failed = [name for name, values in best.items() if (values < enough).any()]
    lowest = float(min(values.min() for values in best.values()))
    if not failed:
        every = np.concatenate(list(best.values()))
        return True, lowest, _learned(given, list(best), every, enough)
    clauses = [_learned(given, [name], best[name], enough) for name in failed]
    return False, lowest, "; ".join(clauses)


def _learned(given: PremiseSamples, names: Sequence[str], values: np.ndarray, enough: float) -> str:
    kinds = {watched_images(given.arms[name].config) for name in names}
    images = " or ".join(sorted({"train": "training"}.get(kind, kind) for kind in kinds))
    seeds = len(given.samples[0].values)
    # of several arms only whole seeds count, and these are told of where all have learned
    learned = seeds if len(names) > 1 else int((values >= enough).sum())
    return (
        f"the arm{'s' * (len(names) > 1)} {given.named(names)} learned in {learned} of {seeds} "
        f"seeds: best {images} accuracy {_span(values.min(), values.max(), '.3f')}, chance is "
        f"{given.chance:.3g}, and {enough:.3g} counts as learned"
    )


@premise_test("flat", _late_changes)
def _flat(given: PremiseSamples) -> tuple[bool, float, str]:
    """Test that the mean change over the last epochs is within the tolerance, by its bounds."""
    tolerance = float(given.premise.options["tolerance"])
    changes = dict(zip(given.premise.arm_names, given.samples, strict=True))
    intervals = {name: mean_interval(sample.values) for name, sample in changes.items()}
    # in both directions: a curve that falls at its end has not settled either
    bounds = {name: max(abs(each.low), abs(each.high)) for name, each in intervals.items()}
    failed = [name for name in changes if bounds[name] >= tolerance or changes[name].diverged]
    worst = max(failed or bounds, key=lambda name: bounds[name])
    sentences = [
        _settled(given, name, changes[name], intervals[name]) for name in failed or [worst]
    ]
    if not failed and len(changes) > 1:
        sentences[0] += ", and no other arm by more"
    return not failed, bounds[worst], "; ".join(sentences)


def _settled(given: PremiseSamples, name: str, sample: Sample, change: Interval) -> str:
    if sample.diverged:
        return (
            f"the arm {given.named([name])} diverged in {sample.diverged} of {sample.seeds} seeds"
        )
    unit, options = given.premise.unit, given.premise.options
    asked = _amount(float(options["tolerance"]), unit).lstrip("+")
    return (
        f"the curve of {given.named([name])} changed by {_estimate(change, unit)} over the last "
        f"{float(options['last']):g} epochs, where less than {asked} counts as flat"
    )


# Premises on estimands ------------------------------------------------------------------


def _own_estimand(premise: Premise) -> tuple[Estimand, ...]:
    return (cast(Estimand, premise.estimand),)  # the premise refused to be made without one


def _training_losses(premise: Premise) -> tuple[Estimand, ...]:
    if premise.estimand is not None:
        return (premise.estimand,)
    options = {"column": "train_loss", "epochs": premise.options["epochs"]}
    return tuple(Estimand("latest", ((arm,),), options) for arm in premise.arm_names)


@premise_test("equal-fit", _training_losses)
def _equal_fit(given: PremiseSamples) -> tuple[bool, float, str]:
    """Test that the interval of the difference in training loss lies within the margin."""
    if given.premise.estimand is not None:
        return _within_margin(given, mean_interval(given.samples[0].values), "training loss")
    first, second = given.premise.arms
    losses = [sample.values for sample in given.samples]
    means = [np.mean(group, axis=0) for group in (losses[: len(first)], losses[len(first) :])]
    subject = f"training loss of {given.named(first)} against {given.named(second)}"
    return _within_margin(given, mean_interval(paired_differences(*means)), subject)


@premise_test("no-effect-there", _own_estimand)
def _no_effect_there(given: PremiseSamples) -> tuple[bool, float, str]:
    """Test that the interval of the control arm lies within the margin of no effect."""
    return _within_margin(given, mean_interval(given.samples[0].values), _subject(given))


def _within_margin(
    given: PremiseSamples, interval: Interval, subject: str
) -> tuple[bool, float, str]:
    in_ratios = given.premise.estimand is not None and given.premise.estimand.in_ratios
    margin = float(given.premise.options["margin"])
    bound = math.log(margin) if in_ratios else margin
    # Two runs cut off at one horizon, or two that guess, look alike however different they are.
    hidden = sum(sample.censored + sample.diverged for sample in given.samples)
    holds = -bound < interval.low and interval.high < bound and not hidden
    natural = _natural(interval, in_ratios=in_ratios)
    unit = given.premise.unit
    allowed = f"a factor of {margin:g}" if in_ratios else _amount(margin, unit).lstrip("+")
    sentence = f"{subject}: {_estimate(natural, unit)}, where {allowed} either way is allowed"
    if hidden:
        sentence += "; runs that were censored or diverged may hide a difference"
    return holds, natural.estimate, sentence


@premise_test("effect-there", _own_estimand)
def _effect_there(given: PremiseSamples) -> tuple[bool, float, str]:
    """Test that the interval of the positive control lies on the named side of no effect."""
    (estimand,) = _own_estimand(given.premise)
    interval = mean_interval(given.samples[0].values)
    greater = given.premise.options["direction"] == "greater"
    holds = interval.low > 0 if greater else interval.high < 0
    natural = _natural(interval, in_ratios=estimand.in_ratios)
    side = f"{'above' if greater else 'below'} {1 if estimand.in_ratios else 0}"
    found = "lies" if holds else "does not lie"
    return (
        holds,
        natural.estimate,
        f"{_subject(given)}: {_estimate(natural, given.premise.unit)}, which {found} {side}",
    )


def _level_values(premise: Premise) -> tuple[Estimand, ...]:
    """Return one estimand per group, whose sample has a value per seed and level."""
    (estimand,) = _own_estimand(premise)
    return tuple(
        replace(
            estimand,
            arms=(group,),
            options=estimand.options_of(position),
            baseline_options={},
            summary="order",
            scale="difference",
        )
        for position, group in enumerate(estimand.arms)
    )


@premise_test("bracketed", _level_values)
def _bracketed(given: PremiseSamples) -> tuple[bool, float, str]:
    """Test that in each group of arms the best level is at neither end of the grid."""
    (estimand,) = _own_estimand(given.premise)
    levels, share = np.array(estimand.levels), float(given.premise.options["share"])
    sign = 1.0 if given.premise.options["best"] == "greatest" else -1.0
    order = np.argsort(levels)
    found = []
    for group, sample in zip(estimand.arms, given.samples, strict=True):
        values = sign * sample.values[:, order]  # (n, k), the best is the greatest
        means = values.mean(axis=0, keepdims=True)
        kept = float(_inside(values).mean())
        holds = kept >= share if share else bool(_inside(means)[0])
        best = float(levels[order][means[0].argmax()])
        ends = given.named((group[order[0]], group[order[-1]]), " to ")
        seeds = (
            f"in {round(kept * sample.seeds)} of {sample.seeds} seeds the best is between the ends"
        )
        if share:
            seeds += f", where {math.ceil(share * sample.seeds - ROUNDING)} are asked"
        where = _where(means[0], levels[order])
        found.append((holds, best, f"{estimand.measure} over the arms {ends}: {where}; {seeds}"))
    told = [each for each in found if not each[0]] or found
    return told[0][0], told[0][1], "; ".join(sentence for _, _, sentence in told)


def _inside(values: np.ndarray) -> np.ndarray:
    """Return which rows of (n, k) have a value between the ends that is above both, (n,)."""
    ends = np.maximum(values[:, 0], values[:, -1])
    return np.asarray(values[:, 1:-1].max(axis=1) > ends)


def _where(means: np.ndarray, levels: np.ndarray) -> str:
    if means.min() == means.max():
        return "the mean is the same at every level, so none is the best"
    if _inside(means[None])[0]:
        return f"the best mean is at {levels[means.argmax()]:g}, between the ends of the grid"
    end = levels[0] if means[0] >= means[-1] else levels[-1]
    return f"no mean between the ends of the grid is better than that at its end {end:g}"


# Sentences ------------------------------------------------------------------------------


def _subject(given: PremiseSamples) -> str:
    (estimand,) = _own_estimand(given.premise)
    groups = [given.named(group) for group in estimand.arms]
    if estimand.baseline_options:  # the same arm may be measured in two settings
        options = ", ".join(f"{key} {value}" for key, value in estimand.baseline_options.items())
        groups[1::2] = [f"{each} ({options})" for each in groups[1::2]]
    summary = "" if estimand.summary == "value" else f" ({estimand.summary})"
    return f"{estimand.measure}{summary} of {' against '.join(groups)}"


def _natural(interval: Interval, *, in_ratios: bool) -> Interval:
    if not in_ratios:
        return interval
    with np.errstate(over="ignore"):  # a ratio too large for a float is infinite
        estimate, low, high = np.exp([interval.estimate, interval.low, interval.high]).tolist()
    return replace(interval, estimate=estimate, low=low, high=high)


def _estimate(interval: Interval, unit: str) -> str:
    estimate = _amount(interval.estimate, unit)
    if interval.n == 1:
        return f"{estimate} (no interval from 1 seed)"
    low, high = (_amount(end, unit).split(" ")[0] for end in (interval.low, interval.high))
    return f"{estimate} ({100 * interval.confidence:.0f}% interval {low} to {high})"


def _amount(value: float, unit: str) -> str:
    """Return a number with its unit, accuracies in 0..1 as percentage points."""
    if unit == "points":
        return f"{100 * value:+.2f} points"
    return f"{value:.3g} times" if unit == "times" else f"{value:+.3g} {unit}"


def _span(low: float, high: float, form: str) -> str:
    first, last = format(low, form), format(high, form)
    return first if first == last else f"{first} to {last}"
