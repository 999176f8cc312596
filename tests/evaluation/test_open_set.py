"""None of these: distances against scikit-learn and plain algebra, the share accepted by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.core.predictions import Predictions
from tellapart.core.vectors import unit_length
from tellapart.evaluation.calibration_summary import check_certainty, fit_certainty, keeps_its_share, sample
from tellapart.evaluation.fit_open_set import DIRECTIONS, acceptance, fit_known, fit_ood_score
from tellapart.evaluation.open_set import KnownClasses, OodScore


def clouds(n, n_features=20, n_classes=4, seed=0):
    """Features of classes that differ in their means, and class numbers."""
    means = 3 * np.random.default_rng(99).normal(size=(n_classes, n_features))
    rng = np.random.default_rng(seed)
    target = rng.integers(0, n_classes, n)
    return (means[target] + rng.normal(size=(n, n_features))).astype(np.float32), target


def test_distance_is_mahalanobis_where_all_directions_are_kept():
    features, target = clouds(3000, n_features=6)
    known = fit_known(features, target, 4)
    x = unit_length(features).astype(float)
    means = np.stack([x[target == c].mean(axis=0) for c in range(4)])
    centred = x - means[target]
    covariance = centred.T @ centred / (3000 - 4)
    other, _ = clouds(50, n_features=6, seed=1)
    y = unit_length(other).astype(float)
    inverse = np.linalg.inv(covariance)
    expected = np.sqrt(min_over_classes(y, means, inverse) / 6)
    # 5 of 6 directions and the rest: of one direction, that is the same.
    assert known.basis.shape == (6, 5)
    assert known.distance(other) == pytest.approx(expected, rel=1e-3)


def min_over_classes(y, means, inverse):
    differences = y[:, None] - means[None]
    return np.einsum("ijk,kl,ijl->ij", differences, inverse, differences).min(axis=1)


def test_few_directions_are_probabilistic_principal_components():
    from sklearn.decomposition import PCA

    features, target = clouds(400, n_features=300)
    known = fit_known(features, target, 4)
    x = unit_length(features).astype(float)
    means = np.stack([x[target == c].mean(axis=0) for c in range(4)])
    centred = x - means[target]
    k = known.basis.shape[1]
    assert k == DIRECTIONS
    rival = PCA(k, svd_solver="full").fit(centred)
    scale = (len(x) - 1) / (len(x) - 4)  # degrees of freedom: a mean a class
    assert known.spread == pytest.approx(rival.explained_variance_ * scale, rel=1e-3)
    assert known.rest == pytest.approx(
        (centred**2).sum() / (len(x) - 4) / (300 - k) - known.spread.sum() / (300 - k), rel=1e-3
    )
    # scikit-learn's model of the same covariance: basis, spread and noise.
    covariance = (known.basis * (known.spread - known.rest)) @ known.basis.T + known.rest * np.eye(300)
    other, _ = clouds(20, n_features=300, seed=1)
    expected = np.sqrt(min_over_classes(unit_length(other).astype(float), means, np.linalg.inv(covariance)) / 300)
    assert known.distance(other) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_any_number_of_pictures_gives_finite_distances(n):
    features, target = clouds(n, n_features=50)
    features[:, :10] = 0  # features that no known picture has
    known = fit_known(features, target, 5)
    far = known.distance(np.eye(50, dtype=np.float32))
    assert np.isfinite(far).all()
    assert np.isfinite(known.distance(np.zeros((1, 50)))).all()
    assert KnownClasses.from_tensors(known.tensors()).distance(features) == pytest.approx(
        known.distance(features), rel=1e-5
    )


def answers_of(features, target, n_classes=4, seed=0):
    """Logits as noisy distances to the classes' numbers."""
    rng = np.random.default_rng(seed)
    logits = 4 * np.eye(n_classes)[np.clip(target, 0, None)] + rng.normal(size=(len(target), n_classes))
    return Predictions.of(np.arange(len(target)), logits, target, tuple("abcd"))


@pytest.mark.parametrize(("n", "share"), [(60, 0.9), (200, 0.95), (40, 0.99)])
def test_the_stated_share_of_known_pictures_is_accepted(n, share):
    train, of_train = clouds(600, seed=1)
    known = fit_known(train, of_train, 4)
    accepted, told = [], []
    for seed in range(200):
        seen, of_seen = clouds(n, seed=1000 + seed)
        new, of_new = clouds(300, seed=5000 + seed)
        found = fit_ood_score(answers_of(seen, of_seen, seed=seed), known.distance(seen), 1.0, share)
        judged = acceptance(answers_of(new, of_new, seed=9000 + seed), known.distance(new), 1.0, found)
        accepted.append(judged["accepted"].value)
        told.append(found.share)
    assert told[0] == min(share, n / (n + 1))
    assert told[0] - 0.008 <= np.mean(accepted) <= told[0] + 1 / (n + 1) + 0.008


def test_far_pictures_are_strange():
    train, of_train = clouds(600, seed=1)
    seen, of_seen = clouds(200, seed=2)
    known = fit_known(train, of_train, 4)
    found = fit_ood_score(answers_of(seen, of_seen), known.distance(seen), 1.0, 0.99)
    noise = np.random.default_rng(3).normal(size=(100, 20)).astype(np.float32)
    certain = np.full(100, 0.999)
    assert (found.of(known.distance(noise), certain) > found.limit).mean() > 0.9
    assert OodScore.from_dict(found.as_dict()) == found


def test_too_few_validation_pictures_to_answer_unknown_by_default():
    seen, of_seen = clouds(18, seed=2)
    known = fit_known(*clouds(600, seed=1), 4)
    assert not fit_ood_score(answers_of(seen, of_seen), known.distance(seen), 1.0, 0.99).by_default
    assert fit_ood_score(answers_of(seen, of_seen), known.distance(seen), 1.0, 0.9).by_default


def test_unknown_is_no_default_where_it_refuses_too_many():
    known = fit_known(*clouds(600, seed=1), 4)
    seen, of_seen = clouds(200, seed=2)
    predictions = answers_of(seen, of_seen)
    certainty = fit_certainty(predictions, known.distance(seen))
    assert keeps_its_share(certainty, predictions, known.distance(seen)) == certainty
    moved = keeps_its_share(certainty, predictions, known.distance(seen) + 5)
    assert not moved.ood_score.by_default
    assert "only with --unknown" in moved.notes[0]
    checked = check_certainty(certainty, predictions, known.distance(seen))
    assert {"before", "after", "sets", "unknown"} == set(checked)


def test_a_sample_is_spread_over_the_training_pictures():
    rows = np.arange(20_000)
    assert len(sample(rows, 3)) == 1000
    assert len(sample(rows, 300)) == 3000
    assert len(sample(rows, 9000)) == 5000
    assert sample(rows[:500], 3).tolist() == rows[:500].tolist()
    assert set(sample(rows, 3) // 2000) == set(range(10))
