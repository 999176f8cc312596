"""Labels from the names of folders: root/CLASS/*, nested classes, both also below train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tellapart.core.text import counted, first_few
from tellapart.data.labels.columns import part_of
from tellapart.data.labels.walk import Walk

_FOLDERS = pl.col("folders")


@dataclass(frozen=True)
class Labelling:
    """Labels by name, before classes are numbered.

    Attributes:
        table: `path`, `labels` (List(String)), `split`, `group`.
        multilabel: True where a picture may have several labels or none.
        form: the form, in words.
        notes: what was decided or left out, in words.
        columns: of a table, the names of the columns with pictures and labels.
    """

    table: pl.DataFrame
    multilabel: bool
    form: str
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def names(self) -> pl.Series:
        """All labels, one after the other."""
        return self.table["labels"].explode(empty_as_null=False)


def from_folders(listing: Walk, label_depth: int | None = None) -> Labelling:
    """Label pictures by the folders they lie in.

    Args:
        listing: the pictures.
        label_depth: a class is named by its folders joined with "/": by all of them (None), the first n (n > 0) or
            the last -n (n < 0).
    """
    table = listing.pictures.select("path", folders=pl.col("path").str.split("/"))
    table = table.with_columns(_FOLDERS.list.head(_FOLDERS.list.len() - 1))
    table, notes = _take_parts(table)
    wanted = _FOLDERS
    if label_depth is not None:
        wanted = _FOLDERS.list.head(label_depth) if label_depth > 0 else _FOLDERS.list.tail(-label_depth)
    name = wanted.list.join("/")
    labels = pl.when(name == "").then(pl.lit([], dtype=pl.List(pl.String))).otherwise(pl.concat_list(name))
    named = table.select("path", "folders", "split", labels=labels, group=pl.lit(None, dtype=pl.String))
    n_classes, n_folders = named["labels"].n_unique(), named["folders"].n_unique()
    depth = int(named["folders"].list.len().max() or 0)  # type: ignore[arg-type]
    n_loose = int((named["labels"].list.len() == 0).sum())
    form = "Pictures without labels"
    if depth == 1:
        form = "One folder a class"
    elif depth > 1 and label_depth is None:
        form = "Nested folders, a class named by its whole path (label_depth shortens it)"
    elif depth > 1:
        which = "first" if (label_depth or 0) > 0 else "last"
        n_levels = abs(label_depth or 0)
        form = f"Nested folders, a class named by the {which} {'level' if n_levels == 1 else f'{n_levels} levels'}"
        if n_folders > n_classes:
            notes.insert(0, f"in {n_folders:,} folders")
    if depth and n_loose:
        notes.append(f"{counted(n_loose, 'picture')} in no class folder without a label")
    return Labelling(named.drop("folders"), multilabel=False, form=form, notes=tuple(notes))


def _take_parts(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Turn a first level of folders named train, validation, test into the column `split`."""
    table = table.with_columns(top=_FOLDERS.list.first())
    tops = table["top"].drop_nulls().unique().sort().to_list()
    parts = {top: part for top in tops if (part := part_of(top))}
    if not parts or (len(parts) < len(tops) and not {"train"} < set(parts.values())):
        return table.with_columns(split=pl.lit(None, dtype=pl.String)), []
    below = table.with_columns(
        _FOLDERS.list.slice(1),
        split=pl.col("top").replace_strict(list(parts), list(parts.values()), default=None, return_dtype=pl.String),
    )
    in_parts = below.filter(pl.col("split").is_not_null())
    notes = []
    if len(set(parts.values())) == 1:
        in_parts = in_parts.with_columns(split=pl.lit(None, dtype=pl.String))
        notes.append(f"all of it in {tops[0]}/")
    else:
        in_parts, bare = _without_bare_parts(in_parts)
        notes.append(f"given parts: {', '.join(f'{top}/' for top in sorted(parts) if top not in bare)}")
        notes += [f"{top}/ without class folders left out ({counted(n, 'picture')})" for top, n in bare.items()]
    left = below.filter(pl.col("split").is_null())["top"].fill_null("no folder").value_counts(name="n").sort("top")
    notes += [f"{counted(n, 'picture')} in {top} left out" for top, n in left.iter_rows()]
    return in_parts, notes


def _without_bare_parts(table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Leave out parts whose pictures are in no class folder, where another part has class folders."""
    counts = table.group_by("top").agg(n=pl.len(), deepest=_FOLDERS.list.len().max())
    bare = counts.filter(pl.col("deepest") == 0).sort("top")
    if bare.height == counts.height:
        return table, {}
    return table.filter(~pl.col("top").is_in(bare["top"].implode())), dict(bare.select("top", "n").iter_rows())


def describe_leftovers(listing: Walk) -> list[str]:
    """Notes on what else lies below the root and was not taken."""
    notes = []
    if listing.empty_folders:
        notes.append(f"without pictures: {first_few(f'{folder}/' for folder in listing.empty_folders)}")
    if listing.others:
        kinds = first_few(suffix or "no suffix" for suffix, _ in listing.others.most_common())
        notes.append(f"{counted(listing.others.total(), 'other file')} ({kinds})")
    if listing.runs:
        notes.append(f"trainings passed over: {first_few(f'{folder}/' for folder in listing.runs)}")
    if listing.outside:
        notes.append(f"links that lead out of the folder and were not followed: {first_few(listing.outside)}")
    return notes
