"""The ledger of a plan: what was announced, what came, and which stage follows while the plan is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tellapart.core.text import percent
from tellapart.recipe.schema import Recipe
from tellapart.training.planning.budget import Timing, Workload, end_seconds, epoch_seconds, stage_seconds
from tellapart.training.planning.stages import Outcome, further, may_go_on, slowed

#: Of the minutes, kept free for what no measurement foresees.
SPARE = 0.03
#: How much slower or faster than measured the machine is believed to have become.
_DRIFT = (0.5, 5.0)


@dataclass(frozen=True)
class Ledger:
    """A plan that is under way; stored in the run as plan.json.

    Attributes:
        asked: digest of the recipe as it was asked for, with nothing chosen.
        minutes: that the training may take.
        began: when the command began, in seconds since 1970; moved when the training resumes.
        timing, work: what the plan rests on.
        planned: seconds until the first stage began.
        announced: seconds from beginning to end, as announced first. latest: as announced last.
        expected: seconds of each stage, as announced; none of a plan that the same command had before.
        open: whether stages may still be changed or added.
        memory: name of the note that remembers the plan.
        outcome: sentences on how it came out.
        taken: seconds that it all took; None until the end.
    """

    asked: str
    minutes: float
    began: float
    timing: Timing
    work: Workload
    planned: float
    announced: float
    latest: float
    expected: tuple[float, ...]
    open: bool
    memory: str
    outcome: tuple[str, ...] = field(default=())
    taken: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Ledger:
        """As `as_dict` made it; `runs.plan_file` checks what comes from a file."""
        lists = {name: tuple(values[name]) for name in ("expected", "outcome")}
        parts = {"timing": Timing(**values["timing"]), "work": Workload(**values["work"])}
        return cls(**{**values, **lists, **parts})


def outcomes(events: Sequence[dict[str, Any]]) -> list[Outcome]:
    """How the stages of steps went, from a run's log."""
    result = []
    for number in sorted({event["stage"] for event in events if event["event"] == "BeginsFrom"}):
        own = [event for event in events if event.get("stage") == number and not event.get("retraining")]
        epochs = [event for event in own if event["event"] == "Validated" and event["lrs"]]
        if not epochs:
            continue  # a linear probe
        name = next(event["name"] for event in own if event["event"] == "StageStarted")
        start = next(_loss(event["validation_loss"]) for event in own if event["event"] == "BeginsFrom")
        losses = tuple((_loss(event["train_loss"]), _loss(event["validation_loss"])) for event in epochs)
        # The first epoch also waits for what runs once, such as compiling; the median does not.
        seconds = sorted(event.get("seconds", 0.0) for event in epochs)[len(epochs) // 2]
        result.append(Outcome(name, start, losses, seconds))
    return result


def _loss(value: float | None) -> float:
    """A loss of the log, which has none that is no number: such a one is worse than all others."""
    return math.inf if value is None else value


def drift(ledger: Ledger, events: Sequence[dict[str, Any]], done: int) -> float:
    """How many times as long as expected the stages took that are done; 1 where they say too little."""
    expected = sum(ledger.expected[:done])
    spent = (e.get("seconds", 0.0) + e.get("preparation", 0.0) for e in events if e.get("stage", done) < done)
    real = float(sum(spent))
    if expected < 1:
        return 1.0
    return max(_DRIFT[0], min(_DRIFT[1], real / expected))


def brought_up_to_date(
    ledger: Ledger, recipe: Recipe, events: Sequence[dict[str, Any]], done: int, now: float
) -> tuple[Ledger, Recipe, list[str]]:
    """The plan after some stages: epochs that are still open corrected, a further stage, or closed.

    Args:
        events: of the run's log.
        done: number of stages that are done.
        now: seconds since 1970.

    Returns:
        The ledger, the recipe, and what has changed and why, in sentences.
    """
    if not ledger.open or done < len(recipe.stages) - 1:
        return ledger, recipe, []
    factor = drift(ledger, events, done)
    timing = slowed(ledger.timing, factor)
    end = end_seconds(timing, ledger.work, 60 * ledger.minutes)
    left = 60 * ledger.minutes * (1 - SPARE) - (now - ledger.began) - end
    if done < len(recipe.stages):
        return _corrected(ledger, recipe, timing, left, now, end)
    stage, reason = further(recipe, outcomes(events), timing, ledger.work, left, ledger.minutes)
    if stage is None:
        spent = now - ledger.began
        closed = replace(ledger, open=False, latest=spent + end_seconds(timing, ledger.work, spent))
        return closed, recipe, [f"{reason} {_all(closed.latest)}."] if reason else []
    longer = recipe.model_copy(update={"stages": [*recipe.stages, stage]})
    latest = now - ledger.began + end + left
    expected = (*ledger.expected, left)
    return replace(ledger, latest=latest, expected=expected), longer, [f"{reason} {_all(latest)}."]


def _corrected(
    ledger: Ledger, recipe: Recipe, timing: Timing, left: float, now: float, end: float
) -> tuple[Ledger, Recipe, list[str]]:
    """The last stage with as many epochs as there is time for, now that the stages before have been measured."""
    last, work = recipe.stages[-1], ledger.work
    if last.solver:
        return ledger, recipe, []
    an_epoch = epoch_seconds(timing, work) * work.n_trainings
    before = stage_seconds(recipe.stages, timing, work)[-1] - last.epochs * an_epoch
    epochs = max(0, min(last.epochs, int((left - before) / max(an_epoch, 1e-9))))
    if epochs == last.epochs:
        return ledger, recipe, []
    latest = now - ledger.began + end + (before + epochs * an_epoch if epochs else 0.0)
    ledger = replace(ledger, latest=latest, open=bool(epochs) and may_go_on(recipe))
    if not epochs:
        shorter = recipe.model_copy(update={"stages": recipe.stages[:-1]})
        return ledger, shorter, [f"What came before took longer than measured: no time is left for {last.name!r}."]
    changed = recipe.model_copy(update={"stages": [*recipe.stages[:-1], last.model_copy(update={"epochs": epochs})]})
    why = f"What came before took longer than measured: {epochs} instead of {last.epochs} epochs of {last.name!r}."
    return ledger, changed, [f"{why} {_all(latest)}."]


def settled(ledger: Ledger, events: Sequence[dict[str, Any]], now: float) -> Ledger:
    """The ledger at the end, with sentences on what the minutes bought beside what was announced."""
    taken = now - ledger.began
    share = percent(taken / 60 / ledger.minutes, 0)
    before, now_taken = f"{ledger.announced / 60:.1f} minutes", f"{taken / 60:.1f}"
    times = f"Announced {before}, taken {now_taken}" if ledger.expected else f"Taken {before} before, {now_taken} now"
    times += f": {share} of the {ledger.minutes:g} that were allowed."
    gains = [_gain(each) for each in outcomes(events)]
    bought = f"{'; '.join(gains)}." if gains else ""
    return replace(ledger, taken=taken, open=False, outcome=tuple(filter(None, (times, bought, _kept_of(events)))))


def _gain(outcome: Outcome) -> str:
    if not outcome.improved:
        return f"“{outcome.name}” did not better the validation loss of {outcome.start:.3f}"
    best = min(loss for _, loss in outcome.losses)
    return f"“{outcome.name}” brought the validation loss from {outcome.start:.3f} to {best:.3f}"


def _kept_of(events: Sequence[dict[str, Any]]) -> str:
    """Which stage's weights answer, and by which measure they are the best."""
    made = [e for e in events if e["event"] == "StageDone" and e["best_epoch"] and not e.get("retraining")]
    if not made:
        return ""
    stage, epoch = made[-1]["stage"], made[-1]["best_epoch"]
    name = next(e["name"] for e in events if e["event"] == "StageStarted" and e["stage"] == stage)
    best = next(e for e in events if e["event"] == "Validated" and (e["stage"], e["epoch"]) == (stage, epoch))
    return (
        f"Kept are the best weights of all stages, by the loss on validation: those of “{name}”, with "
        f"{best['validation_loss']:.3f}."
    )


def _all(seconds: float) -> str:
    return f"About {seconds / 60:.1f} minutes in all"
