"""Any file becomes upright RGB pixels or a plain reason; nothing crashes, hangs or takes the machine's memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tellapart.data.decoding import limits
from tellapart.data.decoding.decode import EXTENSIONS, decode, examine
from tellapart.errors import UnreadableError
from tests.data.decoding.pictures import apart, photo, reason, saved, written

LOSSLESS = [
    ("PNG", "RGB"),
    ("PNG", "L"),
    ("PNG", "P"),
    ("PNG", "1"),
    ("BMP", "RGB"),
    ("TIFF", "RGB"),
    ("TIFF", "YCbCr"),
    ("PPM", "RGB"),
    ("GIF", "P"),
    ("WEBP", "RGB"),
    ("JPEG2000", "RGB"),
]


@pytest.mark.parametrize(("kind", "mode"), LOSSLESS)
def test_each_format_gives_pillows_pixels(kind: str, mode: str, tmp_path: Path) -> None:
    content = saved(photo(mode=mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert apart(decode(content), expected) == 0
    facts = examine(written(tmp_path / "picture", content))
    assert (facts.width, facts.height, facts.format, facts.problem) == (64, 48, kind, None)
    assert facts.bytes == len(content)
    assert facts.sha256 == hashlib.sha256(content).digest()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpegs_look_as_pillow_shows_them(mode: str, options: dict[str, object]) -> None:
    content = saved(photo(mode=mode), "JPEG", quality=95, **options)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))
    pixels = decode(content)
    assert apart(pixels, expected) <= 4  # both use libjpeg, perhaps of different versions
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_is_undone(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(photo(), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert apart(decode(content), expected) <= 4
    facts = examine(written(tmp_path / "picture", content))
    assert facts.orientation == orientation
    assert (facts.height, facts.width) == expected.shape[:2]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(saved(photo(), "JPEG", exif=exif)).shape == (48, 64, 3)


@pytest.mark.parametrize("garbage", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_is_ignored(garbage: bytes) -> None:
    plain = saved(photo(), "JPEG")
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(garbage) + 2) + garbage + plain[2:]
    assert decode(content).shape == (48, 64, 3)


def test_xmp_gives_the_orientation_where_exif_has_none() -> None:
    body = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    plain = saved(photo(), "JPEG")
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    assert decode(content).shape == (64, 48, 3)


def test_transparent_parts_show_the_background() -> None:
    image = photo(mode="RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.putpixel((3, 5), (10, 20, 30, 255))
    image.putpixel((4, 5), (200, 100, 0, 51))
    pixels = decode(saved(image, "PNG"), background=(0, 255, 0))
    assert pixels[0, 0].tolist() == [0, 255, 0]
    assert pixels[5, 3].tolist() == [10, 20, 30]
    assert apart(pixels[5, 4], np.array([40, 224, 0])) <= 1  # a fifth of the one, four fifths of the other


@pytest.mark.parametrize(
    ("mode", "transparent"), [("P", 0), ("L", 7), ("RGB", (1, 2, 3)), ("LA", None), ("1", 0), ("I;16", 7)]
)
def test_transparency_of_every_kind_shows_the_background(mode: str, transparent: object) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 7, np.uint16))
    else:
        value = {"P": 0, "L": 7, "RGB": (1, 2, 3), "LA": (9, 0), "1": 0}[mode]
        image = Image.new(mode, (4, 4), value)
    content = saved(image, "PNG", **({} if transparent is None else {"transparency": transparent}))
    assert (decode(content, background=(200, 0, 100)) == [200, 0, 100]).all()


def test_16_bit_grey_is_divided_by_257() -> None:
    values = np.array([[0, 128, 257, 25700, 65535]], np.uint16)
    assert decode(saved(Image.fromarray(values), "PNG"))[0, :, 0].tolist() == [0, 0, 1, 100, 255]
    assert decode(saved(Image.fromarray(values), "TIFF"))[0, :, 2].tolist() == [0, 0, 1, 100, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 25700.0, 65535.0], [0, 100, 255]),
        ([-100.0, 0.0, 100.0], [0, 128, 255]),
    ],
)
def test_floating_point_tiffs_are_brought_to_8_bits(values: list[float], expected: list[int]) -> None:
    content = saved(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert decode(content)[0, :, 0].tolist() == expected


def test_integer_tiffs_count_as_16_bit_where_they_fit() -> None:
    for values, expected in (([0, 25700, 65535], [0, 100, 255]), ([-50, 0, 50], [0, 128, 255])):
        content = saved(Image.fromarray(np.array([values], np.int32)), "TIFF")
        assert decode(content)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_frame_of_several_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert apart(decode(content)[10, 10], np.array([255, 0, 0])) <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_one_pixel_is_a_picture(kind: str, tmp_path: Path) -> None:
    content = saved(Image.new("RGB", (1, 1), (200, 0, 0)), kind)
    assert decode(content, at_least=224).shape == (1, 1, 3)
    assert examine(written(tmp_path / "dot", content)).problem is None


_SIDES = st.one_of(st.integers(17, 200), st.integers(3, 25).map(lambda n: 8 * n))


@given(_SIDES, _SIDES, st.integers(1, 250), st.booleans())
def test_reduced_jpegs_keep_the_side_asked_for(width: int, height: int, at_least: int, turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    content = saved(photo(width, height), "JPEG", quality=95, exif=exif)
    pixels, full = decode(content, at_least), decode(content)
    short = min(full.shape[:2])
    factor = next(f for f in (1, 2, 4, 8) if -(-short // f) == min(pixels.shape[:2]))
    assert min(pixels.shape[:2]) >= min(at_least, short)
    assert factor == 8 or -(-short // (2 * factor)) < at_least  # and no larger than needed
    if width % factor == 0 and height % factor == 0:  # every pixel stands for a whole square of pixels
        squares = full.astype(float).reshape(pixels.shape[0], factor, pixels.shape[1], factor, 3)
        assert np.abs(pixels - squares.mean(axis=(1, 3))).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_unreadable(kind: str, share: float, tmp_path: Path) -> None:
    content = saved(photo(200, 150), kind, **({"exif": Image.Exif()} if kind == "JPEG" else {}))
    path = written(tmp_path / "cut", content[: int(len(content) * share)])
    facts = examine(path)
    assert facts.problem
    assert facts.sha256 is not None
    assert reason(path) == facts.problem
    if kind in ("JPEG", "PNG"):
        assert facts.problem == "the file ends too early: it is truncated"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not a picture: it starts like a web page (HTML)"),
        (b"\n <html>", "not a picture: it starts like a web page (HTML)"),
        (b"%PDF-1.7 ...", "a PDF document, which cannot be read"),
        (b"PK\x03\x04abcd", "not a picture: it starts like a ZIP archive"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture, which cannot be read"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing, which cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "an EPS drawing, which cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (bytes(600), "not a picture: it starts with zeros"),
        (b"just a few words, no picture", "not a picture: it starts like text"),
        (b"\x01\x02\x03\x04\x05", "not a picture of a kind that can be read"),
        (b"\x89PNG\r\n\x1a\nrubbish", "a damaged PNG file"),
        (b"\xff\xd8\xff\xd9", "a JPEG file without a picture in it"),
        (b"\xff\xd8\xff", "the file ends too early: it is truncated"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    assert reason(content).startswith(expected)
    facts = examine(written(tmp_path / "file.jpg", content))
    assert facts.problem == reason(content)
    assert (facts.width, facts.bytes) == (None, len(content))


def test_files_that_cannot_be_opened_are_told_apart(tmp_path: Path) -> None:
    assert "does not exist" in reason(tmp_path / "nothing.jpg")
    assert reason(tmp_path) == "not a file but a folder"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert reason(tmp_path / "pipe.jpg") == "not a file"  # opening it would wait for ever
    if os.name != "nt" and os.geteuid() != 0:
        locked = written(tmp_path / "locked.jpg", b"x")
        locked.chmod(0)
        assert "permission denied" in reason(locked)


def test_errors_carry_path_and_reason(tmp_path: Path) -> None:
    path = written(tmp_path / "a b.jpg", b"")
    with pytest.raises(UnreadableError) as caught:
        decode(path)
    assert str(caught.value) == f"{path}: the file is empty"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PSD", "ICO"])
@given(data=st.data())
def test_no_bytes_break_it(kind: str, data: st.DataObject) -> None:
    """Flip bytes of a real file: the answer is pixels or a reason, never another error, never a warning."""
    if kind == "PSD":
        content = bytearray(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(14) + bytes(192))
    else:
        content = bytearray(saved(photo(32, 32), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UnreadableError):
        pixels = decode(bytes(content))
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3


def test_a_psd_file_is_read() -> None:
    header = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 2, 2, 8, 3) + bytes(12)
    planes = bytes([10] * 4 + [20] * 4 + [30] * 4)
    assert (decode(header + b"\0\0" + planes) == [10, 20, 30]).all()


def test_threads_leave_the_warning_filters_as_they_were(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", saved(photo(), "JPEG"))
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(examine, [path] * 200))
    assert warnings.filters == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_process_forked_while_another_thread_decodes_does_not_hang() -> None:
    content = saved(photo(), "JPEG")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with limits.quiet(), limits.reserve(limits.ALLOWANCE):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads
        child = os.fork()
    if child == 0:
        os._exit(0 if decode(content).shape == (48, 64, 3) else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_suffixes_are_lower_case_and_name_what_people_have() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in EXTENSIONS)
    assert {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic"} <= EXTENSIONS
