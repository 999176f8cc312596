"""Small pictures of all formats, changed at random: read, or refused with a reason. 20,000 of them in `benchmarks/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz_pictures import mutant, seeds
from tellapart.data.decoding.decode import examine


@pytest.mark.slow
def test_a_thousand_mutants_are_read_or_refused(tmp_path: Path) -> None:
    contents = seeds()
    path = tmp_path / "picture"
    n_read = 0
    for number in range(1_000):
        path.write_bytes(mutant(contents, number, seed=1))
        facts = examine(path, lambda *_: None, 128)
        assert facts.problem is None or facts.problem.strip(), number
        assert facts.sha256 is not None
        n_read += facts.problem is None
    assert 0 < n_read < 1_000
