"""How good a finished training is: on the pictures it was judged by at its end, or on others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.errors import DataError, RunError, UsageError
from tellapart.records import Evaluation, Predictions
from tellapart.run_directory import Run

if TYPE_CHECKING:
    from tellapart.bundle.read import Bundle


def evaluate(trained: Run | str | Path, on: str | Path = "test") -> Evaluation:
    """How good a finished training is.

    Args:
        trained: the run, or its directory.
        on: "test" or "validation" (what was measured at the end of the training), or a folder or table of other
            pictures with labels: these are scanned and answered by the bundle, without torch.

    Raises:
        RunError: the training has not finished, or has no such part.
        DataError: other pictures have no labels, or labels that the model does not know.
    """
    finished = trained if isinstance(trained, Run) else Run(Path(trained))
    if str(on) in ("test", "validation"):
        known = finished.evaluations
        if str(on) not in known:
            raise RunError(f"{finished.directory} has no {on} part.", f"It has: {', '.join(known)}.")
        return known[str(on)]
    return _evaluate_elsewhere(finished, Path(on))


def _evaluate_elsewhere(finished: Run, folder: Path) -> Evaluation:
    from tellapart.bundle.read import Bundle
    from tellapart.console import Console
    from tellapart.evaluation.evaluate import evaluate_predictions

    if not folder.exists():
        raise UsageError(f"--on {folder}: there is no such folder or table.", "Or use --on test, --on validation.")
    bundle = Bundle.load(finished.directory)
    console = Console()
    catalog = console.scan(folder).with_classes(bundle.classes)
    if catalog.several and not bundle.several:
        raise DataError(
            f"{folder} has any number of labels a picture; this model was trained to give one.",
            "Give pictures with one label each.",
        )
    catalog = replace(catalog, several=bundle.several)  # one label each is a case of several
    rows = np.intersect1d(catalog.readable, catalog.labelled)
    if not len(rows):
        raise DataError(
            f"{folder} holds no picture that can be read and has a label. {catalog.layout}",
            "Put each class into a folder of its own, or add a table with the columns file_name and label.",
        )
    if left_out := len(catalog) - len(rows):
        console.say(f"Left out: {left_out:,} of them, which are unreadable or have no label.")
    logits = _logits(bundle, [catalog.path(row) for row in rows])
    predictions = Predictions.of(rows, logits, catalog.target(rows), bundle.classes)
    return evaluate_predictions(
        predictions, on=str(folder), temperature=bundle.temperature, thresholds=bundle.thresholds or None
    )


def _logits(bundle: Bundle, paths: list[Path]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The bundle's logits for pictures, float32 [n, n_classes]."""
    from concurrent.futures import ThreadPoolExecutor

    from tellapart.data.decode import read_picture
    from tellapart.preprocess import Pixels

    def load(path: Path) -> Pixels:
        return read_picture(path, bundle.preprocessing)

    size = 64
    with ThreadPoolExecutor() as pool:
        parts = [
            bundle.predict_pixels(np.stack(list(pool.map(load, paths[start : start + size]))))
            for start in range(0, len(paths), size)
        ]
    return np.concatenate([np.empty((0, len(bundle.classes)), np.float32), *parts])
