"""Pictures of one scene: by features, looks, time and numbers, each with its evidence; and what is not one scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tellapart.auditing.scene_findings import scene_findings
from tellapart.auditing.scene_leaks import scene_leaks, scene_sentences
from tellapart.auditing.scenes import FEWEST_GROUPS, Scenes, find_scenes, scene_groups
from tellapart.cli.train import _published_network
from tellapart.core.scores import Evaluation, Metric
from tellapart.data.catalog import SCHEMA, Catalog
from tellapart.data.decoding.exif_time import time_taken
from tellapart.data.scan import scan
from tellapart.data.splitting.split import Split
from tellapart.data.statistics import Measured, Measures
from tellapart.evaluation.parts_differ import parts_differ
from tellapart.recipe.load import load_recipe
from tellapart.workflows.audit import grouped_scan
from tellapart.workflows.progress import ProgressSink

N = 40


def catalog_of(paths: Sequence[str] | None = None, labels: Sequence[int] | None = None, multilabel=False) -> Catalog:
    """Pictures of 64 × 64 that do not exist."""
    n = N if paths is None else len(paths)
    columns = {
        "path": paths if paths is not None else [f"{chr(97 + i % 26)}{i // 26}.jpg" for i in range(n)],
        "labels": [[label] for label in (labels if labels is not None else [0] * n)],
        "sha256": [int(i).to_bytes(32, "big") for i in range(n)],
        "width": [64] * n,
        "height": [64] * n,
    }
    table = pl.DataFrame(columns).with_columns(
        pl.lit(None, dtype=SCHEMA[name]).alias(name) for name in SCHEMA if name not in columns
    )
    names = tuple(f"class {i}" for i in range(1 + max(table["labels"].explode().to_list())))
    return Catalog(table.select(list(SCHEMA)).cast(pl.Schema(SCHEMA)), names, multilabel, Path("photos"))


def measured_of(thumbs: np.ndarray, colour: np.ndarray | None = None, taken: np.ndarray | None = None) -> Measured:
    n = len(thumbs)
    values = {field.name: np.zeros(n, np.float32) for field in fields(Measured)}
    values |= {"thumb": thumbs, "contrast": np.full(n, 50.0), "n_colours": np.full(n, 99)}
    values["colour"] = np.full((n, 3), 128.0) if colour is None else colour
    values["taken"] = np.full(n, np.nan) if taken is None else taken
    return Measured(**values)


def thumbs_of(values: np.ndarray) -> np.ndarray:
    """Coarse noise [n, 6, 6] as thumbnails."""
    small = [Image.fromarray(np.uint8(127 + 40 * np.clip(v, -3, 3))) for v in values]
    return np.stack([np.asarray(s.resize((32, 32), Image.Resampling.BICUBIC)) for s in small])


def unlike(n: int = N, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6, 6))


def scenes_of(catalog: Catalog, measured, features=None) -> Scenes:
    return ProgressSink().watch(find_scenes(catalog, measured, features))


def pairs(scenes: Scenes) -> set[tuple[int, int]]:
    return set(zip(scenes.first.tolist(), scenes.second.tolist(), strict=True))


def test_close_features_are_one_scene_and_others_are_not():
    features = np.random.default_rng(1).normal(size=(N, 64)).astype(np.float32)
    features[[5, 6]] = features[4] + 0.3 * np.random.default_rng(2).normal(size=(2, 64))
    scenes = scenes_of(catalog_of(), measured_of(thumbs_of(unlike())), features)
    assert pairs(scenes) == {(4, 5), (4, 6), (5, 6)}
    assert all(words.startswith("features ") for words in scenes.evidence)
    labels = [0] * 6 + [1] * (N - 6)
    assert pairs(scenes_of(catalog_of(labels=labels), measured_of(thumbs_of(unlike())), features)) == {(4, 5)}
    several = catalog_of(labels=labels, multilabel=True)
    assert len(pairs(scenes_of(several, measured_of(thumbs_of(unlike())), features))) == 3


def test_alike_thumbnails_of_one_colour_are_one_scene():
    values = unlike()
    values[11] = values[10] + 0.2 * unlike(1, seed=5)[0]
    values[21] = values[20] + 0.2 * unlike(1, seed=6)[0]
    colour = np.full((N, 3), 128.0)
    colour[21] = 128, 60, 128
    scenes = scenes_of(catalog_of(), measured_of(thumbs_of(values), colour))
    assert pairs(scenes) == {(10, 11)}
    assert scenes.evidence == ("alike in structure and colour",)


def test_drawings_and_small_pictures_are_not_tied_by_looks():
    values = unlike()
    values[11] = values[10]
    thumbs = thumbs_of(values)
    thumbs[11, 0] = 0
    assert pairs(scenes_of(catalog_of(), measured_of(thumbs))) == {(10, 11)}
    assert not pairs(scenes_of(catalog_of(), replace(measured_of(thumbs), n_colours=np.full(N, 16))))
    catalog = catalog_of()
    small = replace(catalog, table=catalog.table.with_columns(width=pl.lit(32, pl.UInt32)))
    assert not pairs(scenes_of(small, measured_of(thumbs)))


def half_alike(rows: Sequence[tuple[int, int]], n: int = N) -> np.ndarray:
    """Pictures of which some pairs are somewhat alike, too little to be tied by looks."""
    values = unlike(n)
    for one, two in rows:
        values[two] = 0.6 * values[one] + 0.8 * values[two]
    return thumbs_of(values)


def test_pictures_taken_within_seconds_are_one_scene_if_somewhat_alike():
    taken = np.full(N, np.nan)
    taken[[3, 30, 8, 9]] = 1e9, 1e9 + 4, 2e9, 2e9 + 300
    scenes = scenes_of(catalog_of(), measured_of(half_alike([(3, 30), (8, 9)]), taken=taken))
    assert pairs(scenes) == {(3, 30)}
    assert scenes.evidence == ("taken 4 s apart",)


def test_running_numbers_count_where_neighbours_are_more_alike_than_others():
    bursts = [(i, i + 1) for i in range(0, 120, 2)]
    names = [f"walk/IMG_{i:04}.jpg" for i in range(120)]
    measured = measured_of(half_alike(bursts, 120))
    scenes = scenes_of(catalog_of(names), measured)
    assert len(pairs(scenes) & set(bursts)) >= 20
    assert len(pairs(scenes) - set(bursts)) <= 6
    assert any(words.startswith("numbered ") for words in scenes.evidence)
    shuffled = [names[i] for i in np.random.default_rng(3).permutation(120)]
    assert not any("numbered" in words for words in scenes_of(catalog_of(shuffled), measured).evidence)


def test_a_class_keeps_groups_enough_to_be_divided():
    catalog = catalog_of([f"{i}.jpg" for i in range(20)], [0] * 12 + [1] * 8)
    chain = Scenes(np.array([0, 2, *range(12, 19)]), np.array([1, 3, *range(13, 20)]), np.ones(9), ("",) * 9)
    groups, untied = scene_groups(catalog, np.arange(20), chain)
    assert untied == ("class 1",)
    assert (groups[1], groups[3]) == (0, 2)
    assert len(np.unique(groups[12:])) == 8 > FEWEST_GROUPS


def test_a_scene_on_two_sides_is_a_finding_of_its_own():
    scenes = Scenes(np.array([0, 2, 4]), np.array([1, 3, 5]), np.array([0.9, 0.8, 0.7]), ("a", "b", "c"))
    sides = np.array(["test", "train", "train", "train", "", ""])
    left_out = np.zeros(6, bool)
    listed = scene_findings(scenes, np.arange(6), sides, left_out)
    kinds = [(finding.kind, finding.row, finding.other, finding.detail) for finding in listed]
    assert kinds == [("scene-leak", 1, 0, "a; for training and the test"), ("scene", 2, 3, "b"), ("scene", 4, 5, "c")]
    copies = np.array([0, 0, 2, 2, 4, 4])
    assert scene_findings(scenes, copies, sides, left_out) == []


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_the_time_of_a_photograph_is_measured(tmp_path, scene, suffix):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8769)[0x9291] = "25"
    (tmp_path / "a").mkdir()
    scene(1).save(tmp_path / "a" / f"timed.{suffix}", exif=exif.tobytes())
    scene(2).save(tmp_path / "a" / f"without.{suffix}")
    measures = Measures()
    scan(tmp_path, measures=measures)
    taken = measures.finish().taken
    assert taken[0] == 1714979289.25
    assert np.isnan(taken[1])


def test_the_time_of_a_png_converted_from_a_photograph_is_measured(tmp_path, scene):
    """ImageMagick keeps EXIF as text, not in the chunk for it."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    digits = exif.tobytes().hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    for name, text in (("a", lines), ("b", lines[:99]), ("c", "no hexadecimals"), ("d", "")):
        note = PngInfo()
        note.add_text("Raw profile type exif", f"\nexif\n{len(digits) // 2:8}\n{text}\n", zip=True)
        (tmp_path / "a").mkdir(exist_ok=True)
        scene(1).save(tmp_path / "a" / f"{name}.png", pnginfo=note)
    measures = Measures()
    scan(tmp_path, measures=measures)
    taken = measures.finish().taken
    assert taken[0] == 1714979289.0
    assert np.isnan(taken[1:]).all()


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"II*\0\x08\0\0\0", b"MM\0*" + b"\xff" * 99, b"MM\0*\0\0\0\x08" * 9]
)
def test_damaged_exif_has_no_time(exif):
    assert np.isnan(time_taken(exif))


def test_held_out_pictures_of_a_scene_with_training_pictures_are_counted(tmp_path, scene):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for i in range(6):
        scene(i).save(tmp_path / ("a" if i < 3 else "b") / f"one{'abcdef'[i]}.png")
        scene(i).crop((2, 1, 95, 78)).resize((96, 80)).save(
            tmp_path / ("a" if i < 3 else "b") / f"two{'abcdef'[i]}.png"
        )
    catalog = scan(tmp_path)
    names = catalog.table["path"].str.extract("/(...)").to_numpy()
    rows = np.arange(len(catalog))
    split = Split(rows[names == "one"], rows[names == "two"][:4], rows[names == "two"][4:], catalog.digest, 0, "")
    leaks = ProgressSink().watch(scene_leaks(catalog, split))
    assert leaks == {"validation": 4, "test": 2}
    first, second = scene_sentences(leaks, split)
    assert first.startswith("4 of 4 pictures for validation are of one scene with training pictures")
    assert "2 of 2 pictures for the test" in second


def of_accuracy(on: str, right: int, n: int, multilabel: bool = False) -> Evaluation:
    metrics = {("exact_match" if multilabel else "accuracy"): Metric(right / n, 0, 1, n)}
    return Evaluation(on, multilabel, n, ("a", "b"), metrics)


def test_validation_and_test_that_differ_beyond_chance_are_called_so():
    sentence = parts_differ(of_accuracy("validation", 380, 396), of_accuracy("test", 204, 296))
    assert sentence == "Validation says 96.0 %, the test 68.9 %: more than chance allows (p < 0.001)."
    assert parts_differ(of_accuracy("validation", 92, 100), of_accuracy("test", 88, 100)) == ""
    assert parts_differ(of_accuracy("validation", 90, 99, True), of_accuracy("test", 20, 99, True))


def test_a_grouped_scan_ties_scenes_and_names_the_network_of_a_pretrained_recipe(tmp_path, scene):
    for i in range(6):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        scene(i).save(tmp_path / "ab"[i % 2] / f"{i}one.png")
    for i in (0, 1):
        scene(i).crop((2, 1, 95, 78)).resize((96, 80)).save(tmp_path / "ab"[i] / f"{i}two.png")
    groups = grouped_scan(tmp_path, ProgressSink()).table["group"]
    assert groups.drop_nulls().value_counts()["count"].to_list() == [2, 2]
    assert _published_network(load_recipe("transfer")) == "tf_efficientnet_lite0"
    assert _published_network(load_recipe("scratch")) is None
    assert _published_network(load_recipe("fast")) is None


def test_looks_prove_nothing_where_pictures_of_other_labels_look_as_alike():
    """As slides under a microscope do, or things on a white table."""
    slides = np.repeat(unlike(1), N, axis=0) + 0.4 * unlike(N, seed=7)
    labels = [i % 2 for i in range(N)]
    assert len(scenes_of(catalog_of(), measured_of(thumbs_of(slides))).first) > N  # without labels to compare with
    assert len(scenes_of(catalog_of(labels=labels), measured_of(thumbs_of(slides))).first) < 3
    apart = slides + 3 * unlike(2, seed=8)[labels]  # each label has a form of its own: a burst of each
    assert len(scenes_of(catalog_of(labels=labels), measured_of(thumbs_of(apart))).first) > N
    slides[2] = slides[0] + 0.02 * unlike(1, seed=9)[0]
    burst = pairs(scenes_of(catalog_of(labels=labels), measured_of(thumbs_of(slides))))
    assert (0, 2) in burst
    assert len(burst) < 3
