"""A study on a real Ray: the table is that of a study without, whichever process is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tellapart.experiments.results import read_results
from tests.cluster.conftest import descendants
from tests.experiments import small

LONGER = 'seeds = 2\nthreads = 1\nset = ["stages.0.epochs=30"]'


def table(directory: Path) -> bytes:
    """All that must be the same, however a study came about: the whole table but for times."""
    return read_results(directory).runs.drop("seconds").write_csv().encode()


@pytest.mark.slow
def test_a_study_on_ray_has_the_table_of_one_without(tmp_path: Path, pictures_at: Callable[..., Path]) -> None:
    """One of its processes is killed over a training, which another one does again."""
    pytest.importorskip("ray")
    photos = pictures_at(tmp_path / "photos", n=8, width=16, height=16)
    file = small.write(tmp_path, small.GRID.replace("seeds = 2", LONGER))
    outs = [tmp_path / "cluster", tmp_path / "alone"]
    process = small.start(file, photos, "--out", outs[0], "--cluster", "auto", "--parallel", "2")
    while not (workers := workers_of(process.pid)) or not list(outs[0].rglob("result.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(workers[0], signal.SIGKILL)
    alone = small.start(file, photos, "--out", outs[1])
    for each in (process, alone):
        printed = each.communicate(timeout=600)
        assert each.returncode == 0, printed
    assert table(outs[0]) == table(outs[1])
    assert read_results(outs[0]).runs["status"].unique().to_list() == ["done"]


def workers_of(pid: int) -> list[int]:
    """The processes that do trainings."""
    found = []
    for child in descendants(pid):
        try:
            if b"tellapart.experiments.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue
    return found
