"""A search: Optuna chooses the next cell from the scores of those before (TPE), and gives up hopeless ones.

Every choice is a function of the trials before and of the trial's number, so a search that was killed goes the way of
an unbroken one: a trial that was begun goes on with what was drawn for it.

Sources: J. Bergstra et al., Algorithms for hyper-parameter optimization, NeurIPS 2011 (TPE); L. Li et al., A system
for massively parallel hyperparameter tuning, MLSys 2020 (successive halving, asynchronous); the pruner over seeds or
folds is Wilcoxon's signed-rank test against the best cell so far, on the same seeds or folds.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tellapart.experiments.description import Factor, Level
from tellapart.experiments.directory import Study, save_cell
from tellapart.experiments.results import STOPPED, objective_value
from tellapart.experiments.seeds import n_first, seeds_of
from tellapart.experiments.space import Cell, number_level
from tellapart.experiments.storage import Heartbeat, pack, plain, unpack, values_of
from tellapart.experiments.tasks import Task, result_of, tasks_of

if TYPE_CHECKING:
    import optuna

_BUSY_TRIALS = 10  # drawn at random before the search begins to learn


@dataclass
class _Active:
    """A trial under way: its cell, and the trainings that are left of it."""

    trial: optuna.Trial
    cell: Cell
    left: deque[Task]
    results: list[dict[str, Any]] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)
    running: bool = False


class SearchTasks:
    """The trainings of a search, as Optuna asks for them.

    Args:
        study: its baseline has been trained before.
        trials: Optuna's study.
        shared: other processes work on it too.
        parallel: trainings at a time here.
    """

    def __init__(self, study: Study, trials: optuna.Study, shared: bool, parallel: int) -> None:
        self._study, self._trials, self._shared = study, trials, shared
        self._spread = shared or parallel > 1
        self._active: dict[int, _Active] = {}
        self._heartbeat = Heartbeat(trials) if shared else None
        trials.pruner = _pruner(study.file.pruner)
        if not shared:
            self._adopt()

    def next(self) -> Task | None:
        """A training of a trial that is under way, or the first one of a new trial."""
        for active in list(self._active.values()):
            if not active.running and (task := self._next_of(active)):
                return task
        while self._n_trials() < self._study.file.budget.trials:
            active = self._begin(self._ask())
            if task := self._next_of(active):
                return task
        return None

    def goes_on(self, task: Task, epoch: int, score: float) -> bool:
        """Ask the pruner, in the first training of a trial: the epochs of later seeds say the same."""
        active = self._of_task(task)
        if self._study.file.pruner != "halving" or active.results:
            return True
        _report(active, score, epoch)
        return not active.trial.should_prune()

    def ended(self, task: Task, result: dict[str, Any]) -> None:
        """Report a training to its trial, which may end with it."""
        active = self._of_task(task)
        active.running = False
        self._take(active, task, result)

    def close(self) -> None:
        """Give no more signs of life."""
        if self._heartbeat:
            self._heartbeat.stop()

    def _of_task(self, task: Task) -> _Active:
        return next(each for each in self._active.values() if each.cell.id == task.cell.id and each.running)

    def _adopt(self) -> None:
        """Go on with the trials that a process before this one had begun."""
        from optuna.trial import Trial, TrialState

        for frozen in self._trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            active = self._begin(Trial(self._trials, frozen._trial_id))
            active.reported |= frozen.intermediate_values.keys()

    def _n_trials(self) -> int:
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL)
        trials = self._trials.get_trials(deepcopy=False, states=states)
        dead = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
        return sum("training" not in trial.user_attrs and trial.number not in dead for trial in trials)

    def _ask(self) -> optuna.Trial:
        if self._shared:
            import warnings

            from optuna.storages import fail_stale_trials

            with warnings.catch_warnings():  # that heartbeats are new, and meant for another way of asking
                warnings.simplefilter("ignore")
                fail_stale_trials(self._trials)
                return self._trials.ask()
        return self._trials.ask()

    def _begin(self, trial: optuna.Trial) -> _Active:
        """The cell of a trial, drawn or as it was drawn, and the trainings that it needs."""
        study = self._study
        if self._heartbeat:
            self._heartbeat.add(trial._trial_id)
        drawn: dict[str, Level] = {}
        for factor in study.space.in_order():
            labels = {name: level.label for name, level in drawn.items()}
            if study.space.applies(factor, labels):
                self._seed(factor.name, trial.number)
                drawn[factor.name] = _draw(trial, factor)
        cell = study.space.cell(drawn)
        number = trial.number + 1 if cell.id != study.description.baseline else 0
        trial.set_user_attr("cell", cell.id)
        if result := next(iter(self._cells_before(cell.id, trial.number)), None):
            number = result + 1
        save_cell(study.directory, cell, number)
        seeds = itertools.islice(seeds_of(study.description, study.space.base.seed), n_first(study.description))
        tasks = [task for seed in seeds for task in tasks_of(study, cell, number, seed)]
        active = self._active[trial.number] = _Active(trial, cell, deque(tasks))
        return active

    def _cells_before(self, cell: str, number: int) -> list[int]:
        """Numbers of earlier trials of the same cell."""
        trials = self._trials.get_trials(deepcopy=False)
        return [trial.number for trial in trials if trial.number < number and trial.user_attrs.get("cell") == cell]

    def _next_of(self, active: _Active) -> Task | None:
        """The next training of a trial that has no result yet; the trial may end over those that have one."""
        if any(other.running and other.cell.id == active.cell.id for other in self._active.values()):
            return None  # the same cell was drawn twice: its results are there when the other one ends
        while active.left:
            task = active.left.popleft()
            result = result_of(self._study, task)
            if result is None:
                active.running = True
                return task
            self._take(active, task, result)
        return None

    def _take(self, active: _Active, task: Task, result: dict[str, Any]) -> None:
        from optuna.trial import TrialState

        trial, description = active.trial, self._study.description
        step = len(active.results)
        active.results.append(result)
        if self._shared:
            trial.set_user_attr(f"files {task.name}", pack(self._study.directory, task))
        else:
            trial.set_user_attr(f"training {task.name}", plain(result))
        values = values_of(description, active.results)
        if result["status"] == STOPPED:
            return self._tell(active, state=TrialState.PRUNED)
        if values is None:
            return self._tell(active, state=TrialState.FAIL)
        if self._study.file.pruner == "wilcoxon":
            score = objective_value(description.objective.name, result)
            if score is not None:
                _report(active, score, step)
            if active.left and trial.should_prune():
                return self._tell(active, state=TrialState.PRUNED)
        if not active.left:
            self._tell(active, values=values)
        return None

    def _tell(self, active: _Active, **outcome: Any) -> None:
        self._trials.tell(active.trial, **outcome)
        if self._heartbeat:
            self._heartbeat.remove(active.trial._trial_id)
        active.left.clear()
        del self._active[active.trial.number]

    def _seed(self, name: str, number: int) -> None:
        """A sampler for one choice alone: what it leaves to chance depends on the choice, and on nothing before."""
        from optuna.samplers import TPESampler

        digest = hashlib.sha256(f"{name} {number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big") >> 1
        self._trials.sampler = TPESampler(seed=seed, n_startup_trials=_BUSY_TRIALS, constant_liar=self._spread)


def fetch(study: Study, trials: optuna.Study) -> None:
    """Write the trainings that other machines did into the study's directory."""
    for trial in trials.get_trials(deepcopy=False):
        for name, text in trial.user_attrs.items():
            if name.startswith("files "):
                unpack(study.directory, text)


def _draw(trial: optuna.Trial, factor: Factor) -> Level:
    """The level that Optuna draws, or has drawn for this trial before."""
    if factor.kind != "range":
        label = trial.suggest_categorical(factor.name, [level.label for level in factor.levels])
        return next(level for level in factor.levels if level.label == label)
    assert factor.low is not None
    assert factor.high is not None
    if factor.integer:
        return number_level(factor, trial.suggest_int(factor.name, int(factor.low), int(factor.high), log=factor.log))
    return number_level(factor, trial.suggest_float(factor.name, factor.low, factor.high, log=factor.log))


def _report(active: _Active, score: float, step: int) -> None:
    """Report a score once: a trial that goes on after a kill has reported some already."""
    if step not in active.reported:
        active.reported.add(step)
        active.trial.report(score, step)


def _pruner(name: str) -> optuna.pruners.BasePruner:
    import warnings

    from optuna import pruners

    with warnings.catch_warnings():  # that Wilcoxon's is new
        warnings.simplefilter("ignore")
        if name == "wilcoxon":
            return pruners.WilcoxonPruner()
        return pruners.SuccessiveHalvingPruner() if name == "halving" else pruners.NopPruner()
