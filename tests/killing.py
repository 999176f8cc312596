"""Run small trainings and kill them at moments all over their time.

A program of its own: it forks, so it must not have threads.

    python tests/killing.py PICTURES RECIPE FOLDER N_KILLS N_STOPS SEED

Loading torch once and forking makes a try cost a second rather than five. The first training, FOLDER/unbroken, is left
alone; FOLDER/0, FOLDER/1, … are killed (or stopped by SIGTERM) and repeated until they end. What was killed when is
printed as JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

# What no try should have to load by itself.
import iterstrat.ml_stratifiers  # noqa: F401
import onnxruntime  # noqa: F401
import scipy.optimize  # noqa: F401
import sklearn.model_selection
import sklearn.tree  # noqa: F401
import torch
import torchvision  # noqa: F401

import tellapart as ta
from tellapart.core.files import write_text
from tellapart.core.signals import STOPPED, stopped_soon
from tellapart.deploy.export.formats import FORMATS
from tellapart.report import run_report
from tellapart.runs.resume import divide
from tellapart.training import checkpoint, fit  # noqa: F401
from tellapart.workflows.train import RunOptions, run

with suppress(ImportError):
    import captum.attr  # noqa: F401

STAGES = ("0", "1", "-1")  # -1 is what follows the training
LONGEST = 600.0  # seconds; a training that takes longer hangs


def child(
    pictures: Path, recipe: Path, out: Path, exported: Path | None, seen: int, by: int, at: str | None = None
) -> None:
    """A whole training in a process of its own. Its last event stands in the file `seen`.

    Args:
        by: the signal that it sends to itself, once, at an event of stage `at`.
        exported: what to take as the exported model instead of exporting, which takes longer than all the rest. The
            bundle is checked against the network all the same: with other weights it would not be written.
    """
    # Far more often than a user's, so that all of its moments are met.
    checkpoint.SHARE, checkpoint.WITHIN_EPOCH = 1.0, 0.0
    os.environ["TELLAPART_CACHE"] = str(out.with_suffix(".cache"))
    run_report.write_figures = lambda data, folder: write_text(folder / "curves.svg", "<svg/>")  # type: ignore[assignment]
    if exported is not None:
        FORMATS["model.onnx"] = lambda _network, _golden, path: shutil.copy(exported, path)
    plan = ta.load_recipe(recipe)
    catalog = ta.scan(pictures)
    run_options = RunOptions(runtime="cpu,float32,contiguous", command="tellapart train")
    for event in run(plan, catalog, divide(catalog, plan, out), out, run_options):
        stage = getattr(event, "stage", "")
        os.pwrite(seen, f"{type(event).__name__} {getattr(event, 'what', '')} {stage}".ljust(80).encode(), 0)
        if str(stage) == at:
            at = None
            os.kill(os.getpid(), by)


def attempt(
    pictures: Path,
    recipe: Path,
    out: Path,
    exported: Path | None,
    seconds: float,
    by: int = signal.SIGKILL,
    at: str | None = None,
) -> str:
    """Train for some seconds at most, or to an event of stage `at`; where the signal came, or "" if it ended before."""
    where = out.with_suffix(".seen")
    seen = os.open(where, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    number = os.fork()
    if not number:
        code = 1
        try:
            with stopped_soon():
                child(pictures, recipe, out, exported, seen, by, at)
            code = 0
        except KeyboardInterrupt:  # as the command line does
            code = STOPPED
        except Exception:  # noqa: BLE001  (told by the exit code)
            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(number, os.WNOHANG)
        if done and at is not None:
            assert os.waitstatus_to_exitcode(status) in (-by, STOPPED, 0)
            os.close(seen)
            return where.read_text().strip()
        if done:
            assert status == 0, f"{out} failed after: {where.read_text()}"
            os.close(seen)
            return ""
        time.sleep(0.002)
    os.kill(number, by)
    _, status = os.waitpid(number, 0)
    os.close(seen)
    assert os.waitstatus_to_exitcode(status) in (-by, STOPPED, 0)
    assert seconds < LONGEST, f"{out} hangs after: {where.read_text()}"
    return where.read_text().strip() or "before the first event"


def main() -> None:
    pictures, recipe, folder = (Path(word) for word in sys.argv[1:4])
    n_kills, n_stops, seed = (int(word) for word in sys.argv[4:7])
    dice = random.Random(seed)
    signals = [signal.SIGKILL] * n_kills + [signal.SIGTERM] * n_stops
    dice.shuffle(signals)
    folder.mkdir()
    torch.set_num_threads(1)
    assert attempt(pictures, recipe, folder / "unbroken", None, LONGEST) == ""
    exported = folder / "unbroken" / "bundle" / "model.onnx"
    start = time.monotonic()
    assert attempt(pictures, recipe, folder / "again", exported, LONGEST) == ""
    whole = time.monotonic() - start
    hit: list[str] = []
    n_runs, n, longest = 0, len(signals), whole
    while signals:
        out = folder / str(n_runs)
        if n_runs < len(STAGES):  # each part of a training is met, however busy the machine is
            signal_ = signals.pop()
            hit.append(f"{signal_.name}: {attempt(pictures, recipe, out, exported, LONGEST, signal_, STAGES[n_runs])}")
        # One moment in each n-th of the time that a training takes, the latest first.
        while len(signals) > max(0, len(STAGES) - 1 - n_runs) and (
            where := attempt(pictures, recipe, out, exported, longest * (len(signals) - dice.random()) / n, signals[-1])
        ):
            hit.append(f"{signals.pop().name}: {where}")
        longest *= 0.95  # it ended before: the machine may be less busy than it was
        assert attempt(pictures, recipe, out, exported, LONGEST) == ""
        n_runs += 1
    print(json.dumps({"hit": hit, "runs": n_runs, "seconds": whole}))


if __name__ == "__main__":
    main()
