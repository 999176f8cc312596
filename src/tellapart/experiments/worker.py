"""A process that does trainings of a study for another one: tasks come as lines of JSON, results go back as such.

    python -m tellapart.experiments.worker DIRECTORY

It ends when its input does, in the middle of a training too: whoever gave the task is gone.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tellapart.core.hardware import keep_freed, limit_spinning
from tellapart.errors import RunError


def main() -> None:
    """Do one task a line until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that gives the tasks decides
    limit_spinning()
    from tellapart.experiments.execute import Bench
    from tellapart.experiments.seeds import Seed
    from tellapart.experiments.space import Cell
    from tellapart.experiments.tasks import Task
    from tellapart.recipe.schema import Recipe

    keep_freed()
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints to standard output must not reach the line of results
    bench = Bench.open(Path(sys.argv[1]))
    while True:
        values = json.loads(lines.get())
        recipe = Recipe.model_validate_json(values["recipe"])
        cell = Cell(values["cell"], values["levels"], values["changes"], recipe)
        task = Task(cell, values["number"], Seed(*values["seed"]), values["fold"])

        def goes_on(epoch: int, score: float) -> bool:
            _write(out, {"epoch": epoch, "score": score})
            return bool(json.loads(lines.get())["goes_on"])

        try:
            _write(out, {"result": bench.do(task, goes_on if values["asks"] else None)})
        except RunError as error:  # nothing more can be stored
            _write(out, {"error": [error.message, error.hint]})


def _read(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _write(out: Any, values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
