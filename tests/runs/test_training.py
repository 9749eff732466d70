"""The obvious call: one table of curves, whoever trains them, and refusals in one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bnstudy
from bnstudy import data, engines
from bnstudy.config import RunConfig
from bnstudy.engines.run_record import CURVE_COLUMNS
from bnstudy.errors import ConfigError, DataError
from tests.data.files import patterns, write_folder
from tests.sizes import SMALL

ROOT = Path(__file__).resolve().parents[2]
FEW = SMALL.replace(epochs=1, norm="bn")


def test_the_curves_are_those_of_the_engine_with_a_seed_on_each_row(sample):
    found = bnstudy.train(FEW, [3, 1], sample, workers=1, engine="reference")
    assert list(found.columns) == ["seed", *CURVE_COLUMNS, "status"]
    records = engines.train(FEW, [3, 1], data.split(sample, FEW))
    expected = pd.concat([record.curve for record in records], ignore_index=True)
    pd.testing.assert_frame_equal(found[list(CURVE_COLUMNS)], expected, check_exact=True)
    rows = len(records[0].curve)
    assert found["seed"].tolist() == [3] * rows + [1] * rows
    assert set(found["status"]) == {"done"}


@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_workers_train_the_same_as_this_process(sample, engine):
    here = bnstudy.train(FEW, range(5), sample, workers=1, engine=engine)
    there, records = bnstudy.train(
        FEW, range(5), sample, workers=2, engine=engine, return_records=True
    )
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert list(records) == list(range(5))
    assert records[4].norms["layer"].nunique() == 4


def test_images_may_be_a_folder_or_a_word(tmp_path, sample):
    folder = write_folder(tmp_path / "shapes", patterns())
    config = FEW.replace(train_images=100, validation_images=20)
    by_path = bnstudy.train(config, [0], folder, workers=1)
    by_word = bnstudy.train(config, [0], str(folder), workers=1)
    pd.testing.assert_frame_equal(by_path, by_word)
    pd.testing.assert_frame_equal(
        bnstudy.train(FEW, [0], "sample", workers=1), bnstudy.train(FEW, [0], sample, workers=1)
    )


def test_labels_shuffled_in_memory_are_what_workers_train_on():
    """Only the labels differ: patterns are learned, shuffled ones are guessed."""
    tensors = patterns(train=60, test=40)
    config = RunConfig(norm="bn", batch_size=25, epochs=2, population_images=100)
    own = data.from_arrays("own", **tensors)
    learned = bnstudy.train(config, [0, 1], own, workers=1, engine="reference")
    rng = np.random.default_rng(0)
    for role in ("train_labels", "test_labels"):  # in place, after the data set was made
        labels = getattr(own, role)
        labels[:] = labels[rng.permutation(len(labels))]
    guessed = bnstudy.train(config, [0, 1], own, workers=2, engine="reference")
    column = "test_accuracy_population"
    assert learned.groupby("seed")[column].last().min() > 0.9
    # 400 test images: chance is 0.1 with a standard error of 0.015
    assert guessed.groupby("seed")[column].last().max() < 0.1 + 4 * 0.015


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 8}, "seeds must be a sequence such as range(8), got 8"),
        ({"seeds": []}, "seeds must be one or more, each once, got none: mend the list"),
        ({"seeds": [1, 1]}, "seeds must be one or more, each once, got 1 twice: mend the list"),
        ({"seeds": [-1]}, "seed must be an integer of at least 0, got -1"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"device": "warp"}, "there is no device 'warp' here: choose cpu"),
        ({"engine": "warp"}, "there is no engine 'warp': choose one of auto, reference, lockstep"),
        ({"data": "mnst"}, "there is no data set 'mnst': did you mean 'mnist'?"),
    ],
)
def test_a_mistake_is_one_line(sample, arguments, message):
    given = {"seeds": [0], "data": sample, "workers": 1, **arguments}
    with pytest.raises(ConfigError) as refusal:
        bnstudy.train(FEW, **given)
    assert str(refusal.value) == message


@pytest.mark.parametrize("workers", [1, 2])
def test_asking_for_more_images_than_there_are_is_refused_before_anything_starts(workers):
    own = data.from_arrays("own", **patterns())
    with pytest.raises(ConfigError) as refusal:
        bnstudy.train(RunConfig(train_images=551), [0, 1], own, workers=workers)
    assert str(refusal.value) == (
        "train_images can be at most 550, got 551: ask for fewer, or 0 for all"
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_what_no_engine_can_train_is_refused_as_such(sample, workers):
    alone = FEW.replace(batch_size=229)  # a batch of one image is left over
    with pytest.raises(ConfigError, match="needs at least 2 images in every batch"):
        bnstudy.train(alone, [0, 1], sample, workers=workers, engine="reference")


def test_seeds_may_be_numpys_integers(sample):
    found = bnstudy.train(FEW, np.arange(1), sample, workers=1)
    assert set(found["seed"]) == {0}


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="images must come from a folder that is there"):
        bnstudy.train(FEW, [0], "no/such/folder")


# Programs -----------------------------------------------------------------------------

PROGRAM = """
import bnstudy
from bnstudy.config import RunConfig
config = RunConfig(batch_size=50, epochs=1, train_images=100, validation_images=20,
                   test_images=20, population_images=20)
{guard}print(len(bnstudy.train(config, range(2), "sample", workers=2, engine="reference")))
"""
UNGUARDED = PROGRAM.format(guard="")
GUARDED = PROGRAM.format(guard='if __name__ == "__main__": ')


def program(arguments: list[str], text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        input=text,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_guarded_script_and_a_command_train_in_workers(tmp_path):
    (tmp_path / "script.py").write_text(GUARDED)
    for arguments in ([str(tmp_path / "script.py")], ["-c", UNGUARDED]):
        done = program(arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip() == "4"  # two steps of two seeds


def test_a_script_without_a_guard_ends_at_once_with_the_cause(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = program([str(tmp_path / "script.py")])
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("Traceback") == 1  # the user's own: workers are silent
    assert done.stderr.splitlines()[-1] == (
        "bnstudy.errors.ConfigError: worker processes import the program that starts them, and "
        "this one trains when it is imported: put that part under if __name__ == '__main__':, or "
        "train in this process with workers=1 where that is offered"
    )


def test_a_program_from_stdin_ends_at_once_with_the_cause():
    done = program(["-"], UNGUARDED)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith(
        "bnstudy.errors.ConfigError: worker processes import the program that starts them, got "
        "'<stdin>', which is no file: save the program as one"
    )
    done = program(["-"], UNGUARDED.replace("workers=2", "workers=1"))
    assert (done.returncode, done.stdout.strip()) == (0, "4")
