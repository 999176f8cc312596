"""The training pictures of an epoch: counts of each label, and contact sheets of augmentation, views and mixing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from tellapart.core.events import NO_LABEL
from tellapart.core.sheets import PAPER_ALPHA
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Fold, Photo, Section, Table, Text
from tellapart.runs.run import Run

_PER_BATCH = (
    "Some training pictures: first plain, as validation and the finished model see them; then as the first batch of "
    "each of the first five epochs changed its pictures, all alike."
)
#: The largest width of a contact sheet in the page, in pixels.
_WIDTH = 1400
#: Paper and ink of a contact sheet in the page, as its style sheet has them.
_LIGHT, _DARK = ((251, 250, 248), (27, 29, 32)), ((19, 21, 23), (236, 234, 230))
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
    """Counts of an epoch's pictures and contact sheets, folded; None where there are neither."""
    blocks: list[Block] = []
    shown = _contents(run)
    if shown is not None:
        blocks.append(shown)
    for name, title, caption in _SHEETS:
        path = run.figures / f"{name}.png"
        if path.is_file():
            if name == "augmentation" and run.recipe.augment_per == "batch":
                caption = _PER_BATCH
            light, dark = sheet_jpegs(path.read_bytes())
            blocks.append(Photo(light, f"Contact sheet: {title.lower()}", caption, True, title, dark))
    fold = Fold("The pictures as the training saw them", blocks)
    return Section("pictures", "What it was trained on", [fold], "Pictures") if blocks else None


def _contents(run: Run) -> Block | None:
    """Table of labels: number of pictures, and how often the first epoch of each stage showed them.

    A sentence where every epoch showed every picture once: then the table tells nothing new.
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
        return Text("Every epoch showed every training picture once.")
    return table


def sheet_jpegs(png: bytes) -> tuple[bytes, bytes]:
    """A contact sheet as JPEGs small enough for the page: for light pages, and for dark ones.

    The second is empty where the file does not tell its paper from its pictures, as those of older versions.
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as sheet:
        picture = sheet.convert("RGBA")
    pixels = np.asarray(picture)
    paper = pixels[..., 3] == PAPER_ALPHA
    light = _jpeg(Image.fromarray(np.where(paper[..., None], _tinted(pixels, *_LIGHT), pixels[..., :3])))
    if not paper.any():
        return light, b""
    return light, _jpeg(Image.fromarray(np.where(paper[..., None], _tinted(pixels, *_DARK), pixels[..., :3])))


def _tinted(pixels: Any, paper: tuple[int, int, int], ink: tuple[int, int, int]) -> Any:
    """Black on white as these two colours, uint8 [h, w, 3]."""
    share = pixels[..., 1:2].astype(np.float32) / 255
    return np.round(share * np.array(paper) + (1 - share) * np.array(ink)).astype(np.uint8)


def _jpeg(picture: Any) -> bytes:
    from PIL import Image

    picture.thumbnail((_WIDTH, 4 * _WIDTH), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85, optimize=True)
    return file.getvalue()
