"""Which tables of a folder hold its labels: those that fit its pictures, none that this tool wrote itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tellapart.core.text import counted, first_few
from tellapart.data.labels import classes, tables
from tellapart.data.labels.folders import Labelling
from tellapart.data.labels.locate import fits, has_picture_suffix
from tellapart.data.labels.merge import part_of_table
from tellapart.data.labels.roles import NOT_NAMED, Named, Roles, free_columns, roles_of
from tellapart.data.labels.tables import Table, read_table
from tellapart.data.labels.walk import Walk
from tellapart.errors import DataError

_SNIFF = 20  # rows read to see what a table is
_MOST_BELOW = 20  # tables below the root's folders that are looked at
_NO_LABEL = "it has no column that is clearly the label"
_UNREAD = (".numbers", ".xml", ".yaml", ".yml", ".feather", ".arrow", ".db", ".sqlite", ".mat", ".pkl", ".npy", ".npz")
#: Columns by which tables that this tool wrote are known, and what they are.
_OWN = {
    frozenset(("path", "label", "certainty", "problem")): "answers of a model",
    frozenset(("row", "file", "from", "to", "by", "decision", "sha256")): "the corrections of a review",
    frozenset(("kind", "severity", "detail", "row", "path", "labels", "other")): "the findings of an audit",
    frozenset(("row", "file", "given", "suggested", "p_given", "score", "suspicious")): "labels that may be wrong",
    frozenset(("row", "target", "logits")): "predictions of a run",
    frozenset(("path", "labels", "sha256", "problem", "orientation")): "a catalog of a run",
}


@dataclass
class Candidates:
    """Tables of the root, sorted.

    Attributes:
        tables: with a header, a column of paths that fit and labels.
        lists: without a header; a path that fits and a label a line.
        passed_over: name → why it is none of these.
        unclear: why a table that names the pictures cannot be used, if there is one.
    """

    tables: list[Path] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)
    unclear: DataError | None = None


def find_candidates(listing: Walk, named: Named = NOT_NAMED) -> Candidates:
    """Look at each table in the root. One that cannot be used is named with the reason."""
    candidates = Candidates()
    for name in listing.files:
        suffix = Path(name).suffix.lower()
        if suffix in _UNREAD:
            candidates.passed_over[name] = "tables are CSV, TSV, JSON, Parquet or spreadsheets"
        # Competitions ship an example of the answer: it looks like a table of labels and holds none.
        elif suffix in tables.SUFFIXES and "submission" in name.lower():
            candidates.passed_over[name] = "a submission holds answers"
        elif suffix in tables.SUFFIXES and name not in classes.FILES:
            _sort_in(candidates, listing, name, named, is_text=suffix in (".txt", ".lst"))
    candidates.passed_over |= dict.fromkeys(listing.tables, "it lies below the folder (--labels names it)")
    return candidates


def find_candidates_below(listing: Walk, named: Named = NOT_NAMED) -> list[Path]:
    """Tables of labels that lie in folders below the root, such as one in each part's folder."""
    candidates = Candidates()
    for name in listing.tables[:_MOST_BELOW]:
        _sort_in(candidates, listing, name, named, is_text=False)
    return candidates.tables


def _sort_in(candidates: Candidates, listing: Walk, name: str, named: Named, is_text: bool) -> None:
    path = listing.root / name
    try:
        table = read_table(path, n_rows=_SNIFF)
        own = own_kind(table)
        if own is not None:
            candidates.passed_over[name] = f"it holds {own}"
            return
        if not table.has_header:
            _sort_in_list(candidates, listing, table, path, is_text)
            return
        if named and (reason := named.missing(table)):
            candidates.passed_over[name] = reason
            return
        roles = roles_of(table, lambda cells: fits(cells, listing), named)
        if not (roles.label or roles.labels) or roles.guessed:
            table = read_table(path)  # columns of 0 and 1 are such only if all their rows are
            roles = roles_of(table, lambda cells: fits(cells, listing), named)
        reason = _unfit(table, roles, listing)
        if reason is not None and reason.startswith(_NO_LABEL) and free_columns(roles):
            raise DataError(
                f"{name} names the pictures, but {reason}.",
                "Name the column: --label-column NAME. Or --layout folders passes the table over.",
            )
    except DataError as error:
        # A text that is no table at all is nothing to speak of.
        if not is_text:
            candidates.passed_over[name] = error.message.removeprefix(f"{name} names the pictures, but ")
            candidates.unclear = candidates.unclear or error
        return
    if reason is None:
        candidates.tables.append(path)
    else:
        candidates.passed_over[name] = reason


def _sort_in_list(candidates: Candidates, listing: Walk, table: Table, path: Path, is_text: bool) -> None:
    cells = table.column(table.columns[0]).drop_nulls()
    named = cells.filter(has_picture_suffix(cells))  # numbers may stand for anything
    if len(table.columns) > 1 and len(named) and fits(named, listing):
        candidates.lists.append(path)
    elif len(named):
        one = len(table.columns) == 1
        candidates.passed_over[path.name] = "it has paths and no labels" if one else "its files do not exist"
    elif not is_text:
        candidates.passed_over[path.name] = "it has no column with pictures"


def _unfit(table: Table, roles: Roles, listing: Walk) -> str | None:
    """Why a table with a header cannot hold the labels, or None."""
    if roles.path is None:
        return f"it has no column with pictures (it has: {first_few(table.columns, 8)})"
    if not fits(table.column(roles.path).drop_nulls(), listing):
        return "its files do not exist"
    if not roles.has_labels:
        return f"{_NO_LABEL} (it has: {first_few(table.columns, 8)})"
    return None


def own_kind(table: Table) -> str | None:
    """What a table is that this tool wrote, by its columns; None for others."""
    columns = set(table.columns) | set(table.unread)
    return next((kind for own, kind in _OWN.items() if own <= columns), None)


def one_or_parts(files: Sequence[Path], root: Path) -> list[Path]:
    """One file, or files that are called train, validation and test, or lie in folders of these names.

    Raises:
        DataError: several files that could hold the labels.
    """
    parts = [part_of_table(file, root) for file in files]
    if len(files) > 1 and (None in parts or len(set(parts)) < len(parts)):
        raise DataError(
            f"Several files could hold the labels: {', '.join(file.name for file in files)}.",
            "Name one with --labels, or take the folders with --layout folders.",
        )
    return list(files)


def check_against_folders(labelling: Labelling, by_folder: pl.DataFrame, name: str) -> None:
    """Refuse to choose between a table and class folders that contradict each other.

    They do where the labels of the table are names of folders, but not of those the pictures lie in, or not for all
    pictures; and where the table leaves out most pictures. Folders of other names may be batches, not classes; a table
    of several labels a picture, or with parts or groups, says more than a folder can, and may leave pictures out.

    Args:
        labelling: of the table.
        by_folder: `path` and `labels` of the folders.
        name: of the table.

    Raises:
        DataError: with what contradicts, and the two ways out.
    """
    folders = by_folder.filter(pl.col("labels").list.len() > 0).select("path", folder=pl.col("labels").list.first())
    both = folders.join(labelling.table.select("path", "labels"), on="path", how="left")
    named = both.filter(pl.col("labels").is_not_null())
    words = set(folders["folder"].str.split("/").explode().unique()) | set(folders["folder"].unique())
    labels = set(labelling.names.unique())
    n_left = both.height - named.height
    differ = named.filter(
        ~pl.col("labels").list.contains(pl.col("folder"))
        & (pl.col("labels").list.set_intersection(pl.col("folder").str.split("/")).list.len() == 0)
    )
    says_more = labelling.multilabel or any(labelling.table[name].is_not_null().any() for name in ("split", "group"))
    talks_of_folders = bool(words & labels) and not labelling.multilabel
    if talks_of_folders and differ.height:
        path, folder, own = differ.sort("path").row(0)
        reason = (
            f"{name} gives {path} {_quoted(own)}, its folder {folder!r}; so for {counted(differ.height, 'picture')}."
        )
    elif n_left and not says_more and (talks_of_folders or 2 * n_left > both.height):
        reason = f"{name} labels {named.height:,} of the {counted(both.height, 'picture')} in folders."
    else:
        return
    raise DataError(
        f"The table and the folders do not agree: {reason}",
        f"Decide: --labels {name} takes the table, --layout folders the {folders['folder'].n_unique():,} folders.",
    )


def _quoted(labels: Sequence[str]) -> str:
    return "no label" if not len(labels) else "the label " + " and ".join(map(repr, labels))
