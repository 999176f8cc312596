"""A disk that fails at any write: plain words, the last good checkpoint stays, and the same command goes on."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.core.events import Event, Note, StageDone, Validated
from tellapart.core.files import write_text
from tellapart.deploy.export.formats import FORMATS
from tellapart.errors import RunError
from tellapart.report import run_report
from tellapart.runs.resume import divide
from tellapart.runs.run import Run
from tellapart.training import checkpoint
from tellapart.training.checkpoint_file import read_sealed
from tellapart.workflows.train import RunOptions, run

TINY = ["data.size=16", 'model.name="mlp"', "stages.0.epochs=2", "stages.0.batch_size=16"]
FAULTS = itertools.cycle([errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES])

Train = Callable[..., list[Event]]
Same = Callable[[Path, Path], None]


RECIPE = ta.load_recipe("scratch", TINY)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 8 small pictures each, from dark to light."""
    folder, dice = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number, name in enumerate(("dark", "grey", "light")):
        (folder / name).mkdir()
        for i in range(8):
            pixels = dice.integers(50 * number, 50 * number + 150, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def follow(photos: Path, out: Path, until: type[Event] | None = None) -> list[Event]:
    """Train in a directory, to the end or until an event of some kind; the events seen."""
    seen: list[Event] = []
    catalog = ta.scan(photos)
    for event in run(RECIPE, catalog, divide(catalog, RECIPE, out), out, RunOptions(runtime="cpu")):
        seen.append(event)
        if until and isinstance(event, until):
            break
    return seen


@pytest.fixture(scope="module")
def unbroken(photos: Path, short_ends: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    follow(photos, out)
    return out


@pytest.fixture
def train(photos: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains, saves at every event, and leaves out the slow export of a model that must be the same."""
    monkeypatch.setattr(checkpoint, "SHARE", 1.0)
    monkeypatch.setattr(checkpoint, "WITHIN_EPOCH", 0.0)
    monkeypatch.setattr(run_report, "write_figures", lambda _story, folder: write_text(folder / "curves.svg", "<svg/>"))
    model = (unbroken / "bundle" / "model.onnx").read_bytes()
    monkeypatch.setitem(FORMATS, "model.onnx", lambda _network, _golden, path: path.write_bytes(model))
    return partial(follow, photos)


def fail_once(patch: pytest.MonkeyPatch, directory: Path, every: int) -> Iterator[str]:
    """From here on openings for writing, flushes and renames below a directory fail the first time they are tried.

    Args:
        every: 1: all of them; n: each n-th.

    Yields:
        What has failed since it was last asked; "" for nothing. Asking begins another try.
    """
    failed: set[tuple[str, str, int]] = set()
    tries: dict[tuple[str, str], int] = {}
    now = ""

    def check(kind: str, path: object) -> None:
        nonlocal now
        if not str(path).startswith(str(directory)) or str(path).endswith(".lock"):
            return
        # The same file of another try: without what makes its temporary name unique.
        name = re.sub(r"\.([^/]+)\.[^./]{8}\.part$", r"\1", os.path.relpath(str(path), directory))
        tries[kind, name] = tries.get((kind, name), 0) + 1
        once = kind, name, tries[kind, name]
        if once not in failed:
            failed.add(once)
            if len(failed) % every:
                return
            now = f"{kind} {name}, time {once[2]}"
            number = next(FAULTS)
            raise OSError(number, os.strerror(number), *([str(path)] if kind != "fsync" else []))

    def opening(real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if set(mode) & set("wa+x"):
                check("open", path)
            return real(path, mode, *rest, **more)

        return opened

    def before(kind: str, real: Callable[..., Any], path_of: Callable[..., object]) -> Callable[..., Any]:
        def called(*words: Any, **more: Any) -> Any:
            check(kind, path_of(*words, **more))
            return real(*words, **more)

        return called

    patch.setattr(io, "open", opening(io.open))
    patch.setattr(builtins, "open", opening(builtins.open))
    patch.setattr(os, "fsync", before("fsync", os.fsync, lambda handle: os.readlink(f"/proc/self/fd/{handle}")))
    patch.setattr(os, "replace", before("replace", os.replace, lambda _old, new: new))
    patch.setattr(os, "rename", before("rename", os.rename, lambda _old, new: new))
    patch.setattr(
        tempfile,
        "mkstemp",
        before("make", tempfile.mkstemp, lambda **how: f"{how['dir']}/{how['prefix']}12345678.part"),
    )
    while True:
        told, now, tries = now, "", {}
        yield told


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names open files by /proc")
@pytest.mark.parametrize("every", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_every_write_may_fail(train: Train, tmp_path: Path, unbroken: Path, same_runs: Same, every: int) -> None:
    out = tmp_path / "run"
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        faults = fail_once(patch, out, every)
        assert next(faults) == ""
        for _ in range(400):
            error = failure(train, out)
            if error is None:
                break
            seen.append(next(faults))
            assert seen[-1], error
            assert error.message.count(str(out)) == 1, error.message
            assert ".part" not in error.message, seen[-1]
            assert "--out" in error.hint or "same command again goes on" in error.hint, error
            good(Run(out))
    assert error is None
    same_runs(out, unbroken)
    assert not list(out.rglob("*.part"))
    assert len(seen) > 80 / every
    names = ("catalog.parquet", "events.jsonl", "last.safetensors", "test.parquet", "bundle", "report.html")
    assert every > 1 or all(any(name in what for what in seen) for name in names), seen


def failure(train: Train, out: Path) -> RunError | None:
    """What a training that fails says; None where it ends."""
    try:
        train(out)
    except RunError as error:
        return error
    return None


def good(training: Run) -> None:
    """Once something has been saved, there is always a whole generation."""
    there = [path for name in ("last", "previous") if (path := training.checkpoint(name)).exists()]
    for path in there:
        read_sealed(path)
    assert there or not training.evaluation_file.exists()


@pytest.mark.parametrize("until", [Validated, StageDone])
@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_a_damaged_checkpoint_costs_time_and_nothing_else(
    train: Train,
    tmp_path: Path,
    unbroken: Path,
    same_runs: Same,
    monkeypatch: pytest.MonkeyPatch,
    until: type[Event],
    damage: str,
) -> None:
    monkeypatch.setattr(
        checkpoint, "SHARE", math.inf
    )  # at every event however long a write takes: there are always two
    out = tmp_path / "run"
    train(out, until)
    last = Run(out).checkpoint("last")
    if damage == "lost":
        last.unlink()
    else:
        content = bytearray(last.read_bytes())
        content[-7] ^= 1
        last.write_bytes(content)
    (note,) = (event for event in train(out) if isinstance(event, Note))
    assert "last.safetensors is" in note.text
    same_runs(out, unbroken)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount") or os.name == "nt":
        pytest.skip("needs mount")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # a table of ours may still be mapped into memory


def test_a_disk_that_is_really_full(train: Train, small_disk: Path, unbroken: Path, same_runs: Same) -> None:
    out, filler = small_disk / "run", small_disk / "filler"
    n_failed = 0
    for free in (4, 12, 30, 60, 100, 200, 400, 800, 1600):
        space = os.statvfs(small_disk)
        filler.write_bytes(b"")
        filler.write_bytes(bytes(max(0, os.statvfs(small_disk).f_bavail * space.f_frsize - free * 1024)))
        if error := failure(train, out):
            n_failed += 1
            assert "No space left on device" in error.message
            assert "Free some space" in error.hint
            good(Run(out))
    assert n_failed > 3
    filler.unlink()
    train(out)
    same_runs(out, unbroken)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything may be written by root")
def test_a_folder_that_may_not_be_written_to(train: Train, tmp_path: Path, unbroken: Path, same_runs: Same) -> None:
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints").chmod(0o555)
    with pytest.raises(RunError, match="Permission denied") as raised:
        train(out)
    assert "Make the folder writable" in raised.value.hint
    (out / "checkpoints").chmod(0o755)
    train(out)
    same_runs(out, unbroken)
