"""Commands that try out a recipe before a training: parse, call, print."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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
    as_changes,
    load_recipe,
    out_option,
    stay_offline,
    with_label_options,
)
from tellapart.core.output import print_json, print_out
from tellapart.core.text import lr_text


@with_label_options
def find_lr(
    pictures: Pictures,
    *,
    recipe: RecipeName = DEFAULT_RECIPE,
    model: ModelName = None,
    set_: Changes = None,
    seed: Seed = None,
    stage: Annotated[
        int | None,
        typer.Option(min=0, help="The stage whose learning rate is tested, from 0; by default the first that has one."),
    ] = None,
    out: Annotated[Path, out_option("The plot: a .png, .svg or .pdf file.")] = Path("find-lr.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the learning rate, and the curve.")] = False,
    offline: Offline = False,
    label_options: LabelOptions,
    quiet: Quiet = False,
) -> None:
    """Raise the learning rate step by step and suggest one. Nothing is trained."""
    from tellapart.workflows.look import find_lr as test_rates

    stay_offline(offline)
    loaded = load_recipe(recipe, [*(set_ or []), *as_changes(model, seed=seed)])
    test = test_rates(pictures, loaded, out, stage=stage, progress=not (quiet or as_json), **label_options)
    if as_json:
        print_json({**asdict(test), "plot": str(out)})
        return
    print_out(f"Plot: {out}")
    if test.diverges is not None:
        print_out(f"The loss diverges at {lr_text(test.diverges)}; no suggestion lies in the decade before.")
    elif test.taken == "otherwise":
        print_out("The loss did not fall in the test: this is the recipe's own learning rate for that case.")
    elif not test.rose:
        print_out("The loss never rose clearly: the test ended before the learning rate was too high.")
    print_out(f"Learning rate: {lr_text(test.lr)} ({test.taken.replace('_', ' ')})")
    print_out(f"Take it: --set {shlex.quote(test.setting)}")


@with_label_options
def augment(
    pictures: Pictures,
    *,
    recipe: RecipeName = DEFAULT_RECIPE,
    model: ModelName = None,
    set_: Changes = None,
    seed: Seed = None,
    out: Annotated[Path, out_option("The contact sheet, a .png file.")] = Path("augment.png"),
    label_options: LabelOptions,
    quiet: Quiet = False,
) -> None:
    """Draw pictures, plain and as training would change them."""
    from tellapart.workflows.look import augment as draw

    loaded = load_recipe(recipe, [*(set_ or []), *as_changes(model, seed=seed)])
    print_out(f"Contact sheet: {draw(pictures, loaded, out, progress=not quiet, **label_options)}")


@with_label_options
def ahead(
    pictures: Pictures,
    *,
    recipe: RecipeName = DEFAULT_RECIPE,
    model: ModelName = None,
    set_: Changes = None,
    seed: Seed = None,
    write: Annotated[bool, typer.Option("--write", help="Write all of them to a new folder, with a table.")] = False,
    out: Annotated[Path, out_option("The folder.")] = Path("ahead"),
    label_options: LabelOptions,
    quiet: Quiet = False,
) -> None:
    """List the versions of pictures that a recipe makes. With --write, make a folder of them (data.ahead)."""
    from tellapart.workflows.look import ahead as multiply

    loaded = load_recipe(recipe, [*(set_ or []), *as_changes(model, seed=seed)])
    multiplied = multiply(pictures, loaded, out if write else None, progress=not quiet, **label_options)
    print_out(str(multiplied))
    if write:
        to = shlex.quote(str(out))
        again = f"tellapart train {to} --recipe {shlex.quote(recipe)} --set 'data.ahead=[]'"
        print_out(f"Table: {multiplied.table}", f"Train on them: {again}")
    else:
        print_out("Nothing was written: training makes them when it needs them. With --write they become files.")
