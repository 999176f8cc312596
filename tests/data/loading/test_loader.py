from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.data.loading.loader import AHEAD, batches, cut, gathered


def load(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (4, 5, 3), np.uint8)


def loading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("tellapart-load")]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert loading() == []


@given(st.lists(st.integers(0, 10**12), max_size=40), st.integers(1, 12), st.integers(1, 5))
def test_batches_together_are_the_order(rows, batch_size, workers):
    made = list(batches(np.array(rows, np.int64), batch_size, load, workers))
    assert [row for batch in made for row in batch.row] == rows
    sizes = [len(batch.row) for batch in made]
    assert all(size == batch_size for size in sizes[:-1])
    assert all(0 < size <= batch_size for size in sizes[-1:])
    for batch in made:
        assert batch.image.shape == (len(batch.row), 4, 5, 3)
        assert batch.image.dtype == torch.uint8
        assert all(np.array_equal(image, load(row)) for image, row in zip(batch.image.numpy(), batch.row, strict=True))


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 3))
def test_sequential_the_batches_are_the_same(n, batch_size, workers):
    order = np.arange(n)[::-1]
    with mock.patch("tellapart.data.loading.loader._IN_TURN", 16):
        sequential = list(batches(order, batch_size, load, workers, sequential=True))
    expected = list(batches(order, batch_size, load, workers))
    assert [batch.row.tolist() for batch in sequential] == [batch.row.tolist() for batch in expected]
    assert all(torch.equal(one.image, other.image) for one, other in zip(sequential, expected, strict=True))


def test_sequential_nothing_is_loaded_while_a_batch_is_used():
    seen = []
    with mock.patch("tellapart.data.loading.loader._IN_TURN", 16):
        for _ in batches(np.arange(32), 4, lambda row: (seen.append(row), load(row))[1], 2, sequential=True):
            before = len(seen)
            time.sleep(0.01)
            assert len(seen) == before
    assert sorted(seen) == list(range(32))


def test_nothing_makes_no_batch():
    assert list(batches(np.array([], np.int64), 4, load, 2)) == []


def test_rows_may_come_more_than_once():
    (batch,) = batches(np.array([3, 3, 1]), 4, load, 2)
    assert torch.equal(batch.image[0], batch.image[1])
    assert not torch.equal(batch.image[0], batch.image[2])


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(workers):
    def slow(row: int) -> np.ndarray:
        time.sleep(0.002 * (row % 3))  # late ones must not change places
        return load(row)

    order = np.arange(30)[::-1]
    for batch, plain in zip(batches(order, 4, slow, workers), batches(order, 4, load, 1), strict=True):
        assert np.array_equal(batch.row, plain.row)
        assert torch.equal(batch.image, plain.image)


def test_pictures_are_copied():
    held = np.zeros((2, 2, 3), np.uint8)
    (batch,) = batches(np.array([0]), 1, lambda row: held, 1)
    held[:] = 9
    assert (batch.image == 0).all()


def test_pictures_may_be_read_only_and_views():
    whole = load(0)
    whole.flags.writeable = False
    (batch,) = batches(np.array([0]), 1, lambda row: whole[:, ::-1], 1)
    assert np.array_equal(batch.image[0].numpy(), whole[:, ::-1])


def test_pictures_of_two_sizes_are_refused():
    for other in ((4, 6, 3), (1, 1, 3), (1, 5, 3)):
        with pytest.raises(ValueError, match="same shape"):
            list(batches(np.arange(2), 2, lambda row, s=other: np.zeros(s if row else (4, 5, 3), np.uint8), 1))


class Broken(Exception):
    pass


@pytest.mark.parametrize("bad", [0, 5, 19])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_where_its_batch_would_have(bad, workers):
    def broken(row: int) -> np.ndarray:
        if row == bad:
            raise Broken(row)
        return load(row)

    reading = batches(np.arange(20), 4, broken, workers)
    for number in range(bad // 4):
        assert next(reading).row.tolist() == list(range(4 * number, 4 * number + 4))
    with pytest.raises(Broken, match=str(bad)):
        next(reading)
    assert loading() == []
    assert list(reading) == []


def test_the_first_of_two_errors_in_the_order_is_told():
    def broken(row: int) -> np.ndarray:
        if row == 2:
            time.sleep(0.05)
        if row in (2, 3):
            raise Broken(row)
        return load(row)

    with pytest.raises(Broken, match="2"):
        list(batches(np.arange(4), 4, broken, 4))


def test_a_reader_that_stops_early_waits_for_nothing_it_will_not_use():
    started: list[int] = []
    lock = threading.Lock()

    def count(row: int) -> np.ndarray:
        with lock:
            started.append(row)
        return load(row)

    reading = batches(np.arange(1000), 2, count, 2)
    next(reading)
    reading.close()
    assert loading() == []
    assert len(started) <= 2 * (8 + 1)  # of small batches so many are ahead that each thread has two handfuls


def test_only_a_few_batches_are_made_ahead():
    started: list[int] = []
    reading = batches(np.arange(300), 16, lambda row: started.append(row) or load(row), 4)
    for taken in range(1, 6):
        next(reading)
        assert len(started) <= 16 * (taken + AHEAD)


def test_nothing_is_loaded_before_it_is_asked_for():
    reading = batches(np.arange(3), 1, lambda row: pytest.fail("loaded"), 1)
    assert loading() == []
    reading.close()


@pytest.mark.parametrize(("n", "batch_size", "workers", "expected"), [(8, 4, 2, 2), (16, 2, 8, 8)])
def test_threads_work_side_by_side(n, batch_size, workers, expected):
    """Loads that wait for each other, as many as threads, in small batches too: fewer at once would never end."""
    meeting = threading.Barrier(workers, timeout=30)

    def together(row: int) -> np.ndarray:
        meeting.wait()
        return load(row)

    assert len(list(batches(np.arange(n), batch_size, together, workers))) == expected


def ragged(row: int) -> np.ndarray:
    return np.full((1 + row % 3, 2 + row % 5, 3), row % 256, np.uint8)


def never(rows: np.ndarray) -> None:
    return None


def pair(rows: np.ndarray, pictures: list[np.ndarray]) -> tuple[list[int], list[np.ndarray]]:
    return rows.tolist(), list(pictures)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 10**6), max_size=40), st.integers(1, 12), st.integers(1, 5), st.integers(0, 40))
def test_gathered_batches_are_the_order_of_pictures_of_any_size(rows, batch_size, workers, ready_from):
    """From `ready_from` on, pictures are there at once."""

    def ready(some: np.ndarray) -> list[np.ndarray] | None:
        return [ragged(row) for row in some.tolist()] if rows.index(some[0]) >= ready_from else None

    made = list(gathered(cut(np.array(rows, np.int64), batch_size), ready, ragged, pair, workers))
    assert [row for some, _ in made for row in some] == rows
    assert all(np.array_equal(p, ragged(row)) for some, pictures in made for row, p in zip(some, pictures, strict=True))


def test_what_is_ready_is_not_loaded():
    asked: list[int] = []
    made = gathered(cut(np.arange(9), 4), lambda rows: [ragged(row) for row in rows], asked.append, pair, 3)
    assert [rows for rows, _ in made] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert asked == []


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_gathering_comes_where_its_batch_would_have(workers):
    def broken(row: int) -> np.ndarray:
        if row == 9:
            raise Broken(row)
        return ragged(row)

    reading = gathered(cut(np.arange(20), 4), never, broken, pair, workers)
    assert next(reading)[0] == [0, 1, 2, 3]
    assert next(reading)[0] == [4, 5, 6, 7]
    with pytest.raises(Broken, match="9"):
        next(reading)
    assert loading() == []


def test_who_stops_gathering_early_leaves_no_thread():
    reading = gathered(cut(np.arange(1000), 2), never, ragged, pair, 2)
    next(reading)
    reading.close()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("tellapart")] == []


def test_who_stops_gathering_early_waits_for_the_pictures_at_hand_alone():
    begun, go_on = [], threading.Event()

    def slow(row: int) -> np.ndarray:
        begun.append(row)
        assert row < 64 or go_on.wait(60)
        return ragged(row)

    reading = gathered(cut(np.arange(1000), 64), never, slow, pair, 2)
    next(reading)
    while len(begun) < 66:  # both threads are at the next batch
        time.sleep(0.001)
    closing = threading.Thread(target=reading.close)
    closing.start()
    time.sleep(0.1)
    go_on.set()
    closing.join(60)
    assert len(begun) <= 70


class Filled:
    """Loads handfuls at once, but for those with a row that it does not have at hand."""

    shape = (4, 5, 3)

    def __init__(self, missing: int) -> None:
        self.missing = missing
        self.alone: list[int] = []

    def __call__(self, row: int) -> np.ndarray:
        self.alone.append(row)
        return load(row)

    def fill(self, rows: np.ndarray, out: np.ndarray) -> bool:
        if self.missing in rows:
            return False
        out[:] = [load(row) for row in rows.tolist()]
        return True


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 7), (2, 7), (3, 64)])
def test_pictures_that_are_loaded_together_are_the_same(workers: int, batch_size: int) -> None:
    order = np.random.default_rng(0).permutation(100)
    filled = Filled(missing=50)
    expected = list(batches(order, batch_size, load, workers))
    made = list(batches(order, batch_size, filled, workers))
    assert [batch.row.tolist() for batch in made] == [batch.row.tolist() for batch in expected]
    assert all(torch.equal(one.image, other.image) for one, other in zip(made, expected, strict=True))
    assert 50 in filled.alone
    assert len(filled.alone) < 20
