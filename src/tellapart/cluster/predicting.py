"""The command `predict` on a cluster: the same answers in the same order, by a process a processor."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tellapart.cluster.connect import connected
from tellapart.cluster.failures import failures_in_words
from tellapart.cluster.parts import Pace, over_parts, write_parts
from tellapart.core.hardware import limit_processors
from tellapart.core.remote import AT_ONCE, remote_url
from tellapart.deploy.answer import Answer
from tellapart.deploy.engines.names import AUTO
from tellapart.deploy.inputs.remote import remote_picture
from tellapart.deploy.inputs.sources import Source
from tellapart.deploy.predict_inputs import Request, Say, predict_inputs
from tellapart.deploy.predictor import BATCH, AnswerOptions, Classifier, answers, load
from tellapart.deploy.read_pictures import NamedPicture, name_of, read_one
from tellapart.errors import UnreadableError, UsageError

#: A picture in a part: its name in the bytes of the system, and why it cannot be read where that is known before.
_PICTURES = pl.Schema({"name": pl.Binary, "problem": pl.String})
#: Pictures that engines are timed on: enough for a batch, should the first ones be unreadable.
_TRIED = 8 * BATCH


def predict_on_cluster(request: Request, address: str, say: Say) -> int:
    """As `predict_inputs`, on the cluster at this address: see `connect.connected`.

    Workers open the run and the pictures themselves, so all nodes must reach them under the same names; the lists of
    pictures lie beside `--out` meanwhile.

    Returns:
        The number of pictures that could not be read.

    Raises:
        UsageError, DataError, BundleError: as without a cluster.
        ClusterError: the cluster does not answer, or a worker failed.
    """
    with ExitStack() as stack:
        return predict_inputs(request, say, _OnCluster(request, address, say, stack))


class _OnCluster:
    """Answers on a cluster, which is connected once there is something to answer."""

    def __init__(self, request: Request, address: str, say: Say, stack: ExitStack) -> None:
        self.request, self.address, self.say, self.stack = request, address, say, stack
        self.pace, self.chosen, self.since = Pace(), request.engine, time.monotonic()

    def answers(self, classifier: Classifier, pictures: Iterable[Source], options: AnswerOptions) -> Iterator[Answer]:
        folder = self.stack.enter_context(_list_folder(self.request.out))
        named = _Named()
        sizes = write_parts(named.rows(pictures), _PICTURES, folder)
        if not sizes:
            return
        self.say(f"{sum(sizes):,} pictures are listed in {len(sizes):,} parts; the cluster is being connected.")
        cluster = self.stack.enter_context(connected(self.address))
        self.say(f"Cluster: {cluster.in_words()}.")
        run = remote_url(self.request.run) or os.path.abspath(self.request.run)
        here = os.getcwd() if named.relative else ""
        if self.chosen == AUTO:
            self.chosen = self._fastest(run, folder, here)
        settings = {"run": run, "options": dict(options), "engine": self.chosen}
        self.since = time.monotonic()
        for content in over_parts(cluster, Answerer, settings, folder, len(sizes), self.pace, here):
            yield from map(_answer_of, json.loads(content))

    def _fastest(self, run: str, folder: Path, here: str) -> str:
        """One engine for all workers, so that it does not matter who answers. Timed on a node, with one processor."""
        import ray

        with failures_in_words():
            engine, lines = ray.get(ray.remote(num_cpus=1)(_fastest_engine).remote(run, str(folder), here))
        for line in lines:
            self.say(line)
        return str(engine)

    def engine(self, classifier: Classifier) -> str:
        return self.chosen

    def status(self) -> str:
        return self.pace.slowest()


class _Named:
    """Pictures as rows of a part."""

    def __init__(self) -> None:
        self.relative = False

    def rows(self, pictures: Iterable[Source]) -> Iterator[tuple[bytes, str | None]]:
        for picture in pictures:
            name, problem = name_of(picture), None
            if remote_url(name):
                pass
            elif isinstance(picture, NamedPicture):
                problem = _why_not(picture)
            elif not os.path.isabs(name):
                self.relative = True
            yield os.fsencode(name), problem


def _why_not(picture: NamedPicture) -> str:
    """The reason why a row of a list names no picture.

    Raises:
        UsageError: it is a picture that has no file of its own.
    """
    try:
        picture.read()
    except UnreadableError as error:
        return error.reason
    raise UsageError(
        f"{picture.name} is no file of its own, and through a cluster go names of files alone.",
        "Unpack archives into a folder, or leave --cluster out.",
    )


@contextmanager
def _list_folder(out: Path | None) -> Iterator[Path]:
    """Where the lists of pictures lie: beside `out`, since every node reaches that."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="tellapart-lists-") as name:
            yield Path(name)
        return
    real = out.resolve()
    folder = real.with_name(f".{real.name}.lists")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Answerer:
    """A worker's model: part → answers, as a JSON array of arrays of their fields."""

    def __init__(self, run: str, options: AnswerOptions, engine: str) -> None:
        self.classifier, self.options = load(run, engine), options

    def __call__(self, part: pl.DataFrame) -> bytes:
        """Answers to the pictures of a part, in their order."""
        pictures = list(map(_picture, *part))
        workers = AT_ONCE if any(isinstance(picture, NamedPicture) for picture in pictures) else None
        answered = answers(
            self.classifier.bundle, pictures, network=self.classifier.network, workers=workers, **self.options
        )
        return json.dumps([[getattr(answer, name) for name in _FIELDS] for answer in answered]).encode()


_FIELDS = tuple(field.name for field in dataclasses.fields(Answer))


def _picture(name: bytes, problem: str | None) -> Source:
    if problem is None:
        return remote_picture(os.fsdecode(name)) if remote_url(os.fsdecode(name)) else Path(os.fsdecode(name))

    def refuse() -> bytes:
        raise UnreadableError("", problem)

    return NamedPicture(os.fsdecode(name), refuse)


def _answer_of(values: list[Any]) -> Answer:
    fields = dict(zip(_FIELDS, values, strict=True))
    labels = tuple((name, probability) for name, probability in fields["labels"])
    return Answer(**fields | {name: tuple(fields[name]) for name in ("chosen", "candidates")} | {"labels": labels})


def _fastest_engine(run: str, folder: str, here: str) -> tuple[str, list[str]]:
    """The fastest engine on this node for one processor, and lines about it. Runs on a worker."""
    limit_processors(1)
    os.chdir(here or os.curdir)
    lines: list[str] = []
    classifier = load(run, AUTO, lines.append)
    first = pl.read_parquet(f"{folder}/000000.parquet", glob=False, n_rows=_TRIED)
    pixels = (read_one(picture, classifier.bundle.preprocessing).pixels for picture in map(_picture, *first))
    readable = [each for each in pixels if each is not None][:BATCH]
    if len(readable) < BATCH:
        return "onnxruntime", []
    return classifier.network.decide(np.stack(readable)).engine, lines
