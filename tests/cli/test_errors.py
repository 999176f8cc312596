"""A user's mistakes at the command line: a message that says what, where and what next, never a traceback."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import tellapart as ta
from tellapart.cli import main
from tellapart.core.events import Computing, StageDone, StageStarted, Validated
from tellapart.errors import DataError, RunError, UnreadableError
from tellapart.runs.resume import divide
from tellapart.runs.run import Run
from tellapart.workflows.train import RunOptions, run

pytestmark = pytest.mark.usefixtures("short_ends")

Pictures = Callable[..., Path]
TINY = ["data.size=16", 'model.name="mlp"', "stages.0.epochs=2", "evaluation.explain=false"]
OPTIONS = ["--recipe", "scratch", "--runtime", "cpu", *(word for change in TINY for word in ("--set", change))]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of other tests may keep the same pictures, which would then not be read here."""
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tellapart(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command in this process: its exit code, and what it printed on standard error."""

    def command(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tellapart", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main.main()
        return int(left.value.code or 0), capsys.readouterr().err

    return command


def train(photos: Path, out: Path, *changes: str, on_unreadable: str = "error") -> Run:
    return ta.train(
        photos,
        recipe="scratch",
        out=out,
        changes=[*TINY, *changes],
        runtime="cpu",
        on_unreadable=on_unreadable,
    )


def events(photos: Path, out: Path, *changes: str, on_unreadable: str = "error"):  # type: ignore[no-untyped-def]
    recipe = ta.load_recipe("scratch", [*TINY, *changes])
    catalog = ta.scan(photos)
    return run(recipe, catalog, divide(catalog, recipe, out), out, RunOptions(on_unreadable, "cpu"))


def test_a_recipe_that_cannot_work_does_not_take_the_directory(picture_folder: Pictures, tmp_path: Path) -> None:
    photos, out = picture_folder(n=8), tmp_path / "run"
    with pytest.raises(ta.TellapartError, match="no network"):
        train(photos, out, 'model.name="nope"')
    assert train(photos, out).finished


def test_out_that_is_a_file_or_below_one(tellapart: Callable[..., tuple[int, str]], picture_folder: Pictures) -> None:
    photos = picture_folder(n=8)
    file = next(photos.glob("*/*.png"))
    for out in (file, file / "run"):
        code, said = tellapart("train", photos, *OPTIONS, "--out", out)
        assert code == 2
        assert str(out) in said
        assert "Choose another --out" in said


def test_out_must_not_hold_other_things(picture_folder: Pictures) -> None:
    photos = picture_folder(n=8)
    before = sorted(photos.rglob("*"))
    with pytest.raises(RunError, match="holds other things, such as circle"):
        train(photos, photos)
    assert sorted(photos.rglob("*")) == before


def test_a_run_among_the_pictures_is_passed_over(picture_folder: Pictures) -> None:
    photos = picture_folder(n=8)
    first = train(photos, photos / "runs" / "one")
    assert list(first.figures.iterdir())
    catalog = ta.scan(photos)
    assert catalog.classes == ("circle", "square", "triangle")
    assert len(catalog) == 24
    assert "trainings passed over: runs/one/" in catalog.layout
    assert train(photos, photos / "runs" / "one").finished


def test_a_finished_run_is_left_alone(picture_folder: Pictures, tmp_path: Path) -> None:
    photos, out = picture_folder(n=8), tmp_path / "run"
    train(photos, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert list(events(photos, out)) == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_split_is_refused(picture_folder: Pictures, tmp_path: Path) -> None:
    photos, out = picture_folder(n=10), tmp_path / "run"
    train(photos, out)
    catalog = ta.scan(photos)
    with pytest.raises(RunError, match="another division"):
        ta.train(catalog, ta.split(catalog, seed=5), recipe="scratch", out=out, changes=TINY, runtime="cpu")


def test_a_split_of_other_pictures_is_refused(picture_folder: Pictures, tmp_path: Path) -> None:
    catalog = ta.scan(picture_folder(n=10))
    other = ta.split(ta.scan(picture_folder("others", n=8, seed=1)))
    with pytest.raises(RunError, match="have changed since they were divided"):
        ta.train(catalog, other, recipe="scratch", out=tmp_path / "run", changes=TINY, runtime="cpu")


def test_moved_pictures_go_on_in_their_new_place(picture_folder: Pictures, tmp_path: Path) -> None:
    photos, out = picture_folder(n=8), tmp_path / "run"
    _stop_after(events(photos, out), Validated)
    moved = photos.rename(tmp_path / "moved")
    train(moved, out)
    assert Run(out).catalog.root == moved
    assert "could not" not in Run(out).report.read_text(encoding="utf-8")


def _stop_after(training, kind: type) -> None:  # type: ignore[no-untyped-def]
    for event in training:
        if isinstance(event, kind):
            break
    training.close()


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("how", ["corrupt", "delete"])
def test_pictures_that_break_on_the_way(part: str, how: str, picture_folder: Pictures, tmp_path: Path) -> None:
    """Refused with the way out; the way out works, also over an interruption, and is recorded."""
    photos, out = picture_folder(n=10), tmp_path / "run"
    catalog = ta.scan(photos)
    recipe = ta.load_recipe("scratch", [*TINY, "stages.0.epochs=3"])
    split = divide(catalog, recipe, out)
    broken = catalog.path(getattr(split, part)[0])

    def damage() -> None:
        if how == "delete":
            broken.unlink()
        else:
            broken.write_bytes(b"no longer a picture")

    training = run(recipe, catalog, split, out, RunOptions("skip", "cpu"))
    for event in training:
        if isinstance(event, StageStarted) and broken.exists():  # before it is read: what was read is kept
            damage()
        if isinstance(event, StageDone):
            break
    training.close()
    if part == "test" and how == "corrupt":  # met only after the training, by a call that scans it as broken
        with pytest.raises(RunError, match="other pictures"):
            train(photos, out, "stages.0.epochs=3")
    if part == "test" and how == "delete":  # not met yet: a picture that is gone before a scan is a change
        with pytest.raises(RunError, match="removed"):
            train(photos, out, "stages.0.epochs=3", on_unreadable="skip")
        return
    done = train(photos, out, "stages.0.epochs=3", on_unreadable="skip")
    assert done.finished
    assert [entry["path"] for entry in done.skipped] == [broken.relative_to(photos).as_posix()]


def test_a_broken_picture_stops_the_training_and_says_how_to_go_on(picture_folder: Pictures, tmp_path: Path) -> None:
    photos, out = picture_folder(n=10), tmp_path / "run"
    training = events(photos, out)
    next(event for event in training if isinstance(event, Validated))
    for path in sorted(photos.glob("*/00*.png"))[:5]:
        path.write_bytes(b"no longer a picture")
    with pytest.raises(UnreadableError, match="--on-unreadable skip") as caught:
        list(training)
    assert caught.value.path.startswith(str(photos))
    done = train(photos, out, on_unreadable="skip")
    assert done.finished
    assert len(done.skipped) == 5


def test_a_wish_to_stop_is_heard_after_the_training_too(picture_folder: Pictures, tmp_path: Path) -> None:
    photos, out = picture_folder(n=8), tmp_path / "run"
    training = events(photos, out)
    next(event for event in training if isinstance(event, Computing))
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(training)
    assert not Run(out).finished
    assert train(photos, out).finished


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("stages.0.epochs.x=2", "below a plain value"),
        ("stages.0=3", "stages.0"),
        ("foo=1", "unknown key"),
        ("foo", "expected key=value"),
    ],
)
def test_changes_that_make_no_sense(
    change: str, says: str, tellapart: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, said = tellapart("train", tmp_path, "--recipe", "scratch", "--set", change)
    assert code == 2
    assert f"--set {change}" in said
    assert says in said


@pytest.mark.parametrize("runtime", ["foo", "cpu,cuda", "float32,bfloat16"])
def test_runtimes_that_make_no_sense(
    runtime: str, tellapart: Callable[..., tuple[int, str]], picture_folder: Pictures, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code, said = tellapart("train", picture_folder(n=8), *OPTIONS, "--runtime", runtime, "--out", out)
    assert code == 2
    assert f"--runtime {runtime}" in said
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there(
    tellapart: Callable[..., tuple[int, str]], picture_folder: Pictures, tmp_path: Path
) -> None:
    code, said = tellapart("train", picture_folder(n=8), *OPTIONS, "--runtime", "cuda", "--out", tmp_path / "run")
    assert code == 2
    assert "cuda" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--recipe", "scratch", "--minutes", 3], "leaves nothing open"),
        (["--set", "stages.2.epochs=5"], "plan decides how many epochs"),
        (["--recipe", "scratch", "--model", "auto"], "which only a [plan] can choose"),
    ],
)
def test_nothing_is_chosen_where_nothing_is_open(
    options: list[Any], says: str, tellapart: Callable[..., tuple[int, str]], picture_folder: Pictures, tmp_path: Path
) -> None:
    code, said = tellapart("train", picture_folder(n=8), *options, "--out", tmp_path / "run")
    assert code == 2
    assert says in said


def test_every_command_is_listed_with_a_whole_sentence() -> None:
    said = CliRunner().invoke(main.app, ["--help"]).stdout
    listed = [line for line in said.partition("Look:")[2].splitlines() if line.startswith("  ")]
    assert listed[0].split()[0] == "scan"
    assert len(listed) == len(main.COMMANDS)
    assert [line for line in listed if not line.rstrip().endswith(".") or line.rstrip().endswith("...")] == []


def test_an_empty_name_of_a_network_is_not_passed_over(
    tellapart: Callable[..., tuple[int, str]], picture_folder: Pictures, tmp_path: Path
) -> None:
    code, said = tellapart("train", picture_folder(n=8), *OPTIONS, "--model", "", "--out", tmp_path / "run")
    assert code == 2
    assert "no network ''" in said


def test_weights_that_are_none_give_no_dangerous_advice(
    tellapart: Callable[..., tuple[int, str]], picture_folder: Pictures, tmp_path: Path
) -> None:
    photos = picture_folder(n=8)
    picture = next(photos.glob("*/*.png"))
    code, said = tellapart("train", photos, "--weights", picture, "--out", tmp_path / "run")
    assert code == 2
    assert str(picture) in said
    assert "False" not in said


def test_evaluating_elsewhere_says_what_is_left_out(
    tellapart: Callable[..., tuple[int, str]], picture_folder: Pictures, tmp_path: Path
) -> None:
    out = train(picture_folder(n=8), tmp_path / "run").directory
    other = picture_folder("other", n=4, seed=2)
    (other / "circle" / "bad.png").write_bytes(b"no picture")
    next((other / "square").glob("*.png")).rename(other / "loose.png")
    code, said = tellapart("evaluate", out, "--on", other)
    assert code == 0
    assert "Left out: 2" in said
    flat = tmp_path / "flat"
    flat.mkdir()
    (other / "loose.png").rename(flat / "loose.png")
    with pytest.raises(DataError, match="has a label"):
        ta.evaluate(out, on=flat)
    strange = picture_folder("strange", classes=("circle", "<script>"), n=4)
    code, said = tellapart("evaluate", out, "--on", strange)
    assert code == 2
    assert "<script>" in said


SCRIPT = "from tellapart.cli import main; main.app = lambda: [print(n) for n in range(1_000_000)]; main.main()"


@pytest.mark.parametrize("program", [f"-c '{SCRIPT}'", pytest.param("-m tellapart models", marks=pytest.mark.slow)])
def test_a_reader_that_stops_reading_meets_no_traceback(program: str) -> None:
    command = f'"{sys.executable}" {program} | head -1'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_damaged_run_is_named(tellapart: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "evaluation.json").write_text("{")
    code, said = tellapart("evaluate", tmp_path)
    assert code == 2
    assert "evaluation.json is damaged" in said


def test_what_the_system_refuses_is_an_error_in_words(
    tellapart: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/first")

    monkeypatch.setattr(main, "app", full)
    assert tellapart() == (2, "Error: runs/first: No space left on device.\n")
