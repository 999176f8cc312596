"""The audit: measures every picture once, then looks for everything odd in measures and labels."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.auditing.banded import Joining, near_hashes
from tellapart.auditing.duplicates import LEAST_SIDE, find_pairs, pair_findings, placeholders, tied
from tellapart.auditing.findings import KINDS, Audit
from tellapart.auditing.groups import with_groups
from tellapart.auditing.labels import label_facts, label_findings
from tellapart.auditing.pictures import picture_findings
from tellapart.auditing.scene_findings import scene_findings
from tellapart.auditing.scenes import find_scenes, scene_groups
from tellapart.auditing.shortcuts import shortcut_findings
from tellapart.core.events import Computing
from tellapart.core.text import first_few
from tellapart.data.catalog import PARTS, Catalog
from tellapart.data.statistics import Floats, Measured, Measures, load_measured, measures_file, save_measured
from tellapart.errors import MissingExtraError

if TYPE_CHECKING:
    from tellapart.data.splitting.split import Split

Ints = npt.NDArray[np.int64]


def audit(
    catalog: Catalog,
    split: Split | None = None,
    *,
    measured: Measured | None = None,
    features: Floats | None = None,
    shortcuts: bool = True,
    joining: Joining = near_hashes,
) -> Generator[Computing, None, Audit]:
    """Look for what is odd in pictures and their labels. Nothing is changed.

    Args:
        catalog: the pictures.
        split: the division to look for leaks in; by default the parts that the data bring along.
        measured: measures that `scan` took in passing; by default the stored ones, or every picture is opened.
        features: float32 [n, d] of a pretrained network, a row a picture: they find more near duplicates.
        shortcuts: look for shortcuts too.
        joining: finds near hashes among very many pictures.

    Yields:
        Computing, now and then.
    """
    measures = measured if measured is not None else (yield from measure(catalog))
    sides = _sides(catalog, split)
    pairs = yield from find_pairs(catalog, measures, features, joining=joining)
    copies = tied(len(catalog), pairs)
    scenes = yield from find_scenes(catalog, measures, features)
    groups, untied = scene_groups(catalog, copies, scenes)
    plain = placeholders(catalog, measures)
    left_out = np.zeros(len(catalog), bool)
    left_out[[finding.row for finding in plain if finding.row is not None]] = True
    findings = [
        *plain,
        *pair_findings(catalog, pairs, sides, left_out),
        *scene_findings(scenes, copies, sides, left_out),
        *picture_findings(catalog, measures),
        *label_findings(catalog),
    ]
    notes = [untied_note(untied)] if untied else []
    if shortcuts:
        yield Computing(-1, "looking for shortcuts", 0, 1)
        try:
            findings += shortcut_findings(catalog, measures, copies)
        except MissingExtraError as error:
            notes.append(f"{error.message} {error.hint}")
    if sides is None:
        notes.append("The pictures are not divided into parts, so no leaks between parts were looked for.")
    small = catalog.table.filter(pl.min_horizontal("width", "height") < LEAST_SIDE).height
    if small > 0.5 * len(catalog):
        notes.append(f"Pictures of fewer than {LEAST_SIDE} pixels a side are too small to look for near duplicates.")
    order = {kind: i for i, kind in enumerate(KINDS)}
    findings.sort(key=lambda finding: order[finding.kind])
    return Audit(catalog, tuple(findings), {**size_facts(catalog), **label_facts(catalog)}, tuple(notes), groups)


def audited(catalog: Catalog, split: Split | None = None) -> Audit:
    """As `audit`, for callers that show no progress."""
    work = audit(catalog, split)
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Audit = end.value
            return result


def tie_duplicates(
    catalog: Catalog, features: Floats | None = None
) -> Generator[Computing, None, tuple[Catalog, tuple[str, ...]]]:
    """Tie copies, near duplicates and pictures of one scene into groups, which a split keeps on one side.

    Args:
        catalog: the pictures.
        features: as for `audit`.

    Returns:
        The catalog with groups; and the classes whose scenes are not tied, since too few groups would be left.
    """
    measures = yield from measure(catalog)
    pairs = yield from find_pairs(catalog, measures, features)
    scenes = yield from find_scenes(catalog, measures, features)
    groups, untied = scene_groups(catalog, tied(len(catalog), pairs), scenes)
    return with_groups(catalog, groups), untied


def untied_note(classes: Sequence[str]) -> str:
    """A sentence on classes whose scenes are not tied."""
    names = first_few(classes)
    return f"Pictures of one scene are not tied in classes of which too few groups would be left: {names}."


def measure(catalog: Catalog) -> Generator[Computing, None, Measured]:
    """The measures of a catalog's pictures: as stored under their content, or from opening every file once."""
    file = measures_file(catalog.table["sha256"].to_list())
    stored = load_measured(file)
    if stored is not None and len(stored.thumb) == len(catalog):
        return stored
    from tellapart.data.scan import look_again

    measures = Measures()
    for done in look_again(catalog, measures):
        yield Computing(-1, "measuring pictures", done, len(catalog))
    measured = measures.finish()
    if not np.isnan(measured.contrast[catalog.readable]).any():  # else some have broken or gone since the scan
        save_measured(measured, file)
    return measured


def _sides(catalog: Catalog, split: Split | None) -> npt.NDArray[np.str_] | None:
    """The part of each row, "" for none; None where nothing is divided."""
    if split is None:
        parts = catalog.table["split"]
        return parts.fill_null("").to_numpy().astype(np.str_) if parts.n_unique() > 1 else None
    sides = np.full(len(catalog), "", dtype="<U10")
    for part in PARTS:
        sides[getattr(split, part)] = part
    return sides


def size_facts(catalog: Catalog) -> dict[str, Any]:
    """Smallest, largest and mean size in pixels, and how often each size occurs."""
    readable = catalog.table.filter(pl.col("problem").is_null())
    facts: dict[str, Any] = {"n": len(catalog), "n_unreadable": len(catalog) - readable.height}
    if not readable.height:
        return facts
    area = readable.select(area=pl.col("width").cast(pl.Int64) * pl.col("height"))["area"]
    smallest, largest = (readable.row(int(i), named=True) for i in (area.arg_min() or 0, area.arg_max() or 0))
    sizes = readable.group_by("width", "height").len().sort(["len", "width", "height"], descending=[True, False, False])
    return facts | {
        "smallest": [smallest["width"], smallest["height"]],
        "largest": [largest["width"], largest["height"]],
        "mean": [round(float(readable[side].cast(pl.Float64).mean() or 0), 1) for side in ("width", "height")],  # type: ignore[arg-type]
        "sizes": [list(row) for row in sizes.iter_rows()],
        "formats": dict(readable["format"].value_counts(sort=True).iter_rows()),
        "bytes": int(readable["bytes"].sum()),
    }
