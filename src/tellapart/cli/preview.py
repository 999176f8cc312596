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
    out_option,
    recipe_to_try,
    stay_offline,
    with_label_options,
)
from tellapart.core.files import check_suffix
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
    from tellapart.report.figures import FIGURES
    from tellapart.workflows.preview import lr_range_test, stage_with_lr
    from tellapart.workflows.progress import progress_sink
    from tellapart.workflows.scan import scan

    check_suffix(out, FIGURES)
    stay_offline(offline)
    loaded = recipe_to_try(recipe, [*(set_ or []), *as_changes(model, seed=seed)])
    number = stage_with_lr(loaded, stage)
    progress = progress_sink(not (quiet or as_json))
    progress.say(f"Stage {number} (from 0) of the recipe.")
    test = lr_range_test(scan(pictures, progress, **label_options), loaded, number, out, progress)
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
    from tellapart.workflows.preview import augmented
    from tellapart.workflows.progress import progress_sink
    from tellapart.workflows.scan import scan

    check_suffix(out, (".png",))
    loaded = recipe_to_try(recipe, [*(set_ or []), *as_changes(model, seed=seed)])
    print_out(f"Contact sheet: {augmented(scan(pictures, progress_sink(not quiet), **label_options), loaded, out)}")


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
    from tellapart.workflows.preview import multiplied
    from tellapart.workflows.progress import progress_sink
    from tellapart.workflows.scan import scan

    progress, loaded = progress_sink(not quiet), recipe_to_try(recipe, [*(set_ or []), *as_changes(model, seed=seed)])
    print_out(multiplied(scan(pictures, progress, **label_options), loaded, out if write else None, progress))
    if write:
        to = shlex.quote(str(out))
        again = f"tellapart train {to} --recipe {shlex.quote(recipe)} --set 'data.ahead=[]'"
        print_out(f"Table: {out / 'pictures.csv'}", f"Train on them: {again}")
    else:
        print_out("Nothing was written: training makes them when it needs them. With --write they become files.")
