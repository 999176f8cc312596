"""The rows of the table, on small pictures and networks: real stages, loaders and trainings."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import rivals_programs, row_accuracy, row_data, row_layers, run
from benchmarks.row_accuracy import Course, write_table
from tellapart.data.scan import scan
from tellapart.data.splitting.split import split
from tellapart.errors import TrainingError, UsageError
from tellapart.workflows.progress import ProgressSink


@pytest.fixture
def catalog(picture_folder):
    return scan(picture_folder(n=12))


def figure_of(work):
    return ProgressSink().watch(work)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(row_layers, "SIDE", 32)
    monkeypatch.setattr(row_layers, "BATCH", 8)


def test_data(catalog, monkeypatch):
    monkeypatch.setattr(row_data, "SIDE", 32)
    threads = torch.get_num_threads()
    figure = figure_of(row_data.data(catalog, catalog.readable, -1.0))
    assert list(figure.values) == [row_data.OURS, row_data.THEIRS]
    assert all(rate > 0 for values in figure.values.values() for rate in values)
    assert torch.get_num_threads() == threads


def test_the_rival_loads_what_image_folder_loads(catalog):
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    step = transforms.PILToTensor()
    folder = ImageFolder(str(catalog.root), step)
    listed = row_data.Listed(folder.samples, step)
    assert len(listed) == len(folder)
    for place in (0, len(folder) - 1):
        assert torch.equal(listed[place][0], folder[place][0])
        assert listed[place][1] == folder[place][1]


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_all_layers_beside_the_plain_loop(catalog):
    figure = figure_of(row_layers.finetune(catalog, catalog.readable[:8], "tutorial-cnn", -1.0))
    assert list(figure.values) == ["Tellapart", "plain loop, float32, contiguous", "Tellapart, statistics updated"]
    assert len(figure.ratios) == 3
    assert figure.note.startswith("measured: ")


@pytest.mark.usefixtures("small")
def test_an_epoch_of_a_real_stage_is_a_turn(catalog):
    recipe = row_layers.recipe_of("tutorial-cnn", {"train": "all", "augment": False})
    network = row_layers.network_of(recipe, catalog)
    dataset = row_layers._dataset(catalog, catalog.readable[:20], recipe)
    runtime = row_layers.measure(network, recipe, dataset)
    turns = row_layers.stage(network, recipe, dataset, runtime)
    assert [n for n, _ in zip((n for n in turns if n), range(3), strict=False)] == [20, 20, 20]


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_the_last_third_with_and_without_stored_activations(catalog):
    figure = figure_of(row_layers.stored(catalog, catalog.readable[:16], "mobilenetv2_100", -1.0))
    assert list(figure.values) == ["from stored activations", "without"]
    assert "storing two views" in figure.note


@pytest.mark.usefixtures("small")
def test_the_plain_loop_is_plain_and_learns(catalog):
    recipe = row_layers.recipe_of("tutorial-cnn", {})
    network = row_layers.network_of(recipe, catalog)
    before = [p.detach().clone() for p in network.parameters()]
    turns = row_layers.plain(network, row_layers._dataset(catalog, catalog.readable, recipe))
    assert [next(turns) for _ in range(3)] == [0, 8, 8]
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_every_contestant_gets_the_same_pictures(catalog, tmp_path):
    divided = split(catalog, validation=0.25, test=0.25)
    n_train = write_table(catalog, divided, tmp_path / "all.csv")
    assert n_train == len(divided.train)
    parts, classes = rivals_programs.read_table(catalog.root, tmp_path / "all.csv")
    assert tuple(classes) == catalog.classes
    for part, rows in parts.items():
        expected = getattr(divided, part)
        assert {Path(path) for path, _ in rows} == {catalog.path(row) for row in expected}
        assert sorted(label for _, label in rows) == sorted(catalog.target(expected).tolist())
    again = scan(catalog.root, labels=tmp_path / "all.csv")  # what `tellapart train` makes of it
    theirs = split(again)
    for part in ("train", "validation", "test"):
        assert {str(again.path(row)) for row in getattr(theirs, part)} == {path for path, _ in parts[part]}


def test_a_share_of_the_pictures_keeps_each_class(catalog, tmp_path):
    write_table(catalog, split(catalog, validation=0.25, test=0.25), tmp_path / "some.csv", len(catalog) // 2)
    with (tmp_path / "some.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert 0.3 * len(catalog) < len(lines) <= len(catalog) // 2
    for part in ("train", "validation", "test"):
        assert {line["label"] for line in lines if line["split"] == part} == set(catalog.classes)


def test_a_plain_training_from_end_to_end(catalog, tmp_path, weights, monkeypatch):
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
    write_table(catalog, split(catalog, validation=0.25, test=0.25), tmp_path / "pictures.csv")
    parts, classes = rivals_programs.read_table(catalog.root, tmp_path / "pictures.csv")
    reached = list(rivals_programs.plain(parts, len(classes), "mobilenetv2_100", 32, 1, 0))
    assert len(reached) == 2
    assert all(0 <= accuracy <= 1 for accuracy in reached)


@pytest.mark.slow
def test_a_training_that_fails_is_told(tmp_path):
    with pytest.raises(TrainingError, match=r"ended with an error: .*nowhere\.csv") as caught:
        row_accuracy.rival("plain", tmp_path, tmp_path / "nowhere.csv")
    assert "benchmarks.rivals_programs plain" in caught.value.hint


def test_the_time_to_what_another_reached():
    ours = Course("Tellapart, transfer", [(20.0, 0.8), (30.0, 0.9), (40.0, 0.95)], 60.0, 0.94)
    figure = run.reached(ours, Course("plain", [(300.0, 0.88)], 320.0, 0.87), 100)
    assert figure.ratios == [10.0]
    assert "88.0% on validation" in figure.what
    never = run.reached(ours, Course("plain", [(300.0, 0.99)], 320.0, 0.98), 100)
    assert list(never.values) == ["a plain loop of 3 epochs"]
    assert "did not reach it" in never.note


def test_unknown_rows(tmp_path, monkeypatch, capsys):
    with pytest.raises(UsageError, match="'speed' is unknown"):
        run.bench(tmp_path, ["data", "speed"], 1.0, ProgressSink())
    monkeypatch.setattr("sys.argv", ["run", str(tmp_path), "--rows", "speed"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "--rows: 'speed' is unknown. Known: data, " in capsys.readouterr().err


def test_the_command_on_made_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "_DATA", 8)
    cache = run.os.environ["TELLAPART_CACHE"]
    words = ["--rows", "data, accuracy", "--minutes", "0.01", "--out", str(tmp_path / "bench.json"), "--quiet"]
    monkeypatch.setattr("sys.argv", ["run", *words])
    run.main()
    assert run.os.environ["TELLAPART_CACHE"] == cache
    said = capsys.readouterr().out
    assert "times faster" in said
    assert "accuracy was left out" in said
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["figures"][0]["times faster"] > 0
    assert found["about"]["torch"] == torch.__version__


def test_too_few_minutes_for_an_accuracy_lose_nothing_else(catalog, monkeypatch):
    monkeypatch.setattr(run, "_DATA", 8)
    monkeypatch.setattr(run, "plain_speed", lambda catalog, rows, name: 1.0)
    found = run.bench(catalog.root, ["data", "accuracy"], 0.01, ProgressSink())
    assert len(found.figures) == 1
    assert "accuracy was left out: In that time a plain loop sees 0 pictures, too few. Try --minutes" in found.table()


def test_made_pictures_can_be_read(tmp_path):
    folder = run._made(tmp_path / "made")
    found = sorted(folder.rglob("*.jpg"))
    assert len(found) == 200
    with Image.open(found[0]) as picture:
        assert picture.size == (500, 375)
