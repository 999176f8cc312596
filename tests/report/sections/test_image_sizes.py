"""The table of picture sizes, against sizes read by Pillow."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tellapart.data.scan import scan
from tellapart.report.sections.image_sizes import SHOWN, sizes
from tellapart.runs.run import Run


def told(folder: Path, out: Path) -> tuple[str, list[list[str]], str]:
    """Summary, lines and caption of the table for a folder of pictures."""
    run = Run(out)
    out.mkdir()
    scan(folder).save(run.catalog_file)
    run.recipe_file.write_text("")
    section = sizes(run)
    assert section.anchor == "pictures"
    fold = section.blocks[0]
    table = fold.blocks[0]
    return fold.summary, [[cell.text for cell in row] for row in table.rows], table.caption


def test_sizes_are_counted_the_commonest_first(picture_folder, tmp_path):
    folder = picture_folder(n=6)
    Image.new("RGB", (31, 70)).save(folder / "circle" / "odd.png")
    (folder / "circle" / "broken.png").write_bytes(b"no picture")
    summary, lines, caption = told(folder, tmp_path / "run")
    assert lines == [["40 × 32", "18", "94.7\u202f%"], ["31 × 70", "1", "5.3\u202f%"]]
    assert summary == "The pictures have 2 different sizes"
    assert "Widths from 31 to 40, 40 on average; heights from 32 to 70, 34 on average" in caption


def test_one_size_is_said_so(picture_folder, tmp_path):
    assert told(picture_folder(n=2), tmp_path / "run")[0] == "All pictures are 40 × 32 pixels"


@pytest.mark.parametrize("n", [SHOWN, SHOWN + 7])
def test_many_sizes_are_counted_together(n, tmp_path):
    for i in range(n):
        path = tmp_path / "photos" / ("even", "odd")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (10 + i, 20)).save(path)
    _, lines, _ = told(tmp_path / "photos", tmp_path / "run")
    expected = Counter()
    for path in (tmp_path / "photos").rglob("*.png"):
        with Image.open(path) as picture:
            expected[f"{picture.width} × {picture.height}"] += 1
    assert {line[0]: int(line[1]) for line in lines[:SHOWN]}.items() <= expected.items()
    assert [line[:2] for line in lines[SHOWN:]] == ([["7 other sizes", "7"]] if n > SHOWN else [])
