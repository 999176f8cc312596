"""Preprocessing, from a picture to an array: the one implementation for validation, test, exports and answers.

The result is uint8, height × width × 3. Scaling to floats and subtracting the mean are the network's first step
(and so a part of the exported model), so they too exist once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from tellapart.core import checks

Pixels = npt.NDArray[np.uint8]
Fit = Literal["crop", "squash", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
#: Pixels of a side, at most.
MOST_SIDE = 4096

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a network: from a picture to its input.

    Attributes:
        height, width: size of the result in pixels.
        fit: "crop" scales the picture until it covers the frame and cuts the middle; "pad" scales it until it
            fits and fills the rest with `background`; "squash" ignores the aspect ratio.
        crop: share of the scaled picture's side that the frame keeps, in (0, 1]; only for fit="crop".
            0.875 with 224 pixels means: scale to 256, cut 224.
        interpolation: filter used when scaling.
        background: colour (0 to 255) behind transparent pixels and around padded pictures.
        mean, std: per channel, for pixels scaled to 0..1; applied by the network itself.
    """

    height: int
    width: int
    fit: Fit = "crop"
    crop: float = 1.0
    interpolation: Interpolation = "bicubic"
    background: tuple[int, int, int] = (255, 255, 255)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def decode_at_least(self) -> int:
        """Shorter side, in pixels, below which decoding at a reduced scale would lose detail."""
        return round(max(self.height, self.width) / self.crop)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of `as_dict`, for values from any file.

        Raises:
            ValueError: an unknown key, a missing one, another type, or a number out of range.
        """
        checked: dict[str, Any] = _CHECK(values)
        for name in ("background", "mean", "std"):
            checked[name] = tuple(checked[name])
        return cls(**checked)


def _optional(check: checks.Check, name: str) -> tuple[checks.Check, checks.Default]:
    return check, lambda: getattr(Preprocessing, name)


_SIDE = checks.integer(1, MOST_SIDE)
_CHECK = checks.record(
    {
        "height": _SIDE,
        "width": _SIDE,
        "fit": _optional(checks.one_of(*get_args(Fit)), "fit"),
        "crop": _optional(checks.number(1e-6, 1), "crop"),
        "interpolation": _optional(checks.one_of(*get_args(Interpolation)), "interpolation"),
        "background": _optional(checks.listed(checks.integer(0, 255), [3]), "background"),
        "mean": _optional(checks.listed(checks.number(-1e3, 1e3), [3]), "mean"),
        "std": _optional(checks.listed(checks.number(1e-6, 1e3), [3]), "std"),
    },
    others=False,
)


def preprocess(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Scale, cut or pad one upright RGB picture.

    Args:
        pixels: uint8, height × width × 3, as `data.decoding.decode` returns it.
        preprocessing: target size, fit and filter.

    Returns:
        uint8, `preprocessing.height` × `preprocessing.width` × 3, contiguous.
    """
    height, width = pixels.shape[:2]
    if preprocessing.fit == "squash":
        return resize(pixels, preprocessing.height, preprocessing.width, preprocessing.interpolation)
    if preprocessing.fit == "pad":
        scale = min(preprocessing.height / height, preprocessing.width / width)
        inner = resize(
            pixels,
            min(preprocessing.height, max(1, round(height * scale))),
            min(preprocessing.width, max(1, round(width * scale))),
            preprocessing.interpolation,
        )
        frame = np.empty((preprocessing.height, preprocessing.width, 3), np.uint8)
        frame[:] = preprocessing.background
        top, left = (preprocessing.height - inner.shape[0]) // 2, (preprocessing.width - inner.shape[1]) // 2
        frame[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        return frame
    # Cutting from the original and scaling once reads only the pixels that will be seen.
    scale = max(preprocessing.height / height, preprocessing.width / width) / preprocessing.crop
    cut_height, cut_width = preprocessing.height / scale, preprocessing.width / scale
    top, left = (height - cut_height) / 2, (width - cut_width) / 2
    box = (max(0.0, left), max(0.0, top), min(width, left + cut_width), min(height, top + cut_height))
    return resize(pixels, preprocessing.height, preprocessing.width, preprocessing.interpolation, box)


def resize(
    pixels: Pixels,
    height: int,
    width: int,
    interpolation: Interpolation = "bicubic",
    box: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """Scale `box` (left, top, right, bottom; the whole picture by default) to height × width."""
    if (height, width) == pixels.shape[:2] and box in (None, (0.0, 0.0, float(width), float(height))):
        return np.ascontiguousarray(pixels)
    picture = Image.fromarray(pixels).resize((width, height), _RESAMPLING[interpolation], box=box)
    return np.asarray(picture).copy()
