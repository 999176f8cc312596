"""The beginning of a training, and whether a later call on its directory continues the same one."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tellapart.core.files import write_text
from tellapart.data.catalog import PARTS, UNKNOWN, Catalog
from tellapart.data.splitting.split import Split, explain_change, split
from tellapart.errors import RunError
from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.recipe.networks import Layout, Member
    from tellapart.recipe.schema import Model, Recipe

_OWN = {"recipe.toml", "catalog.parquet", "split.json", "environment.json", "skipped.json", "plan.json"}
_OWN |= {"teacher.parquet", "unlabelled.parquet", "distillation.json", "workers.json"}
#: Changes of these may change a result by more than rounding; changes of the machine only by rounding.
_VERSIONS = ("tellapart", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
_MACHINE = ("python", "processor", "gpu", "threads", "openvino", "onnxruntime")


def divide(catalog: Catalog, recipe: Recipe, directory: Path, default: Split | None = None) -> Split:
    """The split that a training in this directory was begun with, or else the default, or what its recipe asks for."""
    run = Run(directory)
    if run.begun:
        return run.split
    if default is not None:
        return default
    return split(catalog, validation=recipe.data.validation, test=recipe.data.test, seed=recipe.split_seed)


def check_run_directory(run: Run) -> None:
    """Refuse a directory that is not for runs: files in it would be mistaken for pictures or labels, or be lost.

    Raises:
        RunError: it is a file, or a folder that holds other things.
    """
    directory = run.directory
    if run.started:
        return
    if run.checkpoint("last").parent.is_dir():
        raise RunError(
            f"{directory} holds the checkpoints of a training, but has lost {run.recipe_file.name}.",
            "Put that file back, or train again with another --out.",
        )
    refuse_other_files(directory, _OWN, "Choose another --out: a folder that is empty or does not exist yet.")


def refuse_other_files(directory: Path, own: Collection[str], hint: str) -> None:
    """Refuse a directory to write to that holds anything but files of these names. Hidden files do not count.

    Raises:
        RunError: it does, or it is a file.
    """
    if directory.exists() and not directory.is_dir():
        raise RunError(f"{directory} is a file, not a folder.", "Choose another --out.")
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    others = sorted(name for name in names if not name.startswith(".") and name not in own)
    if others:
        raise RunError(f"{directory} holds other things, such as {others[0]}.", hint)


def restore_plan(run: Run, recipe: Recipe) -> Recipe:
    """The recipe with the choices that its [plan] made when this run began; other changes to it stay visible."""
    chosen = run.recipe
    if not (recipe.plan and chosen.plan and recipe.plan.minutes == chosen.plan.minutes):
        return recipe
    pairs = zip(recipe.stages, chosen.stages, strict=False)
    stages = [new.model_copy(update={"epochs": old.epochs, "views": old.views}) for new, old in pairs]
    name = chosen.model.name if recipe.model.name == "auto" else recipe.model.name
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"name": name}),
            "data": recipe.data.model_copy(update={"size": recipe.data.size or chosen.data.size}),
            "stages": stages,
            "plan": chosen.plan,
        }
    )


def restore_layout(run: Run, recipe: Recipe) -> Recipe:
    """The recipe with the layouts of 0.1 for its own networks, where this run began with them.

    The run of a later version states its layouts: with one that was asked for then and is not now, it is refused.
    """
    model, before, written = recipe.model, run.recipe.model, _written(run, "model")
    texts = _tables(written.get("members"), len(before.members))
    triples = zip(model.members, before.members, texts, strict=False)
    members = [new.model_copy(update={"layout": _layout(new, old, text)}) for new, old, text in triples]
    layout = _layout(model, before, written)
    update = {"layout": layout, "members": [*members, *model.members[len(members) :]]}
    return recipe.model_copy(update={"model": model.model_copy(update=update)})


def _layout(network: Model | Member, before: Model | Member, written: Mapping[str, Any]) -> Layout:
    """The layout of a network: what the recipe says of it, or that of the same network before layouts were written."""
    is_open = network.name == before.name and "layout" not in {*network.model_fields_set, *written}
    return before.layout if is_open else network.layout


def restore_mixing(run: Run, recipe: Recipe) -> Recipe:
    """The recipe with mixing drawn once a batch, where this run began with 0.1, unless the recipe says which itself.

    The run of a later version states it: with a draw that was asked for then and is not now, it is refused.
    """
    mix, before = recipe.mix, run.recipe.mix
    if "per" in {*mix.model_fields_set, *_written(run, "mix")} or not mix.mixup + mix.cutmix:
        return recipe
    return recipe.model_copy(update={"mix": mix.model_copy(update={"per": before.per})})


def _written(run: Run, section: str) -> Mapping[str, Any]:
    """A section of the run's recipe as it stands in the file, without what a default or an upgrade adds."""
    values = tomllib.loads(run.recipe_file.read_text(encoding="utf-8")).get(section)
    return values if isinstance(values, dict) else {}


def _tables(values: Any, n: int) -> list[Mapping[str, Any]]:
    return values if isinstance(values, list) and all(isinstance(each, dict) for each in values) else [{}] * n


def begin(
    run: Run, recipe: Recipe, catalog: Catalog, divided: Split, about: dict[str, Any], may_break: bool, anyway: bool
) -> tuple[Catalog, Split, list[str]]:
    """Write what is trained, or check that the training is the one that was begun here.

    Where nothing has been trained yet, there is nothing to lose, and it may be another one.

    Args:
        run: the run directory.
        recipe, catalog, divided: the training.
        about: the command that repeats it, and what else its result depends on.
        may_break: whether pictures that can no longer be read are to be left out.
        anyway: whether to go on with other versions, with other contents or labels of the same files, and with a
            recipe that differs in what has not been begun.

    Returns:
        The catalog and split to train with: as given, or as begun where only pictures have broken since. And what has
        changed, in sentences.

    Raises:
        RunError: other pictures, another division of them, another recipe or other versions.
    """
    if not run.begun:
        divided.check(catalog)
        for stale in (run.report, run.skipped_file, run.network_file):
            stale.unlink(missing_ok=True)
        catalog.save(run.catalog_file)
        divided.save(run.split_file)
        run.write_json(run.environment_file, {"begun": _now(), **about})
        # The recipe is written last: with it, the directory counts as a run.
        write_text(run.recipe_file, recipe.to_toml())
        return catalog, divided, []
    changes = _check_recipe(run, recipe, anyway)
    before = replace(run.catalog, root=catalog.root)
    if before.digest != catalog.digest:
        if _only_broke(before, catalog, {entry["path"] for entry in run.skipped}, may_break):
            divided = run.split
        else:
            changes += _check_pictures(run, before, catalog, anyway)
            before, divided = catalog, replace(run.split, digest=catalog.digest)
    if any(not np.array_equal(getattr(run.split, part), getattr(divided, part)) for part in PARTS):
        raise RunError(
            f"{run.directory} was begun with another division of the pictures: it is in {run.split_file.name}.",
            "Choose another --out for the other division, or repeat the first command.",
        )
    if changes:  # what was made of the other pictures or the other recipe is made again
        run.report.unlink(missing_ok=True)
        divided.save(run.split_file)
        write_text(run.recipe_file, recipe.to_toml())
    if changes or run.catalog.root != catalog.root:  # or the same pictures in another place
        before.save(run.catalog_file)
    if not run.finished:
        changes += _check_versions(run, about, anyway)
    if changes:
        known = {name: about[name] for name in _VERSIONS if name in about}
        resumed = [*run.environment.get("resumed", []), *(f"{_now()}: {sentence}" for sentence in changes)]
        run.write_json(run.environment_file, {**run.environment, **known, "resumed": resumed})
    return before, divided, [*changes, *([] if run.finished else _elsewhere(run, about))]


def _check_recipe(run: Run, recipe: Recipe, anyway: bool) -> list[str]:
    """Changes of the recipe, in sentences; refused unless asked for, and where a begun stage depends on them."""
    if run.recipe == recipe:
        return []
    difference = _difference(run.recipe, recipe)
    begun = [event for event in run.events() if event["event"] == "StageStarted"]
    again = any(event.get("retraining") for event in begun)
    done = [
        (each.seed, each.data, each.model, each.stages[: len(begun)], again and each.retrain)
        for each in (run.recipe, recipe)
    ]
    if done[0] != done[1]:
        raise RunError(
            f"{run.directory} was begun with another recipe: {difference}",
            "Choose another --out for the changed recipe, or repeat the first command.",
        )
    if not anyway:
        raise RunError(
            f"{run.directory} was begun with another recipe: {difference}",
            "Choose another --out for the changed recipe, or repeat the first command; or add --resume-anyway, since "
            "no stage that has begun is another one.",
        )
    return [f"It went on with another recipe: {difference}"]


def _check_pictures(run: Run, before: Catalog, now: Catalog, anyway: bool) -> list[str]:
    """Changes of the pictures, in sentences; refused unless asked for, and unless files and classes are the same."""
    change = explain_change(before, now)
    same = before.table["path"].equals(now.table["path"]) and before.classes == now.classes
    if anyway and same and before.multilabel == now.multilabel:
        return [f"It went on with other pictures in the same division: {change}"]
    more = " Or add --resume-anyway: the division stays as it is." if same else ""
    raise RunError(
        f"{run.directory} was begun with other pictures: {change}",
        f"Choose another --out for the changed pictures, or put them back as they were.{more}",
    )


def _check_versions(run: Run, about: dict[str, Any], anyway: bool) -> list[str]:
    """Changes of versions, in sentences; refused unless asked for."""
    changed = _changed(run, about, _VERSIONS)
    if not changed:
        return []
    if not anyway:
        raise RunError(
            f"{run.directory} was begun with other versions: {changed}.",
            "Install those again; or add --resume-anyway: the result may then be another than that of an unbroken run.",
        )
    return [f"It went on with other versions: {changed}."]


def _elsewhere(run: Run, about: dict[str, Any]) -> list[str]:
    """A sentence, if the machine is another one."""
    changed = _changed(run, about, _MACHINE)
    return [f"Begun elsewhere ({changed}): sums may differ in their last digits from here on."] if changed else []


def _changed(run: Run, about: dict[str, Any], names: tuple[str, ...]) -> str:
    old = run.environment
    pairs = [(name, old.get(name), about.get(name)) for name in names]
    # A run of an earlier version does not name all of them.
    changed = [(name, was, now) for name, was, now in pairs if was != now and name in old]
    return ", ".join(f"{name} {was} is now {now or 'not installed'}" for name, was, now in changed)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _only_broke(before: Catalog, now: Catalog, skipped: set[str], may_break: bool) -> bool:
    """Whether nothing changed but pictures that can no longer be read: left out before, or to be left out now."""
    old, new = _named(before), _named(now)
    gone = old.join(new, on="path", how="anti")["path"]
    readable, unreadable = old.filter(pl.col("problem").is_null()), new.filter(pl.col("problem").is_not_null())
    broken = readable.join(unreadable, on="path", how="semi")["path"]
    if not set(gone) <= skipped or not (may_break or set(broken) <= skipped):
        return False
    changed = [*gone, *broken]
    unchanged = [table.filter(~pl.col("path").is_in(changed)).sort("path").drop("problem") for table in (old, new)]
    return unchanged[0].equals(unchanged[1])


def _named(catalog: Catalog) -> pl.DataFrame:
    """The columns that tell whether a picture is the same, with labels by name."""
    unknown = [UNKNOWN] if UNKNOWN in catalog.table.columns else []
    table = catalog.table.select("path", "sha256", "labels", "split", "group", "problem", *unknown)
    names = pl.element().replace_strict(range(len(catalog.classes)), list(catalog.classes), return_dtype=pl.String)
    return table.with_columns(pl.col("labels", *unknown).list.eval(names).list.sort())


def _difference(old: Recipe, new: Recipe) -> str:
    before, after = old.to_toml().splitlines(), new.to_toml().splitlines()
    gone = [line for line in before if line and line not in after]
    come = [line for line in after if line and line not in before]
    return f"'{'; '.join(gone[:3])}' is now '{'; '.join(come[:3])}'."
