"""Counts of the answers that a model gives in use, in one file that several processes may add to."""

from __future__ import annotations

import heapq
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tellapart.core.cache import read_note, write_note
from tellapart.core.file_locks import lock
from tellapart.core.files import naming
from tellapart.deploy.answer import NONE, Answer
from tellapart.deploy.bundle.read import Bundle
from tellapart.errors import UsageError

BINS = 20
#: Answers, and seconds, after which counts are added to the file: so many a kill may lose.
_ANSWERS, _SECONDS = 1_000, 10.0
_MOST_ODD, _LONGEST_PATH = 1_000, 4_096
_FORMAT = 1


@dataclass
class Counts:
    """Counts of answers.

    Attributes:
        n: pictures answered.
        n_unreadable: pictures that could not be read, which are in no other count.
        n_unlike: of `n`, those unlike all classes, whether they were answered with "unknown" or not.
        labels: of each class, how often it was the answer; "none" where several labels are possible and none was given.
            Of a picture that is unlike all classes, the class that it is most like.
        certainty: how many answers had a certainty in each twentieth of 0 to 1.
        odd: the pictures that are least like the classes, as (out-of-distribution score, path), the oddest first.
        first, last: when counting began, and when counts were added last, in seconds since 1970.
    """

    n: int = 0
    n_unreadable: int = 0
    n_unlike: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    certainty: list[int] = field(default_factory=lambda: [0] * BINS)
    odd: list[tuple[float, str]] = field(default_factory=list)
    first: float = field(default_factory=time.time)
    last: float = field(default_factory=time.time)

    def add(self, answer: Answer, limit: float | None, n_odd: int) -> None:
        """Count an answer; `limit` is that of the out-of-distribution score."""
        if answer.problem is not None:
            self.n_unreadable += 1
            return
        self.n += 1
        score = answer.ood_score
        self.n_unlike += score is not None and limit is not None and score > limit
        self.labels.update(answer.chosen or [answer.labels[0][0] if answer.unknown is not None else NONE])
        self.certainty[min(int(answer.certainty * BINS), BINS - 1)] += 1
        if n_odd and answer.path:
            heapq.heappush(self.odd, (1 - answer.certainty if score is None else score, answer.path[:_LONGEST_PATH]))
            if len(self.odd) > n_odd:
                heapq.heappop(self.odd)

    def plus(self, other: Counts, n_odd: int) -> Counts:
        """The sum, with the oddest of both."""
        return Counts(
            self.n + other.n,
            self.n_unreadable + other.n_unreadable,
            self.n_unlike + other.n_unlike,
            self.labels + other.labels,
            [a + b for a, b in zip(self.certainty, other.certainty, strict=True)],
            heapq.nlargest(n_odd, set(self.odd) | set(other.odd)),
            min(self.first, other.first),
            max(self.last, other.last),
        )


class Monitor:
    """Counts answers into a file while they pass. Processes that count into one file add up.

    Args:
        path: of the file; made where it is missing.
        bundle: whose answers are counted.
        n_odd: how many paths of the oddest pictures to keep, at most 1,000.

    Raises:
        UsageError: the file holds counts of another model, or something else.
    """

    def __init__(self, path: Path, bundle: Bundle, n_odd: int = 0) -> None:
        if not 0 <= n_odd <= _MOST_ODD:
            raise UsageError(f"There can be 0 to {_MOST_ODD:,} odd pictures to keep, not {n_odd:,}.")
        self.path, self.bundle, self.n_odd = path, bundle, n_odd
        self.limit = bundle.ood_score.limit if bundle.ood_score else None
        self.counts, self.since = Counts(), time.monotonic()
        if path.exists():
            read_counts(path, bundle)

    def counting(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """Pass answers on and count them; what was counted is in the file when this ends, however it ends."""
        try:
            for answer in answers:
                self.add(answer)
                yield answer
        finally:
            self.flush()

    def add(self, answer: Answer) -> None:
        """Count an answer; now and then counts are added to the file."""
        self.counts.add(answer, self.limit, self.n_odd)
        n = self.counts.n + self.counts.n_unreadable
        if n >= _ANSWERS or time.monotonic() - self.since > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Add what was counted since the last time to the file, whole or not at all."""
        self.counts.last = time.time()
        with _locked(self.path):
            total = self.counts
            if self.path.exists():
                earlier = read_counts(self.path, self.bundle)
                total = earlier.plus(total, max(self.n_odd, len(earlier.odd)))
            write_note(self.path, _as_dict(total, self.bundle))
        self.counts, self.since = Counts(), time.monotonic()


def read_counts(path: Path, bundle: Bundle) -> Counts:
    """The counts of a file.

    Raises:
        UsageError: it is missing or damaged, or holds counts of another model.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist.", "tellapart predict RUN PICTURES --monitor FILE writes it.")
    values = read_note(path)
    try:
        if values is None or values["format"] != _FORMAT:
            raise ValueError
        network, classes = values["network"], values["classes"]
        counts = Counts(
            _count(values["n"]),
            _count(values["n_unreadable"]),
            _count(values["n_unlike"]),
            Counter({str(name): _count(n) for name, n in values["labels"].items()}),
            [_count(n) for n in values["certainty"]],
            [(float(score), str(name)) for score, name in values["odd"][:_MOST_ODD]],
            float(values["first"]),
            float(values["last"]),
        )
        if len(counts.certainty) != BINS or sum(counts.certainty) != counts.n:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} holds no counts of answers, or is damaged.", "Name another file, or remove this one."
        ) from error
    if network != bundle.digest or classes != list(bundle.classes):
        raise UsageError(f"{path} holds counts of the answers of another model.", "Give each model a file of its own.")
    return counts


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("no count")
    return value


def _as_dict(counts: Counts, bundle: Bundle) -> dict[str, Any]:
    values = {name: getattr(counts, name) for name in ("n", "n_unreadable", "n_unlike", "certainty", "first", "last")}
    odd = [
        [score, name.encode("utf-8", "backslashreplace").decode()] for score, name in sorted(counts.odd, reverse=True)
    ]
    model = {"format": _FORMAT, "network": bundle.digest, "classes": list(bundle.classes)}
    return {**model, **values, "labels": dict(counts.labels), "odd": odd}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file for this process; by a file beside it, since it is itself replaced."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock(handle, shared=False)
        yield
    finally:
        os.close(handle)
