"""Parts that a study is assembled from, as frozen data: profiles, arms, exhibits, experiments.

Nothing here trains or computes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bnstudy.config import RunConfig
from bnstudy.errors import ConfigError, find
from bnstudy.plan.claim import Claim


@dataclass(frozen=True)
class Profile:
    """The size of a study.

    Attributes
    ----------
    name
        ``tiny`` (tests), ``quick`` (a first look), ``standard`` (what
        ``make all-experiments`` does) or ``full``.
    seeds
        Number of seeds that each arm is trained with: consecutive, from
        :data:`FIRST_SEED` on unless a study is begun with another.
    cost
        What to expect of it, for the help text.
    judges
        True if its studies register and judge claims.  A first look on part of
        the images decides none.
    """

    name: str
    seeds: int
    cost: str
    judges: bool = False


FIRST_SEED = 0  # of a study, unless it is begun with another
PILOT_SEED = 1_000
PILOT_SEEDS = range(PILOT_SEED, 2_000)  # no claim ever uses one of these

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("tiny", 2, "seconds: for tests, shows nothing"),
        Profile("quick", 16, "minutes: a first look on a few images"),
        Profile("standard", 16, "what the verdicts need", judges=True),
        Profile("full", 32, "the long horizons: hours on two cores", judges=True),
    )
}


def find_profile(name: str) -> Profile:
    """Return the profile of that name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    return find("profile", name, PROFILES)


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
        Its name in figures and tables; ``name`` if not given.
    by_reference
        True if the reference engine must train it.  Where a layer's own code is
        under test, a compiled kernel of the same formula is no evidence.
    probes
        Measurements inside its runs while they are trained, by name with
        options: see :mod:`bnstudy.engines.probes`.  Such runs are stored apart from
        those of the same settings without probes.
    seeds
        Train at most this many of the study's seeds, its first ones, where a few are
        proof enough; all if not given.  No claim may be about such an arm.
    """

    name: str
    config: RunConfig
    label: str = ""
    by_reference: bool = False
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: int | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or re.search(r"[\x00-\x1f]", self.name):
            raise ConfigError(
                f"an arm's name must be printable and not padded with spaces, got {self.name!r}"
            )
        whole = isinstance(self.seeds, int) and not isinstance(self.seeds, bool)
        if self.seeds is not None and not (whole and self.seeds >= 1):
            raise ConfigError(
                f"an arm is trained with a number of seeds of at least 1, got {self.seeds!r} for "
                f"{self.name!r}: leave it out for all seeds of the study"
            )
        if not self.label:
            object.__setattr__(self, "label", self.name)

    def canonical(self) -> dict[str, Any]:
        """Return everything that a run of the arm depends on, as plain data."""
        config = self.config.canonical()
        return {**config, "probes": dict(self.probes)} if self.probes else config


@dataclass(frozen=True)
class Exhibit:
    """A figure or a table on an experiment's page.

    Attributes
    ----------
    kind
        Name of a maker in :mod:`bnstudy.report`, for example ``learning-curves``.
    caption
        What it shows and how to read it.  The finding below it is computed.
    options
        Options of the maker, for example ``{"arms": ["none", "bn"]}``.
    profiles
        Names of the profiles that have the arms it shows; all if not given.
    """

    kind: str
    caption: str
    options: Mapping[str, Any] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()


Claims: TypeAlias = tuple[Claim, ...] | Callable[[Profile], tuple[Claim, ...]]


@dataclass(frozen=True)
class Experiment:
    """A question, its arms, and the content of its page.

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
        Figures and tables of its page, in this order.
    claims
        Its claims: plain data, or a function of the profile where they depend
        on its arms or epochs.  :meth:`registered` decides who registers them.
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
    claims: Claims = ()

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

    def registered(self, profile: Profile) -> tuple[Claim, ...]:
        """Return the claims that a study of a profile registers: none unless it judges."""
        if not profile.judges:
            return ()
        return self.claims(profile) if callable(self.claims) else self.claims
