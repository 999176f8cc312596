"""Convert a picture of any Pillow mode to 8-bit RGB, in strips, so that memory never holds it twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from tellapart.core.preprocess import Pixels
from tellapart.data.decoding.messages import Unusable

Colour = tuple[int, int, int]

_STRIP = 250_000  # pixels converted at a time
_BITS_PER_SAMPLE = 258  # TIFF's tag
#: Modes of 16-bit grey.
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")


def to_rgb(image: Image.Image, factor: int, background: Colour) -> Pixels:
    """Convert a loaded picture, as stored (not yet upright), to RGB.

    16-bit grey is divided by 257, or by its own range where a TIFF states fewer bits. 32-bit integers count as 16-bit
    where they fit. Floating-point numbers count as 0..1, 0..255 or 0..65535, the first that they fit in. Any others are
    stretched from their smallest to their largest value. CMYK is converted without its colour profile.

    Args:
        image: loaded.
        factor: 1, 2, 4 or 8: the result is this much smaller, each pixel the mean of factor × factor.
        background: colour behind transparent pixels.

    Returns:
        uint8, ⌈height / factor⌉ × ⌈width / factor⌉ × 3.
    """
    convert = _converter(image, background)
    width, height = image.size
    if width * height <= _STRIP and factor == 1:
        return np.asarray(convert(image)).copy()
    pixels = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    rows = max(1, _STRIP // (width * factor)) * factor
    for top in range(0, height, rows):
        strip = convert(image.crop((0, top, width, min(height, top + rows))))
        pixels[top // factor : (top + rows) // factor] = np.asarray(strip.reduce(factor) if factor > 1 else strip)
    return pixels


def _converter(image: Image.Image, background: Colour) -> Callable[[Image.Image], Image.Image]:
    """The conversion of a strip of this picture to RGB. Ranges are the whole picture's, so that all strips agree."""
    if image.mode in (*GREY_16, "I", "F"):
        return _grey_converter(image, background)
    if image.mode == "LAB":
        return _lab_converter()
    if image.has_transparency_data:
        return lambda strip: _over(strip.convert("RGBA"), background)
    return lambda strip: strip if strip.mode == "RGB" else strip.convert("RGB")


def _over(strip: Image.Image, background: Colour) -> Image.Image:
    canvas = Image.new("RGB", strip.size, background)
    canvas.paste(strip, mask=strip.getchannel("A"))
    return canvas


def _grey_converter(image: Image.Image, background: Colour) -> Callable[[Image.Image], Image.Image]:
    low, high = _range(image)
    scale = 255.0 / (high - low) if high > low else 0.0
    transparent = image.info.get("transparency")

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip)
        grey = np.clip(np.nan_to_num((values.astype(np.float32) - low) * scale), 0, 255)
        result = np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
        if isinstance(transparent, int):
            result[values == transparent] = background
        return Image.fromarray(result)

    return convert


def _range(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white."""
    if image.mode in GREY_16:
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(_BITS_PER_SAMPLE, (16,))
        n_bits = bits[0] if isinstance(bits, tuple) and bits and isinstance(bits[0], int) else 16
        return 0.0, float(2 ** min(max(n_bits, 1), 16) - 1)
    low, high = _extremes(image)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Unusable("its pixels are not numbers")
    for limit in (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,):
        if low >= 0 and high <= limit:
            return 0.0, limit
    return low, high


def _extremes(image: Image.Image) -> tuple[float, float]:
    low, high = image.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    return float(low), float(high)


def _lab_converter() -> Callable[[Image.Image], Image.Image]:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")

    def convert(strip: Image.Image) -> Image.Image:
        result = ImageCms.applyTransform(strip, transform)
        assert result is not None
        return result

    return convert
