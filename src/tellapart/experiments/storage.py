"""Optuna's storage of a study: trials for its dashboard, and the place where several machines meet."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.core.extras import require
from tellapart.core.files import replacing
from tellapart.errors import RunError, UsageError
from tellapart.experiments.description import Description, Factor
from tellapart.experiments.directory import STORAGE
from tellapart.experiments.results import (
    CELL,
    CELLS,
    CURVE,
    RESULT,
    VALIDATION,
    objective_value,
    read_values,
    training_folder,
    write_values,
)
from tellapart.experiments.tasks import Task

if TYPE_CHECKING:
    import optuna

#: Seconds between two signs of life of a training, and after which one without them counts as dead.
HEARTBEAT, GRACE = 15, 90
#: Seconds before the next try, where other processes make the tables of a new database at the same moment.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
#: A server has few connections for all who come. One is kept, and tested first: a training may outlast it.
_ONE_CONNECTION = {"pool_size": 1, "pool_pre_ping": True}
#: What may be stored of one training: a validation part of some ten thousand pictures.
_MOST = 64 << 20


@contextmanager
def open_storage(directory: Path, url: str, description: Description) -> Iterator[optuna.Study]:
    """The study of a directory in Optuna's storage; it is made if it is not there. Its connections end with the block.

    Args:
        directory: of the study. Its name is that of Optuna's study.
        url: of a database; empty for SQLite in the directory.
        description: its objectives are Optuna's.

    Raises:
        MissingExtraError: no optuna, or no driver of the database.
        UsageError: the database cannot be reached.
        RunError: the storage holds a study of this name that is another one; or it fails within the block, since the
            disk is full or the server is gone.
    """
    require("optuna", "A study", "study")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url.startswith("postgresql"):
        require("psycopg", "A study in PostgreSQL", "postgres")
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    # As a URL, the path of a file would lose what stands behind "?", and Optuna fills in what stands in brackets.
    address = url or f"sqlite:///{STORAGE}"
    life: dict[str, Any] = {"engine_kwargs": {"creator": partial(_connect, directory / STORAGE)}}
    if url:
        life = {"heartbeat_interval": HEARTBEAT, "grace_period": GRACE, "engine_kwargs": _ONE_CONNECTION}
    with contextlib.ExitStack() as stack:
        with _refusing(url or address):
            if url:
                life["heartbeat_stale_trial_callback"] = optuna.storages.RetryHeartbeatStaleTrialCallback()
            storage = _with_tables(address, life)
            stack.callback(storage.engine.dispose)
            study: optuna.Study = optuna.create_study(
                storage=storage,
                study_name=_name(storage, description),
                directions=[objective.direction for objective in description.objectives],
                load_if_exists=True,
            )
        _same_study(study, description, url)
        try:
            yield study
        except optuna.exceptions.StorageInternalError as error:
            raise _failed(url or str(directory / STORAGE), error.__cause__ or error) from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, check_same_thread=False)


def _with_tables(address: str, options: dict[str, Any]) -> optuna.storages.RDBStorage:
    """Optuna's storage, with its tables made.

    Optuna looks whether the tables are there, and then makes them. Of several processes that do so at the same moment
    all but one fail, at a table or at the row with its version; they find them in the next try.
    """
    import optuna
    from sqlalchemy.exc import DBAPIError

    for pause in _PAUSES:
        try:
            return optuna.storages.RDBStorage(address, **options)
        except DBAPIError as error:
            if not _is_there_by_now(error):
                raise
        time.sleep(pause)
    return optuna.storages.RDBStorage(address, **options)


def _is_there_by_now(error: Exception) -> bool:
    """Whether what was to be made exists: a row or a name in the database's own tables, or a table (42P07)."""
    from sqlalchemy.exc import IntegrityError

    code = getattr(getattr(error, "orig", None), "sqlstate", "")  # the text is in the server's language
    return isinstance(error, IntegrityError) or code == "42P07" or "already exists" in str(error)


@contextmanager
def _refusing(address: str) -> Iterator[None]:
    """Tell errors of a database in plain words."""
    import optuna

    try:
        with _quiet():
            yield
    except optuna.exceptions.StorageInternalError as error:
        raise _unreachable(address, error.__cause__ or error) from error
    except Exception as error:
        # SQLAlchemy and each driver have exceptions of their own; optuna brings them along, and may change them.
        if type(error).__module__.partition(".")[0] in ("sqlalchemy", "psycopg", "sqlite3"):
            raise _unreachable(address, error) from error
        raise


def _name(storage: optuna.storages.BaseStorage, description: Description) -> str:
    """The directory's name; with other levels than Optuna's study of that name has, which cannot get more, another."""
    import optuna

    factors = [factor.model_dump(mode="json") for factor in description.factors]
    space = hashlib.sha256(json.dumps(factors, sort_keys=True).encode()).hexdigest()[:8]
    for name in (description.name, f"{description.name} {space}"):
        try:
            number = storage.get_study_id_from_name(name)
        except KeyError:
            with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):  # another process was faster
                directions = [
                    getattr(optuna.study.StudyDirection, each.direction.upper()) for each in description.objectives
                ]
                storage.set_study_user_attr(storage.create_new_study(directions, name), "space", space)
            return name
        if storage.get_study_user_attrs(number).get("space", space) == space:
            return name
    return f"{description.name} {space}"


def _same_study(study: optuna.Study, description: Description, url: str) -> None:
    mark = json.dumps(description.fingerprint, sort_keys=True)
    theirs = study.user_attrs.get("fingerprint")
    if theirs is not None and theirs != mark:
        raise RunError(
            f"{_without_password(url) or STORAGE} holds a study '{description.name}' of other pictures, another "
            "split or another recipe.",
            "Give the study another name: that of its --out folder.",
        )
    if theirs is None:
        study.set_user_attr("fingerprint", mark)
        with _quiet():
            study.set_metric_names([objective.name for objective in description.objectives])


def _failed(url: str, error: BaseException) -> RunError:
    reason = str(error).strip().partition("\n")[0][:300]
    return RunError(
        f"{_without_password(url)}: the database failed: {reason}",
        "Remove the cause; then the same command goes on, and does nothing again that has ended.",
    )


def _unreachable(url: str, error: BaseException) -> UsageError:
    reason = str(error).strip().partition("\n")[0][:300]
    return UsageError(
        f"--storage {_without_password(url)}: the database cannot be used: {reason}",
        "For example --storage postgresql://user:password@host/database, or leave it out for a file in the folder.",
    )


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{host}" if at else url


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings that heartbeats and metric names are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def distributions(factors: tuple[Factor, ...]) -> dict[str, Any]:
    """Factor → what Optuna draws its levels from: labels, or the numbers of a range."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    of: dict[str, Any] = {}
    for factor in factors:
        if factor.kind != "range":
            of[factor.name] = CategoricalDistribution([level.label for level in factor.levels])
        elif factor.integer:
            assert factor.low is not None
            assert factor.high is not None
            of[factor.name] = IntDistribution(int(factor.low), int(factor.high), log=factor.log)
        else:
            assert factor.low is not None
            assert factor.high is not None
            of[factor.name] = FloatDistribution(factor.low, factor.high, log=factor.log)
    return of


def params_of(levels: dict[str, str], factors: tuple[Factor, ...]) -> dict[str, Any]:
    """The levels of a cell as Optuna's parameters; none that lie outside of what it draws from."""
    whole = distributions(factors)
    params: dict[str, Any] = {}
    for factor in factors:
        if factor.name in levels:
            value: Any = levels[factor.name]
            if factor.kind == "range":
                value = int(value) if factor.integer else float(value)
            if factor.kind == "range" and not whole[factor.name].low <= value <= whole[factor.name].high:
                continue
            if factor.kind != "range" and value not in whole[factor.name].choices:
                continue
            params[factor.name] = value
    return params


def values_of(description: Description, results: list[dict[str, Any]]) -> list[float] | None:
    """The mean of each objective over some trainings; None where one has none."""
    means = []
    for objective in description.objectives:
        values = [objective_value(objective.name, result) for result in results]
        numbers = [value for value in values if value is not None]
        if not numbers or len(numbers) < len(values):
            return None
        means.append(sum(numbers) / len(numbers))
    return means


class Mirror:
    """Shows the trainings of a plan to Optuna as trials, one each, so that its dashboard opens the study."""

    def __init__(self, study: optuna.Study, description: Description) -> None:
        self._study, self._description = study, description
        self._names = {trial.user_attrs.get("training") for trial in study.get_trials(deepcopy=False)}

    def add(self, task: Task, result: dict[str, Any]) -> None:
        """Add a training that has ended, once."""
        if task.name not in self._names:
            self._names.add(task.name)
            self._study.add_trial(ended_trial(task, result, self._description))


def ended_trial(task: Task, result: dict[str, Any], description: Description) -> optuna.trial.FrozenTrial:
    """A training that has ended as a trial of Optuna."""
    import optuna

    values = values_of(description, [result])
    params = params_of(task.cell.levels, description.factors)
    of = distributions(description.factors)
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if values else optuna.trial.TrialState.FAIL,
        params=params,
        distributions={name: of[name] for name in params},
        values=values,
        user_attrs={"training": task.name, "cell": task.cell.id, "seed": task.seed.number, **plain(result)},
    )


def plain(result: dict[str, Any]) -> dict[str, Any]:
    """What a dashboard may show of a result."""
    return {"status": result["status"], "reason": result["reason"], "scores": result["scores"]}


def pack(directory: Path, task: Task) -> str:
    """The files of a training as text, for machines that share no disk."""
    folder = training_folder(directory, task.cell.id, task.seed.number, task.fold)
    files = {name: (folder / name).read_bytes() for name in (RESULT, CURVE, VALIDATION) if (folder / name).is_file()}
    cell = read_values(directory / CELLS / task.cell.id / CELL)
    recipe = (directory / CELLS / task.cell.id / "recipe.toml").read_text(encoding="utf-8")
    packed = {name: base64.b64encode(content).decode("ascii") for name, content in files.items()}
    return json.dumps({"name": task.name, "cell": cell, "recipe": recipe, "files": packed})


def unpack(directory: Path, text: str) -> None:
    """Write the files of a training that another machine did, the result last. Those that are here stay."""
    try:
        values = json.loads(text) if len(text) < _MOST else {}
        name, _, number = str(values["name"]).partition("/")
        if not (name.isalnum() and number.replace("_fold", "").isdecimal()):
            raise ValueError(f"{number!r} names no training")
        files = {
            file: base64.b64decode(values["files"][file])
            for file in (VALIDATION, CURVE, RESULT)
            if file in values["files"]
        }
        cell, recipe = dict(values["cell"]), str(values["recipe"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"The storage holds a training that cannot be read: {error}.") from error
    folder = directory / CELLS / name
    if (folder / number / RESULT).is_file():
        return
    if not (folder / CELL).is_file():
        with replacing(folder / "recipe.toml") as beside:
            beside.write_text(recipe, encoding="utf-8")
        write_values(folder / CELL, cell)
    for file, content in files.items():
        with replacing(folder / number / file) as beside:
            beside.write_bytes(content)


class Heartbeat:
    """Signs of life of the trainings that this process does, so that those of a dead one are done by others."""

    def __init__(self, study: optuna.Study) -> None:
        self._storage: Any = study._storage
        self._ids: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="tellapart-heartbeat", daemon=True)
        self._thread.start()

    def add(self, trial_id: int) -> None:
        """A training begins."""
        self._storage.record_heartbeat(trial_id)
        self._ids.add(trial_id)

    def remove(self, trial_id: int) -> None:
        """A training has ended."""
        self._ids.discard(trial_id)

    def stop(self) -> None:
        """All are over."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            for trial_id in list(self._ids):
                self._storage.record_heartbeat(trial_id)
