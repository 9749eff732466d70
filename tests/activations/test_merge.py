"""Recordings of several processes merged into one (F26)."""

import pandas as pd
import pytest
import torch

from bnstudy.activations import Recording, merge, watch
from bnstudy.errors import WatchError
from tests.activations.nets import fc_net, vectors


def test_f26_processes_together_saw_what_one_would_have_seen():
    net, parts = fc_net().eval(), vectors(90).split([30, 60])

    def seen(x):
        with watch(net, every={"eval": 1}, stats="full") as run:
            net(x)
        return run.recording()

    whole = seen(torch.cat(parts)).rows
    merged = merge([seen(part) for part in parts], weights=[30, 60])
    by = ["layer", "tensor", "stat"]
    expected = whole.astype(dict.fromkeys(by, str)).set_index(by)["value"]
    found = merged.rows.astype(dict.fromkeys(by, str)).set_index(by)["value"]
    moments = ["mean", "std", "min", "max", "rms", "l2", "abs_mean", "skew", "kurtosis"]
    assert set(moments) <= set(found.index.get_level_values("stat"))
    for place, value in found.items():
        # bins are shares of samples, here of all values; a value on an edge may fall to either side
        near = 1e-3 if "hist" in place[2] else 1e-6
        assert value == pytest.approx(expected[place], rel=1e-5, abs=near), place
    left_out = set(expected.index) - set(found.index)  # but for parts that agree, as on 0
    assert {"q15", "q50", "q85", "near_zero"} <= {stat for _, _, stat in left_out}
    assert any("no exact merger of" in why and "q50" in why for _, _, why in merged.notes)


def test_f26_recordings_that_share_nothing_are_refused(recording):
    with pytest.raises(WatchError, match="a positive weight for each, got 1 and"):
        merge([recording], weights=[1, 2])
    with pytest.raises(WatchError, match="needs recordings"):
        merge([])
    other = Recording(recording.rows.assign(step=recording.rows["step"] + 1_000))
    with pytest.raises(WatchError, match="share none"):
        merge([recording, other])
    same = merge([recording])
    pd.testing.assert_frame_equal(
        same.rows.reset_index(drop=True),
        recording.rows.reset_index(drop=True),
        check_categorical=False,
    )
