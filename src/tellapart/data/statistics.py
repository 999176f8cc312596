"""Image statistics for the audit, measured in the one pass that opens the files.

Each picture leaves a thumbnail of 32 × 32 grey pixels and a dozen numbers, about a kilobyte. The audit works from these
alone, so its memory does not depend on the size of the pictures.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from tellapart.core.files import cache_folder, replacing
from tellapart.core.preprocess import Pixels
from tellapart.data.decoding.decode import Facts, examine

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
#: Side of a thumbnail in pixels.
SIDE = 32
#: Short side that JPEGs keep when they are decoded for this.
_AT_LEAST = 128
# Sides at which sharpness is measured: the largest that a picture has itself.
_WORKING = (128, 64)
_VERSION = 3
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
#: The outermost pixels of a thumbnail, two wide.
_BORDER = np.pad(np.zeros((SIDE - 4, SIDE - 4), bool), 2, constant_values=True)


@dataclass(frozen=True)
class Measured:
    """Statistics of pictures; NaN, 0 and False where a picture could not be read. Brightness is from 0 to 255.

    Attributes:
        thumb: uint8 [n, 32, 32], grey.
        colour: float32 [n, 3], mean red, green and blue. border: the same of the outermost pixels.
        border_contrast: float32 [n], deviation of the border's grey. contrast: of all grey.
        light, dark: float32 [n], grey that 95 % (5 %) of the pixels do not exceed.
        colourfulness: float32 [n], largest difference between two channels of a pixel; near 0 for a grey picture.
        n_colours: float32 [n], different colours in a coloured thumbnail, at 16 steps a channel.
        sharpness: float32 [n], how much of the change between neighbouring pixels is fine detail; see `sharpness`.
        frames: bool [n], whether the file holds several frames.
        taken: float64 [n], when it was taken, in seconds since 1970 by the camera's clock; NaN where EXIF does not say.
    """

    thumb: Bytes
    colour: Floats
    border: Floats
    border_contrast: Floats
    contrast: Floats
    light: Floats
    dark: Floats
    colourfulness: Floats
    n_colours: Floats
    sharpness: Floats
    frames: npt.NDArray[np.bool_]
    taken: npt.NDArray[np.float64]

    def take(self, rows: npt.ArrayLike) -> Measured:
        """The figures of some rows."""
        return Measured(*(getattr(self, field.name)[np.asarray(rows, np.int64)] for field in fields(self)))


class Measures:
    """Collects statistics while several threads open the files."""

    def __init__(self) -> None:
        self._parts: dict[int, Measured] = {}

    def examine(self, start: int, files: list[tuple[str, str | None]]) -> list[Facts]:
        """Look at some files.

        Args:
            start: number of the first one's row.
            files: paths, each with the reason why it cannot be opened, or None.
        """
        thumbs = np.zeros((len(files), SIDE, SIDE, 3), np.uint8)
        sharp = np.full(len(files), np.nan, np.float32)
        frames, taken = np.zeros(len(files), bool), np.full(len(files), np.nan)
        facts = []
        for i, (path, problem) in enumerate(files):

            def look(pixels: Pixels, animated: bool, moment: float, i: int = i) -> None:
                thumbs[i], sharp[i] = _small(pixels)
                frames[i], taken[i] = animated, moment

            facts.append(Facts(problem=problem) if problem else examine(path, look, _AT_LEAST))
        known = np.array([fact.problem is None for fact in facts], bool)
        self._parts[start] = _measure(thumbs, sharp, frames, taken, known)
        return facts

    def add(self, start: int, measured: Measured) -> None:
        """Take what was measured elsewhere of the rows from `start` on."""
        self._parts[start] = measured

    def finish(self) -> Measured:
        """All figures, in the order of rows."""
        parts = [self._parts[start] for start in sorted(self._parts)]
        names = [field.name for field in fields(Measured)]
        whole = {}
        for name in names:
            whole[name] = np.concatenate([getattr(part, name) for part in parts])
        self._parts.clear()
        return Measured(**whole)


def _small(pixels: Pixels) -> tuple[Pixels, float]:
    """A coloured thumbnail and the sharpness (NaN where it is to be measured on the thumbnail)."""
    height, width = pixels.shape[:2]
    if (height, width) == (SIDE, SIDE):
        return pixels, np.nan
    image = Image.frombytes("RGB", (width, height), np.ascontiguousarray(pixels))
    short = min(height, width)
    if short >= 2 * _WORKING[0]:
        image = image.reduce(short // _WORKING[0])
    thumb = _array(image.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(SIDE, SIDE, 3)
    working = next((side for side in _WORKING if short >= side), None)
    if working is None:
        return thumb, np.nan
    grey = _array(image.convert("L").resize((working, working), Image.Resampling.BOX))
    return thumb, float(sharpness(grey.reshape(1, working, working))[0])


def _array(image: Image.Image) -> Bytes:
    """The bytes of a picture. `np.asarray` would ask for its description first, which takes longer."""
    return np.frombuffer(image.tobytes(), np.uint8)


def sharpness(grey: Bytes) -> Floats:
    """Energy of the second differences of neighbouring pixels, over that of the first; float32 [n], 0 to 4.

    A blurred picture keeps slopes but loses abrupt changes. A ratio does not depend on contrast. After Crete 2007, who
    judges blur by the differences of neighbours, with energies instead of a second blur.

    Args:
        grey: uint8 [n, height, width].
    """
    first = np.zeros(len(grey), np.float32)
    second = np.zeros(len(grey), np.float32)
    for number, picture in enumerate(grey):  # one by one, so that each stays in the processor's cache
        values = picture.astype(np.float32)
        down, right = values[1:] - values[:-1], values[:, 1:] - values[:, :-1]
        first[number] = np.vdot(down, down) + np.vdot(right, right)
        down, right = down[1:] - down[:-1], right[:, 1:] - right[:, :-1]
        second[number] = np.vdot(down, down) + np.vdot(right, right)
    return np.divide(second, first, out=np.full(len(grey), np.nan, np.float32), where=first > 0)


def _measure(
    thumbs: Pixels,
    sharp: Floats,
    frames: npt.NDArray[np.bool_],
    taken: npt.NDArray[np.float64],
    known: npt.NDArray[np.bool_],
) -> Measured:
    """Figures of coloured thumbnails [n, 32, 32, 3], all at once."""
    n = len(thumbs)
    # A plane a colour: NumPy is slow along an axis of three.
    planes = np.ascontiguousarray(thumbs.reshape(n, SIDE * SIDE, 3).transpose(2, 0, 1))
    exact = planes.astype(np.float32)
    grey = np.rint(np.tensordot(_GREY, exact, 1)).astype(np.uint8)
    border = np.flatnonzero(_BORDER)
    # Bytes and codes of two bytes are sorted by their digits only where the sort is to be stable.
    ordered = np.sort(grey, axis=1, kind="stable")
    coarse = (planes >> 4).astype(np.uint16)
    codes = np.sort(coarse[0] << 8 | coarse[1] << 4 | coarse[2], axis=1, kind="stable")
    small = np.isnan(sharp)
    if small.any():
        sharp[small] = sharpness(grey[small].reshape(-1, SIDE, SIDE))

    def figure(values: npt.NDArray[np.generic]) -> Floats:
        result = values.astype(np.float32)
        result[~known] = np.nan
        return result

    return Measured(
        thumb=grey.reshape(n, SIDE, SIDE),
        colour=figure(exact.mean(axis=2).T),
        border=figure(exact[:, :, border].mean(axis=2).T),
        border_contrast=figure(grey[:, border].std(axis=1, dtype=np.float32)),
        contrast=figure(grey.std(axis=1, dtype=np.float32)),
        light=figure(ordered[:, SIDE * SIDE * 95 // 100]),
        dark=figure(ordered[:, SIDE * SIDE * 5 // 100]),
        colourfulness=figure((planes.max(axis=0) - planes.min(axis=0)).max(axis=1)),
        n_colours=figure(1 + np.count_nonzero(np.diff(codes, axis=1), axis=1)),
        sharpness=figure(sharp),
        frames=frames,
        taken=taken,
    )


def measures_file(contents: list[bytes | None]) -> Path:
    """The cache file of the statistics of pictures with these SHA-256."""
    digest = hashlib.sha256(f"measures {_VERSION}".encode())
    for content in contents:
        digest.update(content or bytes(32))
    return cache_folder("audit") / f"{digest.hexdigest()[:32]}.npz"


def save_measured(measured: Measured, path: Path) -> None:
    """Write statistics to their cache file."""
    with replacing(path) as beside, beside.open("wb") as file:
        write_measured(measured, file)


def write_measured(measured: Measured, file: IO[bytes]) -> None:
    """Write statistics to an open file, as an archive of arrays."""
    np.savez(file, **{field.name: getattr(measured, field.name) for field in fields(measured)})


def read_measured(file: IO[bytes]) -> Measured:
    """Statistics from an open file; raises what NumPy does where it is damaged."""
    with np.load(file, allow_pickle=False) as arrays:
        return Measured(**{field.name: arrays[field.name] for field in fields(Measured)})


def load_measured(path: Path) -> Measured | None:
    """Statistics from their cache file, or None."""
    try:
        with path.open("rb") as file:
            return read_measured(file)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
