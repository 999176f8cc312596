"""The split: which pictures are for training, validation and test of one catalog."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.core.files import write_text
from tellapart.core.notebook import html_table
from tellapart.core.plain_json import parse_json
from tellapart.core.text import counted, first_few
from tellapart.data.catalog import PARTS, UNKNOWN, Catalog
from tellapart.data.splitting.stratify import Ties, divide, tie
from tellapart.errors import RunError, SplitError, UsageError

Rows = npt.NDArray[np.int64]
_VERSION = 1
#: What each part is for, in words.
PURPOSES = {"train": "training", "validation": "validation", "test": "the test"}
VALIDATION_IS_TEST = (
    "Training as the data have it; their validation part is the test, so that no score is of pictures that chose the "
    "model."
)


@dataclass(frozen=True)
class Split:
    """A split of a catalog, by row numbers.

    Attributes:
        train, validation, test: int64, ascending, disjoint. Rows in none of them are unreadable or, with one label
            a picture, unlabelled. The test part may be empty.
        digest: of the catalog.
        seed: of the drawing.
        description: in sentences: methods, parts of the data themselves, leaks between parts, rows left out.
    """

    train: Rows
    validation: Rows
    test: Rows
    digest: str
    seed: int
    description: str

    def _repr_html_(self) -> str:
        """What a notebook shows: the size of each part, and how the pictures were divided."""
        parts = [("training", self.train), ("validation", self.validation), ("test", self.test)]
        rows = [(name, f"{len(part):,}") for name, part in parts]
        return html_table("Split", ["part", "pictures"], rows, [self.description])

    def check(self, catalog: Catalog, old: Catalog | None = None) -> None:
        """Refuse a catalog that this split was not made from.

        Args:
            catalog: the pictures as they are now.
            old: the catalog the split was made from, if it is at hand, to say what has changed.

        Raises:
            RunError: with what changed.
        """
        if catalog.digest == self.digest:
            return
        change = f": {explain_change(old, catalog)}" if old is not None else "."
        raise RunError(
            f"The pictures have changed since they were divided into training, validation and test{change}",
            "Put them back as they were, or divide them anew and start another run.",
        )

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        values = {
            "version": _VERSION,
            "digest": self.digest,
            "seed": self.seed,
            "how": self.description,
            **{part: getattr(self, part).tolist() for part in ("train", "validation", "test")},
        }
        write_text(path, json.dumps(values) + "\n")

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read what `save` wrote.

        Raises:
            RunError: the file is missing, damaged, or of another version.
        """
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
            if values["version"] != _VERSION:
                raise ValueError(f"version {values['version']} instead of {_VERSION}")
            parts = [np.asarray(values[part], np.int64) for part in ("train", "validation", "test")]
            rows = np.concatenate(parts)
            if any(part.ndim != 1 for part in parts) or len(np.unique(rows)) != len(rows):
                raise ValueError("a row stands in it twice")
            return cls(parts[0], parts[1], parts[2], str(values["digest"]), int(values["seed"]), str(values["how"]))
        except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"{path} cannot be read as a division of pictures: {error}") from error


def split(catalog: Catalog, *, validation: float = 0.15, test: float = 0.15, seed: int = 0) -> Split:
    """Divide pictures into training, validation and test, each with its share of every class.

    Pictures of one group, and exact copies of a picture (the same SHA-256), always land on the same side. Unreadable
    pictures, and with one label a picture unlabelled ones, are in no part.

    Parts that the data bring along stay as they are. Missing ones are drawn from the training part:

    - train, validation and test: nothing is drawn.
    - train and test: validation pictures are drawn.
    - train and validation: the validation part becomes the test, and new validation pictures are drawn. A score on
      pictures that chose the model (its best epoch, its thresholds) would not be honest; on the data's own part it
      compares with what others report. With test=0 the validation part stays what it is.

    Pictures without a part, where others have one, count as training ones.

    Args:
        catalog: the pictures.
        validation: share for validation, above 0 and below 1, of the pictures that are divided; or their number, at
            least 2.
        test: the same for the test; 0 for none.
        seed: the same seed and catalog give the same division.

    Raises:
        SplitError: no labels, one class only, or a class too small to be on every side, with the numbers.
        UsageError: shares or numbers that make no sense.
    """
    shares = [amount for amount in (validation, test) if amount < 1]
    if validation <= 0 or not (is_amount(validation) and is_amount(test)) or sum(shares) >= 1:
        raise UsageError(
            f"Validation {validation:g}, test {test:g}: these are no shares, or they leave nothing to train on.",
            "Shares lie between 0 and 1, validation above 0, and together they stay below 1; "
            "or give numbers of pictures, from 2.",
        )
    rows = usable(catalog)
    notes = left_out(catalog, rows)
    own_parts = catalog.table["split"].gather(rows)
    if own_parts.is_not_null().any():
        parts, more = _complete(catalog, rows, own_parts.fill_null("train"), validation, test, seed)
    else:
        parts, more = draw(catalog, rows, {"test": test, "validation": validation}, seed)
    description = " ".join([*more, *leaks(catalog, parts), *notes])
    train, held, tested = (np.sort(parts[part]) for part in PARTS)
    return Split(train, held, tested, catalog.digest, seed, description)


def is_amount(value: float) -> bool:
    """Whether a value is a share of the pictures, in [0, 1), or a number of them, at least 2."""
    return 0 <= value < 1 or (value >= 2 and value == int(value))


def usable(catalog: Catalog) -> Rows:
    """Rows that can be divided: readable and, with one label a picture, labelled.

    Raises:
        SplitError: no labels, or one class only.
    """
    if not catalog.classes:
        raise SplitError(
            f"None of the {len(catalog):,} pictures has a label. {catalog.layout}",
            "Put each class into a folder of its own, or add a table with the columns file_name and label.",
        )
    if len(catalog.classes) == 1 and not catalog.multilabel:
        raise SplitError(
            f"All pictures are of one class, {catalog.classes[0]!r}: there is nothing to tell apart. {catalog.layout}",
            "Add pictures of another class.",
        )
    return np.intersect1d(catalog.readable, catalog.labelled)


def left_out(catalog: Catalog, rows: Rows) -> list[str]:
    """Sentences on the rows that are not usable, and why."""
    n_unreadable = len(catalog) - len(catalog.readable)
    n_unlabelled = len(catalog.readable) - len(rows)
    notes = [f"Left out: {n_unreadable:,} unreadable."] if n_unreadable else []
    notes += [f"Left out: {n_unlabelled:,} without a label."] if n_unlabelled else []
    unknown = catalog.unknown(rows)
    if unknown is not None:
        cells, pictures = counted(int(unknown.sum()), "label"), counted(int(unknown.any(axis=1).sum()), "picture")
        notes.append(f"Not known, and left out of losses and scores: {cells} of {pictures}.")
    return notes


def ties_of(catalog: Catalog, rows: Rows) -> Ties:
    """The ties among rows: exact copies, and pictures of one group, must stay on one side."""
    table = catalog.table.select("sha256", "group")[rows]
    copies = table["sha256"].rank("dense").cast(pl.Int64).to_numpy()
    groups = None
    if table["group"].is_not_null().any():
        groups = table["group"].rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    return Ties(tie(copies, groups), catalog.target(rows), catalog.classes, groups is not None)


def draw(
    catalog: Catalog, rows: Rows, amounts: dict[str, float], seed: int, may_lack: bool = False
) -> tuple[dict[str, Rows], list[str]]:
    """Divide rows into training and the named parts, by shares or numbers of pictures.

    Returns:
        The rows by part, and sentences on the methods.

    Raises:
        SplitError: too few pictures for these numbers, or of a class.
    """
    amounts = {part: amount for part, amount in amounts.items() if amount > 0}
    numbers = {part: int(amount) for part, amount in amounts.items() if amount >= 1}
    shares = {part: amount / len(rows) if part in numbers else amount for part, amount in amounts.items()}
    if sum(shares.values()) >= 1:
        wanted = " and ".join(f"{n:,} for {PURPOSES[part]}" for part, n in numbers.items())
        raise SplitError(
            f"There are {len(rows):,} pictures to divide: {wanted} leave none to train on.",
            "Ask for fewer, or for shares, such as --set data.test=0.15.",
        )
    ties = ties_of(catalog, rows)
    drawn = divide(ties, shares, seed, may_lack, numbers)
    parts = {part: rows[drawn.get(part, np.empty(0, np.int64))] for part in PARTS}
    n_copies = len(rows) - catalog.table["sha256"].gather(rows).n_unique()
    by = "labels" if catalog.multilabel else "class"
    notes = [f"{_named(list(shares))} drawn by {by}{', groups kept on one side' if ties.by_group else ''}."]
    missed = [
        f"{len(parts[part]):,} instead of {n:,} for {PURPOSES[part]}"
        for part, n in numbers.items()
        if len(parts[part]) != n
    ]
    if missed:
        notes.append(f"So that classes, copies and groups lie as they must, there are {' and '.join(missed)}.")
    return parts, notes + ([f"Exact copies kept on one side with what they copy: {n_copies:,}."] if n_copies else [])


def _complete(
    catalog: Catalog, rows: Rows, own_parts: pl.Series, validation: float, test: float, seed: int
) -> tuple[dict[str, Rows], list[str]]:
    """Take the parts that the data bring along, and draw missing ones from the training part."""
    parts = {part: rows[(own_parts == part).to_numpy()] for part in PARTS}
    brought = [part for part in PARTS if len(parts[part])]
    if "train" not in brought:
        raise SplitError(
            f"None of the pictures is for training: the data's own parts are {' and '.join(brought)}.",
            "Scan the folder above, or a folder or table without parts.",
        )
    notes = [f"{_named(brought)} as the data have them."]
    if brought == ["train", "validation"] and test > 0:
        parts["test"], parts["validation"] = parts["validation"], parts["test"]
        notes = [VALIDATION_IS_TEST]
    wanted = {"test": test, "validation": validation}
    missing = {part: share for part, share in wanted.items() if share > 0 and not len(parts[part])}
    if missing:
        drawn, more = draw(catalog, parts["train"], missing, seed, may_lack=True)
        parts = {part: drawn[part] if part in ("train", *missing) else parts[part] for part in PARTS}
        notes += more
    absent = sorted(set(range(len(catalog.classes))) - set(labels_of(catalog, parts["train"])))
    names = first_few(catalog.classes[i] for i in absent)
    return parts, notes + ([f"Without a picture for training: {names}."] if absent else [])


def labels_of(catalog: Catalog, rows: Rows) -> list[int]:
    """The numbers of the classes that occur among rows."""
    return catalog.table["labels"].gather(rows).explode(empty_as_null=False).unique().to_list()


def leaks(catalog: Catalog, parts: dict[str, Rows]) -> list[str]:
    """Sentences on leaks: exact copies and groups that stand in two parts."""
    rows = np.concatenate([parts[part] for part in PARTS])
    side = pl.Series("side", np.repeat(PARTS, [len(parts[part]) for part in PARTS]))
    table = catalog.table.select("sha256", "group")[rows].with_columns(side)
    notes = []
    for column, verbs in (
        ("sha256", ("is an exact copy of", "are exact copies of")),
        ("group", ("is of a group with", "are of a group with")),
    ):
        for first, part in (("train", "validation"), ("train", "test"), ("validation", "test")):
            known = table.filter(side == first)[column].drop_nulls().unique()
            n = table.filter((side == part) & pl.col(column).is_in(known.implode())).height
            if n:
                pictures = f"{PURPOSES[first]} pictures"
                notes.append(f"Leak: {counted(n, 'picture')} for {PURPOSES[part]} {verbs[n > 1]} {pictures}.")
    return notes


def _named(parts: list[str]) -> str:
    words = [PURPOSES[part] for part in PARTS if part in parts]
    text = " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return text[0].upper() + text[1:]


def explain_change(old: Catalog, new: Catalog) -> str:
    """The differences between two catalogs of one folder, in a sentence with the first few names."""
    before, after = _comparable(old), _comparable(new)
    added = after.join(before, on="path", how="anti")["path"]
    removed = before.join(after, on="path", how="anti")["path"]
    both = before.join(after, on="path", suffix="_new").sort("path")
    changes = [(added, "added"), (removed, "removed")]
    for column, change in _CHANGES.items():
        changed = both.filter(~pl.col(column).eq_missing(pl.col(f"{column}_new")))
        changes.append((changed["path"], change))
    clauses = [f"{len(paths):,} {change} ({first_few(paths.sort())})" for paths, change in changes if len(paths)]
    if old.multilabel != new.multilabel:
        clauses.append(f"pictures now have {'any number of labels' if new.multilabel else 'one label each'}")
    if old.classes != new.classes:
        gone, come = set(old.classes) - set(new.classes), set(new.classes) - set(old.classes)
        clauses += [f"classes gone: {first_few(sorted(gone))}"] if gone else []
        clauses += [f"new classes: {first_few(sorted(come))}"] if come else []
        clauses += [] if gone or come else ["classes in another order"]
    return "; ".join(clauses) + "." if clauses else "nothing has changed."


_CHANGES = {
    "sha256": "with other content",
    "names": "with other labels",
    "unknown": "with other unknown labels",
    "split": "in another given part",
    "group": "in another group",
    "readable": "readable before and not now, or the other way round",
}


def _comparable(catalog: Catalog) -> pl.DataFrame:
    names = pl.element().replace_strict(range(len(catalog.classes)), catalog.classes, return_dtype=pl.String)
    unknown = pl.col(UNKNOWN) if UNKNOWN in catalog.table.columns else pl.lit([], dtype=pl.List(pl.UInt32))
    return catalog.table.select(
        "path",
        "sha256",
        "split",
        "group",
        names=pl.col("labels").list.eval(names).list.sort(),
        unknown=unknown.list.eval(names).list.sort(),
        readable=pl.col("problem").is_null(),
    )
