"""Contact sheets: augmented pictures for people to look at before they train."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tellapart.core.fonts import font_for
from tellapart.core.preprocess import Pixels, Preprocessing
from tellapart.core.sheets import PAPER_ALPHA
from tellapart.core.text import visible
from tellapart.data.augmentation.transforms import augment, crops, generator
from tellapart.data.catalog import Catalog
from tellapart.data.decoding.decode import decode, read_picture
from tellapart.data.loading.picture_cache import source, source_side
from tellapart.recipe.transforms import Transform

_GAP, _CAPTION, _LETTERS, _SMALLEST = 6, 18, 11, 112
_PAPER, _INK = (255, 255, 255, PAPER_ALPHA), (60, 60, 60, PAPER_ALPHA)
_ESCAPED = r"\u…: a letter that no installed font has"
Cell = tuple[Pixels, str]


def contact_sheet(
    catalog: Catalog,
    rows: Sequence[int],
    transforms: Sequence[Transform],
    preprocessing: Preprocessing,
    seed: int,
    n_views: int = 5,
) -> Image.Image:
    """One line a picture: first as the network sees it without augmentation, then as the first epochs would see it.

    Args:
        catalog: where the pictures are.
        rows: which of them.
        transforms: the recipe's augmentation.
        preprocessing: the network's preprocessing.
        seed: of the training; the pictures are the very ones that it would show.
        n_views: augmented versions a picture.

    Raises:
        UnreadableError: a picture that cannot be read.
    """
    lines = []
    for row in rows:
        pixels = _read(catalog, row, transforms, preprocessing)
        line = [(read_picture(catalog.path(row), preprocessing), PurePosixPath(catalog.table["path"][row]).name)]
        line += [
            (augment(pixels, transforms, preprocessing, generator(seed, epoch, row)), f"epoch {epoch + 1}")
            for epoch in range(n_views)
        ]
        lines.append(line)
    return grid(lines)


def grid(lines: Sequence[Sequence[Cell]]) -> Image.Image:
    """Cells of one size in lines, each with its caption below. Tiny pictures are enlarged, pixel by pixel.

    Letters that no installed font has are escapes; a last line says so.
    """
    captions = [[font_for(visible(caption)) for _, caption in line] for line in lines]
    written = [text for line in captions for _, text in line]
    escaped = written != [visible(caption) for line in lines for _, caption in line]
    height, width = (side * _enlarged(lines) for side in lines[0][0][0].shape[:2])
    n_columns = max(map(len, lines))
    bottom = _GAP + len(lines) * (height + _CAPTION + _GAP)
    size = _GAP + n_columns * (width + _GAP), bottom + escaped * _CAPTION
    sheet = Image.new("RGBA", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        for j, (pixels, _) in enumerate(line):
            left, top = _GAP + j * (width + _GAP), _GAP + i * (height + _CAPTION + _GAP)
            picture = Image.fromarray(np.ascontiguousarray(pixels))
            sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
            file, caption = captions[i][j]
            font = _font(file)
            while draw.textlength(caption, font) > width and len(caption) > 2:
                caption = caption[:-2].rstrip("…") + "…"
            draw.text((left, top + height + 2), caption, _INK, font)
    if escaped:
        draw.text((_GAP, bottom), _ESCAPED, _INK, _font(font_for(_ESCAPED)[0]))
    return sheet


@cache
def _font(file: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, _LETTERS)


def _enlarged(lines: Sequence[Sequence[Cell]]) -> int:
    """How many times larger cells are drawn: people see little in 32 pixels, and captions need room."""
    height, width = lines[0][0][0].shape[:2]
    return max(1, _SMALLEST // max(int(height), int(width)))


def _read(catalog: Catalog, row: int, transforms: Sequence[Transform], preprocessing: Preprocessing) -> Pixels:
    """The picture as training would read it; see `picture_cache.source`."""
    if crops(transforms):
        return source(catalog.path(row), source_side(transforms, preprocessing), preprocessing)
    return decode(catalog.path(row), preprocessing.decode_at_least, preprocessing.background)
