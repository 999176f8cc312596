"""The trainings of a plan that several processes or machines do together; Optuna's storage gives each to one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tellapart.experiments.directory import Study
from tellapart.experiments.results import DONE, FAILED
from tellapart.experiments.search import fetch
from tellapart.experiments.storage import (
    Heartbeat,
    distributions,
    pack,
    params_of,
    plain,
    values_of,
)
from tellapart.experiments.tasks import Task, result_of

if TYPE_CHECKING:
    import optuna

#: Seconds between two looks at what others do, where nothing else is left.
_LOOK = 2.0


class SharedTasks:
    """Trainings of a plan, of which others do some.

    Each is a waiting trial. Who sets it running does it; the database lets only one. A trial of a process that gives
    no sign of life waits again. When nothing waits, this waits for what others still do, as they may die.

    Args:
        tasks: those that have not ended here.
        say: shows a line.
    """

    def __init__(self, study: Study, trials: optuna.Study, tasks: list[Task], say: Callable[[str], None]) -> None:
        self._study, self._trials, self._say = study, trials, say
        self._tasks = {task.name: task for task in tasks}
        self._ids: dict[str, int] = {}
        self._storage: Any = trials._storage
        self._heartbeat = Heartbeat(trials)
        self._waited = False
        self._enqueue(tasks)

    def _enqueue(self, tasks: list[Task]) -> None:
        from optuna.trial import TrialState, create_trial

        trials = self._trials.get_trials(deepcopy=False)
        failed = {t.user_attrs.get("training") for t in trials if t.state == TrialState.FAIL}
        known = {t.user_attrs.get("training") for t in trials if t.state != TrialState.FAIL}
        of = distributions(self._study.description.factors)
        for task in tasks:
            if task.name in known or (task.name in failed and result_of(self._study, task) is None):
                continue
            params = params_of(task.cell.levels, self._study.description.factors)
            attributes = {"training": task.name, "cell": task.cell.id, "seed": task.seed.number}
            self._trials.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    params=params,
                    distributions={name: of[name] for name in params},
                    user_attrs=attributes,
                )
            )

    def next(self) -> Task | None:
        """A training that nobody else does; None when all have ended."""
        from optuna.trial import TrialState

        while True:
            self._revive()
            if task := self._claim():
                return task
            running = self._trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            others = [trial for trial in running if trial.user_attrs.get("training") not in self._ids]
            if not others:
                fetch(self._study, self._trials)
                return None
            if not self._waited:
                self._waited = True
                self._say(f"Waiting for {len(others)} of the trainings, which others do.")
            time.sleep(_LOOK)

    def _claim(self) -> Task | None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        trials = [t for t in self._trials.get_trials(deepcopy=False) if t.state != TrialState.FAIL]
        first: dict[str, int] = {}
        for trial in trials:
            first.setdefault(str(trial.user_attrs.get("training")), trial.number)
        for trial in trials:
            name = str(trial.user_attrs.get("training"))
            task = self._tasks.get(name)
            if trial.state != TrialState.WAITING or task is None:
                continue  # not of this plan: another one has more levels
            try:
                if not self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    continue
                if first[name] != trial.number:  # two processes added it at the same time
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                    continue
            except UpdateFinishedTrialError:
                continue
            self._ids[task.name] = trial._trial_id
            self._heartbeat.add(trial._trial_id)
            result = result_of(self._study, task)
            if result is None or result["status"] == FAILED:
                return task
            self.ended(task, result)  # done here before it was given to all
        return None

    def _revive(self) -> None:
        from optuna.storages import fail_stale_trials

        with warnings.catch_warnings():  # that heartbeats are new
            warnings.simplefilter("ignore")
            fail_stale_trials(self._trials)

    def goes_on(self, task: Task, epoch: int, score: float) -> bool:
        """Always: all cells of a plan are compared."""
        return True

    def ended(self, task: Task, result: dict[str, Any]) -> None:
        """Store the files of a training for the others."""
        from optuna.trial import TrialState

        trial_id = self._ids.pop(task.name)
        values = values_of(self._study.description, [result]) if result["status"] == DONE else None
        for name, value in plain(result).items():
            self._storage.set_trial_user_attr(trial_id, name, value)
        self._storage.set_trial_user_attr(trial_id, f"files {task.name}", pack(self._study.directory, task))
        self._heartbeat.remove(trial_id)
        self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE if values else TrialState.FAIL, values)

    def close(self) -> None:
        """Give no more signs of life."""
        self._heartbeat.stop()
