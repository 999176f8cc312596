"""A byte of a bundle that changed on its way: the bundle is refused, or answers as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tellapart.core.bundle_description import DESCRIPTION
from tellapart.deploy.answer import Answer
from tellapart.deploy.bundle.read import CARD, GOLDEN, KNOWN, MODEL, WEIGHTS, Bundle
from tellapart.deploy.predictor import answers
from tellapart.errors import BundleError

FILES = (DESCRIPTION, MODEL, WEIGHTS, GOLDEN, KNOWN, CARD)
PICTURE = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)


def answer(folder: Path) -> Answer | str:
    try:
        return next(answers(Bundle.load(folder), [PICTURE]))
    except BundleError as error:
        return error.message


def flipped(folder: Path, name: str, positions: range) -> list[str]:
    """Change bytes of a file one at a time; what each is answered otherwise than with the whole file."""
    file, before = folder / name, answer(folder)
    assert isinstance(before, Answer)
    content, wrong = file.read_bytes(), []
    for position in positions:
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        after = answer(folder)
        if isinstance(after, Answer) and after != before:
            wrong.append(f"byte {position}: {after}")
    file.write_bytes(content)
    return wrong


@pytest.mark.parametrize("name", FILES)
def test_some_bytes_of_each_file(whole: Path, name: str) -> None:
    size = (whole / name).stat().st_size
    assert flipped(whole, name, range(0, size, max(1, size // 25))) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_bytes_of_each_file(whole: Path, name: str) -> None:
    """`benchmarks/flipped_bytes.py` flips every single one."""
    size = (whole / name).stat().st_size
    assert flipped(whole, name, range(1, size, max(1, size // 250))) == []


@pytest.mark.parametrize("name", [DESCRIPTION, MODEL, WEIGHTS, GOLDEN, KNOWN])
def test_a_file_that_is_cut_off_or_gone_is_refused(whole: Path, name: str) -> None:
    content = (whole / name).read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], b""):
        (whole / name).write_bytes(damaged)
        assert isinstance(answer(whole), str)
    (whole / name).unlink()
    assert isinstance(answer(whole), str)
    (whole / name).write_bytes(content)
