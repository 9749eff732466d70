"""A run's settings, time and randomness."""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import pytest

from bnstudy.config import RunConfig, Step, added, canonical_json, check_seed, digest, stream
from bnstudy.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": True}, "batch_size must be an integer of at least 1, got True"),
        ({"epochs": 2.5}, "epochs must be an integer of at least 1, got 2.5"),
        ({"train_images": -1}, "train_images must be an integer of at least 0, got -1"),
        ({"dropout": 1}, "dropout must be a number at least 0 and below 1, got 1"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, got nan"),
        ({"momentum": "0.9"}, "momentum must be a number at least 0 and below 1, got '0.9'"),
        ({"bias": 1}, "bias must be true or false, got 1"),
        ({"norm": ""}, "norm must be a word such as 'bn', got ''"),
        (
            {"placement": "outptu"},
            "there is no placement 'outptu': did you mean 'output'?",
        ),
        (
            {"norm_layers": "31"},
            "norm_layers must be 'all' or numbers of 1 to 4 in order, such as '134', got '31'",
        ),
        (
            {"norm_layers": "15"},
            "norm_layers must be 'all' or numbers of 1 to 4 in order, such as '134', got '15'",
        ),
        (
            {"norm_layers": "", "placement": "input"},
            "norm_layers must be text such as 'all' or '134', got ''",
        ),
        (
            {"norm_layers": 12},
            "norm_layers must be text such as 'all' or '134', got 12",
        ),
        (
            {"activation": "swish"},
            "there is no activation 'swish': choose one of sigmoid, relu, tanh",
        ),
    ],
)
def test_an_impossible_setting_is_refused_with_rule_value_and_remedy(settings, message):
    with pytest.raises(ConfigError) as refusal:
        RunConfig(**settings)
    assert str(refusal.value) == message


def test_an_unknown_setting_is_refused_with_the_likely_one():
    for attempt in (
        lambda: RunConfig().replace(batchsize=3),
        lambda: RunConfig.from_dict({"batchsize": 3}),
    ):
        with pytest.raises(ConfigError) as refusal:
            attempt()
        assert str(refusal.value) == ("there is no setting 'batchsize': did you mean 'batch_size'?")


def test_the_defaults_are_the_settings_of_the_notes():
    config = RunConfig()
    assert (config.batch_size, config.learning_rate, config.epochs) == (256, 0.9, 10)
    assert (config.activation, config.momentum, config.weight_decay) == ("sigmoid", 0.0, 0.0)


def test_a_config_survives_the_way_through_json():
    config = RunConfig(norm="ghost:size=32", dropout=0.5, schedule="cosine")
    assert RunConfig.from_dict(config.as_dict()) == config


def test_the_id_ignores_key_order_and_the_spelling_of_whole_numbers():
    config = RunConfig(learning_rate=1.0)
    shuffled = dict(reversed(config.as_dict().items()))
    assert digest(RunConfig.from_dict(shuffled).canonical()) == digest(config.canonical())
    assert digest(RunConfig(learning_rate=1).canonical()) == digest(config.canonical())


def test_the_id_holds_defaults_so_that_a_changed_default_is_a_new_run():
    later = {item.name for item in fields(RunConfig) if "before" in item.metadata}
    assert set(RunConfig().canonical()) == set(RunConfig().as_dict()) - later


def test_layers_named_one_by_one_are_all_of_them_and_the_ids_of_old_runs_stay():
    config = RunConfig(norm="bn")
    assert RunConfig(norm="bn", norm_layers="1234") == config
    named = RunConfig(norm="bn", norm_layers="12345", placement="input")
    assert named == RunConfig(norm="bn", placement="input")
    assert digest(config.canonical()) == (
        "90b10bd2c9b4c09c78fbe11e716bfc5d7f2155625c5e8a386a67b08d6db5c653"
    )
    some = RunConfig(norm="bn", norm_layers="1234", placement="input")
    assert some.canonical()["norm_layers"] == "1234"


def test_a_field_added_later_stays_out_of_the_id_while_it_says_what_was_done_before():
    @dataclass(frozen=True)
    class Later(RunConfig):
        clipping: float = added(1.0, before=0.0)

    assert "clipping" not in Later(clipping=0.0).canonical()
    assert Later().canonical()["clipping"] == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": {1}}])
def test_what_json_has_no_word_for_has_no_id(value):
    with pytest.raises(ConfigError, match="only finite numbers, text, lists and dicts have an id"):
        canonical_json(value)


def test_a_step_knows_its_epoch():
    step = Step(count=658, per_epoch=235)
    assert step.epoch == pytest.approx(2.8)
    assert [Step(count, 235).ends_epoch for count in (0, 234, 235, 236, 470)] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_runs_made_before_test_every_existed_keep_their_ids():
    assert "test_every" not in RunConfig().canonical()
    assert RunConfig(test_every=5).canonical()["test_every"] == 5
    with pytest.raises(ConfigError) as refusal:
        RunConfig(test_every=0)
    assert str(refusal.value) == "test_every must be an integer of at least 1, got 0"


@pytest.mark.parametrize("seed", [True, -1, 1.0, "1", None])
def test_only_an_integer_of_at_least_zero_is_a_seed(seed):
    with pytest.raises(ConfigError) as refusal:
        stream(seed, "weights")
    assert str(refusal.value) == f"seed must be an integer of at least 0, got {seed!r}"


def test_zero_is_a_seed():
    assert check_seed(0) == 0
    assert np.array_equal(stream(0, "weights").random(4), stream(0, "weights").random(4))


def test_streams_of_other_seeds_or_purposes_are_other_streams():
    draws = {
        tuple(stream(seed, purpose).integers(0, 2**32, 4))
        for seed in range(20)
        for purpose in ("weights", "order", "dropout", "noise")
    }
    assert len(draws) == 80


def test_a_stream_is_the_one_its_docstring_describes():
    word = int.from_bytes(hashlib.sha256(b"order").digest()[:8], "little")
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence((7, word))))
    assert np.array_equal(stream(7, "order").permutation(50), expected.permutation(50))
