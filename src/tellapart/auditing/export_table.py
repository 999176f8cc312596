"""What an audit leaves behind as files: its findings, and a table of pictures to train on."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from tellapart.auditing.findings import Audit
from tellapart.core.files import check_suffix, guarded, replacing
from tellapart.data.catalog import Catalog
from tellapart.data.labels.label_columns import label_columns
from tellapart.errors import DataError

#: Formats of a table of pictures, by suffix.
TABLES = (".csv", ".parquet")
_MARKS = ";|,"


def write_findings(audit: Audit, folder: Path) -> list[Path]:
    """Write `findings.parquet` and `findings.csv` into a folder."""
    paths = [folder / "findings.parquet", folder / "findings.csv"]
    with replacing(paths[0]) as beside:
        audit.findings.write_parquet(beside)
    with replacing(paths[1]) as beside:
        audit.findings.with_columns(pl.col(pl.String).map_elements(guarded, pl.String)).write_csv(beside)
    return paths


def write_table(catalog: Catalog, path: Path) -> Path:
    """Write a catalog as a table that `train` reads: file_name, label or labels, and split and group if there are any.

    Where it is not known of some pictures whether a label applies, there is one column a label instead.

    Paths in it count from the table's own folder if the pictures lie below that, else from their own root.

    Args:
        catalog: the pictures.
        path: a .csv or .parquet file.

    Returns:
        The folder that the paths count from.

    Raises:
        UsageError: another suffix.
        DataError: class names that a CSV file cannot hold.
    """
    suffix = check_suffix(path, TABLES, "--table")
    root, folder = Path(os.path.realpath(catalog.root)), Path(os.path.realpath(path.parent))
    inside = root.is_relative_to(folder)
    prefix = root.relative_to(folder).as_posix() + "/" if inside and root != folder else ""
    names = pl.element().replace_strict(range(len(catalog.classes)), list(catalog.classes), return_dtype=pl.String)
    table = catalog.table.select(
        pl.concat_str(pl.lit(prefix), "path").alias("file_name"),
        pl.col("labels").list.eval(names).cast(pl.List(pl.String)),
        "split",
        "group",
    )
    _check_names(catalog)
    if not catalog.multilabel:
        table = table.with_columns(pl.col("labels").list.first().fill_null("")).rename({"labels": "label"})
    elif (columns := label_columns(catalog)) is not None:
        table = table.drop("labels").with_columns(columns)
    elif suffix == ".csv":
        table = table.with_columns(pl.col("labels").list.join(_mark(catalog)))
    table = table.drop(name for name in ("split", "group") if table[name].is_null().all())
    with replacing(path) as beside:
        if suffix == ".csv":
            table.write_csv(beside)
        else:
            table.write_parquet(beside)
    return folder if inside else catalog.root


def _check_names(catalog: Catalog) -> None:
    bad = next((name for name in catalog.classes if name != name.strip()), None)
    if bad is not None:
        raise DataError(
            f"The class name {bad!r} begins or ends with a blank: in a table it would be read without.",
            "Rename its folder.",
        )


def _mark(catalog: Catalog) -> str:
    """What stands between the labels of one cell. The reader takes the first of the marks that it meets anywhere."""
    met = [mark for mark in _MARKS if any(mark in name for name in catalog.classes)]
    mark = next((mark for mark in _MARKS if mark not in met), "")
    many = bool((catalog.table["labels"].list.len() > 1).any())
    if not mark or any(_MARKS.index(other) < _MARKS.index(mark) or not many for other in met):
        raise DataError(
            f"There are class names with {' and '.join(met)} in them: labels in a CSV file could not be told apart.",
            "Write a .parquet file instead.",
        )
    return mark
