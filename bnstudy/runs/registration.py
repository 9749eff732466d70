"""Registration of a study: its plan is stored before the first run, and kept.

``plan.json`` lies in the folder of the study's store, with the sha256 of the plan.
A store that holds runs takes further experiments, but neither other seeds, images,
arms or targets nor other claims than those that were stored first.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnstudy.config import canonical_json, digest
from bnstudy.errors import PlanMismatchError, StoreError
from bnstudy.plan import Plan
from bnstudy.runs.store import write_whole

PLAN = "plan.json"


def freeze(root: Path, plan: Plan) -> None:
    """Store the plan before its first run; add experiments to a stored one.

    Claims of an experiment stay as they were stored once there are runs, so that
    claims made afterwards are told from those made before.

    Parameters
    ----------
    root
        Folder of the study's store; it is made if there is none.
    plan
        The study.

    Raises
    ------
    PlanMismatchError
        If the store holds the runs of a plan with another profile, other
        seeds or images, or other arms or targets of the same experiment.
    StoreError
        If the stored plan was cut or edited.
    """
    wanted = plan.canonical()
    stored = stored_plan(root)
    if stored is not None:
        refuse_other_plan(stored, wanted, root.name)
        if any(root.glob("*/*/*/result.json")):
            wanted = with_first_claims(wanted, stored)
        planned = {each["name"] for each in wanted["experiments"]}
        others = [each for each in stored["experiments"] if each["name"] not in planned]
        wanted = {**wanted, "experiments": [*wanted["experiments"], *others]}
        wanted["experiments"].sort(key=lambda each: each["name"])
        # compared as JSON, in which tuples are lists
        if stored == json.loads(canonical_json(wanted)):
            return
    root.mkdir(parents=True, exist_ok=True)
    content = {"plan": wanted, "sha256": digest(wanted)}
    write_whole(root / PLAN, canonical_json(content).encode())


def stored_plan(root: Path) -> dict[str, Any] | None:
    """Return the stored plan of a study as plain data, or None if there is none.

    Raises
    ------
    StoreError
        If its file was cut or edited.
    """
    path = root / PLAN
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_bytes())
        plan: dict[str, Any] = stored["plan"]
        intact = digest(plan) == stored["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise StoreError(
            f"{root.name}/{PLAN} was cut or edited: put it back, or give the "
            "study another name with --study"
        )
    return plan


def refuse_other_plan(stored: Mapping[str, Any], wanted: Mapping[str, Any], study: str) -> None:
    """Refuse a plan that contradicts the one that runs were made for.

    Raises
    ------
    PlanMismatchError
        Naming the first part that differs.
    """
    remedy = "give the changed study another name with --study"
    refuse_other_first_seed(stored, wanted["seeds"], study)
    for part in ("profile", "seeds", "data"):
        if stored[part] != json.loads(canonical_json(wanted[part])):
            raise PlanMismatchError(
                f"study {study!r} was begun with other {part} "
                f"({_short(stored[part])}, not {_short(wanted[part])}): {remedy}"
            )
    before = {each["name"]: each for each in stored["experiments"]}
    for experiment in wanted["experiments"]:
        name = experiment["name"]
        now = json.loads(canonical_json(experiment))
        if name in before and any(before[name][part] != now[part] for part in ("arms", "targets")):
            part = "targets" if before[name]["arms"] == experiment["arms"] else "arms"
            raise PlanMismatchError(
                f"study {study!r} was begun with other {part} of experiment {name!r}: {remedy}"
            )


def refuse_other_first_seed(stored: Mapping[str, Any], seeds: Sequence[int], study: str) -> None:
    """Refuse seeds that begin elsewhere than those that a study was begun with.

    Raises
    ------
    PlanMismatchError
        With both first seeds.
    """
    first = min(stored["seeds"])
    if first != min(seeds):
        raise PlanMismatchError(
            f"study {study!r} was begun with other seeds ({_short(stored['seeds'])}, not "
            f"{_short(list(seeds))}): take these with --first-seed {first}, or give the changed "
            "study another name with --study"
        )


def with_first_claims(wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with the stored claims of the experiments that were stored already."""
    first = {each["name"]: each.get("claims") for each in stored["experiments"]}
    experiments = []
    for experiment in wanted["experiments"]:
        now = experiment.get("claims")
        claims = first.get(experiment["name"], now)
        rest = {part: value for part, value in experiment.items() if part != "claims"}
        # an experiment stored without claims registered none, whatever it claims today
        experiments.append(rest if claims is None else {**rest, "claims": claims})
    return {**wanted, "experiments": experiments}


def _short(value: Any) -> str:
    if isinstance(value, list):
        first, last = min(value), max(value)
        consecutive = last - first == len(value) - 1 and len(value) > 1
        return f"{first} to {last}" if consecutive else ", ".join(map(str, value))
    return str(value["digest"][:8]) if isinstance(value, dict) else str(value)
