"""Studies that several test files look at."""

from __future__ import annotations

import os

import pytest

from tellapart.data.scan import scan
from tellapart.experiments import run_study
from tellapart.experiments.run_study import StudyOptions
from tellapart.workflows.progress import ProgressSink
from tests.experiments import small


@pytest.fixture(scope="session")
def photos(tmp_path_factory, pictures_at):
    """A folder of 36 small pictures in three classes."""
    return pictures_at(tmp_path_factory.mktemp("study") / "photos", n=12, width=16, height=16)


@pytest.fixture(scope="session")
def pictures(photos):
    return scan(photos)


@pytest.fixture(scope="session")
def do(pictures):
    """Runs a study in this process, without its page: do(folder, text) → results."""

    def run(folder, text=small.GRID, recipe=small.RECIPE, catalog=pictures, **options):
        study, source = small.read(folder, text, recipe)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_study, "finish", lambda *_: None)
            sink = options.pop("sink", ProgressSink())
            return run_study.run_study(study, source, catalog, folder / "out", StudyOptions(**options), sink)

    return run


@pytest.fixture(scope="session")
def grid(tmp_path_factory, do):
    """A finished grid of four cells with two seeds each; only to be looked at."""
    return do(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny networks on several threads wait for one another."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
