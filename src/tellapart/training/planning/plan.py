"""A recipe's [plan]: the best that the minutes allow, for these pictures on this machine, by trials."""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from tellapart.core.events import Computing, Note
from tellapart.core.files import cache_folder
from tellapart.core.text import counted
from tellapart.models.catalogue import candidates
from tellapart.models.hub import is_offline
from tellapart.recipe.schema import Recipe
from tellapart.training.planning.budget import Workload, end_seconds, stage_seconds, total_seconds, workload
from tellapart.training.planning.compare import HOPELESS as HOPELESS_ERRORS
from tellapart.training.planning.compare import Trial, as_good, best_of, choose
from tellapart.training.planning.ledger import SPARE, Ledger
from tellapart.training.planning.memory import note_file, recall, remember
from tellapart.training.planning.stages import FEW, may_go_on, skeleton, with_epochs
from tellapart.training.planning.trial import Candidate, answer, prepare

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.training.runtime import Runtime

Rows = npt.NDArray[np.int64]
DEFAULT = "tf_efficientnet_lite0"  # tried first: small, and what the recipe without a plan takes
_MAX_NETWORKS = 6
#: Of the minutes, what fetching one network may take, and how many are fetched.
_SHARE_TO_FETCH, _MOST_FETCHED = 0.03, 2
#: Of the minutes, what trials may take of networks that are not chosen in the end.
_SHARE_FOR_TRIALS = 0.25
#: Pictures of the first round of trials, at least; each further round has twice as many.
_FIRST, _FIRST_PER_CLASS = 256, 6
#: Sizes tried besides the weights' own, as shares of it: a smaller one where time is short, else a larger one.
_SMALLER, _LARGER = 0.7, 1.3
_BEFORE = "This is the plan that the same command had before on this machine"
#: Of the minutes that a plan with further stages announces, since their length is chosen to use them.
_FULL = 0.95


def plan(
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    began: float,
    runtime: Runtime | None = None,
    explain: bool = True,
) -> Generator[Computing | Note, None, tuple[Recipe, Ledger]]:
    """Fill in what a recipe leaves open: `model.name = "auto"`, `data.size`, and the epochs of its last stage.

    Only training pictures are looked at. The same command on the same machine gets the same plan, from the cache.

    Args:
        recipe: with `[plan]`.
        catalog, split: the pictures.
        began: when the command began, in seconds since 1970: the minutes count from there.
        runtime: as the user asked for; None: the fastest for each network.
        explain: whether the report explains answers, where the recipe leaves it open.

    Yields:
        Computing while a network is tried; Note, with the reasons.

    Returns:
        The recipe with nothing left open, `plan.why` says why; and the ledger, in which further stages may be open.
    """
    assert recipe.plan
    names = [recipe.model.name] if recipe.model.name != "auto" else (yield from networks(recipe.plan.minutes))
    work, asked = workload(recipe, catalog, split, explain), digest(recipe)
    memory = _memory(asked, runtime, catalog, split, names)
    if remembered := _remembered(memory.name, asked, began):
        yield from map(Note, remembered[0].plan.why if remembered[0].plan else ())
        return remembered
    allowed = 60 * recipe.plan.minutes
    search = _Search(skeleton(recipe, work), catalog, split, work, runtime, allowed - (time.time() - began), allowed)
    rows = np.random.default_rng(recipe.seed).permutation(split.train)
    chosen, why = yield from search.run(names, rows)
    planned, more = with_epochs(chosen.recipe, chosen.timing, work, (1 - SPARE) * allowed - (time.time() - began))
    data = planned.data.model_copy(update={"size": chosen.size})
    planned = planned.model_copy(update={"data": data})
    spent = time.time() - began
    expected = stage_seconds(planned.stages, chosen.timing, work)
    end = end_seconds(chosen.timing, work, sum(expected))
    announced = spent + sum(expected) + end
    goes_on = may_go_on(planned) and announced < _FULL * allowed
    announced = _FULL * allowed if goes_on else announced
    if work.rarest < FEW:
        more = [
            f"The rarest class has {counted(work.rarest, 'training picture')}: too few to train more than the head.",
            *more,
        ]
    why = [*why, *more, _promise(planned, expected, end, goes_on, announced)]
    yield from map(Note, why)
    planned = planned.model_copy(update={"plan": recipe.plan.model_copy(update={"why": why})})
    ledger = Ledger(
        asked=asked,
        minutes=recipe.plan.minutes,
        began=began,
        timing=chosen.timing,
        work=work,
        planned=spent,
        announced=announced,
        latest=announced,
        expected=tuple(expected),
        open=True,
        memory=memory.name,
    )
    return planned, ledger


def _memory(asked: str, runtime: Runtime | None, catalog: Catalog, split: Split, names: list[str]) -> Path:
    """The file of the plan that the same command on the same pictures had before."""
    parts = [hashlib.sha256(part.tobytes()).hexdigest() for part in (split.train, split.validation, split.test)]
    return note_file(
        "plan",
        {
            "recipe": asked,
            "runtime": runtime and runtime.as_dict(),
            "pictures": catalog.digest,
            "parts": parts,
            "networks": names,
        },
    )


def digest(recipe: Recipe) -> str:
    """All that a recipe asks for."""
    return hashlib.sha256(json.dumps(recipe.model_dump(), sort_keys=True).encode()).hexdigest()


def keep(ledger: Ledger, recipe: Recipe) -> None:
    """Remember a plan that was carried out, so that the same command gets it again.

    One that was remembered stays as it is: how long it took with nothing in the cache is what it may take again.
    """
    if recipe.plan and any(sentence.startswith(_BEFORE) for sentence in recipe.plan.why):
        return
    remember(
        cache_folder("plans") / ledger.memory, {"recipe": recipe.to_toml(), "ledger": json.dumps(ledger.as_dict())}
    )


def _remembered(name: str, asked: str, began: float) -> tuple[Recipe, Ledger] | None:
    """A plan that was carried out before, closed; None where there is none, or it is damaged."""
    note = recall(cache_folder("plans") / name)
    try:
        recipe = Recipe.model_validate(tomllib.loads(note["recipe"])) if note else None
        ledger = TypeAdapter(Ledger).validate_json(note["ledger"]) if note else None
    except (ValueError, TypeError, KeyError):  # it is made anew
        return None
    if recipe is None or ledger is None or recipe.plan is None or ledger.taken is None:
        return None
    again = (
        f"{_BEFORE}. It took {ledger.taken / 60:.1f} minutes then, and takes less by what is stored in the cache. "
        "To plan anew: tellapart cache clear plans"
    )
    why = [*(sentence for sentence in recipe.plan.why if not sentence.startswith(_BEFORE)), again]
    recipe = recipe.model_copy(update={"plan": recipe.plan.model_copy(update={"why": why})})
    values: dict[str, Any] = {**ledger.as_dict(), "asked": asked, "began": began, "open": False, "outcome": ()}
    values |= {"announced": ledger.taken, "latest": ledger.taken, "expected": (), "taken": None}
    return recipe, Ledger.from_dict(values)


def networks(minutes: float) -> Generator[Note, None, list[str]]:
    """Pretrained networks to try: those at hand, the default one first, then such as the hub sends in no time.

    Yields:
        Note, for each that will be fetched, with its size and about how long that takes.
    """
    everything = candidates(offline=is_offline())
    here = sorted((c for c in everything if c.at_hand), key=lambda c: (c.name != DEFAULT, c.macs, c.name))
    quick = [c for c in everything if not c.at_hand and c.download_seconds <= _SHARE_TO_FETCH * 60 * minutes]
    fetched = sorted(quick, key=lambda c: (c.macs, c.name))[:: max(1, len(quick) // _MOST_FETCHED)][:_MOST_FETCHED]
    for each in fetched:
        yield Note(
            f"{each.name} is tried too: {each.download_mb:.0f} MB are fetched from the hub, in about "
            f"{each.download_seconds:.0f} s. HF_HUB_OFFLINE=1 forbids it."
        )
    return [c.name for c in (*here[:_MAX_NETWORKS], *fetched)] or [DEFAULT]


class _Search:
    """Trials of networks, in rounds of ever more pictures, until one is best or their time is over.

    What is decided rests on measured seconds that are remembered, not on the clock: so it is decided again alike.
    """

    def __init__(
        self,
        recipe: Recipe,
        catalog: Catalog,
        split: Split,
        work: Workload,
        runtime: Runtime | None,
        left: float,
        allowed: float,
    ) -> None:
        self.recipe, self.catalog, self.split, self.work, self.runtime = recipe, catalog, split, work, runtime
        self.left, self.limit = left, _SHARE_FOR_TRIALS * allowed
        self.spent = 0.0
        self.prepared: dict[tuple[str, int], Candidate] = {}
        self.trials: dict[tuple[str, int], Trial] = {}

    def run(self, names: list[str], rows: Rows) -> Generator[Computing | Note, None, tuple[Candidate, list[str]]]:
        """Try networks on the first rows, then the better ones on more of them."""
        n = min(len(rows), max(_FIRST, _FIRST_PER_CLASS * self.work.n_classes))
        for name in names:
            yield from self._try(name, self.recipe.data.size, rows[:n])
        if self.recipe.data.size is None:
            yield from self._sizes(rows[:n])
        while n < len(rows) and len(leaders := self._leaders()) > 1:
            more = [self.prepared[trial.name, trial.size] for trial in leaders]
            wider = min(len(rows), 2 * n)
            cost = sum(sorted((wider - n) * self._seconds(each) for each in more)[:-1])
            if self.spent + cost > self.limit:
                break
            n, self.spent = wider, self.spent + cost
            for each in more:
                self.trials[each.name, each.size] = yield from answer(each, self.catalog, rows[:n])
        trials = list(self.trials.values())
        candidates = [self.prepared[trial.name, trial.size] for trial in trials]
        costs = [self._fair(each) for each in candidates]
        chosen, why = choose(trials, [cost <= self.left - self.spent for cost in costs], costs)
        return self.prepared[chosen.name, chosen.size], why

    def _try(self, name: str, size: int | None, rows: Rows) -> Generator[Computing | Note, None, None]:
        """Build, time and try a network; not if the time for trials is over, or it could not be trained in time."""
        if self.trials and self.spent > self.limit:
            yield Note(f"{name} was not tried: the time for trials is over.")
            return
        candidate = yield from prepare(self.recipe, name, size, self.catalog, self.split, self.runtime)
        key = candidate.name, candidate.size
        self.spent += candidate.timing.setup
        cost = len(rows) * self._seconds(candidate)
        if self.trials and (self.spent + cost > self.limit or self._fair(candidate) > self.left - self.spent):
            yield Note(f"{name} at {candidate.size} pixels was not tried: there would be no time to train it.")
            return
        self.spent += cost
        self.prepared[key] = candidate
        self.trials[key] = yield from answer(candidate, self.catalog, rows)

    def _sizes(self, rows: Rows) -> Generator[Computing | Note, None, None]:
        """The best network at a smaller size where it cannot be trained in time, else at a larger one if that can."""
        best = best_of(list(self.trials.values()))
        native = self.prepared[best.name, best.size]
        in_time = self._fair(native) <= self.left - self.spent
        side = max(32, round(best.size * (_LARGER if in_time else _SMALLER) / 32) * 32)
        # Time grows with the number of pixels. Where that cannot fit, building it is not worth the while.
        larger = self._fair(native) * (side / best.size) ** 2
        if side != best.size and (not in_time or larger <= self.left - self.spent):
            yield from self._try(best.name, side, rows)

    def _leaders(self) -> list[Trial]:
        """The trials that none has proven worse, of those that can be trained in time."""
        able = [t for k, t in self.trials.items() if self._fair(self.prepared[k]) <= self.left - self.spent]
        return as_good(able, HOPELESS_ERRORS) if able else []

    def _seconds(self, candidate: Candidate) -> float:
        return candidate.timing.reading + candidate.timing.frozen

    def _fair(self, candidate: Candidate) -> float:
        return total_seconds(candidate.recipe, candidate.timing, self.work)


def _promise(recipe: Recipe, expected: list[float], end: float, goes_on: bool, announced: float) -> str:
    """What the minutes buy, in a sentence."""
    assert recipe.plan
    parts = []
    for stage, seconds in zip(recipe.stages, expected, strict=True):
        length = "" if stage.solver else f", {stage.epochs} {'epoch' if stage.epochs == 1 else 'epochs'}"
        parts.append(f"{stage.name or 'training'}{length} ({_time(seconds)})")
    if goes_on:
        parts.append("then further stages as long as validation gets better")
    parts.append(f"certainty, bundle and report ({_time(end)})")
    minutes, whole = (
        f"{recipe.plan.minutes:g} minutes",
        f"{'; '.join(parts)}. About {announced / 60:.1f} minutes in all.",
    )
    if announced > (1 + SPARE) * 60 * recipe.plan.minutes:
        return f"{minutes} are too few for the least that a training does here: {whole}"
    return f"{minutes} buy: {whole}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
