"""Verdicts with a given effect, for tests of what a report says of them."""

from bnstudy.inference import Interval
from bnstudy.judging import Analysis, Outcome, Verdict, claimed_range
from bnstudy.plan import Variant
from tests.synthetic import examples


def verdict(claim=None, outcome=Outcome.SUPPORTED, ends=(0.5, 0.4, 0.6), others=()) -> Verdict:
    """A verdict with this effect; ``others`` are the ends of its robustness analyses."""
    variants = tuple(Variant(f"way {n}") for n, _ in enumerate(others))
    claim = claim or examples.claim(robustness=variants)
    low, high = claimed_range(claim)

    def analysis(label, found):
        inside = low < found[0] < high
        return Analysis(label, claim.test, Interval(*found, 10), claim.unit, 0.01, inside)

    return Verdict(
        claim, "speed", outcome, "", analysis("as registered", ends), 0.02, 3, 10, 20, 1, 2,
        tuple(analysis(f"way {n}", found) for n, found in enumerate(others)),
    )  # fmt: skip
