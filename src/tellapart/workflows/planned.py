"""A training by a plan: made before the first stage, brought up to date between stages, settled at the end."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from tellapart.core.events import Event, Note
from tellapart.core.files import write_text
from tellapart.errors import UnreadableError
from tellapart.runs.resume import restore_layout, restore_mixing, restore_plan
from tellapart.runs.run import Run
from tellapart.workflows.leading import same_plan
from tellapart.workflows.settle import read_ledger
from tellapart.workflows.stages import Job, path_to_skip, train_stages

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.models.network import Network
    from tellapart.recipe.schema import Recipe
    from tellapart.training.checkpoint import Checkpoints, State
    from tellapart.training.planning.ledger import Ledger
    from tellapart.workflows.train import RunOptions


def planned_recipe(
    run: Run, recipe: Recipe, catalog: Catalog, split: Split, options: RunOptions
) -> Generator[Event, None, Recipe]:
    """The recipe with the choices of its [plan], layouts and mixing: as they were when the run began, or made now.

    A picture that broke after the scan is left out of the trials, if such pictures are to be skipped.
    """
    from tellapart.training.planning.plan import digest, plan
    from tellapart.training.runtime import parse

    if run.begun:
        recipe = restore_mixing(run, restore_layout(run, recipe))
    if recipe.plan is None or recipe.plan.why:  # nothing is open
        if not run.begun:
            run.plan_file.unlink(missing_ok=True)
        return recipe
    if run.begun:
        ledger = read_ledger(run)
        if ledger is None or ledger.asked != digest(recipe):
            return restore_plan(run, recipe)
        _go_on(run, ledger)
        return run.recipe
    while True:
        try:
            recipe, ledger = yield from plan(
                recipe, catalog, split, options.began, parse(options.runtime), options.explain
            )
        except UnreadableError as error:
            path = path_to_skip(error, catalog, options)
            split = replace(split, train=split.train[catalog.table["path"].gather(split.train).to_numpy() != path])
            yield Note(f"{path} can no longer be read: networks are tried without it.")
        else:
            run.write_json(run.plan_file, ledger.as_dict())
            return recipe


def _go_on(run: Run, ledger: Ledger) -> None:
    """A stopped training has not spent the time since: its beginning is moved by that."""
    trained = sum(event.get("seconds", 0.0) + event.get("preparation", 0.0) for event in run.events())
    spent = ledger.taken if ledger.taken is not None else ledger.planned + trained
    run.write_json(run.plan_file, replace(ledger, began=time.time() - spent).as_dict())


def train_by_plan(
    job: Job, network: Network, state: State, checkpoints: Checkpoints
) -> Generator[Event, None, tuple[Job, State]]:
    """Train stage by stage; before each, the plan is brought up to date with what the stages before it took and gave.

    What changes is written into the run's recipe first: it always names what was done, so that it can be repeated.

    Returns:
        The job with the recipe as it was trained, and the state after its last stage.
    """
    from tellapart.training.planning.ledger import brought_up_to_date

    while True:
        if ledger := read_ledger(job.run):
            ledger, recipe, why = brought_up_to_date(ledger, job.recipe, job.run.events(), state.stage, time.time())
            if why and recipe.plan:
                more = recipe.plan.model_copy(update={"why": [*recipe.plan.why, *why]})
                job = replace(job, recipe=recipe.model_copy(update={"plan": more}))
                write_text(job.run.recipe_file, job.recipe.to_toml())
                yield from map(Note, why)
            job.run.write_json(job.run.plan_file, ledger.as_dict())
        one = bool(ledger and ledger.open)
        if job.workers:  # the plan is the leader's
            recipe, one = same_plan(job.workers, job.recipe, one)
            job = replace(job, recipe=recipe)
        if state.stage >= len(job.recipe.stages):
            return job, state
        state = yield from train_stages(job, network, state, checkpoints, one=one)
