"""Random numbers of a numpy stream that activation checkpointing draws again.

Activation checkpointing (``torch.utils.checkpoint``) runs a forward pass a second time
in the backward pass.  It puts torch's generators back first, so that ``nn.Dropout``
draws the same mask, but it knows nothing of a numpy stream.  A layer that draws from one
asks :func:`repeated_by_checkpoint` for its generator:

- in a forward pass that may be run again it draws one number, the ticket, from torch's
  global CPU generator, and keeps the state of its stream under it;
- in a backward pass it draws the ticket again, finds the state under it, and draws the
  same numbers from a copy of the stream.

So the gradients are those without checkpointing, and the stream ends where it would be
without.  A forward pass that is not checkpointed leaves torch's generator alone.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch

from bnstudy.errors import ConfigError

# Forward passes of layers that may be recomputed; a copied generator takes about 1 KB.
REMEMBERED = 10_000


@dataclass
class _ForwardPass:
    """A forward pass of a layer that may be recomputed.

    Attributes
    ----------
    rng
        Its stream, kept so that no other object gets the same id.
    before
        Copy of the stream as it was.
    recomputed
        True once a backward pass has asked for it.
    unique
        False if another one began with the same state of torch's generator.
    """

    rng: np.random.Generator
    before: np.random.Generator
    recomputed: bool = False
    unique: bool = True


# by the id of the stream and the ticket, the oldest first
_forward_passes: OrderedDict[tuple[int, int], _ForwardPass] = OrderedDict()


def repeated_by_checkpoint(rng: np.random.Generator) -> np.random.Generator:
    """Return the generator that a layer draws from in this forward pass.

    It is ``rng``, or in the recomputation of a forward pass a copy of ``rng`` as it was
    then.  One call per forward pass of a layer; any number of layers may share a stream,
    checkpoints may be nested and any number of batches under way.

    Parameters
    ----------
    rng
        Stream of the layer.

    Raises
    ------
    ConfigError
            In a backward pass, if the forward pass is not known: the checkpoint was made with
        ``preserve_rng_state=False``, or is not among the last :data:`REMEMBERED`, or
        another one was under way that began with the same state of torch's generator.
    """
    if in_backward():
        return _found(rng)
    if may_be_recomputed():
        key = id(rng), _ticket()
        earlier = _forward_passes.pop(key, None)
        unique = earlier is None or earlier.recomputed
        _forward_passes[key] = _ForwardPass(rng, copy.deepcopy(rng), unique=unique)
        while len(_forward_passes) > REMEMBERED:
            _forward_passes.popitem(last=False)
    return rng


def _found(rng: np.random.Generator) -> np.random.Generator:
    """Return a copy of a stream as it was in the forward pass that is recomputed."""
    known = _forward_passes.get((id(rng), _ticket()))
    if known is None:
        raise ConfigError(
            "random numbers are repeated in a backward pass only for one of the last "
            f"{REMEMBERED:,} checkpointed forward passes, and this is none of them: "
            "call checkpoint with preserve_rng_state=True"
        )
    if not known.unique:
        raise ConfigError(
            "forward passes that are checkpointed are told apart by torch's generator, and two "
            "began with the same state of it: seed it once, not before each forward pass"
        )
    known.recomputed = True
    return copy.deepcopy(known.before)  # a nested checkpoint may ask for it once more


def refuse_recomputation(reason: str) -> None:
    """Refuse a forward pass inside a backward pass.

    Raises
    ------
    ConfigError
        With the reason for which it would not compute the same again.
    """
    if not torch.compiler.is_compiling() and in_backward():
        raise ConfigError(
            f"a checkpoint must compute the same again, but {reason}: "
            "leave the layer out of the checkpoint"
        )


def in_backward() -> bool:
    """Return True inside a backward pass, where a forward pass is a recomputation."""
    return torch._C._current_graph_task_id() != -1


def may_be_recomputed() -> bool:
    """Return True in a forward pass that a checkpoint may be around.

    A checkpoint with ``use_reentrant=True`` disables gradients, one with ``False``
    registers hooks for saved tensors; whoever else does so costs a ticket and no more.
    """
    if torch.is_inference_mode_enabled():  # what it computes has no backward pass
        return False
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None or not torch.is_grad_enabled()


def _ticket() -> int:
    # the only state that a checkpoint restores on every device
    return int(torch.randint(2**62, (), dtype=torch.int64, device="cpu"))
