"""Which part of batch normalization does it: which half, which parameters, which layers?

pilot
"""

from itertools import combinations

from bnstudy.claim import Claim, Estimand, Variant
from bnstudy.study import Arm, Exhibit, Experiment, Profile
from experiments.common import FINE, notes, registers

LAYERS = {"1": "conv1", "2": "conv2", "3": "fc1", "4": "fc2"}
SUBSETS = tuple("".join(s) for size in (1, 2, 3) for s in combinations(LAYERS, size))


def arms(profile: Profile) -> tuple[Arm, ...]:
    base = notes(profile, evaluations_per_epoch=FINE, epochs=2)
    bn = base.replace(norm="bn")
    return (
        Arm("none", base),
        Arm("bn", bn),
        Arm("mean-only", base.replace(norm="mean-only")),
        Arm("variance-only", base.replace(norm="variance-only")),
        Arm("no-affine", base.replace(norm="bn:affine=0")),
        Arm("no-bias", bn.replace(bias=False)),
        *(Arm(f"bn/{s}", bn.replace(norm_layers=s)) for s in SUBSETS),
    )


PARTS = Experiment(name="parts", title="T?", question="Q?", literature="L.", design="D.", limits="L.", arms=arms, targets=(0.7,), exhibits=(Exhibit("learning-curves", "V.", {}),))
