"""Exports of a study for experiment trackers: MLflow's store, and TensorBoard's event files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tellapart.core.extras import require
from tellapart.errors import UsageError
from tellapart.experiments.results import DONE, StudyResults

#: What MLflow takes at once, and signs that its names may not have, as some of its stores make files of them.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _LONGEST_NAME, _LONGEST_VALUE = 1000, 100, 250, 6000
_NO_NAME = re.compile(r"[^\w.\- :]|^\.")
_CURVE = ("training_loss", "training_accuracy", "validation_loss", "validation_accuracy")


def export_mlflow(results: StudyResults, uri: str) -> int:
    """Write each training of a study as a run of MLflow; those that are there already stay.

    A training is known by its study and folder, and by how it ended: one that failed and was done again is added.

    Args:
        uri: of the tracking store, such as "sqlite:///mlflow.db".

    Returns:
        Number of runs that were added.

    Raises:
        UsageError: the store cannot be used.
        MissingExtraError: mlflow is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    require("mlflow", "An export to MLflow", "track")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    name = results.description.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries that mlflow brings along
        try:
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else client.create_experiment(name)
            known = {run.data.tags.get("tellapart.training") for run in _runs(client, number)}
            marks = [(_mark(row, results), row) for row in results.runs.iter_rows(named=True)]
            rows = [(mark, row) for mark, row in marks if mark not in known]
            for mark, row in rows:
                _log(client, number, row, mark, results)
        except MlflowException as error:
            reason = str(error).partition("\n")[0][:300]
            raise UsageError(f"--mlflow {uri}: {reason}", "For example: --mlflow sqlite:///mlflow.db") from error
    return len(rows)


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _mark(row: dict[str, Any], results: StudyResults) -> str:
    """What tells a training from all others: two studies of one name may share a store."""
    about = json.dumps([results.description.fingerprint, row["path"], row["status"]], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _name(name: str) -> str:
    """A factor's name as MLflow takes it: any other sign becomes its number, so that no two become one."""
    return _NO_NAME.sub(lambda sign: f"_{ord(sign[0]):x}_", name)[:_LONGEST_NAME]


def _log(client: Any, experiment: str, row: dict[str, Any], mark: str, results: StudyResults) -> None:
    from mlflow.entities import Metric, Param, RunTag

    levels: dict[str, str] = json.loads(row["levels"])
    own = {"seed": row["seed"], **({} if row["fold"] is None else {"fold": row["fold"]})}
    params = {**{_name(f"{name} factor" if name in own else name): label for name, label in levels.items()}, **own}
    tags = {
        "tellapart.training": mark,
        "tellapart.path": row["path"],
        "tellapart.cell": row["cell"],
        "tellapart.reason": row["reason"] or "",
    }
    values = {name: row[name] for name in row if name.startswith("validation_") or name == "seconds"}
    numbers = [Metric(name, value, 0, 0) for name, value in values.items() if value is not None]
    curve = [
        Metric(f"epoch_{name}", epoch[name], 0, step)
        for step, epoch in enumerate(_curve(row, results), start=1)
        for name in _CURVE
        if epoch.get(name) is not None
    ]
    run = client.create_run(experiment, start_time=0, run_name=row["path"].removeprefix("cells/"))
    identity = run.info.run_id
    listed = [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in params.items()]
    for batch in _batches(listed, _PARAMS_AT_ONCE):
        client.log_batch(identity, params=batch)
    for batch in _batches([*numbers, *curve], _METRICS_AT_ONCE):
        client.log_batch(identity, metrics=batch)
    # The mark comes last: a training without it is added again.
    client.log_batch(identity, tags=[RunTag(name, value[:_LONGEST_VALUE]) for name, value in tags.items()])
    client.set_terminated(identity, "FINISHED" if row["status"] == DONE else "FAILED", end_time=0)


def _batches(values: list[Any], n: int) -> Iterator[list[Any]]:
    for first in range(0, len(values), n):
        yield values[first : first + n]


def _curve(row: dict[str, Any], results: StudyResults) -> list[dict[str, Any]]:
    return results.curve(row["path"]) if row["status"] == DONE else []


def export_tensorboard(results: StudyResults, folder: Path) -> int:
    """Write the curves and final scores of a study as TensorBoard's event files, a folder a training.

    Returns:
        Number of trainings.

    Raises:
        UsageError: the folder holds files already.
        MissingExtraError: tensorboard is not installed.
    """
    require("tensorboard", "An export to TensorBoard", "track")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"--tensorboard {folder}: this is no empty folder.", "Give a new folder.")
    done = results.runs.filter(results.runs["status"] == DONE)
    for row in done.iter_rows(named=True):
        writer = EventFileWriter(str(folder / row["path"].removeprefix("cells/")))
        with contextlib.closing(writer):
            for step, epoch in enumerate(_curve(row, results), start=1):
                values = [
                    Summary.Value(tag=name.replace("_", "/", 1), simple_value=epoch[name])
                    for name in _CURVE
                    if epoch.get(name) is not None
                ]
                writer.add_event(Event(step=step, summary=Summary(value=values)))
            final = [
                Summary.Value(tag=f"final/{name.removeprefix('validation_')}", simple_value=row[name])
                for name in row
                if name.startswith("validation_") and row[name] is not None
            ]
            writer.add_event(Event(step=row["epochs"] or 0, summary=Summary(value=final)))
    return int(done.height)
