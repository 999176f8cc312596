"""The command line: parse, call, print. Slow imports stand inside the commands that need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from tellapart.cli import (
    audit,
    cache,
    completion,
    distill,
    drift,
    evaluate,
    explain,
    export,
    models,
    open_page,
    predict,
    preview,
    recipes,
    review,
    runs,
    scan,
    serve,
    study,
    train,
)
from tellapart.cli.ending import errors_for_people
from tellapart.cli.help import Command, Group
from tellapart.core.output import guard_output, print_out

#: Commands by name; `help.GROUPS` has their order.
COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "scan": scan.scan,
    "audit": audit.audit,
    "train": train.train,
    "cross-validate": train.cross_validate,
    "distill": distill.distill,
    "study": study.app,
    "open": open_page.open_page,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "verify": predict.verify,
    "export": export.export,
    "serve": serve.serve,
    "drift": drift.drift,
    "errors": review.errors,
    "review": review.review,
    "explain": explain.explain,
    "compare": runs.compare,
    "runs": study.runs,
    "slices": runs.slices,
    "curves": runs.curves,
    "average": runs.average,
    "recipes": recipes.app,
    "models": models.models,
    "summary": models.summary,
    "find-lr": preview.find_lr,
    "augment": preview.augment,
    "ahead": preview.ahead,
    "cache": cache.app,
    "completion": completion.completion,
}


app = typer.Typer(
    name="tellapart",
    cls=Group,
    help="Learn to tell pictures apart: from a folder of pictures to a classifier that answers.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for _name, _command in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name)
    else:
        app.command(_name, cls=Command)(_command)


def main() -> None:
    """Run the command line. A `TellapartError` becomes a message and an exit code."""
    guard_output()
    with errors_for_people():
        app()


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --version: packages, machine and extras too, for a bug report.")
    ] = False,
) -> None:
    if verbose and not version:
        raise typer.BadParameter("it goes with --version alone", param_hint="'--verbose'")
    if verbose:
        from tellapart.core.environment import describe_environment

        print_out(describe_environment())
        raise typer.Exit
    if version:
        from tellapart.core.version import __version__

        print_out(f"tellapart {__version__}")
        raise typer.Exit
