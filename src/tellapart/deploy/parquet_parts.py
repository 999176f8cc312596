"""Parquet in parts: a Parquet file cannot be read before its end is written, so rows are kept in small whole ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tellapart.core.files import replacing
from tellapart.deploy.answer import Answer
from tellapart.deploy.rows import columns, joined, row_of

#: Rows, and seconds, after which a part is written: so much is answered again after a kill at most.
_ROWS, _SECONDS = 10_000, 60.0
_NUMBERS = ("certainty", "ood_score")


class ParquetParts:
    """A folder of Parquet files, each whole, in the order of their numbers.

    Args:
        folder: may hold the parts of an earlier process, which are gone on with.
        top, optional: see `rows.columns`.
    """

    def __init__(self, folder: Path, top: int, optional: tuple[str, ...]) -> None:
        import polars as pl

        self.folder, self.top, self.optional = folder, top, optional
        self.schema = {name: pl.Float64 if name.startswith(_NUMBERS) else pl.String for name in columns(top, optional)}
        self.rows: list[list[Any]] = []
        self.n_files = len(self._files())
        self.since = time.monotonic()

    def read(self) -> Iterator[dict[str, Any]]:
        """The rows so far. A part that is damaged ends them, and is removed with those that follow."""
        import polars as pl

        files = self._files()
        for number, file in enumerate(files):
            try:
                frame = pl.read_parquet(file, glob=False)
            except (OSError, pl.exceptions.PolarsError):
                frame = pl.DataFrame()
            if dict(frame.schema) != self.schema or file != self._file(number):
                for useless in files[number:]:
                    useless.unlink()
                self.n_files = number
                return
            yield from frame.iter_rows(named=True)

    def add(self, answer: Answer) -> None:
        """Add a row; now and then they are written."""
        self.rows.append(joined(row_of(answer, self.top, self.optional)))
        if len(self.rows) >= _ROWS or time.monotonic() - self.since > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write a part, whole or not at all."""
        import polars as pl

        if self.rows:
            with replacing(self._file(self.n_files)) as beside:
                pl.DataFrame(self.rows, schema=self.schema, orient="row").write_parquet(beside)
            self.n_files += 1
        self.rows, self.since = [], time.monotonic()

    def finish(self, path: Path) -> None:
        """Write all rows to one file, part by part."""
        import polars as pl

        self.flush()
        files = self._files()
        rows = pl.scan_parquet(files, glob=False) if files else pl.LazyFrame(schema=self.schema)
        rows.sink_parquet(path, maintain_order=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.parquet"
