"""Labels from one or several tables: each is read, its paths are located, and rows of one picture are merged."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from tellapart.core.text import counted, first_few
from tellapart.core.unicode_names import one_spelling
from tellapart.data.labels.columns import understand
from tellapart.data.labels.folders import Labelling, near_names
from tellapart.data.labels.locate import fits, locate
from tellapart.data.labels.parts import part_of, part_of_file
from tellapart.data.labels.roles import NOT_NAMED, Named
from tellapart.data.labels.tables import ROW_NUMBER, read_table
from tellapart.data.labels.walk import Walk
from tellapart.errors import DataError


def from_tables(
    files: list[Path], listing: Walk, delimiter: str | None, follow_links: bool, named: Named = NOT_NAMED
) -> Labelling:
    """Label pictures by tables or lists; several are the parts that they are named after.

    Raises:
        DataError: what is wrong with a table, with file and row.
    """
    frames, notes, single, folders = [], dict[str, None](), True, set[str]()
    names, unused = dict[str, None](), dict[str, None]()
    for file in files:
        table = read_table(file)
        understood = understand(table, delimiter, lambda cells: fits(cells, listing), named)
        part = part_of_table(file, listing.root)
        frame, own, above = locate(table, understood.frame, listing, follow_links, part, _folder_of(file, listing.root))
        if len(files) > 1:
            frame = frame.with_columns(pl.col("split").fill_null(pl.lit(part)))
        prefix = f"{_shown(file, listing.root)}, {table.unit} "
        frame = frame.with_columns(at=pl.lit(prefix) + pl.col(ROW_NUMBER).cast(pl.String)).drop(ROW_NUMBER)
        frames.append((frame, understood.names))
        notes.update(dict.fromkeys(understood.notes))
        single = single and understood.single
        folders |= {folder for folder in own if folder}
        notes.update({f"paths taken from below {above}": None} if above else {})
        names.update(dict.fromkeys(understood.names))
        unused.update(dict.fromkeys(understood.unused))
    whole = pl.concat([_with_absent(frame, [n for n in names if n not in own]) for frame, own in frames])
    merged, n_repeated = _merge(_in_one_spelling(whole), single)
    multilabel = not single and bool(((merged["labels"].list.len() != 1) | (merged["unknown"].list.len() > 0)).any())
    clauses = list(notes)
    clauses += [f"names of files in {first_few(sorted(folders))}"] if folders else []
    clauses += [f"given parts: {_words(merged['split'])}"] if merged["split"].is_not_null().any() else []
    clauses += [f"{counted(n_repeated, 'repeated row')} merged"] if n_repeated else []
    clauses += near_names(merged["labels"].explode(empty_as_null=False).drop_nulls().unique())
    clauses += _left_out(listing, merged)
    kind = "Table" if table.has_header else "List"
    form = f"{kind}{'s' if len(files) > 1 else ''} {' and '.join(_shown(file, listing.root) for file in files)}"
    columns = understood.columns if table.has_header else ()
    return Labelling(merged, multilabel, form, tuple(clauses), columns, tuple(unused))


def part_of_table(file: Path, root: Path) -> str | None:
    """The part that a table is named after, or the folder below the root in which it lies."""
    folders = _folder_of(file, root).strip("/").split("/")
    return part_of_file(file.stem) or next((part for name in folders if (part := part_of(name))), None)


def _folder_of(file: Path, root: Path) -> str:
    """The folder of a table, relative to the root, with a slash at its end; "" for the root, and outside of it."""
    inside = file.parent.is_relative_to(root) and file.parent != root
    return f"{file.parent.relative_to(root).as_posix()}/" if inside else ""


def _shown(file: Path, root: Path) -> str:
    return _folder_of(file, root) + file.name


def _in_one_spelling(frame: pl.DataFrame) -> pl.DataFrame:
    """Labels in one spelling of each name."""
    lists = pl.concat([frame[column].explode(empty_as_null=False) for column in ("labels", "unknown")])
    names = {name: spelling for name, spelling in one_spelling(lists.drop_nulls().unique()).items() if name != spelling}
    if not names:
        return frame
    renamed = pl.element().replace(list(names), list(names.values()))
    return frame.with_columns(pl.col("labels", "unknown").list.eval(renamed).list.unique(maintain_order=True))


def _with_absent(frame: pl.DataFrame, absent: list[str]) -> pl.DataFrame:
    """Labels that have a column in another table only are not known for the pictures of this one."""
    if not absent:
        return frame
    return frame.with_columns(pl.concat_list("unknown", pl.lit(absent, pl.List(pl.String))).alias("unknown"))


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
            path, rows, written = clash.select("path", "at", "values").row(0)
            other = next(i for i, value in enumerate(written) if value != written[0])
            hint = "If a picture may have several labels, call the column labels." if column == "labels" else ""
            raise DataError(
                f"{path} has the {noun} {written[0]!r} in {rows[0]} and {written[other]!r} in {rows[other]}.", hint
            )
    # A label is not known where no row knows it.
    known = repeated.select("path", "unknown").with_row_index("row")
    counts = known.explode("unknown", empty_as_null=False).group_by("path", "unknown").agg(n=pl.len())
    rows_of = repeated.group_by("path").agg(n_rows=pl.len())
    still = counts.join(rows_of, on="path").filter(pl.col("n") == pl.col("n_rows")).group_by("path").agg("unknown")
    merged = frame.group_by("path", maintain_order=True).agg(
        pl.col("labels").explode(empty_as_null=False).unique(maintain_order=True),
        pl.col("unknown").first(),
        pl.col("split", "group").drop_nulls().first(),
    )
    merged = merged.join(still, on="path", how="left", maintain_order="left", suffix="_all")
    is_repeated = pl.col("path").is_in(rows_of["path"].implode())
    nothing = pl.lit([], dtype=pl.List(pl.String))
    unknown = pl.when(is_repeated).then(pl.col("unknown_all").fill_null(nothing)).otherwise("unknown")
    merged = merged.with_columns(unknown=unknown.list.set_difference("labels")).drop("unknown_all")
    return merged, frame.height - merged.height


def _left_out(listing: Walk, merged: pl.DataFrame) -> list[str]:
    """Pictures that no table names."""
    left = listing.pictures.join(merged, on="path", how="anti")["path"]
    tops = left.str.extract(r"^([^/]*/)").fill_null("beside it").unique().sort()
    return [f"{counted(len(left), 'picture')} that it does not name left out ({first_few(tops)})"] if len(left) else []


def _words(parts: pl.Series) -> str:
    present = set(parts.drop_nulls())
    return ", ".join(part for part in ("train", "validation", "test") if part in present)
