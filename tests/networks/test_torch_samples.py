"""Our batch norm on the inputs that torch tests its own with, against torch's results.

In torch's conventions (``momentum_of="new"``, ``variance="unbiased"``) whatever torch's
layer computes, ours computes: outputs, gradients, moving moments and counts.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnstudy.networks.norm import BatchNorm, batch_norm

pytest.importorskip("expecttest", reason="torch's sample inputs need it: pip install expecttest")

from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

# these imports forbid the whole process, and so all other tests, to set torch's global flags
torch.backends.m.__allow_nonbracketed_mutation_flag = True

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MODULES = {info.module_cls: info for info in module_db if info.module_cls in KINDS}
OPERATOR = next(info for info in op_db if info.name == "nn.functional.batch_norm")

# What torch computes and ours refuses, by the shape of the input, with the reason.
REFUSED = {(0,): "an input of one axis has no batch"}


@pytest.fixture(autouse=True)
def generators_kept():
    """Put back the generators that torch draws its samples from."""
    legacy = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    np.random.set_state(legacy)  # noqa: NPY002


def assert_alike(ours, torchs, dtype):
    """Compare to the precision of a dtype: torch rounds half precision once, as ours does."""
    rtol, atol = {
        torch.float64: (1e-10, 1e-11),
        torch.float32: (1e-4, 1e-5),
        torch.float16: (4e-3, 2e-3),
        torch.bfloat16: (3e-2, 2e-2),
    }[dtype]
    torch.testing.assert_close(ours, torchs, rtol=rtol, atol=atol, equal_nan=True)


def operator_samples():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for dtype in DTYPES:
            for sample in OPERATOR.sample_inputs("cpu", dtype, requires_grad=True):
                yield dtype, sample


def module_samples(module_class, dtype):
    """Yield mode and sample of all that torch has for a layer."""
    info = MODULES[module_class]
    options = {"device": "cpu", "dtype": dtype, "requires_grad": False}
    for training in (True, False):
        for sample in info.module_inputs_func(info, training=training, **options):
            yield training, sample


def test_every_sample_of_torchs_operator_gives_torchs_result_or_a_named_refusal():
    passed, refused = 0, set()
    for dtype, sample in operator_samples():
        shape = tuple(sample.input.shape)
        if shape in REFUSED:
            refused.add(shape)
            continue
        mean, var, weight, bias = sample.args
        options = {"training": False, "momentum": 0.1, "eps": 1e-5} | sample.kwargs
        own = [
            None if each is None else each.detach().clone().requires_grad_()
            for each in (sample.input, weight, bias)
        ]
        running = [None if each is None else each.detach().clone() for each in (mean, var)]
        theirs = F.batch_norm(own[0], *running, *own[1:], **options)
        keep = 1.0 - options.pop("momentum")
        given = [None if each is None else each.detach() for each in (mean, var)]
        ours, *moved = batch_norm(*own, *given, momentum=keep, variance="unbiased", **options)
        assert_alike(ours, theirs, dtype)
        for a, b in zip(moved, running, strict=True):
            if b is not None:
                assert_alike(a.to(b.dtype), b, dtype)
        leaves, cotangent = [each for each in own if each is not None], torch.randn_like(theirs)
        found, expected = (torch.autograd.grad(y, leaves, cotangent) for y in (ours, theirs))
        for a, b in zip(found, expected, strict=True):
            assert_alike(a, b, dtype)
        passed += 1
    assert refused == set(REFUSED)
    assert passed == 10 * len(DTYPES)  # of 12 per dtype; two are the refused shape


def layers_of(module_class, sample, dtype):
    """Return torch's layer of a sample and ours in torch's conventions, with its tensors."""
    arguments = sample.constructor_input
    theirs = module_class(*arguments.args, **arguments.kwargs).to(dtype)
    names = ("eps", "momentum", "affine", "track_running_stats")
    options = dict(zip(names, arguments.args[1:], strict=False)) | arguments.kwargs
    ours = BatchNorm(
        arguments.args[0], **{"momentum": 0.1} | options, momentum_of="new", variance="unbiased",
        dtype=dtype,
    )  # fmt: skip
    for parameter in theirs.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


# half precision through a layer in the same, and through one in float32
MIXTURES = [(each, each) for each in DTYPES] + [(each, torch.float32) for each in DTYPES[2:]]


@pytest.mark.parametrize(("dtype", "of_layer"), MIXTURES, ids=str)
@pytest.mark.parametrize("module_class", KINDS)
def test_every_sample_of_torchs_layers_gives_torchs_result(module_class, dtype, of_layer):
    samples = [*module_samples(module_class, dtype)]
    assert len(samples) >= 12
    for training, sample in samples:
        theirs, ours = (each.train(training) for each in layers_of(module_class, sample, of_layer))
        (X,) = sample.forward_input.args
        for _ in range(2):
            results = []
            cotangent = torch.randn_like(X)
            for layer in (ours, theirs):
                x = X.detach().clone().requires_grad_()
                y = layer(x)
                assert y.dtype == X.dtype
                results.append((y, *torch.autograd.grad(y, [x, *layer.parameters()], cotangent)))
            for a, b in zip(*results, strict=True):
                assert_alike(a, b, dtype)
            for name, tensor in theirs.state_dict().items():
                assert_alike(ours.state_dict()[name], tensor, dtype)


@pytest.mark.parametrize("module_class", KINDS)
def test_gradients_and_their_gradients_are_those_of_finite_differences(module_class):
    for training, sample in module_samples(module_class, torch.float64):
        _, ours = layers_of(module_class, sample, torch.float64)
        ours.train(training)
        (X,) = sample.forward_input.args
        # a corner of it: finite differences run the layer twice per value
        corner = (slice(3), slice(None), *[slice(2)] * (X.dim() - 2))
        X = X[corner].clone().requires_grad_()
        names = [name for name, _ in ours.named_parameters()]

        def function(x, *values, layer=ours, names=names):
            # a copy: finite differences run the layer often, and each run moves its moments
            named = dict(zip(names, values, strict=True))
            return torch.func.functional_call(copy.deepcopy(layer), named, (x,))

        inputs = (X, *(each.detach().clone().requires_grad_() for each in ours.parameters()))
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
