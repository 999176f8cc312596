"""Offline augmentation: each training picture in several fixed versions, its views.

The order matters: split first, then multiply the training part alone. Versions made before the split would stand on
both sides of it, and validation would ask what training has just shown.

Views are virtual: an item of an epoch is a number made of row and view, and `view` makes its picture on demand, always
the same. `write_views` writes the very same pictures into a folder, with a table that keeps each picture's versions in
one group.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from tellapart.core.events import Computing
from tellapart.core.files import replacing
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.data.augmentation.transforms import augment, decode_at_least
from tellapart.data.catalog import Catalog
from tellapart.data.decoding.decode import decode
from tellapart.data.labels.label_columns import label_columns
from tellapart.data.splitting.stratify import tie
from tellapart.errors import DataError, UsageError
from tellapart.recipe.transforms import Transform

if TYPE_CHECKING:
    from tellapart.data.splitting.split import Split

Rows = npt.NDArray[np.int64]
View = Sequence[Transform]
_AHEAD = 1  # a fifth number beside the four of `transforms.generator`


def multiply(rows: Rows, n_views: int) -> Rows:
    """Items of training: one for each row and view, int64 [n × n_views]. `origin` leads back."""
    return (rows[:, None] * n_views + np.arange(n_views)).ravel()


def origin(items: npt.ArrayLike, n_views: int) -> tuple[Rows, Rows]:
    """Rows of the catalog and numbers of views that items are made of."""
    rows, views = np.divmod(np.asarray(items, np.int64), n_views)
    return rows, views


def view(
    pixels: Pixels, views: Sequence[View], preprocessing: Preprocessing, seed: int, row: int, number: int
) -> Pixels:
    """One version of a decoded picture, to be used instead of the decoded one.

    Args:
        pixels: uint8 [height, width, 3], decoded and upright.
        views: the transforms of each view.
        preprocessing: the network's preprocessing, through which the result has still to go.
        seed: of the training.
        row: of the picture in the catalog.
        number: which of the views.

    Returns:
        The very pixels for a view without transforms; otherwise a picture of such a size that `preprocess` (or a
        random crop) cuts from it as it would from the original.
    """
    if not views[number]:
        return pixels
    # Not `generator`: what is drawn here must not come back as the first epoch's augmentation of the same picture.
    return augment(pixels, views[number], _whole(preprocessing), np.random.default_rng((seed, 0, row, number, _AHEAD)))


def side_to_decode(views: Sequence[View], preprocessing: Preprocessing) -> int:
    """Shorter side, in pixels, to decode at for `view`: one for all, so that each picture is decoded once."""
    return max(decode_at_least(transforms, preprocessing) for transforms in views)


def _whole(preprocessing: Preprocessing) -> Preprocessing:
    """The frame before its margin is cut off, since what is turned into the margin must come from the picture."""
    if preprocessing.fit != "crop":
        return preprocessing
    return replace(
        preprocessing,
        height=round(preprocessing.height / preprocessing.crop),
        width=round(preprocessing.width / preprocessing.crop),
        crop=1.0,
    )


def write_views(
    catalog: Catalog,
    split: Split,
    views: Sequence[View],
    preprocessing: Preprocessing,
    folder: Path,
    *,
    seed: int = 0,
    quality: int | None = None,
) -> Generator[Computing, None, Path]:
    """Write all versions of the training pictures, and the others as they are, into a new folder.

    The table `pictures.csv` has columns file_name, label (or labels, between them a mark that is in no name; or one
    column a label, where some are not known), split and group. All versions of a picture carry one group, together with
    its exact copies and its group of the catalog. So a new split of that folder cannot tear them apart.

    Args:
        catalog: all pictures.
        split: which of them are for training; only these are multiplied.
        views: the transforms of each view; one without transforms is a copy of the original file.
        preprocessing: size of the written pictures, without the margin that `preprocessing.crop` will cut off.
        folder: must not exist yet, or be empty.
        seed: the same seed gives the same pictures as `view`.
        quality: write JPEG of this quality (1 to 100) instead of lossless PNG.

    Yields:
        Computing, after every original.

    Returns:
        The path of the table. It is written last: a folder without it is not complete.

    Raises:
        UsageError: the folder holds something already.
        DataError: no mark can divide the names of several labels, or a name cannot be that of a column.
        UnreadableError: a picture that cannot be read.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", "Name a folder that does not exist yet.")
    labels = _labels(catalog)
    made, done, total = [], 0, sum(map(len, (split.train, split.validation, split.test)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, rows in (("train", split.train), ("validation", split.validation), ("test", split.test)):
            versions = views if part == "train" else [()]
            write = partial(_write, catalog, versions, preprocessing, folder, seed, quality)
            names = []
            for written in pool.map(write, rows.tolist()):
                names.append(written)
                done += 1
                yield Computing(-1, f"writing the {part} pictures", done, total)
            made.append(pl.DataFrame({"row": rows, "split": [part] * len(rows), "file_name": names}))
    table = pl.concat(made).explode("file_name")
    with replacing(folder / "pictures.csv") as beside:
        _described(catalog, labels, table).write_csv(beside)
    return folder / "pictures.csv"


def _write(
    catalog: Catalog,
    views: Sequence[View],
    preprocessing: Preprocessing,
    folder: Path,
    seed: int,
    quality: int | None,
    row: int,
) -> list[str]:
    """Write all versions of one picture; their paths from the folder on."""
    path = catalog.table["path"][row]
    suffix = ".png" if quality is None else ".jpg"
    names = [f"pictures/{path}" + (f".view{number}{suffix}" if views[number] else "") for number in range(len(views))]
    (folder / names[0]).parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        decode(catalog.path(row), side_to_decode(views, preprocessing), preprocessing.background)
        if any(views)
        else None
    )
    for number, name in enumerate(names):
        if pixels is None or not views[number]:
            shutil.copyfile(catalog.path(row), folder / name)
        else:
            picture = Image.fromarray(view(pixels, views, preprocessing, seed, row, number))
            picture.save(folder / name, compress_level=1, quality=quality or 0)  # each format takes what is its own
    return names


def _mark_between(classes: Sequence[str]) -> str:
    """What can stand between labels in one cell."""
    mark = next((mark for mark in ";|," if not any(mark in name for name in classes)), None)
    if mark is None:
        raise DataError(
            "There are class names with ; with | and with a comma: nothing is left to divide labels in a table."
        )
    return mark


def _labels(catalog: Catalog) -> pl.DataFrame:
    """The columns of labels, of all pictures."""
    columns = label_columns(catalog)
    if columns is None:
        between = _mark_between(catalog.classes) if catalog.multilabel else ""
        names = [between.join(catalog.classes[i] for i in labels) for labels in catalog.table["labels"]]
        columns = [pl.Series("labels" if catalog.multilabel else "label", names, dtype=pl.String)]
    return pl.DataFrame(columns)


def _described(catalog: Catalog, labels: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """The table of what was written: file_name, the labels' columns, split, group."""
    rows = made["row"].to_numpy()
    return made.select("file_name", *labels[rows], "split", pl.Series("group", _groups(catalog)[rows]))


def _groups(catalog: Catalog) -> npt.NDArray[np.object_]:
    """A name for each row: the first path of those that must not be torn apart, by group or by content."""
    content = catalog.table.select(pl.coalesce(pl.col("sha256").bin.encode("hex"), "path")).to_series()
    groups = None
    if catalog.table["group"].is_not_null().any():
        groups = catalog.table["group"].rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    ties = pl.Series("tie", tie(content.rank("dense").cast(pl.Int64).to_numpy(), groups))
    return catalog.table.select(pl.col("path").min().over(ties))["path"].to_numpy()
