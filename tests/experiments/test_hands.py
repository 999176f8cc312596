"""Processes that do trainings, and what happens to a training over which some die."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tellapart.experiments.execute import Hands, Team
from tellapart.experiments.seeds import Seed
from tellapart.experiments.space import Cell
from tellapart.experiments.tasks import PlannedTasks, Task
from tellapart.recipe.schema import Recipe


class Mortal:
    """Dies over its first tasks, as often as the list says."""

    def __init__(self, deaths: list[str]) -> None:
        self.deaths = deaths

    def exchange(self, line: str) -> str:
        return "" if self.deaths else json.dumps({"result": {"status": "done", "cell": json.loads(line)["cell"]}})

    def death(self) -> str:
        return self.deaths.pop()

    def finish(self) -> None:
        pass

    kill = finish


def results_of(folder: Path, deaths: list[str], n_tries: int) -> list[dict[str, Any]]:
    recipe, seed = Recipe(), Seed(0, 0, 0, 0)
    tasks = PlannedTasks([Task(Cell(name, {}, {}, recipe), number, seed, None) for number, name in enumerate("ab")])
    ended: list[dict[str, Any]] = []

    def left(place: Path, task: Task, status: str, reason: str) -> dict[str, Any]:
        return {"status": status, "cell": task.cell.id, "reason": reason}

    bench: Any = SimpleNamespace(directory=folder, stop=[], _left=left)
    hire: Callable[[Path], Any] = lambda _folder: Mortal(deaths)  # noqa: E731
    Team(
        bench, tasks, Hands(1, hire, n_tries), False, lambda task: None, lambda task, result: ended.append(result)
    ).work()
    return ended


def test_a_training_whose_process_died_is_given_to_another_and_counts_once(tmp_path: Path) -> None:
    ended = results_of(tmp_path, ["lost", "lost"], n_tries=3)
    assert [(each["cell"], each["status"]) for each in ended] == [("a", "done"), ("b", "done")]


@pytest.mark.parametrize(("n_tries", "deaths"), [(1, ["killed"]), (3, ["killed", "lost", "lost"])])
def test_a_training_over_which_all_die_has_failed_and_the_others_go_on(
    tmp_path: Path, n_tries: int, deaths: list[str]
) -> None:
    ended = results_of(tmp_path, deaths, n_tries)
    assert [(each["cell"], each["status"]) for each in ended] == [("a", "failed"), ("b", "done")]
    assert ended[0]["reason"] == "killed"
