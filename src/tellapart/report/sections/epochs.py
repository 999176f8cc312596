"""The training pictures of an epoch: counts of each label, and contact sheets of augmentation, views and mixing."""

from __future__ import annotations

import io

import numpy as np

from tellapart.core.events import NO_LABEL
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Fold, Photo, Section, Table
from tellapart.runs.run import Run

_PER_BATCH = (
    "Some training pictures: first plain, as validation and the finished model see them; then as the first batch of "
    "each of the first five epochs changed its pictures, all alike."
)
#: The largest width of a contact sheet in the page, in pixels.
_WIDTH = 1400
_SHEETS = (
    (
        "ahead",
        "Versions made ahead",
        "Some training pictures: first plain, then their versions, all of which an epoch shows.",
    ),
    (
        "augmentation",
        "Augmented",
        "Some training pictures: first plain, as validation and the finished model see them; then as the first five "
        "epochs saw them.",
    ),
    (
        "views",
        "Fixed views",
        "Some training pictures: first plain, then the views that the training showed of each, computed once; an epoch "
        "shows one of them, drawn at random.",
    ),
    (
        "mixing",
        "Mixed",
        "Plain pictures above; below them what mixing makes of such, with the share of its own label that each "
        "keeps; the rest belongs to the label of the picture mixed in. Most draws mix less than these.",
    ),
)


def epochs(run: Run) -> Section | None:
    """The section on an epoch's pictures: counts and contact sheets; None where there are neither."""
    blocks: list[Block] = []
    shown = _contents(run)
    if shown is not None:
        blocks.append(shown)
    for name, title, caption in _SHEETS:
        path = run.figures / f"{name}.png"
        if path.is_file():
            if name == "augmentation" and run.recipe.augment_per == "batch":
                caption = _PER_BATCH
            blocks.append(Photo(_jpeg(path.read_bytes()), f"Contact sheet: {title.lower()}", caption, True, title))
    return Section("epochs", "What an epoch shows", blocks, "Epochs", after="pictures") if blocks else None


def _contents(run: Run) -> Block | None:
    """Table of labels: number of pictures, and how often the first epoch of each stage showed them.

    It is folded where every epoch showed every picture once: then it tells nothing new.
    """
    stages = {e["stage"]: e for e in run.events() if e["event"] == "StageStarted" and e.get("shown")}
    if not stages:
        return None
    target = run.catalog.target(run.split.train)
    counts = target.sum(axis=0) if target.ndim == 2 else np.bincount(target, minlength=len(run.catalog.classes))
    n_labelled = dict(zip(run.catalog.classes, map(int, counts), strict=True))
    if target.ndim == 2 and (none := int((target.sum(axis=1) == 0).sum())):
        n_labelled[NO_LABEL] = none
    rows = []
    for label, n in n_labelled.items():
        times = [int(stages[stage]["shown"].get(label, 0)) for stage in sorted(stages)]
        rows.append(
            [Cell(label), Cell(formatting.count(n), n), *(Cell(formatting.count(time), time) for time in times)]
        )
    names = [stages[stage].get("name") or f"stage {stage + 1}" for stage in sorted(stages)]
    caption = "Training pictures with each label, and how often the first epoch of each stage showed one."
    if target.ndim == 2:
        caption += " A picture with several labels counts for each of them."
    table = Table(["label" if target.ndim == 2 else "class", "pictures", *names], rows, caption)
    if all(stage["shown"].get(label, 0) == n for stage in stages.values() for label, n in n_labelled.items()):
        return Fold("Every epoch showed every training picture once", [table])
    return table


def _jpeg(png: bytes) -> bytes:
    """A contact sheet as a JPEG small enough for the page."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as sheet:
        picture = sheet.convert("RGB")
    picture.thumbnail((_WIDTH, 4 * _WIDTH), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85, optimize=True)
    return file.getvalue()
