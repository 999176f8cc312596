"""Paths of a table resolved to files below the root, and never to one outside."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl

from tellapart.core.text import first_few
from tellapart.core.unicode_names import composed
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.data.labels.parts import part_of
from tellapart.data.labels.tables import ROW_NUMBER, Table
from tellapart.data.labels.walk import Walk
from tellapart.errors import DataError

_LOOKED_AT = 20  # paths of a table that the walk has not seen


def locate(
    table: Table, frame: pl.DataFrame, listing: Walk, follow_links: bool, part: str | None = None, folder: str = ""
) -> tuple[pl.DataFrame, tuple[str, ...], str]:
    """Replace the column `path` by paths relative to the root, spelled as the files are.

    Paths count from the root, whatever their slashes and the composition of their letters. If none of them leads to a
    file, they are taken for the last levels of paths, with or without suffix, such as names of files in one folder. A
    table or row of one part (train, validation, test) then means the files in folders of this part.

    Args:
        table: for messages.
        frame: `ROW_NUMBER`, `path` and `split`, among others.
        listing: what lies below the root.
        follow_links: allow files that are links out of the root.
        part: that the table is named after.
        folder: relative to the root, where the table lies, with a slash at its end.

    Returns:
        The frame, the folders that the paths were found in (none where they count from the root), and the folder of
        another machine that they began with ("" for none).

    Raises:
        DataError: a path that leads out of the root or to no file, or that fits several files, with file and row.
    """
    pictures = listing.pictures["path"]
    paths = _spelled(frame["path"], pictures)
    paths, above = _from_elsewhere(_without_blanks(paths, pictures), listing)
    frame = frame.with_columns(path=_normal(table, frame.with_columns(path=paths), listing))
    known = frame["path"].is_in(pictures.implode())
    folders: tuple[str, ...] = ()
    if not known.any():
        frame = frame.with_columns(path=_from_above(frame["path"], listing))
        known = frame["path"].is_in(pictures.implode())
    if not known.any():
        matches = _matches(frame.with_columns(part=pl.coalesce("split", pl.lit(part, pl.String))), listing, folder)
        if matches.height:
            folders = tuple(matches["folder"].unique().sort())
            full = frame["path"].to_list()
            for row, path in matches.select("row", "full").iter_rows():
                full[row] = path
            frame = frame.with_columns(path=pl.Series(full, dtype=pl.String))
            known = frame["path"].is_in(pictures.implode())
    _check_rest(table, frame.filter(~known), listing, follow_links)
    return frame, folders, above


def fits(cells: pl.Series, listing: Walk) -> bool:
    """Whether any of these cells is the path or the name of a picture that exists."""
    pictures = listing.pictures["path"]
    paths, _ = _from_elsewhere(_without_blanks(_spelled(cells, pictures), pictures), listing)
    normal = [_relative(path, listing.root) for path in paths]
    paths = _spelled(pl.Series("path", [path for path in normal if path], dtype=pl.String), pictures)
    if paths.is_in(pictures.implode()).any() or _from_above(paths, listing).is_in(pictures.implode()).any():
        return True
    if any(os.path.isfile(os.path.join(listing.root, path)) for path in paths.head(_LOOKED_AT) if "\0" not in path):
        return True  # a hidden file, or one of an unknown suffix
    return any(len(files) for _, files in _by_last_levels(paths, listing))


def has_picture_suffix(cells: pl.Series) -> pl.Series:
    """Boolean: which cells end as files of pictures do."""
    return _suffix(cells).is_in(list(EXTENSIONS))


# --- spelling -------------------------------------------------------------------------------------------------------


def _without_case(path: str) -> str:
    return composed(path).casefold()


def _spelled(paths: pl.Series, pictures: pl.Series) -> pl.Series:
    """Paths spelled as the files they mean; those that mean none, or several, stay as they are.

    A table from another system may have letters composed otherwise, blanks at the ends, or another case (.JPG).
    """
    other = paths.filter(~paths.is_in(pictures.implode())).unique().to_list()
    changed: dict[str, str] = {}
    spellings: tuple[Callable[[str], str], ...] = (str, composed, _without_case)
    for spelling in spellings:
        left = [path for path in other if path not in changed]
        if not left:
            break
        files: dict[str, str | None] = {}
        for file in pictures:
            key = spelling(file)
            files[key] = file if key not in files else None
        for path in left:
            for text in (path, path.strip(), path.replace("\\", "/").strip()):
                if file := files.get(spelling(text)):
                    changed[path] = file
                    break
    return paths.replace(list(changed), list(changed.values())) if changed else paths


def _without_blanks(paths: pl.Series, pictures: pl.Series) -> pl.Series:
    """Paths without blanks around them, unless a file has a name with blanks around it."""
    names = pictures.str.extract(r"([^/]*)$")
    if (names != names.str.strip_chars()).any() or (pictures != pictures.str.strip_chars()).any():
        return paths
    return paths.str.strip_chars()


def _from_elsewhere(paths: pl.Series, listing: Walk) -> tuple[pl.Series, str]:
    """Absolute paths of another machine, from the folder on that this root has; and what came above it there.

    A path that exists here is not touched: it leads out of the root. Nor is one whose folder above is a part's, as
    `/data/test/1.png` does not mean the `1.png` of this root.
    """
    absolute = paths.str.contains(r"^/|^[A-Za-z]:[\\/]")
    if not absolute.any():
        return paths, ""
    slashed = paths.str.replace_all("\\", "/", literal=True)
    pictures, first = set(listing.pictures["path"]), slashed.filter(absolute)[0]
    if os.path.lexists(first) or _relative(first, listing.root) is not None:
        return paths, ""
    parts = first.split("/")
    n_above = next((n for n in range(1, len(parts)) if "/".join(parts[n:]) in pictures), 0)
    above = "/".join(parts[:n_above]) + "/"
    if not n_above or part_of(parts[n_above - 1]):
        return paths, ""
    frame = pl.DataFrame({"path": paths, "slashed": slashed})
    is_below = pl.col("slashed").str.starts_with(above)
    shorter = pl.when(is_below).then(pl.col("slashed").str.strip_prefix(above)).otherwise("path")
    return frame.select(path=shorter)["path"], above


def _normal(table: Table, frame: pl.DataFrame, listing: Walk) -> pl.Series:
    """Normalise paths: forward slashes, no ./ and no ../, from the root. A path that leads out is an error."""
    paths = frame["path"]
    odd = paths.str.contains(r"\\|//|^/|^[A-Za-z]:|(^|/)\.\.?(/|$)") & ~paths.is_in(listing.pictures["path"].implode())
    changed = {}
    for number, path in frame.filter(odd).select(ROW_NUMBER, "path").iter_rows():
        relative = _relative(path, listing.root)
        if relative is None:
            raise DataError(
                f"{table.at(number)}: {path!r} leads out of the folder of pictures.",
                f"Paths in a table lead to files below {listing.root}.",
            )
        changed[path] = relative
    normal = paths.replace(list(changed), list(changed.values())) if changed else paths
    return _spelled(normal, listing.pictures["path"]) if changed else normal


def _relative(path: str, root: Path) -> str | None:
    """A path from the root, or None where it leads out. Absolute ones may name the root, or where its links lead."""
    text = path.strip().replace("\\", "/")
    if text.startswith("/") or re.match(r"[A-Za-z]:", text):
        for base in (root.as_posix(), os.path.realpath(root).replace("\\", "/")):
            normal = posixpath.normpath(text)
            if normal.startswith(base.rstrip("/") + "/"):
                return normal[len(base.rstrip("/")) + 1 :]
        # The root may be reached through a link by one of the two names only.
        real_root, real = os.path.join(os.path.realpath(root), ""), os.path.realpath(text)
        return real[len(real_root) :].replace("\\", "/") if real.startswith(real_root) else None
    normal = posixpath.normpath(text) if text else ""
    return None if normal.split("/")[0] == ".." else normal


def _from_above(paths: pl.Series, listing: Walk) -> pl.Series:
    """Paths that all begin with the root's own name, or with some folders above it, without that.

    The root may have had another name where the table was written: so other folders that begin all paths are dropped
    too. But one folder stays, and parts stay: `test/1.png` does not mean the `1.png` of this root.
    """
    pictures, names = listing.pictures["path"], listing.root.parts[1:]
    for n in range(1, len(names) + 1):
        prefix = "/".join(names[-n:]) + "/"
        if len(paths) and paths.str.starts_with(prefix).all():
            return _spelled(paths.str.strip_prefix(prefix), pictures)
    below = paths
    while len(below) and below.str.contains("/.*/").all():
        prefix = below[0].partition("/")[0] + "/"
        if part_of(prefix) or not below.str.starts_with(prefix).all():
            break
        below = below.str.strip_prefix(prefix)
        spelled = _spelled(below, pictures)
        if spelled.is_in(pictures.implode()).any():
            return spelled
    return paths


def _suffix(paths: pl.Series) -> pl.Series:
    return paths.str.extract(r"(\.[^./]*)\s*$").str.to_lowercase().str.strip_chars().fill_null("")


# --- last levels of paths -------------------------------------------------------------------------------------------


def _matches(rows: pl.DataFrame, listing: Walk, own_folder: str) -> pl.DataFrame:
    """One file a row of those that have any: `row` (position), `full`, `folder`.

    Raises:
        DataError: paths that fit the files of several folders, or several files of one.
    """
    rows = rows.with_row_index("row").select("row", "path", "part")
    wanted = pl.concat(
        [
            keys.join(files, on="key", how="inner", maintain_order="left")
            for keys, files in _by_last_levels(rows["path"], listing)
        ]
        or [pl.DataFrame(schema={"path": pl.String, "key": pl.String, "full": pl.String, "folder": pl.String})]
    )
    matches = rows.join(wanted.select("path", "full", "folder"), on="path", how="inner").unique(["row", "full"])
    parts = {folder: _part_of_path(folder) for folder in matches["folder"].unique()}
    own = pl.col("folder").replace_strict(list(parts), list(parts.values()), return_dtype=pl.String)
    matches = matches.with_columns(own=own) if parts else matches.with_columns(own=pl.lit(None, pl.String))
    present = matches.filter(pl.col("own") == pl.col("part"))["part"].unique()
    is_other = pl.col("part").is_in(present.implode()) & (pl.col("own") != pl.col("part")).fill_null(True)
    matches = matches.filter(~is_other.fill_null(False))
    if own_folder and (matches["folder"].str.starts_with(own_folder)).any():
        matches = matches.filter(pl.col("folder").str.starts_with(own_folder))
    return _one_file_a_row(matches.sort("row", "full"))


def _one_file_a_row(matches: pl.DataFrame) -> pl.DataFrame:
    several = matches.filter(pl.col("row").is_duplicated())
    if not several.height:
        return matches
    n_rows = matches["row"].n_unique()
    counts = matches.group_by("folder").agg(n=pl.col("row").n_unique())
    whole = counts.filter(pl.col("n") == n_rows)["folder"].sort()
    if len(whole) != 1:
        folders = whole if len(whole) else several["folder"].unique().sort()
        raise DataError(
            f"The names in the table fit the files of several folders: {first_few(folders)}.",
            "Write paths that name the folder, such as train/1.png, or name the table after it, as testLabels.csv.",
        )
    here = matches.filter(pl.col("folder") == whole[0])
    twice = here.filter(pl.col("row").is_duplicated())["full"]
    if len(twice):
        raise DataError(
            f"Several files have a name of the table: {first_few(twice, 2)}.", "Write names with their suffix."
        )
    return here


def _by_last_levels(paths: pl.Series, listing: Walk) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Paths (`path`, `key`) and the files whose last levels they may be (`key`, `full`, `folder`), by number of levels.

    The key is the path under NFC; without suffix where the paths have none.
    """
    pairs = []
    distinct = paths.drop_nulls().unique()
    levels = distinct.str.count_matches("/", literal=True)
    for n in sorted(levels.unique()):
        here = distinct.filter(levels == n)
        last = listing.pictures.select(
            full="path", key=pl.col("path").str.extract(rf"(?:^|/)((?:[^/]*/){{{n}}}[^/]*)$")
        )
        files = last.drop_nulls().with_columns(folder=pl.col("full").str.head(_lengths("full") - _lengths("key")))
        keys = pl.DataFrame({"path": here, "key": here.map_elements(composed, pl.String)})
        files = files.with_columns(pl.col("key").map_elements(composed, pl.String))
        if not has_picture_suffix(here).all():
            files = files.with_columns(pl.col("key").str.replace(r"\.[^./]*$", ""))
        pairs.append((keys, files.filter(pl.col("key").is_in(keys["key"].implode()))))
    return pairs


def _lengths(column: str) -> pl.Expr:
    return pl.col(column).str.len_chars().cast(pl.Int64)


def _part_of_path(folder: str) -> str | None:
    return next((part for name in folder.split("/") if (part := part_of(name))), None)


def _check_rest(table: Table, rest: pl.DataFrame, listing: Walk, follow_links: bool) -> None:
    """Paths that the walk has not seen: hidden, of an unknown suffix, through a link, or not there."""
    real_root = os.path.join(os.path.realpath(listing.root), "")
    missing = []
    for number, path in rest.select(ROW_NUMBER, "path").iter_rows():
        full = os.path.join(listing.root, path)
        if "\0" in path or not os.path.isfile(full):
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
