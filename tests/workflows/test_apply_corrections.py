"""From wrong labels to a better training: ranked, reviewed, corrected, trained again, compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.data.corrections import CorrectionLog, read_corrections
from tellapart.errors import DataError, RunError
from tellapart.report.run_report import report
from tellapart.report.sections.corrections import change, change_sentences, descendants
from tellapart.runs.run import Run
from tellapart.web.serve.picture_store import PictureStore
from tellapart.workflows.apply_corrections import correct
from tellapart.workflows.errors import errors_of_run
from tellapart.workflows.progress import ProgressSink
from tellapart.workflows.review import ReviewOptions, session_of_pictures, session_of_run, session_of_unlabelled

pytestmark = pytest.mark.usefixtures("short_ends")

PictureFolder = Callable[..., Path]
QUIET = ProgressSink()
CHANGES = ["model.name=small-cnn", "data.size=32", "stages.0.epochs=3", "evaluation.explain=false"]
RUNTIME = "cpu,float32,channels-last"


def train(pictures: Path, out: Path, corrections: Path | None = None) -> Run:
    return ta.train(pictures, recipe="scratch", out=out, changes=CHANGES, corrections=corrections, runtime=RUNTIME)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, pictures_at: PictureFolder) -> Run:
    """A finished run on pictures of which six have the label of another class."""
    folder = tmp_path_factory.mktemp("mending")
    pictures = pictures_at(folder / "photos", n=30)
    for i in range(6):
        source = pictures / "circle" / f"{i * 4:03}.png"
        source.rename(pictures / "square" / f"wrong-{i}.png")
    return train(pictures, folder / "runs" / "first")


@pytest.fixture(scope="module")
def corrections(first: Run) -> Path:
    """The six relabelled, and a picture of each part excluded."""
    catalog, log = first.catalog, CorrectionLog(first.directory / "corrections.csv")
    for row, path in enumerate(catalog.table["path"]):
        if "wrong" in path:
            log.add(row, path, "square", "circle", "me", "relabel", catalog.table["sha256"][row].hex())
    for part in ("train", "validation", "test"):
        right = [row for row in getattr(first.split, part) if "wrong" not in catalog.table["path"][int(row)]]
        row = int(right[0])
        label = catalog.classes[int(catalog.target([row])[0])]
        log.add(row, catalog.table["path"][row], label, "", "me", "exclude", catalog.table["sha256"][row].hex())
    return log.path


@pytest.fixture(scope="module")
def second(first: Run, corrections: Path) -> Run:
    return train(first.catalog.root, first.directory.with_name("second"), corrections)


def parts(run: Run) -> dict[str, set[str]]:
    paths = run.catalog.table["path"]
    return {name: set(paths.gather(getattr(run.split, name))) for name in ("train", "validation", "test")}


def test_corrections_are_applied_and_recorded(first: Run, second: Run, corrections: Path) -> None:
    assert len(second.catalog) == len(first.catalog) - 3
    at = second.catalog.table["path"].str.contains("wrong").to_numpy()
    assert {second.catalog.classes[k] for k in second.catalog.target(np.flatnonzero(at))} == {"circle"}
    record = second.environment["corrections"]
    assert record["file"] == str(corrections)
    assert "6 pictures relabelled, 3 excluded" in record["applied"]
    assert record["first"] == str(first.directory)


def test_a_second_review_builds_upon_the_first(first: Run, second: Run, tmp_path: Path) -> None:
    reviewed = tmp_path / "second"
    shutil.copytree(second.directory, reviewed)
    catalog = second.catalog
    row = next(i for i, path in enumerate(catalog.table["path"]) if path.startswith("triangle"))
    log = CorrectionLog(reviewed / "corrections.csv")
    digest = catalog.table["sha256"][row].hex()
    log.add(row, catalog.table["path"][row], "triangle", "circle", "me", "relabel", digest)
    said: list[str] = []
    corrected = correct(ta.scan(first.catalog.root), log.path, said.append)
    assert corrected.catalog.table["path"].to_list() == catalog.table["path"].to_list()
    expected = catalog.target(np.arange(len(catalog))).copy()
    expected[row] = catalog.classes.index("circle")
    assert corrected.catalog.target(np.arange(len(catalog))).tolist() == expected.tolist()
    assert corrected.split is not None
    assert corrected.split.test.tolist() == second.split.test.tolist()
    assert len(said) == 2
    (first.directory / "corrections.csv").rename(tmp_path / "away.csv")
    try:
        with pytest.raises(DataError, match="that file is gone"):
            correct(ta.scan(first.catalog.root), log.path, said.append)
    finally:
        (tmp_path / "away.csv").rename(first.directory / "corrections.csv")


def test_the_division_stays_as_it_was(first: Run, second: Run) -> None:
    before, after = parts(first), parts(second)
    for name, gone in (("train", 1), ("validation", 1), ("test", 1)):
        assert after[name] < before[name]
        assert len(before[name] - after[name]) == gone
    assert "Divided as in first" in second.split.description


def test_what_changed_is_told_on_the_same_test_pictures(first: Run, second: Run) -> None:
    found = change(first, second)
    assert found is not None
    catalog, test = second.catalog, second.predictions("test")
    paths = catalog.table["path"].gather(test.row).to_list()
    old = first.predictions("test")
    line = {path: i for i, path in enumerate(first.catalog.table["path"].gather(old.row))}
    answers = np.array([old.logits[line[path]].argmax() for path in paths])
    assert found.n == len(paths) == len(old) - 1
    assert found.n_corrected == sum("wrong" in path for path in paths)
    given = np.array([old.target[line[path]] for path in paths])
    assert found.before.metrics["accuracy"].value == pytest.approx((answers == given).mean())
    assert found.relabelled.metrics["accuracy"].value == pytest.approx((answers == test.target).mean())
    assert found.after.metrics["accuracy"].value == second.evaluations["test"].metrics["accuracy"].value
    gained = found.after.metrics["accuracy"].value - found.relabelled.metrics["accuracy"].value
    assert found.difference.value == pytest.approx(gained)
    assert found.difference.low <= gained <= found.difference.high
    assert [run.directory.name for run in descendants(first)] == ["second"]
    assert "by the corrected labels" in " ".join(change_sentences(first, second))
    report = second.report.read_text(encoding="utf-8")
    assert "What the corrections changed" in report
    assert "first, corrected labels" in report
    assert "What the corrections changed" not in first.report.read_text(encoding="utf-8")


def test_the_same_command_again_does_nothing_and_other_corrections_are_another_training(
    first: Run, second: Run, corrections: Path, tmp_path: Path
) -> None:
    written = second.evaluation_file.stat().st_mtime_ns
    train(first.catalog.root, second.directory, corrections)
    assert second.evaluation_file.stat().st_mtime_ns == written
    fewer = tmp_path / "corrections.csv"
    fewer.write_text("\n".join(corrections.read_text().split("\n")[:3]) + "\n")
    with pytest.raises(RunError, match="other pictures"):
        train(first.catalog.root, second.directory, fewer)


def test_only_the_training_differs_is_said_only_where_it_is_so(second: Run, tmp_path: Path) -> None:
    assert "only the training differs" in second.report.read_text(encoding="utf-8")
    other = tmp_path / "other"
    shutil.copytree(second.directory, other)
    recipe = (other / "recipe.toml").read_text(encoding="utf-8")
    (other / "recipe.toml").write_text(recipe.replace("epochs = 3", "epochs = 4"), encoding="utf-8")
    page = report(Run(other)).read_text(encoding="utf-8")
    assert "only the training differs" not in page
    assert "more than the training differs (stages.0.epochs)" in page


def test_corrections_of_other_pictures_are_refused(
    corrections: Path, tmp_path: Path, pictures_at: PictureFolder
) -> None:
    other = pictures_at(tmp_path / "other", n=8, seed=5)
    with pytest.raises(DataError, match=r"no such picture|another one now"):
        train(other, tmp_path / "run", corrections)
    assert not (tmp_path / "run").exists()


def test_a_review_of_a_run(first: Run, second: Run, weights: Path) -> None:
    session = session_of_run(first, ReviewOptions(by="me"), QUIET)
    assert len(session.items) >= 30
    assert session.changed
    assert session.log.path == first.directory / "corrections.csv"
    assert sum("wrong" in item.file for item in session.items[:12]) >= 4
    assert len(session.state()["decisions"]) == sum(
        item.file in {c.file for c in read_corrections(session.log.path)} for item in session.items
    )
    assert "--corrections" in session.after
    assert session.after.endswith("first-corrected")
    assert f"--recipe {first.recipe_file}" in session.after
    assert f"--recipe {first.recipe_file}" in first.report.read_text(encoding="utf-8")
    again = session_of_run(first, ReviewOptions(limit=5), QUIET)  # the ranking is stored
    assert [item.row for item in again.items] == [item.row for item in session.items[:5]]


def test_the_errors_of_a_run(first: Run, weights: Path, tmp_path: Path) -> None:
    found = errors_of_run(first, tmp_path, "", "square", QUIET)
    page = found.page.read_text(encoding="utf-8")
    for title in (
        "The most wrong answers",
        "The least certain answers",
        "Right",
        "The most suspicious first",
    ):
        assert title in page
    assert (tmp_path / "label_issues.csv").is_file()
    assert "wrong-" in found.text


def test_unlabelled_pictures_are_asked_in_an_order_that_teaches(
    first: Run, tmp_path: Path, pictures_at: PictureFolder
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    for number, path in enumerate(sorted(pictures_at(tmp_path / "made", n=6, seed=9).rglob("*.png"))):
        shutil.copy(path, folder / f"{number}.png")
    session = session_of_unlabelled(folder, first, tmp_path / "out", ReviewOptions(limit=10), QUIET)
    assert len(session.items) == 10
    assert session.classes == first.catalog.classes
    assert all(item.labels == () for item in session.items)
    for number, item in enumerate(session.items):
        session.decide(number, "relabel", item.suggested)
    from tellapart.data.corrections import corrected
    from tellapart.data.scan import scan

    after, applied = corrected(scan(folder), session.log.path)
    assert applied.relabelled == 10
    assert (after.target() >= 0).sum() == 10
    with pytest.raises(DataError, match="have a label"):
        session_of_unlabelled(tmp_path / "made", first, tmp_path / "out", ReviewOptions(), QUIET)


def test_what_people_said_on_a_servers_page_is_checked_first(
    first: Run, tmp_path: Path, pictures_at: PictureFolder
) -> None:
    store = PictureStore(tmp_path / "kept", 1_000_000)
    paths = sorted(pictures_at(tmp_path / "made", n=4, seed=9).rglob("*.png"))
    names = [str(store.add(path.read_bytes())) for path in paths]
    store.correct(names[3], ["circle"], False)
    store.correct(names[5], [], False)
    session = session_of_unlabelled(store.folder, first, store.folder, ReviewOptions(limit=6, by="me"), QUIET)
    assert {item.file for item in session.items[:2]} == {names[3], names[5]}
    assert [item.reason.startswith("Somebody said") for item in session.items] == [True] * 2 + [False] * 4
    assert len({item.file for item in session.items}) == 6
    decisions = session.state()["decisions"]
    assert sorted(decision["decision"] for decision in decisions.values()) == ["exclude", "relabel"]
    for number in range(2):
        session.decide(number, "relabel", ["square"])
    again = session_of_unlabelled(store.folder, first, store.folder, ReviewOptions(limit=6, by="me"), QUIET)
    assert all(item.reason == "Not labelled yet." for item in again.items)  # they were checked


def test_pictures_without_a_run_are_ranked_anew_when_they_change(
    weights: Path, tmp_path: Path, pictures_at: PictureFolder
) -> None:
    pictures = pictures_at(tmp_path / "photos", n=6)
    options = ReviewOptions(model="tf_mobilenetv3_small_100")
    one = session_of_pictures(pictures, tmp_path / "out", options, QUIET)
    (pictures / "circle" / "000.png").unlink()
    two = session_of_pictures(pictures, tmp_path / "out", options, QUIET)
    assert len(two.items) == len(one.items) - 1
    assert "train" in two.after
