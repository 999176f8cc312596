"""The command line: parse, call, print. Slow imports stand inside the commands that need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.core

from tellapart.cli import (
    audit,
    cache,
    distill,
    drift,
    evaluate,
    explain,
    export,
    models,
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
from tellapart.core.output import guard_output, print_out

#: Order of the commands in `--help`: as users are likely to need them.
COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "scan": scan.scan,
    "audit": audit.audit,
    "train": train.train,
    "cross-validate": train.cross_validate,
    "distill": distill.distill,
    "study": study.app,
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
}


class _InOrder(typer.core.TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)


app = typer.Typer(
    name="tellapart",
    cls=_InOrder,
    help="Learn to tell pictures apart: from a folder of pictures to a classifier that answers.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
for _name, _command in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name)
    else:
        app.command(_name)(_command)


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
