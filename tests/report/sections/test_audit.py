"""A report's section on what the audit found among a run's pictures."""

import numpy as np
import pytest
from PIL import ImageOps

from tellapart.data.scan import scan
from tellapart.data.splitting.split import Split
from tellapart.report.blocks import Fold, Pairs
from tellapart.report.sections.audit import audit_section
from tellapart.runs.run import Run


@pytest.fixture
def run(tmp_path, scene):
    root = tmp_path / "photos"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            scene(100 * number + i).save(root / name / f"{i:02}.png")
    ImageOps.mirror(scene(3)).save(root / "cat" / "mirrored.png")
    catalog = scan(root)
    began = Run(tmp_path / "run")
    began.directory.mkdir()
    catalog.save(began.catalog_file)
    began.recipe_file.write_text("")
    return began


def divided(run, held):
    rows = np.arange(len(run.catalog))
    out = np.isin(rows, np.flatnonzero(run.catalog.table["path"].is_in(held).to_numpy()))
    Split(rows[~out], rows[out], rows[:0], run.catalog.digest, 0, "").save(run.split_file)
    return audit_section(run)


def test_a_leak_stands_first(run):
    section = divided(run, ["cat/mirrored.png", "dog/01.png"])
    warning, pairs, *_ = section.blocks
    assert warning.look == "warning"
    assert "1 pair of one picture on two sides of the split" in warning.text
    assert isinstance(pairs, Pairs)
    one, two, said = pairs.pairs[0]
    assert (one.name, two.name) == ("cat/03.png", "cat/mirrored.png")
    assert "one for training, one for validation" in said


def test_no_leak_is_said_too(run):
    section = divided(run, ["cat/01.png", "dog/01.png"])
    assert section.blocks[0].text == "No picture stands on two sides of the split, exactly or nearly."
    assert isinstance(section.blocks[-1], Fold)
