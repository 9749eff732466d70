"""The guide for extending: its programs run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
IMAGES, NETWORK, CLAIM = re.findall(r"```python\n(.*?)```", GUIDE, re.S)


def lines_of(program: str, folder: Path) -> list[str]:
    """Run a program as a file in an empty folder; return what it prints."""
    (folder / "mine.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_program_with_its_own_images_trains_on_them(tmp_path):
    lines = lines_of(IMAGES, tmp_path)
    (start,) = [at for at, line in enumerate(lines) if line.startswith("bn")]
    lowest = float(lines[-1].split()[1])
    assert start > 0
    assert lowest > 0.6  # chance is a half


def test_the_program_with_its_own_network_trains_it(tmp_path):
    lines = lines_of(NETWORK, tmp_path)
    accuracies = [float(line.split()[2]) for line in lines if line.strip().startswith(("0 ", "1 "))]
    assert len(accuracies) == 10
    assert max(accuracies) > 0.5  # chance is a tenth
    assert [line.split()[0] for line in lines[-3:]] == ["norm1", "norm2", "norm3"]
    assert lines[-1].split()[1] == "12.0"  # channels


def test_the_program_with_a_claim_trains_and_judges(tmp_path):
    lines = lines_of(CLAIM, tmp_path)
    assert any(line.startswith("16 runs trained") for line in lines)
    # half of BN leaves the plateau of sigmoids later, or not at all within an epoch
    assert lines[-1].startswith("The data support "), lines[-1]
    runs = (tmp_path / "runs/centring/centring").glob("*/seed=*/result.json")
    assert len(list(runs)) == 16


@pytest.mark.parametrize("program", [IMAGES, NETWORK, CLAIM])
def test_a_program_of_the_guide_is_short(program):
    assert len(program.splitlines()) <= 100
