"""The command line: parse, call, print; nothing else. Heavy imports stand inside the commands that need them."""

from __future__ import annotations

import gc
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from tellapart.cli import audit, cache, explain, review, runs
from tellapart.cli.options import Changes, Found, Pictures, Quiet, RecipeName, Seed, TtaMean, finds_labels
from tellapart.errors import TellapartError, UsageError

#: As they are listed: in the order in which they are likely to be wanted.
_COMMANDS = (
    *("scan", "audit", "train", "cross-validate", "evaluate", "predict", "errors", "review", "explain"),
    *("compare", "slices", "curves", "average", "recipes", "models", "summary", "find-rate", "augment", "ahead"),
    "cache",
)


class _InOrder(typer.core.TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_COMMANDS.index)


app = typer.Typer(
    name="tellapart",
    cls=_InOrder,
    help="Learn to tell pictures apart: from a folder of pictures to a classifier that answers.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
recipes_app = typer.Typer(
    help="List the recipes that come with Tellapart, or show one.", rich_markup_mode=None, invoke_without_command=True
)
app.add_typer(recipes_app, name="recipes")
app.command()(review.errors)
app.command()(review.review)
app.command()(audit.audit)
app.command()(explain.explain)
app.add_typer(cache.app, name="cache")
app.command()(runs.curves)
app.command()(runs.average)
app.command()(runs.compare)
app.command()(runs.slices)

UNREADABLE = 3


def main() -> None:
    """Run the command line; errors meant for people become a message and an exit code."""
    # Loading torch makes a million objects that stay. To search them for garbage again and again takes a tenth of it.
    gc.set_threshold(10_000, 20, 50)
    try:
        app()
    except TellapartError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has stopped reading; closing quietly is what other programs do.
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:  # a full disk, a folder that may not be written to
        print(f"Error: {error.filename or 'Reading or writing failed'}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from tellapart.core.version import __version__

        print(f"tellapart {__version__}")
        raise typer.Exit


@app.command()
@finds_labels
def scan(
    pictures: Pictures,
    *,
    found: Found,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; by default one a processor.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    quiet: Quiet = False,
) -> None:
    """Say what is there: classes, counts, sizes, trouble. Nothing is changed."""
    from tellapart.workflows.progress import Console
    from tellapart.workflows.scan_summary import summary_json, summary_text

    catalog = Console(quiet=quiet or as_json).scan(pictures, **found, workers=workers)
    print(summary_json(catalog) if as_json else summary_text(catalog))


@app.command()
@finds_labels
def train(
    pictures: Pictures,
    *,
    out: Annotated[Path | None, typer.Option(help="The run directory; runs/NAME by default.")] = None,
    recipe: RecipeName = "fast",
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="What the training may take; for recipes with a plan, such as fast.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The network (see `tellapart models`).")] = None,
    weights: Annotated[Path | None, typer.Option(help="A file of weights, or a run: begin as it did.")] = None,
    set_: Changes = None,
    seed: Seed = None,
    found: Found,
    group_duplicates: Annotated[
        bool, typer.Option("--group-duplicates", help="Keep near duplicates on one side of the split, as exact copies.")
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
        bool, typer.Option("--resume-anyway", help="Go on with other versions, labels or later stages; recorded.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train, evaluate, bundle and write the report. The same command again goes on, or says that all is done."""
    from tellapart.core.signals import stopped_soon
    from tellapart.recipe.load import load_recipe
    from tellapart.runs.run import Run
    from tellapart.workflows.audit import grouped_scan
    from tellapart.workflows.progress import Console
    from tellapart.workflows.train import RunOptions, follow

    if on_unreadable not in ("error", "skip"):
        raise UsageError(f"--on-unreadable {on_unreadable}: expected error or skip.")
    changes = list(set_ or [])
    changes += [f"model.name={_toml_text(model)}"] if model is not None else []
    changes += [f"model.weights={_toml_text(str(weights.resolve()))}"] if weights else []
    changes += [f"seed={seed}"] if seed is not None else []
    plan = load_recipe(recipe, changes)
    if minutes is not None:
        if plan.plan is None or plan.plan.why:
            raise UsageError(
                f"--minutes {minutes:g}: the recipe {recipe} leaves nothing open to be chosen for that time.",
                "With --recipe fast it is; or change how long its stages are: --set stages.0.epochs=3",
            )
        plan = load_recipe(recipe, [*changes, f"plan.minutes={minutes}"])
    console = Console(quiet, as_json)
    directory = out or Path("runs") / pictures.resolve().name
    finished = Run(directory)
    was_finished = finished.finished
    command = shlex.join(["tellapart", *sys.argv[1:]])
    with stopped_soon():
        catalog = grouped_scan(pictures, console, **found) if group_duplicates else console.scan(pictures, **found)
        run_options = RunOptions(on_unreadable, runtime, command, resume_anyway)
        follow(console, plan, catalog, directory, run_options, corrections=corrections)
    if was_finished:
        console.say(f"{directory} was finished already; nothing was trained again.")
    if not quiet and not as_json:
        print(next(iter(finished.evaluations.values())).table())
        print(f"Report: {finished.report}\nAsk it: tellapart predict {shlex.quote(str(directory))} PICTURE")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    on: Annotated[
        str, typer.Option(help="test, validation, or a folder or table of other labelled pictures.")
    ] = "test",
    tta: Annotated[
        int | None, typer.Option(min=1, max=32, help="With so many changed copies of each picture: gain and cost.")
    ] = None,
    tta_mean: TtaMean = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how good a finished training is, with 95 % intervals."""
    import json

    from tellapart.workflows.evaluate import evaluate as evaluate_run
    from tellapart.workflows.evaluate import try_copies

    tried = try_copies(run, on, tta, tta_mean) if tta else None
    result = tried.averaged if tried else evaluate_run(run, on, tta_mean=tta_mean)
    if as_json:
        print(json.dumps(result.as_dict() | ({"tta": str(tried), "times": tried.times} if tried else {})))
    else:
        print(result.table() + (f"\n{tried}" if tried else ""))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run directory or a bundle.")],
    pictures: Annotated[list[str], typer.Argument(help="Pictures, folders, or patterns such as 'new/**/*.jpg'.")],
    top: Annotated[int, typer.Option(min=1, help="How many labels an answer lists.")] = 1,
    coverage: Annotated[
        float | None, typer.Option(help="Give sets that hold the right class this often, such as 0.95.")
    ] = None,
    unknown: Annotated[
        bool | None, typer.Option("--unknown/--no-unknown", help="Whether to answer “unknown” to what is unlike all.")
    ] = None,
    tta: Annotated[
        int | None, typer.Option(min=0, max=32, help="Average over so many changed copies of each picture too.")
    ] = None,
    tta_mean: TtaMean = None,
    format: Annotated[str, typer.Option(help="table, csv, jsonl or parquet.")] = "table",
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of the terminal.")] = None,
    submission: Annotated[
        Path | None, typer.Option(help="Write a competition's answer to this file: name without suffix, and label.")
    ] = None,
) -> None:
    """Answer with label and certainty. Exit code 3 if some pictures could not be read."""
    from tellapart.deploy.output_formats import write_answers
    from tellapart.deploy.predictor import answers, find_pictures, load
    from tellapart.deploy.submission import COLUMNS, write_submission

    classifier = load(run)
    asked = find_pictures(pictures)
    more = (("candidates",) if coverage is not None else ()) + (
        ("strangeness", "unknown") if unknown or (format == "jsonl" and classifier.bundle.strangeness) else ()
    )
    if submission and unknown is None:
        unknown = False  # a competition knows its classes alone
    given = answers(classifier.bundle, asked, top=top, coverage=coverage, unknown=unknown, tta=tta, tta_mean=tta_mean)
    if submission:
        first, second = classifier.bundle.about.get("columns") or COLUMNS
        summary = write_submission(given, submission, (first, second))
    else:
        summary = write_answers(given, format, top, out, more)
    if format != "table" or submission:  # the table lists them itself
        for path, reason in summary.unreadable:
            print(f"Cannot read {path}: {reason}", file=sys.stderr)
    if summary.n_unreadable:
        raise typer.Exit(UNREADABLE)


@recipes_app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that come with Tellapart."""
    if context.invoked_subcommand is None:
        from tellapart.recipe.load import describe_shipped

        for name, about in describe_shipped().items():
            print(f"{name:<16} {about}")


@recipes_app.command("show")
def show_recipe(name: Annotated[str, typer.Argument(help="Name of a shipped recipe.")]) -> None:
    """Print a recipe, to read or to begin one's own from."""
    from tellapart.recipe.load import recipe_text

    print(recipe_text(name), end="")


@app.command("cross-validate")
@finds_labels
def cross_validate(
    pictures: Pictures,
    *,
    out: Annotated[Path | None, typer.Option(help="Gets a run directory a fold; runs/NAME-folds by default.")] = None,
    recipe: RecipeName = "transfer",
    folds: Annotated[int, typer.Option(min=2, help="How many; each is the test once.")] = 5,
    set_: Changes = None,
    seed: Seed = None,
    found: Found,
    quiet: Quiet = False,
) -> None:
    """Train once a fold, so that every picture is judged. For small sets."""
    from tellapart.core.signals import stopped_soon
    from tellapart.workflows.cross_validate import cross_validate as run_folds
    from tellapart.workflows.progress import Console

    changes = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    command = shlex.join(["tellapart", *sys.argv[1:]])
    with stopped_soon():
        catalog = Console(quiet).scan(pictures, **found)
        result = run_folds(catalog, recipe, folds, out, changes=changes, command=command, quiet=quiet)
    print(result.table())
    print(f"Runs, answers and scores: {result.runs[0].directory.parent}")


@app.command("find-rate")
@finds_labels
def find_rate(
    pictures: Pictures,
    *,
    recipe: RecipeName = "transfer",
    set_: Changes = None,
    stage: Annotated[
        int | None, typer.Option(min=0, help="Which stage of the recipe, from 0; by default the first with a rate.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The plot: a .png or .svg file.")] = Path("find-rate.png"),
    found: Found,
    quiet: Quiet = False,
) -> None:
    """Raise the learning rate step by step and suggest one. Nothing is trained."""
    from tellapart.recipe.load import load_recipe
    from tellapart.workflows.preview import rates, stage_with_rate, suggested
    from tellapart.workflows.progress import Console

    plan = load_recipe(recipe, set_)
    number = stage_with_rate(plan, stage)
    console = Console(quiet)
    console.say(f"Stage {number} (from 0) of the recipe.")
    tried = rates(console.scan(pictures, **found), plan, number, out, console)
    for name, rate in suggested(tried).items():
        print(f"{name:<22} {rate:.1e}")
    if not tried.rose:
        print("The loss never rose clearly: the test ended before the rate was too high.")
    print(f"Plot: {out}")


@app.command()
@finds_labels
def augment(
    pictures: Pictures,
    *,
    recipe: RecipeName = "scratch",
    set_: Changes = None,
    out: Annotated[Path, typer.Option(help="The contact sheet, a .png file.")] = Path("augment.png"),
    found: Found,
    quiet: Quiet = False,
) -> None:
    """Draw pictures, plain and as training would change them."""
    from tellapart.recipe.load import load_recipe
    from tellapart.workflows.preview import augmented
    from tellapart.workflows.progress import Console

    plan = load_recipe(recipe, set_)
    print(f"Contact sheet: {augmented(Console(quiet).scan(pictures, **found), plan, out)}")


@app.command()
@finds_labels
def ahead(
    pictures: Pictures,
    *,
    recipe: RecipeName = "scratch",
    set_: Changes = None,
    write: Annotated[bool, typer.Option("--write", help="Write all of them to a new folder, with a table.")] = False,
    out: Annotated[Path, typer.Option(help="The folder.")] = Path("ahead"),
    found: Found,
    quiet: Quiet = False,
) -> None:
    """Say what versions of pictures a recipe makes ahead. With --write, make a folder of them (data.ahead)."""
    from tellapart.recipe.load import load_recipe
    from tellapart.workflows.preview import multiplied
    from tellapart.workflows.progress import Console

    console, plan = Console(quiet), load_recipe(recipe, set_)
    print(multiplied(console.scan(pictures, **found), plan, out if write else None, console))
    if write:
        to = shlex.quote(str(out))
        again = f"tellapart train {to} --recipe {shlex.quote(recipe)} --set 'data.ahead=[]'"
        print(f"Table: {out / 'pictures.csv'}\nTrain on them: {again}")
    else:
        print("Nothing was written: training makes them when it needs them. With --write they become files.")


@app.command()
def summary(
    recipe: RecipeName = "transfer",
    set_: Changes = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 10,
) -> None:
    """Print a recipe's network layer by layer. Shapes, parameters, memory."""
    from tellapart.recipe.load import load_recipe
    from tellapart.workflows.preview import layers

    print(layers(load_recipe(recipe, set_), classes))


@app.command()
def models(
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only those with pretrained weights.")] = False,
) -> None:
    """List the networks that --model knows."""
    from tellapart.models.create import available_models

    for info in available_models(pretrained):
        print(f"{info.name:<48} {info.source}{'  (weights at hand)' if info.local_weights else ''}")


def _toml_text(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    main()
