"""A training that is stopped by signals goes on to the same weights."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import tellapart as ta
from tellapart.core.events import Event, Progress
from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe
from tellapart.runs.resume import divide
from tellapart.runs.run import Run
from tellapart.workflows.progress import ProgressSink
from tellapart.workflows.train import RunOptions, follow_run, run
from tests.workflows.test_train import LONGEST, QUICK, Command, events, followed, scores

pytestmark = pytest.mark.usefixtures("short_ends")


def six_epochs(digits: Path, out: Path) -> list[str | Path]:
    changes = ["model.name=small-cnn", "stages.0.epochs=6", "stages.0.batch_size=16"]
    return ["train", digits, *QUICK, *(part for change in changes for part in ("--set", change)), "--out", out]


@pytest.mark.slow
def test_stopped_by_signals_the_same_command_goes_on_to_the_same_weights(
    digits: Path, tmp_path: Path, here: Command, one_thread: None
) -> None:
    """Interrupted, begun again, terminated, begun again. Killed it is in the test of retraining."""
    out, unbroken = tmp_path / "run", tmp_path / "unbroken"
    done = here(*six_epochs(digits, unbroken))
    assert done.returncode == 0, done.stderr
    command = six_epochs(digits, out)
    for epoch, number in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), 1):
        with followed(command) as (process, printed):
            next(e for e in printed if e["event"] == "Progress" and (e["epoch"], e["step"]) >= (epoch, 5))
            process.send_signal(number)
            process.communicate(timeout=LONGEST)
            assert process.returncode == 130
        assert not (out / "report.html").exists()

    resumed = here(*command)
    assert resumed.returncode == 0, resumed.stderr
    one, other = (load_file(run / "checkpoints" / "best.safetensors") for run in (unbroken, out))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)
    assert scores(unbroken) == scores(out)
    assert events(unbroken) == events(out)


class Gone(ProgressSink):
    """A terminal that is closed in the middle of an epoch."""

    def follow(self, events: Iterable[Event], recipe: Recipe) -> None:
        for event in events:
            if isinstance(event, Progress) and (event.epoch, event.step) == (1, 3):
                raise BrokenPipeError


def test_a_terminal_that_is_gone_costs_no_step(digits: Path, tmp_path: Path) -> None:
    """What cannot be shown is saved nevertheless."""
    recipe = load_recipe("scratch", ["model.name=small-cnn", "data.size=16", "stages.0.batch_size=16"])
    catalog, out = ta.scan(digits), tmp_path / "run"
    options = RunOptions(runtime="cpu,float32,channels-last")
    with pytest.raises(BrokenPipeError):
        follow_run(Gone(), recipe, catalog, divide(catalog, recipe, out), out, options)
    assert Run(out).begun
    going_on = run(recipe, catalog, Run(out).split, out, options)
    first = next(event for event in going_on if isinstance(event, Progress))
    going_on.close()
    assert (first.epoch, first.step) == (1, 4)
