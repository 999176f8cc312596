"""Scans and audits on a cluster: workers open the files, and what they see comes back, never a picture."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from tellapart.cluster.connect import connected
from tellapart.cluster.parts import Pace, over_parts, write_parts
from tellapart.core.hardware import n_processors
from tellapart.data.decoding.decode import Facts
from tellapart.data.scan import Looking, look_in_threads
from tellapart.data.statistics import Measures, read_measured, write_measured
from tellapart.workflows.progress import ProgressSink

_FIELDS = tuple(field.name for field in dataclasses.fields(Facts))
#: Before what was measured: the length of the facts.
_LENGTH = struct.Struct("<Q")


@contextmanager
def looking_on(address: str, progress: ProgressSink, lists: Path | None = None) -> Iterator[Looking]:
    """What `scan` takes to open files on the cluster at this address, as long as this lasts.

    Args:
        address: see `connect.connected`.
        progress: where the cluster and its slowest worker are told.
        lists: a folder that all nodes reach, for the lists of files; by default a temporary one of this machine.
    """
    with ExitStack() as stack:

        def look(root: Path, rows: pl.DataFrame, measures: Measures | None) -> Iterator[list[Facts]]:
            if lists is not None:
                lists.mkdir(parents=True, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".lists-", dir=lists)))
            sizes = write_parts(rows.iter_rows(), rows.schema, folder)
            cluster = stack.enter_context(connected(address))
            progress.say(f"Cluster: {cluster.in_words()}.")
            settings = {"root": str(root), "measured": measures is not None}
            start, pace = 0, Pace()
            for size, content in zip(
                sizes, over_parts(cluster, Examiner, settings, folder, len(sizes), pace), strict=True
            ):
                yield _facts(content, start, measures)
                start += size
            if slowest := pace.slowest():
                progress.say(slowest)

        yield look


class Examiner:
    """A worker that opens files: part → their facts as JSON, and what was measured as arrays."""

    def __init__(self, root: str, measured: bool) -> None:
        self.root, self.measured = Path(root), measured

    def __call__(self, part: pl.DataFrame) -> bytes:
        """Facts of the files of a part, in their order."""
        measures = Measures() if self.measured else None
        looked = [fact for facts in look_in_threads(n_processors(), self.root, part, measures) for fact in facts]
        values = [[_plain(getattr(fact, name)) for name in _FIELDS] for fact in looked]
        file = io.BytesIO()
        lines = json.dumps(values).encode()
        file.write(_LENGTH.pack(len(lines)) + lines)
        if measures is not None:
            write_measured(measures.finish(), file)
        return file.getvalue()


def _facts(content: bytes, start: int, measures: Measures | None) -> list[Facts]:
    end = _LENGTH.size + _LENGTH.unpack_from(content)[0]
    if measures is not None:
        measures.add(start, read_measured(io.BytesIO(content[end:])))
    return [_fact(dict(zip(_FIELDS, values, strict=True))) for values in json.loads(content[_LENGTH.size : end])]


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _fact(values: dict[str, Any]) -> Facts:
    digest = values["sha256"]
    return Facts(**values | {"sha256": None if digest is None else bytes.fromhex(digest)})
