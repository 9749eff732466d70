"""How reliable a study's verdicts are: what simulated studies of its plan came to."""

from bnstudy.judging import Calibration
from bnstudy.judging.decisions import ALPHA
from bnstudy.plan import Plan
from bnstudy.report import text
from bnstudy.report.model import Link, Table

NONE_YET = (
    "No calibration of this plan is stored yet, so how often it errs and how often it finds what "
    "is there has not been simulated: bnstudy plan calibrate does it."
)


def reliability(
    plan: Plan, calibration: Calibration | None
) -> tuple[tuple[str, ...], Table | None]:
    """Say how often the plan errs, and how often it finds an effect like the pilot's.

    Parameters
    ----------
    plan
        The study; nothing is said of one without confirmatory claims.
    calibration
        Of this plan, if there is one.
    """
    family = [claim for claim in plan.claims if claim.family == "confirmatory"]
    if not family:
        return (), None
    if calibration is None:
        return (NONE_YET,), None
    error, margin = calibration.family_wise_error, 1.96 * calibration.standard_error
    sentences = (
        f"In {calibration.studies:,} simulated studies of this plan with nothing to find, "
        f"{text.percent(error)} decided at least one claim wrongly (simulation error "
        f"±{text.points(margin, sign=False)} points; planned are at "
        f"most {text.percent(ALPHA, 0)}).",
        f"Simulated were the {text.count(len(calibration.claims), 'claim')} of the "
        f"{calibration.family} that have a pilot; the others counted with p = 1.",
    )
    pages = {
        claim.id: planned.experiment.name
        for planned in plan.experiments
        for claim in planned.claims
    }
    sentence = {claim.id: claim.sentence for claim in plan.claims}
    found = [(each, share) for each, share in calibration.power.items() if each in pages]
    table = Table(
        "Power: the share of simulated studies with the pilot's effect (with no difference, for "
        "claims of equivalence) that support the claim",
        ("Claim", "Power"),
        tuple((sentence[each], text.percent(share)) for each, share in found),
        tuple(Link(pages[each], f"claim-{each}") for each, _ in found),
    )
    return sentences, table
