"""The commands `study`, `study show`, `study close` and `runs`: parse, call, print."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from tellapart.cli.help import Command
from tellapart.cli.options import Cluster, LabelOptions, Quiet, out_option, with_label_options
from tellapart.core.output import print_json, print_out
from tellapart.errors import UsageError

if TYPE_CHECKING:
    from tellapart.core.text import Lines
    from tellapart.data.catalog import Catalog
    from tellapart.experiments.read_study import Source
    from tellapart.experiments.run_study import StudyOptions
    from tellapart.experiments.study_file import StudyFile
    from tellapart.workflows.progress import ProgressSink

Directory = Annotated[Path, typer.Argument(help="A study's directory.")]
_OWN = ("show", "close")


class _RunByDefault(typer.core.TyperGroup):
    """`tellapart study photos/` runs a study; only the names of the other commands mean these."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] and args[0] in _OWN else ["run", *args])


app = typer.Typer(
    cls=_RunByDefault,
    help="Change one thing, hold the rest; say if it mattered.",
    rich_markup_mode=None,
    add_completion=False,
)


@app.command("run", cls=Command, epilog="A finished study: tellapart study show FOLDER, tellapart study close FOLDER.")
@with_label_options
def run(
    study: Annotated[Path, typer.Argument(help="A study's file, its directory, a shipped study, or pictures.")],
    pictures: Annotated[
        Path | None, typer.Argument(help="A folder of pictures, or a table, for a study that names none.")
    ] = None,
    *,
    recipe: Annotated[str | None, typer.Option(help="What the cells change: a shipped recipe or a TOML file.")] = None,
    vary: Annotated[
        list[str] | None, typer.Option(help="A factor: key=value,value or key=1e-5..1e-2; may be repeated.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change the recipe of all cells.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Trainings of a cell; 3..12: more where undecided.")] = None,
    design: Annotated[str | None, typer.Option(help="one-at-a-time, grid, random or optuna.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="A metric, seconds or n_parameters; may be repeated.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Cells of a random or optuna design.")] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Cross-validate over so many folds.")] = None,
    vary_randomness: Annotated[
        str | None, typer.Option(help="What the seeds change, nested: some of split,init,order.")
    ] = None,
    out: Annotated[Path | None, out_option("The study's directory; studies/NAME by default.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin no training after that.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Trainings at a time.")] = 1,
    storage: Annotated[str, typer.Option(help="URL of a database in which several machines meet.")] = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do those again that failed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show cells and time; train nothing.")] = False,
    cluster: Cluster = None,
    label_options: LabelOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train each cell of a study several times, and say which settings mattered."""
    from tellapart.core.signals import stopped_soon
    from tellapart.experiments.run_study import StudyOptions, run_study
    from tellapart.experiments.run_study import dry_run as estimate
    from tellapart.experiments.study import directory_of, pictures_of, read_given, with_pictures
    from tellapart.workflows.progress import progress_sink

    file, photos, own = _source(study, pictures)
    keys = _keys(vary, vary_randomness, seeds, trials)
    single = {"recipe": recipe, "set": set_, "design": design, "folds": folds}
    keys |= {name: value for name, value in single.items() if value is not None}
    if objective:
        keys["objective"] = objective[0] if len(objective) == 1 else objective
    if file is None and not vary:
        raise UsageError(
            f"{study} is taken for pictures, and nothing is varied.",
            "Say what: --vary stages.0.lr=1e-4,1e-3; or give the file of a study.",
        )
    read, source = read_given(file, keys)
    sink = progress_sink(not quiet)
    with stopped_soon():
        read = with_pictures(read, photos, **label_options)
        catalog = pictures_of(read, sink)
        directory = directory_of(out or own, file, catalog)
        options = StudyOptions(storage, parallel, minutes, retry_failed, shlex.join(["tellapart", *sys.argv[1:]]))
        if dry_run:
            print_out(estimate(read, source, catalog, directory, options, sink).text())
            return
        if cluster is None:
            run_study(read, source, catalog, directory, options, sink)
        else:
            _run_on(cluster, read, source, catalog, directory, options, sink)
    _print(directory, as_json)


def _run_on(
    address: str,
    file: StudyFile,
    source: Source,
    catalog: Catalog,
    directory: Path,
    options: StudyOptions,
    sink: ProgressSink,
) -> None:
    """Do a study's trainings on a cluster."""
    from tellapart.cluster.connect import connected
    from tellapart.cluster.studying import on_cluster
    from tellapart.experiments.run_study import n_threads, run_study

    with connected(address) as cluster:
        run_study(file, source, catalog, directory, on_cluster(cluster, options, n_threads(file, options)), sink)


def _source(study: Path, pictures: Path | None) -> tuple[Path | None, Path | None, Path | None]:
    """Study file, pictures and directory, as the first argument is one or the other."""
    from tellapart.experiments.directory import STUDY_FILE
    from tellapart.experiments.read_study import shipped_studies

    if (study / STUDY_FILE).is_file():
        return study / STUDY_FILE, pictures, study
    if (
        pictures is not None
        or study.suffix.lower() == ".toml"
        or (str(study) in shipped_studies() and not study.exists())
    ):
        return study, pictures, None
    return None, study, None


def _keys(vary: list[str] | None, vary_randomness: str | None, seeds: str | None, trials: int | None) -> dict[str, Any]:
    """Options as keys of the study's file."""
    from tellapart.experiments.read_study import read_vary

    keys: dict[str, Any] = {}
    if vary:
        keys["vary"] = dict(map(read_vary, vary))
    if vary_randomness is not None:
        names = [name.strip() for name in vary_randomness.split(",")]
        keys |= {"vary_randomness": names, "nested": len(names) > 1}
    if trials is not None:
        keys["budget"] = {"trials": trials}
    if seeds is not None:
        first, dots, last = seeds.partition("..")
        try:
            keys["seeds"] = {"from": int(first), "to": int(last)} if dots else int(first)
        except ValueError:
            raise UsageError(f"--seeds {seeds}: expected a number, or a range.", "For example 3, or 3..12") from None
    return keys


@app.command("show", cls=Command)
def show(
    study: Directory,
    mlflow: Annotated[str, typer.Option(help="Write all trainings to MLflow: sqlite:///mlflow.db")] = "",
    tensorboard: Annotated[Path | None, typer.Option(help="Write all curves for TensorBoard to this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Show the table of a study as it stands. Its page and paper pack are written anew."""
    from tellapart.experiments.results import read_results
    from tellapart.experiments.run_study import finish
    from tellapart.workflows.progress import progress_sink

    results = read_results(study)
    finish(study, progress_sink(not quiet))
    _print(study, as_json)
    if mlflow:
        from tellapart.experiments.tracking import export_mlflow

        print_out(f"MLflow: {export_mlflow(results, mlflow)} trainings added to {mlflow}")
    if tensorboard:
        from tellapart.experiments.tracking import export_tensorboard

        n = export_tensorboard(results, tensorboard)
        print_out(f"TensorBoard: {n} trainings; tensorboard --logdir {shlex.quote(str(tensorboard))}")


@app.command("close", cls=Command)
def close(
    study: Directory,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train winner and baseline again on training and validation pictures.")
    ] = False,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Close it although trainings are missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Open the test part once, for the winner and the baseline. Nothing more can be chosen by this study."""
    from tellapart.core.signals import stopped_soon
    from tellapart.experiments.close import close_study, close_text
    from tellapart.workflows.progress import progress_sink

    with stopped_soon():
        values = close_study(study, retrain, progress_sink(not quiet), unfinished=unfinished)
    if as_json:
        print_json(values)
        return
    print_out(close_text(values))
    print_out(
        f"Ask it: tellapart predict {shlex.quote(str(study / 'winner'))} PICTURE", f"Page: {study / 'study.html'}"
    )


def _print(directory: Path, as_json: bool) -> None:
    from tellapart.core.text import as_lines
    from tellapart.experiments.cell_statistics import summarise
    from tellapart.experiments.results import read_results
    from tellapart.experiments.study_report import table
    from tellapart.report.study_table import text

    summary = summarise(read_results(directory))
    if as_json:
        print_json(table(summary).to_dicts())
        return
    print_out(as_lines(text(summary).split("\n")))
    print_out(f"Page: {directory / 'study.html'}", f"Paper pack: {directory / 'paper'}")


def runs(
    folder: Annotated[Path | None, typer.Argument(help="A folder of runs and studies; runs/ and studies/.")] = None,
    where: Annotated[str, typer.Option(help="Only those with, e.g. 'score > 0.9 and model ~ mobilenet'.")] = "",
    sort: Annotated[str, typer.Option(help="A column; numbers fall, texts rise.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List all runs and studies below a folder. One line each."""
    from tellapart.experiments.list_runs import list_runs, runs_text

    table = list_runs(folder, where, sort)
    if as_json:
        print_json(table.to_dicts())
        return
    text: Lines = runs_text(table)
    print_out(text)
