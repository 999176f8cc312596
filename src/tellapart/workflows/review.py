"""The review command: which pictures are shown, in which order, and the server for the browser."""

from __future__ import annotations

import contextlib
import getpass
import shlex
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tellapart.core.extras import require
from tellapart.core.output import print_out
from tellapart.core.text import counted
from tellapart.data.catalog import Catalog
from tellapart.data.corrections import CORRECTIONS, CorrectionLog, standing
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.active_learning import ask_next, uncertainty
from tellapart.evaluation.label_issues_table import LabelIssues, load_table
from tellapart.report.sections.corrections import change_sentences, descendants
from tellapart.runs.commands import training_command
from tellapart.runs.run import Run
from tellapart.web.review.app import make_app, new_token
from tellapart.web.review.session import Item, Session
from tellapart.web.serve.picture_store import AT_THE_PAGE
from tellapart.web.server import listen, server_config
from tellapart.workflows.errors import beside, refuse_label_options, refuse_several
from tellapart.workflows.progress import ProgressSink, progress_sink
from tellapart.workflows.scan import scan

_LEAST, _NEXT, _NEAR = 30, 200, 5
_CLAIMED = "Somebody said on the server's page what it shows. Is it so?"


@dataclass(frozen=True)
class ReviewOptions:
    """Options of a review.

    Attributes:
        limit: how many pictures; None: all with a suspected label, and at least 30.
        by: who decides; None: the user of this machine.
        model: of pictures without a run: the pretrained network that judges.
    """

    limit: int | None = None
    by: str | None = None
    model: str | None = None


def review(
    where: Run | str | Path,
    *,
    run: Run | str | Path | None = None,
    out: str | Path | None = None,
    limit: int | None = None,
    reviewer: str | None = None,
    model: str | None = None,
    port: int = 0,
    browser: bool = True,
    progress: bool = False,
    **label_options: Any,
) -> Path:
    """Look through suspicious labels in the browser, until Ctrl-C. Nothing of yours is changed.

    Args:
        where: a finished run, or its directory; or a folder or table of pictures.
        run: label pictures that have no label, in the order that teaches this run most.
        out: of pictures: the folder for corrections.csv; by default runs/NAME-errors.
        limit: how many pictures; by default the suspected ones, at least 30.
        reviewer: who decides; by default this machine's user.
        model: of pictures without a run: the pretrained network that checks the labels.
        port: on this machine; 0 takes a free one. The address is printed.
        browser: whether the page is opened.
        progress: show progress on standard error.
        label_options: of pictures: as for `scan`.

    Returns:
        The path of corrections.csv, which `train(corrections=…)` applies.

    Raises:
        UsageError: an option that does not go with `where`, or a port that is taken.
        RunError: an average or a cross-validation.
        MissingExtraError: uvicorn is not installed.
    """
    sink, options = progress_sink(progress), ReviewOptions(limit, reviewer, model)
    reviewed = where if isinstance(where, Run) else Run(Path(where))
    teacher = run if isinstance(run, Run) or run is None else Run(Path(run))
    for each in filter(None, (reviewed, teacher)):
        refuse_several(each.directory)
    pictures = reviewed.directory
    folder = beside(pictures) if out is None else Path(out)
    if reviewed.started:
        if run is not None or model is not None or out is not None:
            raise UsageError("--run, --model and --out go with pictures, not with a run.", "Leave them out.")
        refuse_label_options(label_options)
        session = session_of_run(reviewed, options, sink)
    elif teacher is not None:
        # A server that keeps pictures writes beside them what people said.
        folder = pictures if out is None and (pictures / CORRECTIONS).is_file() else folder
        session = session_of_unlabelled(pictures, teacher, folder, options, sink, **label_options)
    else:
        session = session_of_pictures(pictures, folder, options, sink, **label_options)
    serve(session, port, browser)
    return session.log.path


def session_of_run(run: Run, options: ReviewOptions, progress: ProgressSink) -> Session:
    """Review the labels of a run's pictures; corrections.csv lies in its directory."""

    def make() -> LabelIssues:
        from tellapart.workflows.label_issues import issues_of_run

        return issues_of_run(run, progress)

    table = _table(run.directory, make)
    session = _labels(run.catalog, table, run.directory, options, _train_again(run))
    changed = [text for other in descendants(run) for text in change_sentences(run, other)]
    return replace(session, changed=changed, report=run.report)


def session_of_pictures(
    pictures: Path, out: Path, options: ReviewOptions, progress: ProgressSink, **label_options: Any
) -> Session:
    """Review the labels of pictures without a run: corrections.csv lies in `out`, `label_options` as for `ta.scan`."""
    catalog = scan(pictures, progress, **label_options)
    saved = out / "catalog.parquet"
    if saved.is_file() and Catalog.load(saved).digest != catalog.digest:
        progress.say("The pictures have changed since their labels were ranked: they are ranked again.")
        (out / "label_issues.parquet").unlink(missing_ok=True)

    def make() -> LabelIssues:
        from tellapart.workflows.label_issues import issues_of_pictures

        return issues_of_pictures(catalog, options.model, progress)

    table = _table(out, make)
    catalog.save(saved)
    corrections = str(out / CORRECTIONS)
    train = ["tellapart", "train", str(pictures), *_options(label_options), "--corrections", corrections]
    return _labels(catalog, table, out, options, shlex.join(train))


def _options(label_options: dict[str, Any]) -> list[str]:
    """Label options as words of the command line."""
    words = [(f"--{name.replace('_', '-')}", value) for name, value in label_options.items() if value]
    return [word for option, value in words for word in ([option] if value is True else [option, str(value)])]


def session_of_unlabelled(
    pictures: Path, run: Run, out: Path, options: ReviewOptions, progress: ProgressSink, **label_options: Any
) -> Session:
    """Label pictures that have no label yet, those first that teach a run's model most.

    `label_options` are those of `ta.scan`.

    Raises:
        DataError: every picture has a label.
    """
    from tellapart.workflows.label_issues import answers_and_features

    catalog = scan(pictures, progress, **label_options)
    rows = np.setdiff1d(catalog.readable, np.flatnonzero((catalog.table["labels"].list.len() > 0).to_numpy()))
    if not len(rows):
        raise DataError(f"All pictures of {pictures} have a label.", "To review labels, leave --run out.")
    p, features = answers_and_features(run, catalog, rows, progress)
    multilabel, classes = run.catalog.multilabel, run.catalog.classes
    log = CorrectionLog(out / CORRECTIONS)
    limit = options.limit or _NEXT
    # What people said on a server's page is checked first.
    claimed = {file for file, correction in standing(log.read()).items() if correction.by == AT_THE_PAGE}
    first = [i for i, row in enumerate(rows) if catalog.name(int(row)) in claimed][:limit]
    others = np.setdiff1d(np.arange(len(rows)), first)
    order = others[ask_next(uncertainty(p[others], multilabel), features[others], limit - len(first))].tolist()
    items = [_asked(catalog, int(rows[i]), p[i], classes, multilabel, _CLAIMED) for i in first]
    items += [_asked(catalog, int(rows[i]), p[i], classes, multilabel, "Not labelled yet.") for i in order]
    n_claimed = f"{counted(len(first), 'picture')} of which somebody said what it shows, then " if first else ""
    return Session(
        f"{catalog.root.name}, unlabelled",
        f"{n_claimed}{'the' if first else 'The'} {len(order):,} pictures that {run.directory.name} is least sure of, "
        "no two too much alike.",
        items,
        classes,
        multilabel,
        catalog.path,
        log,
        _who(options),
        shlex.join(["tellapart", "train", str(pictures), *_options(label_options), "--corrections", str(log.path)]),
    )


def _asked(catalog: Catalog, row: int, p: Any, classes: tuple[str, ...], multilabel: bool, reason: str) -> Item:
    best = np.flatnonzero(p >= 0.5) if multilabel else np.array([int(p.argmax())])
    chance = float(np.where(p >= 0.5, p, 1 - p).min() if multilabel else p.max())
    answer = tuple(classes[i] for i in best)
    file, content = catalog.name(row), bytes(catalog.table["sha256"][row]).hex()
    return Item(row, file, content, (), answer, chance, reason)


def serve(session: Session, port: int, browser: bool) -> None:
    """Serve a review on this machine until Ctrl-C.

    Raises:
        MissingExtraError: uvicorn is not installed.
        UsageError: the port is taken.
    """
    uvicorn = require("uvicorn", "Reviewing", "review")
    token = new_token()
    session.state()  # a table of corrections that cannot be read is said here, not to an empty page
    listener = listen("127.0.0.1", port)
    app = make_app(session, token)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/"
    print_out(session.order, f"Review: {address}", f"Corrections: {session.log.path}", "Ctrl-C ends it.", flush=True)
    if browser:
        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(server_config(app)).run(sockets=[listener])


def _table(folder: Path, make: Callable[[], LabelIssues]) -> tuple[pl.DataFrame, str]:
    """The label issues saved in a folder, or new ones that are then saved there."""
    stored = load_table(folder)
    if stored is not None:
        return stored
    issues = make()
    issues.save(folder)
    return issues.table, issues.method


def _labels(
    catalog: Catalog, ranked: tuple[pl.DataFrame, str], folder: Path, options: ReviewOptions, after: str
) -> Session:
    table, method = ranked
    suspicious = table.filter(pl.col("suspicious"))
    n = options.limit if options.limit is not None else max(_LEAST, suspicious.height)
    # The suspected ones first, then on down the ranking.
    asked = pl.concat([suspicious, table.filter(~pl.col("suspicious"))]).head(n)
    labels = catalog.table["labels"].to_list()
    items = []
    for line in asked.iter_rows(named=True):
        near = [(row, tuple(catalog.classes[k] for k in labels[row])) for row in line["neighbours"][:_NEAR]]
        labelled, suggested = tuple(line["given"]), tuple(line["suggested"])
        # Where nothing is suspected of several labels, the chance is that of the least probable decision to be wrong.
        chance = line["p_suggested"]
        if catalog.multilabel and labelled == suggested:
            chance = 1 - chance
        items.append(
            Item(
                line["row"],
                line["file"],
                line["sha256"],
                labelled,
                suggested,
                chance,
                line["reason"],
                near,
            )
        )
    return Session(
        catalog.root.name,
        f"{len(items):,} pictures, the most suspicious labels first; {suspicious.height:,} are suspected. {method}",
        items,
        catalog.classes,
        catalog.multilabel,
        catalog.path,
        CorrectionLog(folder / CORRECTIONS),
        _who(options),
        after,
    )


def _who(options: ReviewOptions) -> str:
    if options.by is not None:
        return options.by
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for the user's number
        return ""


def _train_again(run: Run) -> str:
    """The command that trains the run again with corrections, in another directory."""
    out = run.directory.with_name(f"{run.directory.name}-corrected")
    return training_command(run, out, run.directory / CORRECTIONS)
