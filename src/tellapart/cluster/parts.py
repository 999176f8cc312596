"""Work on numbered parts of a table, each by one process of an actor pool; results come in the order of the parts.

Through Ray go numbers of parts and what workers made of them. Workers read the parts themselves, from a folder that
all nodes reach, so neither the driver nor Ray's object store ever holds the table.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl

from tellapart.cluster.connect import CLIENT, Cluster
from tellapart.cluster.failures import failures_in_words, one_line
from tellapart.core.files import replacing
from tellapart.core.hardware import limit_processors
from tellapart.errors import ClusterError, DataError, TellapartError

#: Takes a part, and gives what came of it as bytes.
Work: TypeAlias = Callable[[pl.DataFrame], bytes]
#: Rows of the smallest and the largest part, and what all but the last are multiples of: no batch is cut in two.
_SMALLEST, _LARGEST, _MULTIPLE = 64, 10_240, 32
#: A part is at most this share of the rows before it: whoever comes last, or is lost, has little to do again.
_SHARE = 64
#: Parts that Ray Data is given at a time: it remembers something of each, which must not add up.
_WAVE = 2_000
#: Times that a part may end its worker: what kills each of them must not be tried for ever.
_TRIES = 4


def write_parts(
    rows: Iterable[tuple[Any, ...]], schema: pl.Schema, folder: Path, n_rows: int | None = None
) -> list[int]:
    """Write rows to numbered Parquet files; memory holds one part at a time.

    Args:
        rows: as many as there are.
        schema: of the rows.
        folder: where the parts go; all nodes must reach it.
        n_rows: of each part; by default few in the first parts, and more in later ones.

    Returns:
        The number of rows of each part.
    """
    rows, sizes = iter(rows), list[int]()
    n_so_far = 0
    while part := list(islice(rows, n_rows or _size(n_so_far))):
        with replacing(_file(folder, len(sizes))) as beside:
            pl.DataFrame(part, schema=schema, orient="row").write_parquet(beside)
        sizes.append(len(part))
        n_so_far += len(part)
    return sizes


def _size(n_so_far: int) -> int:
    """Rows of the next part: the first ones are small, so that few rows keep all workers busy too."""
    return min(_LARGEST, max(_SMALLEST, n_so_far // _SHARE // _MULTIPLE * _MULTIPLE))


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.parquet"


@dataclass
class Pace:
    """How fast each worker is, by the parts that came back.

    Attributes:
        rows, seconds: of each worker, by its node and process.
    """

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, worker: str, n: int, seconds: float) -> None:
        """Count a part."""
        self.rows[worker] += n
        self.seconds[worker] += seconds

    def slowest(self) -> str:
        """For people: the slowest worker and its speed; empty as long as there is one worker alone."""
        speeds = {worker: self.rows[worker] / max(self.seconds[worker], 1e-9) for worker in self.rows}
        if len(speeds) < 2:
            return ""
        worker = min(speeds, key=speeds.__getitem__)
        return f"{len(speeds)} workers, the slowest {worker} with {speeds[worker]:,.3g} a second"


def over_parts(
    cluster: Cluster,
    make: Callable[..., Work],
    settings: dict[str, Any],
    folder: Path,
    n_parts: int,
    pace: Pace,
    here: str = "",
) -> Iterator[bytes]:
    """What workers make of each part, in order.

    A worker that dies is replaced, and its part is done again, by whoever is free.

    Args:
        cluster: connected.
        make: makes a worker's `Work`, once; a function or class of a module that the nodes have too.
        settings: its arguments: plain values.
        folder, n_parts: see `write_parts`.
        pace: is told of each part.
        here: the folder that names in the parts are relative to; empty where none is.

    Raises:
        ClusterError: what a worker raised, with the name of its node.
    """
    n_workers = max(1, min(cluster.n_cpus, n_parts))
    asked = (n_parts, n_workers, (make, json.dumps(settings), str(folder), here))
    names = _node_names()
    with failures_in_words():
        for row in _rows_by_client(*asked) if cluster.address.startswith(CLIENT) else _rows(*asked):
            where = f"{names.get(row['node'], row['host'])}:{row['process']}"
            if row["problem"]:
                raise ClusterError(f"Worker on {where}: {row['problem']}", row["hint"])
            pace.add(where, row["n"], row["seconds"])
            yield row["content"]


def _rows(n_parts: int, n_workers: int, worker: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """What a pool of workers makes of each part, as rows in order."""
    import ray.data

    _hush(ray.data.DataContext.get_current())
    for start in range(0, n_parts, _WAVE):
        numbers = [{"number": number} for number in range(start, min(start + _WAVE, n_parts))]
        # Items are handed out one by one, and come back in their order.
        results = ray.data.from_items(numbers, override_num_blocks=len(numbers)).map_batches(
            _Worker,
            batch_size=1,
            fn_constructor_args=worker,
            compute=ray.data.ActorPoolStrategy(size=n_workers),
            num_cpus=1,
        )
        yield from results.iter_rows()


def _rows_by_client(*asked: Any) -> Iterator[dict[str, Any]]:
    """As `_rows`, where this process is no part of the cluster: Ray Data runs in a process there."""
    import ray

    asking: Any = ray.remote(num_cpus=0)(_Asking).remote(*asked)
    try:
        while (row := ray.get(asking.next.remote())) is not None:
            yield row
    finally:
        ray.kill(asking)


class _Asking:
    """Runs Ray Data in the cluster, and gives its rows one by one."""

    def __init__(self, *asked: Any) -> None:
        self.rows = _rows(*asked)

    def next(self) -> dict[str, Any] | None:
        return next(self.rows, None)


def _node_names() -> dict[str, str]:
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    plain = {node["NodeManagerAddress"] for node in nodes}
    return {n["NodeID"]: n["NodeManagerHostname"] if n["NodeName"] in plain else n["NodeName"] for n in nodes}


def _hush(context: Any) -> None:
    """Order is kept, and the terminal is ours alone: logs go to Ray's files."""
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL + 1)


class _Worker:
    """A process of the pool. It makes its work with the first part, so that what goes wrong comes back as a row."""

    def __init__(self, make: Callable[..., Work], settings: str, folder: str, here: str) -> None:
        import ray

        limit_processors(1)
        self.make, self.settings, self.folder, self.here = make, settings, Path(folder), here
        self.work: Work | None = None
        self.node = ray.get_runtime_context().get_node_id()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        start, n, content, problem, hint = time.perf_counter(), 0, b"", "", ""
        try:
            table = self._read(int(batch["number"][0]))
            self._count(int(batch["number"][0]), table)
            if self.work is None:
                self._go_there()
                self.work = self.make(**json.loads(self.settings))
            n, content = table.height, self.work(table)
        except TellapartError as error:
            problem, hint = error.message, error.hint
        values = {"n": n, "seconds": time.perf_counter() - start, "content": content, "problem": problem, "hint": hint}
        values |= {"node": self.node, "host": socket.gethostname(), "process": os.getpid()}
        return {name: [value] for name, value in values.items()}

    def _go_there(self) -> None:
        try:
            os.chdir(self.here or os.curdir)
        except OSError as error:
            raise DataError(
                f"The folder {self.here} does not exist on this node.",
                "Name the pictures by absolute paths, on storage that every node reaches.",
            ) from error

    def _read(self, number: int) -> pl.DataFrame:
        file = _file(self.folder, number)
        try:
            return pl.read_parquet(file, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{file} cannot be read on this node: {one_line(error)}.",
                "Put --out into a folder that every node reaches under the same name.",
            ) from error

    def _count(self, number: int, part: pl.DataFrame) -> None:
        """Note beside a part that it is begun; refuse one that has ended a few workers."""
        try:
            with _file(self.folder, number).with_suffix(".tries").open("ab") as tries:
                tries.write(b".")
                n = tries.tell()
        except OSError:  # of a folder that only the command may write to
            return
        if n > _TRIES:
            first = part.row(0)[0]
            name = os.fsdecode(first) if isinstance(first, bytes) else first
            raise DataError(
                f"Part {number + 1:,} of the list, which begins with {name}, has ended its worker {_TRIES} times.",
                "One of its pictures kills a process, or memory is short there. What comes before it is answered.",
            )
