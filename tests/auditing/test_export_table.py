"""Tables of pictures to train on: what is not known stays so; classes are counted as kept and excluded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.auditing.export_table import write_table
from tellapart.data.scan import scan
from tellapart.workflows.audit import Written


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_not_known_comes_back(tmp_path: Path, suffix: str) -> None:
    for i in range(4):
        Image.new("RGB", (5, 4), (60 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("file_name,cat,dog\n0.png,1,0\n1.png,,1\n2.png,0,-1\n3.png,1,1\n")
    catalog = scan(tmp_path)
    table = write_table(catalog, tmp_path / f"kept{suffix}") / f"kept{suffix}"
    again = scan(table)
    assert again.classes == catalog.classes
    np.testing.assert_array_equal(again.target(), catalog.target())
    np.testing.assert_array_equal(again.unknown(), catalog.unknown())
    assert again.digest == catalog.digest


def test_classes_are_counted_as_kept_and_excluded() -> None:
    written = Written(Path("p"), Path("t"), (), 8, (("cat", 5, 1), ("longest name", 3, 0)))
    assert written.class_lines() == [
        "  class              kept   excluded",
        "  cat                   5          1",
        "  longest name          3          0",
    ]
    assert Written(Path("p"), None, (), 8).class_lines() == []
