"""What an epoch shows of the training pictures: augmented, in fixed views, mixed."""

from __future__ import annotations

import io

from tellapart.report.blocks import Block, Photo, Section
from tellapart.run_directory import Run

#: Longest width of a sheet in the page, in pixels.
_WIDTH = 1400
_SHEETS = (
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
    """The contact sheets that the training left; None where it showed every picture as it is."""
    blocks: list[Block] = []
    for name, title, caption in _SHEETS:
        path = run.figures / f"{name}.png"
        if path.is_file():
            blocks.append(Photo(_jpeg(path.read_bytes()), f"Contact sheet: {title.lower()}", caption, True, title))
    return Section("epochs", "What an epoch shows", blocks, "Epochs", after="pictures") if blocks else None


def _jpeg(png: bytes) -> bytes:
    """A sheet small enough to stand in the page."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as sheet:
        picture = sheet.convert("RGB")
    picture.thumbnail((_WIDTH, 4 * _WIDTH), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85, optimize=True)
    return file.getvalue()
