"""Near hashes on a cluster: a worker takes the hashes that share some bits, and gives the pairs that are near."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tellapart.auditing.banded import MOST, Hashes, Ints, Joining, masks_of, pairs_of_mask, unique_hashes
from tellapart.cluster.connect import connected
from tellapart.cluster.parts import Pace, over_parts, write_parts
from tellapart.core.files import replacing

#: Hashes that a worker holds at a time, about: 16 bytes each, and as much again while they are sorted.
_SHARD = 4_000_000
_HASHES = "hashes.parquet"
#: By which the rest of a hash is spread over shards, whatever bits are masked.
_PRIME = 4_294_967_291


@contextmanager
def joining_on(address: str, lists: Path | None = None) -> Iterator[Joining]:
    """What finds near hashes on the cluster at this address, as `auditing.banded.near_hashes` does here.

    Args:
        address: see `connect.connected`.
        lists: a folder that all nodes reach, for the hashes; by default a temporary one of this machine.
    """

    def join(hashes: Hashes) -> Iterator[Ints]:
        different, first, equal = unique_hashes(hashes)
        yield equal
        if len(different) < 2:
            return
        if lists is not None:
            lists.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".hashes-", dir=lists) as name, connected(address) as cluster:
            folder = Path(name)
            with replacing(folder / _HASHES) as beside:
                pl.DataFrame({"number": np.arange(len(different)), "hash": different}).write_parquet(beside)
            n_shards = -(-len(different) // _SHARD)
            tasks = [(mask, shard) for mask in range(len(masks_of(len(different), MOST))) for shard in range(n_shards)]
            sizes = write_parts(tasks, pl.Schema({"mask": pl.Int64, "shard": pl.Int64}), folder, n_rows=1)
            settings: dict[str, Any] = {"file": str(folder / _HASHES), "n": len(different), "n_shards": n_shards}
            for content in over_parts(cluster, Joiner, settings, folder, len(sizes), Pace()):
                pairs = np.frombuffer(content, np.int64).reshape(-1, 2)
                yield np.sort(first[pairs], axis=1)

    yield join


class Joiner:
    """A worker: part of (mask, shard) → pairs, int64 [n, 2] as bytes."""

    def __init__(self, file: str, n: int, n_shards: int) -> None:
        self.file, self.n_shards, self.masks = file, n_shards, masks_of(n, MOST)

    def __call__(self, part: pl.DataFrame) -> bytes:
        """Near pairs among the hashes of one shard that agree in one mask."""
        found = [np.empty((0, 2), np.int64)]
        for mask, shard in part.iter_rows():
            table = self._shard(mask, shard)
            numbers = table["number"].to_numpy()
            found += [numbers[pairs] for pairs in pairs_of_mask(table["hash"].to_numpy(), self.masks, mask, MOST)]
        return np.concatenate(found).tobytes()

    def _shard(self, mask: int, shard: int) -> pl.DataFrame:
        """Hashes whose masked bits belong to this shard, read piece by piece."""
        shared = pl.col("hash") & pl.lit(int(self.masks[mask]), pl.UInt64)
        mine = shared % _PRIME % self.n_shards == shard
        return pl.scan_parquet(self.file, glob=False).filter(mine).collect(engine="streaming")
