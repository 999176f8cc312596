"""From a run, or pictures, to a review in the browser: what is asked, in which order, and the server."""

from __future__ import annotations

import getpass
import shlex
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tellapart.core.extras import require
from tellapart.data.catalog import Catalog
from tellapart.data.corrections import CorrectionLog
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.active_learning import ask_next, uncertainty
from tellapart.evaluation.label_issues_table import LabelIssues, load_table
from tellapart.report.sections.corrections import change_sentences, descendants
from tellapart.runs.run import Run
from tellapart.web.review.app import make_app, new_token
from tellapart.web.review.session import Item, Session
from tellapart.workflows.scan import scan

if TYPE_CHECKING:
    from tellapart.workflows.progress import ProgressSink

_LEAST, _NEXT, _NEAR = 30, 200, 5


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Attributes:
        limit: how many pictures; None: all with a suspected label, and at least 30.
        by: who decides; None: the user of this machine.
        model: of pictures without a run: the pretrained network that judges.
    """

    limit: int | None = None
    by: str | None = None
    model: str | None = None


def session_of_run(run: Run, wanted: Wanted, progress: ProgressSink) -> Session:
    """Review the labels of a run's pictures; corrections.csv lies in its directory."""

    def make() -> LabelIssues:
        from tellapart.workflows.label_issues import issues_of_run

        return issues_of_run(run, progress)

    table = _table(run.directory, make)
    session = _labels(run.catalog, table, run.directory, wanted, _train_again(run))
    changed = [text for other in descendants(run) for text in change_sentences(run, other)]
    return Session(**{**vars(session), "changed": changed})


def session_of_pictures(pictures: Path, out: Path, wanted: Wanted, progress: ProgressSink, **found: Any) -> Session:
    """Review the labels of pictures without a run, `found` as `ta.scan` does; corrections.csv lies in `out`."""
    catalog = scan(pictures, progress, **found)
    saved = out / "catalog.parquet"
    if saved.is_file() and Catalog.load(saved).digest != catalog.digest:
        progress.say("The pictures have changed since their labels were ranked: they are ranked again.")
        (out / "label_issues.parquet").unlink(missing_ok=True)

    def make() -> LabelIssues:
        from tellapart.workflows.label_issues import issues_of_pictures

        return issues_of_pictures(catalog, wanted.model, progress)

    table = _table(out, make)
    catalog.save(saved)
    train = ["tellapart", "train", str(pictures), *_options(found), "--corrections", str(out / "corrections.csv")]
    return _labels(catalog, table, out, wanted, shlex.join(train))


def _options(found: dict[str, Any]) -> list[str]:
    """How labels are found, as options of the command line."""
    given = [(f"--{name.replace('_', '-')}", value) for name, value in found.items() if value]
    return [word for option, value in given for word in ([option] if value is True else [option, str(value)])]


def session_of_unlabelled(
    pictures: Path, run: Run, out: Path, wanted: Wanted, progress: ProgressSink, **found: Any
) -> Session:
    """Label pictures that have no label yet, `found` as `ta.scan` does: those first that teach a run's model most.

    Raises:
        DataError: every picture has a label.
    """
    from tellapart.workflows.label_issues import answers_and_features

    catalog = scan(pictures, progress, **found)
    rows = np.setdiff1d(catalog.readable, np.flatnonzero((catalog.table["labels"].list.len() > 0).to_numpy()))
    if not len(rows):
        raise DataError(f"All pictures of {pictures} have a label.", "To review labels, leave --run out.")
    chances, features = answers_and_features(run, catalog, rows, progress)
    multilabel, classes = run.catalog.multilabel, run.catalog.classes
    order = ask_next(uncertainty(chances, multilabel), features, wanted.limit or _NEXT)
    items = [_asked(catalog, int(rows[i]), chances[i], classes, multilabel) for i in order]
    log = CorrectionLog(out / "corrections.csv")
    return Session(
        f"{catalog.root.name}, unlabelled",
        f"The {len(items):,} pictures that {run.directory.name} is least sure of, no two too much alike.",
        items,
        classes,
        multilabel,
        catalog.path,
        log,
        _who(wanted),
        shlex.join(["tellapart", "train", str(pictures), *_options(found), "--corrections", str(log.path)]),
    )


def _asked(catalog: Catalog, row: int, chances: Any, classes: tuple[str, ...], multilabel: bool) -> Item:
    best = np.flatnonzero(chances >= 0.5) if multilabel else np.array([int(chances.argmax())])
    chance = float(np.where(chances >= 0.5, chances, 1 - chances).min() if multilabel else chances.max())
    answer = tuple(classes[i] for i in best)
    file, content = str(catalog.table["path"][row]), bytes(catalog.table["sha256"][row]).hex()
    return Item(row, file, content, (), answer, chance, "Not labelled yet.")


def serve(session: Session, port: int, browser: bool) -> None:
    """Serve a review on this machine until Ctrl-C.

    Raises:
        MissingExtraError: uvicorn is not installed.
        UsageError: the port is taken.
    """
    import socket

    uvicorn = require("uvicorn", "Reviewing", "review")
    token = new_token()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(
            f"Port {port} cannot be used: {error.strerror}.", "Choose another: --port 0 finds one."
        ) from None
    session.state()  # a table of corrections that cannot be read is said here, not to an empty page
    app = make_app(session, token)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/"
    print(f"{session.order}\nReview: {address}\nCorrections: {session.log.path}\nCtrl-C ends it.", flush=True)
    if browser:
        webbrowser.open(address)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.run(sockets=[listener])


def _table(folder: Path, make: Callable[[], LabelIssues]) -> tuple[pl.DataFrame, str]:
    """The ranking that lies in a folder, or a new one that is then put there."""
    stored = load_table(folder)
    if stored is not None:
        return stored
    issues = make()
    issues.save(folder)
    return issues.table, issues.method


def _labels(catalog: Catalog, ranked: tuple[pl.DataFrame, str], folder: Path, wanted: Wanted, after: str) -> Session:
    table, how = ranked
    suspicious = table.filter(pl.col("suspicious"))
    n = wanted.limit if wanted.limit is not None else max(_LEAST, suspicious.height)
    # The suspected ones first, then on down the ranking.
    asked = pl.concat([suspicious, table.filter(~pl.col("suspicious"))]).head(n)
    labels = catalog.table["labels"].to_list()
    items = []
    for line in asked.iter_rows(named=True):
        near = [(row, tuple(catalog.classes[k] for k in labels[row])) for row in line["neighbours"][:_NEAR]]
        given, suggested = tuple(line["given"]), tuple(line["suggested"])
        chance = line["p_suggested"] if given != suggested else 1 - line["p_suggested"] if catalog.multilabel else None
        items.append(
            Item(
                line["row"],
                line["file"],
                line["sha256"],
                given,
                suggested,
                line["p_suggested"] if chance is None else chance,
                line["reason"],
                near,
            )
        )
    return Session(
        catalog.root.name,
        f"{len(items):,} pictures, the most suspicious labels first; {suspicious.height:,} are suspected. {how}",
        items,
        catalog.classes,
        catalog.multilabel,
        catalog.path,
        CorrectionLog(folder / "corrections.csv"),
        _who(wanted),
        after,
    )


def _who(wanted: Wanted) -> str:
    if wanted.by is not None:
        return wanted.by
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for the user's number
        return ""


def _train_again(run: Run) -> str:
    """The command of the run, with the corrections and another directory."""
    words = shlex.split(run.environment["command"])
    if words[:2] != ["tellapart", "train"] or "RECIPE" in words:  # a fold, or a recipe made in Python
        words = ["tellapart", "train", str(run.catalog.root), "--recipe", str(run.recipe_file)]
    out = run.directory.with_name(f"{run.directory.name}-corrected")
    for option in ("--out", "--corrections"):
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
    words = [word for word in words if not word.startswith(("--out=", "--corrections="))]
    return shlex.join([*words, "--corrections", str(run.directory / "corrections.csv"), "--out", str(out)])
