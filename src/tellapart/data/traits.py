"""What tells pictures of a catalog apart besides their class: size, shape, brightness, file type, group."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.data.audit.audit import measure
from tellapart.data.audit.measures import place, stored
from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.errors import UsageError
from tellapart.records import Computing, Rows

Column = npt.NDArray[Any]
#: Those looked at unless others are asked for, with what they are called in a catalog.
USUAL = ("size", "shape", "brightness", "file type", "colour mode", "group")
_COLUMNS = {"file type": "format", "colour mode": "mode", "group": "group"}
#: A picture this much wider than high, or higher than wide, is no longer called square.
_SQUARE = 1.1


def names() -> list[str]:
    """All that can be asked for: the usual ones, labels, and the columns of a catalog."""
    return [*USUAL, "labels", *(name for name in SCHEMA if name not in (*USUAL, "labels", "path", "sha256", "problem"))]


def traits(
    catalog: Catalog, rows: Rows, wanted: Sequence[str] = USUAL, most: int | None = None
) -> Generator[Computing, None, dict[str, Column]]:
    """Columns of values, one a picture.

    Args:
        catalog: with the pictures.
        rows: which of them.
        wanted: some of `names`.
        most: brightness is left out if more pictures than this would have to be opened for it; None: never.

    Returns:
        Name → [n]: numbers (NaN: not known), or text (None: none).

    Raises:
        UsageError: there is no such column.
    """
    for name in wanted:
        if name not in names():
            raise UsageError(f"--by {name}: there is no such column.", f"There are: {', '.join(names())}.")
    table = catalog.table[rows]
    found: dict[str, Column] = {}
    for name in wanted:
        if name == "brightness":
            light = yield from _brightness(catalog, rows, most)
            if light is not None:
                found[name] = light
        elif name in ("size", "shape"):
            width, height = (table[side].to_numpy().astype(float) for side in ("width", "height"))
            found[name] = np.minimum(width, height) if name == "size" else _shapes(width / height)
        elif name == "labels":
            found[name] = _labels(catalog, rows)
        else:
            found[name] = table[_COLUMNS.get(name, name)].to_numpy()
    return found


def _brightness(catalog: Catalog, rows: Rows, most: int | None) -> Generator[Computing, None, Column | None]:
    """float64 [n], 0 (black) to 255: mean grey, as an audit measured it, or from opening the pictures."""
    figures = stored(place(catalog.table["sha256"].to_list()))
    if figures is not None and len(figures.thumb) == len(catalog):
        figures = figures.take(rows)
    else:
        if most is not None and len(rows) > most:
            return None
        figures = yield from measure(replace(catalog, table=catalog.table[rows]))
    grey = figures.thumb.reshape(len(rows), -1).mean(axis=1)
    return np.where(np.isfinite(figures.contrast), grey, np.nan)


def _shapes(ratio: npt.NDArray[np.float64]) -> Column:
    """Text, from width / height."""
    return np.select([ratio > _SQUARE, ratio < 1 / _SQUARE], ["wide", "tall"], "square").astype(object)


def _labels(catalog: Catalog, rows: Rows) -> Column:
    """The given labels in one text; None for pictures without."""
    lists = catalog.table["labels"].gather(rows).to_list()
    texts = [" + ".join(sorted(catalog.classes[i] for i in labels)) or None for labels in lists]
    return np.array(texts, object)
