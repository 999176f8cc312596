"""Statistics of pictures in the cache."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from tellapart.data.statistics import Measured, load_measured, save_measured


def test_a_damaged_file_of_the_cache_is_none(tmp_path: Path) -> None:
    arrays = {field.name: np.arange(3, dtype=np.float32) for field in fields(Measured)}
    file = tmp_path / "measured.npz"
    save_measured(Measured(**arrays), file)
    whole = file.read_bytes()
    for at in range(0, len(whole), 3):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        measured = load_measured(file)
        assert measured is None or all(np.array_equal(getattr(measured, key), arrays[key]) for key in arrays), at
    file.write_bytes(whole[: len(whole) // 2])
    assert load_measured(file) is None
