"""Labels that are not known take no part in scores, thresholds and calibration: each label has its own pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from tellapart.core.predictions import Predictions
from tellapart.evaluation import calibrate, metrics, mistakes
from tellapart.evaluation.comparison import Answered
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.reliability import reliability
from tellapart.evaluation.weighted_scores import scorer

N, K = 240, 3


@pytest.fixture(scope="module")
def masked() -> Predictions:
    """Answers that are better than chance; a third of the cells is not known, all of them in the last picture."""
    rng = np.random.default_rng(3)
    target = (rng.random((N, K)) < 0.4).astype(np.uint8)
    logits = rng.normal(size=(N, K)) * 2 + 2 * target - 1
    unknown = rng.random((N, K)) < 1 / 3
    unknown[-1] = True
    return Predictions.of(np.arange(N), logits, np.where(unknown, 0, target), ("a", "b", "c"), unknown)


def otherwise(predictions: Predictions) -> Predictions:
    """The same with other logits where nothing is known, and the answer yes."""
    assert predictions.unknown is not None
    return replace(predictions, logits=np.where(predictions.unknown, 9, predictions.logits).astype(np.float32))


def test_no_score_looks_at_a_cell_that_is_not_known(masked: Predictions) -> None:
    scores = metrics.scores(masked)
    assert scores == metrics.scores(otherwise(masked))
    first, second = (evaluate_predictions(p, on="test", n_bootstrap=50) for p in (masked, otherwise(masked)))
    assert first == second
    assert first.n == len(metrics.known(masked)) < N
    for name, value in scores.items():
        known = metrics.known(masked)
        assert scorer(Answered(known), name)(np.ones((len(known), 1)))[0] == pytest.approx(value, abs=1e-6)


def test_each_label_is_scored_on_the_pictures_that_are_known_to_have_it_or_not(masked: Predictions) -> None:
    assert masked.unknown is not None
    answer, is_known = masked.logits >= 0, ~masked.unknown
    scores = metrics.scores(masked)
    columns = [(masked.target[is_known[:, i], i], answer[is_known[:, i], i]) for i in range(K)]
    assert scores["f1_macro"] == pytest.approx(np.mean([sk.f1_score(*column) for column in columns]))
    assert scores["precision_micro"] == pytest.approx(sk.precision_score(masked.target[is_known], answer[is_known]))
    precisions = [
        sk.average_precision_score(masked.target[is_known[:, i], i], masked.logits[is_known[:, i], i]) for i in range(K)
    ]
    assert scores["mean_average_precision"] == pytest.approx(np.mean(precisions))
    some = is_known.any(axis=1)
    right = ((masked.target == answer) & is_known).sum(axis=1)[some] / is_known.sum(axis=1)[some]
    assert scores["label_accuracy"] == pytest.approx(right.mean())
    assert scores["exact_match"] == pytest.approx((right == 1).mean())


def test_calibration_and_thresholds_leave_them_out(masked: Predictions) -> None:
    assert masked.unknown is not None
    other = otherwise(masked)
    assert calibrate.fit_temperatures(masked) == calibrate.fit_temperatures(other)
    limits = calibrate.thresholds(masked)
    np.testing.assert_array_equal(limits, calibrate.thresholds(other))
    for i in range(K):
        rows = ~masked.unknown[:, i]
        alone = Predictions.of(
            np.flatnonzero(rows), masked.logits[rows, i : i + 1], masked.target[rows, i : i + 1], (masked.classes[i],)
        )
        assert limits[i] == calibrate.thresholds(alone)[0]
    assert reliability(masked, n_bootstrap=20) == reliability(other, n_bootstrap=20)
    assert sum(b.n for b in reliability(masked, n_bootstrap=20).bins) == (~masked.unknown).sum()


def test_they_are_no_mistakes(masked: Predictions) -> None:
    other = otherwise(masked)
    np.testing.assert_array_equal(mistakes.n_wrong(masked), mistakes.n_wrong(other))
    assert mistakes.wrong_by_class(masked) == mistakes.wrong_by_class(other)
    assert [j.row for j in mistakes.wrongest(masked)] == [j.row for j in mistakes.wrongest(other)]
    assert {(j.row, j.answer) for j in mistakes.missing_labels(masked, N)} == {
        (j.row, j.answer) for j in mistakes.missing_labels(other, N)
    }


def test_they_are_kept_in_files_and_averages(masked: Predictions, tmp_path: Path) -> None:
    masked.save(tmp_path / "p.parquet")
    again = Predictions.load(tmp_path / "p.parquet")
    np.testing.assert_array_equal(again.unknown, masked.unknown)
    plain = replace(masked, unknown=np.zeros((N, K), bool))
    assert Predictions.of(plain.row, plain.logits, plain.target, plain.classes, plain.unknown).unknown is None
    assert Answered(masked).in_order(("c", "a", "b")).predictions.unknown[:, 1].sum() == masked.unknown[:, 0].sum()  # type: ignore[index]
