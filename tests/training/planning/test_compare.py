"""Networks are compared on the same pictures: what is told apart, ties, and time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.evaluation.significance import share_interval
from tellapart.training.planning.budget import Timing
from tellapart.training.planning.compare import Trial, as_good, best_of, choose, difference

TIMING = Timing(0.001, 0.01, 0.01, 0.02, 1e-6, 1.0)


def trial(name: str, right: npt.ArrayLike, size: int = 224) -> Trial:
    return Trial(name, size, TIMING, np.asarray(right, float))


def answers(n_both: int, n_first: int, n_second: int, n_none: int) -> tuple[Trial, Trial]:
    """Two networks, by how many pictures both, only the one, only the other and none is right for."""
    first = [1] * (n_both + n_first) + [0] * (n_second + n_none)
    second = [1] * n_both + [0] * n_first + [1] * n_second + [0] * n_none
    return trial("first", first), trial("second", second)


def test_paired_answers_tell_apart_what_two_scores_cannot() -> None:
    # 90 % and 85 % of 200: each score has an error of more than two points, and together they say nothing.
    paired, crossed = answers(170, 10, 0, 20), answers(155, 25, 15, 5)
    assert difference(*paired)[0] == pytest.approx(difference(*crossed)[0]) == 0.05
    assert as_good(paired, errors=2) == [paired[0]]
    assert as_good(crossed, errors=2) == list(crossed)


@pytest.mark.parametrize("counts", [(170, 10, 0, 20), (155, 25, 15, 5), (50, 3, 3, 4)])
def test_the_error_is_that_of_the_paired_interval(counts: tuple[int, int, int, int]) -> None:
    mean, error = difference(*answers(*counts))
    low, high = share_interval(counts[2], counts[1], sum(counts))
    assert mean == pytest.approx((counts[1] - counts[2]) / sum(counts))
    assert 2 * 1.96 * error == pytest.approx(high - low, rel=0.05)


def test_equal_answers_leave_a_doubt_and_the_name_decides() -> None:
    same = [trial("b", [1, 0, 1, 1]), trial("a", [1, 0, 1, 1]), trial("a", [1, 0, 1, 1], size=160)]
    assert difference(same[0], same[1])[1] > 0
    assert (best_of(same).name, best_of(same).size) == ("a", 160)
    assert len(as_good(same)) == 3
    chosen, _ = choose(same, [True] * 3, [5.0] * 3)
    assert (chosen.name, chosen.size) == ("a", 160)


def test_trials_of_unequal_length_are_compared_on_what_both_answered() -> None:
    long, short = trial("long", [1] * 50 + [0] * 50), trial("short", [0] * 10 + [1] * 40)
    assert difference(long, short)[0] == pytest.approx(0.2)
    assert best_of([long, short]) is long


def test_the_largest_of_those_as_good_is_taken_if_there_is_time() -> None:
    small, large = answers(150, 21, 20, 9)
    chosen, why = choose([small, large], [True, True], [10, 50])
    assert chosen is large
    assert "cannot tell from the best" in why[-1]
    chosen, why = choose([small, large], [True, False], [10, 50])
    assert chosen is small
    assert "there is no time for it" in why[-1]
    chosen, why = choose([small, large], [False, False], [10, 50])
    assert chosen is small
    assert why == ["No network can be trained in time here; first at 224 pixels is the quickest."]


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=5, max_size=30), min_size=1, max_size=5), st.data())
def test_a_choice_is_in_time_as_good_as_the_best_and_the_same_in_any_order(
    rights: list[Sequence[float]], data: st.DataObject
) -> None:
    trials = [trial(f"n{number % 3}", right, size=32 * number) for number, right in enumerate(rights)]
    in_time = data.draw(st.lists(st.booleans(), min_size=len(trials), max_size=len(trials)))
    cost = data.draw(st.lists(st.floats(1, 100), min_size=len(trials), max_size=len(trials)))
    chosen, why = choose(trials, in_time, cost)
    able = [t for t, fits in zip(trials, in_time, strict=True) if fits]
    assert chosen in (as_good(able) if able else trials)
    assert all(sentence.endswith(".") for sentence in why)
    order = data.draw(st.permutations(range(len(trials))))
    again, _ = choose([trials[i] for i in order], [in_time[i] for i in order], [cost[i] for i in order])
    assert again is chosen
