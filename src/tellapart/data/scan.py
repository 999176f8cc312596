"""Scan a folder of pictures into a catalog: find the labels, then open every file once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import polars as pl

from tellapart.core.hardware import n_processors
from tellapart.core.remote import at_hand
from tellapart.core.text import counted
from tellapart.data.catalog import SCHEMA, UNKNOWN, Catalog
from tellapart.data.decoding.decode import Facts, examine
from tellapart.data.decoding.limits import quiet
from tellapart.data.labels.layout import find_layout
from tellapart.data.statistics import Measures
from tellapart.errors import UsageError

#: Opens the files of a catalog: root, rows of path and problem, measures → batches of facts in the order of the rows.
Looking: TypeAlias = Callable[[Path, pl.DataFrame, Measures | None], Iterator[list[Facts]]]
_BATCH = 32  # files a task: enough that handing out tasks costs nothing
_CHUNK = 8192  # rows gathered before they become columns

_OF_12_BITS = 16  # what 4095 of 65535 is of 255
_FACTS = ("width", "height", "mode", "format", "orientation", "bytes", "sha256", "problem")


def scan(
    root: str | Path,
    *,
    layout: str | None = None,
    labels: str | Path | None = None,
    class_file: str | Path | None = None,
    label_depth: int | None = None,
    delimiter: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    follow_links: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    measures: Measures | None = None,
    looking: Looking | None = None,
) -> Catalog:
    """List the pictures below a folder with their labels, and look at each one: can it be read, how large is it?

    The layout of labels is detected (see `labels.layout`) and described in `Catalog.layout`. Pictures that cannot be
    read stay in the catalog, with the reason in the column `problem`.

    Args:
        root: a folder, or a table of pictures in it; of a storage (s3://…) too, which is mirrored in the cache.
        layout: "folders", "table", "list" or "competition", instead of looking.
        labels: the table or list to take the labels from; a path below the root, or from here.
        class_file: names of labels that are integers: one name a line, or a table with name and id.
        label_depth: of nested class folders take the first n levels (n > 0) or the last -n (n < 0); by default all.
        delimiter: what stands between the labels in one cell of a table; by default found, "" for nothing.
        image_column, label_column: of a table, where their names say too little; case, blanks and signs do not count.
        follow_links: follow symbolic links that lead out of the root.
        workers: threads; by default one a core.
        progress: called with the number of pictures seen and their total, now and then.
        measures: filled with what an audit needs to know of every picture, while it is decoded anyway.
        looking: opens the files; by default threads of this process.

    Returns:
        One row a picture, sorted by path.

    Raises:
        DataError: no pictures, or a table that cannot be used, with file and row.
        UsageError: arguments that do not fit together.
    """
    pictures = find_layout(
        at_hand(root),
        layout=layout,
        labels=None if labels is None else at_hand(labels),
        class_file=None if class_file is None else at_hand(class_file),
        label_depth=label_depth,
        delimiter=delimiter,
        image_column=image_column,
        label_column=label_column,
        follow_links=follow_links,
    )
    rows = pictures.table.select("path", "problem")
    brightest: list[int] = []
    if workers is not None and workers < 1:
        raise UsageError(f"workers is a number of threads, at least 1, not {workers}.")
    looking = looking or partial(look_in_threads, workers or n_processors())
    facts = _examine_all(looking(pictures.root, rows, measures), rows.height, progress, brightest)
    return Catalog(
        _joined(pictures.table.drop("problem"), facts),
        pictures.classes,
        pictures.multilabel,
        pictures.root,
        pictures.sentence.removesuffix(".") + _dim(brightest) + ".",
        pictures.columns,
        pictures.unused_columns,
        pictures.unused_tables,
    )


def _dim(brightest: list[int]) -> str:
    """A clause on 16-bit pictures that use 12 bits, as those of many microscopes do. Nothing in a file says so.

    They are not stretched: a model that answers on one picture could not know whether the others are as dark.
    """
    if not brightest or max(brightest) > _OF_12_BITS:
        return ""
    return (
        f"; {counted(len(brightest), 'picture')} of 16 bits use 12 of them and look almost black: save them with 8 "
        "bits, or with values up to 65,535"
    )


def catalog_of(
    paths: Sequence[str | Path], labels: Sequence[Sequence[int]], classes: Sequence[str], multilabel: bool, layout: str
) -> Catalog:
    """A catalog of these files, in this order, whose labels are known already: no folder is searched.

    Args:
        paths: of pictures, anywhere on one drive; the same one may be named more than once.
        labels: numbers into `classes`, of each picture.
        classes: their names, in their order.
        multilabel: see `Catalog`.
        layout: one sentence on where the labels came from, without its full stop.

    Raises:
        UsageError: the files lie on several drives.
    """
    whole = [os.path.abspath(path) for path in paths]
    try:
        root = Path(os.path.commonpath([os.path.dirname(path) for path in whole]))
    except ValueError as error:
        raise UsageError(f"The pictures have no folder in common: {error}.", "Put them on one drive.") from error
    names = [Path(os.path.relpath(path, root)).as_posix() for path in whole]
    nothing = pl.lit(None, pl.String)
    rows = pl.DataFrame({"path": names, "labels": labels}, schema={"path": pl.String, "labels": pl.List(pl.UInt32)})
    brightest: list[int] = []
    looked = look_in_threads(n_processors(), root, rows.select("path", problem=nothing), None)
    facts = _examine_all(looked, rows.height, None, brightest)
    table = pl.concat([rows.with_columns(split=nothing, group=nothing), facts], how="horizontal")
    return Catalog(
        table.select(list(SCHEMA)).cast(pl.Schema(SCHEMA)),
        tuple(classes),
        multilabel,
        root,
        layout + _dim(brightest) + ".",
    )


def _joined(labelled: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The table of a catalog. What is not known has a column only where there is any."""
    both = pl.concat([labelled, facts], how="horizontal")
    table = both.select(list(SCHEMA)).cast(pl.Schema(SCHEMA))
    return table.with_columns(both[UNKNOWN]) if both[UNKNOWN].list.len().sum() else table


def _examine_all(
    batches: Iterator[list[Facts]], total: int, progress: Callable[[int, int], None] | None, brightest: list[int]
) -> pl.DataFrame:
    """Facts of all files, in order, as columns; `brightest` is filled with those of 16-bit grey."""
    kinds = {name: SCHEMA[name] for name in _FACTS}
    columns = [pl.DataFrame(schema=kinds)]
    gathered: list[Facts] = []
    done = 0
    for facts in batches:
        gathered += facts
        brightest += [fact.brightest for fact in facts if fact.brightest is not None]
        done += len(facts)
        if len(gathered) >= _CHUNK or done == total:
            lines = [[getattr(fact, name) for name in _FACTS] for fact in gathered]
            columns.append(pl.DataFrame(lines, schema=kinds, orient="row"))
            gathered = []
        if progress:
            progress(done, total)
    return pl.concat(columns)


def look_again(catalog: Catalog, measures: Measures) -> Iterator[int]:
    """Open every picture of a catalog once more to measure it; yields the number done."""
    done = 0
    for facts in look_in_threads(n_processors(), catalog.root, catalog.table.select("path", "problem"), measures):
        done += len(facts)
        yield done


def look_in_threads(workers: int, root: Path, rows: pl.DataFrame, measures: Measures | None) -> Iterator[list[Facts]]:
    """Batches of facts in order. Threads do: reading, hashing and decoding all let other threads run.

    Args:
        workers: threads.
        root: the folder of the pictures.
        rows: paths below it, each with the reason why it cannot be opened, or None.
        measures: see `scan`.
    """

    def look(start: int) -> list[Facts]:
        batch = rows.slice(start, _BATCH).iter_rows()
        if measures is not None:
            return measures.examine(start, [(f"{root}/{path}", problem) for path, problem in batch])
        return [Facts(problem=problem) if problem else examine(f"{root}/{path}") for path, problem in batch]

    pool = ThreadPoolExecutor(workers, thread_name_prefix="tellapart-scan")
    waiting: deque[Future[list[Facts]]] = deque()
    with quiet():
        try:
            for start in range(0, rows.height, _BATCH):
                waiting.append(pool.submit(look, start))
                if len(waiting) >= 4 * workers:  # no more at a time, so that memory does not grow with the folder
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
