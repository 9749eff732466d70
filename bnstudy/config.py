"""Settings, time and randomness of one run.

A :class:`RunConfig` and a seed determine a run completely.  :class:`Step`
counts time, so that epochs, optimizer steps and images are never confused.
:func:`stream` gives each purpose (initial weights, order of images, dropout)
its own generator, so that adding dropout to an arm changes neither its weights
nor its order.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from bnstudy.errors import ConfigError, unknown
from bnstudy.registry import Registry

PLACEMENTS = ("output", "activated", "input")
ACTIVATIONS: Registry[Any] = Registry("activation", 0, declared=("sigmoid", "relu", "tanh"))
DROPOUT_PLACEMENTS = ("hidden", "before-norm", "after-last-norm")
SCHEDULES = ("constant", "step", "cosine")
SPLITS = ("train", "all")
INITS: Registry[float] = Registry("initialization", 3, declared=("xavier", "xavier-gain", "he"))
# settings that are words of a registry, with an example each
WORDS = {
    "norm": "bn",
    "network": "lenet",
    "inputs": "scaled",
    "optimizer": "sgd",
    "activation": "relu",
    "init": "xavier",
}
BATCH_MATES = ("fresh", "fixed")


def check_choice(kind: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices.

    Raises
    ------
    ConfigError
        With the nearest choice, or all of them if none is near.
    """
    if value not in choices:
        raise ConfigError(unknown(kind, value, choices))


def _integer(name: str, value: object, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigError(f"{name} must be an integer of at least {low}, got {value!r}")


def _number(name: str, value: object, low: int, high: float, *, open_low: bool = False) -> None:
    """Refuse anything but a finite number in [low, high), or (low, high) if ``open_low``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        not is_number
        or not math.isfinite(value)  # type: ignore[arg-type]
        or not low <= value < high  # type: ignore[operator]
        or (open_low and value == low)
    ):
        bounds = f"{'above' if open_low else 'at least'} {low}"
        if math.isfinite(high):
            bounds += f" and below {high}"
        raise ConfigError(f"{name} must be a number {bounds}, got {value!r}")


def added(default: Any, *, before: Any) -> Any:
    """Declare a config field that was added after runs existed.

    Parameters
    ----------
    default
        Its default.
    before
        The value that describes the runs made before the field existed.
    """
    return field(default=default, metadata={"before": before})


@dataclass(frozen=True)
class RunConfig:
    """The settings of one training run, all but its seed.

    The defaults are those of the lecture notes the project grew from: LeNet
    without normalization, sigmoid, batches of 256, plain SGD at 0.9.

    Attributes
    ----------
    norm
        Normalization word, ``name`` or ``name:option=value,...``; see
        :func:`bnstudy.networks.norm.make_norm`.  ``none`` for no normalization.
    placement
        Where a normalization layer acts: on the ``output`` of each convolution
        or linear layer before the activation, on the ``activated`` output, or
        on the ``input`` of the layer.
    norm_layers
        The layers to normalize: ``all``; or the numbers of some in order, such as
        ``134`` (of LeNet 1 and 2: convolutions; 3 and 4: hidden linear layers; 5: the
        last layer, which has a normalization on its ``input`` only), for which the
        full list is the same setting as ``all``; or names, numbers and ranges after
        commas, such as ``conv1,fc1`` or ``1-3,10-12``.
    activation
        Activation word: ``sigmoid``, ``relu`` or ``tanh``, or one that was registered.
    bias
        True if convolutions and hidden linear layers have a bias.  Before BN it
        is redundant: BN subtracts it with the mean.
    dropout
        Probability of dropping a unit, in [0, 1).
    dropout_placement
        ``hidden``: after all hidden linear layers and their activations;
        ``before-norm``: directly before the normalization layers that follow a
        hidden linear layer; ``after-last-norm``: once, after the last
        normalization layer, so that none of them receives dropped units.
    batch_size
        Images per optimizer step, at least 1 (at least 2 with batch statistics).
    epochs
        Passes over the training images.
    learning_rate, weight_decay
        Of the optimizer.
    momentum
        Of SGD.
    schedule
        ``constant``; ``step``: multiplied by ``schedule_factor`` after every
        ``schedule_epochs`` epochs; ``cosine``: down to zero over all steps.
    train_split
        ``train``: 55,000 images, with 5,000 held out for validation; ``all``:
        the 60,000 of the notes, and no validation.
    train_images
        Number of images of the split to train on (the same for every seed,
        classes in equal shares); 0 for all of them.
    validation_images, test_images, population_images
        Number of images to evaluate on, and to estimate population statistics
        from (at most the images trained on); 0 for all of them.
    evaluations_per_epoch
        Evaluation points in each epoch; the last one is its end.
    batch_mates
        ``fresh``: every epoch draws new batches; ``fixed``: the same images share
        a batch in every epoch, and only the order of the batches is drawn.
    test_every
        Epochs between evaluations on test images; the last epoch always ends
        with one.
    network
        Network word; see :func:`bnstudy.networks.build`.
    inputs
        Input word: ``scaled`` to 0..1, or ``standardized`` by mean and standard
        deviation of the training images, channel by channel; both with ``size=32`` to
        resize the images first.
    init
        Initial weights, uniform with mean 0: ``xavier`` (Glorot & Bengio 2010);
        ``xavier-gain``, times the activation's gain in hidden layers (the inverse of its slope
        at 0, so 4 for the sigmoid and 1 for tanh; sqrt(2) for ReLU); ``he`` (He et al. 2015);
        or one that was registered.
    optimizer
        Optimizer word: ``sgd``, ``adam`` or ``adamw``; see
        :data:`bnstudy.engines.optimizers.OPTIMIZERS`.
    freeze_norm_step
        Optimizer steps after which normalization layers stay as in evaluation: they
        use their running statistics and no longer change them; 0: never.
    """

    norm: str = "none"
    placement: str = "output"
    activation: str = "sigmoid"
    bias: bool = True
    dropout: float = 0.0
    dropout_placement: str = "hidden"
    batch_size: int = 256
    epochs: int = 10
    learning_rate: float = 0.9
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    schedule_epochs: int = 1
    schedule_factor: float = 0.1
    train_split: str = "train"
    train_images: int = 0
    validation_images: int = 0
    test_images: int = 0
    population_images: int = 10_000
    evaluations_per_epoch: int = 5
    batch_mates: str = "fresh"
    test_every: int = added(1, before=1)
    norm_layers: str = added("all", before="all")
    network: str = added("lenet", before="lenet")
    inputs: str = added("scaled", before="scaled")
    init: str = added("xavier", before="xavier")
    optimizer: str = added("sgd", before="sgd")
    freeze_norm_step: int = added(0, before=0)

    def __post_init__(self) -> None:
        for name, example in WORDS.items():
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ConfigError(
                    f"{name} must be a word such as {example!r}, got {getattr(self, name)!r}"
                )
        if not isinstance(self.bias, bool):
            raise ConfigError(f"bias must be true or false, got {self.bias!r}")
        check_choice("placement", self.placement, PLACEMENTS)
        check_choice("dropout_placement", self.dropout_placement, DROPOUT_PLACEMENTS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("train_split", self.train_split, SPLITS)
        check_choice("batch_mates", self.batch_mates, BATCH_MATES)
        ACTIVATIONS.parse(self.activation)
        INITS.parse(self.init)
        for name in (
            "batch_size",
            "epochs",
            "schedule_epochs",
            "evaluations_per_epoch",
            "test_every",
        ):
            _integer(name, getattr(self, name), 1)
        images = ("train_images", "validation_images", "test_images", "population_images")
        for name in (*images, "freeze_norm_step"):
            _integer(name, getattr(self, name), 0)
        _number("dropout", self.dropout, 0, 1)
        _number("learning_rate", self.learning_rate, 0, math.inf, open_low=True)
        _number("momentum", self.momentum, 0, 1)
        _number("weight_decay", self.weight_decay, 0, math.inf)
        _number("schedule_factor", self.schedule_factor, 0, math.inf, open_low=True)
        self._check_norm_layers()
        for item in fields(self):  # 1 and 1.0 are the same setting, and must have the same id
            if item.type is float:
                object.__setattr__(self, item.name, float(getattr(self, item.name)))

    def _check_norm_layers(self) -> None:
        given = self.norm_layers
        if not isinstance(given, str) or not given:
            raise ConfigError(f"norm_layers must be text such as 'all' or '134', got {given!r}")
        if given == "all" or not given.isdigit():
            return  # names are the network's; see bnstudy.networks.selected_layers
        in_order = given == "".join(sorted(set(given))) and "0" not in given
        every = "12345" if self.placement == "input" else "1234"
        if not in_order or (self.network.partition(":")[0] == "lenet" and given[-1] > every[-1]):
            raise ConfigError(
                f"norm_layers must be 'all' or numbers of 1 to {every[-1]} in order, such as "
                f"'134', got {given!r}"
            )
        if given == every and self.network.partition(":")[0] == "lenet":
            object.__setattr__(self, "norm_layers", "all")  # the same setting has the same id

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed.

        Raises
        ------
        ConfigError
            If a setting is unknown or its value is impossible.
        """
        self._refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """All settings, defaults included, in the order of the fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Rebuild a config from :meth:`as_dict`.

        Raises
        ------
        ConfigError
            If a setting is unknown or its value is impossible.
        """
        cls._refuse_unknown(settings)
        return cls(**settings)

    @classmethod
    def _refuse_unknown(cls, settings: Mapping[str, Any]) -> None:
        names = tuple(item.name for item in fields(cls))
        for name in settings:
            check_choice("setting", name, names)

    def rate_at(self, step: "Step") -> float:
        """Return the learning rate of the next step, after ``step.count`` steps.

        ``step`` multiplies by ``schedule_factor`` after every
        ``schedule_epochs`` epochs; ``cosine`` is lr (1 + cos(pi t / T)) / 2
        with t steps of T done (Loshchilov & Hutter 2017, without restarts).
        """
        if self.schedule == "step":
            drops = step.count // (step.per_epoch * self.schedule_epochs)
            return self.learning_rate * self.schedule_factor**drops
        if self.schedule == "cosine":
            done = step.count / (step.per_epoch * self.epochs)
            return self.learning_rate * (1.0 + math.cos(math.pi * done)) / 2.0
        return self.learning_rate

    def tests_at(self, step: "Step") -> bool:
        """Return True if test images are evaluated after a step."""
        epochs = step.count // step.per_epoch
        return step.ends_epoch and (epochs % self.test_every == 0 or epochs == self.epochs)

    def canonical(self) -> dict[str, Any]:
        """Return the settings that are hashed to the id of a run.

        All of them, defaults included, so that changing a default changes the
        id.  A field that was :func:`added` after runs existed is left out while
        it has the value that describes those runs, so that their ids stay.
        """
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if "before" not in item.metadata or getattr(self, item.name) != item.metadata["before"]
        }


@dataclass(frozen=True, order=True)
class Step:
    """A point in training, counted in optimizer steps done.

    Attributes
    ----------
    count
        Optimizer steps done since the start of training.
    per_epoch
        Optimizer steps in one epoch.
    """

    count: int
    per_epoch: int = field(compare=False)

    @property
    def epoch(self) -> float:
        """Epochs done, as a fraction: 2.8 after 80 % of the third epoch."""
        return self.count / self.per_epoch

    @property
    def ends_epoch(self) -> bool:
        """True if an epoch ends exactly here."""
        return self.count > 0 and self.count % self.per_epoch == 0


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of a value: sorted keys, no spaces, no NaN.

    Raises
    ------
    ConfigError
        If the value holds something that JSON cannot express, such as NaN.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"only finite numbers, text, lists and dicts have an id: {error}"
        ) from None


def digest(value: Any) -> str:
    """Return the sha256, in hexadecimal, of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def check_seed(seed: object) -> int:
    """Return a seed, which must be an integer of at least 0 (and no bool).

    Raises
    ------
    ConfigError
        Otherwise.
    """
    _integer("seed", seed, 0)
    return int(seed)  # type: ignore[call-overload]


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the random generator for one purpose of one run.

    Parameters
    ----------
    seed
        The run's seed.
    purpose
        ``weights``, ``order``, ``dropout``, ``noise``, ....

    Returns
    -------
    numpy.random.Generator
        Seeded by ``SeedSequence((seed, purpose))``, where the purpose enters as
        the first 8 bytes of its sha256, a little-endian integer.  Streams of
        different purposes are independent; those of one purpose are equal across
        the arms of a seed, which pairs the arms.

    Raises
    ------
    ConfigError
        If the seed is not an integer of at least 0.
    """
    # Not hash(): Python salts it per process, so streams would differ between workers.
    word = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((check_seed(seed), word))))
