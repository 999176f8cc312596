"""`tellapart cache`: what is kept to save work, and how to remove it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="Show what is kept to save work, or clear it.",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def show(context: typer.Context) -> None:
    """Show what is kept to save work: kind, number, size, last use."""
    if context.invoked_subcommand is None:
        from tellapart.core.cache import table

        print(table())


@app.command()
def clear(
    kind: Annotated[str | None, typer.Argument(help="activations, pictures or runtime; by default all.")] = None,
) -> None:
    """Remove it. What another process uses at the moment stays, and is named."""
    from tellapart.core import cache

    freed, left = cache.clear(kind)
    print(f"{cache.size(freed)} given back.")
    for each in left:
        print(f"Left, since it is in use: {each.path} ({cache.size(each.n_bytes)})")
