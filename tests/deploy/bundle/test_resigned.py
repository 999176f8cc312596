"""Bundles that somebody changed and signed again: each answers, or is refused with a sentence.

`benchmarks/fuzz_bundles.py` does the same with 10,000 of them, and with limits.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fuzz_bundles import ask, mutant
from tellapart.core.bundle_description import DESCRIPTION
from tellapart.deploy.bundle.read import GOLDEN, KNOWN, MODEL, WEIGHTS
from tests.bundles import change


@pytest.fixture(scope="module")
def files(whole: Path) -> dict[str, bytes]:
    """The files of a bundle that has all kinds of them."""
    return {name: (whole / name).read_bytes() for name in (MODEL, WEIGHTS, GOLDEN, KNOWN, DESCRIPTION)}


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(100, 1_000, 100))])
def test_none_ends_in_a_traceback(files: dict[str, bytes], tmp_path: Path, first: int) -> None:
    for number in range(first, first + 100):
        mutant(files, tmp_path, number, seed=1)
        assert ask(tmp_path) in ("answered", "BundleError", "ModelError"), number


def test_the_bundle_that_is_changed_is_whole(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    values = json.loads((tmp_path / DESCRIPTION).read_text())
    small = {"source": "own", "name": "small-cnn", "head": {}, "n_classes": 3, "preprocessing": values["preprocessing"]}
    change(tmp_path, architecture=small)
    assert ask(tmp_path) == "answered"
