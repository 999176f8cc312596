"""An audit finds what was planted, and raises no alarm where nothing is."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

import tellapart as ta
from tellapart.auditing.audit import measure
from tellapart.auditing.nearest import candidates, queries_of
from tellapart.auditing.shortcuts import tree_score
from tellapart.errors import UsageError

Scene = Callable[..., Image.Image]


@pytest.fixture
def photos(tmp_path: Path, scene: Scene) -> Path:
    """A clean set: two classes of twelve scenes."""
    root = tmp_path / "photos"
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            scene(100 * number + i).save(root / name / f"{i:02}.png")
    return root


def divided(root: Path, held_out: str, scene: Scene) -> Path:
    """A clean set in two parts: eleven scenes of each class in either."""
    for part in ("train", held_out):
        for number, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(11):
                scene(1000 * (part == held_out) + 100 * number + i).save(root / part / name / f"{i}.png")
    return root


def kinds(found: ta.Audit) -> dict[str, int]:
    return dict(found.findings["kind"].value_counts().iter_rows())


def test_a_clean_set_raises_no_alarm(photos: Path) -> None:
    assert kinds(ta.audit(photos)) == {}


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 6))])
def test_no_false_alarm_on_labels_drawn_at_random(tmp_path: Path, seed: int, scene: Scene) -> None:
    random = np.random.default_rng(seed)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    for i in range(90):
        width, height = random.integers(40, 120, 2).tolist()
        file = tmp_path / random.choice(["a", "b", "c"]) / f"{i}.{random.choice(['png', 'jpg'])}"
        scene(1000 * seed + i, width, height).save(file)
    assert set(kinds(ta.audit(tmp_path))) <= {"odd-shape", "odd-size"}


def test_exact_copies_contradictions_and_leaks(tmp_path: Path, scene: Scene) -> None:
    root = divided(tmp_path / "photos", "test", scene)
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


def test_copies_of_copies_are_held_against_every_side_and_label(tmp_path: Path, scene: Scene) -> None:
    root = divided(tmp_path / "photos", "val", scene)
    for copy in ("train/cat/again.png", "val/cat/leak.png"):
        shutil.copy(root / "train/cat/0.png", root / copy)
    for copy in ("train/cat/second.png", "train/dog/wrong.png"):
        shutil.copy(root / "train/cat/1.png", root / copy)
    # A near duplicate of a picture with copies: the copy with the other label contradicts it too.
    shutil.copy(root / "train/cat/2.png", root / "train/dog/other.png")
    ImageOps.mirror(Image.open(root / "train/cat/2.png")).save(root / "train/cat/mirrored.png")
    found = ta.audit(root)
    leaks = set(found.findings.filter(pl.col("kind") == "leak")["path"])
    assert leaks == {"train/cat/0.png", "train/cat/again.png"}
    contradicted = {"train/cat/1.png", "train/cat/second.png", "train/dog/wrong.png"}
    left = set(found.exclude(["leak", "contradiction", "near-contradiction"]).table["path"])
    assert left.isdisjoint(contradicted | leaks)
    assert "train/cat/mirrored.png" not in left
    again = kinds(ta.audit(found.exclude(["leak", "contradiction", "near-contradiction"])))
    assert not {"leak", "contradiction", "near-leak", "near-contradiction"} & set(again)


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


def test_odd_pictures(photos: Path, scene: Scene) -> None:
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


def coloured(scene: Scene, folder: Path, n: int, value: int, start: int) -> None:
    folder.mkdir(parents=True)
    for i in range(n):
        picture = np.asarray(scene(start + i)) * 0.5 + np.array([value, 60, 60])
        Image.fromarray(np.uint8(np.clip(picture, 0, 255))).save(folder / f"{i}.jpg")


def shortcuts(found: ta.Audit) -> list[tuple[str, str]]:
    return list(found.findings.filter(kind="shortcut")["severity", "detail"].iter_rows())


def test_a_class_told_by_the_size_of_its_pictures(tmp_path: Path, scene: Scene) -> None:
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(25):
            scene(100 * number + i, 80 + 16 * number, 80).save(tmp_path / name / f"{i}.png")
    (severity, detail), *others = shortcuts(ta.audit(tmp_path))
    assert severity == "warning"
    assert detail.startswith("the size of the picture alone tells the class in 100\u202f% of the pictures")
    assert not [other for other in others if "colour" in other[1]]


def test_a_class_told_by_its_format(tmp_path: Path, scene: Scene) -> None:
    for number, (name, suffix) in enumerate({"a": "png", "b": "jpg"}.items()):
        (tmp_path / name).mkdir()
        for i in range(20):
            scene(100 * number + i).save(tmp_path / name / f"{i}.{suffix}")
    assert any("format" in detail for _, detail in shortcuts(ta.audit(tmp_path)))


def test_colour_is_a_note_since_it_may_be_the_truth(tmp_path: Path, scene: Scene) -> None:
    coloured(scene, tmp_path / "red", 20, 120, 0)
    coloured(scene, tmp_path / "dull", 20, 10, 100)
    assert ("note", True) in {(severity, "colour" in detail) for severity, detail in shortcuts(ta.audit(tmp_path))}


def test_what_is_said_of_facts_that_know_nothing() -> None:
    """At four standard errors hardly any of many sets without a shortcut raises an alarm."""
    random = np.random.default_rng(0)
    alarms = 0
    for trial in range(60):
        n_classes = int(random.integers(2, 6))
        target = random.integers(0, n_classes, int(random.integers(60, 200)))
        alarms += tree_score(random.normal(size=(len(target), 3)), target, trial) is not None
    assert alarms <= 1


def test_the_balanced_accuracy_is_scikit_learns() -> None:
    random = np.random.default_rng(1)
    target = random.integers(0, 3, 300)
    values = (target + random.normal(0, 0.7, 300))[:, None]
    found = tree_score(values, target, 0)
    assert found is not None
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=10, class_weight="balanced", random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = balanced_accuracy_score(target, cross_val_predict(tree, values, target, cv=folds))
    assert found.right == pytest.approx(expected)
    assert found.gain == pytest.approx((expected - 1 / 3) / (2 / 3))


def test_odd_labels(tmp_path: Path, scene: Scene) -> None:
    for number, (name, n) in enumerate({"Old Car": 12, "old car": 12, "old_car": 12, "rare": 2, "many": 130}.items()):
        (tmp_path / name).mkdir()
        for i in range(n):
            scene(1000 * number + i, 24, 24).save(tmp_path / name / f"{i}.png")
    scene(9999, 24, 24).save(tmp_path / "loose.png")
    found = ta.audit(tmp_path, shortcuts=False)
    said = found.findings.filter(~pl.col("kind").is_in(["near-duplicate", "near-contradiction"]))["kind", "detail"]
    assert set(said.iter_rows()) == {
        ("alike-names", "“Old Car” and “old car” and “old_car”"),
        ("small-class", "“rare” has 2 pictures that can be read"),
        ("imbalance", "“many” has 130 pictures, “rare” 2"),
        ("unlabelled", "no label"),
    }


def test_placeholders_are_told_apart_from_copies(photos: Path) -> None:
    plain = Image.new("RGB", (96, 80), (240, 240, 240))
    plain.paste((120, 120, 120), (30, 20, 60, 50))
    for name in ("cat", "dog"):
        for i in range(4):
            plain.save(photos / name / f"none{i}.png")
    assert kinds(ta.audit(photos)) == {"placeholder": 8}


def test_several_labels_are_counted_and_laid_side_by_side(photos: Path) -> None:
    labels = ["cat;dog" if i % 3 == 0 else "cat" if i % 3 == 1 else "" for i in range(12)]
    table = pl.DataFrame({"file_name": [f"cat/{i:02}.png" for i in range(12)], "labels": labels})
    table.write_csv(photos / "labels.csv")
    facts = ta.audit(photos).facts
    assert facts["labels_a_picture"] == {"0": 4, "1": 4, "2": 4}
    assert facts["together"] == [[8, 4], [4, 4]]


def test_pictures_with_none_of_several_labels_are_found_and_are_no_fault(photos: Path) -> None:
    """The clean set again: only the pictures without any label are told, and no alarm but by their name."""
    labels = ["cat;dog", "cat", "dog", ""] * 6
    names = [f"{name}/{i:02}.png" for name in ("cat", "dog") for i in range(12)]
    pl.DataFrame({"file_name": names, "labels": labels}).write_csv(photos / "labels.csv")
    found = ta.audit(photos, shortcuts=False)
    none = [name for name, label in zip(names, labels, strict=True) if not label]
    assert kinds(found) == {"no-labels": len(none)}
    assert sorted(found.findings["path"].to_list()) == sorted(none)
    assert set(found.findings["severity"]) == {"note"}
    assert not found.failing({"note"})
    assert len(found.failing({"error", "no-labels"})) == len(none)
    assert len(found.exclude(["duplicate"])) == 24
    kept = found.exclude(["no-labels"])
    assert len(kept) == 24 - len(none)
    assert (kept.target().sum(axis=1) > 0).all()


def test_groups_are_kept_on_one_side(photos: Path) -> None:
    for i in range(6):
        ImageOps.mirror(Image.open(photos / f"cat/{i:02}.png")).save(photos / f"cat/mirrored{i}.png")
    found = ta.audit(photos)
    catalog = found.grouped()
    assert catalog.table["group"].drop_nulls().value_counts()["count"].to_list() == [2] * 6
    for seed in range(5):
        assert "near-leak" in kinds(ta.audit(found.catalog, ta.split(found.catalog, seed=seed))) or seed
        assert "near-leak" not in kinds(ta.audit(catalog, ta.split(catalog, seed=seed)))


def test_groups_that_were_given_are_joined(photos: Path) -> None:
    shutil.copy(photos / "cat/00.png", photos / "cat/copy.png")
    rows = [("cat/00.png", "cat", "a"), ("cat/01.png", "cat", "a"), ("cat/copy.png", "cat", "b")]
    rows += [("cat/02.png", "cat", "b"), ("dog/00.png", "dog", "c"), ("dog/01.png", "dog", None)]
    pl.DataFrame(rows, schema=["file_name", "label", "group"], orient="row").write_csv(photos / "labels.csv")
    groups = dict(ta.audit(photos, shortcuts=False).grouped().table["path", "group"].iter_rows())
    assert len({groups[path] for path in ("cat/00.png", "cat/01.png", "cat/copy.png", "cat/02.png")}) == 1
    assert groups["dog/00.png"] == "dog/00.png"
    assert groups["dog/01.png"] is None


@pytest.mark.parametrize("exact", [10_000, 10])
def test_both_searches_find_the_same_copies(exact: int, scene: Scene) -> None:
    """Beyond `exact` pictures the search is approximate: copies are still found."""
    thumbs = np.stack([np.asarray(scene(seed, 32, 32).convert("L")) for seed in range(400)])
    copies = np.stack([np.asarray(Image.fromarray(t).rotate(0).resize((24, 24)).resize((32, 32))) for t in thumbs])
    whole, asked = queries_of(np.concatenate([thumbs, copies[:, :, ::-1]]))
    found = {tuple(row) for pairs, _ in candidates(whole, asked, exact=exact) for row in pairs.tolist()}
    assert sum((i, i + 400, 1) in found for i in range(400)) >= 396
    assert all(one < two for one, two, _ in found)


def test_plain_pictures_are_like_no_other() -> None:
    whole, asked = queries_of(np.full((3, 32, 32), 200, np.uint8))
    assert [pairs for pairs, _ in candidates(whole, asked) if len(pairs)] == []


def test_figures_are_stored_by_content(photos: Path, tmp_path: Path, scene: Scene) -> None:
    scene(888).save(photos / "cat/new.png")
    catalog = ta.scan(photos)
    first = list(measure(catalog))
    again = list(measure(catalog))
    assert first
    assert again == []
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert list(measure(ta.scan(tmp_path / "elsewhere"))) == []


def test_figures_of_pictures_that_are_gone_are_not_stored(photos: Path, scene: Scene) -> None:
    scene(777).save(photos / "cat/new.png")
    catalog = ta.scan(photos)
    (photos / "cat/new.png").rename(photos / "cat/new.txt")
    assert "near-duplicate" not in kinds(ta.audit(catalog))
    (photos / "cat/new.txt").rename(photos / "cat/new.png")
    assert list(measure(catalog))
