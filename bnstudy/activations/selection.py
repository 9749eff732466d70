"""Selection of layers by name, pattern, type, predicate or module."""

import ast
import fnmatch
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from bnstudy.errors import WatchError, unknown

Pattern = str | re.Pattern[str] | type[nn.Module] | nn.Module | Callable[[str, nn.Module], bool]
Layers = Pattern | Iterable[Pattern] | None

PASSES_ON = (nn.Identity, nn.Flatten, nn.Unflatten)
FUNCTIONAL = ("F", "functional", "torch")


@dataclass(frozen=True)
class Target:
    """A layer to watch.

    Attributes
    ----------
    name
        As in ``model.named_modules()`` of the unwrapped model; the model
        itself is ``(model)``.  With ``[7]`` after it if one unit is watched.
    module
        The module.
    unit
        Index on axis 1 to watch alone, or None for all.
    """

    name: str
    module: nn.Module
    unit: int | None = None


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside ``torch.compile``, DDP and DataParallel wrappers.

    Raises
    ------
    WatchError
        If it is spread over several devices by DataParallel.
    """
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise WatchError(
            "a model under DataParallel with several devices cannot be watched, its replicas "
            f"live for one pass (device_ids={model.device_ids}): use DistributedDataParallel"
        )
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if hasattr(model, "_orig_mod"):
        return unwrap(model._orig_mod)  # type: ignore[arg-type]
    return unwrap(model.module) if isinstance(model, wrappers) else model


def named(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module and its name, each once, wrappers of parts taken off the names."""
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod"):  # a wrapper: the module inside comes next
            continue
        clean = ".".join(part for part in name.split(".") if part != "_orig_mod")
        yield clean or "(model)", module


def is_leaf(module: nn.Module) -> bool:
    """Return whether a module holds no others, or none that is ever called."""
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return False  # the output projection inside an attention module
    return not any(module.children()) or isinstance(module, nn.MultiheadAttention)


def _fits(pattern: Pattern, name: str, module: nn.Module) -> bool:
    if isinstance(pattern, str):
        return fnmatch.fnmatchcase(name, pattern)
    if isinstance(pattern, re.Pattern):
        return pattern.search(name) is not None
    if isinstance(pattern, type):
        return isinstance(module, pattern)
    if isinstance(pattern, nn.Module):
        return module is unwrap(pattern)
    return bool(pattern(name, module))


def _of_pattern(pattern: Pattern, modules: list[tuple[str, nn.Module]]) -> list[Target]:
    unit = None
    if isinstance(pattern, str) and (found := re.fullmatch(r"(.+)\[(\d+)\]", pattern)):
        pattern, unit = found[1], int(found[2])
    suffix = "" if unit is None else f"[{unit}]"
    return [Target(n + suffix, m, unit) for n, m in modules if _fits(pattern, n, m)]


def select(model: nn.Module, layers: Layers = None) -> list[Target]:
    """Return the layers to watch, in the order of the model.

    Parameters
    ----------
    model
        Any module; wrappers are looked through.
    layers
        A glob (``"fc*"``, matched against whole names), a compiled regular
        expression (searched in names), a type, a module, a predicate of name
        and module, or several of these.  ``"fc3.act[7]"`` is unit 7 of a
        layer.  None for the leaves, but for those that pass their input on.

    Raises
    ------
    WatchError
        If a pattern matches nothing.
    """
    modules = list(named(unwrap(model)))
    if layers is None:
        leaves = [Target(n, m) for n, m in modules if is_leaf(m) and not isinstance(m, PASSES_ON)]
        return leaves
    single = isinstance(layers, str | re.Pattern | type | nn.Module) or callable(layers)
    patterns: list[Pattern] = [layers] if single else list(layers)  # type: ignore[arg-type,list-item]
    chosen: dict[str, Target] = {}
    for pattern in patterns:
        found = _of_pattern(pattern, modules)
        if not found:
            raise WatchError(_no_match(pattern, [name for name, _ in modules]))
        chosen.update((target.name, target) for target in found)
    order = {name: rank for rank, (name, _) in enumerate(modules)}
    return sorted(
        chosen.values(),
        key=lambda t: (order[t.name.split("[")[0]], t.unit is not None, t.unit or 0),
    )


def _no_match(pattern: Pattern, names: list[str]) -> str:
    if isinstance(pattern, str):
        return unknown("layer", pattern, names)
    given = pattern.__name__ if isinstance(pattern, type) else repr(pattern)
    if isinstance(pattern, nn.Module):
        given = f"the given {type(pattern).__name__}"
    return f"layers must match a layer, {given} matches none: match(model) lists them"


def match(model: nn.Module, layers: Layers = None) -> pd.DataFrame:
    """List every layer, whether it would be watched, and why not.

    Parameters
    ----------
    model, layers
        As in :func:`select`.

    Returns
    -------
    pandas.DataFrame
        Columns ``layer``, ``kind``, ``watched``, ``why``.  ``why`` also names
        operations in a module's own ``forward`` that are functions, not
        modules: they have no layer and only show in the output of theirs.

    Raises
    ------
    WatchError
        If a pattern matches nothing.

    Examples
    --------
    >>> model = nn.Sequential(nn.ReLU(), nn.Flatten())
    >>> match(model).set_index("layer")["why"].to_dict()
    {'(model)': 'holds other layers', '0': '', '1': 'passes its input on'}
    """
    inner = unwrap(model)
    targets = {target.name.split("[")[0] for target in select(model, layers)}
    rows = [
        (name, type(module).__name__, name in targets, _why(name, module, name in targets, layers))
        for name, module in named(inner)
    ]
    shared = [row for row in _aliases(inner) if row[0] not in {name for name, *_ in rows}]
    silent = {f"{n}.out_proj" for n, m in named(inner) if isinstance(m, nn.MultiheadAttention)}
    never = "never called: attention uses its weight in a function"
    rows = [(*row[:2], False, never) if row[0] in silent else row for row in [*rows, *shared]]
    return pd.DataFrame(rows, columns=["layer", "kind", "watched", "why"])


def _why(name: str, module: nn.Module, watched: bool, layers: Layers) -> str:
    functional = _functional(module)
    seen = f"its own {', '.join(functional)} are no layers" if functional else ""
    if watched:
        return seen
    if layers is not None:
        return "; ".join(filter(None, ["not selected", seen]))
    reason = "passes its input on" if isinstance(module, PASSES_ON) else "holds other layers"
    return "; ".join(filter(None, [reason, seen]))


def _aliases(model: nn.Module) -> list[tuple[str, str, bool, str]]:
    first: dict[int, str] = {}
    found = []
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in first:
            why = f"the same object as {first[id(module)]}: recorded there, as another call"
            found.append((name, type(module).__name__, False, why))
        first.setdefault(id(module), name)
    return found


def _functional(module: nn.Module) -> list[str]:
    """Name the functions and sums in a user's ``forward``: none of torch's own modules."""
    if type(module).__module__.startswith("torch.nn"):
        return []
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(type(module).forward)))
    except (OSError, TypeError, SyntaxError):
        return []
    found = [
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in FUNCTIONAL
    ]
    sums = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.AugAssign)]
    direct = [
        f"{ast.unparse(node.func)}()"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "forward"
        and not ast.unparse(node.func.value).startswith("super()")
    ]
    if any(isinstance(node.op, ast.Add) for node in sums):
        found.append("+")
    return list(dict.fromkeys([*found, *direct]))


def compiled(model: nn.Module) -> bool:
    """Return whether a model, or a part of it, was given to ``torch.compile``."""
    return isinstance(model, torch._dynamo.OptimizedModule) or any(
        isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None
        for module in model.modules()
    )
