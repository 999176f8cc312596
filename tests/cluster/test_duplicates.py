"""Near hashes that a cluster finds are those that one process finds."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tellapart.auditing.banded import MOST, masks_of, near_hashes
from tellapart.cluster.duplicates import Joiner, joining_on


@pytest.fixture
def hashes() -> np.ndarray:
    random = np.random.default_rng(0)
    values = random.integers(0, 2**64, 3000, np.uint64)
    for row in range(0, 1000, 7):
        n_bits = int(random.integers(0, 9))
        flips = sum(1 << int(bit) for bit in random.choice(64, n_bits, replace=False))
        values[row + 1500] = values[row] ^ np.uint64(flips)
    return values


def pairs_of(pieces) -> list[tuple[int, int]]:
    return sorted(map(tuple, np.concatenate(list(pieces)).tolist()))


@pytest.mark.parametrize("n_shards", [1, 5])
def test_shards_hold_all_pairs_once(hashes, tmp_path, n_shards):
    hashes = np.unique(hashes)
    pl.DataFrame({"number": np.arange(len(hashes)), "hash": hashes}).write_parquet(tmp_path / "hashes.parquet")
    joiner = Joiner(str(tmp_path / "hashes.parquet"), len(hashes), n_shards)
    tasks = [(mask, shard) for mask in range(len(masks_of(len(hashes), MOST))) for shard in range(n_shards)]
    contents = [joiner(pl.DataFrame([task], schema=["mask", "shard"], orient="row")) for task in tasks]
    found = pairs_of(np.sort(np.frombuffer(content, np.int64).reshape(-1, 2), axis=1) for content in contents)
    assert len(found) > 80
    assert found == pairs_of(near_hashes(hashes))


@pytest.mark.slow
def test_pairs_are_those_of_one_process(hashes, small_ray, tmp_path):
    with joining_on("auto", tmp_path / "lists") as joining:
        assert pairs_of(joining(hashes)) == pairs_of(near_hashes(hashes))
    assert list((tmp_path / "lists").iterdir()) == []
