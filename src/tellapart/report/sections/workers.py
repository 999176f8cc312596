"""The workers of a training on several processes: how many, where, and what a lost one has cost."""

from __future__ import annotations

import datetime

from tellapart.report.blocks import Block, Cell, Facts, Section, Table, Text
from tellapart.report.formatting import count, duration
from tellapart.runs.run import Run
from tellapart.runs.sessions import Session, n_restarts, read_sessions, seconds_lost


def workers(run: Run) -> Section | None:
    """Its sessions, one after the other; None for a training in one process alone."""
    sessions = read_sessions(run)
    if not sessions:
        return None
    distributed, restarts = run.recipe.distributed, n_restarts(sessions)
    most = max(session.workers for session in sessions)
    nodes = len({node for session in sessions for node in session.nodes})
    lost = seconds_lost(sessions)
    blocks: list[Block] = [
        Facts(
            [
                ("Workers", count(most), f"on {count(nodes)} {'machine' if nodes == 1 else 'machines'}"),
                ("Restarts", count(restarts), "after a worker was lost"),
                ("Time lost", duration(lost) if restarts else "none", "since the last checkpoint" if restarts else ""),
            ]
        )
    ]
    if distributed:
        same = "so any number of workers that divides them gives the same network"
        order = "added in their order" if distributed.reduce == "ordered" else "added in the fastest order"
        text = (
            f"Each batch was cut into {distributed.micro_batches} micro-batches, whose gradients were {order}, {same}."
        )
        blocks.append(Text(text, "note"))
    if len(sessions) > 1:
        rows = [[Cell(text) for text in _row(session, session is sessions[-1])] for session in sessions]
        blocks.append(Table(("Began", "Workers", "Machines", "Ended"), rows, title="Sessions"))
    return Section("workers", "Workers that trained together", blocks, "Workers", after="training")


def _row(session: Session, last: bool) -> tuple[str, str, str, str]:
    began = datetime.datetime.fromtimestamp(session.began).astimezone()
    ended = f"after {duration(session.ended - session.began)}" if session.ended else "a worker was lost"
    places = ", ".join(dict.fromkeys(session.nodes))
    return f"{began:%Y-%m-%d %H:%M:%S}", count(session.workers), places, ended if not last or session.ended else "–"
