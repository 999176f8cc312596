"""The command `recipes`: list and show the recipes that come with Tellapart."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli.help import Command
from tellapart.core.output import print_out
from tellapart.core.text import Lines, without_controls

app = typer.Typer(
    help="List the recipes that come with Tellapart, or show one.", rich_markup_mode=None, invoke_without_command=True
)


@app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes that come with Tellapart."""
    if context.invoked_subcommand is None:
        from tellapart.recipe.load import list_recipes

        for name, about in list_recipes().items():
            print_out(f"{name:<16} {about}")


@app.command("show", cls=Command)
def show_recipe(name: Annotated[str, typer.Argument(help="Name of a shipped recipe.")]) -> None:
    """Print a recipe, to read or to begin one's own from."""
    from tellapart.recipe.load import recipe_text

    print_out(Lines(without_controls(recipe_text(name))), end="")
