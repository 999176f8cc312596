"""Groups of pictures that a split keeps on one side: copies, near duplicates and the groups of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.data.catalog import Catalog
from tellapart.data.splitting.stratify import tie


def with_groups(catalog: Catalog, ties: npt.NDArray[np.int64]) -> Catalog:
    """The catalog with ties as groups, joined with its own groups.

    Args:
        catalog: the pictures.
        ties: int64 [n], equal numbers for pictures that belong together.
    """
    if not len(catalog):
        return catalog
    own = catalog.table["group"]
    numbers = own.rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1 if own.is_not_null().any() else None
    joined = pl.Series("tie", tie(ties, numbers))
    named = catalog.table.select(
        name=pl.col("path").min().over(joined),
        n=pl.len().over(joined),
        grouped=pl.col("group").is_not_null().any().over(joined),
    ).select(pl.when((pl.col("n") > 1) | pl.col("grouped")).then("name"))
    return replace(catalog, table=catalog.table.with_columns(group=named.to_series()))
