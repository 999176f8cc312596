"""The report's section on workers, and the sessions that it tells of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.errors import RunError
from tellapart.recipe.distributed import for_workers
from tellapart.recipe.schema import Recipe
from tellapart.report.blocks import Facts, Table
from tellapart.report.sections.workers import workers
from tellapart.runs import sessions
from tellapart.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "recipe.toml").write_text(for_workers(Recipe(), 2).to_toml(), encoding="utf-8")
    return Run(tmp_path)


def test_a_training_in_one_process_has_no_section(run: Run) -> None:
    assert workers(run) is None


def test_what_a_lost_worker_cost_is_counted_from_the_last_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 160.0, 175.0, 200.0, 300.0])
    monkeypatch.setattr(sessions.time, "time", lambda: next(times))
    sessions.begin_session(run, ["red", "blue"])
    sessions.note_saved(run)  # at 160
    sessions.begin_session(run, ["red"])  # at 175: one was lost
    sessions.end_session(run)  # at 200: stopped by its user
    sessions.begin_session(run, ["red", "blue"])  # at 300: not a restart
    found = sessions.read_sessions(run)
    assert (sessions.n_restarts(found), sessions.seconds_lost(found)) == (1, 15.0)
    section = workers(run)
    assert section
    facts, table = section.blocks[0], section.blocks[-1]
    assert isinstance(facts, Facts)
    assert [fact[:2] for fact in facts.facts] == [("Workers", "2"), ("Restarts", "1"), ("Time lost", "15 s")]
    assert isinstance(table, Table)
    assert [[cell.text for cell in row][1:] for row in table.rows] == [
        ["2", "red, blue", "a worker was lost"],
        ["1", "red", "after 25 s"],
        ["2", "red, blue", "–"],
    ]


@pytest.mark.parametrize(
    "text", ["{", '{"began": 1}', '[{"began": "x", "workers": 1}]', '[{"began": 1.0, "workers": -1}]']
)
def test_a_damaged_file_is_an_error_in_words(run: Run, text: str) -> None:
    run.workers_file.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"workers\.json is damaged"):
        workers(run)
