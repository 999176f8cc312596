"""Broken and unusual real files: each is read as an independent reader reads it, or listed with a reason."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tellapart.data.decoding.decode import decode, examine
from tellapart.data.scan import scan
from tellapart.errors import UnreadableError

# What Pillow's own conversions make of these is not what people see: they are compared by other means below.
_SPECIAL_MODES = {"I;16", "LAB"}


@pytest.fixture(scope="module")
def nasty(test_data: Path) -> dict[str, dict[str, str]]:
    with (test_data / "nasty" / "MANIFEST.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_each_file_is_read_or_listed(nasty: dict[str, dict[str, str]], test_data: Path) -> None:
    catalog = scan(test_data / "nasty", layout="folders")
    table = {row["path"]: row for row in catalog.table.iter_rows(named=True)}
    assert set(table) == set(nasty)
    for name, known in nasty.items():
        facts = table[name]
        assert (facts["problem"] is None) == (known["pillow_result"] == "ok"), (name, facts["problem"])
        assert facts["sha256"] is not None
        assert facts["bytes"] == int(known["bytes"])
        if facts["problem"] is not None:
            assert "/" not in facts["problem"]
            assert "Error" not in facts["problem"]
            continue
        assert facts["mode"] == known["mode"], name
        width, height = map(int, known["size"].split("x"))
        assert {facts["width"], facts["height"]} == {width, height}, name
        stated = int(known["exif_orientation"] or 1)
        assert facts["orientation"] == stated, name


def test_readable_files_look_as_pillow_shows_them(nasty: dict[str, dict[str, str]], test_data: Path) -> None:
    for name, known in nasty.items():
        path = test_data / "nasty" / name
        if known["pillow_result"] != "ok" or known["mode"] in _SPECIAL_MODES:
            continue
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            white = Image.new("RGBA", upright.size, "white")
            expected = np.asarray(Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB"))
        pixels = decode(path)
        assert pixels.shape == expected.shape, name
        assert np.abs(pixels.astype(np.int16) - expected).max() <= 4, name


@pytest.mark.parametrize(
    ("name", "divisor"),
    [("16bit.cropped.tif", 257), ("12bit.cropped.tif", 4095 / 255), ("basn0g16.png", 257), ("oi9n0g16.png", 257)],
)
def test_grey_of_more_than_8_bits_keeps_its_range(name: str, divisor: float, test_data: Path) -> None:
    with Image.open(test_data / "nasty" / name) as image:
        values = np.asarray(image).astype(float)
    pixels = decode(test_data / "nasty" / name)
    assert np.abs(pixels - (values / divisor)[..., None]).max() <= 0.51


def test_lab_is_converted(test_data: Path) -> None:
    pixels = decode(test_data / "nasty" / "lab.tif")
    assert pixels.shape == (10, 10, 3)
    assert pixels.std() > 0 or pixels.mean() > 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated_jpeg.jpg", "the file ends too early: it is truncated"),
        ("ultrahdr.jpg", "the file ends too early: it is truncated"),
        ("truncated_image.png", "the file ends too early: it is truncated"),
        ("decompression_bomb.gif", "4,364,696,535 pixels: more than any limit"),
        ("png_decompression_dos.png", "decompression bomb"),
        ("broken.png", "a damaged PNG file"),
        ("zero_width.gif", "a damaged GIF file"),
    ],
)
def test_reasons_are_plain(name: str, reason: str, test_data: Path) -> None:
    path = test_data / "nasty" / name
    facts = examine(path)
    assert facts.problem is not None
    assert reason in facts.problem
    with pytest.raises(UnreadableError, match=name):
        decode(path)


def test_a_stereo_picture_gives_its_first_frame(test_data: Path) -> None:
    with Image.open(test_data / "nasty" / "frozenpond.mpo") as image:
        assert image.n_frames == 2
        expected = np.asarray(image.convert("RGB"))
    pixels = decode(test_data / "nasty" / "frozenpond.mpo")
    assert np.abs(pixels.astype(int) - expected).max() <= 4
