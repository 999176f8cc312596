"""The command `cache`: show the cache, or clear it."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli.help import Command
from tellapart.core.output import print_out

app = typer.Typer(
    help="Show the cache, or clear it.",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def show(context: typer.Context) -> None:
    """Show the cache: kind, number, size, last use."""
    if context.invoked_subcommand is None:
        from tellapart.core.cache import table

        print_out(table())


@app.command(cls=Command)
def clear(
    kind: Annotated[str | None, typer.Argument(help="activations, pictures or runtime; by default all.")] = None,
) -> None:
    """Clear the cache. Entries that another process uses at the moment stay, and are named."""
    from tellapart.core import cache

    freed, left = cache.clear(kind)
    print_out(f"{cache.size(freed)} given back.")
    for each in left:
        print_out(f"Left, since it is in use: {each.path} ({cache.size(each.n_bytes)})")
