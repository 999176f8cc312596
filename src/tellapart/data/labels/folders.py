"""Labels from the names of folders: root/CLASS/*, nested classes, both also below train, validation and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from tellapart.core.text import counted, first_few
from tellapart.core.unicode_names import one_spelling
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.data.labels.parts import part_of, parts_in
from tellapart.data.labels.walk import Walk

_FOLDERS = pl.col("folders")


@dataclass(frozen=True)
class Labelling:
    """Labels by name, before classes are numbered.

    Attributes:
        table: `path`, `labels` and `unknown` (List(String)), `split`, `group`.
        multilabel: True where a picture may have several labels or none.
        form: the form, in words.
        notes: what was decided or left out, in words.
        columns: of a table, the names of the columns with pictures and labels.
        unused: of a table, the names of the columns that were not used.
    """

    table: pl.DataFrame
    multilabel: bool
    form: str
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def names(self) -> pl.Series:
        """All labels, one after the other."""
        return self.table["labels"].explode(empty_as_null=False)


def from_folders(listing: Walk, label_depth: int | None = None) -> Labelling:
    """Label pictures by the folders they lie in.

    Folders that hold everything are wrappers and dropped. Folders named train, validation and test are parts, at any
    one level, above the class or below it.

    Args:
        listing: the pictures.
        label_depth: a class is named by its folders joined with "/": by all of them (None), the first n (n > 0) or
            the last -n (n < 0).
    """
    table = listing.pictures.select("path", folders=pl.col("path").str.split("/"))
    table = table.with_columns(_FOLDERS.list.head(_FOLDERS.list.len() - 1))
    table, wrappers = _without_wrappers(table)
    table, notes = _take_parts(table)
    table, inner = _without_wrappers(table)
    if wrappers or inner:
        notes.append(f"not part of the class: {', '.join(f'{name}/' for name in (*wrappers, *inner))}")
    wanted = _FOLDERS
    if label_depth is not None:
        wanted = _FOLDERS.list.head(label_depth) if label_depth > 0 else _FOLDERS.list.tail(-label_depth)
    table, more = _in_one_spelling(table.with_columns(name=wanted.list.join("/")))
    name = pl.col("name")
    labels = pl.when(name == "").then(pl.lit([], dtype=pl.List(pl.String))).otherwise(pl.concat_list(name))
    nothing = pl.lit([], dtype=pl.List(pl.String))
    named = table.select(
        "path", "folders", "split", labels=labels, unknown=nothing, group=pl.lit(None, dtype=pl.String)
    )
    form, n_loose = _form(named, label_depth, notes)
    if named["folders"].list.len().max() and n_loose:
        notes.append(f"{counted(n_loose, 'picture')} in no class folder without a label")
    return Labelling(named.drop("folders"), multilabel=False, form=form, notes=(*notes, *more))


def _form(named: pl.DataFrame, label_depth: int | None, notes: list[str]) -> tuple[str, int]:
    """The form in words, and the number of pictures without a label; a note on the number of folders is put first."""
    n_classes, n_folders = named["labels"].n_unique(), named["folders"].n_unique()
    depth = int(named["folders"].list.len().max() or 0)  # type: ignore[arg-type]
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
    return form, int((named["labels"].list.len() == 0).sum())


def _in_one_spelling(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Each class name in one spelling, and notes on names that are two spellings of one, or nearly."""
    names = one_spelling(table["name"].unique())
    table = table.with_columns(pl.col("name").replace(list(names), list(names.values())))
    spellings = Counter(names.values())
    twice = sorted(name for name, n in spellings.items() if n > 1)
    notes = [f"spelled in two ways and taken as one class: {first_few(twice)}"] if twice else []
    notes += near_names(spellings)
    inside = sorted(name for name in spellings if "/" in name and any(map(part_of, name.split("/"))))
    notes += [f"class names that hold the name of a part: {first_few(inside)}"] if inside else []
    return table, notes


def near_names(names: Iterable[str]) -> list[str]:
    """Notes on names of classes that differ by case or blanks only, and on those that are one number (1 and 01)."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    near = [" and ".join(group) for group in alike.values() if len(group) > 1]
    notes = [f"classes that differ by case or blanks only: {first_few(near)}"] if near else []
    numbers: dict[int, list[str]] = {}
    for name in filter(str.isdecimal, sorted(names)):
        numbers.setdefault(int(name), []).append(name)
    padded = [" and ".join(group) for group in numbers.values() if len(group) > 1]
    return [*notes, *([f"classes that are one number, taken as two: {first_few(padded)}"] if padded else [])]


def _without_wrappers(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Drop first levels that hold one folder alone, as long as each picture of it lies in a further folder."""
    dropped: list[str] = []
    while True:
        inside = table.filter(_FOLDERS.list.len() > 0)["folders"]
        if not len(inside) or int(inside.list.len().min() or 0) < 2:  # type: ignore[arg-type]
            return table, dropped
        names = inside.list.first().unique()
        if len(names) > 1 or part_of(names[0]) is not None:
            return table, dropped
        dropped.append(names[0])
        table = table.with_columns(_FOLDERS.list.slice(1))


def _take_parts(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Turn the first level with folders named train, validation, test into the column `split`."""
    depth = int(table["folders"].list.len().max() or 0)  # type: ignore[arg-type]
    for level in range(depth):
        names = table["folders"].list.get(level, null_on_oob=True).drop_nulls().unique().sort().to_list()
        parts = parts_in(names)
        several = {"train"} < set(parts.values())
        if not parts or not (several or len(parts) == len(names)):
            continue
        # Deeper down a train may be a class, such as vehicle/train: all have to be parts there.
        reaches_all = bool((table["folders"].list.len() > level).all())
        if level == 0 or (len(parts) == len(names) and (several or reaches_all)):
            return _split_at_level(table, level, parts)
    return table.with_columns(split=pl.lit(None, dtype=pl.String)), []


def _split_at_level(table: pl.DataFrame, level: int, parts: dict[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """Take the folders of one level for parts, and leave out pictures in no part."""
    table = table.with_columns(top=_FOLDERS.list.get(level, null_on_oob=True))
    part = pl.col("top").replace_strict(list(parts), list(parts.values()), default=None, return_dtype=pl.String)
    above, below = _FOLDERS.list.head(level), _FOLDERS.list.slice(level + 1)
    below_all = table.with_columns(split=part, folders=pl.concat_list(above, below))
    in_parts = _without_repeated_parts(below_all.filter(pl.col("split").is_not_null()), level)
    notes = []
    if len(set(parts.values())) == 1:
        in_parts = in_parts.with_columns(split=pl.lit(None, dtype=pl.String))
        notes.append(f"all of it in {next(iter(parts))}/")
    else:
        in_parts, bare = _without_bare_parts(in_parts)
        folders_above = table.filter(part.is_not_null()).select(above).to_series()
        where = " in each class folder" if folders_above.n_unique() > 1 else ""
        notes.append(f"given parts: {', '.join(f'{top}/' for top in sorted(parts) if top not in bare)}{where}")
        notes += [f"{top}/ without class folders left out ({counted(n, 'picture')})" for top, n in bare.items()]
    left = below_all.filter(pl.col("split").is_null())["top"].fill_null("no folder").value_counts(name="n").sort("top")
    if level:
        left = left.with_columns(top=pl.when(pl.col("top") == "no folder").then(pl.lit("no part")).otherwise("top"))
    notes += [f"{counted(n, 'picture')} in {top} left out" for top, n in left.iter_rows()]
    return in_parts, notes


def _without_repeated_parts(table: pl.DataFrame, level: int) -> pl.DataFrame:
    """Drop a level that repeats the part for all its pictures, as in train/train/cat and seg_train/seg_train/cat."""
    after = _FOLDERS.list.get(level, null_on_oob=True)
    while table.height:
        names = table.select("split", "top", after=after).unique()
        if not all(name and (part_of(name) == part or name == top) for part, top, name in names.iter_rows()):
            break
        table = table.with_columns(folders=pl.concat_list(_FOLDERS.list.head(level), _FOLDERS.list.slice(level + 1)))
    return table


def _without_bare_parts(table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Leave out parts whose pictures are in no class folder, where another part has class folders."""
    counts = table.group_by("top").agg(n=pl.len(), deepest=_FOLDERS.list.len().max())
    bare = counts.filter(pl.col("deepest") == 0).sort("top")
    if bare.height == counts.height:
        return table, {}
    return table.filter(~pl.col("top").is_in(bare["top"].implode())), dict(bare.select("top", "n").iter_rows())


def describe_leftovers(listing: Walk, used: Collection[str]) -> list[str]:
    """Notes on what else lies below the root and was not taken.

    Args:
        listing: of the root.
        used: names of files, relative to the root, that were taken or are spoken of already.
    """
    notes = []
    if listing.empty_folders:
        notes.append(f"without pictures: {first_few(f'{folder}/' for folder in listing.empty_folders)}")
    beside = [name for name in listing.files if name not in used and not name.lower().endswith(tuple(EXTENSIONS))]
    if beside:
        notes.append(f"{counted(len(beside), 'other file')} beside the folders: {first_few(beside, 5)}")
    others = listing.others - Counter(PurePosixPath(name).suffix.lower() for name in used if "/" in name)
    if others:
        kinds = first_few(suffix or "no suffix" for suffix, _ in others.most_common())
        notes.append(f"{counted(others.total(), 'other file')} ({kinds})")
    if listing.runs:
        notes.append(f"trainings passed over: {first_few(f'{folder}/' for folder in listing.runs)}")
    if listing.outside:
        outside = first_few(listing.outside)
        notes.append(f"links that lead out of the folder and were not followed (--follow-links does): {outside}")
    return notes
