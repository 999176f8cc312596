"""Commands that train: parse, call, print."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.cli.options import (
    DEFAULT_RECIPE,
    Changes,
    Cluster,
    LabelOptions,
    ModelName,
    NoExplain,
    Offline,
    Pictures,
    Quiet,
    RecipeName,
    Seed,
    Verbose,
    as_changes,
    load_recipe,
    out_option,
    stay_offline,
    with_label_options,
)
from tellapart.core.output import print_json, print_out
from tellapart.core.processes import rank
from tellapart.core.remote import copied_to, remote_url
from tellapart.errors import TellapartError, UsageError

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe
    from tellapart.runs.run import Run
    from tellapart.workflows.progress import ProgressSink
    from tellapart.workflows.train import RunOptions

Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Time that the training may take; for recipes with a plan, such as fast.")
]
Weights = Annotated[Path | None, typer.Option(help="A file of weights; or a run, for the weights that it began with.")]


@with_label_options
def train(
    pictures: Pictures,
    *,
    out: Annotated[
        Path | None, out_option("The run directory; runs/NAME by default. s3://…: it is copied there.", storage=True)
    ] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    minutes: Minutes = None,
    model: ModelName = None,
    weights: Weights = None,
    set_: Changes = None,
    seed: Seed = None,
    no_explain: NoExplain = False,
    offline: Offline = False,
    label_options: LabelOptions,
    group_duplicates: Annotated[
        bool,
        typer.Option(
            "--group-duplicates", help="Keep near duplicates and pictures of one scene on one side of the split."
        ),
    ] = False,
    corrections: Annotated[
        Path | None, typer.Option(help="The corrections.csv of a review: relabel and exclude, before the split.")
    ] = None,
    on_unreadable: Annotated[
        str, typer.Option(help="A picture that breaks after the scan: error, or skip and record.")
    ] = "error",
    runtime: Annotated[
        str, typer.Option(help="auto measures; or some of cpu,cuda,mps,float32,bfloat16,channels-last,contiguous.")
    ] = "auto",
    resume_anyway: Annotated[
        bool,
        typer.Option("--resume-anyway", help="Resume in spite of other versions, labels or later stages; recorded."),
    ] = False,
    cluster: Cluster = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that train together; with --cluster, all of it by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as lines of JSON, the result last.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train, evaluate, bundle and write the report. The same command again goes on, or says that all is done."""
    from tellapart.workflows.progress import JsonLines, progress_sink

    if on_unreadable not in ("error", "skip"):
        raise UsageError(f"--on-unreadable {on_unreadable}: expected error or skip.")
    if workers and cluster is None:
        raise UsageError("--workers belongs to --cluster.", "On this machine alone: --cluster auto --workers 2")
    if cluster not in (None, "auto") and remote_url(out or ""):
        raise UsageError(
            f"--out {remote_url(out or '')}: a cluster that runs already writes the run on its own machines.",
            "Name a folder that they all share, and copy it then.",
        )
    if rank():  # torchrun has started several: the first one leads, and reads the pictures and the recipe
        _help(offline, on_unreadable, runtime)
        return
    began = time.time()
    progress = JsonLines() if as_json and not quiet else progress_sink(not quiet, verbose)
    progress.say(f"Looking at {pictures} …")
    loaded = _recipe_of_training(recipe, [*(set_ or []), *as_changes(model, weights, seed, no_explain)], minutes)
    from tellapart.core.signals import stopped_soon
    from tellapart.runs.run import Run
    from tellapart.workflows.audit import grouped_scan
    from tellapart.workflows.scan import scan
    from tellapart.workflows.train import RunOptions, follow

    stay_offline(offline)
    where = out or Path("runs") / pictures.resolve().name
    options = RunOptions(on_unreadable, runtime, _command(), resume_anyway, began=began)
    with copied_to(where) as directory:
        run = Run(directory)
        was_finished = run.finished
        scanning = partial(grouped_scan, model=_published_network(loaded)) if group_duplicates else scan
        if cluster is not None:
            whole = corrections.resolve() if corrections else None
            work = {"corrections": whole, "labels": _named_anywhere(label_options), "scanning": scanning}
            _train_on(cluster, workers, pictures, run, loaded, options, work, progress)
        else:
            with stopped_soon():
                catalog = scanning(pictures, progress, **label_options)
                follow(progress, loaded, catalog, run.directory, options, corrections=corrections)
    if directory != where:
        progress.say(f"The run was copied to {remote_url(where)}.")
    if was_finished:
        progress.say(f"{run.directory} was finished already; nothing was trained again.")
    if as_json:
        print_json(_result(run, trained=not was_finished))
    elif not quiet:
        print_out(*_result_text(run))


def _help(offline: bool, on_unreadable: str, runtime: str) -> None:
    """Take a share of what the leader trains."""
    from tellapart.core.signals import stopped_soon
    from tellapart.workflows.train import help_to_the_end

    stay_offline(offline)
    try:
        with stopped_soon():
            help_to_the_end(on_unreadable, runtime)
    except TellapartError as error:  # the leader says what is wrong
        raise typer.Exit(error.exit_code) from error


def _train_on(
    address: str,
    workers: int | None,
    pictures: Path,
    run: Run,
    recipe: Recipe,
    options: RunOptions,
    more: dict[str, Any],
    progress: ProgressSink,
) -> None:
    """Train on a cluster; `more` of the fields of its `Work`."""
    from tellapart.cluster.connect import connected
    from tellapart.cluster.training import Work, train_on_cluster

    work = Work(remote_url(pictures) or pictures.resolve(), run.directory.resolve(), recipe, options, **more)
    with connected(address) as cluster:
        train_on_cluster(cluster, work, workers, progress)


def _named_anywhere(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose paths mean the same in another folder; those that are below the pictures stay."""
    return {
        name: value.resolve() if isinstance(value, Path) and value.exists() else value
        for name, value in options.items()
    }


def _result(run: Run, trained: bool) -> dict[str, Any]:
    """The last line of --json: where a finished run's files are, whether this command trained it, and its scores."""
    from tellapart.report.verdict import verdict

    return {
        "event": "Finished",
        "trained": trained,
        "run": str(run.directory),
        "report": str(run.report),
        "bundle": str(run.bundle),
        "evaluations": {on: evaluation.as_dict() for on, evaluation in run.evaluations.items()},
        "verdict": asdict(verdict(run)),
    }


def _published_network(recipe: Recipe) -> str | None:
    """The network whose published weights a training begins with; None where it begins otherwise."""
    model = recipe.model
    published = model.pretrained and not model.weights and model.name not in ("auto", "blocks", "ensemble")
    return model.name if published else None


def _result_text(run: Run) -> list[str]:
    from tellapart.report.verdict import verdict

    conclusion = verdict(run)
    return [
        conclusion.table(next(iter(run.evaluations.values()))),
        *conclusion.lines(),
        f"Report: {run.report}",
        f"Ask it: tellapart predict {shlex.quote(str(run.directory))} PICTURE",
    ]


def _recipe_of_training(name: str, changes: list[str], minutes: float | None) -> Recipe:
    """The recipe with its changes, and with the time that its plan may take.

    Raises:
        UsageError: a time is given, and the recipe has no plan that is open.
    """
    from tellapart.recipe.load import read_recipe

    recipe = load_recipe(name, changes)
    if minutes is None:
        return recipe
    if recipe.plan is None or recipe.plan.why:
        raise UsageError(
            f"--minutes {minutes:g}: the recipe {name} leaves nothing open to be chosen for that time.",
            "With --recipe fast it is; or change how long its stages are: --set stages.0.epochs=3",
        )
    recipe, _ = read_recipe(name, [*changes, f"plan.minutes={minutes}"])
    return recipe


def _command() -> str:
    """The command that repeats this one."""
    return shlex.join(["tellapart", *sys.argv[1:]])


@with_label_options
def cross_validate(
    pictures: Pictures,
    *,
    out: Annotated[Path | None, out_option("Gets a run directory a fold; runs/NAME-folds by default.")] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    minutes: Minutes = None,
    folds: Annotated[int, typer.Option(min=2, help="How many; each is the test once.")] = 5,
    model: ModelName = None,
    weights: Weights = None,
    set_: Changes = None,
    seed: Seed = None,
    offline: Offline = False,
    label_options: LabelOptions,
    quiet: Quiet = False,
) -> None:
    """Train once a fold, so that every picture is tested. For small sets."""
    from tellapart.core.signals import stopped_soon
    from tellapart.workflows.cross_validate import cross_validate as run_folds
    from tellapart.workflows.progress import progress_sink
    from tellapart.workflows.scan import scan

    stay_offline(offline)
    loaded = _recipe_of_training(recipe, [*(set_ or []), *as_changes(model, weights, seed)], minutes)
    with stopped_soon():
        catalog = scan(pictures, progress_sink(not quiet), **label_options)
        result = run_folds(catalog, loaded, folds, out, command=_command(), progress=not quiet)
    print_out(result.table())
    print_out(*result.verdict.lines(), f"Runs, answers and scores: {result.runs[0].directory.parent}")
