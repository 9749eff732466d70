"""Planning of a study: the seeds that its claims need, and simulated error and power."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np

from bnstudy.config import canonical_json
from bnstudy.errors import ConfigError, StoreError
from bnstudy.inference import (
    RESAMPLES,
    holm,
    power_of_equivalence,
    seeds_needed,
    smallest_p,
)
from bnstudy.judging.measures import find_measure
from bnstudy.judging.premises import estimands_of
from bnstudy.judging.verdict_rules import ALPHA, POWER, examine_many
from bnstudy.plan import JUDGED_FAMILIES, Claim, Estimand, Pilot, Plan
from bnstudy.runs.store import write_whole

CALIBRATION = "calibration.json"  # in the folder of a study's store


@dataclass(frozen=True)
class Shortfall:
    """A claim that the seeds of a plan cannot decide, or too rarely.

    Attributes
    ----------
    claim
        Id of the claim.
    reason
        Why they cannot.
    seeds
        Number of seeds that would be enough; None if no number is.
    """

    claim: str
    reason: str
    seeds: int | None


@dataclass(frozen=True)
class FamilyError:
    """Error of one family of claims, from simulated studies.

    Attributes
    ----------
    family
        ``primary`` or ``secondary``.
    claims
        Ids of the simulated claims: those with a pilot.
    size
        Number of claims corrected for; those without a pilot entered with p = 1.
    error, standard_error
        Share of null studies in which any claim of the family was decided wrongly, and its
        standard error from the simulation.
    """

    family: str
    claims: tuple[str, ...]
    size: int
    error: float
    standard_error: float


@dataclass(frozen=True)
class Calibration:
    """Error and power of a plan, from simulated studies.

    Attributes
    ----------
    studies
        Number of simulated studies of each kind.
    families
        Error of each family that has a claim with a pilot, since each is corrected on its
        own.
    power
        By claim, the share of studies with the pilot's effects that supported it.
    """

    studies: int
    families: tuple[FamilyError, ...]
    power: Mapping[str, float]


def shortfalls(plan: Plan) -> tuple[Shortfall, ...]:
    """Return the judged claims that the plan's seeds cannot decide.

    A test must be able to reach alpha / m, with m claims in its family: the
    level that Holm's correction asks of the first of them.  A test of
    equivalence must have a power of 80 % at that level, with the pilot's spread
    and no true difference.  The checks of a test cost a little of that power,
    about five points where differences are normal; :func:`calibrate` counts them.

    Parameters
    ----------
    plan
        The study.

    Raises
    ------
    ConfigError
        If a measure of a claim or a premise is unknown, or does not take its options.
    """
    for claim in plan.claims:
        for estimand in _estimands(claim):
            for group in range(len(estimand.arms)):
                find_measure(estimand.measure, estimand.options_of(group))
            if estimand.against:
                find_measure(estimand.against, estimand.against_options)
    sizes = Counter(claim.family for claim in plan.claims)
    found = [
        _shortfall(claim, len(plan.seeds), ALPHA / sizes[claim.family])
        for claim in plan.claims
        if claim.judged
    ]
    return tuple(shortfall for shortfall in found if shortfall)


def _estimands(claim: Claim) -> Iterator[Estimand]:
    """Yield the estimands of a claim, of its robustness checks and of its premises."""
    yield claim.estimand
    for variant in claim.robustness:
        yield claim.varied(variant).estimand
    for premise in claim.premises:
        yield from estimands_of(premise)


def require_decidable(plan: Plan) -> None:
    """Refuse a plan with claims that its seeds cannot decide.

    Raises
    ------
    ConfigError
        If there is such a claim, with the number of seeds that each needs; or if
        a claim's measure is unknown, or does not take its options.
    """
    found = shortfalls(plan)
    if not found:
        return
    lines = [
        f"{each.claim} ({each.reason}: "
        + (f"takes {each.seeds} seeds)" if each.seeds else "no number of seeds is enough)")
        for each in found
    ]
    raise ConfigError(
        f"a plan must be able to decide its claims, but {len(plan.seeds)} seeds cannot decide "
        f"{'; '.join(lines)}: plan more seeds, fewer claims or wider margins"
    )


def _shortfall(claim: Claim, seeds: int, alpha: float) -> Shortfall | None:
    if claim.test == "tost":
        return _power_shortfall(claim, seeds, alpha)
    smallest = _smallest_p(claim)
    if smallest(seeds) <= alpha:
        return None
    reason = "even its smallest possible p is not significant after Holm's correction"
    return Shortfall(claim.id, reason, seeds_needed(lambda n: smallest(n) <= alpha))


def _smallest_p(claim: Claim) -> Callable[[int], float]:
    """Return the smallest p that a number of seeds can give in the claim's test and its check."""
    if claim.test in ("sign", "page"):
        # Page's own is smaller still; its check flips signs.
        return smallest_p
    bootstrap = 2.0 / (1 + RESAMPLES)
    if claim.test == "t":
        return lambda n: 1.0 if n == 1 else bootstrap
    return lambda n: max(smallest_p(n), bootstrap)


def _power_shortfall(claim: Claim, seeds: int, alpha: float) -> Shortfall | None:
    if claim.pilot is None:
        return Shortfall(claim.id, "a test of equivalence needs a pilot's spread, got none", None)
    spread = claim.pilot.spread

    def power(n: int) -> float:
        return power_of_equivalence(n, claim.analysis_margin, spread, alpha)

    if power(seeds) >= POWER:
        return None
    reason = "its test of equivalence has too little power at the pilot's spread"
    return Shortfall(claim.id, reason, seeds_needed(lambda n: power(n) >= POWER))


def store_calibration(root: Path, plan: Plan, calibration: Calibration) -> None:
    """Store the calibration of a plan, in place of an older one.

    Parameters
    ----------
    root
        Folder of the study's store; it is made if there is none.
    plan
        The study.
    calibration
        From :func:`calibrate`.
    """
    content = {"plan": plan.sha256, **asdict(calibration)}
    root.mkdir(parents=True, exist_ok=True)
    write_whole(root / CALIBRATION, canonical_json(content).encode())


def stored_calibration(root: Path, plan: Plan) -> Calibration | None:
    """Return the stored calibration of a plan; None if there is none of this very plan.

    Parameters
    ----------
    root
        Folder of the study's store.
    plan
        The study.

    Raises
    ------
    StoreError
        If the file was cut or edited.
    """
    path = root / CALIBRATION
    if not path.exists():
        return None
    try:
        record = dict(json.loads(path.read_bytes()))
        of_this_plan = record.pop("plan") == plan.sha256
        families = tuple(
            FamilyError(**{**each, "claims": tuple(each["claims"])}) for each in record["families"]
        )
        found = Calibration(**{**record, "families": families})
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(
            f"{root.name}/{CALIBRATION} was cut or edited: write it again with bnstudy plan "
            "calibrate, or remove it"
        ) from None
    return found if of_this_plan else None


def calibrate(plan: Plan, rng: np.random.Generator, studies: int = 2_000) -> Calibration:
    """Simulate studies of a plan, with its seeds, families, tests and censoring.

    In null studies the effect of every directional claim is at its centre, and
    that of every claim of equivalence exactly at its margin, where a wrong
    decision is most likely.  In planted studies directional claims have the
    pilot's effect, and claims of equivalence none.  Differences are normal with
    the pilot's spread; where runs of the pilot were censored, both arms of a
    pair are cut at the horizon that censors the same share.

    Parameters
    ----------
    plan
        The study.
    rng
        Source of all draws.
    studies
        Number of studies of each kind, at least 1.

    Raises
    ------
    ConfigError
        If no claim of the plan has a pilot, or there is no study.
    """
    piloted = [claim for claim in plan.claims if claim.judged and claim.pilot is not None]
    if not piloted or studies < 1:
        raise ConfigError(
            f"a calibration needs studies and claims with a pilot, got {studies} studies of "
            f"{len(piloted)} such claims"
        )
    sizes = Counter(claim.family for claim in plan.claims)
    errors: list[FamilyError] = []
    power: dict[str, float] = {}
    for family in JUDGED_FAMILIES:
        members = [claim for claim in piloted if claim.family == family]
        if members:
            wrong, right = _simulated(members, (studies, len(plan.seeds)), sizes[family], rng)
            error = float(wrong.any(axis=1).mean())
            ids = tuple(claim.id for claim in members)
            spread = float(np.sqrt(error * (1 - error) / studies))
            errors.append(FamilyError(family, ids, sizes[family], error, spread))
            power |= dict(zip(ids, map(float, right.mean(axis=0)), strict=True))
    return Calibration(studies, tuple(errors), power)


def _simulated(
    claims: Sequence[Claim], shape: tuple[int, int], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return which claims of a family null and planted studies decide.

    Parameters
    ----------
    claims
        Those of the family that have a pilot.
    shape
        Numbers of studies and of seeds.
    size
        Number of claims in the family.
    rng
        Source of all draws.

    Returns
    -------
    wrong, right
        (studies, claims) each: decided wrongly in a null study; supported in a planted one.
    """
    null, planted = [], []
    for claim in claims:
        pilot = cast(Pilot, claim.pilot)
        within = claim.direction == "within"
        nothing = claim.analysis_margin if within else 0.0
        something = 0.0 if within else pilot.effect - claim.null
        null.append(examine_many(claim, _draw(claim, pilot, nothing, shape, rng), rng))
        planted.append(examine_many(claim, _draw(claim, pilot, something, shape, rng), rng))
    # At its margin an equivalence does not hold, so refuting it is right; at the centre a
    # direction neither holds nor fails, so both decisions are wrong.
    mistaken = [
        side | (claim.direction != "within") for claim, (_, side) in zip(claims, null, strict=True)
    ]
    absent = size - len(claims)
    wrong = _rejected(null, absent) & np.stack(mistaken, axis=1)
    right = _rejected(planted, absent) & np.stack([side for _, side in planted], axis=1)
    return wrong, right


def _rejected(found: list[tuple[np.ndarray, np.ndarray]], absent: int) -> np.ndarray:
    """Return which claims each study decides after Holm's correction, (studies, claims)."""
    p = np.stack([p for p, _ in found], axis=1)
    family = np.pad(p, ((0, 0), (0, absent)), constant_values=1.0)
    adjusted = np.apply_along_axis(holm, 1, family)
    return np.asarray(adjusted[:, : p.shape[1]] <= ALPHA)


def _draw(
    claim: Claim,
    pilot: Pilot,
    effect: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return one simulated number per seed on the scale of analysis, for an order one per level."""
    if claim.test == "page":
        levels = len(claim.estimand.levels)
        rise = np.linspace(0.0, effect, levels)
        return np.asarray(rise + rng.normal(0.0, pilot.spread, (*shape, levels)))
    differences = rng.normal(effect, pilot.spread, shape)
    if pilot.censored:
        level = rng.normal(0.0, pilot.spread, shape)
        # Half of the difference to each arm, so that they are exchangeable without an effect.
        first, second = level + differences / 2, level - differences / 2
        slower = first if first.mean() > second.mean() else second
        horizon = np.quantile(slower, 1 - pilot.censored)
        differences = np.minimum(first, horizon) - np.minimum(second, horizon)
    return np.asarray(claim.null + differences)
