"""The command line: parse, call one function, print one line or one error."""

import dataclasses
import json
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bnstudy import __version__, data
from bnstudy.config import RunConfig, canonical_json, stream
from bnstudy.errors import BnstudyError, RunFailedError, find
from bnstudy.judging import (
    calibrate,
    finished_runs,
    judge,
    pilot_of,
    require_decidable,
    stored_calibration,
    take_sample,
)
from bnstudy.networks.lenet import trace as trace_layers
from bnstudy.plan import (
    PILOT_SEED,
    PROFILES,
    DataIdentity,
    Experiment,
    Plan,
    find_profile,
    make_plan,
)
from bnstudy.report import trace_table, write_report
from bnstudy.report.comparison import compare as compare_reports
from bnstudy.report.comparison import comparison_text, load_filed
from bnstudy.report.sentences import verdict_record, write_sentence
from bnstudy.runs.runner import run_study
from bnstudy.runs.store import CALIBRATION, Store, refuse_other_plan, write_whole
from experiments import EXPERIMENTS

INTERRUPTED = 130
Command = TypeVar("Command", bound=Callable[..., Any])


reports_option = click.option(
    "--reports",
    "reports_folder",
    type=click.Path(path_type=Path),
    default=Path("reports"),
    help="Folder of all studies' reports.",
)


class OneLineErrors(click.Group):
    """A group of commands in which a user's mistake is one line and exit status 1."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command; turn expected errors into one line each."""
        try:
            return super().invoke(context)
        except BnstudyError as error:
            click.echo(f"error: {error}", err=True)
        except KeyboardInterrupt:
            click.echo("interrupted: run the same command again to go on", err=True)
            context.exit(INTERRUPTED)
        context.exit(1)


@click.group(
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__)
def main() -> None:
    """Find out by experiment what batch normalization really does."""


def study_options(command: Command) -> Command:
    """Add the options that say which study is meant."""
    for option in reversed(
        (
            click.option(
                "--profile",
                default="standard",
                metavar="NAME",
                help="Size: "
                + "; ".join(f"{profile.name} ({profile.cost})" for profile in PROFILES.values()),
            ),
            click.option("--seeds", type=int, help="Seeds per arm, instead of the profile's."),
            click.option(
                "--data",
                "source",
                default="auto",
                metavar="SOURCE",
                help="Images: auto, cache, system, torchvision, debian, sample, or a folder.",
            ),
            click.option("--study", "name", metavar="NAME", help="Name of the study."),
            click.option(
                "--pilot",
                is_flag=True,
                help="Use seeds from 1000 on, which no claim uses, to choose targets and margins.",
            ),
            click.option(
                "--runs",
                "runs_folder",
                type=click.Path(path_type=Path),
                default=Path("runs"),
                help="Folder of all studies' runs.",
            ),
        )
    ):
        command = option(command)
    return command


def load_data(source: str) -> data.Dataset:
    """Load the images of a source word or a folder."""
    if source in data.SOURCES:
        return data.load(source=source)
    return data.load(source="folder", folder=Path(source))


def chosen(names: tuple[str, ...]) -> tuple[Experiment, ...]:
    """Return the experiments of these names, ``all`` standing for every one."""
    if not names or "all" in names:
        return tuple(EXPERIMENTS.values())
    return tuple(find("experiment", name, EXPERIMENTS) for name in dict.fromkeys(names))


def open_study(
    experiments: tuple[str, ...],
    profile: str,
    seeds: int | None,
    source: str,
    name: str | None,
    pilot: bool,
    runs_folder: Path,
) -> tuple[str, Plan, Store, data.Dataset]:
    """Resolve the options of a study to its name, plan, store and images."""
    size, picked = find_profile(profile), chosen(experiments)
    dataset = load_data(source)
    first = PILOT_SEED if pilot else 0
    plan = make_plan(picked, size, DataIdentity.of(dataset), seeds, first)
    ending = "-pilot" * pilot + "-sample" * dataset.is_sample
    study = name or f"{profile}{ending}"
    return study, plan, Store(runs_folder / study), dataset


@main.command()
@click.argument("experiments", nargs=-1, metavar="EXPERIMENT...|all")
@study_options
@click.option("--workers", type=int, help="Processes at once; the number of cores if not given.")
@click.option("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:1, ....")
@click.option(
    "--engine", default="auto", metavar="ENGINE", help="auto, reference or lockstep (faster)."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be trained.")
@click.pass_context
def run(
    context: click.Context,
    workers: int | None,
    device: str,
    engine: str,
    dry_run: bool,
    **options: Any,
) -> None:
    """Train the runs that are not there yet."""
    study, plan, store, dataset = open_study(**options)
    click.echo(f"study {study}: {len(plan.runs)} runs, plan {plan.sha256[:12]}")
    for line in dataset.notes:
        click.echo(line)
    if not options["pilot"]:
        require_decidable(plan)
    summary = run_study(
        plan,
        store,
        dataset,
        workers=workers,
        device=device,
        engine=engine,
        dry_run=dry_run,
        echo=click.echo,
    )
    click.echo(summary.sentence)
    if summary.interrupted:
        context.exit(INTERRUPTED)
    if summary.failed:
        raise RunFailedError(
            f"{len(summary.failed)} runs failed; run the same command again to retry them"
        )


@main.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
@reports_option
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def report(reports_folder: Path, open_it: bool, **options: Any) -> None:
    """Write the report of the runs that are there, as HTML and Markdown."""
    study, plan, store, _ = open_study(**options)
    calibration = stored_calibration(store.root, plan)
    index = write_report(plan, store, reports_folder / study, calibration=calibration)
    click.echo(f"report: {index}")
    if open_it:
        webbrowser.open(index.resolve().as_uri())


@main.command()
@click.argument("first")
@click.argument("second")
@reports_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def compare(first: str, second: str, reports_folder: Path, as_json: bool) -> None:
    """Put two reported studies side by side: FIRST and SECOND are names or folders of reports."""
    found = compare_reports(load_filed(first, reports_folder), load_filed(second, reports_folder))
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        click.echo(comparison_text(found))


@main.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, with rules and robustness rows.")
def claims(as_json: bool, **options: Any) -> None:
    """Print the verdict on every registered claim."""
    _, plan, store, _ = open_study(**options)
    verdicts = judge(plan, store.tables(plan), store.stored_plan() or plan.canonical())
    if as_json:
        click.echo(json.dumps([verdict_record(verdict) for verdict in verdicts], indent=2))
    elif not verdicts:
        click.echo(f"the {plan.profile} profile registers no claims of these experiments")
    for verdict in () if as_json else verdicts:
        click.echo(f"{verdict.claim.id}: {write_sentence(verdict)}")


@main.group(name="plan")
def plan_group() -> None:
    """Show, freeze or check what a study registers before its first run."""


@plan_group.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def show(**options: Any) -> None:
    """Print the plan as canonical JSON: everything a run or a verdict depends on."""
    _, plan, _, _ = open_study(**options)
    click.echo(canonical_json(plan.canonical()))


@plan_group.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def freeze(**options: Any) -> None:
    """Store the plan now; the first run does it too."""
    study, plan, store, _ = open_study(**options)
    require_decidable(plan)
    store.freeze(plan)
    click.echo(f"study {study}: plan {plan.sha256[:12]} with {len(plan.claims)} claims is stored")


@plan_group.command()
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def check(**options: Any) -> None:
    """Say whether the seeds can decide the claims, and whether the stored plan is this one."""
    study, plan, store, _ = open_study(**options)
    require_decidable(plan)
    stored = store.stored_plan()
    if stored is None:
        click.echo(f"study {study}: no plan is stored yet")
    else:
        refuse_other_plan(stored, plan.canonical(), study)
        same = stored == json.loads(canonical_json(plan.canonical()))
        which = "this" if same else "an older or a larger"
        click.echo(f"study {study}: the stored plan is {which} one")
    click.echo(f"{len(plan.claims)} claims, {len(plan.seeds)} seeds: all can come out")


@plan_group.command(name="calibrate")
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
@click.option("--studies", type=int, default=2_000, help="Simulated studies of each kind.")
def calibrate_plan(studies: int, **options: Any) -> None:
    """Simulate studies of this plan: how often it errs, and how often it finds what is there."""
    study, plan, store, _ = open_study(**options)
    found = calibrate(plan, stream(0, "calibration"), studies)
    content = {"plan": plan.sha256, **dataclasses.asdict(found)}
    store.root.mkdir(parents=True, exist_ok=True)
    write_whole(store.root / CALIBRATION, canonical_json(content).encode())
    click.echo(
        f"study {study}: family-wise error {found.family_wise_error:.3f} "
        f"(standard error {found.standard_error:.3f}) in {studies:,} null studies"
    )
    for claim, power in found.power.items():
        click.echo(f"{claim}: found in {power:.1%} of studies with the pilot's effect")


@plan_group.command(name="pilot")
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def show_pilot(**options: Any) -> None:
    """Print what pilot runs (run --pilot) say of each claim's number, for its registration."""
    _, plan, store, _ = open_study(**{**options, "pilot": True})
    runs = finished_runs(plan, store.tables(plan))
    click.echo("claim: effect, standard deviation, share of censored runs (scale of analysis)")
    for planned in plan.experiments:
        for claim in planned.claims:
            sample = take_sample(claim, plan, planned, runs)
            if sample.missing:
                click.echo(f"{claim.id}: missing are {', '.join(sample.missing)}")
                continue
            effect, spread = pilot_of(sample)
            share = sample.censored / sample.runs
            click.echo(f"{claim.id}: {effect:.4g}, {spread:.4g}, {share:.2f}")


@main.command()
@click.argument("arm", required=False)
@click.option("--experiment", "name", default="convergence", help="Whose arms to look in.")
@click.option("--profile", default="standard", metavar="NAME", help="Profile of the experiment.")
@click.option("--norm", help="Instead of an arm: LeNet with this normalization word.")
def trace(arm: str | None, name: str, profile: str, norm: str | None) -> None:
    """Print what each layer of an arm makes of one image, and what it costs."""
    if norm is not None:
        config = RunConfig(norm=norm)
    else:
        experiment = find("experiment", name, EXPERIMENTS)
        arms = {each.name: each for each in experiment.arms(find_profile(profile))}
        config = find("arm", arm or next(iter(arms)), arms).config
    click.echo(trace_table(trace_layers(config)))


@main.group(name="data")
def data_group() -> None:
    """Fetch, describe or check the images."""


def data_option(command: Command) -> Command:
    """Add the option that says which images are meant."""
    return click.option(
        "--data", "source", default="auto", metavar="SOURCE", help="A source word or a folder."
    )(command)


@data_group.command()
@data_option
def fetch(source: str) -> None:
    """Make sure that the images are there, from the network if need be."""
    dataset = load_data(source)
    for note in dataset.notes:
        click.echo(note)
    click.echo(f"{dataset.name} is there, from source {dataset.source}")


@data_group.command()
@data_option
def info(source: str) -> None:
    """Say which images a study would use."""
    dataset = load_data(source)
    click.echo(f"data set         {dataset.name}{' (sample)' if dataset.is_sample else ''}")
    click.echo(f"source           {dataset.source}")
    click.echo(f"training images  {len(dataset.train_labels):,}")
    click.echo(f"test images      {len(dataset.test_labels):,}")
    for file, checksum in dataset.digests.items():
        click.echo(f"{file}  sha256 {checksum}")
    for note in dataset.notes:
        click.echo(note)


@data_group.command()
@data_option
@click.pass_context
def verify(context: click.Context, source: str) -> None:
    """Check each file against its checksum."""
    found = data.verify(data.folder_of(source))
    for file, state in found.items():
        click.echo(f"{file}  {state}")
    if not all(state.startswith("ok") for state in found.values()):
        context.exit(1)


if __name__ == "__main__":
    main()
