"""The layout of a data set: where its labels are. It is detected before any picture is opened.

The first that fits is taken:

1. A table in the root folder (CSV, TSV, JSON lines, Parquet) with a header: a column of paths (`file_name`), and
   `label`, or `labels`, or one column a label with 0 and 1. A competition's form counts too: `id,label` beside a
   folder of numbered pictures. Tables called train, validation and test are these parts.
2. Folders named after the classes, at any depth, perhaps below folders named train, validation and test.
3. A list without a header: a path and a label a line. Lists called train, validation and test are these parts.
4. Otherwise pictures without labels.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tellapart.core.text import counted, first_few
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.data.labels import classes, tables
from tellapart.data.labels.columns import can_label, part_of, understand
from tellapart.data.labels.folders import Labelling, describe_leftovers, from_folders
from tellapart.data.labels.locate import fits, locate
from tellapart.data.labels.tables import LABEL, LABELS, ROW_NUMBER, read_table
from tellapart.data.labels.walk import Walk, walk
from tellapart.errors import DataError, UsageError

#: What `layout` may be.
NAMES = ("folders", "table", "list", "competition")
_SNIFF = 20  # rows read to see what a table is


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
    """

    root: Path
    table: pl.DataFrame
    classes: tuple[str, ...]
    multilabel: bool
    sentence: str
    columns: tuple[str, ...] = ()


def find_layout(
    root: str | Path,
    *,
    layout: str | None = None,
    labels: str | Path | None = None,
    class_file: str | Path | None = None,
    label_depth: int | None = None,
    delimiter: str | None = None,
    follow_links: bool = False,
) -> Layout:
    """Find the pictures and their labels. Arguments and errors as for `scan`."""
    root, labels = _root(root, labels)
    _check_arguments(layout, labels, label_depth)
    listing = walk(root, follow_links)
    files, notes = _choose(listing, layout, labels, label_depth)
    if not files and not listing.pictures.height:
        raise DataError(
            f"{root} holds no pictures.",
            f"Looked in all its folders for files that end in {first_few(sorted(EXTENSIONS), 8)}.",
        )
    if files:
        if label_depth is not None:
            raise UsageError(
                "The label depth counts folders, but the labels come from a table.",
                "Ask for the layout 'folders' to use folders.",
            )
        labelling = _from_tables(files, listing, delimiter, follow_links)
    else:
        if delimiter is not None:
            raise UsageError("A delimiter divides labels in a table, but the labels come from folders.")
        labelling = from_folders(listing, label_depth)
    return _number(root, listing, labelling, class_file, [*notes, *describe_leftovers(listing)])


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


def _check_arguments(layout: str | None, labels: Path | None, label_depth: int | None) -> None:
    if layout is not None and layout not in NAMES:
        raise UsageError(f"There is no layout {layout!r}.", f"Layouts are: {', '.join(NAMES)}.")
    if layout == "folders" and labels is not None:
        raise UsageError(f"The layout 'folders' takes labels from folders, but {labels.name} is given too.")
    if label_depth == 0:
        raise UsageError(
            "The label depth is a number of folder levels: 1, 2 … from the root, -1, -2 … from the picture."
        )


def _choose(
    listing: Walk, layout: str | None, labels: Path | None, label_depth: int | None
) -> tuple[list[Path], list[str]]:
    """The tables or lists to take labels from (none: from the folders), and what to say of those not taken."""
    if labels is not None:
        return [labels], []
    if layout == "folders":
        return [], []
    has_classes = from_folders(listing, label_depth).names.n_unique() > 1
    named, lists, notes = _candidates(listing, has_classes and layout is None)
    if layout is not None:
        files = lists if layout == "list" else named
        if not files:
            noun = "list (a path and a label a line)" if layout == "list" else "table with file_name and label columns"
            raise DataError(f"There is no {noun} in {listing.root}.", "Name the file as labels.")
        return _one_or_parts(files), notes
    if named:
        unused = ["folders not taken for classes (the layout 'folders' does)"] if has_classes else []
        return _one_or_parts(named), [*notes, *unused]
    if lists and has_classes:
        names = first_few(file.name for file in lists)
        return [], [*notes, f"{names} not used (the layout 'list' does)"]
    return _one_or_parts(lists), notes


def _candidates(listing: Walk, can_skip: bool) -> tuple[list[Path], list[Path], list[str]]:
    """Tables with a header and lists in the root whose paths fit; and notes on those that do not fit."""
    named: list[Path] = []
    lists: list[Path] = []
    notes = []
    for name in listing.files:
        path = listing.root / name
        # Competitions ship an example of the answer: it looks like a table of labels and holds none.
        if path.suffix.lower() not in tables.SUFFIXES or name in classes.FILES or "submission" in name.lower():
            continue
        is_text = path.suffix.lower() in (".txt", ".lst")
        try:
            table = read_table(path, n_rows=_SNIFF)
            if table.has_header and table.find((*LABEL, *LABELS)) is None:
                table = read_table(path)  # columns of 0 and 1 are such only if all their rows are
            if not can_label(table) or (not table.has_header and not fits(table, listing)):
                continue
            if can_skip and not fits(table, listing):
                notes.append(f"{name} not used, as its files do not exist")
                continue
            (named if table.has_header else lists).append(path)
        except DataError as error:
            if not is_text and not can_skip:
                raise
            notes += [] if is_text else [f"{name} not used: {error.message}"]
    return named, lists, notes


def _one_or_parts(files: list[Path]) -> list[Path]:
    """One file, or files that are called train, validation and test."""
    parts = [_part_of_file(file) for file in files]
    if len(files) > 1 and (None in parts or len(set(parts)) < len(parts)):
        raise DataError(
            f"Several files could hold the labels: {', '.join(file.name for file in files)}.",
            "Name one as labels, or ask for the layout 'folders'.",
        )
    return files


def _part_of_file(path: Path) -> str | None:
    """The part that a file is named after, as train.csv, trainLabels.csv and val_list.txt are."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.stem)
    return next((part for word in words if (part := part_of(word))), None)


def _from_tables(files: list[Path], listing: Walk, delimiter: str | None, follow_links: bool) -> Labelling:
    frames, notes, single, folders = [], dict[str, None](), True, set[str]()
    for file in files:
        table = read_table(file)
        understood = understand(table, delimiter)
        frame, folder = locate(table, understood.frame, listing, follow_links)
        if len(files) > 1:
            frame = frame.with_columns(pl.col("split").fill_null(pl.lit(_part_of_file(file))))
        frames.append(frame.with_columns(at=pl.format(f"{file.name}, {table.unit} {{}}", ROW_NUMBER)).drop(ROW_NUMBER))
        notes.update(dict.fromkeys(understood.notes))
        single = single and understood.single
        folders |= {folder} - {""}
    merged, n_repeated = _merge(pl.concat(frames), single)
    multilabel = not single and bool((merged["labels"].list.len() != 1).any())
    said = list(notes)
    said += [f"names of files in {first_few(sorted(folders))}"] if folders else []
    said += [f"given parts: {_words(merged['split'])}"] if merged["split"].is_not_null().any() else []
    said += [f"{counted(n_repeated, 'repeated row')} merged"] if n_repeated else []
    said += _left_out(listing, merged)
    kind = "Table" if table.has_header else "List"
    form = f"{kind}{'s' if len(files) > 1 else ''} {' and '.join(file.name for file in files)}"
    return Labelling(merged, multilabel, form, tuple(said), understood.columns if table.has_header else ())


def _merge(frame: pl.DataFrame, single: bool) -> tuple[pl.DataFrame, int]:
    """One row a picture. Rows that contradict each other are an error.

    Returns:
        The frame, and how many rows were merged into others.
    """
    repeated = frame.filter(pl.col("path").is_duplicated())
    if not repeated.height:
        return frame.drop("at"), 0
    for column, noun in (("labels", "label"), ("split", "part"), ("group", "group")):
        if column == "labels" and not single:
            continue
        values = pl.col(column).list.join(", ") if column == "labels" else pl.col(column).fill_null("")
        by_path = repeated.group_by("path", maintain_order=True).agg("at", values=values)
        clash = by_path.filter(pl.col("values").list.n_unique() > 1)
        if clash.height:
            path, places, written = clash.select("path", "at", "values").row(0)
            other = next(i for i, value in enumerate(written) if value != written[0])
            hint = "If a picture may have several labels, call the column labels." if column == "labels" else ""
            raise DataError(
                f"{path} has the {noun} {written[0]!r} in {places[0]} and {written[other]!r} in {places[other]}.", hint
            )
    merged = frame.group_by("path", maintain_order=True).agg(
        pl.col("labels").explode(empty_as_null=False).unique(maintain_order=True),
        pl.col("split", "group").drop_nulls().first(),
    )
    return merged, frame.height - merged.height


def _left_out(listing: Walk, merged: pl.DataFrame) -> list[str]:
    """Pictures that no table names."""
    left = listing.pictures.join(merged, on="path", how="anti")["path"]
    tops = left.str.extract(r"^([^/]*/)").fill_null("beside it").unique().sort()
    return [f"{counted(len(left), 'picture')} that it does not name left out ({first_few(tops)})"] if len(left) else []


def _number(root: Path, listing: Walk, labelling: Labelling, class_file: str | Path | None, notes: list[str]) -> Layout:
    """Names of labels → numbers, in the order of the class file, of the integers they are, or of the alphabet."""
    table, names = labelling.table, labelling.names
    order, said = classes.order(names), []
    chosen = _beside(root, class_file) if class_file is not None else None
    if chosen is None and classes.all_integers(names):
        chosen = next((root / name for name in classes.FILES if name in listing.files), None)
    if chosen is not None:
        try:
            renamed, order = classes.name_labels(table["labels"], chosen)
            table = table.with_columns(labels=renamed)
            said = [f"classes named by {chosen.name}"]
        except DataError as error:
            if class_file is not None:
                raise
            said = [f"{chosen.name} not used: {error.message}"]
    numbers = pl.element().replace_strict(order, range(len(order)), return_dtype=pl.UInt32)
    table = table.with_columns(pl.col("labels").list.eval(numbers).cast(pl.List(pl.UInt32)))
    table = table.join(listing.pictures, on="path", how="left").sort("path")
    noun = "labels, any number a picture" if labelling.multilabel else "classes" if len(order) != 1 else "class"
    clauses = [*labelling.notes, *said, *notes]
    if order:
        clauses = [f"{len(order):,} {noun}", *clauses]
    sentence = labelling.form + (": " + "; ".join(clauses) if clauses else "") + "."
    columns = ("path", "labels", "split", "group", "problem")
    return Layout(root, table.select(columns), tuple(order), labelling.multilabel, sentence, labelling.columns)


def _words(parts: pl.Series) -> str:
    present = set(parts.drop_nulls())
    return ", ".join(part for part in ("train", "validation", "test") if part in present)
