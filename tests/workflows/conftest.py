"""Pictures for trainings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sharing import made_once


@pytest.fixture(scope="session")
def digits(common: Path) -> Path:
    """600 of scikit-learn's handwritten digits as class folders. Nobody changes them."""
    return made_once(common / "digits", _write_digits)


def _write_digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    for number, (ink, digit) in enumerate(zip(data.images[:600], data.target[:600], strict=True)):
        path = folder / str(digit) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(ink * (255 / 16)).astype(np.uint8)).save(path)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """In this process too, so that it comes to the same bits as the others."""
    import torch

    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)
