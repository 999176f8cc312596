"""95 % intervals of scores, over the choice of pictures.

A *proportion* (a share of n pictures) has a Wilson interval. It holds at the edges too, where a bootstrap is blind: 30
of 30 right gives 0.886 to 1, not 1 to 1. *Balanced accuracy* is a mean of such shares: it has the Wilson interval of as
many pictures as would make one share as certain. The *log loss* is a mean of skewed losses: it has the interval of a
studentised bootstrap, which holds with twenty pictures, where percentiles are too narrow.

Every other score has the interval of a bias-corrected percentile bootstrap. The correction matters to macro averages
over many small classes: a resample has fewer distinct pictures, which lowers them systematically.
`benchmarks/interval_coverage.py` measures how often each interval holds the truth.

Sources: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927);
B. Efron, Nonparametric standard errors and confidence intervals, Canadian Journal of Statistics 9 (1981);
B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 12.5, bootstrap-t;
E. L. Korn, B. I. Graubard, Confidence intervals for proportions with small expected number of positive counts estimated
from survey data, Survey Methodology 24 (1998), effective sample size;
K. F. Y. Lam, V. Gopal, J. Qian, Confidence intervals for the F1 score, arXiv:2309.14621 (2023), "Wilson indirect".
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.evaluation import metrics
from tellapart.evaluation.metrics import Array, Counts

#: Scores that are a share of the pictures; recall weighted by class size is accuracy.
PROPORTIONS = ("accuracy", "top_5_accuracy", "recall_weighted", "exact_match")
_Z = NormalDist().inv_cdf(0.975)
#: Pictures that each class borrows, at the mean recall, for its own variance: one of few pictures shows too little.
_BORROWED = 4
#: 97.5 % points of Student's t for 1, 2 … degrees of freedom. With fewer than ten pictures resamples are too few.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)
_CELLS = 2**21  # counts in memory at a time
_WEIGHTS = 2**18  # fewer, so that they stay in the processor's cache while each label's ranking walks over them


def wilson(share: npt.ArrayLike, n: npt.ArrayLike) -> tuple[Floats, Floats]:
    """95 % Wilson score interval of a share seen in n pictures, with z²/n put in; 0 to 1 where n is 0.

    Args:
        share: in 0..1, any shape.
        n: number of pictures, same shape or one for all.
    """
    p, count = np.asarray(share, float), np.asarray(n, float)
    spread = _Z * np.sqrt(p * (1 - p) * count + _Z**2 / 4)
    middle, whole = p * count + _Z**2 / 2, count + _Z**2
    # Rounding must not leave a share outside its own interval; without pictures there is no share to contain.
    low = np.where(count > 0, np.minimum((middle - spread) / whole, p), 0.0)
    high = np.where(count > 0, np.maximum((middle + spread) / whole, p), 1.0)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def f1_interval(counts: Counts) -> tuple[Floats, Floats]:
    """95 % interval of each class's F1.

    J, the share that is both among the pictures labelled or predicted as a class, is a proportion. F1 = 2J / (1 + J)
    rises with J, so the ends of J's Wilson interval give those of F1.
    """
    either = counts.labelled + counts.predicted - counts.true_positives
    low, high = wilson(metrics.ratio(counts.true_positives, either), either)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def balanced_interval(counts: Counts) -> tuple[float, float]:
    """95 % interval of balanced accuracy: the Wilson interval of its effective number of pictures.

    Args:
        counts: each [n_classes]; classes without a labelled picture do not count.
    """
    occurs = counts.labelled > 0
    n = counts.labelled[occurs]
    recall = counts.true_positives[occurs] / n
    mean = float(recall.mean())
    smoothed = (counts.true_positives[occurs] + _BORROWED * mean) / (n + _BORROWED)
    variance = float((smoothed * (1 - smoothed) / n).sum()) / len(n) ** 2
    if variance < 1e-12:  # all right or all wrong: as certain as classes of one recall make it
        variance, spread = float((1 / n).sum()) / len(n) ** 2, 1.0
    else:
        spread = mean * (1 - mean)
    low, high = wilson(mean, spread / variance)
    return float(low), float(high)


def studentised(value: float, losses: Floats, samples: Floats, errors: Floats) -> tuple[float, float]:
    """95 % interval of a mean of losses, from its resampled values in units of their own standard errors.

    Args:
        value: the mean.
        losses: [n], at least 0; where n is 1 or all are alike, the interval is a point.
        samples, errors: [n_bootstrap], means of resamples and their standard errors.
    """
    n = len(losses)
    error = standard_error(losses)
    if error < 1e-12:
        return value, value
    if n - 1 <= len(_STUDENT):
        reach = _STUDENT[n - 2] * error
        return max(0.0, value - reach), value + reach
    varied = errors > 1e-12
    low, high = np.quantile((samples[varied] - value) / errors[varied], [0.025, 0.975])
    return min(value, max(0.0, value - float(high) * error)), max(value, value - float(low) * error)


def standard_error(losses: Floats) -> float:
    """The standard error of the mean of losses [n]; 0 where there is one alone."""
    return float(losses.std(ddof=1) / len(losses) ** 0.5) if len(losses) > 1 else 0.0


def percentile(value: float, samples: Floats, n: int, bounded: bool = True) -> tuple[float, float]:
    """95 % interval of a score from its resampled values: bias-corrected percentiles that contain the value.

    Where hardly a resample differs (all right, all wrong, one picture) the bootstrap has nothing to say: a score that
    is `bounded` by 0 and 1 then gets the Wilson interval of such a share of n pictures; a log loss stays as it is.
    """
    below = float((samples < value).mean() + (samples == value).mean() / 2)
    normal = NormalDist()
    edge = 0.5 / len(samples)
    bias = normal.inv_cdf(min(max(below, edge), 1 - edge))
    low, high = np.quantile(samples, [normal.cdf(2 * bias - _Z), normal.cdf(2 * bias + _Z)])
    if bounded and high - low < 1e-12:
        low, high = wilson(value, n)
    return min(float(low), value), max(float(high), value)


def bootstrap(
    predictions: Predictions,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """Every score that is not a proportion, recomputed on resamples of the pictures.

    Args:
        predictions: at least one, all with a label; the same temperature and thresholds as in `metrics.scores`.
        n_bootstrap: number of resamples, at least 1.
        seed: the same seed gives the same values.

    Returns:
        Name → [n_bootstrap]; and under "log_loss_error" the standard error of each resampled log loss.
    """
    rng = np.random.default_rng(seed)
    answer = metrics.answers(predictions, temperature, thresholds)
    rows = metrics.row_scores(predictions, answer, temperature)
    if predictions.multilabel:
        return _multilabel(predictions, answer, rows, n_bootstrap, rng)
    cells = resampled_cells(predictions.target, answer, len(predictions.classes), n_bootstrap, rng)
    samples = _joined(metrics.averages(counts, multilabel=False) for counts in cells)
    drawn = resampled_rows(len(predictions), n_bootstrap, rng)
    samples |= _joined(_resampled_loss(rows["log_loss"], weights) for weights in drawn)
    return {name: values for name, values in samples.items() if name not in PROPORTIONS}


def _resampled_loss(losses: Floats, weights: npt.NDArray[np.float32]) -> dict[str, Floats]:
    """The mean of losses [n] on each resample [n, k], and its standard error."""
    n, middle = len(losses), losses.mean()
    away = losses - middle
    mean = away @ weights / n
    variance = np.maximum(away**2 @ weights / n - mean**2, 0)
    return {"log_loss": middle + mean, "log_loss_error": np.sqrt(variance / max(1, n - 1))}


def _multilabel(
    predictions: Predictions, answer: Array, rows: dict[str, Floats], n_bootstrap: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """All scores of one resample come from the same weights, so that they are drawn once."""
    rankings = metrics.rankings(predictions)
    sides = [side.T.astype(np.float32) for side in (predictions.target & answer, predictions.target, answer)]
    n = len(predictions)

    def of(weights: npt.NDArray[np.float32]) -> dict[str, Floats]:
        counts = Counts(*((side @ weights).T for side in sides))
        samples = {name: values @ weights / n for name, values in rows.items() if name not in PROPORTIONS}
        if rankings:
            samples["mean_average_precision"] = metrics.mean_average_precision(rankings, weights)
        return metrics.averages(counts, multilabel=True) | samples | _resampled_loss(rows["log_loss"], weights)

    return _joined(map(of, resampled_rows(n, n_bootstrap, rng)))


def resampled_rows(n: int, n_bootstrap: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.float32]]:
    """How often each of n pictures is drawn when n are drawn with replacement: pieces [n, k], Σ k = n_bootstrap."""
    for k in _pieces(n_bootstrap, _WEIGHTS // n):
        drawn = rng.integers(0, n, (k, n)) + n * np.arange(k)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n)
        yield np.ascontiguousarray(weights.T, np.float32)


def resampled_cells(
    target: Array, answer: Array, n_classes: int, n_bootstrap: int, rng: np.random.Generator
) -> Iterator[Counts]:
    """Counts a class of resamples, [k, n_classes] a piece, Σ k = n_bootstrap; the cost does not grow with n.

    A picture drawn at random lies in a cell (label, answer) with the cell's share of the pictures, and draws are
    independent: so the cells of n drawn pictures are multinomial, and drawing them is the same as drawing pictures.
    """
    cell, pictures = np.unique(target * n_classes + answer, return_counts=True)
    labelled, predicted = np.divmod(cell, n_classes)
    diagonal = labelled == predicted
    n = len(target)
    for k in _pieces(n_bootstrap, _CELLS // max(len(cell), n_classes)):
        drawn = rng.multinomial(n, pictures / n, size=k)
        yield Counts(
            _sum_by(labelled[diagonal], drawn[:, diagonal], n_classes),
            _sum_by(labelled, drawn, n_classes),
            _sum_by(predicted, drawn, n_classes),
        )


def _sum_by(group: Array, columns: Array, n_groups: int) -> Array:
    """[k, n_groups]: sums of the columns [k, m] that belong to the same group; `group` is [m]."""
    sums = np.zeros((len(columns), n_groups), columns.dtype)
    if len(group):
        order = np.argsort(group, kind="stable")
        present, starts = np.unique(group[order], return_index=True)
        sums[:, present] = np.add.reduceat(columns[:, order], starts, axis=1)
    return sums


def _pieces(total: int, at_most: int) -> Iterator[int]:
    """Sizes that add up to `total`, none above `at_most` (or 1)."""
    size = max(1, at_most)
    for start in range(0, total, size):
        yield min(size, total - start)


def _joined(pieces: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    listed = list(pieces)
    return {name: np.concatenate([piece[name] for piece in listed]) for name in listed[0]}
