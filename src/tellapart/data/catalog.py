"""The catalog: a table, one row a picture, with all that later rooms need of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.core.files import replacing
from tellapart.core.notebook import html_table
from tellapart.core.old_names import current_keys
from tellapart.core.plain_json import parse_json
from tellapart.core.text import counted
from tellapart.core.unicode_names import composed
from tellapart.data.class_matches import describe_unknown, unknown_classes
from tellapart.errors import DataError, RunError

#: Columns of `Catalog.table`, in order. `problem` is null where the picture can be read.
SCHEMA: dict[str, Any] = {
    "path": pl.String,
    "labels": pl.List(pl.UInt32),
    "split": pl.String,
    "group": pl.String,
    "width": pl.UInt32,
    "height": pl.UInt32,
    "mode": pl.String,
    "format": pl.String,
    "orientation": pl.UInt8,
    "bytes": pl.UInt64,
    "sha256": pl.Binary,
    "problem": pl.String,
}
#: One column more, where it is not known of some pictures whether some labels apply: those labels.
UNKNOWN = "unknown"
PARTS = ("train", "validation", "test")
_CHUNK = 100_000


@dataclass(frozen=True)
class Catalog:
    """An immutable table of pictures.

    Attributes:
        table: one row a picture, columns as in `SCHEMA`, and perhaps `UNKNOWN`; `labels` are numbers into `classes`,
            `path` is relative to `root` with forward slashes; width and height are those of the upright picture, in
            pixels.
        classes: class names in their one order.
        multilabel: True where a picture may have none, one or several labels; False where each has exactly one.
        root: the folder that paths are relative to.
        layout: one sentence on how the labels were found.
        columns: names of the columns with pictures and labels, where a table has them.
        unused_columns: names of a table's columns that were not used.
        unused_tables: name and reason of each table that was passed over.
    """

    table: pl.DataFrame
    classes: tuple[str, ...]
    multilabel: bool
    root: Path
    layout: str = ""
    columns: tuple[str, ...] = ()
    unused_columns: tuple[str, ...] = ()
    unused_tables: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return self.table.height

    def _repr_html_(self) -> str:
        """What a notebook shows: pictures a class, and how the labels came about."""
        title = f"{counted(len(self), 'picture')}, {counted(len(self.classes), 'class', 'classes')}"
        rows = [(name, f"{n:,}") for name, n in self.counts().items()]
        unreadable = len(self) - len(self.readable)
        notes = [self.layout, f"{unreadable:,} unreadable" if unreadable else ""]
        return html_table(title, ["class", "pictures"], rows, notes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over path, content, labels (by name), own part and group of every row, and the class list."""
        digest = hashlib.sha256(json.dumps([self.classes, self.multilabel]).encode())
        for start in range(0, len(self), _CHUNK):
            part = self.table.slice(start, _CHUNK)
            unknowns = part[UNKNOWN].to_list() if UNKNOWN in part.columns else [None] * len(part)
            rows = part.select("path", "sha256", "labels", "split", "group", "problem").iter_rows()
            for (path, content, labels, split, group, problem), unknown in zip(rows, unknowns, strict=True):
                names = sorted(self.classes[i] for i in labels)
                values = [path, (content or b"").hex(), names, split, group, problem is None]
                if unknown:  # no others, so that the digests of earlier catalogs stay what they were
                    values.append(sorted(self.classes[i] for i in unknown))
                digest.update(json.dumps(values).encode())
        return digest.hexdigest()

    @property
    def readable(self) -> npt.NDArray[np.int64]:
        """Row numbers of the pictures that can be read."""
        return np.flatnonzero(self.table["problem"].is_null().to_numpy())

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Row numbers with a known answer. With several labels, having none is one, and knowing of none is not."""
        if self.multilabel:
            unknown = self.unknown()
            return np.arange(len(self)) if unknown is None else np.flatnonzero(~unknown.all(axis=1))
        return np.flatnonzero((self.table["labels"].list.len() > 0).to_numpy())

    def name(self, row: int) -> str:
        """The path of a row's picture below the root."""
        return str(self.table["path"][int(row)])

    def path(self, row: int) -> Path:
        """Where the picture of a row lies."""
        return self.root / self.name(row)

    def link(self, row: int) -> str:
        """The address of a row's picture, for a browser."""
        return self.path(row).absolute().as_uri()

    def target(self, rows: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """The labels of rows, of all by default.

        Returns:
            One label: int64 [n], class numbers, -1 where there is none.
            Several labels: uint8 [n, n_classes], 0 also where it is not known, see `unknown`.
        """
        picked = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        labels = self.table["labels"].gather(picked)
        if not self.multilabel:
            return labels.list.first().cast(pl.Int64).fill_null(-1).to_numpy()
        target = np.zeros((len(picked), len(self.classes)), np.uint8)
        _mark(target, labels)
        return target

    def unknown(self, rows: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_] | None:
        """The cells of `target` of which the data do not say whether the label applies: losses and scores omit them.

        Returns:
            bool [n, n_classes]; None where every cell is known, and with one label a picture.
        """
        picked = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        if not self.multilabel or UNKNOWN not in self.table.columns:
            return None
        labels = self.table[UNKNOWN].gather(picked)
        if not labels.list.len().sum():
            return None
        cells = np.zeros((len(picked), len(self.classes)), np.bool_)
        _mark(cells, labels)
        return cells

    def counts(self) -> dict[str, int]:
        """Number of pictures a class, in class order; unreadable ones included."""
        numbers = self.table["labels"].explode(empty_as_null=False).to_numpy()
        counts = np.bincount(numbers.astype(np.int64), minlength=len(self.classes))
        return dict(zip(self.classes, map(int, counts), strict=True))

    def unknown_counts(self) -> dict[str, int]:
        """Number of pictures a class of which it is not known whether they have it; only classes with any."""
        unknown = self.unknown()
        counts = [] if unknown is None else unknown.sum(axis=0).tolist()
        return {name: n for name, n in zip(self.classes, counts, strict=unknown is not None) if n}

    def without(self, rows: npt.ArrayLike) -> Catalog:
        """A catalog that lacks these rows. No file is touched."""
        keep = np.ones(len(self), bool)
        keep[np.asarray(rows, np.int64)] = False
        return replace(self, table=self.table.filter(keep))

    def with_classes(self, classes: Sequence[str]) -> Catalog:
        """The same pictures with labels numbered by another class list, matched by name under NFC.

        Raises:
            DataError: a label is not in that list.
        """
        order = {composed(name): i for i, name in enumerate(classes)}
        unknown = unknown_classes(self.classes, classes)
        if unknown:
            n = int(self._has_class(unknown).sum())
            which = "The class" if len(unknown) == 1 else f"{len(unknown):,} of {len(self.classes):,} classes"
            raise DataError(
                f"{which} of {counted(n, 'picture')} {'is' if len(unknown) == 1 else 'are'} not known to the model: "
                f"{describe_unknown(unknown, classes)}.",
                "Rename them as the model does, or leave their pictures out: --skip-unknown-classes",
            )
        numbers = [order[composed(name)] for name in self.classes]
        renumbered = pl.col("labels", *({UNKNOWN} & set(self.table.columns))).list.eval(
            pl.element().replace_strict(list(range(len(numbers))), numbers, return_dtype=pl.UInt32)
        )
        return replace(self, table=self.table.with_columns(renumbered), classes=tuple(classes))

    def without_unknown(self, classes: Sequence[str]) -> tuple[Catalog, list[str]]:
        """A catalog that lacks the pictures with any class that is none of these, and the names of such classes."""
        unknown = unknown_classes(self.classes, classes)
        fewer = self.without(np.flatnonzero(self._has_class(unknown)))
        return fewer._with_only([name for name in self.classes if name not in unknown]), unknown

    def _with_only(self, classes: Sequence[str]) -> Catalog:
        """The catalog with fewer classes, those that no label names any more dropped."""
        numbers = [self.classes.index(name) for name in classes]
        element = pl.element().filter(pl.element().is_in(numbers))
        renumbered = pl.col("labels", *({UNKNOWN} & set(self.table.columns))).list.eval(
            element.replace_strict(numbers, range(len(numbers)), return_dtype=pl.UInt32)
        )
        return replace(self, table=self.table.with_columns(renumbered), classes=tuple(classes))

    def _has_class(self, names: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which pictures have any of these classes."""
        numbers = [i for i, name in enumerate(self.classes) if name in names]
        has = pl.col("labels").list.eval(pl.element().is_in(numbers)).list.any()
        return self.table.select(has.fill_null(False)).to_series().to_numpy()

    def save(self, path: Path) -> None:
        """Write as Parquet, with classes, root and layout in the file's metadata."""
        names = ("classes", "multilabel", "layout", "columns", "unused_columns", "unused_tables")
        about = {name: getattr(self, name) for name in names}
        about["root"] = str(self.root)
        with replacing(path) as beside:
            self.table.write_parquet(beside, metadata={"tellapart": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> Catalog:
        """Read what `save` wrote.

        Raises:
            RunError: the file is missing or is not one of ours.
        """
        try:
            table = pl.read_parquet(path, glob=False)
            about = current_keys(parse_json(pl.read_parquet_metadata(path)["tellapart"]))
        except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{path} cannot be read as a catalog: {error}") from error
        classes, columns = tuple(about["classes"]), tuple(about.get("columns", ()))
        unused_tables = tuple((name, reason) for name, reason in about.get("unused_tables", ()))
        return cls(
            table,
            classes,
            about["multilabel"],
            Path(about["root"]),
            about["layout"],
            columns,
            tuple(about.get("unused_columns", ())),
            unused_tables,
        )


def _mark(cells: npt.NDArray[Any], labels: pl.Series) -> None:
    """Set the cells [n, n_classes] of these labels, a list of numbers a row, to 1."""
    line = np.repeat(np.arange(len(cells)), labels.list.len().to_numpy())
    cells[line, labels.explode(empty_as_null=False).to_numpy()] = 1
