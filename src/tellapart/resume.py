"""What a training is begun with, and whether a later call on its directory is the same training."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tellapart.data.catalog import PARTS, Catalog
from tellapart.data.split import Split, explain_change, split
from tellapart.errors import RunError
from tellapart.files import write_text
from tellapart.run_directory import Run

if TYPE_CHECKING:
    from tellapart.recipe import Recipe

_OWN = {"recipe.toml", "catalog.parquet", "split.json", "environment.json", "skipped.json"}


def divide(catalog: Catalog, recipe: Recipe, directory: Path) -> Split:
    """The split that a training in this directory was begun with, or else the one that its recipe asks for."""
    run = Run(directory)
    if run.begun:
        return run.split
    return split(catalog, validation=recipe.data.validation, test=recipe.data.test, seed=recipe.seed)


def check_place(run: Run) -> None:
    """Refuse a place that is not for runs: files in it would be mistaken for pictures or labels, or be lost.

    Raises:
        RunError: it is a file, or a folder that holds other things.
    """
    place = run.directory
    if place.exists() and not place.is_dir():
        raise RunError(f"{place} is a file, not a folder.", "Choose another --out.")
    if place.is_dir() and not run.started:
        if run.checkpoint("last").parent.is_dir():
            raise RunError(
                f"{place} holds the checkpoints of a training, but has lost {run.recipe_file.name}.",
                "Put that file back, or train again with another --out.",
            )
        others = sorted(p.name for p in place.iterdir() if not p.name.startswith(".") and p.name not in _OWN)
        if others:
            raise RunError(
                f"{place} holds other things, such as {others[0]}, and no training.",
                "Choose another --out: a folder that is empty or does not exist yet.",
            )


def begin(
    run: Run, recipe: Recipe, catalog: Catalog, divided: Split, about: dict[str, Any], may_break: bool
) -> tuple[Catalog, Split]:
    """Write the plan, or check that this is the training that was begun here.

    Where nothing has been trained yet, there is nothing to lose, and the plan may be another one.

    Args:
        run: the run directory.
        recipe, catalog, divided: the plan.
        about: the command that repeats it, and what else its result depends on.
        may_break: whether pictures that can no longer be read are to be left out.

    Returns:
        The catalog and split to train with: as given, or as begun where only pictures have broken since.

    Raises:
        RunError: other pictures, another division of them or another recipe.
    """
    if not run.begun:
        divided.check(catalog)
        for stale in (run.report, run.skipped_file, run.network_file):
            stale.unlink(missing_ok=True)
        catalog.save(run.catalog_file)
        divided.save(run.split_file)
        begun = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        run.write_json(run.environment_file, {"begun": begun, **about})
        # The recipe is written last: with it, the directory counts as a run.
        write_text(run.recipe_file, recipe.to_toml())
        return catalog, divided
    if run.recipe != recipe:
        raise RunError(
            f"{run.directory} was begun with another recipe: {_difference(run.recipe, recipe)}",
            "Choose another --out for the changed recipe, or repeat the first command.",
        )
    before = replace(run.catalog, root=catalog.root)
    if before.digest != catalog.digest:
        if not _only_broke(before, catalog, {entry["path"] for entry in run.skipped}, may_break):
            raise RunError(
                f"{run.directory} was begun with other pictures: {explain_change(before, catalog)}",
                "Choose another --out for the changed pictures, or put them back as they were.",
            )
        divided = run.split
    if any(not np.array_equal(getattr(run.split, part), getattr(divided, part)) for part in PARTS):
        raise RunError(
            f"{run.directory} was begun with another division of the pictures: it is in {run.split_file.name}.",
            "Choose another --out for the other division, or repeat the first command.",
        )
    if run.catalog.root != catalog.root:  # the same pictures in another place
        before.save(run.catalog_file)
    return before, divided


def _only_broke(before: Catalog, now: Catalog, skipped: set[str], may_break: bool) -> bool:
    """Whether nothing changed but pictures that can no longer be read: left out before, or to be left out now."""
    old, new = _named(before), _named(now)
    gone = old.join(new, on="path", how="anti")["path"]
    readable, unreadable = old.filter(pl.col("problem").is_null()), new.filter(pl.col("problem").is_not_null())
    broken = readable.join(unreadable, on="path", how="semi")["path"]
    if not set(gone) <= skipped or not (may_break or set(broken) <= skipped):
        return False
    changed = [*gone, *broken]
    kept = [table.filter(~pl.col("path").is_in(changed)).sort("path").drop("problem") for table in (old, new)]
    return kept[0].equals(kept[1])


def _named(catalog: Catalog) -> pl.DataFrame:
    """What makes a picture the same, with labels by name."""
    table = catalog.table.select("path", "sha256", "labels", "split", "group", "problem")
    names = pl.element().replace_strict(range(len(catalog.classes)), list(catalog.classes), return_dtype=pl.String)
    return table.with_columns(pl.col("labels").list.eval(names).list.sort())


def _difference(old: Recipe, new: Recipe) -> str:
    before, after = old.to_toml().splitlines(), new.to_toml().splitlines()
    gone = [line for line in before if line and line not in after]
    come = [line for line in after if line and line not in before]
    return f"'{'; '.join(gone[:3])}' is now '{'; '.join(come[:3])}'."
