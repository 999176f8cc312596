"""Traits of pictures besides their class, for slices: size, shape, brightness, file type, group."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.auditing.audit import measure
from tellapart.core.events import Computing
from tellapart.core.predictions import Rows
from tellapart.core.suggest import suggest
from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.data.labels.names import PATHS
from tellapart.data.labels.tables import read_table
from tellapart.data.statistics import load_measured, measures_file
from tellapart.errors import DataError, UsageError

Column = npt.NDArray[Any]
#: The traits by default, and the catalog's columns of some.
USUAL = ("size", "shape", "brightness", "file type", "colour mode", "group")
_COLUMNS = {"file type": "format", "colour mode": "mode", "group": "group"}
#: Ratio of the sides from which a picture is wide or tall, not square.
_SQUARE = 1.1


def names() -> list[str]:
    """All traits: the usual ones, labels, and the columns of a catalog."""
    return [*USUAL, "labels", *(name for name in SCHEMA if name not in (*USUAL, "labels", "path", "sha256", "problem"))]


def traits(
    catalog: Catalog, rows: Rows, wanted: Sequence[str] = USUAL, most: int | None = None
) -> Generator[Computing, None, dict[str, Column]]:
    """Traits of some pictures, by name.

    Args:
        catalog: with the pictures.
        rows: which of them.
        wanted: some of `names`.
        most: brightness is left out where more pictures than this would have to be opened; None: never.

    Returns:
        Name → [n]: numbers (NaN: not known), or text (None: none).

    Raises:
        UsageError: there is no such column.
    """
    for name in wanted:
        if name not in names():
            raise UsageError(f"--by {name}: there is no such column.", suggest(name, names()))
    table = catalog.table[rows]
    columns: dict[str, Column] = {}
    for name in wanted:
        if name == "brightness":
            light = yield from _brightness(catalog, rows, most)
            if light is not None:
                columns[name] = light
        elif name in ("size", "shape"):
            width, height = (table[side].to_numpy().astype(float) for side in ("width", "height"))
            columns[name] = np.minimum(width, height) if name == "size" else _shapes(width / height)
        elif name == "labels":
            columns[name] = _labels(catalog, rows)
        else:
            columns[name] = table[_COLUMNS.get(name, name)].to_numpy()
    return columns


def _brightness(catalog: Catalog, rows: Rows, most: int | None) -> Generator[Computing, None, Column | None]:
    """float64 [n], 0 (black) to 255: mean grey, as an audit measured it, or from opening the pictures."""
    measured = load_measured(measures_file(catalog.table["sha256"].to_list()))
    if measured is not None and len(measured.thumb) == len(catalog):
        measured = measured.take(rows)
    else:
        if most is not None and len(rows) > most:
            return None
        measured = yield from measure(replace(catalog, table=catalog.table[rows]))
    grey = measured.thumb.reshape(len(rows), -1).mean(axis=1)
    return np.where(np.isfinite(measured.contrast), grey, np.nan)


def _shapes(ratio: npt.NDArray[np.float64]) -> Column:
    """Text, from width / height."""
    return np.select([ratio > _SQUARE, ratio < 1 / _SQUARE], ["wide", "tall"], "square").astype(object)


def _labels(catalog: Catalog, rows: Rows) -> Column:
    """The given labels in one text; None for pictures without."""
    lists = catalog.table["labels"].gather(rows).to_list()
    texts = [" + ".join(sorted(catalog.classes[i] for i in labels)) or None for labels in lists]
    return np.array(texts, object)


def table_traits(catalog: Catalog, rows: Rows, path: Path) -> dict[str, Column]:
    """Columns of a table of the user's own, such as camera, place or season.

    Args:
        catalog, rows: the pictures.
        path: the table: a column with the pictures' paths below the catalog's root, or with their names where no two
            pictures have the same; and others, taken for numbers if every cell is one or empty.

    Returns:
        Name → [n]; NaN or None where a cell is empty or the table does not have the picture.

    Raises:
        DataError: no such columns, or it has none of the pictures.
    """
    table = read_table(path)
    key = table.find(PATHS) if table.has_header else None
    others = [name for name in table.columns if name != key and table.frame.schema[name] == pl.String]
    if key is None or not others:
        raise DataError(
            f"{path} has no column with the pictures' paths, or no other (it has: {', '.join(table.columns)}).",
            "Call the first one file_name.",
        )
    listed = [(text or "").replace("\\", "/").removeprefix("./") for text in table.frame[key].to_list()]
    whole = catalog.table["path"].to_list()
    lines = {text: i for i, text in enumerate(listed)}
    wanted = [whole[row] for row in rows.tolist()]
    if not any(text in lines for text in wanted):
        if len({_stem(text) for text in whole}) < len(whole):
            raise DataError(f"{path} has none of these pictures.", f"Give paths below {catalog.root}.")
        lines = {_stem(text): i for i, text in enumerate(listed)}
        wanted = [_stem(text) for text in wanted]
    at = [lines.get(text) for text in wanted]
    if all(i is None for i in at):
        raise DataError(f"{path} has none of these pictures.", f"Give paths below {catalog.root}.")
    columns = {name: table.frame[name].to_list() for name in others}
    return {name: _cells([None if i is None else cells[i] for i in at]) for name, cells in columns.items()}


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _cells(texts: Sequence[str | None]) -> Column:
    """Numbers if every cell is one or empty, else text."""
    filled = [text.strip() if text and text.strip() else None for text in texts]
    try:
        return np.array([np.nan if text is None else float(text) for text in filled])
    except ValueError:
        return np.array(filled, object)
