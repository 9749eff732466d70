"""The faults of the mutation check still have a place to be put in."""

import pytest

from tests.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_has_one_place(mutant):
    assert mutant.source(ROOT).read_text().count(mutant.before) == 1
    assert mutant.before != mutant.after
