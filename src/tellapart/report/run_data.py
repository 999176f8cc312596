"""The data of a report, as plain values: `run_report` fills them; the page and the figures read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Predictions, Rows, Temperature
from tellapart.core.scores import Evaluation
from tellapart.report.blocks import Section


@dataclass(frozen=True)
class Part:
    """One part of the split: training, validation or test.

    Attributes:
        row: int64 [n], row numbers of the catalog.
        target: one label a picture: int64 [n], class numbers, -1 where there is none.
            Multilabel: uint8 [n, n_classes]. As `Catalog.target` gives it.
    """

    row: Rows
    target: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.row)

    def counts(self, n_classes: int) -> npt.NDArray[np.int64]:
        """int64 [n_classes]: number of pictures with each label."""
        if self.target.ndim == 2:
            return np.asarray(self.target.sum(axis=0, dtype=np.int64))
        return np.bincount(self.target[self.target >= 0], minlength=n_classes).astype(np.int64)

    def rows_of(self, label: int, most: int) -> Rows:
        """Up to `most` row numbers with this label, evenly spread over the part."""
        mask = self.target[:, label] > 0 if self.target.ndim == 2 else self.target == label
        rows = self.row[mask]
        return np.asarray(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)], np.int64)


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report.

    Attributes:
        classes: names in their one order. multilabel: a picture may have several labels, or none.
        parts: "train", "validation", "test", in this order; empty ones may be left out.
        name: row → the picture's name for a person, such as its path below the root.
        jpeg: row → a small JPEG of it, as `thumbnail` makes; called from several threads. May raise
            `UnreadableError` or `OSError`: the page then says that the picture is gone.
        link: row → address of the picture's own file, for a browser; "" for none.
        layout: one sentence on how the labels were found. divided: one on how the split was made.
        unreadable: path and reason of each file that could not be read and was left out.
    """

    classes: tuple[str, ...]
    multilabel: bool
    parts: Mapping[str, Part]
    name: Callable[[int], str]
    jpeg: Callable[[int], bytes]
    layout: str = ""
    divided: str = ""
    unreadable: Sequence[tuple[str, str]] = ()
    link: Callable[[int], str] = lambda row: ""

    @property
    def n(self) -> int:
        """Number of pictures in all parts."""
        return sum(map(len, self.parts.values()))


@dataclass(frozen=True)
class ReportData:
    """The data of a report: a training and its result.

    Attributes:
        title: of the page, such as the name of the folder.
        when: date and time as text.
        model: the network in a few words: name, pretrained or not, size of the pictures.
        pictures: those of the training, by part.
        events: the lines of events.jsonl, see `curves`.
        recipe: the complete recipe as TOML. command: repeats the training; quoted for a shell.
        started_by: the command that trained it, where that is another.
        environment: versions, machine, and the choices made by measurement; may be nested.
        evaluations: the first is the headline; others (validation beside test) stand in the table of metrics.
        predictions: those behind the first evaluation. temperature, thresholds: as used for it; multilabel:
            one threshold a class, 0.5 by default.
        reliability: `Reliability.as_dict()` "before" and "after" the temperature, for the first evaluation.
        notes: lines that must not stay unseen: what was skipped, replaced or chosen instead.
        remarks: lines on the choices that were made, which few read.
        next_step: the most useful thing to do next, as `verdict` says it. then: commands that follow, each with what
            it is for.
        more: further sections. Each stands after the section that it names; where there is none of that name, before
            the recipe. One with the anchor of a section that is there adds its blocks to that one.
    """

    title: str
    when: str
    model: str
    pictures: Pictures
    events: Sequence[Mapping[str, Any]] = ()
    recipe: str = ""
    command: str = ""
    started_by: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    evaluations: Sequence[Evaluation] = ()
    predictions: Predictions | None = None
    temperature: Temperature = 1.0
    thresholds: Sequence[float] | None = None
    reliability: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    next_step: str = ""
    then: Sequence[tuple[str, str]] = ()
    more: Sequence[Section] = ()

    @property
    def evaluation(self) -> Evaluation | None:
        """The evaluation of the headline; None where there is none."""
        return self.evaluations[0] if self.evaluations else None
