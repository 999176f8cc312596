"""The layout of a data set: where its labels are. It is detected before any picture is opened.

The first that fits is taken:

1. A table in the root folder (CSV, TSV, JSON lines, Parquet) with a header: a column of paths (`file_name`), and
   `label`, or `labels`, or one column a label with 0 and 1. A competition's form counts too: `id,label` beside a
   folder of numbered pictures. Tables called train, validation and test are these parts. Where class folders say
   otherwise, the user has to decide; tables that this tool wrote are passed over.
2. Folders named after the classes, at any depth, with folders named train, validation and test above or below them.
3. A list without a header: a path and a label a line. Lists called train, validation and test are these parts.
4. Tables below the root's folders, such as train/_classes.csv and valid/_classes.csv.
5. Otherwise pictures without labels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tellapart.core.suggest import suggest
from tellapart.core.text import first_few
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.data.labels import classes, tables
from tellapart.data.labels.candidates import (
    Candidates,
    check_against_folders,
    find_candidates,
    find_candidates_below,
    one_or_parts,
)
from tellapart.data.labels.folders import Labelling, describe_leftovers, from_folders
from tellapart.data.labels.merge import from_tables
from tellapart.data.labels.roles import Named
from tellapart.data.labels.walk import Walk, walk
from tellapart.errors import DataError, UsageError

#: What `layout` may be.
NAMES = ("folders", "table", "list", "competition")
_SHOWN = 3  # tables whose reasons an error gives


@dataclass(frozen=True)
class Layout:
    """Pictures and their labels, before any picture is opened.

    Attributes:
        root: the folder that paths are relative to.
        table: one row a picture, sorted by `path`: `labels` (List(UInt32), numbers into `classes`), `split`, `group`
            and `problem` (null, or why the file cannot even be opened).
        classes: class names in their order.
        multilabel: True where a picture may have several labels or none.
        sentence: the layout, and what was left out.
        columns: of a table with a header, the names of the columns with pictures and labels.
        unused_columns: of a table, the names of the columns that are not used.
        unused_tables: name and reason of each table that is not used.
    """

    root: Path
    table: pl.DataFrame
    classes: tuple[str, ...]
    multilabel: bool
    sentence: str
    columns: tuple[str, ...] = ()
    unused_columns: tuple[str, ...] = ()
    unused_tables: tuple[tuple[str, str], ...] = ()


def find_layout(
    root: str | Path,
    *,
    layout: str | None = None,
    labels: str | Path | None = None,
    class_file: str | Path | None = None,
    label_depth: int | None = None,
    delimiter: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    follow_links: bool = False,
) -> Layout:
    """Find the pictures and their labels. Arguments and errors as for `scan`."""
    root, labels = _root(root, labels)
    named = Named(image_column, label_column, several=bool(delimiter))
    _check_arguments(layout, labels, label_depth, named)
    listing = walk(root, follow_links)
    choice = _choose(listing, layout or ("table" if named else None), labels, label_depth, named)
    if not choice.files and not listing.pictures.height:
        if listing.outside:
            raise DataError(
                f"{root} holds no pictures, only links that lead out of it: {first_few(listing.outside)}.",
                "With --follow-links they are followed.",
            )
        raise DataError(
            f"{root} holds no pictures.",
            f"Looked in all its folders for files that end in {first_few(sorted(EXTENSIONS), 8)}.",
        )
    if choice.files:
        if label_depth is not None:
            raise UsageError(
                "The label depth counts folders, but the labels come from a table.",
                "Ask for the layout 'folders' to use folders.",
            )
        labelling = from_tables(choice.files, listing, delimiter, follow_links, named)
        if choice.by_folder is not None:
            name = " and ".join(file.name for file in choice.files)
            check_against_folders(labelling, choice.by_folder, name)
    else:
        if delimiter is not None:
            raise UsageError("A delimiter divides labels in a table, but the labels come from folders.")
        labelling = from_folders(listing, label_depth)
    return _number(root, listing, labelling, class_file, choice)


def _root(root: str | Path, labels: str | Path | None) -> tuple[Path, Path | None]:
    """The root folder as an absolute path, and the table or list to use, if one is named."""
    path = Path(os.path.abspath(root))
    if path.is_file() and labels is None:
        if path.suffix.lower() not in tables.SUFFIXES:
            raise DataError(f"{root} is neither a folder nor a table of pictures ({' '.join(tables.SUFFIXES)}).")
        return path.parent, path
    if not path.is_dir():
        raise DataError(f"{root}: there is no such folder.")
    return path, None if labels is None else _beside(path, labels)


def _beside(root: Path, name: str | Path) -> Path:
    """A file named by the user: below the root, else from the current folder."""
    path = next((p for p in (root / name, Path(os.path.abspath(name))) if p.is_file()), None)
    if path is None:
        raise DataError(f"{name}: there is no such file, neither below {root} nor from here.")
    return path


@dataclass(frozen=True)
class Choice:
    """Where the labels come from.

    Attributes:
        files: the tables or lists; none: the folders.
        passed_over: name → why a table is not used.
        notes: what else to say.
        by_folder: what class folders say beside a table that was not named by the user, to be compared with it.
    """

    files: list[Path]
    passed_over: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    by_folder: pl.DataFrame | None = None


def _check_arguments(layout: str | None, labels: Path | None, label_depth: int | None, named: Named) -> None:
    if layout is not None and layout not in NAMES:
        raise UsageError(f"There is no layout {layout!r}.", suggest(layout, NAMES))
    if layout == "folders" and labels is not None:
        raise UsageError(f"The layout 'folders' takes labels from folders, but {labels.name} is given too.")
    if layout in ("folders", "list") and named:
        raise UsageError(f"The layout {layout!r} has no columns, but one is named.", "Leave the layout out.")
    if label_depth == 0:
        raise UsageError(
            "The label depth is a number of folder levels: 1, 2 … from the root, -1, -2 … from the picture."
        )


def _choose(listing: Walk, layout: str | None, labels: Path | None, label_depth: int | None, named: Named) -> Choice:
    """Decide where the labels come from: the tables or lists that are named or fit, or the folders."""
    if labels is not None:
        return Choice([labels])
    if layout == "folders":
        return Choice([])
    candidates = find_candidates(listing, named)
    if layout is not None:
        return _of_layout(layout, candidates, listing, named)
    by_folder = from_folders(listing, label_depth)
    has_classes = by_folder.names.n_unique() > 1
    if candidates.tables:
        unused = ("folders not taken for classes (the layout 'folders' does)",) if has_classes else ()
        files = one_or_parts(candidates.tables, listing.root)
        passed_over = candidates.passed_over | {file.name: "a table holds the labels" for file in candidates.lists}
        return Choice(files, passed_over, unused, by_folder.table if has_classes else None)
    if has_classes:
        lists = {file.name: "(the layout 'list' does)" for file in candidates.lists}
        return Choice([], candidates.passed_over | lists)
    if candidates.unclear is not None and not candidates.lists:
        raise candidates.unclear
    if candidates.lists:
        return Choice(one_or_parts(candidates.lists, listing.root), candidates.passed_over)
    below = find_candidates_below(listing)
    passed_over = {name: why for name, why in candidates.passed_over.items() if listing.root / name not in below}
    return Choice(one_or_parts(below, listing.root), passed_over)


def _of_layout(layout: str, candidates: Candidates, listing: Walk, named: Named) -> Choice:
    """The tables or lists of a layout that the user names, in the root or, where it has none, below."""
    files = candidates.lists if layout == "list" else candidates.tables
    if not files and layout != "list":
        files = find_candidates_below(listing, named)
    if files:
        passed_over = {name: why for name, why in candidates.passed_over.items() if listing.root / name not in files}
        return Choice(one_or_parts(files, listing.root), passed_over)
    if candidates.unclear is not None:
        raise candidates.unclear
    noun = "list (a path and a label a line)" if layout == "list" else "table with file_name and label columns"
    if named:
        noun = f"table with the column {named.image or named.label!r}"
    reasons = [f"{name}: {reason}." for name, reason in candidates.passed_over.items()][:_SHOWN]
    raise DataError(f"There is no {noun} in {listing.root}.", " ".join(["Name the file with --labels.", *reasons]))


def _number(root: Path, listing: Walk, labelling: Labelling, class_file: str | Path | None, choice: Choice) -> Layout:
    """Names of labels → numbers, in the order of the class file, of the integers they are, or of the alphabet."""
    table, names = labelling.table, labelling.names
    passed_over = dict(choice.passed_over)
    order, notes = classes.order(names), list[str]()
    chosen = _beside(root, class_file) if class_file is not None else None
    beside = classes.find_class_files(root, [n for n in listing.files if root / n not in choice.files], names)
    if chosen is None and beside:
        chosen = root / beside[0]
        passed_over |= dict.fromkeys(beside[1:], f"{beside[0]} is a class file too")
        passed_over.pop(beside[0], None)
    elif chosen is None:
        reason = "the labels are names, not numbers" if order else "there are no labels"
        passed_over |= dict.fromkeys((name for name in classes.FILES if name in listing.files), reason)
    if chosen is not None:
        try:
            named, notes = classes.name_labels(names, chosen)
            rename = pl.element().replace(list(named), list(named.values()))
            table = table.with_columns(pl.col("labels", "unknown").list.eval(rename).list.unique(maintain_order=True))
            order = list(dict.fromkeys(named.values()))
        except DataError as error:
            if class_file is not None:
                raise
            passed_over[chosen.name] = error.message
    element = pl.element().filter(pl.element().is_in(order))
    numbers = element.replace_strict(order, range(len(order)), return_dtype=pl.UInt32)
    table = table.with_columns(pl.col("labels", "unknown").list.eval(numbers).cast(pl.List(pl.UInt32)))
    table = table.join(listing.pictures, on="path", how="left").sort("path")
    noun = "labels, any number a picture" if labelling.multilabel else "classes" if len(order) != 1 else "class"
    inside = [file.relative_to(root).as_posix() for file in choice.files if file.is_relative_to(root)]
    used = {*inside, *([chosen.name] if chosen is not None and chosen.parent == root else []), *passed_over}
    leftovers = describe_leftovers(listing, used)
    clauses = [*labelling.notes, *notes, *choice.notes, *_passed_over(passed_over), *leftovers]
    if order:
        clauses = [f"{len(order):,} {noun}", *clauses]
    sentence = labelling.form + (": " + "; ".join(clauses) if clauses else "") + "."
    columns = ("path", "labels", "unknown", "split", "group", "problem")
    unused_tables = tuple(sorted(passed_over.items()))
    return Layout(
        root,
        table.select(columns),
        tuple(order),
        labelling.multilabel,
        sentence,
        labelling.columns,
        labelling.unused,
        unused_tables,
    )


def _passed_over(reasons: dict[str, str]) -> list[str]:
    """A clause for each reason that tables are not used for."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(reasons.items(), key=lambda pair: (pair[1][0] != "(", pair[0])):
        by_reason.setdefault(reason.rstrip("."), []).append(name)
    clauses = []
    for reason, names in by_reason.items():
        between = " " if reason.startswith("(") else ": " if names[0] in reason else ", as "
        clauses.append(f"{first_few(names, 5)} not used{between}{reason}")
    return clauses
