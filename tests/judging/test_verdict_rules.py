"""The registered test on many samples at once, against the same test one by one."""

import numpy as np
import pytest

from bnstudy.judging.verdict_rules import examine, examine_many
from tests.synthetic.examples import claim


@pytest.mark.parametrize(
    "rule",
    [
        claim(),
        claim(centre=1.5, test="t", direction="greater"),
        claim(test="sign"),
        claim(direction="within", test="tost", margin=1.5),
    ],
    ids=lambda rule: rule.test,
)
def test_simulated_samples_follow_the_rule_of_one(rule):
    rng = np.random.default_rng(0)
    samples = rng.normal(0.2, 0.5, (50, 9))
    p, side = examine_many(rule, samples, rng)
    ones = [examine(rule, sample) for sample in samples]
    assert np.allclose(p, [each.p for each in ones], rtol=1e-12)
    assert side.tolist() == [each.as_claimed for each in ones]
