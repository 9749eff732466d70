"""Probes that record layers: copies are read as an attached recorder reads the network itself."""

import copy

import numpy as np
import pytest
import torch.nn.functional as F

from bnstudy import data
from bnstudy.config import RunConfig
from bnstudy.data import scale
from bnstudy.engines import train
from bnstudy.engines.lockstep import available
from bnstudy.errors import ConfigError, WatchError
from bnstudy.networks import StreamDropout

SEED, PER_EPOCH = 3, 5
CONFIG = RunConfig(
    norm="bn",
    batch_size=50,
    epochs=2,
    learning_rate=0.5,
    train_images=230,
    validation_images=100,
    test_images=120,
    population_images=100,
    evaluations_per_epoch=1,
)
SIGMOID = {"activation": "sigmoid", "learning_rate": 0.5}
RELU = {"activation": "relu", "learning_rate": 0.05}
DECAYED = {"momentum": 0.9, "weight_decay": 1e-3}
# steps 0 and 1, so that one ends where the next begins; the start and the end of an epoch
READ = {
    "epochs": (0, 0.2, 0.6, 1, 2),
    "layers": ["act1", "act4"],
    "tensors": "both",
    "stats": ["quantiles", "std", "saturated"],
    "histogram": {"bins": 6, "low": -3.0, "high": 3.0},
    "grads": True,
    "params": True,
    "bn": True,
}
STEPS = [0, 1, 3, 5, 9]  # no step follows the end of the run: its last one is read
KEYS = ["step", "layer", "tensor", "channel", "stat"]
needs_kernel = pytest.mark.skipif(not available()[0], reason="no kernel here")


@pytest.fixture(scope="module")
def small(sample):
    return data.split(sample, CONFIG)


def table(record, probe):
    measures = record.measures
    return measures[measures["probe"] == probe].drop(columns="probe").reset_index(drop=True)


def assert_recorded_alike(config, splits, options=READ):
    """Compare every number of both probes, bit by bit; return those of the copy."""
    probes = {"activations": options, "recorder": options}
    (record,) = train(config, [SEED], splits, probes=probes)
    read, attached = table(record, "activations"), table(record, "recorder")
    assert len(read)
    assert read[KEYS].equals(attached[KEYS])
    np.testing.assert_array_equal(read["value"].to_numpy(), attached["value"].to_numpy())
    return read


@pytest.mark.parametrize("optimizer", [{}, DECAYED], ids=["sgd", "momentum"])
@pytest.mark.parametrize("activation", [SIGMOID, RELU], ids=["sigmoid", "relu"])
@pytest.mark.parametrize("norm", ["none", "bn"])
def test_copies_are_read_as_the_attached_recorder_reads_the_network(
    norm, activation, optimizer, small
):
    read = assert_recorded_alike(CONFIG.replace(norm=norm, **activation, **optimizer), small)
    assert sorted(set(read["step"])) == STEPS
    assert {"in", "out", "grad", "weight", "bias"} <= set(read["tensor"])
    assert ("norm" in set(read["tensor"])) == (norm == "bn")
    parameters = read[read["tensor"] == "weight"]
    for stat in ("update_ratio", "from_init", "effective_lr", "grad_norm"):
        assert (parameters.loc[parameters["stat"] == stat, "value"] > 0).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"freeze_norm_step": 4},
        {"optimizer": "adam", "learning_rate": 0.01},
        {"norm": "ghost:size=16"},
        {"network": "mlp:depth=3,width=12"},
    ],
    ids=["frozen", "adam", "ghost", "mlp"],
)
def test_so_they_are_with_other_modes_optimizers_norms_and_networks(changes, small):
    options = {**READ, "layers": ["act1", "act2"], "bn": False}
    assert_recorded_alike(CONFIG.replace(**changes), small, options)


@needs_kernel
@pytest.mark.parametrize("changes", [{}, RELU, {"dropout": 0.3}, {"norm": "none"}])
@pytest.mark.parametrize("probe", ["activations", "fixed-activations"])
def test_a_stack_is_read_as_the_reference_is(probe, changes, small):
    # rounding grows with every step: the trajectories are compared while they are together
    config = CONFIG.replace(**{"learning_rate": 0.1, **changes})
    options = {name: value for name, value in READ.items() if name not in ("params", "bn")}
    options |= {"epochs": (0, 0.2, 0.6)}
    if probe == "activations":
        options["params"] = True
    seeds = [SEED, 8]
    for seed, record in zip(
        seeds, train(config, seeds, small, probes={probe: options}, engine="lockstep"), strict=True
    ):
        (reference,) = train(config, [seed], small, probes={probe: options})
        ours, theirs = table(record, probe), table(reference, probe)
        assert ours[KEYS].equals(theirs[KEYS])
        # the gradient of a bias before BN has no direction but that of rounding
        kept = ((ours["tensor"] != "bias") & ~ours["stat"].str.startswith("q")).to_numpy()
        np.testing.assert_allclose(ours["value"][kept], theirs["value"][kept], rtol=5e-3, atol=2e-3)
        # a percentile is one of a sample of values: it may jump to its neighbour
        quantiles = ours["stat"].str.startswith("q").to_numpy()
        np.testing.assert_allclose(ours["value"][quantiles], theirs["value"][quantiles], atol=5e-3)


def test_updates_are_those_that_the_run_makes(small):
    weights = []

    def keep(step, training):
        weights.append(training.net.fc2.weight.detach().double().numpy().copy())

    options = {"epochs": (0.4, 1.8), "layers": ["act1"], "params": True}
    config = CONFIG.replace(**DECAYED, dropout=0.3)
    (record,) = train(config, [SEED], small, probes={"activations": options}, observers=[[keep]])
    rows = table(record, "activations").query("layer == 'fc2' and tensor == 'weight'")
    found = rows.set_index(["step", "stat"])["value"]
    for step in (2, 9):
        before, after = weights[step], weights[step + 1]
        ratio = np.linalg.norm(after - before) / np.linalg.norm(before)
        assert found[step, "update_ratio"] == pytest.approx(ratio, rel=1e-6)
        moved = np.linalg.norm(after - weights[0]) / np.linalg.norm(weights[0])
        assert found[step, "from_init"] == pytest.approx(moved, rel=1e-6)


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_fixed_images_are_a_training_batch_of_their_own_without_dropout(norm, small):
    config, nets = CONFIG.replace(norm=norm, dropout=0.5), {}

    def keep(step, training):
        nets[step.count] = copy.deepcopy(training.net)

    options = {"epochs": (0, 2), "count": 5_000, "layers": ["act4"], "tensors": "both"}
    options |= {"stats": ["mean", "std"], "grads": True}
    (record,) = train(
        config, [SEED], small, probes={"fixed-activations": options}, observers=[[keep]]
    )
    found = table(record, "fixed-activations").set_index(["step", "tensor", "stat"])["value"]
    for step in (0, 10):  # more images than there are: all of them, in some order
        net = nets[step].double().train()
        for layer in net.modules():
            if isinstance(layer, StreamDropout):
                layer.eval()
        names = [name for name, _ in net.named_children()]
        before = names.index("act4")
        inputs = net[:before](scale(small.train.images).double())
        outputs = net.act4(inputs)
        outputs.retain_grad()
        F.cross_entropy(net[before + 1 :](outputs), small.train.labels).backward()
        assert found[step, "in", "mean"] == pytest.approx(inputs.mean().item(), rel=1e-4, abs=1e-5)
        assert found[step, "in", "std"] == pytest.approx(inputs.std(correction=0).item(), rel=1e-4)
        gradient = outputs.grad.std(correction=0).item()
        assert found[step, "grad", "std"] == pytest.approx(gradient, rel=1e-3)


def test_fixed_images_of_weights_that_stand_still_are_read_the_same(small):
    # batches change from step to step, the images of this probe do not
    config = CONFIG.replace(learning_rate=1e-30, dropout=0.5)
    options = {"epochs": (0, 0.6, 2), "stats": ["quantiles", "std"]}
    (record,) = train(
        config,
        [SEED],
        small,
        probes={"fixed-activations": {**options, "count": 60}, "activations": options},
    )
    spread = {
        probe: table(record, probe).groupby(["layer", "stat"])["value"].agg(np.ptp)
        for probe in ("fixed-activations", "activations")
    }
    assert (spread["fixed-activations"] == 0).all()
    assert (spread["activations"] > 0).mean() > 0.9


def test_arms_of_a_seed_have_the_same_fixed_images_and_seeds_others(small):
    options = {"count": 40, "layers": ["conv1"], "stats": ["mean"]}
    means = {}
    for norm, seed in (("none", 0), ("bn", 0), ("none", 1)):
        config = CONFIG.replace(norm=norm, epochs=1, train_images=100)
        (record,) = train(config, [seed], small, probes={"fixed-activations": options})
        # before the first step: only weights and images decide the output
        means[norm, seed] = record.measures["value"].iloc[0]
    assert means["none", 0] == pytest.approx(means["bn", 0], rel=1e-6)
    assert means["none", 0] != means["none", 1]


def test_noisy_bn_stays_noisy_on_fixed_images_and_the_same_in_a_second_run(small):
    config = CONFIG.replace(norm="noisy", learning_rate=1e-30)
    options = {"epochs": (0, 1), "layers": ["act1"], "tensors": "in", "stats": ["std"]}
    probes = {"fixed-activations": options}
    first, second = (train(config, [SEED], small, probes=probes)[0] for _ in range(2))
    at = table(first, "fixed-activations")["value"]
    assert at.nunique() == 2
    assert at.equals(table(second, "fixed-activations")["value"])


@pytest.mark.parametrize("engine", ["reference", pytest.param("lockstep", marks=needs_kernel)])
def test_of_a_run_that_diverges_the_finite_steps_are_recorded(engine, small):
    config = CONFIG.replace(norm="none", activation="relu", learning_rate=1e4)
    options = {"epochs": [k / 5 for k in range(10)], "layers": ["act1"], "stats": ["std"]}
    probes = {"activations": options, "fixed-activations": options}
    (record,) = train(config, [SEED], small, probes=probes, engine=engine)
    assert record.status == "diverged"
    assert set(table(record, "activations")["step"]) == set(range(record.steps))
    assert set(table(record, "fixed-activations")["step"]) == set(range(record.steps + 1))


@pytest.mark.parametrize("probe", ["activations", "fixed-activations", "recorder"])
def test_a_layer_that_is_not_there_is_refused_before_training(probe, small):
    steps = []
    with pytest.raises(WatchError, match=r"^there is no layer 'act9'"):
        train(
            CONFIG,
            [SEED],
            small,
            probes={probe: {"epochs": [2], "layers": ["act9"]}},
            observers=[[lambda step, training: steps.append(step.count)]],
        )
    assert steps == [0]


@pytest.mark.parametrize("count", [1, 0, -3, 2.5, True, "many"])
def test_a_number_of_fixed_images_is_two_or_more(count, small):
    with pytest.raises(ConfigError) as refusal:
        train(CONFIG, [SEED], small, probes={"fixed-activations": {"count": count}})
    assert str(refusal.value) == (
        f"normalization needs a batch of 2 fixed images or more, got count={count!r}"
    )
