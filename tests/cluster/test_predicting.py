"""`predict --cluster` gives the rows that `predict` gives, whoever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tellapart.cluster import parts, predicting
from tellapart.deploy.bundle.read import GOLDEN, MODEL, WEIGHTS, Bundle, describe_files
from tellapart.deploy.resumable import partial_folder
from tellapart.errors import ClusterError
from tests.bundles import change
from tests.deploy.conftest import SIDE, _make_bundle

N = 1500  # pictures: 24 parts


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that says how red, green and blue a picture is, with golden pictures."""
    folder = _make_bundle(tmp_path_factory.mktemp("colours") / "bundle")
    pictures = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    logits = Bundle.load(folder).predict_pixels(pictures, 3)
    save_file({"pictures": pictures, "logits": logits}, folder / GOLDEN)
    assert (folder / MODEL).exists()
    assert (folder / WEIGHTS).exists()
    change(folder, files=describe_files(folder))
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small pictures of one colour, one that cannot be read, and a list of them."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(1)
    names = [f"{number:04}.bmp" for number in range(N)]
    for name in names:
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        Image.new("RGB", (SIDE, SIDE), colour).save(folder / name)
    (folder / names[700]).write_bytes(b"no picture")
    (folder / "ünï cödé.bmp").write_bytes((folder / names[0]).read_bytes())
    listed = folder / "list.csv"
    cells = ["name", *names, "ünï cödé.bmp", "", names[3]]
    listed.write_text("".join(f"{cell},1\n" for cell in cells), encoding="utf-8")
    return listed


def rows(out: Path) -> pl.DataFrame:
    return pl.read_csv(out) if out.suffix == ".csv" else pl.read_parquet(out)


def test_parts_are_numbered_and_grow(tmp_path):
    """Few rows make several parts, many rows do not make many; rows are neither lost nor changed nor held."""
    sizes = parts.write_parts(((n,) for n in range(60_000)), pl.Schema({"n": pl.Int64}), tmp_path)
    assert sum(sizes) == 60_000
    assert sizes[0] == 64
    assert sizes == [*sorted(sizes[:-1]), sizes[-1]]
    assert max(sizes) <= 60_000 / 64
    assert all(size % 32 == 0 for size in sizes[:-1])
    written = [pl.read_parquet(tmp_path / f"{number:06}.parquet") for number in range(len(sizes))]
    assert pl.concat(written)["n"].to_list() == list(range(60_000))


def test_the_slowest_worker_is_named():
    pace = parts.Pace()
    assert pace.slowest() == ""
    pace.add("node-1:7", 100, 2.0)
    assert pace.slowest() == ""  # it is alone
    pace.add("node-2:9", 100, 1.0)
    assert pace.slowest() == "2 workers, the slowest node-1:7 with 50 a second"


def test_what_has_no_file_of_its_own_is_refused_before_a_cluster_is_asked(here, bundle, pictures, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(pictures.with_name("0000.bmp"), "0000.bmp")
    done = here("predict", bundle, tmp_path / "some.zip", "--cluster", "auto")
    assert done.returncode == 2
    assert "no file of its own" in done.stderr
    assert "Unpack archives" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--out", "a.parquet", "--top", "3"], []], ids=str)
def test_rows_are_those_of_one_process(here, bundle, pictures, small_ray, tmp_path, words, monkeypatch):
    """In files and tables, with what cannot be read, names beyond ASCII, and rows that name nothing."""
    monkeypatch.setattr(parts, "_WAVE", 14)  # two waves
    outputs = []
    for number, more in enumerate(([], ["--cluster", "auto"])):
        mine = [str(tmp_path / f"{number}-{word}") if word.startswith("a.") else word for word in words]
        done = here("predict", bundle, pictures, "--engine", "onnxruntime", *mine, *more)
        assert done.returncode == 3
        assert "list.csv, row 1503: this row names no picture" in done.stderr + done.stdout
        outputs.append(Path(mine[1]).read_bytes() if mine else done.stdout)
    assert outputs[0] == outputs[1]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(here, bundle, pictures, small_ray, tmp_path, monkeypatch):
    killed = []
    add = parts.Pace.add

    def kill_first(self: Any, worker: str, n: int, seconds: float) -> None:
        add(self, worker, n, seconds)
        if not killed:
            killed.append(int(worker.rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(parts.Pace, "add", kill_first)
    command = ["predict", bundle, pictures, "--engine", "onnxruntime", "--out"]
    assert here(*command, tmp_path / "whole.parquet").returncode == 3
    assert here(*command, tmp_path / "a.parquet", "--cluster", "auto").returncode == 3
    assert len(killed) == 1
    assert rows(tmp_path / "a.parquet").equals(rows(tmp_path / "whole.parquet"))


@pytest.mark.slow
def test_an_interrupted_command_goes_on(here, bundle, pictures, small_ray, tmp_path, monkeypatch):
    """Ctrl-C after three parts: these are not answered again, and nothing is twice or lost."""
    counted: list[int] = []
    add = parts.Pace.add

    def stop(self: Any, worker: str, n: int, seconds: float) -> None:
        add(self, worker, n, seconds)
        counted.append(n)
        if len(counted) == 4:
            raise KeyboardInterrupt

    command = ["predict", bundle, pictures, "--engine", "onnxruntime", "--out"]
    assert here(*command, tmp_path / "whole.parquet").returncode == 3
    monkeypatch.setattr(parts.Pace, "add", stop)
    stopped = here(*command, tmp_path / "a.parquet", "--cluster", "auto")
    assert stopped.returncode == 130
    assert "--resume goes on with them" in stopped.stderr
    assert pl.read_parquet(partial_folder(tmp_path / "a.parquet") / "000000.parquet").height == 3 * 64
    counted.clear()
    monkeypatch.setattr(parts.Pace, "add", lambda self, worker, n, seconds: counted.append(n))
    assert here(*command, tmp_path / "a.parquet", "--cluster", "auto", "--resume").returncode == 3
    assert sum(counted) == N + 3 - 3 * 64
    assert rows(tmp_path / "a.parquet").equals(rows(tmp_path / "whole.parquet"))


@pytest.mark.slow
def test_what_goes_wrong_on_a_worker_is_said_in_words(here, bundle, pictures, small_ray, tmp_path, monkeypatch):
    """The lists cannot be read there, as where --out lies on a disk of one machine."""
    real = predicting.over_parts

    def elsewhere(cluster: Any, make: Any, settings: Any, folder: Path, *more: Any) -> Any:
        return real(cluster, make, settings, folder / "nowhere", *more)

    monkeypatch.setattr(predicting, "over_parts", elsewhere)
    done = here("predict", bundle, pictures, "--engine", "onnxruntime", "--cluster", "auto")
    assert done.returncode == 2
    assert "Error: Worker on" in done.stderr
    assert "cannot be read on this node: No such file or directory" in done.stderr
    assert "Put --out into a folder that every node reaches" in done.stderr


@pytest.mark.slow
def test_what_kills_every_worker_is_not_tried_for_ever(small_ray, tmp_path):
    parts.write_parts([(1,)], pl.Schema({"n": pl.Int64}), tmp_path)
    with pytest.raises(ClusterError, match="Part 1 of the list, which begins with 1, has ended its worker 4 times"):
        list(parts.over_parts(small_ray, os._exit, {"status": 1}, tmp_path, 1, parts.Pace()))


@pytest.mark.slow
def test_a_command_that_is_stopped_or_killed_goes_on(here, bundle, pictures, small_ray, tmp_path):
    """By a real Ctrl-C, which all processes of the group get, and by SIGKILL: with a Ray of its own."""
    out = tmp_path / "a.csv"
    words = ["predict", str(bundle), str(pictures), "--engine", "onnxruntime", "--out", str(out), "--resume"]
    assert here(*words[:-2], tmp_path / "whole.csv").returncode == 3
    for number in (signal.SIGINT, signal.SIGKILL):
        with subprocess.Popen(
            [sys.executable, "-m", "tellapart", *words, "--cluster", "auto"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as program:
            assert program.stderr is not None
            assert any("cluster is being connected" in line for line in program.stderr)
            assert any(line.startswith("Cluster: ") for line in program.stderr)
            os.killpg(program.pid, number)
            rest = program.stderr.read()
            assert program.wait(60) == (130 if number == signal.SIGINT else -number)
            assert "Traceback" not in rest
        assert not out.exists()
    assert here(*words, "--cluster", "auto").returncode == 3
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
