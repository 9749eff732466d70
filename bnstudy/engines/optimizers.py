"""Optimizers by the word of a config: torch's."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from bnstudy.config import RunConfig
from bnstudy.errors import ConfigError
from bnstudy.registry import Registry

OPTIMIZERS: Registry[torch.optim.Optimizer] = Registry("optimizer", ("config", "parameters"))
register_optimizer = OPTIMIZERS.register


def make_optimizer(config: RunConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer of a config.

    Raises
    ------
    ConfigError
        If the word is unknown, an option is impossible, or the factory returns something else.
    """
    made = OPTIMIZERS.make(config.optimizer, config, list(parameters))
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(
            f"the factory of optimizer {config.optimizer!r} must return a torch optimizer, "
            f"got {type(made).__name__}"
        )
    return made


def check_optimizer(config: RunConfig) -> None:
    """Refuse a config whose optimizer cannot be made, before anything is trained.

    Raises
    ------
    ConfigError
        As :func:`make_optimizer`.
    """
    if config.optimizer != "sgd":  # whose settings RunConfig checks; making one takes seconds
        make_optimizer(config, [nn.Parameter(torch.zeros(1))])


@OPTIMIZERS.register("sgd")
def _sgd(
    config: RunConfig, parameters: list[nn.Parameter], *, nesterov: int = 0
) -> torch.optim.Optimizer:
    if nesterov not in (0, 1) or (nesterov and not config.momentum):
        raise ConfigError(
            f"nesterov must be 0, or 1 with momentum above 0, got {nesterov!r} with "
            f"momentum {config.momentum}"
        )
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=bool(nesterov),
    )


def _adaptive(kind: type[torch.optim.Adam]) -> Callable[..., torch.optim.Optimizer]:
    """Return the factory of Adam or of a variant with the same options."""

    def make(
        config: RunConfig,
        parameters: list[nn.Parameter],
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> torch.optim.Optimizer:
        if config.momentum:
            raise ConfigError(
                f"momentum is a setting of sgd, got {config.momentum} with {config.optimizer!r}: "
                "give beta1 instead"
            )
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and eps > 0):
            raise ConfigError(
                f"beta1 and beta2 must be in [0, 1) and eps above 0, got {beta1}, {beta2} and {eps}"
            )
        return kind(
            parameters,
            lr=config.learning_rate,
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=config.weight_decay,
        )

    return make


OPTIMIZERS.register("adam")(_adaptive(torch.optim.Adam))
OPTIMIZERS.register("adamw")(_adaptive(torch.optim.AdamW))
