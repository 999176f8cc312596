"""Small pictures at any path, each different from the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """A maker of pictures: draw("cat/1.png", "dog/2.png") below the test's own folder; gives that folder."""
    numbers = itertools.count(1)

    def make(*paths: str) -> Path:
        for path in paths:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            number = next(numbers)
            picture = Image.new("RGB", (5, 4), (number % 256, number // 256 % 256, number // 65536))
            picture.save(file, "JPEG" if file.suffix.lower() in (".jpg", ".jpeg") else "PNG")
        return tmp_path

    return make
