"""P1 to P28: what goes silently wrong with hooks, one test each."""

import copy
import dataclasses
import gc
import io
import tracemalloc
import warnings
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from bnstudy.activations import WatchWarning, match, quantiles, statistic, watch
from bnstudy.activations.selection import unwrap
from bnstudy.errors import WatchError
from tests.activations.nets import (
    built,
    conv_net,
    fc_net,
    generator,
    hooks_of,
    images,
    labels,
    sgd,
    train,
    vectors,
)  # fmt: skip


def value(run, stat, layer, **options):
    return run.frame(stat, layer=layer, **options)["value"].tolist()


def test_p1_an_in_place_successor_does_not_change_what_is_recorded():
    net, x = conv_net(inplace=True), images()
    expected = F.batch_norm(net[0](x), None, None, training=True).min().item()
    with watch(net, layers="1") as run:
        net(x)
    assert expected < -1
    assert value(run, "min", "1") == pytest.approx([expected], rel=1e-5)


def test_p1_the_input_of_an_in_place_module_is_read_before_it_is_overwritten():
    net = nn.Sequential(nn.ReLU(inplace=True))
    with watch(net, tensors="in", stats="min") as run:
        net(torch.tensor([[-3.0, 1.0]]))
    assert value(run, "min", "0") == [-3.0]


def test_p2_attached_before_compile_every_due_step_is_recorded():
    net = fc_net()
    optimizer, eager = sgd(net), fc_net()
    with watch(net, optimizer, every=2) as run, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, backend="eager")
        train(compiled, optimizer, vectors(), labels(), steps=5)
    torch._dynamo.reset()
    with watch(eager, sgd(eager), every=2) as plain:
        train(eager, plain._optimizer, vectors(), labels(), steps=5)
    ours, theirs = run.frame(), plain.frame()
    assert ours["step"].unique().tolist() == [0, 2, 4]
    assert ours["layer"].tolist() == theirs["layer"].tolist()
    assert ours["value"].to_numpy() == pytest.approx(theirs["value"].to_numpy(), rel=1e-4, abs=1e-5)


def test_p2_attached_after_compiled_code_ran_it_records_or_warns_never_neither():
    net = fc_net()
    optimizer = sgd(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, backend="eager")
        train(compiled, optimizer, vectors(), labels())
        with watch(compiled, optimizer) as run, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", WatchWarning)
            train(compiled, optimizer, vectors(), labels(), steps=2)
    torch._dynamo.reset()
    warned = any("compiled and run before watch" in str(each.message) for each in caught)
    assert warned or run.frame("mean", layer="0")["step"].tolist() == [0, 1]


def test_p2_a_compiled_model_whose_hooks_do_not_run_is_reported():
    net = torch.compile(fc_net(), backend="eager")
    optimizer = sgd(net)
    other = fc_net()
    with (
        watch(net, optimizer) as run,
        pytest.warns(WatchWarning, match="compiled and run before watch"),
    ):
        train(other, optimizer, vectors(), labels())
    with pytest.raises(WatchError) as refusal:
        run.frame()
    assert "compiled before watch()?" in str(refusal.value)


class Checkpointed(nn.Module):
    """Written for a test."""

    def __init__(self, reentrant):
        super().__init__()
        self.inner, self.reentrant = fc_net(), reentrant

    def forward(self, x):
        return checkpoint(self.inner, x.requires_grad_(), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_p3_p4_checkpointing_is_recorded_once_and_runs_no_more_often(reentrant):
    net, plain = Checkpointed(reentrant), fc_net()
    with watch(net, grads=True) as run:
        F.cross_entropy(net(vectors()), labels()).backward()
    assert net.inner[1].num_batches_tracked == 2  # forward and recomputation, as without us
    with watch(plain, grads=True) as reference:
        F.cross_entropy(plain(vectors().requires_grad_()), labels()).backward()
    ours, theirs = run.frame(), reference.frame()
    assert len(ours) == len(theirs)
    by = ["layer", "tensor", "stat"]
    ours["layer"] = ours["layer"].astype(str).str.removeprefix("inner.")
    pair = ours.astype(dict.fromkeys(by, str)).merge(theirs.astype(dict.fromkeys(by, str)), on=by)
    assert len(pair) == len(ours)
    assert pair["value_x"].to_numpy() == pytest.approx(
        pair["value_y"].to_numpy(), rel=1e-5, abs=1e-7
    )
    moments = run.bn.frame()["batch_var"], reference.bn.frame()["batch_var"]
    assert moments[0].to_numpy() == pytest.approx(moments[1].to_numpy(), rel=1e-5)


class Shared(nn.Module):
    """Written for a test."""

    def __init__(self):
        super().__init__()
        self.layer = built(lambda: nn.Linear(8, 8))

    def forward(self, x):
        return self.layer(self.layer(x)).sum()


def test_p5_a_shared_module_has_a_row_for_each_call():
    net, x = Shared(), vectors()
    with watch(net, layers="layer", stats="mean") as run:
        net(x)
    once = net.layer(x)
    expected = [once.mean().item(), net.layer(once).mean().item()]
    assert value(run, "mean", "layer") == pytest.approx(expected, rel=1e-5)
    assert run.frame("mean")["call"].tolist() == [0, 1]
    assert run.frame("mean", wide=True).shape == (1, 2)


def test_p6_evaluation_between_steps_stays_out_of_training_rows():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer, every={"train": 1, "eval": 2}) as run:
        for _ in range(3):
            train(net, optimizer, vectors(), labels())
            net.eval()
            with torch.no_grad():
                net(vectors(seed=9))
                net(vectors(seed=8))
            net.train()
    counts = run.frame("mean", layer="0").groupby(["mode", "step"], observed=True).size()
    assert counts["train"].to_dict() == {0: 1, 1: 1, 2: 1}
    assert counts["eval"].to_dict() == {2: 2}  # steps done when evaluated: 1, 2 and 3
    assert run.frame("mean", mode="eval", layer="0")["forward"].tolist() == [0, 1]
    with watch(net, optimizer) as silent:
        net.eval()(vectors())
    with pytest.raises(WatchError, match="nothing was recorded"):
        silent.frame()


def test_p7_gradient_accumulation_is_one_step_of_several_passes():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer, stats="mean", layers="0") as run:
        for _ in range(2):
            for part in range(3):
                F.cross_entropy(net(vectors(seed=part)), labels()).backward()
            optimizer.step()
    rows = run.frame("mean")
    assert rows["step"].tolist() == [0, 0, 0, 1, 1, 1]
    assert rows["forward"].tolist() == [0, 1, 2] * 2
    assert rows["call"].tolist() == [0] * 6


def test_p8_near_zero_does_not_count_negative_values():
    with watch(nn.Sequential(nn.Identity()), layers="0", stats="near_zero") as run:
        run._root(torch.randn(5000, generator=generator()))
    assert value(run, "near_zero", "0")[0] == pytest.approx(0.04, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_p9_half_precision_is_measured_in_float32(dtype):
    x = (torch.randn(1000, 4, generator=generator()) * 1000 + 300).to(dtype)
    with watch(nn.Sequential(nn.Identity()), layers="0", stats="full") as run:
        run._root(x)
    exact = x.double()
    assert value(run, "std", "0") == pytest.approx([exact.std(correction=0).item()], rel=1e-5)
    assert value(run, "mean", "0") == pytest.approx([exact.mean().item()], rel=1e-5)


def test_p9_under_autocast_bn_moments_are_exact_and_statistics_wide():
    net, x = conv_net(), images()
    with torch.autocast("cpu", dtype=torch.bfloat16), watch(net, stats="full") as run:
        out = net[0](x)
        net(x)
    v = out.detach().double().numpy()
    rows = run.bn.frame().query("layer == '1'")
    assert out.dtype == torch.bfloat16
    assert rows["batch_mean"].to_numpy() == pytest.approx(v.mean((0, 2, 3)), rel=1e-4, abs=1e-5)
    assert value(run, "std", "0")[0] == pytest.approx(v.std(), rel=1e-5)


def test_p9_gradients_are_recorded_unscaled_with_a_grad_scaler():
    net, plain = fc_net(), fc_net()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = sgd(net)
    with watch(net, optimizer, grads=True, params=True, scaler=scaler) as run:
        scaler.scale(F.cross_entropy(net(vectors()), labels())).backward()
        scaler.step(optimizer)
        scaler.update()
    with watch(plain, sgd(plain), grads=True, params=True) as reference:
        train(plain, reference._optimizer, vectors(), labels())
    for tensor, stat in (("grad", "std"), ("weight", "grad_norm")):
        ours = run.frame(stat, tensor=tensor)["value"]
        theirs = reference.frame(stat, tensor=tensor).set_index(["layer"])["value"]
        assert sorted(ours) == pytest.approx(sorted(theirs), rel=1e-5)


def test_p10_nan_and_infinity_are_counted_and_do_not_stop_a_histogram():
    x = torch.tensor([[1.0, float("nan"), float("inf"), -1.0, -float("inf"), 0.5]])
    with watch(nn.Sequential(nn.Identity()), layers="0", stats="full") as run:
        run._root(torch.ones(1, 6))
        run._root(x)
    assert value(run, "nonfinite", "0") == [0.0, 3.0]
    shares = run.frame("histogram").query("step == 1")["value"].tolist()
    assert sum(shares) == pytest.approx(1.0)
    assert (shares[0], shares[-1]) == pytest.approx((1 / 5, 1 / 5))  # the infinities
    assert np.isnan(value(run, "q50", "0")[1])
    first = run.recording().first_nonfinite()
    assert first["step"].tolist() == [1]


def test_p11_quantiles_of_more_than_two_to_the_24_values():
    x = torch.arange(2**24 + 5, dtype=torch.float32) / 2**24
    with watch(nn.Sequential(nn.Identity()), layers="0", stats=quantiles(0.5)) as run:
        run._root(x)
    assert value(run, "q50", "0") == pytest.approx([0.5], abs=0.001)


def test_p12_one_value_one_row_and_nothing():
    with watch(nn.Sequential(nn.Identity()), layers="0", stats="full") as run:
        run._root(torch.tensor([2.5]))
        run._root(torch.empty(0, 3))
    assert value(run, "std", "0") == [0.0]
    assert value(run, "mean", "0") == [2.5]
    assert run.recording().notes == [("0", "out", "it is empty")]


def test_p12_a_bn_layer_that_raises_leaves_no_hook_behind():
    net = fc_net()
    with pytest.raises(ValueError, match="more than 1 value"), watch(net, sgd(net)):
        net(vectors(1))
    assert hooks_of(net) == 0


@dataclasses.dataclass
class Output:
    """Written for a test."""

    logits: torch.Tensor
    hidden: tuple


class Odd(nn.Module):
    """Written for a test."""

    def forward(self, x):
        return {
            "data": Output(x, (x + 1, None)),
            "index": x.argmax(1),
            "mask": x > 0,
            "complex": x.to(torch.complex64),
            "sparse": x.to_sparse(),
            "text": "word",
        }


def test_p13_nested_outputs_are_rows_and_the_rest_is_noted():
    with watch(nn.Sequential(Odd()), layers="0", stats="mean", grads=True) as run:
        out = run._root(torch.ones(2, 3, requires_grad=True))
        out["data"].hidden[0].sum().backward()
    rows = run.frame("mean").astype({"tensor": str}).set_index("tensor")["value"].to_dict()
    assert rows == {"out.data.logits": 1.0, "out.data.hidden.0": 2.0, "grad.data.hidden.0": 1.0}
    whys = {tensor: why for _, tensor, why in run.recording().notes}
    assert whys == {
        "out.index": "int64 values are labels or indices",
        "out.mask": "bool values are labels or indices",
        "out.complex": "complex values have no order",
        "out.sparse": "a sparse tensor has no dense values",
    }


def test_p13_an_lstm_gives_its_three_tensors():
    lstm = built(lambda: nn.LSTM(8, 4))
    with watch(nn.Sequential(lstm), stats="mean", grads=True) as run:
        out, _ = run._root(torch.randn(5, 2, 8, generator=generator()))
        out.sum().backward()
    assert set(run.frame()["tensor"]) == {"out.0", "out.1.0", "out.1.1", "grad.0"}
    assert value(run, "mean", "0", tensor="out.0") == pytest.approx([out.mean().item()], rel=1e-5)


class Functional(nn.Module):
    """Written for a test."""

    def __init__(self):
        super().__init__()
        self.fc, self.attention = (
            built(lambda: nn.Linear(8, 8)),
            built(lambda: nn.MultiheadAttention(8, 2)),
        )
        self.flat = nn.Flatten()

    def forward(self, x):
        y = F.relu(self.fc.forward(x)) + x
        return self.attention(y, y, y)[0]


def test_p14_match_names_what_no_hook_can_see():
    table = match(Functional()).set_index("layer")
    assert (
        table.loc["(model)", "why"]
        == "holds other layers; its own F.relu, +, self.fc.forward() are no layers"
    )
    assert table.loc["attention.out_proj", "why"].startswith("never called")
    assert table.loc["flat", "why"] == "passes its input on"
    assert table["watched"].to_dict() == {
        "(model)": False, "fc": True, "attention": True, "attention.out_proj": False, "flat": False,
    }  # fmt: skip


def test_p14_a_shared_module_is_listed_under_both_names():
    net = nn.Sequential(nn.ReLU())
    net.append(net[0])
    assert match(net)["why"].tolist()[-1] == "the same object as 0: recorded there, as another call"


@pytest.mark.parametrize("inplace", [True, False])
def test_p15_gradients_equal_autograds_even_before_in_place_modules(inplace):
    net, x, y = conv_net(inplace=inplace), images(), labels(classes=5)
    with watch(net, grads=True, stats=["mean", "std"]) as run:
        F.cross_entropy(net(x), y).backward()
    plain = conv_net()
    hidden = plain[1](plain[0](x))
    gradient = torch.autograd.grad(F.cross_entropy(plain[2:](hidden), y), hidden)[0]
    assert value(run, "std", "1", tensor="grad") == pytest.approx(
        [gradient.std(correction=0).item()], rel=1e-5
    )


def test_p15_frozen_outputs_have_no_gradient_rows():
    net = fc_net()
    net[0].requires_grad_(False)
    with watch(net, grads=True) as run:
        F.cross_entropy(net(vectors()), labels()).backward()
    assert set(run.frame(tensor="grad")["layer"]) == {"1", "2", "3"}


def test_p15_a_second_backward_pass_is_not_counted_twice():
    net = fc_net()
    with watch(net, grads=True, stats="mean", layers="0") as run:
        loss = F.cross_entropy(net(vectors()), labels())
        loss.backward(retain_graph=True)
        loss.backward()
    assert len(run.frame(tensor="grad")) == 1


def test_p16_no_hook_changes_what_a_module_or_step_returns():
    net = fc_net()
    optimizer, x = sgd(net), vectors()
    plain = net(x)
    with watch(net, optimizer, tensors="both", grads=True, params=True):
        assert torch.equal(net(x), plain)
        assert optimizer.step(lambda: torch.tensor(5.0)) == 5.0


def test_p17_replicas_are_not_mistaken_for_the_model():
    net = fc_net()
    with watch(net) as run:
        replica = net[0]._replicate_for_data_parallel()
        replica.weight, replica.bias = net[0].weight, net[0].bias
        with pytest.warns(WatchWarning, match="a copy of the model shares its hooks"):
            replica(vectors())
        net(vectors())
    assert len(run.frame("mean", layer="0")) == 1
    wrapped = nn.DataParallel(net, device_ids=[])
    assert unwrap(wrapped) is net
    wrapped.device_ids = [0, 1]
    with pytest.raises(
        WatchError, match="under DataParallel with several devices cannot be watched"
    ):
        watch(wrapped)


def test_p18_names_are_those_of_the_model_inside_a_distributed_wrapper(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        net = fc_net()
        wrapped = nn.parallel.DistributedDataParallel(net)
        optimizer = sgd(net)
        with watch(wrapped, optimizer, grads=True) as run:
            train(wrapped, optimizer, vectors(), labels(), steps=2)
    finally:
        torch.distributed.destroy_process_group()
    assert run.frame("mean", layer="0", tensor="out")["step"].tolist() == [0, 1]
    assert len(run.bn.frame()) == 32


def test_p19_copies_and_pickles_of_a_watched_model_work_and_are_not_recorded():
    net = fc_net()
    with watch(net, stats="mean", layers="0") as run:
        twin = copy.deepcopy(net)
        average = torch.optim.swa_utils.AveragedModel(net)
        buffer = io.BytesIO()
        torch.save(net, buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        for other in (twin, average, loaded):
            other(vectors())
        net(vectors())
    assert len(run.frame()) == 1
    assert torch.equal(loaded(vectors()), twin(vectors()))


def test_p20_a_dropped_recorder_takes_its_hooks_with_it():
    net = fc_net()
    run = watch(net, sgd(net))
    assert hooks_of(net) > 0
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None
    assert hooks_of(net) == 0


def test_p21_an_interrupt_in_a_pass_leaves_no_hook_behind():
    class Interrupted(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    net = nn.Sequential(fc_net(), Interrupted())
    optimizer = sgd(net)
    with pytest.raises(KeyboardInterrupt), watch(net, optimizer, grads=True, params=True):
        net(vectors())
    assert hooks_of(net) == 0
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks


def test_p21_a_registration_that_fails_half_way_is_rolled_back():
    class Stubborn(nn.Linear):
        def register_forward_hook(self, *args, **kwargs):
            raise RuntimeError("no hooks here")

    net = built(lambda: nn.Sequential(nn.Linear(8, 8), Stubborn(8, 8)))
    with pytest.raises(RuntimeError, match="no hooks here"):
        watch(net)
    assert hooks_of(net) == 0


def test_p21_nested_recorders_may_end_in_any_order_and_leave_others_hooks():
    net = fc_net()
    mine = net[0].register_forward_hook(lambda *_: None)
    first, second = watch(net, stats="mean"), watch(net, stats="std")
    net(vectors())
    first.close()
    net(vectors())
    second.close()
    second.close()
    assert (len(first.frame("mean", layer="0")), len(second.frame("std", layer="0"))) == (1, 2)
    assert hooks_of(net) == 1
    mine.remove()


def test_p23_memory_is_flat_and_no_output_is_kept():
    net, x, y = fc_net(), vectors(), labels()
    optimizer = sgd(net)
    with watch(net, optimizer, grads=True, params=True, keep=50) as run:
        run._measurements.capacity = 4096
        train(net, optimizer, x, y, steps=300)
        gc.collect()
        tracemalloc.start()
        train(net, optimizer, x, y, steps=100)
        gc.collect()
        start = tracemalloc.get_traced_memory()[0]
        train(net, optimizer, x, y, steps=600)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - start
        tracemalloc.stop()
        out = net(x)
        alive = weakref.ref(out)
        del out
        assert alive() is None
    assert grown < 400_000
    steps = run.frame()["step"]
    assert steps.max() - steps.min() < 300


def test_p25_a_replaced_layer_is_reported():
    net = fc_net()
    optimizer = sgd(net)
    with watch(net, optimizer) as run:
        net[3] = built(lambda: nn.Linear(16, 3))
        with pytest.warns(WatchWarning, match="3 was replaced after watch"):
            train(net, optimizer, vectors(), labels())
    seen = set(run.frame("mean")["layer"])
    assert "0" in seen
    assert "3" not in seen


def test_p26_passes_that_are_neither_training_nor_evaluation_are_left_alone():
    net = fc_net(nn.ReLU)
    with watch(net, every={"train": 1, "eval": 1}) as run:
        with torch.no_grad():
            net(vectors())
        with torch.inference_mode():
            net(vectors())
        net.eval()
        torch.func.vmap(net)(torch.stack([vectors()] * 2))
        with torch.inference_mode():
            net(vectors())
        net.train()(vectors())
    assert run.frame("mean", layer="0")["mode"].tolist() == ["eval", "train"]
    assert run.recording().notes[0][2] == "it is inside a function transform such as vmap"


def test_p26_a_torchscript_module_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.ReLU(), torch.ones(2))
    with pytest.raises(WatchError, match="runs no Python hooks"):
        watch(scripted)


def test_p26_symbolic_tracing_works_while_watched():
    net = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.ReLU())
    with watch(net):
        graph = torch.fx.symbolic_trace(net)
    assert [node.op for node in graph.graph.nodes].count("call_module") == 2


def test_p27_an_empty_recording_explains_itself():
    net = fc_net()
    with watch(net, sgd(net)) as run:
        pass
    with pytest.raises(WatchError) as error:
        run.frame()
    assert str(error.value) == (
        "nothing was recorded in 0 steps of layers 0, 1, 2, 3: no pass of a watched model was due; "
        "were they in eval mode, under no_grad, through a copy, or compiled before watch()?"
    )


def test_p27_a_step_without_a_watched_pass_warns():
    net, other = fc_net(), fc_net()
    optimizer = sgd(net)
    with (
        watch(net, optimizer) as run,
        pytest.warns(WatchWarning, match="no watched layer was called before step 0"),
    ):
        train(other, optimizer, vectors(), labels())
    with pytest.raises(WatchError) as refusal:
        run.frame()
    assert str(refusal.value).startswith("nothing was recorded in 1 steps")


def test_p28_on_steps_not_due_no_tensor_operation_runs():
    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.calls += 1
            return function(*args, **(kwargs or {}))

    def operations(run_in):
        net = fc_net()
        optimizer = sgd(net)
        with run_in(net, optimizer), Count() as count:
            train(net, optimizer, vectors(), labels())
        return count.calls

    silent = operations(lambda n, o: watch(n, o, every="never", grads=True, params=True))
    assert silent == operations(lambda n, o: torch.enable_grad())


def test_a_statistic_that_fails_is_turned_off_and_training_goes_on():
    @statistic
    def picky(x):
        raise ValueError("not this one")

    net = fc_net()
    with watch(net, stats=["mean", picky, "std"], layers="0", bn=False) as run:
        with pytest.warns(
            WatchWarning, match="0, step 0: 'picky' is off from here: ValueError: not this one"
        ):
            net(vectors())
        net(vectors())
    assert np.isnan(value(run, "picky", "0")).all()
    assert np.isfinite(value(run, "std", "0")).all()
