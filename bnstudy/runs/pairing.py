"""The proof that the arms of a seed are pairs: equal weights and orders, by their hashes."""

import pandas as pd

from bnstudy.errors import StoreError
from bnstudy.plan import Plan


def refuse_broken_pairs(plan: Plan, runs: pd.DataFrame) -> None:
    """Refuse arms of one seed that did not start from the same weights and order.

    Raises
    ------
    StoreError
        Naming the experiment and the seed.
    """
    sizes = {
        (planned.experiment.name, arm.name): (arm.config.train_split, arm.config.train_images)
        for planned in plan.experiments
        for arm in planned.arms
    }
    there = runs[runs["status"] != "missing"].copy()
    keys = zip(there["experiment"], there["arm"], strict=True)
    there["size"] = [str(sizes[key]) for key in keys]
    for by, column in ((["seed"], "weights_digest"), (["seed", "size"], "order_digest")):
        kinds = there.groupby(by)[column].nunique()
        if (kinds > 1).any():
            first = kinds[kinds > 1].index[0]
            seed = first[0] if isinstance(first, tuple) else first
            what = "initial weights" if column == "weights_digest" else "order of images"
            raise StoreError(
                f"the arms of seed {seed} must share their {what}, but do not: "
                "the store mixes runs that are no pairs, use a fresh one"
            )
