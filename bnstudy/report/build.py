"""From plan and tables to the report model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields

import pandas as pd

from bnstudy.config import RunConfig
from bnstudy.data import title_of
from bnstudy.judging import Calibration, Verdict
from bnstudy.judging.measures import Run, RunName, finished_runs
from bnstudy.plan import FIRST_SEED, PROFILES, Arm, Plan
from bnstudy.report import text
from bnstudy.report.captions import (
    capped_sentence,
    data_name,
    data_option,
    sample_banner,
    task,
)
from bnstudy.report.claim_charts import effect_charts, judgement_chart
from bnstudy.report.claim_tables import (
    explored_table,
    glossary,
    judgement,
    power_table,
    verdict_table,
)
from bnstudy.report.evidence import Evidence
from bnstudy.report.exhibits import make
from bnstudy.report.model import Finding, Page, Report, Table
from bnstudy.report.parallel import map_forked
from bnstudy.report.sentences import write_reliability, write_tally
from bnstudy.report.surprises import RULE, surprises
from bnstudy.runs.tables import Tables, distinct_runs

FIRST_LOOK = (
    "This is the {profile} study, on a part of the images and for few epochs: a first look, not "
    "a result."
)
SIZES = (
    "Numbers of images and epochs given here for no other size are those of the standard study; "
    "this study's stand in the tables below."
)
UNJUDGED = " No claim is registered or judged at this size."

PILOT = (
    "These are pilot runs, made to choose targets and margins: no claim is judged by them, and "
    "the verdicts below only try the plan out."
)


def build(
    plan: Plan,
    tables: Tables,
    provenance: Mapping[str, str] | None = None,
    verdicts: Sequence[Verdict] = (),
    calibration: Calibration | None = None,
    *,
    runs: Mapping[RunName, Run] | None = None,
) -> Report:
    """Build the report of a study.

    Parameters
    ----------
    plan
        The study.
    tables
        The runs that are in its store.
    provenance
        Further lines of the provenance table.
    verdicts
        Verdicts on the plan's claims.
    calibration
        Calibration of this plan, if there is one.
    runs
        From :func:`~bnstudy.judging.measures.finished_runs`, where claims were judged by
        them: what is read of them stays.  Else they are read from the tables.

    Raises
    ------
    ConfigError
        If an experiment asks for an exhibit, or an arm in one, that is unknown.
    """
    finished = finished_runs(plan, tables) if runs is None else runs
    planned_runs = _planned(plan, tables.runs)

    def page(number: int) -> Page:
        planned = plan.experiments[number]
        mine = [verdict for verdict in verdicts if verdict.experiment == planned.experiment.name]
        rows = planned_runs[planned_runs["experiment"] == planned.experiment.name]
        return _page(Evidence(plan, planned, finished), rows, mine)

    pages = map_forked(page, len(plan.experiments))
    return Report(
        title=f"Batch normalization on {title_of(plan.data.name)}: the {plan.profile} study",
        introduction=_introduction(plan, planned_runs),
        banner=_banner(plan),
        tally=write_tally(verdicts),
        verdicts=verdict_table(verdicts),
        explored=explored_table(verdicts),
        glossary=glossary() if verdicts else None,
        effects=effect_charts(plan, verdicts),
        surprises=surprises(verdicts, calibration.power if calibration else None),
        surprise_rule=RULE,
        reliability=write_reliability(plan, calibration),
        power=power_table(plan, calibration),
        pages=tuple(pages),
        provenance=_provenance(plan, planned_runs, provenance or {}),
        commands=_commands(plan),
        foot=f"bnstudy · plan {plan.sha256[:12]}",
    )


def _banner(plan: Plan) -> str:
    if plan.data.sample:
        return sample_banner(plan.data)
    if plan.is_pilot:
        return PILOT
    small = plan.profile in ("tiny", "quick")
    if not small:
        return ""
    return FIRST_LOOK.format(profile=plan.profile) + ("" if plan.claims else UNJUDGED)


def _page(evidence: Evidence, runs: pd.DataFrame, verdicts: Sequence[Verdict]) -> Page:
    experiment = evidence.planned.experiment
    findings: list[Finding] = []
    kinds: Counter[str] = Counter()
    for exhibit in experiment.exhibits:
        if exhibit.profiles and evidence.plan.profile not in exhibit.profiles:
            continue
        kinds[exhibit.kind] += 1
        number = kinds[exhibit.kind]
        anchor = exhibit.kind if number == 1 else f"{exhibit.kind}-{number}"
        findings.append(make(evidence, exhibit, anchor))
    return Page(
        name=experiment.name,
        title=experiment.title,
        question=experiment.question,
        literature=experiment.literature,
        design=" ".join([experiment.design, *[SIZES] * (evidence.plan.profile != "standard")]),
        limits=experiment.limits,
        state=" ".join(
            [
                _state(*_status_counts(runs)),
                *_same_arms(evidence.planned.arms),
                *filter(None, [_capped(evidence)]),
            ]
        ),
        arms=_arms(evidence, runs),
        settings=_settings(evidence),
        judgements=tuple(
            judgement(verdict, judgement_chart(evidence.plan, verdict)) for verdict in verdicts
        ),
        findings=tuple(findings),
        command=_command(evidence.plan, experiment.name),
    )


def _capped(evidence: Evidence) -> str:
    capped = evidence.plan.capped(evidence.planned)
    return capped_sentence(evidence.plan.data, capped)


def _planned(plan: Plan, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the plan's runs, in the order of the plan."""
    keys = [(run.experiment, run.arm.name, run.seed) for run in plan.runs]
    order = pd.DataFrame(keys, columns=["experiment", "arm", "seed"]).astype({"seed": "int64"})
    merged = order.merge(runs, on=["experiment", "arm", "seed"], how="left")
    return merged.assign(status=merged["status"].fillna("missing"))


def _status_counts(runs: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many of the distinct runs are done, diverged and missing."""
    counts = Counter(distinct_runs(runs)["status"])
    return counts["done"], counts["diverged"], counts["missing"]


def _state(done: int, diverged: int, missing: int) -> str:
    planned = done + diverged + missing
    if missing == planned:
        return f"No run is there yet; {text.count(planned, 'run')} planned."
    counts = [f"{done:,} done"]
    counts += [f"{diverged:,} diverged"] if diverged else []
    counts += [f"{missing:,} missing"] if missing else []
    return f"{text.count(planned, 'planned run')}: {text.listing(counts)}."


def _same_arms(arms: Sequence[Arm]) -> list[str]:
    """Say which arms are trained the same: in a small profile, arms of a larger one coincide."""
    labels: dict[tuple[RunConfig, bool], list[str]] = {}
    for arm in arms:
        # an arm that proves an engine right is meant to be another one's double
        labels.setdefault((arm.config, arm.by_reference), []).append(arm.label)
    same = [" = ".join(each) for each in labels.values() if len(each) > 1]
    return [f"Trained the same at this size: {'; '.join(same)}."] if same else []


def _differing(configs: list[RunConfig]) -> list[str]:
    names = [item.name for item in fields(RunConfig)]
    return [name for name in names if len({getattr(config, name) for config in configs}) > 1]


def _arms(evidence: Evidence, runs: pd.DataFrame) -> Table:
    arms = evidence.planned.arms
    differing = _differing([arm.config for arm in arms])
    rows = tuple(
        (
            arm.label,
            *(text.setting(getattr(arm.config, name)) for name in differing),
            *map(str, _status_counts(runs[runs["arm"] == arm.name])),
            _passes(evidence, arm),
        )
        for arm in arms
    )
    heads = ("Arm", *(name.replace("_", " ").capitalize() for name in differing))
    return Table(
        "The arms: what differs between them, their runs, and how many images these trained on, "
        "counted as often as they were seen",
        (*heads, "Done", "Diverged", "Missing", "Image-passes"),
        rows,
    )


def _passes(evidence: Evidence, arm: Arm) -> str:
    """Write the number of images that all runs of an arm were trained on."""
    images = evidence.readings([arm], "images-trained")["value"]
    return text.decimal(images.sum(), 0) if len(images) else text.MISSING


def _settings(evidence: Evidence) -> Table:
    configs = [arm.config for arm in evidence.planned.arms]
    differing, first = set(_differing(configs)), configs[0]
    rows = tuple(
        (item.name.replace("_", " "), text.setting(getattr(first, item.name)))
        for item in fields(RunConfig)
        if item.name not in differing
    )
    return Table(
        "What all arms share; a number of images of 0 means all", ("Setting", "Value"), rows
    )


def _introduction(plan: Plan, runs: pd.DataFrame) -> str:
    experiments = text.count(len(plan.experiments), "experiment")
    seeds = text.count(len(plan.seeds), "seed")
    return (
        "Batch normalization rescales what each layer of a neural network passes on, so that over "
        "every small batch of training images it has mean 0 and variance 1, and then learns how "
        "much of that to undo. It is said to make training faster. To see what is true of it, "
        f"this study trains a small network, LeNet, to {task(plan)}, "
        f"again and again: {experiments}, and in each of them every variant "
        f"(arm) {_times(len(plan.seeds))}{_proof_times(plan)}, from "
        f"{'a' if len(plan.seeds) == 1 else 'another'} random start each. A "
        "start (seed) gives all arms the same initial weights and the same order of images, so "
        f"that arms can be compared seed by seed. {_state(*_status_counts(runs))} "
        f"Every result below rests on at most {seeds}; an interval says what range of effects "
        "they are compatible with."
    )


def _times(number: int) -> str:
    return f"{number:,} {'time' if number == 1 else 'times'}"


def _proof_times(plan: Plan) -> str:
    """Say how often arms are trained that have fewer seeds than the plan; nothing without any."""
    arms = (arm for planned in plan.experiments for arm in planned.arms)
    fewer = sorted({len(plan.seeds_of(arm)) for arm in arms} - {len(plan.seeds)})
    return f" ({text.listing(map(_times, fewer))} where that is proof enough)" if fewer else ""


def _seeds(plan: Plan) -> str:
    seeds = sorted(plan.seeds)
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    return text.listing(str(seed) for seed in seeds)


def _options(plan: Plan) -> str:
    options = f"--profile {plan.profile}"
    if plan.profile not in PROFILES or len(plan.seeds) != PROFILES[plan.profile].seeds:
        options += f" --seeds {len(plan.seeds)}"
    if plan.is_pilot:
        options += " --pilot"
    elif min(plan.seeds) != FIRST_SEED:
        options += f" --first-seed {min(plan.seeds)}"
    return options + data_option(plan.data)


def _command(plan: Plan, experiment: str) -> str:
    options = _options(plan)
    return f"bnstudy run {experiment} {options} && bnstudy report {experiment} {options}"


def _commands(plan: Plan) -> tuple[str, ...]:
    names = " ".join(planned.experiment.name for planned in plan.experiments)
    return tuple(f"bnstudy {verb} {names} {_options(plan)}" for verb in ("run", "report"))


def _distinct(runs: pd.DataFrame, *columns: str) -> str:
    """Write the distinct combinations of some columns among the finished runs."""
    finished = runs[runs["status"] != "missing"]
    known = [column for column in columns if column in finished]
    if not known or finished.empty:
        return text.MISSING
    found = finished[known].dropna(how="all").drop_duplicates()
    lines = [
        ", ".join(text.setting(value) for value in row if not _absent(value))
        for row in found.itertuples(index=False)
    ]
    return "; ".join(sorted(set(lines))) or text.MISSING


def value_counts(runs: pd.DataFrame, column: str) -> str:
    """Write the values of a column with their numbers of distinct runs: lockstep (120 runs)."""
    finished = runs[runs["status"] != "missing"]
    if column not in finished or finished.empty:
        return text.MISSING
    counts = distinct_runs(finished)[column].dropna().value_counts().sort_index()
    return ", ".join(f"{name} ({text.count(count, 'run')})" for name, count in counts.items())


def _absent(value: object) -> bool:
    return value is None or value != value  # NaN alone differs from itself


def _commits(runs: pd.DataFrame) -> str:
    finished = runs[runs["status"] != "missing"]
    if "git.commit" not in finished or finished["git.commit"].dropna().empty:
        return "not run from a git checkout" if len(finished) else text.MISSING
    found = finished[["git.commit", "git.dirty"]].dropna().drop_duplicates()
    lines = [
        f"{commit}{' with uncommitted changes' if dirty else ''}"
        for commit, dirty in found.itertuples(index=False)
    ]
    return "; ".join(sorted(lines))


def _total(runs: pd.DataFrame, column: str) -> float:
    """Return the sum over distinct runs: two experiments may share one."""
    finished = runs[runs["status"] != "missing"]
    if column not in finished or finished.empty:
        return float("nan")
    return float(distinct_runs(finished)[column].astype(float).sum())


def _speed(runs: pd.DataFrame) -> str:
    speeds = runs["images_per_second"].dropna() if "images_per_second" in runs else pd.Series()
    if speeds.empty:
        return text.MISSING
    return f"{text.decimal(float(speeds.astype(float).median()), 0)} per process (median of runs)"


def _provenance(plan: Plan, runs: pd.DataFrame, more: Mapping[str, str]) -> Table:
    done, diverged, missing = _status_counts(runs)
    versions = sorted(name for name in runs.columns if str(name).startswith("versions."))
    rows = [
        ("Plan (sha256)", plan.sha256),
        ("Profile", plan.profile),
        ("Seeds", _seeds(plan)),
        ("Images", data_name(plan)),
        ("Classes", ", ".join(plan.data.classes)),
        ("Channels, height and width", " x ".join(map(str, plan.data.shape))),
        ("Images (sha256)", plan.data.digest),
        ("Images taken from", _distinct(runs, "data.source")),
        ("Runs, shared ones once", f"{done:,} done, {diverged:,} diverged, {missing:,} missing"),
        ("Crashed runs", "none is kept: a run that crashed is missing until it is trained again"),
        ("Commit", _commits(runs)),
        ("Engine", value_counts(runs, "engine")),
        ("Device", _distinct(runs, "device")),
        ("Threads per process", _distinct(runs, "threads")),
        ("Machine", _distinct(runs, "machine.system", "machine.architecture", "machine.processor")),
        *((f"Version of {name.split('.', 1)[1]}", _distinct(runs, name)) for name in versions),
        ("Time of all runs, summed", text.duration(_total(runs, "wall_seconds"))),
        ("Training images per second", _speed(runs)),
        *sorted((str(name), str(value)) for name, value in more.items()),
    ]
    return Table("Plan, images, runs, code and machine", ("Item", "Value"), tuple(rows))
