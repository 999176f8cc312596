"""Every figure in every format beside its reference, which somebody has looked at.

After a change that is meant, `WRITE_REFERENCES=1 make test ARGS="-k reference_figures -s"` writes the references anew
and prints the folder of the figures: look at all of them before you commit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.report import reference_figures as figures

STORED = json.loads(figures.CONTENTS.read_text("utf-8"))
PNGS = [name for name in STORED if name.endswith(".png")]
#: Largest difference of grey, 0 to 1: on average, and of the worst hundredth of the pixels. Matplotlib brings its font
#: along, so that machines differ by less; a line that is missing or two pixels off is more.
MEAN, WORST = 0.005, 0.15


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    with matplotlib.rc_context({"pdf.compression": 0}):  # so that the texts can be read
        paths = figures.draw(folder)
    if os.environ.get("WRITE_REFERENCES"):
        figures.write_references(paths)
        print(folder)
    return folder


def reference(name: str) -> npt.NDArray[np.float64]:
    with Image.open(figures.REFERENCES / name) as picture:
        return np.asarray(picture, np.float64) / 255


def alike(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    difference = np.sort(np.abs(one - other).ravel())
    return bool(difference.mean() < MEAN and difference[-len(difference) // 100 :].mean() < WORST)


def test_every_figure_has_a_reference(drawn: Path) -> None:
    assert {path.name for path in drawn.iterdir()} == STORED.keys()
    assert set(PNGS) == {path.name for path in figures.REFERENCES.glob("*.png")}


@pytest.mark.parametrize("name", STORED)
def test_a_figure_is_as_its_reference(drawn: Path, name: str) -> None:
    content = figures.content(drawn / name)
    if name not in PNGS:
        assert content == STORED[name]
        assert not [text for text in content["texts"] if "mathdefault" in text or "$\\" in text]
        return
    assert content["size"] == pytest.approx(STORED[name]["size"], rel=0.05)
    stored = reference(name)
    assert alike(figures.coarse(drawn / name, len(stored)), stored)


@pytest.mark.parametrize("name", PNGS)
def test_what_is_moved_or_missing_is_a_difference(name: str) -> None:
    stored = reference(name)
    blank = stored.copy()
    blank[:, stored.shape[1] // 3 :] = 1
    assert alike(stored, stored)
    assert not alike(blank, stored)
    for axis in (0, 1):
        assert not alike(np.roll(stored, 2, axis), stored)
