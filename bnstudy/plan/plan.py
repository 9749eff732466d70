"""Plan of a study: the frozen set of its experiments, seeds, claims and images.

The canonical JSON of a :class:`Plan` has a sha256 that is stored before the
first run and printed in every report.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bnstudy.config import check_seed, digest
from bnstudy.data import DataIdentity
from bnstudy.errors import ConfigError, find
from bnstudy.networks import check_network
from bnstudy.plan.claim import Claim
from bnstudy.plan.estimand import Option
from bnstudy.plan.experiment import FIRST_SEED, PILOT_SEEDS, Arm, Experiment, Profile
from bnstudy.plan.premise import Premise


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
        return find("arm", name, {arm.name: arm for arm in self.arms})

    def arms_digest(self, claim: Claim) -> str:
        """Return the hash of the arms that a claim compares, in 12 hex digits."""
        return digest({name: self.arm(name).canonical() for name in claim.estimand.arm_names})[:12]


@dataclass(frozen=True)
class Plan:
    """The frozen set of experiments, seeds and images of a study.

    Attributes
    ----------
    profile
        Name of the profile.
    seeds
        The seeds of every arm that does not ask for fewer, each once.
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
        if not self.is_pilot and not set(PILOT_SEEDS).isdisjoint(self.seeds):
            raise ConfigError(
                f"seeds {PILOT_SEEDS[0]} to {PILOT_SEEDS[-1]} are for pilots alone, got "
                f"{min(self.seeds)} to {max(self.seeds)}: take fewer seeds, or begin at "
                f"{PILOT_SEEDS.stop} or above"
            )
        for planned in self.experiments:
            _check_experiment(planned, self.data)
            _check_seeds(planned, len(self.seeds))
            # The arms of a pilot may differ from those of the pilot that it replaces.
            if not self.is_pilot:
                _check_pilots(planned)
        twice = _repeated(claim.id for claim in self.claims)
        if twice:
            raise ConfigError(f"a claim stands in a plan once, got {twice!r} twice: rename one")

    @property
    def is_pilot(self) -> bool:
        """True if all seeds are those of pilots, which no claim uses."""
        return all(seed in PILOT_SEEDS for seed in self.seeds)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All claims, in the order of the experiments."""
        return tuple(claim for planned in self.experiments for claim in planned.claims)

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """All runs, seed by seed, so that an interrupted study has complete pairs."""
        return tuple(
            PlannedRun(planned.experiment.name, arm, seed)
            for seed in self.seeds
            for planned in self.experiments
            for arm in planned.arms
            if seed in self.seeds_of(arm)
        )

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """Return the seeds that an arm is trained with: the first ones if it asks for fewer."""
        return self.seeds[: arm.seeds]

    def capped(self, *experiments: PlannedExperiment) -> dict[str, int]:
        """Return the numbers of images there are, where an arm asks for more.

        Parameters
        ----------
        *experiments
            Whose arms are meant; all of the plan if none is given.

        Returns
        -------
        dict
            By the setting that asks for too many, such as ``train_images``; the most that
            there are if arms train on different splits.
        """
        found: dict[str, int] = {}
        for planned in experiments or self.experiments:
            for arm in planned.arms:
                for setting, there in self.data.images(arm.config.train_split).items():
                    if getattr(arm.config, setting) > there:
                        found[setting] = max(there, found.get(setting, 0))
        order = ("train_images", "validation_images", "test_images")
        return {setting: found[setting] for setting in order if setting in found}

    def canonical(self) -> dict[str, Any]:
        """Return the plan as plain data, with everything that a run or a verdict depends on.

        Experiments are sorted by name, so that the order of a command line does
        not matter.
        """
        return {
            "profile": self.profile,
            "seeds": list(self.seeds),
            "data": self.data.canonical(),
            "experiments": [
                _canonical(planned, self.capped(planned))
                for planned in sorted(self.experiments, key=lambda each: each.experiment.name)
            ],
        }

    @cached_property  # every figure names it
    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return digest(self.canonical())


def _check_experiment(planned: PlannedExperiment, data: DataIdentity) -> None:
    """Refuse arms that cannot be trained, and claims or premises about arms that are not there."""
    name = planned.experiment.name
    twice = _repeated(arm.name for arm in planned.arms)
    if twice:
        raise ConfigError(f"experiment {name!r} has two arms named {twice!r}: rename one")
    for arm in planned.arms:
        try:
            # A misspelled word must not wait for its turn in hours of training.
            check_network(arm.config, data.shape, len(data.classes))
        except ConfigError as error:
            raise ConfigError(f"experiment {name!r}, arm {arm.name!r}: {error}") from None
    for claim in planned.claims:
        for arm_name in claim.arm_names:
            planned.arm(arm_name)
        for premise in claim.premises:
            _check_premise(premise, claim.id, planned)


def _check_premise(premise: Premise, claim: str, planned: PlannedExperiment) -> None:
    """Refuse a premise that reads epochs which its arms are not trained for."""
    for arm in map(planned.arm, premise.arm_names):
        read = float(premise.options.get("epochs", 0)) or arm.config.epochs
        if read > arm.config.epochs or float(premise.options.get("last", 0)) >= read:
            raise ConfigError(
                f"premise {premise.kind!r} of claim {claim!r} must read epochs that arm "
                f"{arm.name!r} is trained for, {arm.config.epochs}, got "
                f"{_stated(premise.options, 'epochs', 'last')}: ask for fewer"
            )


def _stated(options: Mapping[str, Option], *names: str) -> str:
    return ", ".join(f"{name} {options[name]}" for name in names if options.get(name))


def _check_seeds(planned: PlannedExperiment, seeds: int) -> None:
    """Refuse claims, or premises, about arms that are not trained with every seed of the plan."""
    for claim in planned.claims:
        for arm in map(planned.arm, claim.arm_names):
            if arm.seeds is not None and arm.seeds < seeds:
                raise ConfigError(
                    f"claim {claim.id!r} needs all {seeds} seeds of its arms, but {arm.name!r} has "
                    f"{arm.seeds}: choose another arm, or give this one all seeds"
                )


def _check_pilots(planned: PlannedExperiment) -> None:
    """Refuse a pilot that was made with other arms than those that its claim compares now."""
    for claim in planned.claims:
        made_with = claim.pilot.arms if claim.pilot is not None else ""
        if made_with and made_with != (now := planned.arms_digest(claim)):
            raise ConfigError(
                f"pilot of claim {claim.id!r} was made with other arms ({made_with}, not {now}): "
                f"run bnstudy run {planned.experiment.name} --pilot again, and register the line "
                f"that bnstudy plan pilot {planned.experiment.name} prints"
            )


def _repeated(names: Iterable[str]) -> str:
    """Return the first name, in alphabetical order, that occurs more than once; else empty."""
    return min((name for name, count in Counter(names).items() if count > 1), default="")


def _canonical(planned: PlannedExperiment, capped: dict[str, int]) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": planned.experiment.name,
        "targets": list(planned.experiment.targets),
        "arms": {arm.name: arm.canonical() for arm in planned.arms},
    }
    # Keys that say nothing are left out, so that plans keep the hash they had without them.
    if limited := {arm.name: arm.seeds for arm in planned.arms if arm.seeds is not None}:
        plain["seeds"] = limited
    if capped:
        plain["capped"] = capped
    if planned.claims:
        plain["claims"] = {claim.id: claim.canonical() for claim in planned.claims}
    return plain


def make_plan(
    experiments: tuple[Experiment, ...],
    profile: Profile,
    data: DataIdentity,
    seeds: int | None = None,
    first_seed: int = FIRST_SEED,
) -> Plan:
    """Resolve experiments for a profile.

    Parameters
    ----------
    experiments
        The experiments of the study.
    profile
        Its size.  Claims are registered only if the profile judges.
    data
        The images that will be used.
    seeds
        Number of seeds, instead of the profile's.
    first_seed
        The first of them: :data:`~bnstudy.plan.PILOT_SEED` for a pilot.

    Raises
    ------
    ConfigError
        If the number of seeds is below 1, some but not all seeds are those of pilots, an arm
        is impossible, or a claim's pilot was made with other arms.
    """
    count = profile.seeds if seeds is None else seeds
    if isinstance(count, bool) or count < 1:
        raise ConfigError(f"the number of seeds must be at least 1, got {count!r}")
    return Plan(
        profile=profile.name,
        seeds=tuple(range(first_seed, first_seed + count)),
        data=data,
        experiments=tuple(
            PlannedExperiment(experiment, experiment.arms(profile), experiment.registered(profile))
            for experiment in experiments
        ),
    )
