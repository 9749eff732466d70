"""How often a plan errs, and how often it finds what is there: by simulated studies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnstudy.errors import ConfigError, StoreError
from bnstudy.inference import holm
from bnstudy.judging.decisions import ALPHA, examine_many
from bnstudy.plan import Claim, Pilot, Plan
from bnstudy.runs.store import CALIBRATION


@dataclass(frozen=True)
class Calibration:
    """What simulated studies of a plan come to.

    Attributes
    ----------
    studies
        How many of each kind.
    claims
        The claims that were simulated: the confirmatory ones with a pilot.
    family
        How many the correction was over; the others entered with p = 1.
    family_wise_error, standard_error
        The share of null studies in which any claim was decided wrongly, and
        the simulation's error of it.
    power
        By claim, the share of studies with the pilot's effects that supported it.
    """

    studies: int
    claims: tuple[str, ...]
    family: int
    family_wise_error: float
    standard_error: float
    power: Mapping[str, float]


def stored_calibration(root: Path, plan: Plan) -> Calibration | None:
    """Return what ``bnstudy plan calibrate`` stored of a plan; None if there is nothing.

    Parameters
    ----------
    root
        Folder of the study's store.
    plan
        The study.  A calibration of another plan says nothing about it: None, too.

    Raises
    ------
    StoreError
        If the file was cut or edited.
    """
    path = root / CALIBRATION
    if not path.exists():
        return None
    try:
        plain = dict(json.loads(path.read_bytes()))
        of_this_plan = plain.pop("plan") == plan.sha256
        found = Calibration(**{**plain, "claims": tuple(plain["claims"])})
    except (OSError, ValueError, KeyError, TypeError):
        raise StoreError(
            f"{root.name}/{CALIBRATION} was cut or edited: make it anew with bnstudy plan "
            "calibrate, or remove it"
        ) from None
    return found if of_this_plan else None


def calibrate(plan: Plan, rng: np.random.Generator, studies: int = 2_000) -> Calibration:
    """Simulate studies of a plan, with its seeds, family, tests and censoring.

    Null studies have every direction's effect at its centre, and every
    equivalence exactly at its margin, where it is most easily mistaken.
    Planted studies have the pilot's effect, equivalences none.  Differences
    are normal with the pilot's spread; where the pilot saw censored runs, both
    arms of a pair are cut at the horizon that censors as many.

    Parameters
    ----------
    plan
        The study.
    rng
        Draws everything.
    studies
        How many of each kind, at least 1.

    Raises
    ------
    ConfigError
        If no claim of the plan has a pilot, or there is no study.
    """
    family = [claim for claim in plan.claims if claim.family == "confirmatory"]
    piloted = [(claim, claim.pilot) for claim in family if claim.pilot is not None]
    if not piloted or studies < 1:
        raise ConfigError(
            f"a calibration needs studies and claims with a pilot, got {studies} studies of "
            f"{len(piloted)} such claims"
        )
    shape, absent = (studies, len(plan.seeds)), len(family) - len(piloted)
    null, planted = [], []
    for claim, pilot in piloted:
        within = claim.direction == "within"
        nothing = claim.analysis_margin if within else 0.0
        something = 0.0 if within else pilot.effect - claim.null
        null.append(examine_many(claim, _draw(claim, pilot, nothing, shape, rng), rng))
        planted.append(examine_many(claim, _draw(claim, pilot, something, shape, rng), rng))
    # At its margin an equivalence is rightly refuted; at its centre no direction is right.
    mistaken = [
        side | (claim.direction != "within")
        for (claim, _), (_, side) in zip(piloted, null, strict=True)
    ]
    wrong = _rejected(null, absent) & np.stack(mistaken, axis=1)
    right = _rejected(planted, absent) & np.stack([side for _, side in planted], axis=1)
    error = float(wrong.any(axis=1).mean())
    ids = tuple(claim.id for claim, _ in piloted)
    return Calibration(
        studies=studies,
        claims=ids,
        family=len(family),
        family_wise_error=error,
        standard_error=float(np.sqrt(error * (1 - error) / studies)),
        power=dict(zip(ids, map(float, right.mean(axis=0)), strict=True)),
    )


def _rejected(found: list[tuple[np.ndarray, np.ndarray]], absent: int) -> np.ndarray:
    """Return which claims are decided in each study after Holm, (studies, claims)."""
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
    """Return simulated numbers a seed, on the scale of analysis; for an order a row a seed."""
    if claim.test == "page":
        levels = len(claim.estimand.levels)
        rise = np.linspace(0.0, effect, levels)
        return np.asarray(rise + rng.normal(0.0, pilot.spread, (*shape, levels)))
    differences = rng.normal(effect, pilot.spread, shape)
    if pilot.censored:
        level = rng.normal(0.0, pilot.spread, shape)
        # Half to each arm: with no effect the two are exchangeable within a seed.
        first, second = level + differences / 2, level - differences / 2
        slower = first if first.mean() > second.mean() else second
        horizon = np.quantile(slower, 1 - pilot.censored)
        differences = np.minimum(first, horizon) - np.minimum(second, horizon)
    return np.asarray(claim.null + differences)
