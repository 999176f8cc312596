"""The most alike pictures, against scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from tellapart.explaining.neighbours import most_alike


def test_the_same_neighbours_as_scikit_learn() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 12)).astype(np.float32)
    asked = random.normal(size=(270, 12)).astype(np.float32)
    position, similarity = most_alike(features, asked, 4)
    distance, expected = NearestNeighbors(n_neighbors=4, metric="cosine").fit(features).kneighbors(asked)
    np.testing.assert_array_equal(position, expected)
    np.testing.assert_allclose(similarity, 1 - distance, atol=1e-5)


def test_a_picture_is_not_its_own_neighbour() -> None:
    features = np.array([[1, 0], [2, 0], [0, 1]], np.float32)
    position, similarity = most_alike(features, features[:2], 3, np.array([0, -1]))
    assert position.tolist() == [[1, 2, -1], [0, 1, 2]]
    np.testing.assert_allclose(similarity, [[1, 0, np.nan], [1, 1, 0]])


def test_fewer_pictures_than_wanted_and_no_features_at_all() -> None:
    position, similarity = most_alike(np.ones((1, 3), np.float32), np.zeros((2, 3), np.float32), 3)
    assert position.tolist() == [[0, -1, -1]] * 2
    assert similarity[:, 0].tolist() == [0, 0]
    assert np.isnan(similarity[:, 1:]).all()
