"""A disk that fails at any write: plain words, the last good checkpoint stays, and the same command goes on."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart import retelling
from tellapart.bundle import write
from tellapart.errors import RunError
from tellapart.files import write_text
from tellapart.pipeline import Wishes, run
from tellapart.resume import divide
from tellapart.run_directory import Run
from tellapart.training import checkpoint
from tellapart.training.sealed import read_sealed

TINY = ["data.size=8", 'model.name="mlp"', "stages.0.epochs=2", "stages.0.batch_size=16"]
FAULTS = itertools.cycle([errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES])

Train = Callable[[Path], None]
Same = Callable[[Path, Path], None]


@pytest.fixture
def train(picture_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Trains in a directory, from the second time on without the slow export of a model that is the same."""
    monkeypatch.setattr(checkpoint, "SHARE", 1.0)
    monkeypatch.setattr(checkpoint, "WITHIN_EPOCH", 0.0)
    monkeypatch.setattr(retelling, "write_figures", lambda _story, folder: write_text(folder / "curves.svg", "<svg/>"))
    export, exported = write._export, tmp_path / "model.onnx"

    def export_once(network: Any, golden: Any, path: Path) -> None:
        if not exported.exists():
            export(network, golden, exported)
        path.write_bytes(exported.read_bytes())

    monkeypatch.setattr(write, "_export", export_once)
    recipe = ta.load_recipe("scratch", TINY)
    catalog = ta.scan(picture_folder(n=8))

    def train(out: Path) -> None:
        for _ in run(recipe, catalog, divide(catalog, recipe, out), out, Wishes(runtime="cpu")):
            pass

    train(tmp_path / "unbroken")
    return train


def fail_once(patch: pytest.MonkeyPatch, directory: Path) -> Iterator[str]:
    """From here on every opening for writing, flush and rename below a directory fails the first time it is tried.

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
def test_every_write_may_fail(train: Train, tmp_path: Path, same_runs: Same) -> None:
    out = tmp_path / "run"
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        faults = fail_once(patch, out)
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
    same_runs(out, tmp_path / "unbroken")
    assert not list(out.rglob("*.part"))
    for name in ("catalog.parquet", "events.jsonl", "last.safetensors", "test.parquet", "bundle", "report.html"):
        assert any(name in what for what in seen), name
    assert len(seen) > 80


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount") or os.name == "nt":
        pytest.skip("needs mount")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # a table of ours may still be mapped into memory


def test_a_disk_that_is_really_full(train: Train, small_disk: Path, tmp_path: Path, same_runs: Same) -> None:
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
    same_runs(out, tmp_path / "unbroken")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything may be written by root")
def test_a_folder_that_may_not_be_written_to(train: Train, tmp_path: Path, same_runs: Same) -> None:
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints").chmod(0o555)
    with pytest.raises(RunError, match="Permission denied") as raised:
        train(out)
    assert "Make the folder writable" in raised.value.hint
    (out / "checkpoints").chmod(0o755)
    train(out)
    same_runs(out, tmp_path / "unbroken")
