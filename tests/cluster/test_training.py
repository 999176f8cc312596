"""Training and studies on a real Ray: the result is that of one process, whoever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tellapart.cluster.mailbox import Mailed
from tellapart.cluster.training import Work, _Losses, _n_that_divide, _scanned, _why_lost
from tellapart.core.events import Note, Progress
from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan
from tellapart.errors import ClusterError, LostWorkerError
from tellapart.recipe.distributed import for_workers
from tellapart.recipe.schema import Recipe
from tellapart.runs.run import Run
from tellapart.workflows.train import RunOptions
from tests.cluster.conftest import descendants

RECIPE = """
extends = "scratch"
augment = [{ transform = "horizontal_flip" }]
[data]
size = 32
[model]
name = "cnn8"
pretrained = false
[evaluation]
explain = false
[distributed]
micro_batches = 2
[[stages]]
epochs = 60
batch_size = 8
lr = 1e-3
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path]) -> list[str]:
    """A training without its run directory."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    pictures, recipe = str(pictures_at(folder / "photos", n=8)), str(folder / "recipe.toml")
    return [sys.executable, "-m", "tellapart", "train", pictures, "--recipe", recipe, "--runtime", "cpu", "--json"]


@pytest.fixture(scope="module")
def plain(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, which nobody disturbed."""
    out = tmp_path_factory.mktemp("plain") / "run"
    run([*words, "--out", str(out)])
    return out


def work_in(folder: Path, recipe: Recipe) -> Work:
    return Work(folder / "photos", folder / "run", recipe, RunOptions())


@pytest.mark.parametrize(("asked", "most", "n"), [(4, 4, 4), (4, 3, 2), (3, 3, 3), (3, 2, 2), (8, 7, 4), (2, 0, 1)])
def test_fewer_workers_go_on_that_divide_the_micro_batches(tmp_path: Path, asked: int, most: int, n: int) -> None:
    assert _n_that_divide(work_in(tmp_path, Recipe()), most, asked) == n


def test_the_micro_batches_of_a_run_stay(tmp_path: Path) -> None:
    work = work_in(tmp_path, Recipe())
    (work.out / "checkpoints").mkdir(parents=True)
    (work.out / "checkpoints" / "last.safetensors").touch()
    (work.out / "recipe.toml").write_text(for_workers(Recipe(), 6).to_toml(), encoding="utf-8")
    assert [_n_that_divide(work, n, n) for n in (6, 5, 4, 3)] == [6, 3, 3, 3]


def test_of_progress_the_latest_is_told_and_of_all_else_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, told = Mailed(None), list[tuple[str, Any]]()
    monkeypatch.setattr(sink, "deliver", lambda: (told.extend(sink.waiting), sink.waiting.clear()))
    sink.sent = time.monotonic() + 1_000  # not yet time to deliver
    steps = [Progress(0, 1, 1, step, 9, 1.0, 0.1, 8) for step in range(1, 4)]
    sink.follow([*steps, Note("a note"), *steps[:1]], Recipe())
    sink.say("a word")
    assert told == [("event", steps[2]), ("event", Note("a note")), ("event", steps[0]), ("say", "a word")]


def test_pictures_are_scanned_once_a_command(tmp_path: Path, picture_folder: Callable[..., Path]) -> None:
    scanned = []

    def scanning(pictures: Path, sink: Any, **labels: Any) -> Catalog:
        scanned.append(pictures)
        return scan(pictures, **labels)

    work = Work(picture_folder(n=2), tmp_path, Recipe(), RunOptions(), scanning=scanning, scratch=tmp_path)
    first, second = (_scanned(work, Mailed(None)) for _ in range(2))
    assert scanned == [work.pictures]
    assert first.table.equals(second.table)
    assert (first.root, first.classes, first.layout) == (second.root, second.classes, second.layout)


def test_workers_that_are_lost_in_vain_end_the_training() -> None:
    losses = _Losses()
    for step in (1, 2, 3):
        assert "A worker was lost: it died." in losses.note("it died").text
        losses.see(Progress(0, 1, 1, step, 9, 1.0, 0.1, 8))
    losses.note("it died")
    losses.see(Progress(0, 1, 1, 3, 9, 1.0, 0.1, 8))  # no further than before
    losses.note("it died")
    with pytest.raises(ClusterError, match="lost 3 times without a step in between: it died"):
        losses.note("it died")


def test_who_died_is_named_rather_than_who_noticed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from ray.exceptions import ActorDiedError
    from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

    noticed, died = LostWorkerError("A worker was lost."), WorkerHealthCheckFailedError("It failed.", ActorDiedError())
    assert _why_lost({0: noticed, 1: died}, Run(tmp_path)) == "worker 2 died"
    assert _why_lost({0: noticed}, Run(tmp_path)) == "worker 1 no longer reaches another one"


def test_a_cluster_that_runs_elsewhere_writes_its_runs_there(here: Any, picture_folder: Callable[..., Path]) -> None:
    done = here("train", picture_folder(n=2), "--out", "s3://bucket/run", "--cluster", "10.0.0.1:6379")
    assert done.returncode == 2
    assert "Name a folder that they all share" in done.stderr


def test_workers_belong_to_a_cluster(here: Any, picture_folder: Callable[..., Path]) -> None:
    done = here("train", picture_folder(n=2), "--workers", "2")
    assert done.returncode == 2
    assert "--workers belongs to --cluster." in done.stderr


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def same_result(one: Path, other: Path) -> None:
    best = [load_file(folder / "checkpoints" / "best.safetensors") for folder in (one, other)]
    assert best[0].keys() == best[1].keys()
    assert all(bool((best[0][name] == best[1][name]).all()) for name in best[0])
    for part in ("validation", "test"):
        answers = [(folder / "predictions" / f"{part}.parquet").read_bytes() for folder in (one, other)]
        assert answers[0] == answers[1]


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(tmp_path: Path, words: list[str]) -> None:
    short = [*words, "--set", "stages.0.epochs=2", "--set", "retrain=true"]
    run([*short, "--out", str(tmp_path / "one")])
    launcher = [words[0], "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run([*launcher, "-m", *short[2:], "--out", str(tmp_path / "two")])
    same_result(tmp_path / "one", tmp_path / "two")
    sessions = json.loads((tmp_path / "two" / "workers.json").read_text(encoding="utf-8"))
    assert [session["workers"] for session in sessions] == [2]
    assert "Workers that trained together" in (tmp_path / "two" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "one" / "workers.json").exists()


@pytest.mark.slow
def test_a_killed_worker_changes_nothing_but_the_time(tmp_path: Path, words: list[str], plain: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "cluster"
    command = [*words, "--out", str(out), "--cluster", "auto", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            event = json.loads(line)
            # In the middle of an epoch, when a checkpoint is there.
            if event["event"] == "Progress" and event["epoch"] > 1 and (out / "workers.json").is_file():
                break
        os.kill(workers_of(process.pid)[-1], signal.SIGKILL)
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(timeout=300) == 0
    assert rest[-1]["event"] == "Finished"
    assert any(event["event"] == "Note" and "A worker was lost" in event["text"] for event in rest)
    same_result(out, plain)
    sessions = json.loads((out / "workers.json").read_text(encoding="utf-8"))
    assert [bool(session["ended"]) for session in sessions] == [False, True]


def workers_of(pid: int) -> list[int]:
    """The processes that hold the training's workers."""
    found = []
    for child in descendants(pid):
        try:
            title = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if b"RayTrainWorker" in title:
            found.append(child)
    assert found
    return sorted(found)


@pytest.mark.slow
def test_what_the_head_took_with_it_goes_on_from_disk(tmp_path: Path, words: list[str], plain: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "cluster"
    command = [*words, "--out", str(out)]
    with subprocess.Popen(
        [*command, "--cluster", "auto", "--workers", "2"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if json.loads(line)["event"] == "Progress" and (out / "checkpoints" / "last.safetensors").is_file():
                break
        family = descendants(process.pid)
        for child in family:
            os.kill(child, signal.SIGKILL)
        process.wait(timeout=60)
    while any(Path(f"/proc/{child}").exists() and is_alive(child) for child in family):
        time.sleep(0.1)
    run(command)  # in one plain process
    same_result(out, plain)


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
