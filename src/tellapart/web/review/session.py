"""A review session: pictures in the order they are asked, classes to choose from, the log of decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.data.corrections import Correction, CorrectionLog, labels_of, standing, to_cell
from tellapart.errors import DataError
from tellapart.report.formatting import certainty, visible


@dataclass(frozen=True)
class Item:
    """One picture of a review.

    Attributes:
        row: in the catalog. file: its path below the root. sha256: of its content, in hex.
        labels: its labels. suggested: the labels that the model suggests.
        chance: the model's probability of its suggestion; None where it suggests nothing.
        reason: why it is asked, in a sentence.
        near: rows of the most similar pictures, with their labels.
    """

    row: int
    file: str
    sha256: str
    labels: tuple[str, ...]
    suggested: tuple[str, ...]
    chance: float | None
    reason: str
    near: Sequence[tuple[int, tuple[str, ...]]] = ()


@dataclass(frozen=True)
class Session:
    """A review.

    Attributes:
        title: heading of the page. order: the order in which pictures are asked, in a sentence.
        items: the pictures. classes: names to choose from. multilabel: whether a picture may have several.
        path: row → the picture's file.
        log: file of the decisions. by: name of whoever decides.
        after: the command to run when all is decided. changed: paragraphs on the effect of earlier corrections.
        report: the page of the run whose pictures these are; None where there is no run.
    """

    title: str
    order: str
    items: Sequence[Item]
    classes: Sequence[str]
    multilabel: bool
    path: Callable[[int], Path]
    log: CorrectionLog
    by: str
    after: str = ""
    changed: Sequence[str] = ()
    report: Path | None = None

    @property
    def shown_rows(self) -> frozenset[int]:
        """Rows whose pictures the page may ask for."""
        return frozenset(row for item in self.items for row in (item.row, *(row for row, _ in item.near)))

    def about(self) -> dict[str, Any]:
        """Data that the page loads once, as plain values."""
        return {
            "title": visible(self.title),
            "order": self.order,
            "classes": list(self.classes),
            "multilabel": self.multilabel,
            "after": self.after,
            "changed": list(self.changed),
            "report": self.report is not None and self.report.is_file(),
            "log": str(self.log.path),
            "items": [
                {
                    "row": item.row,
                    "file": visible(item.file),
                    "labels": item.labels,
                    "suggested": item.suggested,
                    "chance": None if item.chance is None else certainty(item.chance),
                    "reason": item.reason,
                    "near": [{"row": row, "labels": labels} for row, labels in item.near],
                }
                for item in self.items
            ],
        }

    def state(self) -> dict[str, Any]:
        """The valid decisions by number of the item, and the number of lines in the log.

        Raises:
            DataError: the log cannot be read.
        """
        lines = self.log.read()
        by_file = standing(lines)
        return {"version": len(lines), "decisions": dict(self._stand(by_file))}

    def _stand(self, by_file: Mapping[str, Correction]) -> Any:
        for number, item in enumerate(self.items):
            correction = by_file.get(item.file)
            if correction is not None:
                relabelled = correction.decision == "relabel"
                to = labels_of(correction.after, correction, self.log.path, self.multilabel) if relabelled else []
                yield str(number), {"decision": correction.decision, "to": to}

    def decide(self, number: int, decision: str, to: Sequence[str]) -> None:
        """Write one decision down.

        Raises:
            DataError: no such item, decision or class.
        """
        if not 0 <= number < len(self.items):
            raise DataError(f"There is no picture {number} in this review.")
        if decision not in ("keep", "relabel", "exclude", "unsure"):
            raise DataError(f"{decision!r} is not a decision.")
        item, labels = self.items[number], list(dict.fromkeys(to)) if decision == "relabel" else []
        unknown = [name for name in labels if name not in self.classes]
        if unknown or (decision == "relabel" and not self.multilabel and len(labels) != 1):
            raise DataError(f"{unknown[0]!r} is not a class." if unknown else "A picture has one label here.")
        if decision == "relabel" and set(labels) == set(item.labels):
            decision, labels = "keep", []
        before = to_cell(item.labels, self.multilabel)
        after = to_cell(labels, self.multilabel) if decision == "relabel" else before if decision == "keep" else ""
        self.log.add(item.row, item.file, before, after, self.by, decision, item.sha256)

    def undo(self) -> int | None:
        """Undo the user's own last decision. Returns the number of its item, None where this review has none."""
        files = [item.file for item in self.items]
        last = self.log.undo(self.by, set(files))
        return files.index(last.file) if last is not None else None
