"""An audit finds what was planted, and raises no alarm where nothing is."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

import tellapart as ta
from tellapart.errors import UsageError


def scene(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """A picture with structure at all sizes, as photographs have: a sum of ever finer noise."""
    random = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3))
    for size in (4, 8, 16, 32, *(size for size in (64, 128, 256) if size <= height // 2)):
        noise = Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8))
        whole += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) * 4 / size
    whole += random.normal(0, 2, whole.shape)
    whole -= whole.min()
    return Image.fromarray(np.uint8(255 * whole / whole.max()))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A clean set: two classes of twelve scenes."""
    root = tmp_path / "photos"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            scene(100 * number + i).save(root / name / f"{i:02}.png")
    return root


def kinds(found: ta.Audit) -> dict[str, int]:
    return dict(found.findings["kind"].value_counts().iter_rows())


def test_a_clean_set_raises_no_alarm(photos: Path) -> None:
    assert kinds(ta.audit(photos)) == {}


@pytest.mark.parametrize("seed", range(6))
def test_no_false_alarm_on_labels_drawn_at_random(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    for i in range(90):
        width, height = random.integers(40, 120, 2).tolist()
        file = tmp_path / random.choice(["a", "b", "c"]) / f"{i}.{random.choice(['png', 'jpg'])}"
        scene(1000 * seed + i, width, height).save(file)
    assert set(kinds(ta.audit(tmp_path))) <= {"odd-shape", "odd-size"}


def test_exact_copies_contradictions_and_leaks(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(11):
                scene(1000 * (part == "test") + 100 * number + i).save(root / part / name / f"{i}.png")
    shutil.copy(root / "train/cat/0.png", root / "train/cat/again.png")
    shutil.copy(root / "train/cat/1.png", root / "train/dog/wrong.png")
    shutil.copy(root / "train/dog/2.png", root / "test/dog/leak.png")
    found = ta.audit(root)
    table = found.findings.select("kind", "path", "other_path")
    assert set(table.iter_rows()) == {
        ("leak", "train/dog/2.png", "test/dog/leak.png"),
        ("contradiction", "train/dog/wrong.png", "train/cat/1.png"),
        ("duplicate", "train/cat/again.png", "train/cat/0.png"),
    }
    kept = found.exclude(["leak", "duplicate"]).table["path"].to_list()
    assert "test/dog/leak.png" in kept
    assert {"train/dog/2.png", "train/cat/again.png"}.isdisjoint(kept)
    assert {"train/dog/wrong.png", "train/cat/1.png"}.isdisjoint(found.exclude("contradiction").table["path"])
    assert kinds(ta.audit(found.exclude(["leak", "duplicate", "contradiction"]))) == {}


def test_a_leak_is_looked_for_in_a_split_that_is_given(photos: Path) -> None:
    ImageOps.mirror(Image.open(photos / "cat/03.png")).save(photos / "cat/mirrored.png")
    catalog = ta.scan(photos)
    paths = catalog.table["path"]
    train = np.flatnonzero((paths != "cat/mirrored.png").to_numpy())
    here = ta.Split(train, np.setdiff1d(np.arange(len(catalog)), train), np.empty(0, np.int64), catalog.digest, 0, "")
    row = ta.audit(catalog, here).findings.row(0, named=True)
    assert (row["kind"], row["path"], row["other_path"]) == ("near-leak", "cat/03.png", "cat/mirrored.png")
    assert "mirrored" in row["detail"]


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


CHANGES = {
    "resized": lambda picture: picture.resize((70, 60), Image.Resampling.BICUBIC),
    "compressed": lambda picture: jpeg(picture, 40),
    "cropped": lambda picture: picture.crop((1, 3, picture.width - 4, picture.height - 1)),
    "cropped all round": lambda picture: picture.crop((4, 4, picture.width - 4, picture.height - 4)),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.25),
    "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.75),
    "mirrored": ImageOps.mirror,
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_duplicates(photos: Path, change: str) -> None:
    originals = [f"{i:02}.png" for i in range(12)]
    for name in originals:
        CHANGES[change](Image.open(photos / "cat" / name)).save(photos / "cat" / f"changed-{name}")
    found = ta.audit(photos)
    pairs = {tuple(sorted(pair)) for pair in found.findings.filter(kind="near-duplicate")["path", "other_path"].rows()}
    planted = {(f"cat/{name}", f"cat/changed-{name}") for name in originals}
    assert pairs <= planted
    assert len(pairs) >= 0.9 * len(planted)
    assert len(np.unique(found.groups)) == 24 + 12 - len(pairs)


def test_odd_pictures(photos: Path) -> None:
    cat = photos / "cat"
    Image.new("RGB", (96, 80), (200, 200, 190)).save(cat / "blank.png")
    Image.fromarray(np.uint8(np.asarray(scene(51)) * 0.12)).save(cat / "dark.png")
    scene(52).filter(ImageFilter.GaussianBlur(6)).save(cat / "blurred.png")
    scene(53).resize((16, 13)).save(cat / "tiny.png")
    scene(54).convert("L").save(cat / "grey.png")
    scene(55).save(cat / "jpeg.png", "JPEG")
    scene(56).save(cat / "frames.gif", save_all=True, append_images=[scene(57)])
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(58, 80, 96).save(cat / "lying.jpg", exif=exif)
    scene(59, 960, 800).save(cat / "large.png")
    (cat / "broken.jpg").write_bytes(b"no picture")
    found = ta.audit(photos).findings
    planted = found.filter(pl.col("path").str.contains(r"/[a-z]"), pl.col("kind") != "odd-size")
    assert set(planted["path", "kind"].iter_rows()) == {
        ("cat/blank.png", "blank"),
        ("cat/dark.png", "dark"),
        ("cat/blurred.png", "blurred"),
        ("cat/tiny.png", "tiny"),
        ("cat/grey.png", "greyscale"),
        ("cat/jpeg.png", "wrong-extension"),
        ("cat/frames.gif", "animated"),
        ("cat/lying.jpg", "rotated"),
        ("cat/broken.jpg", "unreadable"),
    }
    assert "cat/large.png" in found.filter(kind="odd-size")["path"]
    assert set(found["kind"]) == {*planted["kind"], "odd-size"}


def test_there_is_no_such_kind(photos: Path) -> None:
    with pytest.raises(UsageError, match="no kind of finding called 'blury'"):
        ta.audit(photos).exclude(["blury"])
