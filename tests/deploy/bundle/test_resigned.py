"""Bundles that somebody changed and signed again: each answers, or is refused with a sentence.

`benchmarks/fuzz_bundles.py` does the same with 10,000 of them, and with limits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.fuzz_bundles import ask, mutant
from tellapart.core.bundle_description import DESCRIPTION
from tellapart.deploy.bundle.read import GOLDEN, KNOWN, MODEL, WEIGHTS
from tests.bundles import change

SCORE = {"distance": [1.0, 0.5], "doubt": [0.1, 0.1], "limit": 3.0, "share": 0.99, "n": 100}


@pytest.fixture(scope="session")
def whole(written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a bundle that has all kinds of them."""
    folder = Path(shutil.copytree(written, tmp_path_factory.mktemp("whole") / "bundle"))
    known = {"means": np.eye(3, 8), "basis": np.eye(8, 1), "spread": np.ones(1), "rest": np.ones(1)}
    save_file({name: tensor.astype(np.float32) for name, tensor in known.items()}, folder / KNOWN)
    content = {name: (folder / name).read_bytes() for name in (MODEL, WEIGHTS, GOLDEN, KNOWN)}
    files = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in content.items()}
    change(folder, files=files, ood_score=SCORE, tta=2, flip=True, sets={"0.9": 0.2})
    return content | {DESCRIPTION: (folder / DESCRIPTION).read_bytes()}


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(100, 2_000, 100))])
def test_none_ends_in_a_traceback(whole: dict[str, bytes], tmp_path: Path, first: int) -> None:
    for number in range(first, first + 100):
        mutant(whole, tmp_path, number, seed=1)
        assert ask(tmp_path) in ("answered", "BundleError", "ModelError"), number


def test_the_bundle_that_is_changed_is_whole(whole: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    values = json.loads((tmp_path / DESCRIPTION).read_text())
    small = {"source": "own", "name": "small-cnn", "head": {}, "n_classes": 3, "preprocessing": values["preprocessing"]}
    change(tmp_path, architecture=small)
    assert ask(tmp_path) == "answered"
