"""Imports of the activations wing: light at first, and one set of options."""

import dataclasses
import inspect
import subprocess
import sys

import pytest
import torch

from bnstudy import lazy_module
from bnstudy.activations import watch
from bnstudy.activations.options import WatchOptions

HEAVY = {"matplotlib", "seaborn", "scipy", "pyarrow", "torchvision"}


def test_importing_the_wing_loads_torch_numpy_and_pandas_only():
    # in a fresh interpreter; pandas itself loads pyarrow where it is installed
    code = f"""
import sys, torch, numpy, pandas
before = set(sys.modules)
import bnstudy.activations
print(*({HEAVY} & (set(sys.modules) - before)), *({HEAVY} - {{"pyarrow"}} & before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_lazy_module_is_the_module_once_it_is_used():
    assert lazy_module("torch").float32 is torch.float32
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        _ = lazy_module("no_such_module_at_all").anything


def test_watch_takes_the_options_with_the_same_defaults():
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(watch).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert keywords == {each.name: each.default for each in dataclasses.fields(WatchOptions)}
