"""Examples in docstrings: each prints what it says."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

import bnstudy

PACKAGE = Path(bnstudy.__file__).parent
PROMPT = re.compile(r"^\s*>>> ", re.MULTILINE)


def modules_with_examples() -> dict[str, int]:
    """Return the number of examples by module, as counted in the source."""
    counts = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if count := len(PROMPT.findall(path.read_text(encoding="utf-8"))):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            counts[".".join(parts).removesuffix(".__init__")] = count
    return counts


@pytest.mark.parametrize(("name", "count"), modules_with_examples().items())
def test_examples_print_what_they_say(name: str, count: int) -> None:
    with torch.random.fork_rng(devices=[]):  # an example may draw weights, as a user does
        found = doctest.testmod(importlib.import_module(name))  # its output says which one failed
    assert found.failed == 0
    # doctest passes over what a decorator hides from it: none may be left out
    assert found.attempted == count
