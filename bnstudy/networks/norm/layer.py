"""Batch normalization as a layer, and its conversion from and to torch's."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnstudy.errors import ConfigError
from bnstudy.networks.norm.functional import VARIANCES, batch_norm, bessel, moved


def check_numbers(eps: object, momentum: object) -> None:
    """Refuse an eps or a momentum that no batch can be normalized with.

    Raises
    ------
    ConfigError
        If eps is not finite and at least 0, or momentum not in [0, 1].
    """
    for name, value, bounds, high in (
        ("eps", eps, "finite and at least 0", math.nextafter(math.inf, 0.0)),
        ("momentum", momentum, "in [0, 1]", 1.0),
    ):
        if not isinstance(value, int | float) or not 0 <= value <= high:
            raise ConfigError(f"{name} must be a number {bounds}, got {value!r}")


class BatchNorm(nn.Module):
    """Batch normalization as a layer, on :func:`batch_norm`.

    Unlike in the notes' layer, the moving moments are buffers, saved and moved
    with the module, and ``self.training`` alone decides the mode.

    Parameters
    ----------
    num_features
        Channels C.
    eps
        Added to the variance.
    momentum
        Weight of a moving value in [0, 1].
    momentum_of
        Whether ``momentum`` weighs the ``old`` value (notes) or the ``new``
        one (torch): 0.9 of the old is 0.1 of the new.
    variance
        Variance that enters the moving one: ``biased`` (notes) or
        ``unbiased`` (torch).
    affine
        Whether gamma and beta are there to be learned.

    Attributes
    ----------
    gamma, beta
        Parameters (C,), at first 1 and 0; None without ``affine``.
    moving_mean, moving_var
        Buffers (C,), at first 0 and 1.

    Raises
    ------
    ConfigError
        If an argument is impossible; on a batch as in :func:`batch_norm`.
    """

    moving_mean: Tensor
    moving_var: Tensor
    evaluates_as_torch = True  # False for relatives that only centre or only divide

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.9,
        momentum_of: str = "old",
        variance: str = "biased",
        affine: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(num_features, int) or num_features < 1:
            raise ConfigError(
                f"num_features must be an integer of at least 1, got {num_features!r}"
            )
        check_numbers(eps, momentum)
        if momentum_of not in ("old", "new") or variance not in VARIANCES:
            raise ConfigError(
                "momentum_of must be 'old' or 'new' and variance 'biased' or 'unbiased', "
                f"got {momentum_of!r} and {variance!r}"
            )
        self.num_features, self.eps, self.variance = num_features, eps, variance
        self.momentum, self.momentum_of = momentum, momentum_of
        self.gamma = nn.Parameter(torch.ones(num_features)) if affine else None
        self.beta = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("moving_mean", torch.zeros(num_features))
        self.register_buffer("moving_var", torch.ones(num_features))

    @property
    def keep(self) -> float:
        """Weight of the old moving value, whichever way ``momentum`` was given."""
        return self.momentum if self.momentum_of == "old" else 1.0 - self.momentum

    def forward(self, X: Tensor) -> Tensor:
        """Normalize X (N, C, ...); in training by its own moments, which are also averaged."""
        Y, mean, var = batch_norm(
            X,
            self.gamma,
            self.beta,
            self.moving_mean,
            self.moving_var,
            eps=self.eps,
            momentum=self.keep,
            training=self.training,
            variance=self.variance,
        )
        if self.training:
            self._store(mean, var)
        return Y

    @torch.no_grad()
    def take_moments(self, mean: Tensor, var: Tensor) -> None:
        """Continue from moving moments (C,) computed elsewhere."""
        self._store(mean, var)

    def _store(self, mean: Tensor, var: Tensor) -> None:
        self.moving_mean.copy_(mean)
        self.moving_var.copy_(var)

    def _average(self, X: Tensor, mean: Tensor, var: Tensor) -> None:
        """Move the moving moments towards those of a batch X."""
        var = var * bessel(X, self.variance)
        self._store(
            moved(self.moving_mean, mean, self.keep), moved(self.moving_var, var, self.keep)
        )

    def extra_repr(self) -> str:
        """Name the conventions when the layer is printed."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"momentum_of={self.momentum_of!r}, variance={self.variance!r}"
        )

    @classmethod
    def from_torch(cls, module: nn.Module, **options: Any) -> Self:
        """Return the layer that computes the same as one of torch's batch norms.

        Weights and whether they are learned, moving moments, eps, momentum
        (torch's convention, as ``momentum_of`` ``new``), the unbiased moving
        variance, mode, dtype and device carry over; later changes of one do
        not affect the other.  Torch's count of batches is not carried over: an
        exponential average does not use it.

        Parameters
        ----------
        module
            A ``BatchNorm1d``, ``2d`` or ``3d``.
        **options
            Options of a relative, such as the ``size`` of ghost BN.

        Raises
        ------
        ConfigError
            If the module is not a batch norm, has no moving average to carry over, or
            this class only centres or only divides.
        """
        if not cls.evaluates_as_torch:
            raise ConfigError(f"{cls.__name__} does less than a batch norm of torch's")
        if not isinstance(module, _BatchNorm) or isinstance(module, nn.SyncBatchNorm):
            raise ConfigError(
                f"only torch's BatchNorm1d, 2d and 3d convert, got {type(module).__name__}"
            )
        if module.running_mean is None or module.running_var is None or module.momentum is None:
            raise ConfigError(
                "only a batch norm with an exponential moving average converts, got "
                f"track_running_stats={module.track_running_stats}, momentum={module.momentum}"
            )
        layer = cls(
            module.num_features,
            eps=module.eps,
            momentum=module.momentum,
            momentum_of="new",
            variance="unbiased",
            affine=module.affine,
            **options,
        )
        layer.to(module.running_mean.device, module.running_mean.dtype).train(module.training)
        with torch.no_grad():
            # not a plain copy: a relative may have to note that these moments are no start
            layer.take_moments(module.running_mean, module.running_var)
            _copy_parameters((module.weight, module.bias), (layer.gamma, layer.beta))
        return layer

    def to_torch(self, num_dims: int = 4) -> _BatchNorm:
        """Return the batch norm of torch that computes the same as this layer.

        Parameters
        ----------
        num_dims
            Axes of the input: 2 or 3 for ``BatchNorm1d``, 4 for ``2d``, 5 for ``3d``.

        Raises
        ------
        ConfigError
            In training mode, if the layer averages the biased variance, which torch
            cannot, or is a relative that torch does not have.  In evaluation mode all
            of these compute the same and convert, except the relatives that only
            centre or only divide: they never convert.
        """
        kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
        if num_dims not in kinds:
            raise ConfigError(f"num_dims must be 2, 3, 4 or 5, got {num_dims!r}")
        if not self.evaluates_as_torch:
            raise ConfigError(f"torch has no layer that does what {type(self).__name__} does")
        if self.training and type(self) is not BatchNorm:
            raise ConfigError(
                f"torch has no layer that trains as {type(self).__name__} does: call .eval() first"
            )
        if self.variance == "biased" and self.training:
            raise ConfigError(
                "torch averages the unbiased variance only, this layer the biased one: "
                "call .eval() first, or make it with variance='unbiased'"
            )
        new = self.momentum if self.momentum_of == "new" else 1.0 - self.momentum
        layer = kinds[num_dims](
            self.num_features, eps=self.eps, momentum=new, affine=self.gamma is not None
        )
        layer.to(self.moving_mean.device, self.moving_mean.dtype).train(self.training)
        with torch.no_grad():
            layer.running_mean.copy_(self.moving_mean)  # type: ignore[union-attr]
            layer.running_var.copy_(self.moving_var)  # type: ignore[union-attr]
            _copy_parameters((self.gamma, self.beta), (layer.weight, layer.bias))
        return layer


def _copy_parameters(
    sources: tuple[nn.Parameter | None, ...], targets: tuple[nn.Parameter | None, ...]
) -> None:
    for source, target in zip(sources, targets, strict=True):
        if source is not None and target is not None:
            target.copy_(source)
            target.requires_grad_(source.requires_grad)
