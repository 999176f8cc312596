"""Contact sheets: the cells are the pictures that training would show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tellapart.core import fonts
from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.data.augmentation.contact_sheet import contact_sheet, grid
from tellapart.data.augmentation.transforms import augment, generator
from tellapart.data.decoding.decode import decode
from tellapart.data.scan import scan
from tellapart.recipe.transforms import HorizontalFlip, RandomResizedCrop

HOW = Preprocessing(48, 64)


def cell(sheet, line: int, column: int) -> np.ndarray:
    left, top = 6 + column * (64 + 6), 6 + line * (48 + 18 + 6)
    return np.asarray(sheet.convert("RGB"))[top : top + 48, left : left + 64]


def test_contact_sheet_shows_originals_and_the_first_epochs(picture_folder):
    catalog = scan(picture_folder(width=90, height=70))
    transforms = [RandomResizedCrop(), HorizontalFlip(probability=0.5)]
    sheet = contact_sheet(catalog, [4, 20], transforms, HOW, seed=3, n_views=2)
    assert sheet.size == (6 + 3 * 70, 6 + 2 * 72)
    for line, row in enumerate((4, 20)):
        pixels = decode(catalog.path(row))
        assert np.array_equal(cell(sheet, line, 0), preprocess(pixels, HOW))
        for epoch in range(2):
            expected = augment(pixels, transforms, HOW, generator(3, epoch, row))
            assert np.array_equal(cell(sheet, line, 1 + epoch), expected)


def test_captions_are_there_and_long_names_are_shortened(picture_folder):
    root = picture_folder(width=64, height=48)
    picture = next(root.glob("*/*.png"))
    picture.rename(picture.with_name("a-very-long-name-that-no-caption-has-room-for.png"))
    sheet = np.asarray(contact_sheet(scan(root), [0], [], HOW, seed=0, n_views=1).convert("RGB"))
    captions = sheet[6 + 48 : 6 + 48 + 18]
    assert (captions[:, 6:70] < 128).any()
    assert (captions[:, 76:140] < 128).any()
    assert (captions[:, 70:76] == 255).all(), "no caption runs into the next"


def test_letters_that_no_font_has_are_escapes_and_the_sheet_says_so(picture_folder, monkeypatch):
    own = next(iter(fonts.installed_fonts().values()))
    monkeypatch.setattr(fonts, "installed_fonts", lambda: {"DejaVu Sans": own})
    assert fonts.font_for("Käfer Ω.png") == (own, "Käfer Ω.png")
    assert fonts.font_for("猫.png") == (own, r"\u732b.png")
    assert fonts.font_for("🐈") == (own, r"\U0001f408")
    pixels = np.zeros((48, 64, 3), np.uint8)
    plain, escaped = (grid([[(pixels, name)]]) for name in ("cat.png", "猫.png"))
    assert escaped.height == plain.height + 18
    assert (np.asarray(escaped.convert("RGB"))[-18:] < 128).any()


def test_another_font_that_is_installed_is_taken_for_its_letters(monkeypatch):
    own = next(iter(fonts.installed_fonts().values()))
    monkeypatch.setattr(fonts, "installed_fonts", lambda: {"DejaVu Sans": own, "Other": Path("other.ttf")})
    letters = {own: fonts.letters_of(own), Path("other.ttf"): frozenset(map(ord, "猫.png"))}
    monkeypatch.setattr(fonts, "letters_of", letters.__getitem__)
    assert fonts.font_for("猫.png") == (Path("other.ttf"), "猫.png")
    assert fonts.font_for("cat.png") == (own, "cat.png")
