"""Augmentation ahead of training: views are fixed, virtual and written ones are the same, and nothing crosses over."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tellapart.core.preprocess import Preprocessing, preprocess
from tellapart.data.augmentation import offline
from tellapart.data.augmentation.offline import multiply, origin, view
from tellapart.data.catalog import Catalog
from tellapart.data.decoding.decode import decode
from tellapart.data.scan import scan
from tellapart.data.splitting.split import Split, split
from tellapart.errors import DataError, UsageError
from tellapart.recipe.transforms import EIGHTFOLD, HorizontalFlip, RandomResizedCrop, Rotation
from tellapart.workflows.progress import ProgressSink

HOW = Preprocessing(28, 28, crop=0.875)
VIEWS = [(), (HorizontalFlip(),), (Rotation(),)]


def write_views(*given, **options) -> Path:
    return ProgressSink().watch(offline.write_views(*given, **options))


@pytest.fixture
def photos(picture_folder) -> Catalog:
    """Three classes of 12 pictures; two of them exact copies of others."""
    root = picture_folder()
    for name in ("circle/000.png", "square/003.png"):
        (root / name).with_name("copy.png").write_bytes((root / name).read_bytes())
    return scan(root)


def test_items_lead_back_to_rows_and_views():
    rows = np.array([3, 4, 9])
    items = multiply(rows, 8)
    back, views = origin(items, 8)
    assert len(set(items.tolist())) == 24
    assert back.tolist() == np.repeat(rows, 8).tolist()
    assert views.tolist() == list(range(8)) * 3


def test_only_rows_of_the_training_part_are_among_its_items(photos):
    parts = split(photos, validation=0.3, test=0.2, seed=1)
    rows, _ = origin(multiply(parts.train, len(EIGHTFOLD)), len(EIGHTFOLD))
    assert set(rows.tolist()) == set(parts.train.tolist())
    assert not set(rows.tolist()) & {*parts.validation.tolist(), *parts.test.tolist()}


def test_eightfold_is_the_four_flips_plain_and_moved():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 30, 3), np.uint8)
    preprocessing = Preprocessing(30, 30)
    made = [view(pixels, EIGHTFOLD, preprocessing, 0, 5, number) for number in range(8)]
    for result, expected in zip(made, [pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]], strict=False):
        assert np.array_equal(result, expected)
    assert len({result.tobytes() for result in made}) == 8
    for transforms in EIGHTFOLD[4:]:
        scale, rotation = transforms[-2:]
        assert (scale.factor.uniform, rotation.degrees.uniform) == ([0.8, 1.0], [-15, 15])


def test_a_view_is_fixed_and_differs_from_row_to_row():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    first = view(pixels, EIGHTFOLD, HOW, 1, 7, 4)
    assert np.array_equal(first, view(pixels, EIGHTFOLD, HOW, 1, 7, 4))
    others = [view(pixels, EIGHTFOLD, HOW, *numbers) for numbers in [(2, 7, 4), (1, 8, 4), (1, 7, 5)]]
    assert all(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    "preprocessing", [HOW, replace(HOW, fit="pad"), replace(HOW, fit="squash"), replace(HOW, crop=1.0)]
)
def test_a_view_is_brought_to_size_like_an_original(preprocessing):
    """A flip made ahead and a flip of what the network would have seen are the same picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    ahead = preprocess(view(pixels, [(HorizontalFlip(),)], preprocessing, 0, 0, 0), preprocessing)
    after = preprocess(pixels, preprocessing)[:, ::-1]
    assert np.abs(ahead.astype(int) - after).max() <= 2


def test_written_views_are_the_virtual_ones(photos, tmp_path):
    parts = split(photos, validation=0.3, test=0.2, seed=1)
    written = scan(write_views(photos, parts, VIEWS, HOW, tmp_path / "written", seed=3).parent)
    assert len(written) == 3 * len(parts.train) + len(parts.validation) + len(parts.test)
    by_path = {path: row for row, path in enumerate(written.table["path"])}
    for row in parts.train.tolist():
        pixels = decode(photos.path(row))
        for number in range(3):
            suffix = f".view{number}.png" if number else ""
            path = f"pictures/{photos.table['path'][row]}{suffix}"
            expected = view(pixels, VIEWS, HOW, 3, row, number)
            assert np.array_equal(decode(written.path(by_path[path])), expected)
    for row in (*parts.validation.tolist(), *parts.test.tolist()):
        path = f"pictures/{photos.table['path'][row]}"
        assert written.path(by_path[path]).read_bytes() == photos.path(row).read_bytes()


def originals(catalog: Catalog, rows: np.ndarray) -> set[str]:
    """The contents that the pictures of some rows were made from, by the names of their files."""
    names = catalog.table["path"].gather(rows)
    return set(names.str.replace(r"^pictures/", "").str.replace(r"\.view\d+\.\w+$", ""))


def contents(photos: Catalog, paths: set[str]) -> set[bytes]:
    return {photos.path(row).read_bytes() for row, path in enumerate(photos.table["path"]) if path in paths}


@pytest.mark.parametrize("forget", [(), ("split",)], ids=["parts given", "divided anew"])
@pytest.mark.parametrize("groups", [False, True], ids=["no groups", "groups"])
def test_no_version_of_a_validation_picture_reaches_training(photos, tmp_path, forget, groups):
    """Written, scanned again, and divided: by the parts in the table, or, these being lost, by chance."""
    if groups:  # four pictures of each class belong together
        names = (photos.table["path"].str.head(1) + photos.table["path"].str.extract(r"(\d)\.png$")).fill_null("c0")
        photos = replace(photos, table=photos.table.with_columns(group=names))
    before = split(photos, validation=0.3, test=0.2, seed=0)
    table = write_views(photos, before, EIGHTFOLD, HOW, tmp_path / "written")
    pl.read_csv(table).drop(forget).write_csv(table)
    written = scan(tmp_path / "written")
    assert written.classes == photos.classes
    assert not written.multilabel
    for seed in range(5):
        after = split(written, validation=0.3, test=0.2, seed=seed)
        assert len(after.train) + len(after.validation) + len(after.test) == len(written)
        parts = [originals(written, rows) for rows in (after.train, after.validation, after.test)]
        assert all(parts)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert not parts[one] & parts[other]
            assert not contents(photos, parts[one]) & contents(photos, parts[other]), "exact copies count as one"
        if groups:
            group = dict(photos.table.select("path", "group").iter_rows())
            kinds = [{group[path] for path in part} for part in parts]
            assert not kinds[0] & kinds[1]
            assert not kinds[0] & kinds[2]
        if not forget:
            assert parts[0] == set(photos.table["path"].gather(before.train))
            assert len(after.train) == 8 * len(before.train)
            assert len(after.validation) == len(before.validation)


@settings(max_examples=12)
@given(st.data())
def test_written_versions_of_any_pictures_stay_on_one_side(data):
    """Copies, groups and seeds as they come; the parts in the table kept or lost."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        root.mkdir()
        n, lines = data.draw(st.integers(16, 24)), []
        for i in range(n):
            copied = i > 12 and data.draw(st.booleans())  # of the one before the last: of the same class
            Image.new("RGB", (9, 7), (i - 2 if copied else i, 0, 0)).save(root / f"{i:02}.png")
            group = f"g{i // 4 * 4 + i % 2}" if data.draw(st.booleans()) else ""
            lines.append((f"{i:02}.png", "ab"[i % 2], group))
        pl.DataFrame(lines, schema=["file_name", "label", "group"], orient="row").write_csv(root / "labels.csv")
        photos = scan(root)
        before = split(photos, validation=0.25, test=0.25, seed=data.draw(st.integers(0, 9)))
        table = write_views(photos, before, VIEWS, HOW, Path(folder) / "written")
        if data.draw(st.booleans()):
            pl.read_csv(table).drop("split").write_csv(table)
        written = scan(table.parent)
        after = split(written, validation=0.25, test=0.25, seed=data.draw(st.integers(0, 9)))
        sides = [originals(written, rows) for rows in (after.train, after.validation, after.test)]
        group = dict(photos.table.select("path", "group").iter_rows())
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert not sides[one] & sides[other]
            assert not contents(photos, sides[one]) & contents(photos, sides[other])
            assert not {group[path] for path in sides[one]} & {group[path] for path in sides[other]} - {None}


def test_dividing_after_multiplying_without_groups_does_mix_them(photos, tmp_path):
    """The wrong order, so that the test above is known to see it."""
    everything = Split(np.arange(len(photos)), np.array([], int), np.array([], int), photos.digest, 0, "all")
    table = write_views(photos, everything, EIGHTFOLD, HOW, tmp_path / "written")
    pl.read_csv(table).drop("split", "group").write_csv(table)
    written = scan(tmp_path / "written")
    after = split(written, validation=0.3, test=0.2, seed=0)
    assert originals(written, after.train) & originals(written, after.validation)


def test_several_labels_come_back(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    labels = ["cat;hot dog", "cat", "", "hot dog", "cat;bird", "bird", "hot dog;bird", ""]
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(root / f"{i}.png")
    pl.DataFrame({"file_name": [f"{i}.png" for i in range(8)], "labels": labels}).write_csv(root / "labels.csv")
    catalog = scan(root)
    parts = Split(np.arange(5), np.arange(5, 7), np.arange(7, 8), catalog.digest, 0, "by hand")
    written = scan(write_views(catalog, parts, VIEWS, HOW, tmp_path / "written").parent)
    assert written.multilabel
    assert written.classes == catalog.classes
    numbers = [int(Path(path).name.split(".")[0]) for path in written.table["path"]]
    assert np.array_equal(written.target(), catalog.target(numbers))


def test_labels_that_are_not_known_stay_so(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("file_name,cat,dog\n0.png,1,0\n1.png,,1\n2.png,0,-1\n3.png,1,1\n")
    catalog = scan(tmp_path)
    parts = Split(np.arange(2), np.arange(2, 3), np.arange(3, 4), catalog.digest, 0, "by hand")
    written = scan(write_views(catalog, parts, VIEWS, HOW, tmp_path / "written").parent)
    numbers = [int(Path(path).name.split(".")[0]) for path in written.table["path"]]
    assert np.array_equal(written.target(), catalog.target(numbers))
    assert np.array_equal(written.unknown(), catalog.unknown(numbers))


def test_a_class_that_cannot_be_a_column_is_refused(photos, tmp_path):
    unknown = pl.Series("unknown", [[0]] + [[]] * (len(photos) - 1), dtype=pl.List(pl.UInt32))
    odd = replace(photos, classes=("split", "b", "c"), multilabel=True, table=photos.table.with_columns(unknown))
    with pytest.raises(DataError, match="'split' cannot have a column"):
        write_views(odd, split(photos), VIEWS, HOW, tmp_path / "written")
    assert not (tmp_path / "written").exists()


def test_labels_that_nothing_can_divide(photos, tmp_path):
    odd = replace(photos, classes=("a;b", "c|d", "e,f"), multilabel=True)
    parts = split(photos)
    with pytest.raises(DataError, match="divide"):
        write_views(odd, parts, VIEWS, HOW, tmp_path / "written")
    assert not (tmp_path / "written").exists()


def test_a_folder_with_something_in_it_is_refused(photos, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_views(photos, split(photos), VIEWS, HOW, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notes.txt"]


def test_jpeg_views_and_views_without_the_original(photos, tmp_path):
    parts = split(photos)
    views = [(RandomResizedCrop(scale=0.25),), (Rotation(),)]
    written = scan(write_views(photos, parts, views, HOW, tmp_path / "written", quality=90).parent)
    made = written.table.filter(split="train")
    assert len(made) == 2 * len(parts.train)
    assert set(made["format"]) == {"JPEG"}
    assert set(made["width"]) == {32}, "28 pixels and the margin that crop=0.875 cuts off"
