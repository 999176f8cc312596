"""Labels out of the cells of a table: one label, several in a cell, or one column a label with yes and no."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tellapart.core.text import counted
from tellapart.data.labels.names import plain
from tellapart.data.labels.tables import ROW_NUMBER, Table
from tellapart.errors import DataError

_YES = ("1", "1.0", "true", "t", "yes", "y")
_NO = ("0", "0.0", "false", "f", "no", "n")
_MINUS = ("-1", "-1.0")
BLANK = ("", "nan", "na", "n/a", "null")
_UNKNOWN = ("?", "unknown")
_DELIMITERS = ";|,"
_QUOTED = r"'(?:[^'\\]|\\.)*'" + "|" + r'"(?:[^"\\]|\\.)*"'
#: A list as Python and NumPy write it: quoted names between brackets, with commas or blanks between them.
_LIST = re.compile(rf"\s*[\[({{]\s*(?:(?:{_QUOTED})(?:\s*,\s*|\s+|(?=\s*[\])}}])))*\s*[\])}}]\s*")
_NUMBERS = re.compile(r"\s*\[\s*\d+(?:\s*,\s*\d+)*\s*\]\s*")
#: An object, or a list within a list.
_OBJECT = r"^\s*\{\s*(\}|['\"][^'\"]*['\"]\s*:)|^\s*\[\s*[\[{]"
_LONGEST = 100_000  # characters of a cell that is read as a list


@dataclass(frozen=True)
class Cells:
    """Labels of a table, row by row.

    Attributes:
        labels: List(String).
        unknown: List(String): the labels of which a row does not say whether they apply; None where all are known.
        single: True where there is one label a picture by the form: a column called label.
        notes: what was decided, in words.
        names: with one column a label, the names of all.
    """

    labels: pl.Series
    unknown: pl.Series | None
    single: bool
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def one_label(table: Table, column: str) -> Cells:
    """A cell is a label; an empty one, "nan" and, among numbers, -1 leave the picture without.

    Raises:
        DataError: a cell with a JSON object, or cells with a list beside cells without.
    """
    cells = table.column(column).fill_null("").str.strip_chars()
    lists = _parsed_lists(table, column, cells)
    if lists is not None:
        return Cells(_clean(lists), None, False, ("each cell is a list of labels",))
    cells = cells.set(cells.str.to_lowercase() == "nan", "")
    numbers, n_minus = cells.filter((cells != "") & ~cells.is_in(_MINUS)), 0
    if len(numbers) and numbers.str.contains(r"^[0-9]+(\.0+)?$").all():
        n_minus = int(cells.is_in(_MINUS).sum())
        cells = cells.set(cells.is_in(_MINUS), "")
        if numbers.str.contains(".", literal=True).any():  # pandas turns whole numbers into 1.0 where one is missing
            cells = cells.str.replace(r"\.0+$", "")
    n_labels = 1 + sum(name.startswith("label ") for name in table.columns)
    notes = [f"of {n_labels} labels in a line the first was taken"] if not table.has_header and n_labels > 1 else []
    n_blank = int((cells == "").sum())
    if n_blank and table.has_header:
        minus = f" ({n_minus:,} of them with -1)" if n_minus else ""
        notes.append(f"{counted(n_blank, 'picture')} without a label in the column {column!r}{minus}")
    return Cells(_split_at(cells, ""), None, True, tuple(notes))


def several_labels(table: Table, column: str, delimiter: str | None) -> Cells:
    """A cell holds any number of labels. An empty one says that none applies, a null (JSON) that none is known.

    Args:
        table: with the column.
        column: text or lists.
        delimiter: between the labels; detected if None, none if "".
    """
    cells = table.column(column)
    n_null = cells.null_count()  # cells of text files are never null
    notes = []
    if isinstance(cells.dtype, pl.List):
        lists = cells
        _refuse_objects(table, column, cells.explode(empty_as_null=False).drop_nulls())
    else:
        text = cells.fill_null("").str.strip_chars()
        parsed = _parsed_lists(table, column, text) if delimiter is None else None
        if parsed is not None:
            lists, notes = parsed, ["each cell is a list of labels"]
        else:
            if delimiter is None:
                delimiter, notes = _find_delimiter(text)
            lists = _split_at(text, delimiter)
    lists = _clean(lists)
    n_none = int((lists.list.len() == 0).sum()) - n_null
    if n_none:
        notes.append(f"{counted(n_none, 'picture')} with none of the labels")
    if not n_null:
        return Cells(lists, None, False, tuple(notes))
    names = lists.explode(empty_as_null=False).unique().sort()
    rows = [names.to_list() if missing else [] for missing in cells.is_null()]
    notes.append(f"of {counted(n_null, 'picture')} the labels are not known")
    return Cells(lists, pl.Series("unknown", rows, dtype=pl.List(pl.String)), False, tuple(notes))


def one_column_each(table: Table, flags: Sequence[str]) -> Cells:
    """A column a label: yes, no, or not known.

    An empty cell is not known, as in CheXpert; but in a column without any no, where only the pictures with the label
    are marked, it is a no. -1 is not known beside 0; where there is no 0 in any column it is the no, as in CelebA.
    A "?" is never known.
    """
    cells = {flag: _plain_cells(table.column(flag)) for flag in flags}
    minus_is_no = not any(column.is_in(_NO).any() for column in cells.values())
    no = (*_NO, *(_MINUS if minus_is_no else ()))
    notes, yes, unknown, marked = ["one column a label"], [], [], []
    frame = pl.DataFrame({f"{i}": column for i, column in enumerate(cells.values())})
    for i, flag in enumerate(flags):
        name, column = pl.lit(flag.strip()), pl.col(f"{i}")
        yes.append(pl.when(column.is_in(_YES)).then(name))
        has_no = bool(frame[f"{i}"].is_in(no).any())
        if not has_no and frame[f"{i}"].is_in(BLANK).any():
            marked.append(flag)
        unknowns = (*_UNKNOWN, *(() if minus_is_no else _MINUS), *(BLANK if has_no else ()))
        unknown.append(pl.when(column.is_in(unknowns)).then(name))
    rows = frame.select(yes=pl.concat_list(yes).list.drop_nulls(), unknown=pl.concat_list(unknown).list.drop_nulls())
    if minus_is_no and any(column.is_in(_MINUS).any() for column in cells.values()):
        notes.append("-1 means no, as there is no 0")
    if marked:
        notes.append(f"an empty cell means no in {', '.join(marked)}, as there is no other no")
    n_unknown = int(rows["unknown"].list.len().sum())
    if n_unknown:
        n_pictures = int((rows["unknown"].list.len() > 0).sum())
        notes.append(f"{counted(n_unknown, 'cell')} of {counted(n_pictures, 'picture')} not known")
    empty = sorted(set(map(str.strip, flags)) - set(rows["yes"].explode(empty_as_null=False)))
    if empty:
        notes.append(f"no picture has {', '.join(empty)}")
    names = tuple(flag.strip() for flag in flags)
    return Cells(rows["yes"].alias("labels"), rows["unknown"] if n_unknown else None, False, tuple(notes), names)


def is_flag(cells: pl.Series) -> bool:
    """Whether a column holds nothing but yes, no and not known, and some of the former two."""
    if cells.dtype != pl.String:
        return False
    values = _plain_cells(cells)
    sure = values.is_in([*_YES, *_NO, *_MINUS])
    return bool((sure | values.is_in([*BLANK, *_UNKNOWN])).all() and sure.any())


def yes_or_no(cells: pl.Series) -> pl.Series:
    """Boolean: yes, no, or null for anything else."""
    values = _plain_cells(cells)
    frame = values.to_frame("cell")
    is_yes = pl.when(pl.col("cell").is_in(_YES)).then(True).when(pl.col("cell").is_in(_NO)).then(False)
    return frame.select(is_yes.alias("yes"))["yes"]


def _plain_cells(cells: pl.Series) -> pl.Series:
    return cells.fill_null("").str.strip_chars().str.to_lowercase()


def _clean(lists: pl.Series) -> pl.Series:
    """Each label once, without blanks around it, none of them empty."""
    element = pl.element().str.strip_chars()
    filled = lists.fill_null([]).list.eval(element.filter(element.is_not_null() & (element != "")))
    return filled.list.unique(maintain_order=True).alias("labels")


def _split_at(cells: pl.Series, delimiter: str) -> pl.Series:
    parts = cells.str.split(delimiter) if delimiter else cells.to_frame().select(pl.concat_list(pl.all())).to_series()
    return _clean(parts)


def _find_delimiter(cells: pl.Series) -> tuple[str, list[str]]:
    """The delimiter between labels, and a note on how sure it is."""
    present = [d for d in _DELIMITERS if cells.str.contains(d, literal=True).any()]
    if present:
        others = " ".join(present[1:])
        doubt = f", though cells also hold {others}" if others else ""
        return present[0], [f"labels divided at {present[0]}{doubt}"]
    if not cells.str.contains(" ", literal=True).any():
        return "", []
    # Blanks divide labels if the words are met again in other company: "cat dog" and "dog". A name of two words
    # is not: "basset hound" and "afghan hound" share one word, but the others stand in one place only.
    distinct = cells.unique().str.split(" ")
    words = distinct.explode(empty_as_null=False)
    counts = words.value_counts(name="n")
    in_company = distinct.filter(distinct.list.len() > 1).explode(empty_as_null=False).unique()
    again = counts.filter((pl.col("n") > 1) & pl.col(counts.columns[0]).is_in(in_company.implode()))
    if 2 * again.height > len(in_company):
        return " ", ["labels divided at blanks (with the delimiter '' a cell is one label)"]
    return "", ["cells with blanks were taken as one label (the delimiter ' ' divides them)"]


# --- lists written into cells ---------------------------------------------------------------------------------------


def _parsed_lists(table: Table, column: str, cells: pl.Series) -> pl.Series | None:
    """The cells as lists where they are written as JSON, Python or NumPy lists; None where none is.

    Raises:
        DataError: an object, a nested list, or a list beside cells that are none.
    """
    if not cells.str.contains(r"^[\[({]").any():
        return None
    _refuse_objects(table, column, cells)
    distinct = cells.unique().to_list()
    lists = {cell: _as_list(cell) for cell in distinct if cell}
    other = next((cell for cell in sorted(lists) if lists[cell] is None), None)
    if other is not None and any(_certain(cell) for cell in lists):
        number = table.frame.filter(cells == other)[ROW_NUMBER][0]
        raise DataError(
            f"{table.at(number)}: the column {column!r} holds lists such as {next(filter(_certain, lists))[:60]}, "
            f"but here {other[:60]!r}.",
            'Write each cell as a list, such as ["cat", "dog"], or each as names with one delimiter between them.',
        )
    if other is not None:
        return None
    return pl.Series([lists.get(cell) or [] for cell in cells], dtype=pl.List(pl.String))


def _certain(cell: str) -> bool:
    """Whether a cell cannot be a name: quotes stand inside the brackets."""
    return bool(_LIST.fullmatch(cell[:_LONGEST])) and any(quote in cell for quote in "'\"")


def _as_list(cell: str) -> list[str] | None:
    """The labels in a cell, or None where it is no list."""
    if len(cell) > _LONGEST:
        return None
    if _NUMBERS.fullmatch(cell):
        return re.findall(r"\d+", cell)
    try:
        values = json.loads(cell)
        if isinstance(values, list) and all(isinstance(value, str) or value is None for value in values):
            return [value for value in values if value]
    except (ValueError, RecursionError):
        pass
    if cell in ("set()", "()"):
        return []
    if not _LIST.fullmatch(cell):
        return None
    return [re.sub(r"\\(.)", r"\1", quoted[1:-1]) for quoted in re.findall(_QUOTED, cell)]


def _refuse_objects(table: Table, column: str, cells: pl.Series) -> None:
    """A label that is an object, or a list within a list, has no meaning."""
    is_list = isinstance(table.frame.schema[column], pl.List)
    if is_list:  # each element was a value of its own
        bad = [cell for cell in cells.filter(cells.str.contains(r"^[\[{]")).unique() if _is_json(cell)]
    else:
        bad = cells.filter(cells.str.contains(_OBJECT)).to_list()
    if not bad:
        return
    own = table.column(column)
    holds = own.list.contains(bad[0]) if is_list else own.str.strip_chars() == bad[0]
    raise DataError(
        f"{table.at(table.frame.filter(holds)[ROW_NUMBER][0])}: the column {column!r} holds {bad[0][:60]!r}, "
        "which is no label.",
        "A label is a name; several labels are names with a delimiter between them, or a list of names.",
    )


def _is_json(text: str) -> bool:
    """Whether a text is a list or an object."""
    try:
        return isinstance(json.loads(text), list | dict)
    except (ValueError, RecursionError):
        return False


def looks_like_labels(cells: pl.Series) -> bool:
    """Whether a column of an unknown name can hold labels: names that are met again, and no measurements."""
    if cells.dtype != pl.String:
        return cells.dtype == pl.List(pl.String)
    filled = cells.drop_nulls().str.strip_chars()
    filled = filled.filter(filled != "")
    n_distinct = filled.n_unique()
    return 1 < n_distinct < len(filled) and not filled.str.contains(r"^-?\d+\.\d*[1-9]").any()


#: Columns that describe a picture and are never its label.
MEASURES = frozenset(
    plain(name)
    for name in ("width", "height", "size", "bytes", "area", "url", "date", "time", "timestamp", "md5", "sha256", "age")
)
