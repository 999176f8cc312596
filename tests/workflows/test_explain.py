"""The explain command and the report's section, on small runs: one label and several, own pictures, hostile names."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import tellapart as ta
from tellapart.cli.main import app
from tellapart.errors import MissingExtraError, ModelError, UnreadableError, UsageError
from tellapart.explaining import attribution
from tellapart.report.run_report import report
from tellapart.runs.run import Run
from tellapart.workflows.explain import explain
from tellapart.workflows.explain_for_report import explain_for_report, in_time
from tellapart.workflows.explain_on_demand import OnDemand, answer_all
from tellapart.workflows.label_issues import trained

pytestmark = pytest.mark.usefixtures("short_ends")

HOSTILE = ("<script>circle", 'a "square" & \n co', "треугольник 3")


@pytest.fixture(autouse=True, scope="module")
def no_hurry() -> Iterator[None]:
    """A busy machine shows no less than another; integrals are coarse, as nobody reads them here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution, "_STEPS", 8)
        patch.setattr("tellapart.workflows.explain_for_report.EXPLAIN_SECONDS", 1e9)
        yield


def trained_on(pictures: Path, out: Path, model: str = "small-cnn") -> Run:
    changes = [f'model.name="{model}"', "data.size=32", "stages.0.epochs=5"]
    return ta.train(pictures, recipe="scratch", out=out, changes=changes, runtime="cpu,float32")


@pytest.fixture(scope="module")
def run(pictures_at: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("explained")
    return trained_on(pictures_at(root / "photos", HOSTILE, n=20), root / "run")


@pytest.mark.skipif(importlib.util.find_spec("captum") is None, reason="integrated gradients need captum")
def test_the_report_tells_why(run: Run) -> None:
    kept = json.loads((run.figures / "explained.json").read_text(encoding="utf-8"))
    assert len(kept["explained"]) == 6
    assert [(check["method"], check["n"]) for check in kept["checks"]] == [("Grad-CAM", 4), ("Integrated gradients", 2)]
    assert all(-1 <= check["agreement"] < 0.5 for check in kept["checks"])
    for number, picture in enumerate(kept["explained"]):
        # Class by class, and of the first pictures each class by both methods.
        by = ["Grad-CAM", "Integrated gradients"] if number < 2 else ["Grad-CAM"]
        titles = [entry["title"] for entry in picture["maps"]]
        assert [entry["method"] for entry in picture["maps"]] == by * (len(titles) // len(by))
        assert titles == [title for title in dict.fromkeys(titles) for _ in by]
    rows = {entry["row"] for picture in kept["explained"] for entry in picture["alike"]}
    assert rows <= set(run.split.train.tolist())
    for picture in kept["explained"]:
        assert len(picture["alike"]) == 6
        for name in (picture["seen"], *(entry["file"] for entry in picture["maps"])):
            with Image.open(run.figures / name) as jpeg:
                assert jpeg.size == (192, 192)
    page = run.report.read_text(encoding="utf-8")
    assert "Why it answered so" in page
    assert "Grad-CAM: with random weights the map changes" in page
    assert "Integrated gradients: with random weights the map changes" in page
    assert "integrated gradients (of the first 2 pictures) say which pixels" in page
    assert "What speaks for &lt;script&gt;circle" in page
    assert "<script>circle" not in page
    run.report.unlink()
    assert "What speaks for" in report(run).read_text(encoding="utf-8")


def test_a_page_of_a_runs_pictures_and_of_others(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "my <b>own 'picture'.png"
    Image.new("RGB", (50, 30), "hsv(120, 90%, 90%)").save(own)
    train_row, test_row = int(run.split.train[0]), int(run.split.test[0])
    shown = explain(run, [own, run.catalog.path(train_row)], rows=[test_row], n_alike=3, out=tmp_path / "e.html")
    test, mine, learned = shown.why.explained
    assert not mine.card.labels
    assert mine.card.name == str(own)
    assert mine.card.link.startswith("file:///")
    assert test.card.labels
    assert [len(picture.alike) for picture in shown.why.explained] == [3, 3, 3]
    # A training picture is not like itself.
    assert train_row not in {card.row for card in learned.alike}
    assert float(learned.alike[0].note.rpartition(": ")[2]) <= 1
    page = shown.path.read_text(encoding="utf-8")
    assert "&lt;b&gt;own" in page
    assert "<b>own" not in page
    assert "It looks like these training pictures" in page
    assert f"among {len(run.split.train)} training pictures" in page


def test_the_command_writes_pages_and_pictures(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.directory, copy)
    said = CliRunner().invoke(app, ["explain", str(copy), "--limit", "3", "--quiet"])
    assert said.exit_code == 0, said.output
    assert "rank correlation" in said.output
    assert (copy / "explain.html").is_file()
    arguments = ["explain", str(copy), "--row", "1", "--class", HOSTILE[2], "--alike", "2", "--quiet"]
    said = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "e.png")])
    assert said.exit_code == 0, said.output
    with Image.open(tmp_path / "e.png") as sheet:
        assert sheet.width > 4 * 192  # picture, map, two alike
        assert sheet.height < 2 * 192 + 100


def without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingExtraError("Integrated gradients", "explain", "captum")

    monkeypatch.setattr(attribution, "require", missing)


def test_integrated_gradients(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("captum")
    options: dict[str, Any] = {"method": attribution.INTEGRATED, "limit": 2, "n_alike": 0, "out": tmp_path / "e.html"}
    shown = explain(run, **options)
    assert [check.trusted for check in shown.why.checks] == [True]
    assert not any(picture.alike for picture in shown.why.explained)
    assert "Integrated gradients" in shown.path.read_text(encoding="utf-8")

    without_captum(monkeypatch)
    with pytest.raises(MissingExtraError, match="captum"):
        explain(run, **options)
    without = Run(Path(shutil.copytree(run.directory, tmp_path / "run")))
    for _ in explain_for_report(without, trained(without, "best"), "test", None):
        pass
    page = report(without).read_text(encoding="utf-8")
    assert "tellapart[explain]" in page
    assert "Grad-CAM says which region." in page
    assert "Integrated gradients: with" not in page


def test_what_was_kept_of_one_method_is_still_told(run: Run, tmp_path: Path) -> None:
    old = Run(Path(shutil.copytree(run.directory, tmp_path / "run")))
    path = old.figures / "explained.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    pictures = [
        {**p, "maps": [{k: v for k, v in m.items() if k != "method"} for m in p["maps"]]} for p in kept["explained"]
    ]
    as_it_was = {"method": "Grad-CAM", "agreement": -0.05, "n_checked": 4, "n_training": 3, "why_not": ""}
    path.write_text(json.dumps({**as_it_was, "explained": pictures}), encoding="utf-8")
    page = report(old).read_text(encoding="utf-8")
    assert "Grad-CAM: with random weights the map changes" in page
    assert "What speaks for &lt;script&gt;circle" in page
    why_not = {"method": "", "agreement": 0.0, "n_checked": 0, "n_training": 0, "why_not": "No layer for it."}
    path.write_text(json.dumps({**why_not, "explained": []}), encoding="utf-8")
    page = report(old).read_text(encoding="utf-8")
    assert "No layer for it." in page
    assert "with random weights" not in page


def test_wishes_that_cannot_be_met(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")

    def refused(error: type[Exception], match: str, *what: object, **how: object) -> None:
        pictures, rows, out = (*what, *((), (), None)[len(what) :])
        with pytest.raises(error, match=match):
            explain(run, pictures, rows=rows, out=out, **how)  # type: ignore[arg-type]

    refused(UsageError, "no such class", only="oval")
    refused(UsageError, "no such method", method="guess")
    refused(UsageError, "0 to 59", (), [60])
    refused(UsageError, "does not exist", ["nowhere.png"])
    refused(UsageError, r"\.html", (), (), Path("e.pdf"))
    refused(UnreadableError, "broken.jpg", [broken])


def test_a_network_without_a_map_is_explained_by_integrated_gradients(
    pictures_at: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("captum")
    flat = trained_on(pictures_at(tmp_path / "photos", n=10), tmp_path / "run", "mlp")
    page = flat.report.read_text(encoding="utf-8")
    assert "no layer with rows and columns" in page
    assert "Integrated gradients say which pixels." in page
    assert "Integrated gradients: with random weights" in page
    kept = json.loads((flat.figures / "explained.json").read_text(encoding="utf-8"))
    methods = [{entry["method"] for entry in picture["maps"]} for picture in kept["explained"]]
    assert methods == [{"Integrated gradients"}] * len(kept["explained"])
    why = explain(flat).why
    assert [check.method for check in why.checks] == ["Integrated gradients"]
    assert "no layer with rows and columns" in why.notes[0]
    with pytest.raises(ModelError, match="Grad-CAM"):
        explain(flat, method=attribution.GRAD_CAM)

    without_captum(monkeypatch)
    for _ in explain_for_report(flat, trained(flat, "best"), "test", None):
        pass
    page = report(flat).read_text(encoding="utf-8")
    assert "no layer with rows and columns" in page
    assert "tellapart[explain]" in page
    assert "What speaks for" not in page


def test_several_labels(pictures_at: Callable[..., Path], tmp_path: Path) -> None:
    root = pictures_at(tmp_path / "photos", n=10)
    lines = [
        f"{path.relative_to(root)},{path.parent.name}{' odd' if int(path.stem) % 2 else ''}"
        for path in sorted(root.rglob("*.png"))
    ]
    (root / "labels.csv").write_text("file_name,labels\n" + "\n".join(lines) + "\n")
    run = trained_on(root / "labels.csv", tmp_path / "run", "tutorial-cnn")
    assert run.catalog.multilabel
    own = tmp_path / "own.png"
    Image.new("RGB", (40, 40), "red").save(own)
    why = explain(run, [own], rows=[int(run.split.test[0])], out=tmp_path / "e.html").why
    assert all(1 <= len(picture.maps) <= 3 for picture in why.explained)
    assert all(len(picture.alike) == 6 for picture in why.explained)
    assert "What speaks for" in run.report.read_text(encoding="utf-8")


def test_a_server_is_told_why(run: Run, tmp_path: Path) -> None:
    row = int(run.split.train[0])
    own = run.catalog.path(row).read_bytes()
    requests = io.BytesIO(b"".join(len(sent).to_bytes(4, "big") + sent for sent in (own, b"no picture")))
    answers = io.BytesIO()
    answer_all(OnDemand(run), requests, answers)
    sent, received = answers.getvalue(), []
    while sent:
        length = int.from_bytes(sent[:4], "big")
        received.append(sent[4 : 4 + length])
        sent = sent[4 + length :]
    assert received[0] == b""  # it is ready
    why, unreadable = map(json.loads, received[1:])
    assert "not a picture" in unreadable["problem"]
    assert why["method"] == "Grad-CAM"
    assert why["maps"][0]["label"] in run.catalog.classes
    assert len(why["alike"]) == 6
    assert why["alike"][0]["similarity"] == pytest.approx(1.0, abs=1e-3)  # the picture itself
    assert why["alike"][0]["labels"] == [run.catalog.classes[int(run.catalog.target([row])[0])]]
    for address in (why["picture"], why["maps"][0]["picture"], why["alike"][0]["picture"]):
        kind, _, jpeg = address.partition(",")
        assert kind == "data:image/jpeg;base64"
        Image.open(io.BytesIO(base64.b64decode(jpeg))).load()
    assert str(run.catalog.root) not in json.dumps(why)


def test_explanations_take_a_share_of_the_trainings_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellapart.workflows.explain_for_report.EXPLAIN_SECONDS", 20.0)
    methods = {"grad-cam": 6, "integrated-gradients": 2}
    assert in_time(methods, forward=0.001, trained=0.0) == (methods, [])
    assert in_time(methods, forward=0.1, trained=1_000.0) == (methods, [])
    kept, notes = in_time(methods, forward=0.1, trained=100.0)
    assert kept == {"grad-cam": 6}
    assert notes == [
        "Integrated gradients: 0 of 2 pictures, as explanations take at most a fifth of the training's time. "
        "tellapart explain shows more."
    ]
    kept, notes = in_time(methods, forward=2.0, trained=200.0)
    assert 0 < kept["grad-cam"] < 6
    assert len(notes) == 2
    assert in_time(methods, forward=1_000.0, trained=200.0)[0] == {}
