"""The whole of `predict`: what is named becomes answers in a table or file, sorted and counted where that is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tellapart.core.files import check_suffix
from tellapart.core.remote import AT_ONCE, check_local, remote_url
from tellapart.core.text import counted
from tellapart.core.version import __version__
from tellapart.deploy.answer import Answer
from tellapart.deploy.inputs.sources import Source, find_sources
from tellapart.deploy.output_formats import Summary, format_of, write_answers
from tellapart.deploy.predictor import AnswerOptions, Classifier, answers, load
from tellapart.errors import UsageError

Say = Callable[[str], None]
#: Seconds between two lines about how far it is; and those of a run that ends without a word about its speed.
_EVERY, _QUICK = 10.0, 2.0


@dataclass(frozen=True)
class Request:
    """What `predict` is asked for: see its options on the command line.

    Attributes:
        options: of the answers, see `predictor.answers`.
    """

    run: Path
    inputs: tuple[str, ...]
    column: str | None = None
    options: AnswerOptions = field(default_factory=lambda: AnswerOptions(top=1))
    engine: str = "auto"
    format: str | None = None
    out: Path | None = None
    resume: bool = False
    submission: Path | None = None
    sort_into: Path | None = None
    copies: bool = False
    dry_run: bool = False
    monitor: Path | None = None
    n_odd: int = 0


class Answering(Protocol):
    """Where pictures are answered: in this process, or elsewhere.

    Attributes:
        since: when it was ready to answer, by `time.monotonic`.
    """

    since: float

    def answers(self, classifier: Classifier, pictures: Iterable[Source], options: AnswerOptions) -> Iterator[Answer]:
        """One answer for each picture, in their order."""

    def engine(self, classifier: Classifier) -> str:
        """What runs the network."""

    def status(self) -> str:
        """What is to be said beside the speed, such as who is slow; or nothing."""


class _Here:
    """In this process."""

    def __init__(self, remote: bool) -> None:
        self.since = time.monotonic()
        self.workers = AT_ONCE if remote else None  # fetching is mostly waiting

    def answers(self, classifier: Classifier, pictures: Iterable[Source], options: AnswerOptions) -> Iterator[Answer]:
        return answers(classifier.bundle, pictures, network=classifier.network, workers=self.workers, **options)

    def engine(self, classifier: Classifier) -> str:
        return classifier.network.bundle.engine

    def status(self) -> str:
        return ""


def predict_inputs(request: Request, say: Say, answering: Answering | None = None) -> int:
    """Answer every picture that is named.

    Args:
        request: what is asked for.
        say: called with lines that are no answers: the engine, what could not be read, what was sorted.
        answering: answers the pictures; by default this process.

    Returns:
        The number of pictures that could not be read.

    Raises:
        UsageError: options that do not go together, or cannot be used here.
        DataError: a table of names that cannot be read.
        BundleError: the model cannot be used.
    """
    form = _checked_format(request)
    classifier = load(request.run, request.engine, say)
    sources = find_sources(request.inputs, request.column)
    options = request.options
    if request.submission is not None and options.get("unknown") is None:
        options = {**options, "unknown": False}  # a competition knows its classes alone

    steps: list[Callable[[Iterable[Answer]], Iterator[Answer]]] = []
    sorting = monitor = None
    if request.sort_into is not None:
        from tellapart.deploy.sort_into import SortInto

        sorting = SortInto(
            request.sort_into, classifier.classes, request.inputs, copies=request.copies, dry=request.dry_run
        )
        steps.append(sorting.sorting)
    if request.monitor is not None:
        from tellapart.deploy.monitor import Monitor

        monitor = Monitor(request.monitor, classifier.bundle, request.n_odd)
        steps.append(monitor.counting)
    answering = answering or _Here(any(map(remote_url, request.inputs)))
    pace = _Pace(say, answering, silent=request.out is None and request.submission is None)
    steps.append(pace.counting)

    def answer(pictures: Iterable[Source]) -> Iterator[Answer]:
        answered = answering.answers(classifier, pictures, options)
        for step in steps:
            answered = step(answered)
        return answered

    summary = _write(request, form, classifier, sources, answer, say)
    if form != "table" or request.submission is not None:  # the table lists them itself
        for line in summary.problems():
            say(f"Cannot read {line}")
    for line in sorting.lines() if sorting else ():
        say(line)
    pace.finish(classifier)
    return summary.n_unreadable


def _checked_format(request: Request) -> str:
    """The format of the answers. Options that would be ignored are refused before anything is done."""
    if request.submission is not None:
        from tellapart.deploy.submission import SUBMISSIONS

        check_local(request.submission, "--submission")
        check_suffix(request.submission, SUBMISSIONS, "--submission")
        if request.out is not None or request.format is not None:
            raise UsageError("--submission writes one file, as CSV.", "Leave --out and --format out.")
    check_local(request.out, "--out")
    check_local(request.sort_into, "--sort-into")
    form = format_of(request.out, request.format)
    if request.resume and (request.out is None or form == "table" or _is_device(request.out)):
        raise UsageError(
            "--resume goes on with a file of answers.", "Give --out with a name in .csv, .jsonl, .json or .parquet."
        )
    if request.sort_into is None and (request.copies or request.dry_run):
        raise UsageError(f"{'--copy' if request.copies else '--dry-run'} goes with --sort-into.")
    if request.monitor is None and request.n_odd:
        raise UsageError("--keep-odd goes with --monitor.")
    return form


def _write(
    request: Request,
    format: str,
    classifier: Classifier,
    sources: Iterator[Source],
    answer: Callable[[Iterable[Source]], Iterator[Answer]],
    say: Say,
) -> Summary:
    """Write the answers where they are to go."""
    bundle, top, out = classifier.bundle, request.options.get("top") or 1, request.out
    if request.submission is not None:
        from tellapart.deploy.submission import COLUMNS, write_submission

        first, second = bundle.about.get("columns") or COLUMNS
        return write_submission(answer(sources), request.submission, (first, second))
    scored = request.options.get("unknown") or (format in ("jsonl", "json") and bundle.ood_score)
    optional = ("candidates",) if request.options.get("coverage") is not None else ()
    optional = (*optional, "ood_score", "unknown") if scored else optional
    if out is None or format == "table" or _is_device(out):
        return write_answers(answer(sources), format, top, out, optional)
    from tellapart.deploy.resumable import partial_folder, write_resumable

    folder = partial_folder(out)
    if folder.is_dir() and not request.resume:
        say(f"{out} begins anew: what a broken run left in {folder.name} is dropped; --resume would go on with it.")
    about: dict[str, Any] = {"network": bundle.digest, "options": dict(request.options), "tellapart": __version__}
    try:
        return write_resumable(sources, answer, out, format, top, optional, about, request.resume)
    except BaseException:
        if folder.is_dir():
            say(f"The answers so far lie in {folder.name}: the same command with --resume goes on with them.")
        raise


def _is_device(out: Path) -> bool:
    """Whether this is a pipe or device, which is written to as it is."""
    return out.exists() and not out.is_file() and not out.is_dir()


class _Pace:
    """Counts answers while they pass, says now and then how many there are, and at the end how fast it was."""

    def __init__(self, say: Say, answering: Answering, silent: bool) -> None:
        self.say, self.answering, self.silent = say, answering, silent
        self.n = 0

    def counting(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        last = time.monotonic()
        for answer in answers:
            self.n += 1
            now = time.monotonic()
            if not self.silent and now - last > _EVERY:
                last = now
                self.say(f"  {self._pace(now - self.answering.since)}")
            yield answer

    def finish(self, classifier: Classifier) -> None:
        seconds = time.monotonic() - self.answering.since
        if seconds > _QUICK and self.n > 1:
            self.say(f"{self._pace(seconds)}, by {self.answering.engine(classifier)}.")

    def _pace(self, seconds: float) -> str:
        pace = f"{counted(self.n, 'picture')} in {seconds:,.0f} s, {self.n / seconds:,.3g} a second"
        return ", ".join(filter(None, [pace, self.answering.status()]))
