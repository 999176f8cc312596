"""One column a label, for tables that have to say what is not known: no list of labels could."""

from __future__ import annotations

import numpy as np
import polars as pl

from tellapart.data.catalog import Catalog
from tellapart.data.labels.roles import may_be_flag
from tellapart.errors import DataError


def label_columns(catalog: Catalog) -> list[pl.Series] | None:
    """One column a label of 1 and 0, and ? where it is not known; None where all of the catalog's labels are known.

    Raises:
        DataError: a class whose name would be read as something else than a label.
    """
    unknown = catalog.unknown()
    if unknown is None:
        return None
    other = next((name for name in catalog.classes if not may_be_flag(name)), None)
    if other is not None:
        raise DataError(
            f"The class {other!r} cannot have a column of its own: a column of that name is not read as a label.",
            "Rename the class.",
        )
    cells = np.where(unknown, "?", np.where(catalog.target() == 1, "1", "0"))
    return [pl.Series(name, cells[:, i], dtype=pl.String) for i, name in enumerate(catalog.classes)]
