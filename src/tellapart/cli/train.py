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
    LabelOptions,
    ModelName,
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
from tellapart.errors import UsageError

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe
    from tellapart.runs.run import Run

Minutes = Annotated[
    float | None, typer.Option(min=0.1, help="Time that the training may take; for recipes with a plan, such as fast.")
]
Weights = Annotated[Path | None, typer.Option(help="A file of weights; or a run, for the weights that it began with.")]


@with_label_options
def train(
    pictures: Pictures,
    *,
    out: Annotated[Path | None, out_option("The run directory; runs/NAME by default.")] = None,
    recipe: RecipeName = DEFAULT_RECIPE,
    minutes: Minutes = None,
    model: ModelName = None,
    weights: Weights = None,
    set_: Changes = None,
    seed: Seed = None,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print events as lines of JSON, the result last.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train, evaluate, bundle and write the report. The same command again goes on, or says that all is done."""
    from tellapart.workflows.progress import JsonLines, progress_sink

    if on_unreadable not in ("error", "skip"):
        raise UsageError(f"--on-unreadable {on_unreadable}: expected error or skip.")
    began = time.time()
    progress = JsonLines() if as_json and not quiet else progress_sink(not quiet, verbose)
    progress.say(f"Looking at {pictures} …")
    loaded = _recipe_of_training(recipe, [*(set_ or []), *as_changes(model, weights, seed)], minutes)
    from tellapart.core.remote import copied_to, remote_url
    from tellapart.core.signals import stopped_soon
    from tellapart.runs.run import Run
    from tellapart.workflows.audit import grouped_scan
    from tellapart.workflows.scan import scan
    from tellapart.workflows.train import RunOptions, follow

    stay_offline(offline)
    where = out or Path("runs") / pictures.resolve().name
    with copied_to(where) as directory, stopped_soon():
        run = Run(directory)
        was_finished = run.finished
        scanning = partial(grouped_scan, model=_published_network(loaded)) if group_duplicates else scan
        catalog = scanning(pictures, progress, **label_options)
        options = RunOptions(on_unreadable, runtime, _command(), resume_anyway, began=began)
        follow(progress, loaded, catalog, run.directory, options, corrections=corrections)
    if directory != where:
        progress.say(f"The run was copied to {remote_url(where)}.")
    if was_finished:
        progress.say(f"{run.directory} was finished already; nothing was trained again.")
    if as_json:
        print_json(_result(run, trained=not was_finished))
    elif not quiet:
        print_out(*_result_text(run))


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

    return [
        next(iter(run.evaluations.values())).table(),
        *verdict(run).lines(),
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
    print_out(f"Runs, answers and scores: {result.runs[0].directory.parent}")
