"""What a study consists of, as frozen data: arms, experiments, profiles, the plan.

Nothing here trains or computes.  A :class:`Plan` is the resolved whole; its
canonical JSON has a sha256 that is stored before the first run and printed in
every report.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, TypeVar

from bnstudy.config import RunConfig, check_seed, digest
from bnstudy.data import Dataset
from bnstudy.errors import ConfigError
from bnstudy.networks.norm import parse_norm
from bnstudy.plan.claim import Claim

T = TypeVar("T")


@dataclass(frozen=True)
class Profile:
    """The size of a study.

    Attributes
    ----------
    name
        ``tiny`` (tests), ``quick`` (a first look), ``standard`` (what
        ``make all-experiments`` does) or ``full``.
    seeds
        How many seeds each arm is trained with: 0, 1, ..., seeds - 1.
    cost
        What to expect of it, in words, for the help text.
    """

    name: str
    seeds: int
    cost: str


PILOT_SEED = 1_000  # no claim ever uses this seed or one above

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("tiny", 2, "seconds: for tests, shows nothing"),
        Profile("quick", 16, "minutes: a first look on a few images"),
        Profile("standard", 16, "what the verdicts need"),
        Profile("full", 32, "the long horizons: hours on two cores"),
    )
}


def find_profile(name: str) -> Profile:
    """Return the profile of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    return known("profile", name, PROFILES)


def known(kind: str, name: str, choices: Mapping[str, T]) -> T:
    """Look a name up, or say which one was probably meant.

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    if name in choices:
        return choices[name]
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(choices)}"
    raise ConfigError(f"there is no {kind} {name!r}: {hint}")


@dataclass(frozen=True)
class Arm:
    """A named :class:`RunConfig`: what is compared.

    Attributes
    ----------
    name
        For example ``none``, ``bn``, ``bn+dropout``, ``bn/lr=0.3``.
    config
        Its settings.
    label
        How figures and tables call it; the name if not given.
    by_reference
        Whether the reference engine must train it: where a layer's own code is
        what is tested, a kernel that computes the same formula is no witness.
    probes
        What looks inside its runs while they are trained, by name with options:
        see :mod:`bnstudy.engines.probes`.  Such runs are apart from those of the same
        settings without probes, and the reference engine trains them.
    """

    name: str
    config: RunConfig
    label: str = ""
    by_reference: bool = False
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or re.search(r"[\x00-\x1f]", self.name):
            raise ConfigError(
                f"an arm's name must be printable and not padded with spaces, got {self.name!r}"
            )
        if not self.label:
            object.__setattr__(self, "label", self.name)

    def canonical(self) -> dict[str, Any]:
        """Return everything that a run of the arm depends on, as plain data."""
        config = self.config.canonical()
        return {**config, "probes": dict(self.probes)} if self.probes else config


@dataclass(frozen=True)
class Exhibit:
    """A figure, or a table, that an experiment's page shows.

    Attributes
    ----------
    kind
        Name of a maker in :mod:`bnstudy.report`, for example ``learning-curves``.
    caption
        What the reader sees and how to read it; the finding is computed.
    options
        Options of the maker, for example ``{"arms": ["none", "bn"]}``.
    profiles
        Those whose studies have the arms it shows; all if not given.
    """

    kind: str
    caption: str
    options: Mapping[str, Any] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()


def no_claims(profile: Profile) -> tuple[Claim, ...]:
    """Return nothing: what an experiment registers that only shows."""
    return ()


@dataclass(frozen=True)
class Experiment:
    """A question, its arms, and what its page shows.

    Attributes
    ----------
    name
        Of its file in ``experiments/``.
    title
        Of its page.
    question
        What it asks, in a sentence or two.
    literature
        What is said of it, with sources.
    design
        What differs between the arms, what is held equal, and why.
    limits
        What it does not show.
    arms
        The arms, given the profile.
    targets
        Validation accuracies in 0..1 whose first crossing is reported; the
        first one is the primary target.  Fixed before the runs.
    exhibits
        What its page shows, in this order.
    claims
        What it registers, given the profile.
    """

    name: str
    title: str
    question: str
    literature: str
    design: str
    limits: str
    arms: Callable[[Profile], tuple[Arm, ...]]
    targets: tuple[float, ...] = ()
    exhibits: tuple[Exhibit, ...] = ()
    claims: Callable[[Profile], tuple[Claim, ...]] = no_claims

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ConfigError(
                f"an experiment's name must be lower-case letters, digits and '-', "
                f"got {self.name!r}"
            )
        for target in self.targets:
            if not 0.0 < target < 1.0:
                raise ConfigError(
                    f"a target must be an accuracy between 0 and 1, got {target!r} "
                    f"in experiment {self.name!r}"
                )


@dataclass(frozen=True)
class PlannedRun:
    """One run that a plan asks for: an arm of an experiment, and a seed."""

    experiment: str
    arm: Arm
    seed: int


@dataclass(frozen=True)
class PlannedExperiment:
    """An experiment whose arms and claims are resolved for a profile."""

    experiment: Experiment
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...] = ()

    def arm(self, name: str) -> Arm:
        """Return the arm of that name.

        Raises
        ------
        ConfigError
            If there is none.
        """
        return known("arm", name, {arm.name: arm for arm in self.arms})


@dataclass(frozen=True)
class DataIdentity:
    """Which images a plan is about.

    Attributes
    ----------
    name
        For example ``fashion-mnist``.
    digest
        One sha256 over the uncompressed files.
    sample
        Whether it is the bundled sample instead of the whole data set.
    """

    name: str
    digest: str
    sample: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Return the identity of images in memory."""
        return cls(dataset.name, dataset.digest, dataset.is_sample)


@dataclass(frozen=True)
class Plan:
    """The frozen set of experiments, seeds and images of a study.

    Attributes
    ----------
    profile
        Name of the profile.
    seeds
        The seeds of every arm, each once.
    data
        The images.
    experiments
        In the order of the reports.
    """

    profile: str
    seeds: tuple[int, ...]
    data: DataIdentity
    experiments: tuple[PlannedExperiment, ...]

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ConfigError("a plan needs at least one seed, got none: give SEEDS of 1 or more")
        for seed in self.seeds:
            check_seed(seed)
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"each seed may stand in a plan once, got {list(self.seeds)}")
        for planned in self.experiments:
            names = [arm.name for arm in planned.arms]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(
                    f"experiment {planned.experiment.name!r} has two arms named {twice[0]!r}: "
                    f"rename one"
                )
            for arm in planned.arms:
                try:
                    parse_norm(arm.config.norm)
                except ConfigError as error:
                    raise ConfigError(
                        f"experiment {planned.experiment.name!r}, arm {arm.name!r}: {error}"
                    ) from None
            for claim in planned.claims:
                for name in claim.estimand.arm_names:
                    planned.arm(name)
        ids = [claim.id for claim in self.claims]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ConfigError(f"a claim stands in a plan once, got {twice[0]!r} twice: rename one")

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All claims, in the order of the experiments."""
        return tuple(claim for planned in self.experiments for claim in planned.claims)

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """All runs: seed by seed, so that an interrupted study has whole pairs."""
        return tuple(
            PlannedRun(planned.experiment.name, arm, seed)
            for seed in self.seeds
            for planned in self.experiments
            for arm in planned.arms
        )

    def canonical(self) -> dict[str, Any]:
        """Return the plan as plain data, with everything that a run or a verdict depends on.

        Experiments stand by name, in whichever order they were asked for.
        """
        return {
            "profile": self.profile,
            "seeds": list(self.seeds),
            "data": {
                "name": self.data.name,
                "digest": self.data.digest,
                "sample": self.data.sample,
            },
            "experiments": [
                _canonical(planned)
                for planned in sorted(self.experiments, key=lambda each: each.experiment.name)
            ],
        }

    @cached_property  # every figure names it
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return digest(self.canonical())


def _canonical(planned: PlannedExperiment) -> dict[str, Any]:
    plain = {
        "name": planned.experiment.name,
        "targets": list(planned.experiment.targets),
        "arms": {arm.name: arm.canonical() for arm in planned.arms},
    }
    if not planned.claims:  # hashed as before claims existed
        return plain
    return {**plain, "claims": {claim.id: claim.canonical() for claim in planned.claims}}


def make_plan(
    experiments: tuple[Experiment, ...],
    profile: Profile,
    data: DataIdentity,
    seeds: int | None = None,
    first_seed: int = 0,
) -> Plan:
    """Resolve experiments for a profile.

    Parameters
    ----------
    experiments
        Which to plan.
    profile
        Their size.
    data
        The images that will be used.
    seeds
        How many seeds, instead of the profile's number.
    first_seed
        The first of them: :data:`PILOT_SEED` for a pilot.

    Raises
    ------
    ConfigError
        If the number of seeds is below 1, or an arm is impossible.
    """
    count = profile.seeds if seeds is None else seeds
    if isinstance(count, bool) or count < 1:
        raise ConfigError(f"the number of seeds must be at least 1, got {count!r}")
    return Plan(
        profile=profile.name,
        seeds=tuple(range(first_seed, first_seed + count)),
        data=data,
        experiments=tuple(
            PlannedExperiment(experiment, experiment.arms(profile), experiment.claims(profile))
            for experiment in experiments
        ),
    )
