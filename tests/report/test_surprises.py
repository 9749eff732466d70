"""Surprising results, by the rules of the report."""

import pytest

from bnstudy.judging import Outcome
from bnstudy.report.surprises import surprises
from tests.report.made_verdicts import verdict

POWERED = {"speed": 0.9}


def kinds(*verdicts, power=None):
    return [each.kind for each in surprises(verdicts, power)]


def test_a_refuted_claim_is_a_surprise():
    assert kinds(verdict(outcome=Outcome.REFUTED, ends=(2.0, 1.5, 3.0))) == ["Refuted"]


def test_a_supported_claim_is_none():
    assert kinds(verdict(), power=POWERED) == []


@pytest.mark.parametrize("outcome", [None, Outcome.INCONCLUSIVE])
def test_an_interval_wholly_on_the_denied_side_is_a_surprise(outcome):
    assert kinds(verdict(outcome=outcome, ends=(2.0, 1.5, 3.0))) == ["Against the literature"]
    assert kinds(verdict(outcome=outcome, ends=(2.0, 0.9, 3.0))) == []


def test_undecided_is_a_surprise_only_with_power():
    undecided = verdict(outcome=Outcome.INCONCLUSIVE, ends=(0.9, 0.7, 1.1))
    assert kinds(undecided, power=POWERED) == ["Undecided although powered"]
    assert kinds(undecided, power={"speed": 0.79}) == []
    assert kinds(undecided) == []


def test_a_supported_claim_that_another_way_denies_is_a_surprise():
    (found,) = surprises([verdict(others=((0.7, 0.6, 0.8), (1.2, 1.1, 1.3)))])
    assert found.kind == "Depends on how it is computed"
    (statement,) = found.statements
    assert "way 1: 1.20 times" in statement.sentence
    assert "way 0" not in statement.sentence
    assert (statement.link.page, statement.link.anchor) == ("speed", "claim-speed")
