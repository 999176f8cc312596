from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.labels.layouts import Draw


@pytest.fixture
def two(draw: Draw) -> Path:
    """1.png and 2.png: a cat and a dog."""
    return draw("1.png", "2.png")
