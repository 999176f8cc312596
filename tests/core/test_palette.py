"""Colours come from one place, and can be told from what they stand on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

import tellapart
from tellapart.core.palette import DARK, LIGHT, css

PACKAGE = Path(tellapart.__file__).parent


def contrast(one: str, other: str) -> float:
    """Contrast of two colours (WCAG 2.2, relative luminance)."""
    light, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_stand_out(colours: Mapping[str, str]) -> None:
    for ground in ("page", "card", "well"):
        for name in ("ink", "soft", "accent", "doubt", "alarm"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert min(contrast(colours[name], colours["accent-soft"]) for name in ("ink", "accent")) >= 4.5
    marks = ["accent", "accent-2", "quiet-line", "strong-line", *(f"hue-{i}" for i in range(1, 7))]
    for name in marks:
        assert contrast(colours[name], colours["page"]) >= 3, name
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    for i in range(7):
        assert contrast(colours["v-dark" if i < 4 else "v-light"], colours[f"v{i}"]) >= 4.5, i


@pytest.mark.parametrize(("colours", "darkens"), [(LIGHT, True), (DARK, False)], ids=["light", "dark"])
def test_shades_follow_each_other(colours: Mapping[str, str], darkens: bool) -> None:
    shades = [luminance(colours[f"v{i}"]) for i in range(7)]
    assert shades == sorted(shades, reverse=darkens)


def test_both_schemes_have_the_same_names() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert css().count("--accent:") == 2


def test_no_other_file_has_a_colour_of_its_own() -> None:
    """But for the scale of heat maps, which is Matplotlib's."""
    files = [path for kind in ("*.css", "*.html", "*.py") for path in PACKAGE.rglob(kind)]
    assert len(files) > 100
    scale = {"#440154", "#3e4989", "#26828e", "#35b779", "#b4de2c", "#fde725"}
    for path in files:
        used = set(re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text("utf-8")))
        if path.name != "palette.py":
            assert used in (set(), scale), path
