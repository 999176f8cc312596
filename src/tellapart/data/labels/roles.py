"""Roles of a table's columns: which one holds paths, labels, parts and groups, and which are not used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from tellapart.core.text import first_few
from tellapart.data.labels.cells import MEASURES, is_flag, looks_like_labels, yes_or_no
from tellapart.data.labels.locate import has_picture_suffix
from tellapart.data.labels.names import FOLD, GROUP, IS_PART, LABEL, LABELS, MAYBE_SPLIT, PATHS, SPLIT, is_index, plain
from tellapart.data.labels.parts import part_of
from tellapart.data.labels.tables import Table
from tellapart.errors import DataError

#: Says whether any of these cells is the path or name of a picture that exists.
FitsPictures = Callable[[pl.Series], bool]
_MOST_PARTS = 20  # spellings of parts in one column


@dataclass(frozen=True)
class Roles:
    """Columns by what they are used for.

    Attributes:
        path: the pictures' paths.
        label: one label a picture.
        labels: any number of labels a picture.
        flags: one column a label, of yes and no.
        split: the part of each picture, by name.
        is_part: the part of each picture, as columns of yes and no.
        group: what belongs together.
        unused: all others.
        guessed: whether the column of the labels was taken though its name has no meaning.
    """

    path: str | None
    label: str | None = None
    labels: str | None = None
    flags: tuple[str, ...] = ()
    split: str | None = None
    is_part: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def has_labels(self) -> bool:
        """Whether the table says which labels a picture has."""
        return bool(self.label or self.labels or self.flags)


@dataclass(frozen=True)
class Named:
    """Columns that the user names, where their own names say too little.

    Attributes:
        image: the pictures' paths.
        label: the labels: several in a cell where a delimiter is named too, or where the column is called so.
        several: whether a delimiter is.
    """

    image: str | None = None
    label: str | None = None
    several: bool = False

    def __bool__(self) -> bool:
        return self.image is not None or self.label is not None

    def missing(self, table: Table) -> str | None:
        """The first of them that a table lacks, in words; None where it has both."""
        names = [name for name in (self.image, self.label) if name is not None and column_of(table, name) is None]
        return f"it has no column {names[0]!r} (it has: {first_few(table.columns, 8)})" if names else None


NOT_NAMED = Named()


def column_of(table: Table, name: str) -> str | None:
    """The column that a user means: of this very name, or of one that differs by case, blanks and signs."""
    return name if name in table.columns else table.find([name])


def roles_of(table: Table, fits: FitsPictures | None = None, named: Named = NOT_NAMED) -> Roles:
    """Find the role of each column.

    Args:
        table: as read.
        fits: of several columns that could hold paths the first is taken for which this is true.
        named: the columns that the user names.

    Raises:
        DataError: two columns that both could hold the labels, or none of a name.
    """
    missing = named.missing(table)
    if missing:
        raise DataError(f"{table.name}: {missing}.")
    path = column_of(table, named.image) if named.image is not None else _path(table, fits)
    label, labels = _first(table, LABEL, path), _first(table, LABELS, path)
    if named.label is not None:
        own = column_of(table, named.label)
        several = named.several or plain(named.label) in map(plain, LABELS)
        label, labels = (None, own) if several else (own, None)
    if labels and label and plain(label) in _NUMBERED:  # the class file's number beside the name
        label = None
    if labels and label and path is not None:
        raise DataError(
            f"{table.name} has a column {label!r} and a column {labels!r}: which one holds the labels is not clear.",
            f"Name it: --label-column {label} or --label-column {labels}.",
        )
    if label and isinstance(table.frame.schema[label], pl.List):
        labels, label = label, None
    split, is_part = _split(table, (path, label, labels)), _is_part(table)
    group = tuple(name for name in table.find_all(GROUP) if name not in (path, label, labels))
    taken = {path, label, labels, split, *is_part, *group}
    flags: tuple[str, ...] = ()
    guessed = False
    free = [name for name in table.columns if name not in taken and _may_be_label(name)]
    if not label and not labels:
        flags = tuple(name for name in free if is_flag(table.column(name)))
        if flags:  # beside car and dog, a person of yes and no is a label too
            also = {name for name in group if is_flag(table.column(name)) and not plain(name).endswith("id")}
            flags = tuple(name for name in table.columns if name in also or name in flags)
            group = tuple(name for name in group if name not in also)
        if not flags and path is not None:
            label = _only_label(table, path, split, is_part, group)
            guessed = label is not None
            group = tuple(name for name in group if name != label)
            if label and isinstance(table.frame.schema[label], pl.List):
                labels, label = label, None
    used = {path, label, labels, split, *is_part, *group, *flags}
    if not table.has_header:  # further labels of a list are said elsewhere
        used |= set(table.columns)
    unused = tuple(name for name in (*table.columns, *table.unread) if name not in used)
    return Roles(path, label, labels, flags, split, is_part, group, unused, guessed)


def free_columns(roles: Roles) -> list[str]:
    """Columns that could hold labels, by their names, of a table in which none does."""
    return [name for name in (*roles.unused, *roles.group) if _may_be_label(name)]


_NUMBERED = ("classid", "labelid", "categoryid")
_NO_LABELS = frozenset({plain(name) for name in (*PATHS, *SPLIT, *MAYBE_SPLIT, *FOLD, *IS_PART)} | MEASURES)


def _may_be_label(name: str, others: frozenset[str] = frozenset()) -> bool:
    """Whether a column's name leaves it open that it holds labels; `others` do too."""
    text = plain(name)
    return (text not in _NO_LABELS or text in others) and not is_index(name)


def may_be_flag(name: str) -> bool:
    """Whether a column of this name, with yes and no, is read as a label."""
    return _may_be_label(name) and not part_of(name) and plain(name) not in map(plain, (*LABEL, *LABELS))


def _path(table: Table, fits: FitsPictures | None) -> str | None:
    """The column with the pictures' paths: by its name, or by what it holds."""
    text = [name for name in table.columns if table.frame.schema[name] == pl.String]
    named = [name for name in table.find_all(PATHS) if name in text]
    if fits is None or not table.has_header:
        return named[0] if named else None
    others = [name for name in text if name not in named]
    # Numbers may name pictures by accident: names of files go first.
    of_files = [name for name in others if has_picture_suffix(table.column(name)).any()]
    clear = [name for name in named if plain(name) not in _MAYBE_PATH]
    order = dict.fromkeys((*clear, *of_files, *named, *others))
    suits = next((name for name in order if fits(table.column(name).drop_nulls())), None)
    return suits or (named[0] if named else None)


def _first(table: Table, names: tuple[str, ...], path: str | None) -> str | None:
    return next((name for name in table.find_all(names) if name != path), None)


def _split(table: Table, taken: tuple[str | None, ...]) -> str | None:
    sure = table.find(SPLIT)
    if sure is not None:
        return sure
    named = next((name for name in table.find_all((*MAYBE_SPLIT, *FOLD)) if _parts(table.column(name))), None)
    others = (name for name in table.columns if name not in taken)
    return named or next((name for name in others if {"train"} < _parts(table.column(name))), None)


def _parts(cells: pl.Series) -> set[str]:
    """The parts that cells name; none where a cell is something else."""
    if cells.dtype != pl.String:
        return set()
    values = cells.drop_nulls().str.strip_chars().unique()
    if len(values) > _MOST_PARTS:
        return set()
    parts = {part_of(value) for value in values if value}
    return set() if None in parts else {part for part in parts if part}


def _is_part(table: Table) -> tuple[str, ...]:
    """Columns of yes and no: `is_valid`; or `train` beside `test`, where one alone may be a label."""
    bare = [name for name in table.columns if part_of(name)]
    named = [*table.find_all(IS_PART), *(bare if {"train"} < {part_of(name) for name in bare} else ())]
    columns = [name for name in named if table.frame.schema[name] == pl.String]
    return tuple(name for name in columns if yes_or_no(table.column(name)).is_not_null().any())


def part_of_column(name: str) -> str | None:
    """The part of the pictures with yes in a column, by its name."""
    return _PART_BY_NAME.get(plain(name)) or part_of(name)


_PART_BY_NAME = {plain(name): part for name, part in IS_PART.items()}


def _only_label(
    table: Table, path: str, split: str | None, is_part: tuple[str, ...], group: tuple[str, ...]
) -> str | None:
    """The one column that can hold labels where no name says so; None where there are several, or none."""
    taken = {path, split, *is_part}
    free = [n for n in table.columns if n not in taken and _may_be_label(n, _PATH_NAMES)]
    candidates = [name for name in free if looks_like_labels(table.column(name))]
    ungrouped = [name for name in candidates if name not in group]
    return (ungrouped or candidates)[0] if len(ungrouped or candidates) == 1 else None


_MAYBE_PATH = ("id", "name")
_PATH_NAMES = frozenset(map(plain, PATHS))  # `Image,Id` holds a file and its label
