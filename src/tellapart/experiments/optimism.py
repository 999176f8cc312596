"""What it is worth to choose the best of many cells: so much better its validation score looks than it is.

The best of n scores is the best partly by luck. On resampled pictures, the best cell is chosen anew and scored on the
pictures that were not drawn; the mean of that is what the choosing is worth on new pictures.

Source: I. Tsamardinos, E. Greasidou, G. Borboudakis, Bootstrapping the out-of-sample predictions for efficient and
accurate cross-validation, Machine Learning 107 (2018).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tellapart.core.predictions import Floats, Predictions
from tellapart.evaluation.comparison import Answered
from tellapart.evaluation.intervals import resampled_rows
from tellapart.evaluation.weighted_scores import scorer
from tellapart.experiments.results import DONE, StudyResults

_RESAMPLES = 200


def optimism(results: StudyResults, metric: str, lower_is_better: bool, seed: int = 0) -> float | None:
    """The validation score of the best cell less what the best cell scores on new pictures; 0 where luck has no part.

    Returns:
        In the metric's unit, positive where the score flatters; None where the cells were not validated on the same
        pictures, or on a single one.
    """
    sign = -1.0 if lower_is_better else 1.0
    runs = results.runs.filter(pl.col("status") == DONE)
    n_folds = results.description.folds
    inside: list[Floats] = []
    outside: list[Floats] = []
    plain: list[float] = []
    weights: Floats | None = None
    rows = None
    for _, group in runs.group_by("cell", maintain_order=True):
        scores = []
        for _, of_seed in group.group_by("seed", maintain_order=True):
            if n_folds and of_seed.height < n_folds:
                continue
            predictions = _together([results.predictions(path) for path in of_seed["path"]])
            rows = predictions.row if rows is None else rows
            if not np.array_equal(rows, predictions.row) or not len(rows):
                return None
            if weights is None:
                drawn = resampled_rows(len(rows), _RESAMPLES, np.random.default_rng(seed))
                weights = np.concatenate(list(drawn), axis=1).astype(float)
                # Of few pictures a resample may have drawn all: none is left to score the choice on.
                weights = weights[:, (weights == 0).any(axis=0)]
                if not weights.size:
                    return None
            score = scorer(Answered(predictions), metric)
            once = np.ones((len(rows), 1))
            scores.append(np.concatenate([score(weights), score((weights == 0).astype(float)), score(once)]))
        if scores:
            mean = np.mean(scores, axis=0)
            n = len(mean) // 2
            inside.append(mean[:n])
            outside.append(mean[n:-1])
            plain.append(float(mean[-1]))
    if len(plain) < 2:
        return None
    best = (sign * np.stack(inside)).argmax(axis=0)
    unseen = np.stack(outside)[best, np.arange(len(best))]
    chosen = plain[int(np.argmax(sign * np.array(plain)))]
    return max(0.0, float(sign * (chosen - np.nanmean(unseen))))


def _together(folds: list[Predictions]) -> Predictions:
    if len(folds) == 1:
        return folds[0]
    rows, logits, target = (
        np.concatenate(parts) for parts in zip(*((p.row, p.logits, p.target) for p in folds), strict=True)
    )
    return Predictions.of(rows, logits, target, folds[0].classes)
