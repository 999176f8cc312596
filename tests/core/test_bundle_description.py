"""bundle.json: all of it is checked before any is used, though its digest fits: anybody can sign."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tellapart.core import plain_json
from tellapart.core.bundle_description import DESCRIPTION, read_description
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import BundleError
from tests.bundles import change, describe, sign

PREPROCESSING = Preprocessing(32, 48).as_dict()
ARCHITECTURE = {"source": "own", "name": "small-cnn", "n_classes": 3, "preprocessing": PREPROCESSING}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    describe(tmp_path / "bundle", ARCHITECTURE)
    return tmp_path / "bundle"


def several(**changes: Any) -> dict[str, Any]:
    return {"multilabel": True, "thresholds": [0.5] * 3, "temperature": [1.0] * 3} | changes


SCORE = {"distance": [1.0, 0.5], "doubt": [0.1, 0.1], "limit": 3.0, "share": 0.99, "n": 100, "by_default": True}


def test_a_description_is_read(folder: Path) -> None:
    read = read_description(folder)
    assert read.classes == ["class 0", "class 1", "class 2"]
    assert read.preprocessing == Preprocessing(32, 48)


@pytest.mark.parametrize(
    "changes",
    [
        {"sets": {"0.95": 0.3}, "ood_score": SCORE, "tta": 32, "flip": True, "tta_mean": "probabilities"},
        several(),
        {"classes": ["caf\udce9", "", "x\x1b[31m"]},
        {"about": {"columns": ["id", ""]}},
        {"about": {"columns": []}},
        {"later": {"any": "thing"}},
        {"preprocessing": PREPROCESSING | {"background": [0, 0, 0], "fit": "pad"}},
    ],
    ids=str,
)
def test_what_writers_write_is_read(folder: Path, changes: dict[str, Any]) -> None:
    change(folder, **changes)
    read_description(folder)


NUMBERS = (None, True, "1", [], {}, -1, 10**30, float("nan"), float("inf"), 1e-300)
OUT_OF_BOUNDS: list[dict[str, Any]] = [
    {"classes": []},
    {"classes": ["a", "b", "a"]},
    {"classes": ["a", 5, None]},
    {"classes": "abc"},
    {"classes": ["a", "b", "x" * 10_001]},
    {"multilabel": 1},
    {"multilabel": True},
    {"thresholds": [0.5] * 3},
    several(thresholds=[0.5] * 2),
    several(thresholds=[0.5, 0.5, 2]),
    several(temperature=[1.0] * 4),
    {"temperature": [1.0] * 3},
    *({"temperature": number} for number in (*NUMBERS, 0)),
    *({"tta": number} for number in (*NUMBERS, 33, 1_000_000_000, 1.5)),
    *({"n_validation": number} for number in NUMBERS),
    *({"tolerance": {"absolute": number, "relative": 1e-3}} for number in (*NUMBERS[:-1], 1)),
    {"tolerance": {"absolute": 1e-3}},
    {"flip": "no"},
    {"tta_mean": "median"},
    {"sets": []},
    {"sets": {"often": 0.5}},
    {"sets": {"0.9": 5}},
    {"sets": {"2": 0.5}},
    {"ood_score": []},
    *({"ood_score": SCORE | {"distance": pair}} for pair in ([], [1.0], [1.0, 0.0], [1.0, -1.0], [1.0, "1"], 3)),
    *({"ood_score": SCORE | {key: None}} for key in SCORE),
    *(
        {"preprocessing": PREPROCESSING | {key: number}}
        for key in ("height", "width", "crop")
        for number in NUMBERS[:-1]
    ),
    {"preprocessing": PREPROCESSING | {"height": 4097}},
    {"preprocessing": PREPROCESSING | {"std": [0, 0, 0]}},
    {"preprocessing": PREPROCESSING | {"mean": [0, 0]}},
    {"preprocessing": PREPROCESSING | {"background": [0, 0, 256]}},
    {"preprocessing": PREPROCESSING | {"interpolation": "best"}},
    {"preprocessing": PREPROCESSING | {"rotate": 90}},
    {"preprocessing": []},
    {"architecture": "small-cnn"},
    {"about": []},
    {"about": {"columns": ["id"]}},
    {"about": {"columns": [1, 2]}},
]


@pytest.mark.parametrize("changes", OUT_OF_BOUNDS, ids=str)
def test_values_out_of_bounds_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    change(folder, **changes)
    with pytest.raises(BundleError, match="lacks or garbles") as caught:
        read_description(folder)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("key", ["classes", "multilabel", "preprocessing", "temperature", "architecture", "about"])
def test_what_is_missing_is_named(folder: Path, key: str) -> None:
    values = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    del values[key]
    (folder / DESCRIPTION).unlink()
    sign(folder, values)
    with pytest.raises(BundleError, match=key):
        read_description(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"a":' * 200_000,
        "[" * 900 + "]" * 900,
        '{"format": ' + "9" * 5000 + "}",
        '{"format": true}',
        '{"format": 1e999}',
        "\udcff",
        "NaN",
        "",
    ],
    ids=["lists", "objects", "just deep", "digits", "true", "infinite", "no UTF-8", "NaN", "empty"],
)
def test_json_that_is_none_or_deep_or_long(folder: Path, text: str) -> None:
    (folder / DESCRIPTION).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError):
        read_description(folder)


def test_deep_values_that_are_signed(folder: Path) -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    change(folder, about={"deep": deep})
    read_description(folder)


def test_a_description_that_is_larger_than_any(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_json, "MOST", 1 << 20)
    with (folder / DESCRIPTION).open("ab") as file:
        file.truncate(20 << 30)  # takes no space on the disk
    with pytest.raises(BundleError, match="larger than 1 MiB"):
        read_description(folder)
