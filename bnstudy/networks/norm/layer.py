"""Batch normalization as a layer that can stand wherever torch's stands."""

import copy
from numbers import Integral
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from bnstudy.errors import ConfigError
from bnstudy.networks.norm.functional import (
    VARIANCES,
    affine,
    at_least_float32,
    bessel,
    check_input,
    check_numbers,
    moments,
    moved,
    normalize,
)

# The notes' names of the tensors, which torch calls otherwise.
TORCH_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
TORCH_KINDS: dict[int, type[_BatchNorm]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
# What follows from the tensors of a layer that is converted.
FIXED_OPTIONS = ("affine", "bias", "track_running_stats", "device", "dtype")


class BatchNorm(_BatchNorm):
    """Batch normalization as a layer, written out (:func:`batch_norm` is its formula).

    It replaces ``torch.nn.BatchNorm1d``, ``2d`` and ``3d``: inputs of 2 to 5 axes, the
    same tensors under the same names, so that a ``state_dict`` of either loads into the
    other, and the same behaviour on empty batches, in half precision (computed in
    float32) and under autocast, ``torch.compile``, ``torch.export``, ``torch.func`` and
    ``torch.optim.swa_utils.update_bn``.  The conventions of its moving averages are by
    default those of the notes; torch's are ``momentum=0.1, momentum_of="new",
    variance="unbiased"``.

    Parameters
    ----------
    num_features
        Channels C.
    eps
        Added to the variance.
    momentum
        Weight of a moving value in [0, 1]; None to average all batches since the last
        :meth:`reset_running_stats` with equal weights.
    momentum_of
        Value that ``momentum`` weighs: the ``old`` one (notes) or the ``new`` one
        (torch): 0.9 of the old is 0.1 of the new.
    variance
        Variance that enters the moving one: ``biased`` (notes) or
        ``unbiased`` (torch).
    affine
        False for no gamma and beta.
    bias
        False for gamma alone.
    track_running_stats
        False for no moving moments: then the batch's own are used in evaluation too.
    device, dtype
        Of all tensors.

    Attributes
    ----------
    weight, bias
        gamma and beta, parameters (C,), at first 1 and 0; None without ``affine``.
        Also found as ``gamma`` and ``beta``, as in the notes.
    running_mean, running_var
        Buffers (C,), at first 0 and 1.  Also found as ``moving_mean`` and ``moving_var``.
    num_batches_tracked
        Batches averaged so far.

    Raises
    ------
    ConfigError
        If an argument is impossible; on a batch as in :func:`batch_norm`.

    Notes
    -----
    As with torch's layer, activation checkpointing moves the moments twice per step,
    since it runs the forward pass twice.

    ``SyncBatchNorm.convert_sync_batchnorm`` converts layers in torch's conventions and
    refuses the others, which it would let average in another way.  TorchScript, which
    torch has deprecated, is refused: use ``torch.compile`` or ``torch.export``.

    Examples
    --------
    >>> layer, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    >>> theirs.load_state_dict(layer.state_dict())
    <All keys matched successfully>
    """

    weight: nn.Parameter | None  # type: ignore[assignment]  # as torch's are without affine
    bias: nn.Parameter | None  # type: ignore[assignment]
    momentum_of: str
    variance: str
    evaluates_as_torch = True  # False for relatives that only centre or only divide
    needs_running_stats = False  # True for relatives that train by the moving moments
    torch_kind: type[_BatchNorm] | None = None  # class that the layer was converted from

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.9,
        momentum_of: str = "old",
        variance: str = "biased",
        affine: bool = True,
        bias: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(num_features, Integral) or num_features < 1:
            raise ConfigError(
                f"num_features must be an integer of at least 1, got {num_features!r}"
            )
        check_numbers(eps, 0.0 if momentum is None else momentum)
        if momentum_of not in ("old", "new") or variance not in VARIANCES:
            raise ConfigError(
                "momentum_of must be 'old' or 'new' and variance 'biased' or 'unbiased', "
                f"got {momentum_of!r} and {variance!r}"
            )
        if self.needs_running_stats and not track_running_stats:
            raise ConfigError(
                f"{type(self).__name__} trains by its moving moments, "
                "got track_running_stats=False: leave it out"
            )
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:
            self.bias = None
        self.momentum_of, self.variance = momentum_of, variance

    # Tensors by the notes' names --------------------------------------------------------

    @property
    def gamma(self) -> nn.Parameter | None:
        """The scale, torch's ``weight``."""
        return self.weight

    @property
    def beta(self) -> nn.Parameter | None:
        """The shift, torch's ``bias``."""
        return self.bias

    @property
    def moving_mean(self) -> Tensor:
        """The moving mean, torch's ``running_mean``."""
        return self.running_mean  # type: ignore[return-value]

    @property
    def moving_var(self) -> Tensor:
        """The moving variance, torch's ``running_var``."""
        return self.running_var  # type: ignore[return-value]

    def __setattr__(self, name: str, value: Any) -> None:
        # not by setters of the properties: nn.Module registers a Parameter before it asks them
        super().__setattr__(TORCH_NAMES.get(name, name), value)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # checkpoints from before the tensors had torch's names
        for old, new in {**TORCH_NAMES, "steps": "num_batches_tracked"}.items():
            if prefix + old in state_dict:
                state_dict.setdefault(prefix + new, state_dict.pop(prefix + old))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def reset_parameters(self) -> None:
        """Set gamma to 1, beta to 0 and the moving moments to their start."""
        self.reset_running_stats()
        # torch's own goes by ``affine``, but mean-only BN has a beta and no gamma
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    # Forward ----------------------------------------------------------------------------

    @property
    def keep(self) -> float | None:
        """Weight of the old moving value, whichever way ``momentum`` was given; or None."""
        if self.momentum is None:
            return None
        return self.momentum if self.momentum_of == "old" else 1.0 - self.momentum

    @property
    def uses_batch(self) -> bool:
        """True if the layer now normalizes by its batch, not by moving moments."""
        return self.training or self.running_mean is None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize a batch (N, C, ...); in training by its own moments, which are averaged.

        Returns
        -------
        Tensor
            Of the shape and dtype of the input.
        """
        check_input(input, self.num_features, training=self.uses_batch)
        if self.needs_running_stats and self.running_mean is None:
            raise ConfigError(f"{type(self).__name__} normalizes by its moving moments: keep them")
        return self._normalized(at_least_float32(input)).to(input.dtype)

    def _normalized(self, X: Tensor) -> Tensor:
        """Return the output for a checked input, in the dtype that is computed in."""
        return affine(normalize(X, *self._moments(X), self.eps), self.weight, self.bias)

    def _moments(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,): the moving ones, or the batch's, which are averaged."""
        if not self.uses_batch:
            return self.moving_mean, self.moving_var
        mean, var = moments(X)
        self._average(X, mean, var * bessel(X, self.variance))
        return mean, var

    @torch.no_grad()
    def _average(self, X: Tensor, mean: Tensor, var: Tensor) -> None:
        """Count a batch X, and move the moving moments towards this mean and variance."""
        if not self.training or not self.track_running_stats or self.running_mean is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        # the mean of no values is NaN, which a moving average would never forget
        if X.numel() > 0:
            keep = self._weight_of_old()
            self.moving_mean.copy_(moved(self.moving_mean, mean, keep))
            self.moving_var.copy_(moved(self.moving_var, var, keep))

    def _weight_of_old(self) -> float | Tensor:
        """Return the weight of the old moving value, the current batch already counted."""
        return 1.0 - 1.0 / self._batches() if self.keep is None else self.keep

    def _batches(self) -> Tensor:
        """Return the number of batches averaged, as a float tensor."""
        # A tensor: a Python number would wait for the GPU in every step.  In float64, the
        # precision of Python's floats: in float32, 1 - 0.9^n would be off by up to 1e-7.
        count: Tensor = self.num_batches_tracked  # type: ignore[assignment]
        return count.to(torch.float32 if count.device.type == "mps" else torch.float64)

    @torch.no_grad()
    def take_moments(self, mean: Tensor, var: Tensor) -> None:
        """Continue from moving moments (C,) computed elsewhere."""
        self.moving_mean.copy_(mean)
        self.moving_var.copy_(var)

    def extra_repr(self) -> str:
        """Name the conventions when the layer is printed, and what the layer lacks."""
        options = {
            "affine": self.weight is not None or self.bias is not None,
            "track_running_stats": self.track_running_stats,
        }
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"momentum_of={self.momentum_of!r}, variance={self.variance!r}"
            + "".join(f", {name}=False" for name, value in options.items() if not value)
        )

    # Conversion -------------------------------------------------------------------------

    @classmethod
    def from_torch(cls, module: nn.Module, *, inplace: bool = False, **options: Any) -> Self:
        """Return the layer that computes the same as one of torch's batch norms.

        Its tensors and hooks, eps, momentum (in torch's convention), the unbiased
        moving variance and the mode carry over.

        Parameters
        ----------
        module
            A ``BatchNorm1d``, ``2d`` or ``3d``, or of a subclass with their forward pass.
        inplace
            False to convert a copy, so that later changes of one do not affect the
            other; True to turn the module itself into the layer, so that optimizers
            and whoever else holds the module or its parameters go on with the layer.
        **options
            Options of the layer that are to differ, such as ``variance``, or that a
            relative adds, such as the ``size`` of ghost BN.

        Raises
        ------
        ConfigError
            If the module cannot be converted, or an option is impossible.
        """
        template = cls.check_from_torch(module, options)
        layer: Any = module if inplace else copy.deepcopy(module)
        # only the options of the template: its tensors and hooks stay those of the module
        settings = {k: v for k, v in vars(template).items() if not k.startswith("_")}
        settings |= {"training": module.training, "torch_kind": type(module)}
        layer.__class__ = cls  # as torch does when a lazy module gets its shape
        layer.__dict__.update(settings)
        if layer.running_mean is not None:
            # a relative may have to note that these moments are no start
            layer.take_moments(layer.running_mean, layer.running_var)
        return layer

    @classmethod
    def check_from_torch(cls, module: nn.Module, options: dict[str, Any]) -> Self:
        """Return the layer that a module would become, without memory for its tensors.

        Raises
        ------
        ConfigError
            As :meth:`from_torch`.
        """
        if not cls.evaluates_as_torch:
            raise ConfigError(f"{cls.__name__} does less than a batch norm of torch's")
        if (
            not isinstance(module, _BatchNorm)
            or type(module).forward is not _BatchNorm.forward
            or "forward" in vars(module)
        ):
            raise ConfigError(
                "only torch's BatchNorm1d, 2d and 3d with their own forward pass convert, "
                f"got {type(module).__name__}"
            )
        if isinstance(module, LazyModuleMixin):
            raise ConfigError(
                f"only a layer of known size converts, got {type(module).__name__}: "
                "run the model on a batch first"
            )
        tensors = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
        added = sorted({*module._parameters, *module._buffers, *module._modules} - tensors)
        if added:  # the weight is computed from them
            raise ConfigError(
                f"a layer that was pruned or parametrized does not convert, got {added[0]!r} in "
                f"{type(module).__name__}: remove it first"
            )
        fixed = [name for name in FIXED_OPTIONS if name in options]
        if fixed:
            raise ConfigError(f"{fixed[0]!r} stays that of the converted layer: leave it out")
        settings: dict[str, Any] = {
            "eps": module.eps,
            "momentum": module.momentum,
            "momentum_of": "new",
            "variance": "unbiased",
            "affine": module.affine,
            "track_running_stats": module.track_running_stats,
        }
        try:
            return cls(module.num_features, device="meta", **settings | options)
        except TypeError as error:  # an unknown option, or one that is missing
            raise ConfigError(f"{cls.__name__} cannot be made: {error}") from None

    def to_torch(self, num_dims: int | None = None, *, inplace: bool = False) -> _BatchNorm:
        """Return the batch norm of torch that computes the same as this layer.

        Parameters
        ----------
        num_dims
            Axes of the input: 2 or 3 for ``BatchNorm1d``, 4 for ``2d``, 5 for ``3d``.
            By default those of the batch norm that the layer was made from.
        inplace
            As in :meth:`from_torch`.

        Raises
        ------
        ConfigError
            In training mode, if the layer averages the biased variance, which torch
            cannot, or is a relative that torch does not have.  In evaluation mode all
            of these compute the same and convert, except the relatives that only
            centre or only divide: they never convert.
        """
        if num_dims is not None and num_dims not in TORCH_KINDS:
            raise ConfigError(f"num_dims must be 2, 3, 4 or 5, got {num_dims!r}")
        self.check_to_torch()
        kind = self.torch_kind if num_dims is None else TORCH_KINDS[num_dims]
        if kind is None:
            raise ConfigError(
                "num_dims must be given for a layer that was not made from torch's: "
                "2 or 3 for BatchNorm1d, 4 for BatchNorm2d, 5 for BatchNorm3d"
            )
        layer: Any = self if inplace else copy.deepcopy(self)
        if layer.momentum is not None and layer.momentum_of == "old":
            layer.momentum = 1.0 - layer.momentum
        for name in ("momentum_of", "variance", "torch_kind"):
            vars(layer).pop(name, None)
        layer.__class__ = kind
        return layer

    def check_to_torch(self) -> None:
        """Refuse a layer that torch has no equal for.

        Raises
        ------
        ConfigError
            As :meth:`to_torch`.
        """
        if not self.evaluates_as_torch:
            raise ConfigError(f"torch has no layer that does what {type(self).__name__} does")
        if self.training and type(self) is not BatchNorm:
            raise ConfigError(
                f"torch has no layer that trains as {type(self).__name__} does: call .eval() first"
            )
        if self.training and self.track_running_stats and self.variance == "biased":
            raise ConfigError(
                "torch averages the unbiased variance only, this layer the biased one: "
                "call .eval() first, or make it with variance='unbiased'"
            )

    def __getattr__(self, name: str) -> Any:
        # SyncBatchNorm.convert_sync_batchnorm and quantization ask for this attribute, and
        # copy the momentum without knowing which value it weighs
        if name == "qconfig":
            self._check_averages_as_torch()
        return super().__getattr__(name)

    def _check_averages_as_torch(self) -> None:
        new = self.momentum is None or self.momentum_of == "new"
        as_torch = (new and self.variance == "unbiased") or not self.track_running_stats
        if type(self) is not BatchNorm or not as_torch:
            raise ConfigError(
                "SyncBatchNorm and quantization average as torch does, "
                f"{type(self).__name__}({self.extra_repr()}) otherwise: "
                "make it with momentum_of='new' and variance='unbiased', or convert it to torch's"
            )

    def __prepare_scriptable__(self) -> NoReturn:
        raise ConfigError(
            f"TorchScript, which torch has deprecated, cannot compile {type(self).__name__}: "
            "use torch.compile or torch.export, or convert it to torch's"
        )
