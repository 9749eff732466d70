"""Verdicts as the report shows them: a table of all, and each one with its rule."""

import math
from collections.abc import Mapping, Sequence

from bnstudy.judging import Outcome, Row, Verdict
from bnstudy.plan import Claim, Estimand, Option
from bnstudy.report import text
from bnstudy.report.model import Chart, Judgement, Link, Table

SYMBOLS = {
    Outcome.SUPPORTED: "✔",
    Outcome.REFUTED: "✘",
    Outcome.INCONCLUSIVE: "?",
    Outcome.INADMISSIBLE: "–",
    Outcome.DEVIATED: "≠",
}
EXPLORED = "explored"
MEANINGS = {
    Outcome.SUPPORTED: "The runs show what the claim says, too clearly for chance: if no claim of "
    "the study were true, at most 5 in 100 studies like it would say this of any of them.",
    Outcome.REFUTED: "The runs show the opposite of what the claim says, as clearly.",
    Outcome.INCONCLUSIVE: "The runs do not decide. That does not show that there is no effect: the "
    "interval says which effects are still possible.",
    Outcome.INADMISSIBLE: "The claim could not be judged: runs that its rule asks for are missing, "
    "or cannot be read.",
    Outcome.DEVIATED: "The claim was changed after the first run, so these runs do not judge it.",
}
COLUMNS = {
    EXPLORED: "An estimate without a test: no decision was planned.",
    "Effect": "Its best estimate and, in brackets, the sizes that these runs are compatible with. "
    "1.00 times and 0 points are no difference.",
    "p, adjusted": "How often chance alone gives a result at least as clear, raised to make up for "
    "asking many questions at once; below 0.05 counts as clear.",
    "Censored runs": "Runs that had not reached their target accuracy at their last step. They are "
    "kept, and count as having taken that many steps.",
    "Diverged": "Runs whose loss became infinite or no number. They are kept: they never reach a "
    "target, and their accuracy counts as that of guessing.",
}
TESTS = {
    "sign-flip": "exact paired sign-flip test",
    "t": "paired t test",
    "sign": "sign test",
    "tost": "two one-sided t tests",
    "beyond-margin": "t test against the margin",
    "page": "Page's test of an order",
}


def word(verdict: Verdict) -> str:
    """Return the verdict word with its symbol, so that neither colour nor sight is needed."""
    if verdict.outcome is None:
        return EXPLORED
    return f"{SYMBOLS[verdict.outcome]} {verdict.outcome.value}"


def effect(row: Row) -> str:
    """Write an effect with its interval in natural units: 10.6 times (9.06 to 12.5)."""
    if row.effect is None or not math.isfinite(row.effect.estimate):
        return text.MISSING
    estimate = number(row.effect.estimate, row.unit)
    unit = "points" if row.unit == "points" else row.unit
    if not (math.isfinite(row.effect.low) and math.isfinite(row.effect.high)):
        return f"{estimate} {unit}, no interval"
    low, high = (number(end, row.unit) for end in (row.effect.low, row.effect.high))
    return f"{estimate} {unit} ({text.confidence(row.effect)} {text.span(low, high)})"


def number(value: float, unit: str) -> str:
    """Write a value of a unit."""
    if unit == "points":
        return text.points(value, 2)
    return text.factor(value) if unit == "times" else text.decimal(value, 3, sign=True)


def p_value(value: float | None) -> str:
    """Write a p: never 0."""
    if value is None:
        return text.MISSING
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


TALLIED = {
    Outcome.SUPPORTED: "supported",
    Outcome.REFUTED: "refuted",
    Outcome.INCONCLUSIVE: "undecided",
    Outcome.INADMISSIBLE: "not to be judged",
    Outcome.DEVIATED: "changed after the first run",
}


def tally(verdicts: Sequence[Verdict]) -> str:
    """Say how many claims got which verdict; nothing if none is judged."""
    outcomes = [verdict.outcome for verdict in verdicts if verdict.outcome is not None]
    if not outcomes:
        return ""
    found = [f"{n} {word}" for each, word in TALLIED.items() if (n := outcomes.count(each))]
    claims = text.count(len(outcomes), "claim")
    return f"Of {claims} registered before the first run: {text.listing(found)}."


def verdict_table(verdicts: Sequence[Verdict]) -> Table | None:
    """Return the verdicts, a row each; None if none is judged."""
    caption = "What people say about batch normalization, and what this study says"
    return _table(caption, [each for each in verdicts if each.outcome is not None])


def explored_table(verdicts: Sequence[Verdict]) -> Table | None:
    """Return what was estimated without a verdict, a row each; None if nothing was."""
    caption = "Further questions: estimates without a test or a verdict"
    return _table(caption, [each for each in verdicts if each.outcome is None])


def _table(caption: str, verdicts: Sequence[Verdict]) -> Table | None:
    if not verdicts:
        return None
    rows = tuple(
        (
            verdict.claim.sentence,
            word(verdict),
            effect(verdict.result),
            p_value(verdict.p_adjusted),
            f"{verdict.seeds:,}",
            f"{verdict.censored:,} of {verdict.runs:,}",
            f"{verdict.diverged:,}",
        )
        for verdict in verdicts
    )
    links = tuple(Link(verdict.experiment, f"claim-{verdict.claim.id}") for verdict in verdicts)
    heads = (
        "Claim",
        "Verdict",
        "Effect",
        "p, adjusted",
        "Seeds",
        "Censored runs",
        "Diverged",
    )
    return Table(caption, heads, rows, links)


def words() -> Table:
    """Return what the verdict words and the columns of the table mean, for a student."""
    rows = [(f"{SYMBOLS[outcome]} {outcome.value}", said) for outcome, said in MEANINGS.items()]
    return Table("How to read the verdicts", ("Word", "What it means"), (*rows, *COLUMNS.items()))


def claimed_range(claim: Claim) -> tuple[float, float]:
    """Return between which effects, in the natural unit, a claim says that the true one lies."""
    null, margin = claim.null, claim.analysis_margin
    low, high = {
        "greater": (null, math.inf),
        "less": (-math.inf, null),
        "within": (null - margin, null + margin),
    }[claim.direction]
    return (math.exp(low), math.exp(high)) if claim.estimand.in_ratios else (low, high)


def claimed(claim: Claim) -> str:
    """Write what a claim says of its effect: below 1.00, 0.80 to 1.25."""
    low, high = claimed_range(claim)
    if claim.direction == "within":
        return text.span(number(low, claim.unit), number(high, claim.unit))
    over = claim.direction == "greater"
    return f"{'above' if over else 'below'} {number(low if over else high, claim.unit)}"


def judgement(verdict: Verdict, chart: Chart | None = None) -> Judgement:
    """Return one verdict with its rule and its robustness rows, and its chart."""
    claim = verdict.claim
    rows = tuple(
        (
            row.label,
            TESTS.get(row.test, row.test),
            effect(row),
            p_value(row.p),
            text.MISSING if row.as_claimed is None else "yes" if row.as_claimed else "no",
        )
        for row in (verdict.result, *verdict.robustness)
    )
    table = Table(
        f"{claim.id}: the registered computation, then other ways, which decide nothing",
        ("Way", "Test", "Effect", "p, raw", "As claimed"),
        rows,
    )
    return Judgement(
        anchor=f"claim-{claim.id}",
        word=word(verdict),
        claim=claim.sentence,
        quote=claim.quote,
        source=claim.source,
        rule=rule(claim),
        sentence=text.typeset(verdict.sentence),
        table=table,
        chart=chart,
        counts=counts(verdict),
    )


def counts(verdict: Verdict) -> str:
    """Say which data a verdict rests on, and what was left out of them: nothing."""
    data = f"{text.count(verdict.runs, 'run')}, {text.count(verdict.seeds, 'seed')} of every arm"
    if verdict.result.effect is None:
        return f"The rule is about {data}; not all of them can be read."
    said = f"Read are {data}"
    cut = [f"{verdict.censored:,} censored"] * bool(verdict.censored)
    cut += [f"{verdict.diverged:,} diverged"] * bool(verdict.diverged)
    return f"{said}; {text.listing(cut) or 'none censored or diverged'}; none is left out."


def rule(claim: Claim) -> str:
    """Write what was registered before the first run, in a sentence or two."""
    estimand = claim.estimand
    groups = [" + ".join(group) for group in estimand.arms]
    if estimand.baseline_options:  # the same arm may be read in two ways
        groups[1::2] = [f"{each} ({_options(estimand.baseline_options)})" for each in groups[1::2]]
    compared = " against ".join(groups) if len(groups) < 4 else "; ".join(groups)
    read = f"{_measured(estimand.measure, estimand.options)}{_summary(estimand)}: {compared}"
    natural = math.exp(claim.null) if estimand.in_ratios else claim.null
    centre = number(natural, claim.unit).lstrip("+")
    if claim.direction == "within":
        margin = number(claim.margin or 0.0, claim.unit).lstrip("+")
        wanted = f"within a margin of {margin} {claim.unit} around {centre}"
    else:
        wanted = f"{claim.direction} than {centre} {claim.unit}"
    pilot = ""
    if claim.pilot is not None:
        gave = text.typeset(f"{claim.pilot.effect:.3g}")
        pilot = (
            f" Pilot seeds {claim.pilot.seeds[0]} to {claim.pilot.seeds[-1]}, which no claim uses, "
            f"gave {gave} with a standard deviation of {claim.pilot.spread:.3g} "
            "on the scale of analysis."
        )
    if claim.family == "exploratory":
        return f"Read is {read}. As claimed if the {estimand.scale} is {wanted}; no verdict.{pilot}"
    return (
        f"Read is {read}. Supported if the {estimand.scale} is {wanted} by the "
        f"{TESTS[claim.test]} at 0.05 after Holm's correction.{pilot}"
    )


def _summary(estimand: Estimand) -> str:
    if estimand.summary == "value":
        return ""
    if estimand.summary == "correlation":
        other = _measured(estimand.against, estimand.against_options)
        return f", its rank correlation with {other}"
    return f", its {estimand.summary} over levels"


def _measured(measure: str, options: Mapping[str, Option]) -> str:
    return f"{measure} ({_options(options)})" if options else measure


def _options(options: Mapping[str, Option]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(options.items()))
