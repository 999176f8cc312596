"""Many random generators side by side: the numbers of `augment.generator`, for a whole batch in a few operations.

Philox is a function of a key and a counter (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011), so the
streams of all pictures can be computed at once. What NumPy makes of the words is repeated to the bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Lanes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_ROUNDS = 10
_MULTIPLIERS = np.array([0xD2E7470EE14C6C93, 0xCA5A826395121157], np.uint64)
_KEY_STEPS = np.array([0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B], np.uint64)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
#: Blocks of four words that are computed at a time.
_BLOCKS = 4


class Chance:
    """A generator for each picture of a batch, called a lane; each has a place in its own stream.

    Args:
        seed, epoch: as `augment.generator` takes them.
        rows, views: the same, one each a lane; int64 [n].
    """

    def __init__(self, seed: int, epoch: int, rows: Lanes, views: Lanes) -> None:
        self.n = len(rows)
        high, low = divmod(seed, 1 << 64)
        self._key = np.stack([np.full(self.n, low, np.uint64), views.astype(np.uint64)], axis=1)
        self._counter = (np.uint64(epoch), rows.astype(np.uint64), np.uint64(high))
        self._words = np.empty((self.n, 0), np.uint64)
        self._next = np.zeros(self.n, np.int64)
        # 32 bits that an earlier whole number has left over, where there are some.
        self._half = np.zeros(self.n, np.uint64)
        self._has_half = np.zeros(self.n, bool)

    def random(self, lanes: Lanes) -> Floats:
        """One number in [0, 1) from each of these lanes, which are named once each; float64 [len(lanes)]."""
        return (self._word(lanes) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, lanes: Lanes, low: float | Floats, high: float | Floats) -> Floats:
        """One number in [low, high) from each of these lanes."""
        return low + (high - low) * self.random(lanes)

    def integers(self, lanes: Lanes, ends: Lanes) -> Lanes:
        """One whole number from 0 to below its end, at most 2³², from each of these lanes (Lemire 2019)."""
        found = np.zeros(len(lanes), np.int64)
        open_ = np.flatnonzero(ends > 1)  # where there is nothing to choose, nothing is drawn
        while len(open_):
            end = ends[open_].astype(np.uint64)
            product = self._word32(lanes[open_]) * end
            found[open_] = (product >> _32).astype(np.int64)
            open_ = open_[(product & _LOW) < (np.uint64(1 << 32) - end) % end]
        return found

    def _word(self, lanes: Lanes) -> Words:
        place = self._next[lanes]
        while place.max(initial=0) >= self._words.shape[1]:
            self._words = np.concatenate([self._words, self._block()], axis=1)
        self._next[lanes] += 1
        return self._words[lanes, place]

    def _word32(self, lanes: Lanes) -> Words:
        """The lower half of a word; the next time, its upper half."""
        found = self._half[lanes]
        fresh = ~self._has_half[lanes]
        words = self._word(lanes[fresh])
        found[fresh] = words & _LOW
        self._half[lanes[fresh]] = words >> _32
        self._has_half[lanes] = fresh
        return found

    def _block(self) -> Words:
        """The next words of every lane, [n, 4 · _BLOCKS]."""
        done = self._words.shape[1] // 4
        first = np.arange(done + 1, done + 1 + _BLOCKS, dtype=np.uint64)  # NumPy counts up before it computes
        epoch, rows, high = self._counter
        zero = np.zeros((self.n, _BLOCKS), np.uint64)
        a, b, c, d = zero + first, zero + epoch, zero + rows[:, None], zero + high
        key0, key1 = self._key[:, :1], self._key[:, 1:]
        with np.errstate(over="ignore"):
            for _ in range(_ROUNDS):
                high0, low0 = _product(a, _MULTIPLIERS[0])
                high1, low1 = _product(c, _MULTIPLIERS[1])
                a, b, c, d = np.bitwise_xor(high1, b) ^ key0, low1, np.bitwise_xor(high0, d) ^ key1, low0
                key0, key1 = key0 + _KEY_STEPS[0], key1 + _KEY_STEPS[1]
        return np.stack([a, b, c, d], axis=2).reshape(self.n, 4 * _BLOCKS)


def _product(values: Words, factor: np.uint64) -> tuple[Words, Words]:
    """The upper and the lower 64 bits of a product."""
    a, b = values >> _32, values & _LOW
    c, d = factor >> _32, factor & _LOW
    middle = (b * d >> _32) + (a * d & _LOW) + (b * c & _LOW)
    return a * c + (a * d >> _32) + (b * c >> _32) + (middle >> _32), values * factor
