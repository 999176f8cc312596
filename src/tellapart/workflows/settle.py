"""What a plan announced, beside what came: read from the run, and written down at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tellapart.runs.run import Run

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe
    from tellapart.training.planning.ledger import Ledger


def read_ledger(run: Run) -> Ledger | None:
    """The ledger of a run's plan; None where its recipe left nothing open."""
    from tellapart.training.planning.ledger import Ledger

    values = run.plan
    return Ledger.from_dict(values) if values else None


def settle(run: Run, recipe: Recipe) -> Ledger | None:
    """Write down how a plan came out, as of now, for the report and for the same command to come."""
    from tellapart.training.planning.ledger import settled
    from tellapart.training.planning.plan import keep

    ledger = read_ledger(run)
    if ledger is None:
        return None
    ledger = settled(ledger, run.events(), time.time())
    run.write_json(run.plan_file, ledger.as_dict())
    keep(ledger, recipe)
    return ledger
