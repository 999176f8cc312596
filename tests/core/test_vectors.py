"""The nearest vectors, against scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from tellapart.core.vectors import nearest, unit_length


def test_the_same_neighbours_as_scikit_learn() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 12)).astype(np.float32)
    asked = random.normal(size=(270, 12)).astype(np.float32)
    position, similarity = nearest(asked, features, 4)
    distance, expected = NearestNeighbors(n_neighbors=4, metric="cosine").fit(features).kneighbors(asked)
    np.testing.assert_array_equal(position, expected)
    np.testing.assert_allclose(similarity, 1 - distance, atol=1e-5)


def test_a_vector_of_the_own_group_does_not_count() -> None:
    features = np.array([[1, 0], [2, 0], [0, 1]], np.float32)
    position, similarity = nearest(features[:2], features, 3, np.array([0, -1]), np.arange(3))
    assert position.tolist() == [[1, 2, -1], [0, 1, 2]]
    np.testing.assert_allclose(similarity, [[1, 0, np.nan], [1, 1, 0]])


def test_fewer_than_wanted_and_no_direction_at_all() -> None:
    position, similarity = nearest(np.zeros((2, 3), np.float32), np.ones((1, 3), np.float32), 3)
    assert position.tolist() == [[0, -1, -1]] * 2
    assert similarity[:, 0].tolist() == [0, 0]
    assert np.isnan(similarity[:, 1:]).all()


def test_of_equals_the_first_ones_count() -> None:
    equal = np.ones((600, 4), np.float32)
    position, _ = nearest(equal[:520], equal, 3)
    assert (position == [0, 1, 2]).all()


def test_groups_do_not_meet_themselves() -> None:
    vectors, groups = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.array([0, 0, 0, 1, 1, 2])
    position, _ = nearest(vectors, vectors, 10, groups, groups)
    expected = [{3, 4, 5}, {3, 4, 5}, {3, 4, 5}, {0, 1, 2, 5}, {0, 1, 2, 5}, {0, 1, 2, 3, 4}]
    assert [set(line[line >= 0].tolist()) for line in position] == expected


def test_unit_length() -> None:
    vectors = np.array([[3, 4], [0, 0], [3e-4, 4e-4]], np.float32)
    np.testing.assert_allclose(unit_length(vectors), [[0.6, 0.8], [0, 0], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(unit_length(vectors, 1e-3), [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)
