"""Looks before a training, in which nothing is trained: learning rate, augmented pictures, versions ahead, layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.core.files import check_suffix
from tellapart.core.output import print_err
from tellapart.data.catalog import Catalog
from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe
from tellapart.report.figures import FIGURES
from tellapart.workflows import preview
from tellapart.workflows.preview import Multiplied, NetworkSummary
from tellapart.workflows.progress import ProgressSink, progress_sink
from tellapart.workflows.scan import scan

if TYPE_CHECKING:
    from tellapart.core.events import LrFound


def find_lr(
    pictures: str | Path | Catalog,
    recipe: str | Path | Recipe = "fast",
    out: str | Path | None = None,
    *,
    stage: int | None = None,
    changes: list[str] | None = None,
    progress: bool = False,
    **label_options: Any,
) -> LrFound:
    """Raise the learning rate step by step and suggest one (Smith 2017). Nothing is trained.

    Args:
        pictures: a folder, a table of files and labels, or what `scan` gave.
        recipe: the name of a shipped recipe, a TOML file, or a `Recipe`.
        out: the plot: a .png, .svg or .pdf file; None: none is drawn.
        stage: the stage whose learning rate is tested, from 0; by default the first that has one.
        changes: "key=value" changes to the recipe, such as "model.name=cnn8".
        progress: show progress on standard error.
        label_options: as for `scan`.

    Returns:
        `.lr`, `.setting` (that rate as a change of the recipe), and the curve: `.lrs`, `.losses`, `.smoothed`.

    Raises:
        UsageError: no such stage, one without a learning rate, or no format of figures.
        TrainingError: the loss did not fall, and the recipe does not say which rate to take then.
    """
    plot = None if out is None else Path(out)
    if plot is not None:  # now, before every picture is opened
        check_suffix(plot, FIGURES)
    sink, loaded = progress_sink(progress), recipe_to_try(recipe, changes)
    number = preview.stage_with_lr(loaded, stage)
    sink.say(f"Stage {number} (from 0) of the recipe.")
    return preview.lr_range_test(_catalog(pictures, sink, label_options), loaded, number, plot, sink)


def augment(
    pictures: str | Path | Catalog,
    recipe: str | Path | Recipe = "fast",
    out: str | Path = "augment.png",
    *,
    changes: list[str] | None = None,
    progress: bool = False,
    **label_options: Any,
) -> Path:
    """Draw pictures, plain and as training would change them. Arguments as for `find_lr`; `out` is a .png file.

    Returns:
        The path of the contact sheet.

    Raises:
        UsageError: the recipe changes no picture, or `out` is no .png file.
        DataError: none of the pictures can be read.
    """
    check_suffix(Path(out), (".png",))
    loaded = recipe_to_try(recipe, changes)
    return preview.augmented(_catalog(pictures, progress_sink(progress), label_options), loaded, Path(out))


def ahead(
    pictures: str | Path | Catalog,
    recipe: str | Path | Recipe = "fast",
    out: str | Path | None = None,
    *,
    changes: list[str] | None = None,
    progress: bool = False,
    **label_options: Any,
) -> Multiplied:
    """Count the versions of pictures that a recipe makes ahead of training (`data.ahead`), and write them if asked.

    Args:
        pictures, recipe, changes, progress, label_options: as for `find_lr`.
        out: a new folder for all of them, with a table to train on; None: nothing is written.

    Raises:
        UsageError: the recipe has no versions, or the folder holds something already.
    """
    sink, loaded = progress_sink(progress), recipe_to_try(recipe, changes)
    folder = None if out is None else Path(out)
    return preview.multiplied(_catalog(pictures, sink, label_options), loaded, folder, sink)


def summary(
    recipe: str | Path | Recipe = "fast", *, n_classes: int = 10, stage: int = 0, changes: list[str] | None = None
) -> NetworkSummary:
    """A recipe's network layer by layer: shapes, parameters, memory of a batch, and what each stage trains.

    Args:
        recipe, changes: as for `find_lr`.
        n_classes: number of classes, at least 1.
        stage: the stage whose layers and batch are shown, from 0.

    Raises:
        UsageError: there is no such stage.
    """
    return preview.network_summary(recipe_to_try(recipe, changes), n_classes, stage)


def recipe_to_try(recipe: str | Path | Recipe, changes: list[str] | None = None) -> Recipe:
    """The recipe as its plan begins, since only a training makes the plan's choices.

    Where the network is open, it is that of `transfer`, which `fast` extends; a line on standard error says so.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    if loaded.plan is None or loaded.plan.why:
        return loaded
    model = loaded.model
    if model.name == "auto":
        model = model.model_copy(update={"name": load_recipe("transfer").model.name})
        print_err(f"A training by this recipe chooses its network; here it is {model.name}. --model names another.")
    return loaded.model_copy(update={"plan": None, "model": model})


def _catalog(pictures: str | Path | Catalog, progress: ProgressSink, label_options: dict[str, Any]) -> Catalog:
    return pictures if isinstance(pictures, Catalog) else scan(pictures, progress, **label_options)
