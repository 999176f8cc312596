"""workers.json: when which workers trained, and what a lost one has cost."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tellapart.runs.run import Run


@dataclass(frozen=True)
class Session:
    """A time in which the same workers trained.

    Attributes:
        began, saved, ended: seconds since 1970: its start, its last checkpoint, its orderly end; 0 for none.
        workers: how many.
        nodes: the machine of each.
    """

    began: float
    workers: int
    nodes: list[str] = field(default_factory=list)
    saved: float = 0.0
    ended: float = 0.0


def begin_session(run: Run, nodes: list[str]) -> None:
    """Note that workers begin to train, each on its node."""
    _write(run, [*read_sessions(run), Session(time.time(), len(nodes), nodes)])


def note_saved(run: Run) -> None:
    """Note that a checkpoint was written."""
    *before, last = read_sessions(run)
    _write(run, [*before, replace(last, saved=time.time())])


def end_session(run: Run) -> None:
    """Note that the training is done, or was asked to stop."""
    *before, last = read_sessions(run)
    _write(run, [*before, replace(last, ended=time.time())])


def _write(run: Run, sessions: list[Session]) -> None:
    run.write_json(run.workers_file, [asdict(session) for session in sessions])


def read_sessions(run: Run) -> list[Session]:
    """The sessions of a run; none of a training in one process."""
    if not run.workers_file.is_file():
        return []
    from tellapart.runs.json_files import WorkersFile, read_checked

    values: list[dict[str, Any]] = read_checked(run.workers_file, WorkersFile)
    return [Session(**value) for value in values]


def n_restarts(sessions: list[Session]) -> int:
    """How often a session has ended because a worker was lost, and another one went on."""
    return sum(not session.ended for session in sessions[:-1])


def seconds_lost(sessions: list[Session]) -> float:
    """From the last checkpoint before each such end to the beginning of the next session."""
    pairs = itertools.pairwise(sessions)
    return sum(after.began - (before.saved or before.began) for before, after in pairs if not before.ended)
