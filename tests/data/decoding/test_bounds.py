"""What a header claims is bounded before any work is done: bytes, parts and seconds, in every format."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tellapart.data.decoding import avif, bounded_file, jpeg2000, tiff, webp
from tellapart.data.decoding import decode as decode_module
from tellapart.data.decoding.bounded_file import MAX_HEADER, BoundedFile
from tellapart.data.decoding.decode import decode, examine
from tellapart.data.decoding.messages import Unusable
from tellapart.data.scan import scan
from tellapart.errors import UnreadableError
from tests.data.decoding import hostile
from tests.data.decoding.hostile import JPEG_EXIF

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG of EXIF segments": (lambda: hostile.jpeg_of_segments(0xE1, b"Exif\0\0" + bytes(10), 30_000), "segments"),
    "JPEG of comments": (lambda: hostile.jpeg_of_segments(0xFE, b"", 30_000), "segments"),
    "JPEG of scans": (lambda: hostile.jpeg_of_scans(7000, 7000, 100), "scans"),
    "JPEG of fill bytes": (lambda: b"\xff\xd8" + b"\xff" * 5_000_000 + hostile.plain("JPEG")[2:], "header takes more"),
    "PNG of empty chunks": (lambda: hostile.png_of_chunks(b"abCd", b"", 30_000), "more parts"),
    "PNG of texts": (lambda: hostile.png_of_chunks(b"tEXt", b"a\0" + bytes(50_000), 400), "header takes more"),
    "PNG of empty data": (lambda: hostile.png_of_chunks(b"IDAT", b"", 30_000), "more parts"),
    "PNG of chunks at its end": (lambda: hostile.png_of_chunks(b"abCd", b"", 30_000, b"IEND"), "more parts"),
    "GIF of comments": (lambda: hostile.gif_of_blocks(b"!\xfe\1a\0", 30_000), "more parts"),
    "GIF of one long comment": (lambda: hostile.gif_of_blocks(b"!\xfe" + b"\1a" * 100_000 + b"\0", 1), "more parts"),
    "PPM with a long comment": (lambda: b"P6\n#" + b"x" * 100_000 + b"\n4 4\n255\n" + bytes(48), "more parts"),
    "PPM of blanks": (lambda: b"P6\n" + b" " * 100_000 + b"4 4\n255\n" + bytes(48), "more parts"),
    "PPM of text": (lambda: b"P3\n3000 3000\n255\n" + b"1 " * 1000, "numbers as text"),
    "BMP of runs": (lambda: hostile.bmp_of_runs(7000, 7000, b"\1\5\0\0" * 7000), "more than the limit of 10 million"),
    "JPEG 2000 of tiles": (lambda: hostile.codestream(), "65,025 tiles"),
    "JPEG 2000 of channels": (lambda: hostile.codestream((99, 99), (99, 99), 16_384), "16,384 channels"),
    "JPEG 2000 of precincts": (
        lambda: hostile.codestream((4000, 4000), (4000, 4000), style=b"\0\4\4\0\1\0", coding=b"\1\0\0\1\0"),
        "precincts",
    ),
    "JPEG 2000 of blocks": (lambda: hostile.codestream((4000, 4000), (4000, 4000), style=b"\0\0\0\0\1"), "code blocks"),
    "JPEG 2000 of layers": (
        lambda: hostile.codestream((4000, 4000), (99, 99), style=b"\5\4\4\0\1", coding=b"\0\0\xff\xff\0"),
        "layers",
    ),
    "JPEG 2000 of comments": (
        lambda: hostile.codestream((64, 48), (64, 48), markers=b"\xff\x64\0\4\0\0" * 30_000),
        "markers",
    ),
    "JPEG 2000 of pixels": (lambda: hostile.codestream((30_000, 30_000), (30_000, 30_000)), "30,000 × 30,000 pixels"),
    "JPEG 2000 of boxes": (
        lambda: hostile.plain("JPEG2000")[:12] + b"\0\0\0\x08free" * 2_000 + hostile.plain("JPEG2000")[12:],
        "boxes",
    ),
    "TIFF of tags": (lambda: hostile.tiff(*[(40_000, 4, 1, 1)] * 65_000), "65,000 tags"),
    "TIFF of values": (lambda: hostile.tiff((258, 3, 300_000, 8), values=bytes(600_000)), "300,000 values"),
    "large TIFF of values": (lambda: hostile.tiff((273, 16, 1 << 40, 16), large=True), "values in its tags"),
    "WebP of chunks": (lambda: hostile.webp_of_chunks(60_000), "chunks"),
    "WebP of pixels": (lambda: hostile.webp_canvas(16_000, 16_000), "16,000 × 16,000 pixels"),
    "AVIF of items": (lambda: hostile.avif_of_items(20_000), "more pictures"),
    "AVIF of boxes": (lambda: hostile.plain("AVIF") + b"\0\0\0\x08free" * 3_000, "boxes"),
    "icon of pictures": (lambda: hostile.icon(256, hostile.plain("PNG")), "256 pictures"),
    "PSD of resources": (lambda: hostile.psd_of_resources(50_000), "more parts"),
}


@pytest.fixture
def few_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer reads than are allowed, so that a test's files may be small."""
    monkeypatch.setattr(bounded_file, "_MAX_READS", 30_000)


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_of_too_many_parts_are_refused(name: str, few_reads: None) -> None:
    make, expected = HOSTILE[name]
    with pytest.raises(UnreadableError) as caught:
        decode(make())
    assert expected in caught.value.reason


def test_what_follows_a_gifs_first_frame_is_bounded_and_costs_no_picture(tmp_path: Path, few_reads: None) -> None:
    (tmp_path / "a.gif").write_bytes(hostile.gif_of_blocks(b"!\xfe\1a\0", 10_000, after=True))
    animated = []
    assert examine(tmp_path / "a.gif", lambda _, several, *__: animated.append(several)).problem is None
    assert animated == [False]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: hostile.jpeg_of_segments(0xE1, b"Exif\0\0" + bytes(10), 200), id="JPEG"),
        pytest.param(lambda: hostile.png_of_chunks(b"tEXt", b"a\0b", 200), id="PNG"),
        pytest.param(lambda: hostile.gif_of_blocks(b"!\xfe\1a\0", 200), id="GIF"),
        pytest.param(lambda: b"P6\n#" + b"x" * 500 + b"\n4 4\n255\n" + bytes(48), id="PPM"),
        pytest.param(lambda: hostile.webp_of_chunks(50), id="WebP"),
        pytest.param(lambda: hostile.icon(20, hostile.plain("PNG")), id="icon"),
        pytest.param(lambda: hostile.bmp_of_runs(8, 8, b"\x08\5\0\0" * 8 + b"\0\1"), id="BMP"),
    ],
)
def test_some_more_parts_than_usual_do_no_harm(content: Callable[[], bytes]) -> None:
    assert decode(content()).ndim == 3


@pytest.mark.parametrize("start", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "AVIF", "JPEG2000", "JPEG", "zeros"])
def test_a_huge_file_is_refused_by_its_header(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of 20 GB: nothing of it is hashed or read whole."""
    monkeypatch.setattr(decode_module.hashlib, "file_digest", lambda *_: pytest.fail("it was hashed"))
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.write(b"" if start == "zeros" else hostile.plain(start))
        file.truncate(20_000_000_000)
    facts = scan(tmp_path, layout="folders").table.row(0, named=True)
    assert facts["sha256"] is None
    assert facts["bytes"] == 20_000_000_000
    assert ("starts with zeros" if start == "zeros" else "20,000 MB: more than the limit") in facts["problem"]


def test_a_file_is_hashed_though_it_is_large(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), np.uint8))
    noise.save(tmp_path / "large.bmp")
    facts = examine(tmp_path / "large.bmp")
    assert facts.problem is None
    assert facts.sha256 is not None


def test_reads_are_counted() -> None:
    file = BoundedFile(io.BytesIO(bytes(100_000)), 100_000)
    with pytest.raises(Unusable, match="more parts"):
        list(iter(lambda: file.read(1), b""))
    endless = BoundedFile(io.BytesIO(bytes(MAX_HEADER + 2)), MAX_HEADER + 2)
    with pytest.raises(Unusable, match="more than 16 MB"):
        endless.read()
    assert BoundedFile(io.BytesIO(b"abc"), 3).read() == b"abc"


def test_sizes_are_those_of_the_data_not_of_the_boxes() -> None:
    whole = hostile.plain("AVIF")
    assert avif.size(io.BytesIO(whole)) == (64, 48)
    position = whole.index(b"ispe") + 8
    assert avif.size(io.BytesIO(whole[:position] + struct.pack(">II", 8, 8) + whole[position + 8 :])) == (64, 48)
    boxed = hostile.plain("JPEG2000")
    assert jpeg2000.size(io.BytesIO(boxed)) == (64, 48)
    position = boxed.index(b"ihdr") + 4
    assert jpeg2000.size(io.BytesIO(boxed[:position] + struct.pack(">II", 8, 8) + boxed[position + 8 :])) == (64, 48)


def test_the_size_of_a_film_is_that_of_its_frames() -> None:
    film = hostile.plain("AVIF", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")] * 3)
    assert avif.size(io.BytesIO(film)) == (64, 48)


STRUCTURES = {"AVIF": avif.size, "WEBP": webp.size, "JPEG2000": jpeg2000.size, "TIFF": tiff.n_bytes}


@pytest.mark.parametrize("kind", STRUCTURES)
@given(data=st.data())
def test_no_header_breaks_what_counts_it(kind: str, data: st.DataObject) -> None:
    content = bytearray(hostile.plain(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.sampled_from([b"\0", b"\xff", b"\1", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1"]))
        content[position : position + len(piece)] = piece
    with contextlib.suppress(Unusable):
        STRUCTURES[kind](io.BytesIO(content[: data.draw(st.integers(0, len(content)))]))
    with contextlib.suppress(Unusable):
        STRUCTURES[kind](io.BytesIO(content))


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}])
def test_the_size_of_every_kind_of_webp(options: dict[str, object]) -> None:
    assert webp.size(io.BytesIO(hostile.plain("WEBP", **options))) == (64, 48)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG2000", "TIFF", "ICO"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_half_a_header_is_no_harm(kind: str, share: float) -> None:
    whole = hostile.plain(kind)
    with pytest.raises(UnreadableError):
        decode(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("largest", [15, 254, 1023, 4095, 65534])
@pytest.mark.parametrize("magic", [b"P5", b"P6"])
def test_pixel_maps_of_any_range_are_read_as_pillow_reads_them(magic: bytes, largest: int) -> None:
    kind = ">u2" if largest > 255 else "u1"
    values = np.random.default_rng(0).integers(0, largest + 1, (30, 20, 3 if magic == b"P6" else 1)).astype(kind)
    content = magic + b"\n# a note\n20 30\n%d\n" % largest + values.tobytes()
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image).astype(float) / (257 if image.mode == "I" else 1)
    assert np.abs(decode(content) - np.rint(expected).reshape(30, 20, -1)).max() == 0
    with pytest.raises(UnreadableError, match="truncated"):
        decode(content[:-2])


def test_comments_between_the_numbers_of_a_pixel_map_are_dropped() -> None:
    content = b"P3\n2 1\n255\n1 2 # three\n3\n#\n#\n 4 5 6\n"
    assert decode(content).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_long_jpeg2000_files_come_at_half_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    content = hostile.plain("JPEG2000")
    monkeypatch.setattr(decode_module, "_MAX_JPEG2000", len(content) - 1)
    assert decode(content).shape == (24, 32, 3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_the_orientation_is_read_without_the_other_tags(order: str, kind: int) -> None:
    """Each of 65,535 tags claims all of the data, which Pillow would read as often."""
    value = struct.pack(order + ("H" if kind == 3 else "I"), 6).ljust(4, b"\0")
    tag = struct.pack(order + "HHI", 0x0112, kind, 1) + value
    others = struct.pack(order + "HHII", 0x9286, 7, 700_000, 8) * 60_000
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 60_001)
    exif = head + others[:-12] + tag + bytes(4)
    segments = [JPEG_EXIF + exif[i : i + 65_000] for i in range(0, len(exif), 65_000)]
    whole = hostile.plain("JPEG")
    written = b"".join(b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in segments)
    assert decode(whole[:2] + written + whole[2:]).shape == (64, 48, 3)
    assert decode(hostile.plain("PNG", exif=JPEG_EXIF + exif)).shape == (64, 48, 3)
