"""Explanations of some answers for a run's report, within a share of the training's time."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np
import numpy.typing as npt
import torch

from tellapart.core.events import Computing, Note
from tellapart.core.text import counted
from tellapart.explaining.attribution import FORWARDS, INTEGRATED, METHODS
from tellapart.models.network import Network
from tellapart.report.sections.explanations import Why, keep_explained
from tellapart.runs.run import Run
from tellapart.training.planning.budget import EXPLAIN_SECONDS, EXPLAIN_SHARE
from tellapart.workflows.explain import (
    CHECKED,
    ExplainOptions,
    Subjects,
    able_methods,
    explained,
    subjects_of,
    worst_rows,
)

Rows = npt.NDArray[np.int64]

_INTEGRATED = 2  # of these, how many by integrated gradients too on a processor, which takes seconds a map
_WRONG, _UNCERTAIN, _ALIKE = 4, 2, 6  # what a report shows


def explain_for_report(
    run: Run, network: Network, on: str, known: Rows | None
) -> Generator[Computing | Note, None, None]:
    """Save explanations of some wrong and some uncertain answers for the report, which then needs no torch.

    Args:
        run: evaluated; its predictions and `evaluation.json` are there.
        network: the one that answers.
        on: whose pictures: "test" or "validation".
        known: training pictures whose features are stored already; None: none are.
    """
    task = "explanations"
    yield Computing(-1, task, 0, 1)
    subjects = subjects_of(run, network, [(row, None) for row in worst_rows(run, on, _WRONG, _UNCERTAIN)])
    shown_rows = np.empty(0, np.int64) if known is None else known
    able, notes = able_methods(network, subjects.pixels, list(METHODS))
    methods = dict.fromkeys(able, len(subjects.rows))
    if len(methods) > 1 and network.scale.device.type == "cpu":
        methods[INTEGRATED] = min(_INTEGRATED, len(subjects.rows))
    methods, left_out = in_time(methods, _forward_seconds(network, subjects), _trained_seconds(run))
    notes += left_out
    why = Why(notes=notes)
    if methods:
        options = ExplainOptions(n_alike=_ALIKE if len(shown_rows) else 0)
        why = yield from explained(run, network, subjects, shown_rows, options, methods, notes)
    keep_explained(run, why)
    yield Computing(-1, task, 1, 1)


def in_time(methods: dict[str, int], forward: float, trained: float) -> tuple[dict[str, int], list[str]]:
    """As many pictures for each method as a share of the training's time allows, and in sentences what is left out.

    Args:
        methods: how many pictures each is for, the cheapest first.
        forward: seconds of the network's answer to a picture.
        trained: seconds of the training.
    """
    left = max(EXPLAIN_SHARE * trained, EXPLAIN_SECONDS)
    kept, notes = dict[str, int](), list[str]()
    for method, n in methods.items():
        fits = n
        # A map or two a picture, and two more of each picture by which the maps are checked.
        while fits and (cost := forward * FORWARDS[method] * (1.5 * fits + 2 * min(CHECKED, fits))) > left:
            fits -= 1
        if fits:
            kept[method] = fits
            left -= cost
        if fits < n:
            notes.append(
                f"{METHODS[method]}: {fits} of {counted(n, 'picture')}, as explanations take at most a fifth of the "
                "training's time. tellapart explain shows more."
            )
    return kept, notes


def _trained_seconds(run: Run) -> float:
    """Seconds of the training, as its events have them."""
    return float(sum(event.get("seconds", 0.0) + event.get("preparation", 0.0) for event in run.events()))


def _forward_seconds(network: Network, subjects: Subjects) -> float:
    """Seconds of the network's answer to a picture: the quicker of two, as the first may have to set itself up."""
    picture = torch.from_numpy(subjects.pixels[:1]).to(network.scale.device)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        with torch.no_grad():
            network.answer(picture)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
