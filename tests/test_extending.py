"""The guide for extending: its program runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_program_of_the_guide_trains_and_judges(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.S)
    (tmp_path / "mine.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("16 runs trained") for line in lines)
    # half of BN leaves the plateau of sigmoids later, or not at all within an epoch
    assert lines[-1].startswith("The data support "), lines[-1]
    runs = (tmp_path / "runs/centring/centring").glob("*/seed=*/result.json")
    assert len(list(runs)) == 16
