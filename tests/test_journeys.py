"""What a user does: the commands, from the outside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bnstudy import cli
from bnstudy.experiments import EXPERIMENTS
from bnstudy.plan import PROFILES

TINY = ["--profile", "tiny", "--data", "sample"]


def invoke(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(cli.main, list(arguments))


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run and report the tiny study; return its folder and what was printed."""
    folder = tmp_path_factory.mktemp("study")
    environment = {**os.environ, "BNSTUDY_OFFLINE": "1", "BNSTUDY_CACHE": str(folder / "cache")}
    printed = ""
    for command in (["run", "all", *TINY, "--workers", "2"], ["report", *TINY]):
        done = subprocess.run(
            [sys.executable, "-m", "bnstudy.cli", *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        printed += done.stdout + done.stderr
    return folder, printed


def test_a_study_ends_in_a_report_that_holds_its_experiments(studied):
    folder, _ = studied
    index = folder / "reports" / "tiny-sample" / "index.html"
    page = index.read_text(encoding="utf-8")
    assert "Does batch normalization train faster?" in page
    assert (index.parent / "README.md").is_file()
    assert {path.name for path in index.parent.glob("*.html")} == {
        "index.html",
        *(f"{name}.html" for name in EXPERIMENTS),
    }


def test_a_study_on_the_sample_says_so_on_console_plan_and_report(studied):
    folder, printed = studied
    assert "bundled sample" in printed
    assert '"sample":true' in (folder / "runs/tiny-sample/plan.json").read_text().replace(" ", "")
    reports = folder / "reports" / "tiny-sample"
    for page in sorted([*reports.glob("*.html"), *reports.glob("*.md")]):
        assert "bundled sample" in page.read_text(encoding="utf-8"), page.name


def test_a_second_run_trains_nothing_and_its_report_has_the_same_bytes(studied):
    folder, _ = studied
    runs, reports = files_below(folder / "runs"), files_below(folder / "reports")
    again = invoke(folder, "run", "all", *TINY)
    assert again.exit_code == 0
    assert "nothing to train" in again.output
    assert invoke(folder, "report", *TINY).exit_code == 0
    assert files_below(folder / "runs") == runs
    assert files_below(folder / "reports") == reports


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    result = invoke(tmp_path, "run", "all", *TINY, "--dry-run")
    assert result.exit_code == 0
    arms = sum(len(each.arms(PROFILES["tiny"])) for each in EXPERIMENTS.values())
    assert f"{arms * PROFILES['tiny'].seeds} runs" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "convergense", *TINY], "there is no experiment 'convergense': did you mean"),
        (["run", "all", "--profile", "quik"], "there is no profile 'quik': did you mean 'quick'?"),
        (["run", "all", *TINY, "--seeds", "0"], "the number of seeds must be at least 1, got 0"),
        (["run", "all", *TINY, "--workers", "0"], "workers must be"),
        (["run", "all", "--profile", "tiny", "--data", "no/such/folder"], "no/such/folder"),
        (["trace", "bn/lr=30"], "there is no arm 'bn/lr=30': did you mean 'bn/lr=3'?"),
        (["trace", "--norm", "batchnorm"], "'batchnorm'"),
    ],
)
def test_a_mistake_is_one_line_and_a_failing_exit_status(arguments, message, tmp_path):
    result = invoke(tmp_path, *arguments)
    assert result.exit_code == 1
    errors = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.output


def test_trace_prints_the_shape_table_of_the_notes(tmp_path):
    result = invoke(tmp_path, "trace", "bn")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert any("conv1" in line and "1 x 6 x 24 x 24" in line for line in lines)
    assert any("44,878" in line for line in lines)


def test_data_info_and_verify_name_source_and_checksums(tmp_path):
    info = invoke(tmp_path, "data", "info", "--data", "sample")
    assert info.exit_code == 0
    assert "8,000" in info.output or "8000" in info.output
    verify = invoke(tmp_path, "data", "verify", "--data", "sample")
    assert verify.exit_code == 0
    assert verify.output.count("ok") >= 4


def test_help_names_every_profile_and_its_cost(tmp_path):
    result = invoke(tmp_path, "run", "--help")
    listed = "; ".join(f"{profile.name} ({profile.cost})" for profile in PROFILES.values())
    assert f"Size: {listed}" in " ".join(result.output.split())
