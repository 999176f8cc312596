"""Commands about networks: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli.options import Changes, RecipeName, load_recipe
from tellapart.core.output import print_out


def summary(
    recipe: RecipeName = "transfer",
    set_: Changes = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 10,
    stage: Annotated[int, typer.Option(min=0, help="The stage whose layers and batch are shown, from 0.")] = 0,
) -> None:
    """Print a recipe's network layer by layer. Shapes, parameters, memory, and what each stage trains."""
    from tellapart.workflows.preview import layers

    print_out(layers(load_recipe(recipe, set_), classes, stage))


def models(
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only those with pretrained weights.")] = False,
) -> None:
    """List the networks that --model knows."""
    from tellapart.models.create import available_models

    for info in available_models(pretrained):
        print_out(f"{info.name:<48} {info.source}{'  (weights at hand)' if info.local_weights else ''}")
