"""Pixel operations of a stated strength; `transforms` draws the strengths.

Every function takes one picture, uint8 [height, width, 3], and returns a new one; none writes into its input. Colour
operations are Pillow's, as in torchvision's v2 transforms on Pillow pictures: they let other threads work. Torch's
own fight over threads on small tensors, and take up to ten times as long.

Affine transforms mirror the picture at its edges: no colour is invented, and no edge either.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tellapart.core.preprocess import Pixels, Preprocessing

#: An affine map, 3 × 3, of points (x, y, 1) in pixels from the picture's middle, x to the right and y down.
Matrix = npt.NDArray[np.float64]
#: One number, or an array of them.
Values = float | npt.NDArray[np.generic]


#: Affine transforms of a recipe: neighbours in its list are merged into one warp.
MOVES = ("rotation", "shift", "scale", "shear")


def rotation(degrees: Values) -> Matrix:
    """A turn about the middle, counter-clockwise as one sees it."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _matrix(cos, sin, 0, -sin, cos, 0)


def shift(right: Values, down: Values) -> Matrix:
    """A move by so many pixels."""
    return _matrix(1, 0, right, 0, 1, down)


def scaling(factor: Values) -> Matrix:
    """Larger (above 1) or smaller about the middle."""
    return _matrix(factor, 0, 0, 0, factor, 0)


def shear(x: Values, y: Values) -> Matrix:
    """Slanted by angles in degrees: by `x` the upper edge moves right, by `y` the right edge moves up."""
    return _matrix(1, -np.tan(np.radians(x)), 0, -np.tan(np.radians(y)), 1, 0)


def _matrix(a: Values, b: Values, right: Values, c: Values, d: Values, down: Values) -> Matrix:
    """A matrix, or one for each of the values, which stand in arrays of one shape: [..., 3, 3]."""
    values = (a, b, right, c, d, down)
    matrix = np.zeros((*np.broadcast_shapes(*map(np.shape, values)), 9))
    for index, value in enumerate(values):
        matrix[..., index] = value
    matrix[..., 8] = 1
    return matrix.reshape(*matrix.shape[:-1], 3, 3)


def move(kind: str, preprocessing: Preprocessing, *strengths: Values) -> Matrix:
    """The matrix of an affine transform of a recipe, from its strengths in their order.

    A shift is by whole pixels: alone it needs no interpolation, which would blur training pictures and no others.
    """
    match kind:
        case "rotation":
            return rotation(*strengths)
        case "shift":
            right, down = strengths
            return shift(np.rint(right * preprocessing.width), np.rint(down * preprocessing.height))
        case "scale":
            return scaling(*strengths)
        case _:
            return shear(*strengths)


def warp(pixels: Pixels, matrix: Matrix) -> Pixels:
    """Apply an affine map; bilinear, mirrored at the edges, in a frame of the same size.

    Pillow rounds down, so the result is darker by half a grey level in the mean.
    """
    height, width = pixels.shape[:2]
    if _only_moves(matrix):
        right, down = matrix[:2, 2].astype(int)
        return np.ascontiguousarray(pixels[_mirrored(height, down)][:, _mirrored(width, right)])
    middle = shift(width / 2, height / 2)
    back = middle @ np.linalg.inv(matrix) @ np.linalg.inv(middle)
    corners = back @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    left, top = (max(0, math.ceil(-side)) for side in corners[:2].min(axis=1))
    right, bottom = (max(0, math.ceil(over)) for over in corners[:2].max(axis=1) - (width, height))
    # One pixel more all around, so that the outermost ones are interpolated and not cut off.
    padded = np.pad(pixels, ((top + 1, bottom + 1), (left + 1, right + 1), (0, 0)), mode="symmetric")
    back = shift(left + 1, top + 1) @ back
    coefficients = tuple(back[:2].ravel())
    return _pillow(
        padded,
        lambda picture: picture.transform(
            (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        ),
    )


def _only_moves(matrix: Matrix) -> bool:
    """Whether every point goes the same way, by whole pixels: then nothing has to be interpolated."""
    (a, b, right), (c, d, down), _ = matrix.tolist()
    return bool((a, b, c, d) == (1, 0, 0, 1) and right % 1 == 0 and down % 1 == 0)


def _mirrored(length: int, by: int) -> npt.NDArray[np.int64]:
    """The sources of the pixels of a line that is shifted by so many of them, mirrored at its ends."""
    source = (np.arange(length) - by) % (2 * length)
    return np.minimum(source, 2 * length - 1 - source)


def _pillow(pixels: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    return np.asarray(change(Image.fromarray(pixels)))


def flip_horizontal(pixels: Pixels) -> Pixels:
    """Left becomes right."""
    import torch  # here, since what lies above this room in `tellapart scan` must start without it

    # numpy copies pixels[:, ::-1] in threes of bytes, which takes ten times as long. Torch takes no read-only memory.
    writable = pixels if pixels.flags.writeable else pixels.copy()
    return np.asarray(torch.from_numpy(writable.transpose(2, 0, 1)).flip(2).numpy().transpose(1, 2, 0))


def flip_vertical(pixels: Pixels) -> Pixels:
    """Top becomes bottom."""
    return np.ascontiguousarray(pixels[::-1])


def quarter_turn(pixels: Pixels, degrees: int) -> Pixels:
    """A turn by 90, 180 or 270 degrees, counter-clockwise, without loss; height and width change places."""
    return _pillow(pixels, lambda picture: picture.transpose(Image.Transpose[f"ROTATE_{degrees}"]))


def brightness(pixels: Pixels, factor: float) -> Pixels:
    """Pixels times factor."""
    return _pillow(pixels, lambda picture: ImageEnhance.Brightness(picture).enhance(factor))


def contrast(pixels: Pixels, factor: float) -> Pixels:
    """Distance from the mean grey times factor."""
    return _pillow(pixels, lambda picture: ImageEnhance.Contrast(picture).enhance(factor))


def saturation(pixels: Pixels, factor: float) -> Pixels:
    """Distance of each pixel from its grey times factor."""
    return _pillow(pixels, lambda picture: ImageEnhance.Color(picture).enhance(factor))


def sharpness(pixels: Pixels, factor: float) -> Pixels:
    """Distance from a smoothed picture times factor: 0 is smoothed, 1 changes nothing."""
    return _pillow(pixels, lambda picture: ImageEnhance.Sharpness(picture).enhance(factor))


def greyscale(pixels: Pixels) -> Pixels:
    """Black and white (ITU-R 601-2 luma) in three equal channels."""
    return _pillow(pixels, lambda picture: picture.convert("L").convert("RGB"))


def negative(pixels: Pixels) -> Pixels:
    """255 - pixel."""
    return 255 - pixels


def solarize(pixels: Pixels, threshold: float) -> Pixels:
    """Pixels from the threshold on become their negative."""
    return np.where(pixels >= threshold, 255 - pixels, pixels)


def posterize(pixels: Pixels, bits: int) -> Pixels:
    """Keep only the highest bits of each channel, 0 to 8."""
    return pixels & np.uint8(256 - (1 << (8 - bits)))


def autocontrast(pixels: Pixels) -> Pixels:
    """Stretch each channel so that its darkest pixel is 0 and its lightest 255."""
    return _pillow(pixels, ImageOps.autocontrast)


def equalize(pixels: Pixels) -> Pixels:
    """Change each channel so that all its levels are about equally frequent."""
    return _pillow(pixels, ImageOps.equalize)


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """Gaussian blur, sigma in pixels; Pillow's, which is within two grey levels of the exact one."""
    return _pillow(pixels, lambda picture: picture.filter(ImageFilter.GaussianBlur(sigma)))


def add(pixels: Pixels, noise: npt.NDArray[np.float32]) -> Pixels:
    """Pixels plus noise (same shape, in grey levels), rounded, cut off at 0 and 255."""
    noisy: Pixels = np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
    return noisy


def erase(pixels: Pixels, box: tuple[int, int, int, int], colour: tuple[float, ...]) -> Pixels:
    """Fill a box (left, top, right, bottom) with a colour of 0 to 255."""
    left, top, right, bottom = box
    erased = pixels.copy()
    erased[top:bottom, left:right] = np.rint(colour)
    return erased


def jpeg(pixels: Pixels, quality: float) -> Pixels:
    """Encode as a JPEG of this quality (1 to 100, rounded; 4:2:0 colour) and decode it again."""
    stored = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), round(quality), colorsubsampling="420")
    return np.asarray(simplejpeg.decode_jpeg(stored), np.uint8)


#: Transforms of a recipe that nothing but their strengths decides, which are passed by name.
DETERMINISTIC: dict[str, Callable[..., Pixels]] = {
    "horizontal_flip": flip_horizontal,
    "vertical_flip": flip_vertical,
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "greyscale": greyscale,
    "negative": negative,
    "blur": blur,
    "jpeg": jpeg,
}
