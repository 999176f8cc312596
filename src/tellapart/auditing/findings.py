"""The findings of an audit, and their kinds. They change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.auditing.groups import with_groups
from tellapart.core.notebook import html_table
from tellapart.core.suggest import suggest
from tellapart.core.text import counted
from tellapart.data.catalog import Catalog
from tellapart.errors import UsageError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its severity, its title and its meaning.

    A kind that is no `fault` in itself fails `--fail-on` only by its own name.
    """

    severity: Severity
    title: str
    meaning: str
    fault: bool = True


#: All kinds, the worst first. Those on pairs come with a second picture.
KINDS: dict[str, Kind] = {
    "leak": Kind(
        "error",
        "The same picture on two sides of the split",
        "A score on pictures that were trained on means nothing. The one on the side of training is named first.",
    ),
    "near-leak": Kind(
        "error",
        "Nearly the same picture on two sides of the split",
        "Resized, re-compressed, cropped, brightened or mirrored copies that stand on both sides.",
    ),
    "scene-leak": Kind(
        "warning",
        "One scene on two sides of the split",
        "Photographs of the same thing, taken moments apart, on both sides: a score on them is flattered.",
    ),
    "contradiction": Kind(
        "error",
        "The same picture with different labels",
        "Exact copies that are labelled differently: one label must be wrong, or several belong to the picture.",
    ),
    "near-contradiction": Kind(
        "error",
        "Nearly the same picture with different labels",
        "Altered copies that are labelled differently: one label must be wrong, or several belong to the picture.",
    ),
    "unreadable": Kind("warning", "Unreadable", "Files that cannot be decoded; they take no part in anything later."),
    "placeholder": Kind(
        "warning",
        "Placeholders",
        "One plain picture many times, as where a server answered that there is no picture.",
    ),
    "blank": Kind("warning", "Blank", "All of one colour, or nearly."),
    "dark": Kind("warning", "Dark", "Even the brightest parts are nearly black."),
    "blurred": Kind("warning", "Blurred", "No fine detail is left: out of focus, shaken, or enlarged from little."),
    "tiny": Kind("warning", "Tiny", "Far fewer pixels than the other pictures have."),
    "shortcut": Kind(
        "warning",
        "Shortcuts",
        "Something that is not in the picture's content tells the class. A network may learn that instead.",
    ),
    "alike-names": Kind(
        "warning", "Class names that are alike", "They differ in upper and lower case, blanks or dashes only."
    ),
    "small-class": Kind("warning", "Small classes", "Too few pictures to learn from and to judge by."),
    "imbalance": Kind("note", "Unequal classes", "The largest class has many times the pictures of the smallest."),
    "unlabelled": Kind("note", "Without a label", "Pictures that have no label."),
    "no-labels": Kind(
        "note",
        "With none of the labels",
        "Of several labels they have none: pictures of something else, or their labels were forgotten.",
        fault=False,
    ),
    "duplicate": Kind("note", "Exact copies", "The same file again, with the same label on the same side."),
    "near-duplicate": Kind(
        "note", "Near duplicates", "Altered copies of a picture, with the same label on the same side."
    ),
    "scene": Kind(
        "note",
        "One scene",
        "Photographs of the same thing, taken moments apart. `--group-duplicates` keeps them on one side of the split.",
        fault=False,
    ),
    "wrong-extension": Kind("note", "Wrong extension", "The file is of another kind than its name says."),
    "animated": Kind("note", "Several frames", "Animated or of several pages: the first one alone is used."),
    "rotated": Kind(
        "note", "Rotated by EXIF", "Stored lying; turned upright here. Programs that ignore EXIF see it lying."
    ),
    "greyscale": Kind("note", "Grey among coloured", "Pictures without colour in a set of coloured ones."),
    "odd-size": Kind("note", "Odd sizes", "Of another size than nearly all others, or far larger or smaller."),
    "odd-shape": Kind("note", "Odd shapes", "Far wider or taller than the others."),
}
#: Kinds whose findings are about the whole set, and name no picture.
OF_ALL = ("shortcut", "alike-names", "small-class", "imbalance")
#: Kinds whose findings are pairs of pictures.
PAIRS = (
    "leak",
    "near-leak",
    "contradiction",
    "near-contradiction",
    "duplicate",
    "near-duplicate",
    "scene-leak",
    "scene",
)


@dataclass(frozen=True)
class Finding:
    """One finding of an audit.

    Attributes:
        kind: a key of `KINDS`.
        detail: one plain sentence or a few words.
        row: of the catalog; None where it is not about one picture.
        other: the row of the second picture of a pair.
        score: 0 to 1, where there is a measure of it: how alike two pictures are, how strong a shortcut is.
        severity: by default that of the kind.
    """

    kind: str
    detail: str
    row: int | None = None
    other: int | None = None
    score: float | None = None
    severity: Severity | None = None

    @property
    def weight(self) -> Severity:
        return self.severity or KINDS[self.kind].severity


@dataclass(frozen=True)
class Audit:
    """The findings of an audit.

    Attributes:
        catalog: the pictures.
        all_findings: the worst kinds first.
        facts: plain values on the set as a whole, see `audit.size_facts` and `labels.label_facts`.
        notes: what the audit left out, and why.
        groups: int64 [n], equal numbers for copies, near duplicates and pictures of one scene.
    """

    catalog: Catalog
    all_findings: tuple[Finding, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    groups: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def _repr_html_(self) -> str:
        """What a notebook shows: how many findings there are of each kind, the worst first."""
        counts = Counter((finding.severity, finding.kind) for finding in self.all_findings)
        rows = [(severity or "", kind, f"{n:,}") for (severity, kind), n in counts.items()]
        title = f"{counted(len(self.all_findings), 'finding')} in {counted(len(self.catalog), 'picture')}"
        return html_table(title, ["severity", "kind", "findings"], rows, self.notes)

    @cached_property
    def findings(self) -> pl.DataFrame:
        """One row a finding: kind, severity, detail, row, path, labels, other, other_path, other_labels, score."""
        table = self.catalog.table
        rows = [finding.row for finding in self.all_findings]
        others = [finding.other for finding in self.all_findings]

        def paths(numbers: Sequence[int | None]) -> list[str | None]:
            return [None if number is None else str(table["path"][number]) for number in numbers]

        def labels(numbers: Sequence[int | None]) -> list[str | None]:
            return [None if number is None else self.named(number) for number in numbers]

        schema: dict[str, Any] = {"kind": pl.String, "severity": pl.String, "detail": pl.String, "row": pl.Int64}
        schema |= {"path": pl.String, "labels": pl.String, "other": pl.Int64, "other_path": pl.String}
        schema |= {"other_labels": pl.String, "score": pl.Float64}
        columns = {
            "kind": [finding.kind for finding in self.all_findings],
            "severity": [finding.weight for finding in self.all_findings],
            "detail": [finding.detail for finding in self.all_findings],
            "row": rows,
            "path": paths(rows),
            "labels": labels(rows),
            "other": others,
            "other_path": paths(others),
            "other_labels": labels(others),
            "score": [finding.score for finding in self.all_findings],
        }
        return pl.DataFrame(columns, schema=schema)

    def named(self, row: int) -> str:
        """The labels of a picture by name, joined with "; "."""
        return "; ".join(self.catalog.classes[i] for i in self.catalog.table["labels"][row])

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind."""
        return [finding for finding in self.all_findings if finding.kind == kind]

    def rows(self, kinds: Iterable[str]) -> npt.NDArray[np.int64]:
        """Row numbers that findings of these kinds name, ascending. Of a pair of copies one is kept.

        Raises:
            UsageError: there is no such kind, or its findings name no picture.
        """
        wanted = check_kinds(kinds)
        if nameless := sorted(wanted & set(OF_ALL)):
            raise UsageError(
                f"Findings of the kind {nameless[0]} are about the whole set: there is no picture to leave out."
            )
        rows = {f.row for f in self.all_findings if f.kind in wanted and f.row is not None}
        both = {
            f.other for f in self.all_findings if f.kind in wanted and "contradiction" in f.kind and f.other is not None
        }
        return np.array(sorted(rows | both), np.int64)

    def exclude(self, kinds: Iterable[str]) -> Catalog:
        """The catalog without the pictures that findings of these kinds name. No file is touched.

        Of exact copies and near duplicates the best one stays; of a leak the held-out one; of a contradiction none.

        Raises:
            UsageError: there is no such kind.
        """
        return self.catalog.without(self.rows(kinds))

    def grouped(self) -> Catalog:
        """The catalog with copies, near duplicates and scenes tied into groups, which a split keeps on one side."""
        return with_groups(self.catalog, self.groups)

    def failing(self, wanted: Collection[str]) -> list[Finding]:
        """The findings of these kinds, or of at least these severities; of what is no fault, by its kind alone."""
        least = max((SEVERITIES.index(s) for s in SEVERITIES if s in wanted), default=-1)
        return [
            f
            for f in self.all_findings
            if f.kind in wanted or (KINDS[f.kind].fault and SEVERITIES.index(f.weight) <= least)
        ]


def check_kinds(kinds: Iterable[str], also: Sequence[str] = ()) -> set[str]:
    """Kinds as a set.

    Args:
        kinds: names of kinds.
        also: other names that are allowed.

    Raises:
        UsageError: there is no such kind.
    """
    wanted = set([kinds] if isinstance(kinds, str) else kinds)
    unknown = sorted(wanted - set(KINDS) - set(also))
    if unknown:
        raise UsageError(f"There is no kind of finding called {unknown[0]!r}.", suggest(unknown[0], [*also, *KINDS]))
    return wanted
