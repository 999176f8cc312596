"""What the leader of several workers hands to the others, so that all follow the same training."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tellapart.core.remote import at_hand, mirrored
from tellapart.data.catalog import Catalog
from tellapart.errors import RunError
from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.models.network import Network
    from tellapart.recipe.schema import Recipe
    from tellapart.training.checkpoint import State
    from tellapart.training.parallel.workers import Workers

#: Files of a run that the others need, in its directory.
_FILES = (
    *("catalog.parquet", "split.json", "events.jsonl", "skipped.json", "environment.json", "recipe.toml"),
    *("teacher.parquet", "unlabelled.parquet", "distillation.json"),
)
#: Checkpoints that a later part of the training begins with.
_CHECKPOINTS = ("initial", "validated")


def hand_out(workers: Workers, run: Run, finished: bool) -> None:
    """Give the others what a run directory says, or the word that there is nothing to do."""
    workers.json_from_leader({"finished": finished, "mirror": None if finished else mirrored(run.catalog.root)})
    if finished:
        return
    for path in _needed(run):
        workers.json_from_leader(path.is_file())
        if path.is_file():
            workers.from_leader(path.read_bytes())
    with workers.together():
        pass  # what `received` does


@contextmanager
def received(workers: Workers) -> Iterator[Run | None]:
    """A temporary run directory that begins as the leader's does; None where there is nothing to do.

    Pictures of a storage are mirrored on this machine too, unless another worker has done so.
    """
    word = workers.json_from_leader()
    if word["finished"]:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="tellapart-worker-") as folder:
        run = Run(Path(folder))
        run.checkpoint("initial").parent.mkdir()
        for path in _needed(run):
            if workers.json_from_leader():
                path.write_bytes(workers.from_leader())
        with workers.together():
            if word["mirror"]:
                address, below = word["mirror"]
                here = replace(Catalog.load(run.catalog_file), root=at_hand(address) / below)
                here.save(run.catalog_file)
        yield run


def _needed(run: Run) -> list[Path]:
    return [*(run.directory / name for name in _FILES), *(run.checkpoint(name) for name in _CHECKPOINTS)]


def same_state(workers: Workers, network: Network, state: State) -> State:
    """The leader's network and state, at all workers."""
    from tellapart.training.checkpoint import load_checkpoint, save_checkpoint

    with tempfile.TemporaryDirectory(prefix="tellapart-worker-") as folder:
        path = Path(folder) / "state.safetensors"
        if workers.leads:
            save_checkpoint(path, network, state)
            workers.from_leader(path.read_bytes())
            return state
        path.write_bytes(workers.from_leader())
        return load_checkpoint(path, network)


def same_plan(workers: Workers, recipe: Recipe, one: bool) -> tuple[Recipe, bool]:
    """The leader's recipe, and whether it trains one stage before it plans again; at all workers."""
    from tellapart.recipe.schema import Recipe

    values = workers.json_from_leader({"recipe": recipe.to_toml(), "one": one} if workers.leads else None)
    return recipe if workers.leads else Recipe.model_validate(tomllib.loads(values["recipe"])), values["one"]


def divided_recipe(run: Run, recipe: Recipe, workers: Workers | None) -> Recipe:
    """The recipe with its division among workers; this process computes with its number of threads from here on.

    Raises:
        RunError: the run was begun by one process alone, whose steps are not divided.
    """
    from tellapart.recipe.distributed import for_workers

    begun = run.recipe if run.begun else None
    if workers and begun and begun.distributed is None:
        raise RunError(
            f"{run.directory} was begun by one process, whose steps are not cut into micro-batches.",
            "Finish it as it was begun; or choose another --out, where any number of workers may go on.",
        )
    recipe = for_workers(recipe, workers.n if workers else None, begun)
    use_threads(recipe)
    return recipe


def use_threads(recipe: Recipe) -> None:
    """Compute with as many threads as a recipe's `[distributed]` says: sums depend on it."""
    if recipe.distributed:
        import torch

        torch.set_num_threads(recipe.distributed.threads)


@contextmanager
def same_threads() -> Iterator[None]:
    """After it, torch computes with as many threads as before."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
