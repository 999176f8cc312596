"""Predictions: sorted, without repetition, the same after a round trip; probabilities as SciPy computes them."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tellapart.core.predictions import Predictions, probabilities
from tellapart.core.scores import Evaluation, Metric
from tellapart.errors import RunError

CLASSES = ("ash", "beech", 'Bäume, "quoted"')


def some(multilabel: bool, n: int = 5) -> Predictions:
    random = np.random.default_rng(0)
    target = random.integers(0, 2, (n, 3)) if multilabel else random.integers(-1, 3, n)
    return Predictions.of(np.arange(n) * 7, random.standard_normal((n, 3)), target, CLASSES)


def equal(one: Predictions, other: Predictions) -> bool:
    arrays = [(one.row, other.row), (one.logits, other.logits), (one.target, other.target)]
    return one.classes == other.classes and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)


# Making


def test_rows_are_sorted_and_the_first_of_repeated_ones_is_kept():
    made = Predictions.of([5, 2, 5, 9, 2], [[5, 0], [2, 0], [50, 0], [9, 0], [20, 0]], [1, 0, 0, -1, 1], ("a", "b"))
    assert made.row.tolist() == [2, 5, 9]
    assert made.logits[:, 0].tolist() == [2, 5, 9]
    assert made.target.tolist() == [0, 1, -1]
    assert (made.row.dtype, made.logits.dtype, made.target.dtype) == (np.int64, np.float32, np.int64)
    assert not made.multilabel
    assert len(made) == 3


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-9, 9, width=32), st.integers(-1, 1)), min_size=1))
def test_repetition_is_dropped_as_a_dictionary_would(rows):
    made = Predictions.of([r for r, _, _ in rows], [[x, -x] for _, x, _ in rows], [t for _, _, t in rows], ("a", "b"))
    first = {row: (x, target) for row, x, target in reversed(rows)}
    assert made.row.tolist() == sorted(first)
    assert made.logits[:, 0].tolist() == [first[row][0] for row in sorted(first)]
    assert made.target.tolist() == [first[row][1] for row in sorted(first)]


def test_padding_cannot_distort():
    plain = some(multilabel=True)
    again = [0, 1, 2, 3, 4, 4, 0]
    padded = Predictions.of(plain.row[again], plain.logits[again], plain.target[again], CLASSES)
    assert equal(padded, plain)
    assert padded.multilabel
    assert padded.target.dtype == np.uint8


@pytest.mark.parametrize(
    ("row", "logits", "target", "words"),
    [
        ([1], [[1.0, 2]], [0], "do not belong together"),
        ([1, 2], [[1.0, 2, 3]], [0], "do not belong together"),
        ([1], [[1.0, 2, 3]], [0, 1], "do not belong together"),
        ([1], [[1.0, 2, 3]], 0, "do not belong together"),
        ([[1]], [[1.0, 2, 3]], [0], "do not belong together"),
        ([1], [1.0, 2, 3], [0], "do not belong together"),
        ([1], [[1.0, 2, 3]], [[0, 1]], "has not the shape of logits"),
        ([1], [[1.0, 2, 3]], [[[0, 1, 1]]], "has not the shape of logits"),
        ([1], [[1.0, np.nan, 3]], [0], "not finite"),
        ([1], [[1.0, np.inf, 3]], [0], "not finite"),
    ],
)
def test_what_does_not_belong_together_is_refused(row, logits, target, words):
    with pytest.raises(ValueError, match=words):
        Predictions.of(row, logits, target, CLASSES)


# Writing


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_what_is_saved_is_loaded(tmp_path, multilabel, n):
    path = tmp_path / "predictions" / "test.parquet"
    made = some(multilabel, n)
    made.save(path)
    assert equal(Predictions.load(path), made)
    assert list(path.parent.iterdir()) == [path]


@settings(max_examples=30)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    ),
    st.booleans(),
)
def test_any_logits_survive_bit_for_bit(tmp_path_factory, logits, multilabel):
    n, n_classes = logits.shape
    target = np.ones((n, n_classes)) if multilabel else np.zeros(n)
    made = Predictions.of(range(n), logits, target, tuple(map(str, range(n_classes))))
    path = tmp_path_factory.mktemp("predictions") / "test.parquet"
    made.save(path)
    again = Predictions.load(path)
    assert equal(again, made)
    assert again.logits.tobytes() == made.logits.tobytes()


def test_columns_are_as_they_are_told(tmp_path):
    some(multilabel=False).save(tmp_path / "p.parquet")
    table = pl.read_parquet(tmp_path / "p.parquet")
    assert table.columns == ["row", "target", "logits"]
    assert json.loads(pl.read_parquet_metadata(tmp_path / "p.parquet")["classes"]) == list(CLASSES)


def test_saving_replaces(tmp_path):
    some(multilabel=True).save(tmp_path / "p.parquet")
    some(multilabel=False).save(tmp_path / "p.parquet")
    assert equal(Predictions.load(tmp_path / "p.parquet"), some(multilabel=False))


def damage(path, how):
    some(multilabel=False).save(path)
    content = path.read_bytes()
    table = pl.read_parquet(path)
    match how:
        case "missing":
            path.unlink()
        case "folder":
            path.unlink()
            path.mkdir()
        case "empty":
            path.write_bytes(b"")
        case "cut off":
            path.write_bytes(content[: len(content) // 2])
        case "text":
            path.write_text("row,target\n", encoding="utf-8")
        case "of another program":
            table.write_parquet(path)
        case "without a column":
            table.drop("logits").write_parquet(path, metadata={"classes": json.dumps(CLASSES)})
        case "of other classes":
            table.write_parquet(path, metadata={"classes": '["a"]'})
        case "no json":
            table.write_parquet(path, metadata={"classes": "["})


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "folder",
        "empty",
        "cut off",
        "text",
        "of another program",
        "without a column",
        "of other classes",
        "no json",
    ],
)
def test_a_damaged_file_is_named(tmp_path, how):
    path = tmp_path / "test.parquet"
    damage(path, how)
    with pytest.raises(RunError, match=r"test\.parquet cannot be read as predictions") as caught:
        Predictions.load(path)
    assert caught.value.hint


# Probabilities

wide = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(-1e4, 1e4, width=32))


@given(wide, st.floats(0.05, 20))
def test_softmax_is_that_of_scipy(logits, temperature):
    ours = probabilities(logits, False, temperature)
    np.testing.assert_allclose(ours, scipy.special.softmax(logits.astype(float) / temperature, axis=-1), atol=1e-12)
    np.testing.assert_allclose(ours.sum(-1), 1)
    assert ours.dtype == np.float64


@given(wide, st.floats(0.05, 20))
def test_sigmoid_is_that_of_scipy(logits, temperature):
    ours = probabilities(logits, True, temperature)
    np.testing.assert_allclose(ours, scipy.special.expit(logits.astype(float) / temperature), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("multilabel", [False, True])
def test_extreme_logits_do_not_overflow(multilabel):
    ours = probabilities([[3e38, -3e38, 0.0]], multilabel, 0.01)
    assert ours.tolist() == [[1.0, 0.0, 0.5 if multilabel else 0.0]]


@pytest.mark.parametrize("multilabel", [False, True])
def test_predictions_know_which_kind_they_are(multilabel):
    made = some(multilabel)
    np.testing.assert_array_equal(made.probabilities(2.0), probabilities(made.logits, multilabel, 2.0))


# Evaluations


def test_an_evaluation_survives_json():
    score = Metric(0.5, 0.25, 0.75, 4)
    made = Evaluation(
        on="test",
        multilabel=False,
        n=4,
        classes=("a", "b"),
        metrics={"accuracy": score, "log_loss": Metric(1.0, 0.0, 2.0, 4)},
        per_class=({"precision": score, "n": 3, "n_predicted": 2}, {"precision": score, "n": 1, "n_predicted": 2}),
        confusion=((2, 1), (0, 1)),
    )
    assert Evaluation.from_dict(json.loads(json.dumps(made.as_dict()))) == made
    assert made.headline == ("accuracy", score)
    lines = made.table().splitlines()
    assert lines[0] == "test: 4 pictures, 2 classes"
    assert lines[1] == "  accuracy   50.0\u202f%  (95 %: 25.0 to 75.0\u202f%)"
    assert len(lines) == 3
