"""Faults put into the statistics on purpose, one at a time: each must make a test fail.

Run it with ``make mutants``, or ``python -m tests.mutants [WORD]`` for the
faults whose name contains a word.  It works on a copy and takes a few minutes.
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("bnstudy", "experiments", "tests", "pyproject.toml")
TESTS = ("tests/inference", "tests/judging")


@dataclass(frozen=True)
class Mutant:
    """A fault: in a file, some words become others."""

    name: str
    path: str
    before: str
    after: str

    def source(self, root: Path) -> Path:
        """Return the file, below a copy of the tree."""
        return root / "bnstudy" / self.path


MUTANTS = (
    Mutant(
        "flip a direction",
        "judging/verdict_rules.py",
        'distance > 0 if claim.direction == "greater" else distance < 0',
        'distance < 0 if claim.direction == "greater" else distance > 0',
    ),
    Mutant(
        "swap the arms",
        "judging/samples.py",
        "paired_differences(parts[0], parts[1])",
        "paired_differences(parts[1], parts[0])",
    ),
    Mutant(
        "take min for max in TOST",
        "inference/location.py",
        "return np.maximum(not_above, not_below)",
        "return np.minimum(not_above, not_below)",
    ),
    Mutant(
        "drop censored runs",
        "judging/samples.py",
        "        return reading.value\n",
        '        return float("nan") if reading.censored else reading.value\n',
    ),
    Mutant(
        "call a censored run missing",
        "judging/measures/curves.py",
        "        return Reading(float(round(epochs * run.steps_per_epoch)), censored=True)\n",
        '        raise NotMeasuredError("the target was not reached")\n',
    ),
    Mutant("skip Holm", "judging/verdicts.py", "holm(np.array(p))", "np.array(p)"),
    Mutant(
        "correct over the claims that have data only",
        "judging/verdicts.py",
        "+ [1.0] * (sizes[family] - len(members))",
        "",
    ),
    Mutant(
        "read test for validation",
        "judging/measures/curves.py",
        'column: str = "validation_accuracy"',
        'column: str = "test_accuracy"',
    ),
    Mutant(
        "read running for population statistics",
        "judging/measures/curves.py",
        '("_population" if statistics == "population" else "")',
        '("_population" if statistics == "running" else "")',
    ),
    Mutant(
        "leave the data out of the permutations",
        "inference/signflip.py",
        "    return (1 + hits) / (1 + signs.shape[1])",
        "    return hits / signs.shape[1]",
    ),
    Mutant(
        "test one side",
        "inference/signflip.py",
        "(np.abs(total - 2.0 * sums) >= abs(total) - tolerance)",
        "(total - 2.0 * sums >= total - tolerance)",
    ),
    Mutant(
        "judge by a plan that was changed",
        "judging/verdicts.py",
        "    if deviation:\n",
        "    if not deviation and False:\n",
    ),
    Mutant(
        "call two arms equal that are cut at one horizon",
        "judging/verdicts.py",
        "if sample.crowded and (",
        "if False and (",
    ),
    Mutant(
        "support 'hardly faster' by arms that are cut at one horizon",
        "judging/verdicts.py",
        "(supported and allows_no_effect(claim))",
        "False",
    ),
    Mutant(
        "take a margin of a ratio for a difference",
        "plan/claim.py",
        "return math.log(self.margin) if self.estimand.in_ratios else self.margin",
        "return self.margin",
    ),
    Mutant(
        "use the whole alpha for every claim",
        "judging/planning.py",
        "ALPHA / sizes[claim.family]",
        "ALPHA",
    ),
)


def survives(mutant: Mutant) -> bool:
    """Return whether all tests pass in spite of a fault."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in COPIED:
            source = ROOT / part
            ignored = shutil.ignore_patterns("__pycache__")
            if source.is_dir():
                shutil.copytree(source, root / part, ignore=ignored)
            else:
                shutil.copy(source, root / part)
        path = mutant.source(root)
        path.write_text(path.read_text().replace(mutant.before, mutant.after))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *TESTS]
        return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0


def main(word: str = "") -> int:
    """Try the faults; return how many no test noticed."""
    survivors = 0
    for mutant in (each for each in MUTANTS if word in each.name):
        survived = survives(mutant)
        survivors += survived
        print(f"{'SURVIVED' if survived else 'noticed':9} {mutant.name}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]) > 0)
