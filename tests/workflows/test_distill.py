"""A student of a teacher: what it is taught from, whether it is the better for it, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import tellapart as ta
from tellapart.core.predictions import Predictions
from tellapart.deploy.bundle.read import Bundle
from tellapart.errors import RecipeError, RunError
from tellapart.report.verdict import verdict
from tellapart.runs.run import ALONE, Run
from tellapart.workflows.lessons import answer, teachers_of, unlabelled_pictures

pytestmark = pytest.mark.usefixtures("short_ends")

RUNTIME = "cpu,float32,contiguous"
CHANGES = ["model.name=mlp", "data.size=16", "stages.0.epochs=2", "evaluation.explain=false"]


@pytest.fixture(scope="module")
def teachers(
    short_ends: None, tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path]
) -> tuple[Run, Run]:
    """Two finished runs that differ in their seed alone."""
    folder = tmp_path_factory.mktemp("teachers")
    catalog = ta.scan(pictures_at(folder / "photos", n=10))
    split = ta.split(catalog)
    one, other = (
        ta.train(catalog, split, "scratch", folder / name, changes=[*CHANGES, f"seed={name}"], runtime=RUNTIME)
        for name in ("1", "2")
    )
    return one, other


@pytest.fixture(scope="module")
def further(
    tmp_path_factory: pytest.TempPathFactory, pictures_at: Callable[..., Path], teachers: tuple[Run, Run]
) -> Path:
    """Pictures without labels, and beside them a copy of a test picture, one of each other, and a broken file."""
    folder = pictures_at(tmp_path_factory.mktemp("further") / "more", classes=("x",), n=4, seed=7)
    catalog, split = teachers[0].catalog, teachers[0].split
    shutil.copy(catalog.path(int(split.test[0])), folder / "a_test_picture.png")
    shutil.copy(folder / "x" / "001.png", folder / "twice.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def student(teachers: tuple[Run, Run], further: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ta.distill(
        teachers[0],
        "tutorial-cnn",
        [further],
        out=tmp_path_factory.mktemp("students") / "small",
        temperature=3,
        runtime=RUNTIME,
    )


def test_the_student_is_a_run_as_any_other_and_its_page_says_whether_the_teacher_helped(student: Run) -> None:
    assert student.finished
    assert student.recipe.model.name == "tutorial-cnn"
    assert not student.recipe.model.pretrained
    assert student.recipe.distill is not None
    assert student.recipe.distill.temperature == 3
    assert ta.load(student.directory).predict(student.catalog.path(0)).label in student.catalog.classes
    about = student.distillation
    assert about is not None
    alone = Run(student.directory / ALONE)
    for name, run in (("alone", alone), ("distilled", student)):
        assert about["verdict"][name]["value"] == run.evaluations["test"].headline[1].value
    assert "Its teacher has" in verdict(student).how_good
    page = student.report.read_text(encoding="utf-8")
    assert about["verdict"]["sentence"].split(":")[0] in page
    assert "the same, labels alone" in page
    assert alone.recipe == student.recipe.model_copy(update={"distill": None})
    assert np.array_equal(alone.split.train, student.split.train)


def test_what_it_learns_from_is_stored_and_no_test_picture_is_among_it(student: Run, teachers: tuple[Run, Run]) -> None:
    catalog, split = student.catalog, student.split
    answers = Predictions.load(student.teacher_file)
    assert not np.isin(split.test, answers.row).any()
    assert len(answers) == len(split.train) + len(split.validation) + 4
    bundle = Bundle.load(teachers[0].directory)
    pixels = [np.asarray(Image.open(catalog.path(int(row))).convert("RGB")) for row in answers.row[:3]]
    wanted = [dict(ta.load(teachers[0].directory).predict(each, unknown=False).labels) for each in pixels]
    for probabilities, labels in zip(answers.probabilities(), wanted, strict=False):
        assert probabilities == pytest.approx([labels[name] for name in bundle.classes], abs=1e-4)
    assert student.distillation is not None
    assert student.distillation["unlabelled"] == 4
    told = " ".join(student.distillation["left_out"])
    assert told.count("1 of the further pictures") == 3
    shown = [event["shown"] for event in student.events() if event["event"] == "StageStarted"]
    assert sum(shown[0].values()) == len(split.train) + 4


def test_the_same_call_goes_on_and_another_teacher_is_refused(
    student: Run, teachers: tuple[Run, Run], further: Path
) -> None:
    before = student.checkpoint("best").stat().st_mtime_ns, student.teacher_file.stat().st_mtime_ns
    again = ta.distill(teachers[0], "tutorial-cnn", [further], out=student.directory, temperature=3, runtime=RUNTIME)
    assert (again.checkpoint("best").stat().st_mtime_ns, again.teacher_file.stat().st_mtime_ns) == before
    with pytest.raises(RunError, match="another teacher"):
        ta.distill(teachers[1], "tutorial-cnn", [further], out=student.directory, temperature=3, runtime=RUNTIME)
    with pytest.raises(RunError, match="another teacher"):
        ta.distill(teachers[0], "tutorial-cnn", out=student.directory, temperature=3, runtime=RUNTIME)


def test_an_average_teaches_with_its_mean_probability(teachers: tuple[Run, Run], tmp_path: Path) -> None:
    averaged = ta.average(teachers, tmp_path / "mean", weights=[1, 3])
    catalog, rows = teachers[0].catalog, np.arange(5)

    def answers(run: Run) -> np.ndarray:
        work = answer(teachers_of(run), catalog, rows)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value.probabilities()

    mean = 0.25 * answers(teachers[0]) + 0.75 * answers(teachers[1])
    assert np.allclose(answers(averaged), mean, atol=1e-6)


def test_further_pictures_of_other_forms_and_places(teachers: tuple[Run, Run], further: Path) -> None:
    pictures, _ = unlabelled_pictures([str(further / "x" / "*.png"), str(further / "x")], teachers[0].catalog)
    assert pictures.table["path"].to_list() == [(further / "x" / f"00{i}.png").as_posix() for i in range(4)]
    assert pictures.table["labels"].list.len().to_list() == [0] * 4
    with pytest.raises(ta.TellapartError, match="does not exist"):
        unlabelled_pictures([str(further / "nowhere")], teachers[0].catalog)


def test_mistakes_are_said_before_anything_is_trained(teachers: tuple[Run, Run], tmp_path: Path) -> None:
    with pytest.raises(ta.TellapartError, match="above 0"):
        ta.distill(teachers[0], "tutorial-cnn", temperature=-1, out=tmp_path / "a")
    with pytest.raises(ta.TellapartError, match="no network 'cnn9'"):
        ta.distill(teachers[0], "cnn9", out=tmp_path / "b")
    with pytest.raises(RecipeError, match="stages"):
        ta.distill(teachers[0], "tutorial-cnn", changes=["stages.0.nothing=1"], out=tmp_path / "c")
    with pytest.raises(RunError, match="not a run directory"):
        ta.distill(tmp_path, "tutorial-cnn", out=tmp_path / "d")
    with pytest.raises(RunError, match="no answers of a teacher"):
        ta.train(
            teachers[0].catalog,
            None,
            "scratch",
            tmp_path / "e",
            changes=[*CHANGES, "distill.share=0.5"],
            runtime=RUNTIME,
        )


def test_a_damaged_note_of_the_teacher_is_refused(student: Run, tmp_path: Path) -> None:
    copy = Run(tmp_path / "copy")
    copy.directory.mkdir()
    values = json.loads(student.distillation_file.read_text())
    copy.write_json(copy.distillation_file, values | {"verdict": {"sentence": 7}})
    with pytest.raises(RunError, match=r"distillation\.json is damaged"):
        _ = copy.distillation


def test_several_labels_are_taught_too(tmp_path: Path, picture_folder: Callable[..., Path]) -> None:
    photos = picture_folder(n=10)
    paths = sorted(photos.glob("*/*.png"))
    rows = [
        f"{path.relative_to(photos).as_posix()},{path.parent.name}{' even' if i % 2 else ''}"
        for i, path in enumerate(paths)
    ]
    (photos / "labels.csv").write_text("\n".join(["file_name,labels", *rows]) + "\n")
    teacher = ta.train(photos, None, "scratch", tmp_path / "big", changes=CHANGES, runtime=RUNTIME)
    student = ta.distill(teacher, "mlp", alone=False, runtime=RUNTIME)
    assert student.directory == tmp_path / "big-distilled"
    assert student.finished
    assert student.catalog.multilabel
    assert "whether the teacher helped is open" in student.report.read_text(encoding="utf-8")
    assert pl.read_parquet(student.teacher_file)["logits"].to_numpy().shape[1] == 4
