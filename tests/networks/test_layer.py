"""``BatchNorm`` in the place of torch's: states, precision, graphs, copies, averages."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import update_bn

from bnstudy.config import stream
from bnstudy.errors import ConfigError
from bnstudy.networks.norm import (
    BatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    MeanOnlyBatchNorm,
    NoisyBatchNorm,
    PopulationBatchNorm,
    VarianceOnlyBatchNorm,
    batch_norm,
)

AS_TORCH = {"momentum": 0.1, "momentum_of": "new", "variance": "unbiased"}
RELATIVES = (
    GhostBatchNorm,
    PopulationBatchNorm,
    FrozenBatchNorm,
    MeanOnlyBatchNorm,
    VarianceOnlyBatchNorm,
    NoisyBatchNorm,
)
# those with the gamma and beta of torch's layer
WITH_WEIGHTS = (BatchNorm, *(each for each in RELATIVES if each is not MeanOnlyBatchNorm))
ALL = pytest.mark.parametrize("kind", [BatchNorm, *RELATIVES])


def drawn(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(*shape, generator=generator) + 0.5).to(dtype)


def made(kind, *arguments, **options):
    """Make a layer that draws nothing from the global generators."""
    rng = {"rng": stream(0, "noise")} if kind is NoisyBatchNorm else {}
    return kind(*arguments, **rng, **options)


def trained(layer, steps=3):
    for seed in range(steps):
        layer(drawn(8, 3, seed=seed))
    return layer


def assert_equal_states(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


# States ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WITH_WEIGHTS)
def test_states_load_both_ways_by_torchs_names(kind):
    theirs = trained(nn.BatchNorm1d(3))
    layer = made(kind, 3)
    layer.load_state_dict(theirs.state_dict(), strict=True)
    assert_equal_states(layer, theirs)
    trained(layer)
    theirs.load_state_dict(layer.state_dict(), strict=True)
    assert_equal_states(layer, theirs)


@ALL
def test_checkpoints_with_the_notes_names_load(kind):
    layer = trained(made(kind, 3))
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    names |= {"running_var": "moving_var", "num_batches_tracked": "steps"}
    old = {f"0.{names[name]}": tensor for name, tensor in layer.state_dict().items()}
    if kind not in (PopulationBatchNorm, FrozenBatchNorm):
        del old["0.steps"]
    given = list(old)
    fresh = nn.Sequential(made(kind, 3))
    fresh.load_state_dict(old, strict=True)
    assert list(old) == given
    for name, tensor in layer.state_dict().items():
        if name != "num_batches_tracked" or "0.steps" in old:
            assert torch.equal(fresh.state_dict()[f"0.{name}"], tensor)


@pytest.mark.parametrize("kind", [PopulationBatchNorm, FrozenBatchNorm])
def test_loaded_moments_without_a_count_keep_their_weight(kind):
    state = trained(nn.BatchNorm1d(3)).state_dict()
    del state["num_batches_tracked"]
    state._metadata[""]["version"] = 1
    layer, X = kind(3), drawn(8, 3, seed=9)
    layer.load_state_dict(state, strict=True)
    layer(X)
    expected = 0.9 * state["running_mean"] + 0.1 * X.mean(0)
    assert torch.allclose(layer.running_mean, expected, atol=1e-6)


def test_a_wrong_state_is_refused_as_torch_refuses_it():
    state = {f"0.{name}": tensor for name, tensor in BatchNorm(3).state_dict().items()}
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.weight"):
        nn.Sequential(BatchNorm(4)).load_state_dict(state)
    state["0.gama"] = state.pop("0.weight")
    with pytest.raises(RuntimeError, match=r'Missing key.*"0\.weight"[^"]*"0\.gama"'):
        nn.Sequential(BatchNorm(3)).load_state_dict(state)


def test_the_notes_names_read_and_set_the_same_tensors():
    layer = BatchNorm(3)
    for ours, torchs in zip(
        ("gamma", "beta", "moving_mean", "moving_var"),
        ("weight", "bias", "running_mean", "running_var"),
        strict=True,
    ):
        assert getattr(layer, ours) is getattr(layer, torchs)
        value = torch.full((3,), 7.0)
        setattr(layer, ours, nn.Parameter(value) if torchs in ("weight", "bias") else value)
        assert getattr(layer, torchs).tolist() == [7.0] * 3
    assert sorted(layer.state_dict()) == sorted(nn.BatchNorm1d(3).state_dict())
    assert BatchNorm(3, affine=False).gamma is None


@ALL
def test_copies_pickles_and_saved_files_compute_the_same(kind):
    layer = trained(made(kind, 3, momentum=None))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    copies = [
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ]
    expected = trained(layer).state_dict()
    for each in copies:
        assert_equal_states(trained(each), layer)
        assert list(each.state_dict()) == list(expected)


def test_reset_restores_the_start():
    for layer in (trained(BatchNorm(3)), trained(MeanOnlyBatchNorm(3)), BatchNorm(3, bias=False)):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += 1
        layer.reset_parameters()
        fresh = type(layer)(3, bias=layer.bias is not None)
        assert_equal_states(layer, fresh)
    layer = trained(BatchNorm(3))
    with torch.no_grad():
        layer.weight.fill_(2.0)
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.running_var.tolist() == [1, 1, 1]
    assert int(layer.num_batches_tracked) == 0
    assert layer.weight.tolist() == [2, 2, 2]


def test_a_device_and_a_dtype_are_those_of_all_tensors():
    layer = BatchNorm(3, device="meta", dtype=torch.float64)
    for name, tensor in layer.state_dict().items():
        assert tensor.is_meta
        assert tensor.dtype == (torch.int64 if "num" in name else torch.float64)
    assert layer(torch.empty(4, 3, 2, device="meta", dtype=torch.float64)).shape == (4, 3, 2)
    layer.to_empty(device="cpu").reset_parameters()
    assert_equal_states(layer, BatchNorm(3, dtype=torch.float64))


def test_what_a_layer_lacks_stands_in_its_name():
    layer = BatchNorm(3, affine=False, track_running_stats=False)
    assert repr(layer).endswith("variance='biased', affine=False, track_running_stats=False)")
    assert list(layer.state_dict()) == []


# Averages -------------------------------------------------------------------------------


def moments_of(batches, correction):
    means = torch.stack([batch.mean(0) for batch in batches])
    variances = torch.stack([batch.var(0, correction=correction) for batch in batches])
    return means.mean(0), variances.mean(0)


@pytest.mark.parametrize("kind", [BatchNorm, PopulationBatchNorm, FrozenBatchNorm])
@pytest.mark.parametrize("momentum_of", ["old", "new"])
@pytest.mark.parametrize(("variance", "correction"), [("biased", 0), ("unbiased", 1)])
def test_without_a_momentum_all_batches_count_alike(kind, momentum_of, variance, correction):
    layer = kind(3, momentum=None, momentum_of=momentum_of, variance=variance).double()
    batches = [drawn(5, 3, seed=seed, dtype=torch.float64) for seed in range(4)]
    for batch in batches:
        layer(batch)
    mean, var = moments_of(batches, correction)
    assert torch.allclose(layer.running_mean, mean, atol=1e-12)
    assert torch.allclose(layer.running_var, var, atol=1e-12)
    assert int(layer.num_batches_tracked) == 4


def test_the_average_of_all_batches_is_torchs():
    ours, theirs = BatchNorm(3, **AS_TORCH | {"momentum": None}), nn.BatchNorm1d(3, momentum=None)
    assert ours.keep is None
    trained(ours), trained(theirs)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b)


@pytest.mark.parametrize("kind", [BatchNorm, GhostBatchNorm, PopulationBatchNorm, FrozenBatchNorm])
@pytest.mark.parametrize("momentum_of", ["old", "new"])
def test_update_bn_averages_over_the_loader_and_leaves_the_momentum(kind, momentum_of):
    layer = kind(3, momentum=0.3, momentum_of=momentum_of)
    trained(layer)
    batches = [drawn(6, 3, seed=seed) for seed in range(5)]
    net = nn.Sequential(layer).eval()
    update_bn(batches, net)
    mean, var = moments_of(batches, 0)
    assert torch.allclose(layer.running_mean, mean, atol=1e-6)
    assert torch.allclose(layer.running_var, var, atol=1e-5)
    assert layer.momentum == 0.3
    assert not net.training


@pytest.mark.parametrize("kind", [BatchNorm, GhostBatchNorm, MeanOnlyBatchNorm, NoisyBatchNorm])
def test_without_moving_moments_the_batch_is_used_in_evaluation_too(kind):
    layer = made(kind, 3, track_running_stats=False)
    assert layer.running_mean is None
    assert layer.num_batches_tracked is None
    layer.eval()
    X = drawn(8, 3)
    centred = X - X.mean(0)
    expected = (
        centred if kind is MeanOnlyBatchNorm else centred / (X.var(0, correction=0) + 1e-5).sqrt()
    )
    assert torch.allclose(layer(X), expected, atol=1e-5)
    with pytest.raises(ConfigError, match="more than 1 value per channel"):
        layer(drawn(1, 3))


@pytest.mark.parametrize("kind", [PopulationBatchNorm, FrozenBatchNorm])
def test_relatives_that_train_by_moving_moments_must_have_them(kind):
    with pytest.raises(ConfigError) as refusal:
        kind(3, track_running_stats=False)
    assert str(refusal.value) == (
        f"{kind.__name__} trains by its moving moments, got track_running_stats=False: leave it out"
    )
    layer = kind(3)
    layer.running_mean = None
    with pytest.raises(ConfigError, match=f"{kind.__name__} normalizes by its moving moments"):
        layer(drawn(4, 3))


def test_moments_that_are_kept_but_not_tracked_stay_as_with_torch():
    ours, theirs = trained(BatchNorm(3, **AS_TORCH)), trained(nn.BatchNorm1d(3))
    X = drawn(5, 3, seed=8)
    for layer in (ours, theirs):
        layer.track_running_stats = False
    for training in (True, False):
        assert torch.allclose(ours.train(training)(X), theirs.train(training)(X), atol=1e-5)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b)


@ALL
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2, 2), (2, 3, 0)])
def test_an_empty_batch_is_counted_and_changes_nothing_else(kind, shape):
    layer = trained(made(kind, 3))
    before = copy.deepcopy(layer.state_dict())
    X = torch.zeros(shape, requires_grad=True)
    Y = layer(X)
    Y.sum().backward()
    assert Y.shape == X.grad.shape == shape
    assert all(not parameter.grad.any() for parameter in layer.parameters())
    before["num_batches_tracked"] += 1
    assert all(torch.equal(before[name], each) for name, each in layer.state_dict().items())


def test_the_layer_is_its_formula():
    layer, X = trained(BatchNorm(3, momentum=0.7)), drawn(8, 3, seed=9)
    with torch.no_grad():
        layer.weight.copy_(drawn(3, seed=4))
    for training in (True, False):
        Y, mean, var = batch_norm(
            X, layer.weight, layer.bias, layer.running_mean, layer.running_var,
            eps=1e-5, momentum=0.7, training=training,
        )  # fmt: skip
        assert torch.equal(layer.train(training)(X), Y)
        assert torch.equal(layer.running_mean, mean)
        assert torch.equal(layer.running_var, var)


def test_the_formula_needs_no_moving_moments():
    X = drawn(8, 3, dtype=torch.float64)
    for training in (True, False):
        Y, mean, var = batch_norm(
            X, None, None, None, None, eps=0.0, momentum=0.9, training=training
        )
        assert torch.allclose(Y.var(0, correction=0), torch.ones(3, dtype=torch.float64))
        assert mean is var is None
    with pytest.raises(ConfigError) as refusal:
        batch_norm(X, None, None, None, torch.ones(3), eps=0.0, momentum=0.9, training=True)
    assert str(refusal.value) == (
        "moving_mean and moving_var are given both or neither, got one of them"
    )


# Precision ------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("parameters", ["half", "float32"])
def test_half_precision_is_computed_in_float32_and_rounded_once(kind, dtype, parameters):
    layer = trained(made(kind, 3))
    if parameters == "half":
        layer = layer.to(dtype)
    exact, X = copy.deepcopy(layer).float(), drawn(8, 3, seed=5, dtype=dtype)
    for training in (True, False):
        Y, expected = layer.train(training)(X), exact.train(training)(X.float())
        if isinstance(layer, PopulationBatchNorm):  # by the moments as they are kept
            expected = copy.deepcopy(layer).float().eval()(X.float())
        assert Y.dtype == dtype
        torch.testing.assert_close(Y, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)
        assert torch.equal(layer.running_var, exact.running_var.to(layer.running_var.dtype))
        exact = copy.deepcopy(layer).float()


def test_a_sum_that_overflows_float16_does_not():
    X = (drawn(4096, 3) * 100).half()
    assert torch.isfinite(BatchNorm(3, dtype=torch.float16)(X)).all()


@pytest.mark.parametrize("kind", [BatchNorm, GhostBatchNorm])
def test_autocast_changes_no_precision_as_with_torch(kind):
    ours, theirs, X = kind(3, **AS_TORCH), nn.BatchNorm1d(3), drawn(8, 3)
    plain = copy.deepcopy(ours)(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Y, half = ours(X), ours(X.bfloat16())
        assert (Y.dtype, half.dtype) == (theirs(X).dtype, theirs(X.bfloat16()).dtype)
    assert torch.equal(Y, plain)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_values_that_are_no_floating_point_numbers_are_refused(dtype):
    with pytest.raises(ConfigError) as refusal:
        BatchNorm(3)(torch.ones(4, 3, dtype=dtype))
    assert str(refusal.value) == (
        f"batch normalization takes floating-point values, got {dtype}: convert them with .float()"
    )


@ALL
@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (4, 3, 2, 5, 2)])
def test_channels_last_stays_so(kind, shape):
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    layer, X = made(kind, 3), drawn(*shape)
    expected = copy.deepcopy(layer)(X)
    X = X.to(memory_format=memory_format).requires_grad_()
    Y = layer(X)
    assert Y.is_contiguous(memory_format=memory_format)
    assert torch.allclose(Y, expected, atol=1e-5)
    Y.square().sum().backward()
    assert X.grad.is_contiguous(memory_format=memory_format)


# Graphs and transforms ------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("momentum", [0.9, None])
def test_no_value_is_read_by_the_host_in_any_mode(kind, momentum):
    # a tensor without memory has no values that could be read
    rng = {"rng": None} if kind is NoisyBatchNorm else {}
    layer = kind(3, momentum=momentum, device="meta", **rng)
    for training in (True, False):
        X = torch.empty(8, 3, 2, device="meta", requires_grad=True)
        Y = layer.train(training)(X)
        Y.sum().backward()
        assert Y.is_meta
        assert X.grad.shape == Y.shape == X.shape


@ALL
@pytest.mark.parametrize("momentum", [0.9, None])
def test_it_is_exported_whole(kind, momentum):
    rng = {"rng": None} if kind is NoisyBatchNorm else {}
    layer, X = kind(3, momentum=momentum, **rng), drawn(8, 3)
    expected = copy.deepcopy(layer)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(layer, (X,)).module(check_guards=False)
        torch.manual_seed(0)
        Y = program(X)
        torch.manual_seed(0)
        assert torch.allclose(Y, expected(X), atol=1e-6)
    for name, tensor in expected.state_dict().items():
        assert torch.allclose(program.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", [BatchNorm, PopulationBatchNorm, MeanOnlyBatchNorm])
def test_it_is_exported_for_any_batch_as_torchs(kind):
    axes = ({0: torch.export.Dim("batch", min=2)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(kind(3), (drawn(8, 3),), dynamic_shapes=axes).module()
    X = drawn(5, 3, seed=2)
    assert torch.allclose(program(X), kind(3)(X), atol=1e-6)


@ALL
def test_it_compiles_to_one_graph(kind):
    torch._dynamo.reset()
    rng = {"rng": None} if kind is NoisyBatchNorm else {}
    layer, X = kind(3, **rng), drawn(8, 3).requires_grad_()
    expected = copy.deepcopy(layer)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        torch.manual_seed(0)
        (found,) = torch.autograd.grad(compiled(X).pow(3).sum(), X)
        torch.manual_seed(0)
        (gradient,) = torch.autograd.grad(expected(X).pow(3).sum(), X)
    assert torch.allclose(found, gradient, atol=1e-5)
    assert torch.allclose(layer.running_var, expected.running_var)


def test_torchscript_is_refused_and_tracing_is_not():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ConfigError) as refusal:
            torch.jit.script(nn.Sequential(BatchNorm(3)))
        layer, X = trained(BatchNorm(3)).eval(), drawn(8, 3)
        traced = torch.jit.trace(layer, (X,))
    assert str(refusal.value) == (
        "TorchScript, which torch has deprecated, cannot compile BatchNorm: "
        "use torch.compile or torch.export, or convert it to torch's"
    )
    assert torch.equal(traced(drawn(5, 3)), layer(drawn(5, 3)))


@pytest.mark.parametrize("kind", [BatchNorm, GhostBatchNorm, PopulationBatchNorm, FrozenBatchNorm])
def test_an_ensemble_runs_under_vmap_as_its_members(kind):
    layers = [trained(kind(3), steps=1 + at) for at in range(3)]
    parameters, buffers = stack_module_state([copy.deepcopy(each) for each in layers])
    skeleton = kind(3).to("meta")
    X = drawn(3, 8, 3)
    Y = vmap(lambda p, b, x: functional_call(skeleton, (p, b), (x,)))(parameters, buffers, X)
    for at, layer in enumerate(layers):
        assert torch.allclose(Y[at], layer(X[at]), atol=1e-6)
        for name, tensor in layer.named_buffers():
            assert torch.allclose(buffers[name][at], tensor)


def test_functional_call_leaves_the_layer_alone():
    layer, X = BatchNorm(3), drawn(8, 3)
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    functional_call(layer, state, (X,))
    assert_equal_states(layer, BatchNorm(3))
    assert torch.allclose(state["running_mean"], 0.1 * X.mean(0))


@pytest.mark.parametrize(
    "kind", [BatchNorm, GhostBatchNorm, FrozenBatchNorm, VarianceOnlyBatchNorm]
)
def test_two_forward_passes_before_the_backward_pass(kind):
    X = drawn(8, 3, dtype=torch.float64).requires_grad_()
    layer = made(kind, 3).double()
    first = copy.deepcopy(layer)
    Y = layer(X)
    layer(drawn(8, 3, seed=1, dtype=torch.float64))  # moves the moments in place
    (found,) = torch.autograd.grad(Y.pow(3).sum(), X)
    (expected,) = torch.autograd.grad(first(X).pow(3).sum(), X)
    assert torch.equal(found, expected)


# SyncBatchNorm --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [AS_TORCH, AS_TORCH | {"momentum": None, "momentum_of": "old"}, {"track_running_stats": False}],
)
def test_layers_in_torchs_conventions_become_sync_batch_norm(options):
    layer = BatchNorm(3, **options)
    (sync,) = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer))
    assert type(sync) is nn.SyncBatchNorm
    assert sync.momentum == layer.momentum
    assert sync.weight is layer.weight
    assert sync.running_var is layer.running_var


@pytest.mark.parametrize(
    "layer",
    [
        BatchNorm(3),
        BatchNorm(3, **AS_TORCH | {"variance": "biased"}),
        BatchNorm(3, **AS_TORCH | {"momentum_of": "old"}),
        GhostBatchNorm(3, **AS_TORCH),
        MeanOnlyBatchNorm(3, **AS_TORCH),
    ],
)
def test_other_layers_do_not_become_sync_batch_norm(layer):
    with pytest.raises(ConfigError) as refusal:
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer))
    assert str(refusal.value) == (
        f"SyncBatchNorm and quantization average as torch does, {layer!r} otherwise: "
        "make it with momentum_of='new' and variance='unbiased', or convert it to torch's"
    )
