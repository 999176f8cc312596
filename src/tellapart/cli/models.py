"""Commands about networks: parse, call, print."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli.options import (
    DEFAULT_RECIPE,
    Changes,
    ModelName,
    Offline,
    RecipeName,
    as_changes,
    load_recipe,
    stay_offline,
)
from tellapart.core.output import print_json, print_out


def summary(
    recipe: RecipeName = DEFAULT_RECIPE,
    model: ModelName = None,
    set_: Changes = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 10,
    stage: Annotated[int, typer.Option(min=0, help="The stage whose layers and batch are shown, from 0.")] = 0,
    offline: Offline = False,
) -> None:
    """Print a recipe's network layer by layer. Shapes, parameters, memory, and what each stage trains."""
    from tellapart.workflows.look import summary as summarise

    stay_offline(offline)
    loaded = load_recipe(recipe, [*(set_ or []), *as_changes(model)])
    print_out(str(summarise(loaded, n_classes=classes, stage=stage)))


def models(
    everything: Annotated[bool, typer.Option("--all", help="Every name that --model takes.")] = False,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Every name with pretrained weights; those at hand come first.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Leave out what would have to be fetched.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the networks to begin with: those at hand first. Size, cost, licence. No hub is asked."""
    from tellapart.workflows.models import all_names, choices, choices_text

    stay_offline(offline)
    if not everything and not pretrained:
        if as_json:
            print_json(choices(offline))
        else:
            print_out(choices_text(offline))
        return
    names = [name for name in all_names(pretrained) if name["at_hand"] or not (pretrained and offline)]
    if as_json:
        print_json(names)
    else:
        hint = "  (weights at hand)"
        print_out(*(f"{n['name']:<48} {n['source']}{hint if n['at_hand'] else ''}" for n in names))
