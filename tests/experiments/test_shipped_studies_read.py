"""Every shipped study is read, and its cells are recipes."""

from __future__ import annotations

import pytest

from tellapart.experiments.designs import cells_of
from tellapart.experiments.read_study import read_study, shipped_studies
from tellapart.experiments.space import read_space


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_has_cells(name):
    study, source = read_study(name)
    cells = cells_of(study, read_space(study, source))
    assert len(cells) > 1
    assert len({cell.id for cell in cells}) == len(cells)
