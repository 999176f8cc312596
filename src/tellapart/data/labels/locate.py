"""Paths of a table resolved to files below the root, and never to one outside."""

from __future__ import annotations

import os
import posixpath
import re

import polars as pl

from tellapart.core.text import first_few
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.data.labels.columns import part_of
from tellapart.data.labels.tables import PATHS, ROW_NUMBER, Table
from tellapart.data.labels.walk import Walk
from tellapart.errors import DataError


def locate(table: Table, frame: pl.DataFrame, listing: Walk, follow_links: bool) -> tuple[pl.DataFrame, str]:
    """Replace the column `path` by paths relative to the root.

    Paths count from the root. If none of them leads to a file, they are names of files in one folder, with or without
    suffix: the folder that holds most of them is taken, of two with as many the training one.

    Args:
        table: for messages.
        frame: `ROW_NUMBER` and `path`, among others.
        listing: what lies below the root.
        follow_links: allow files that are links out of the root.

    Returns:
        The frame, and the folder that names were found in ("" where they were paths).

    Raises:
        DataError: a path that leads out of the root or to no file, with file and row.
    """
    frame = frame.with_columns(path=_normal(table, frame))
    known = frame["path"].is_in(listing.pictures["path"].implode())
    folder = ""
    if not known.any():
        names = _names(frame, listing)
        if names is not None:
            frame, folder = names
            known = frame["path"].is_in(listing.pictures["path"].implode())
    _check_rest(table, frame.filter(~known), listing, follow_links)
    return frame, folder


def fits(table: Table, listing: Walk) -> bool:
    """Whether any file that a table names exists."""
    column = table.find(PATHS)
    if column is None or table.frame.schema[column] != pl.String:
        return False
    frame = pl.DataFrame({"path": table.frame[column].drop_nulls().str.replace_all(r"\\", "/")})
    frame = frame.with_columns(pl.col("path").str.strip_prefix("./"))
    if not table.has_header:  # numbers may stand for anything
        frame = frame.filter(_suffix(frame["path"]).is_in(list(EXTENSIONS)))
    try:
        return bool(frame["path"].is_in(listing.pictures["path"].implode()).any()) or _names(frame, listing) is not None
    except DataError:  # names that fit more than one folder
        return True


def _normal(table: Table, frame: pl.DataFrame) -> pl.Series:
    """Normalise paths: forward slashes, no ./ and no ../. A path that leads out is an error."""
    paths = frame["path"]
    odd = frame.filter(paths.str.contains(r"\\|//|^/|^[A-Za-z]:|(^|/)\.\.?(/|$)")).select(ROW_NUMBER, "path")
    if not odd.height:
        return paths
    changed = {}
    for number, path in odd.iter_rows():
        text = path.replace("\\", "/")
        normal = posixpath.normpath(text)
        if text.startswith("/") or re.match(r"[A-Za-z]:/", text) or normal.split("/")[0] == "..":
            raise DataError(
                f"{table.at(number)}: {path!r} leads out of the folder of pictures.",
                "Paths in a table are relative to the root folder and stay below it.",
            )
        changed[path] = normal
    return paths.replace(list(changed), list(changed.values()))


def _names(frame: pl.DataFrame, listing: Walk) -> tuple[pl.DataFrame, str] | None:
    """The frame with its names taken as those of files in one folder, or None where no folder has any of them."""
    if frame["path"].str.contains("/", literal=True).any():
        return None
    files = listing.pictures.select(
        full=pl.col("path"),
        folder=pl.col("path").str.replace(r"[^/]*$", ""),
        name=pl.col("path").str.extract(r"([^/]*)$"),
    )
    if not _suffix(frame["path"]).is_in(list(EXTENSIONS)).all():
        files = files.with_columns(pl.col("name").str.replace(r"\.[^.]*$", ""))
    matches = files.filter(pl.col("name").is_in(frame["path"].implode()))
    if not matches.height:
        return None
    counts = matches.group_by("folder").agg(n=pl.col("name").n_unique(), n_files=pl.len())
    most = counts.filter(pl.col("n") == counts["n"].max()).sort("folder")
    training = most.filter([part_of(folder.rstrip("/").rpartition("/")[2]) == "train" for folder in most["folder"]])
    if most.height > 1 and training.height != 1:
        raise DataError(
            f"The names in the table fit the files of several folders: {first_few(most['folder'])}.",
            "Write paths that name the folder, such as train/1.png.",
        )
    folder, n, n_files = (training if training.height == 1 else most).row(0)
    here = matches.filter(pl.col("folder") == folder)
    if n_files > n:
        twice = here.filter(pl.col("name").is_duplicated()).sort("full")["full"]
        raise DataError(
            f"Several files have a name of the table: {first_few(twice, 2)}.", "Write names with their suffix."
        )
    full = frame["path"].replace(here["name"], here["full"])
    return frame.with_columns(path=full), folder


def _suffix(paths: pl.Series) -> pl.Series:
    return paths.str.extract(r"(\.[^./]*)$").str.to_lowercase().fill_null("")


def _check_rest(table: Table, rest: pl.DataFrame, listing: Walk, follow_links: bool) -> None:
    """Paths that the walk has not seen: hidden, of an unknown suffix, through a link, or not there."""
    real_root = os.path.join(os.path.realpath(listing.root), "")
    missing = []
    for number, path in rest.select(ROW_NUMBER, "path").iter_rows():
        full = os.path.join(listing.root, path)
        if not os.path.isfile(full):
            missing.append(f"{path} ({table.unit} {number})")
        elif not follow_links and not os.path.realpath(full).startswith(real_root):
            raise DataError(
                f"{table.at(number)}: {path!r} is a link that leads out of the folder of pictures.",
                "With --follow-links such links are followed.",
            )
    if missing:
        n = len(missing)
        are = "1 picture does" if n == 1 else f"{n:,} pictures do"
        raise DataError(
            f"{table.name}: {are} not exist below {listing.root}: {first_few(missing)}.",
            "Paths are relative to that folder. Remove the rows, or put the files there.",
        )
