"""Where hooks of other tools record wrongly, measured: each row runs what the tool does.

The hooks are written again here, a few lines each, from the sources of fastai
(``callback/hook.py``), tensor_tracker, Composer (``ActivationMonitor``) and delve; the
tools themselves are not needed.  A row that names none is what any plain hook does.
Beside each stands what ``bnstudy.activations`` records of the same pass; the tests of the
same number in ``tests/activations`` hold it to that.

Run it: ``python -m benchmarks.hook_faults`` (seconds).
"""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bnstudy.activations import watch

Row = tuple[str, str, str, str]


def _normal(count: int = 100_000) -> Tensor:
    return torch.randn(count, 1, generator=torch.Generator().manual_seed(0))


def _value(run: Any, stat: str) -> float:
    return float(run.frame(stat)["value"].iloc[0])


def near_zero() -> Row:
    """P8: fastai counts ``o <= 0.05``, negative values too."""
    x = _normal()
    with watch(nn.Identity(), layers=nn.Identity, stats="near_zero", every=1) as run:
        run._model(x.requires_grad_())
    theirs = (x <= 0.05).float().mean().item()
    return (
        "P8",
        "fastai: near-zero share of normal values",
        f"{theirs:.3f}",
        f"{_value(run, 'near_zero'):.3f}",
    )


def histogram() -> Row:
    """P8: fastai bins 0..10 and loses what is outside."""
    x = _normal()
    kept = x.histc(40, 0, 10).sum().item() / x.numel()
    with watch(nn.Identity(), layers=nn.Identity, stats="histogram") as run:
        run._model(x)
    ours = run.frame()["value"].sum()
    return "P8", "fastai: share of normal values in the histogram", f"{kept:.3f}", f"{ours:.3f}"


def shared() -> Row:
    """P5: a hook object that stores its last call."""
    net = nn.Sequential(layer := nn.Linear(3, 3), layer)
    stored: list[Any] = [None]

    def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
        stored[0] = output.mean().item()

    handle = layer.register_forward_hook(hook)
    net(torch.ones(2, 3))
    handle.remove()
    with watch(net, layers="0", stats="mean") as run:
        net(torch.ones(2, 3))
    ours = len(run.frame("mean"))
    return "P5", "fastai: calls kept of a module called twice", str(len(stored)), str(ours)


def in_place() -> Row:
    """P15: tensor_tracker's backward pre-hooks before an in-place module."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 1))

    net = make()
    for module in net.modules():
        module.register_full_backward_pre_hook(lambda _module, _gradients: None)
    theirs = _outcome(lambda: net(torch.ones(2, 3)).sum().backward())
    net = make()
    with watch(net, grads=True, stats="mean") as run:
        outcome = _outcome(lambda: net(torch.ones(2, 3)).sum().backward())
    count = len(run.frame("mean", tensor="grad"))
    return (
        "P15",
        "tensor_tracker, grad=True, before ReLU(inplace)",
        theirs,
        f"{outcome}, {count} gradients",
    )


def batch_axis() -> Row:
    """P13: Composer enumerates an output, and so the images of a batch."""
    output = torch.ones(7, 3)
    theirs = len([value for _, value in enumerate(output)])
    with watch(nn.Identity(), layers=nn.Identity, stats="mean") as run:
        run._model(output)
    return (
        "P13",
        "Composer: measurements of one output of 7 images",
        str(theirs),
        str(len(run.frame())),
    )


def left_behind() -> Row:
    """P21: delve registers hooks and drops their handles; ``close`` closes its writer."""
    net = nn.Linear(2, 2)
    net.register_forward_hook(lambda *_: None)
    theirs = len(net._forward_hooks)
    net = nn.Linear(2, 2)
    watch(net).close()
    ours = len(net._forward_hooks) + len(net._forward_pre_hooks)
    return "P21", "delve: hooks left on a layer after the end", str(theirs), str(ours)


def pickled() -> Row:
    """P19: a model with a closure as a hook cannot be saved."""
    net = nn.Linear(2, 2)
    net.register_forward_hook(lambda *_: None)
    theirs = _outcome(lambda: pickle.dumps(net))
    net = nn.Linear(2, 2)
    with watch(net):
        ours = _outcome(lambda: pickle.dumps(net))
    return "P19", "a closure as a hook: saving the model meanwhile", theirs, ours


def half() -> Row:
    """P9: a mean square in the dtype of autocast."""
    x = torch.full((1000, 1), 300.0, dtype=torch.float16)
    theirs = x.square().mean().sqrt().item()
    with watch(nn.Identity(), layers=nn.Identity, stats="rms") as run:
        run._model(x)
    return "P9", "squares in float16: rms of 300", f"{theirs:.0f}", f"{_value(run, 'rms'):.0f}"


def compiled_before() -> Row:
    """P2: hooks put on after compiled code has run are not called."""
    net = torch.compile(nn.Sequential(nn.Linear(2, 2)), backend="eager")
    net(torch.ones(1, 2))
    calls: list[int] = []
    net._orig_mod[0].register_forward_hook(lambda *_: calls.append(1))
    net(torch.ones(1, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(net, optimizer) as run:
        message = _outcome(lambda: (net(torch.ones(1, 2)).sum().backward(), optimizer.step()))
    ours = message if message != "works" else f"{len(run.frame('mean'))} calls"
    return "P2", "any hook put on after compiled code ran: calls seen", str(len(calls)), ours


def _outcome(run: Callable[[], Any]) -> str:
    """Return ``works``, or the beginning of the warning or error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            run()
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:60]}..."
    return "works"


CASES = (
    near_zero, histogram, shared, in_place, batch_axis, left_behind, pickled, half, compiled_before,
)  # fmt: skip


def main() -> None:
    """Run all cases and print the table."""
    print(f"torch {torch.__version__}\n")
    print("| pitfall | case | like the tool | bnstudy |\n|---|---|---|---|")
    for case in CASES:
        print("| " + " | ".join(case()) + " |")


if __name__ == "__main__":
    main()
