"""What the report says of epochs and learning-rate tests, from event logs."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

import tellapart as ta
from tellapart.data.augmentation.contact_sheet import grid
from tellapart.report.blocks import Fold, Side, Table, Text
from tellapart.report.curves import curves
from tellapart.report.sections.curve_words import accuracy_finding, jump_notes, loss_finding
from tellapart.report.sections.curves import training_section
from tellapart.report.sections.epochs import epochs, sheet_jpegs
from tellapart.report.sections.lr_finder import lr_finder
from tellapart.runs.run import Run


def run_with(folder: Path, pictures: Path, *events: dict) -> Run:
    folder.mkdir()
    run = Run(folder)
    catalog = ta.scan(pictures)
    catalog.save(run.catalog_file)
    ta.split(catalog, validation=0.2, test=0.2).save(run.split_file)
    run.recipe_file.write_text("")
    run.events_file.write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


def started(stage: int, shown: dict[str, int]) -> dict:
    about = {"name": "", "description": "", "epochs": 1, "runtime": {"device": "cpu"}}
    return {"event": "StageStarted", "stage": stage, **about, "shown": shown}


def test_what_an_epoch_contained_stands_beside_what_there_is(picture_folder, tmp_path):
    shown = {"circle": 20, "square": 1, "triangle": 9}
    run = run_with(tmp_path / "run", picture_folder(n=10), started(0, shown))
    section = epochs(run)
    table = section.blocks[0].blocks[0]
    assert isinstance(table, Table)
    lines = [[cell.text for cell in row] for row in table.rows]
    assert lines == [["circle", "6", "20"], ["square", "6", "1"], ["triangle", "6", "9"]]


def test_an_epoch_of_every_picture_once_is_a_sentence(picture_folder, tmp_path):
    same = dict.fromkeys(("circle", "square", "triangle"), 6)
    run = run_with(tmp_path / "run", picture_folder(n=10), started(0, same), started(1, same))
    assert epochs(run).blocks[0].blocks == [Text("Every epoch showed every training picture once.")]
    assert epochs(run_with(tmp_path / "older", tmp_path / "photos")) is None


def test_a_sheet_of_transforms_drawn_once_a_batch_says_so(picture_folder, tmp_path):
    run = run_with(tmp_path / "run", picture_folder(n=10))
    run.figures.mkdir()
    Image.new("RGB", (8, 8)).save(run.figures / "augmentation.png")
    assert epochs(run).blocks[0].blocks[0].caption.endswith("as the first five epochs saw them.")
    run.recipe_file.write_text('augment_per = "batch"\n[[augment]]\ntransform = "rotation"\n')
    assert "the first batch of each" in epochs(Run(run.directory)).blocks[0].blocks[0].caption


def test_paper_and_letters_of_a_sheet_follow_the_page_and_pictures_do_not():
    file = io.BytesIO()
    sheet = grid([[(np.full((120, 120, 3), (200, 30, 30), np.uint8), "epoch 1")]])
    sheet.save(file, "PNG")
    light, dark = (np.asarray(Image.open(io.BytesIO(jpeg)), int) for jpeg in sheet_jpegs(file.getvalue()))
    assert light.shape == dark.shape == (*sheet.size[::-1], 3)
    assert np.abs(light[20:100, 20:100] - dark[20:100, 20:100]).max() < 12
    assert light[:4].min() > 215
    assert dark[:4].max() < 60
    captions = slice(127, 145)
    assert light[captions].min() < 120
    assert dark[captions].max() > 140
    Image.new("RGB", (8, 8)).save(file := io.BytesIO(), "PNG")
    assert sheet_jpegs(file.getvalue())[1] == b""


def test_jumps_between_stages_are_explained_and_points_that_are_no_epochs_named():
    def lines(stage, losses, best, reason):
        validated = [
            {"event": "Validated", "stage": stage, "epoch": i, "train_loss": loss, "validation_loss": loss}
            | {"train_accuracy": None, "validation_accuracy": 0.5, "best": i == best}
            for i, loss in enumerate(losses, start=1)
        ]
        name = {"event": "StageStarted", "stage": stage, "name": f"s{stage}"}
        return [name, *validated, {"event": "StageDone", "stage": stage, "reason": reason}]

    solved = lines(0, [1.0, 0.5, 0.2], 2, "all 3 strengths done")
    course = curves([*solved, *lines(1, [0.8, 0.79], 0, "all epochs done")])
    jump, point = (note.text for note in jump_notes(course) if "jump" in note.text or "penalty" in note.text)
    assert jump.startswith("Between “s0” and “s1” the training and validation loss jump: a stage begins")
    assert point.startswith("In “s0” a point is no epoch but one penalty on large weights")
    assert any("answers to training pictures that were held out" in note.text for note in jump_notes(course))
    assert loss_finding(course) == "Validation loss is lowest at epoch 3, 0.2; it ends at 0.79."
    smooth = curves(lines(0, [1.0, 0.5, 0.2], 3, "all epochs done"))
    assert jump_notes(smooth) == []
    assert loss_finding(smooth).endswith("its last: more epochs may still help.")
    assert accuracy_finding(smooth).endswith("on training, accuracy was not measured there.")


def test_the_table_of_stages_has_the_width_of_the_page():
    shown = {"event": "Validated", "stage": 0, "epoch": 1, "train_loss": 1.0, "validation_loss": 1.0}
    section = training_section(curves([shown | {"train_accuracy": 0.5, "validation_accuracy": 0.5, "best": True}]))
    assert [type(block) for block in section.blocks] == [Text, Side, Fold]
    assert [type(block) for block in section.blocks[-1].blocks] == [Table, Table]


def test_a_rate_test_is_drawn_with_its_suggestions(picture_folder, tmp_path):
    x = np.geomspace(1e-7, 10, 60)
    losses = 1.5 - np.minimum(1, x * 20) + x**2
    event = {
        "event": "LrFound",
        "stage": 1,
        "lr": 1e-2,
        "taken": "valley",
        "suggestions": {"valley": 1e-2, "tenth_of_minimum": 5e-3},
        "diverges": 0.53,
        "setting": "stages.1.lr=0.01",
        "lrs": x.tolist(),
        "losses": losses.tolist(),
        "smoothed": losses.tolist(),
        "rose": True,
    }
    run = run_with(tmp_path / "run", picture_folder(n=10), event)
    chart = lr_finder(run).blocks[0].blocks[0]
    assert chart.title == "Learning-rate test, stage 2"
    assert chart.caption == (
        "The stage took 0.01 (valley). Without a test: --set stages.1.lr=0.01. The loss diverges at 0.53; no "
        "suggestion lies in the decade before."
    )
    assert "valley 0.01" in chart.svg
    assert "5e-3" not in chart.svg  # one learning rate is recommended
    del event["diverges"], event["setting"]  # as version 0.1 wrote it
    older = run_with(tmp_path / "older", tmp_path / "photos", event | {"taken": "otherwise", "rose": False})
    assert lr_finder(older).blocks[0].blocks[0].caption == (
        "The stage took 0.01 (the recipe's own, as the loss did not fall in the test). The loss never rose clearly: "
        "the test ended before the learning rate was too high."
    )
    assert lr_finder(run_with(tmp_path / "none", tmp_path / "photos")) is None
