"""A finished run's answers: its logits, with the temperature and the thresholds that make answers of them."""

from __future__ import annotations

from tellapart.core.predictions import Predictions
from tellapart.evaluation.comparison import Answered
from tellapart.evaluation.metrics import known
from tellapart.runs.run import Run


def answered(run: Run, predictions: Predictions) -> Answered:
    """The run's answers to those of the pictures that have a label. `predictions` are its own, or some of them.

    Raises:
        RunError: the run has not finished.
    """
    values = run.evaluation_values
    temperature = values["temperature"]
    return Answered(
        known(predictions),
        tuple(temperature) if isinstance(temperature, list) else float(temperature),
        values["thresholds"] or None,
    )
