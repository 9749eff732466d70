"""Sentences about a recording (F39)."""
# ruff: noqa: E501

import numpy as np
import pandas as pd

from bnstudy.activations import Rule
from bnstudy.activations.report_rules import findings


def rows_of(stat, values, tensor="out", layer="fc1"):
    return pd.DataFrame(
        {
            "step": np.arange(len(values)) * 10, "mode": "train", "forward": 0, "layer": layer, "call": 0,
            "tensor": tensor, "channel": -1, "stat": stat, "value": values,
        }
    )  # fmt: skip


def test_f39_the_report_says_from_which_step_a_rule_holds():
    sentence = findings(rows_of("saturated", [0.0, 0.5, 0.1, 0.41, 0.6]))["sentence"].tolist()
    assert sentence == ["fc1: 60% of values are saturated from step 30"]
    passing = findings(rows_of("dead", [0.2, 0.3, 0.0]))["sentence"].tolist()
    assert passing == ["fc1: 30% of units are dead in steps 0 to 10"]
    assert findings(rows_of("saturated", [0.4, np.nan])).empty


def test_f39_a_vanishing_gradient_is_relative_to_the_largest_layer():
    rows = pd.concat(
        [rows_of("std", [1.0, 1.0], "grad", "fc3"), rows_of("std", [1.0, 1e-5], "grad", "fc1")]
    )
    found = findings(rows)
    assert found[["layer", "rule", "since"]].values.tolist() == [["fc1", "vanishing gradient", 10]]


def test_f39_rules_are_data_and_can_be_ones_own(recording):
    own = Rule("wide", "std", ("out",), ">", 0.0, "std {value:.1f} {when}")
    assert recording.report([own])["layer"].tolist() == ["0", "1", "2", "3"]
