"""The JSON schema of bundle.json says what the reader checks: both are asked about the same descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.core.bundle_description import DESCRIPTION, FORMAT, SCHEMA_FILE, read_description
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import BundleError
from tests.bundles import change, describe
from tests.core.test_bundle_description import ARCHITECTURE, OUT_OF_BOUNDS, SCORE, several

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
#: What a schema cannot say: that lists are as long as that of the classes. And NaN is no JSON.
BEYOND = [several(thresholds=[0.5] * 2), several(temperature=[1.0] * 4)]
REFUSED = [each for each in OUT_OF_BOUNDS if each not in BEYOND and "NaN" not in json.dumps(each)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("described") / "bundle"


def both(folder: Path, changes: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the schema takes a description, and whether the reader does."""
    if not folder.is_dir():
        describe(folder, ARCHITECTURE)
    whole = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    change(folder, **changes)
    text = (folder / DESCRIPTION).read_text(encoding="utf-8")
    (folder / DESCRIPTION).write_text(json.dumps(whole), encoding="utf-8")
    values = json.loads(text)
    (folder.parent / DESCRIPTION).write_text(text, encoding="utf-8")
    try:
        read_description(folder.parent)
    except BundleError:
        return VALIDATOR.is_valid(values), False
    return VALIDATOR.is_valid(values), True


def test_it_is_a_schema_of_the_format_of_today(folder: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["format"]["const"] == FORMAT
    assert SCHEMA["$id"].endswith(f":{FORMAT}")
    assert both(folder, {}) == (True, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"sets": {"0.95": 0.3}, "ood_score": SCORE, "tta": 32, "flip": True, "tta_mean": "probabilities"},
        several(),
        {"about": {"columns": ["id", ""]}},
        {"preprocessing": Preprocessing(1, 4096, fit="pad", interpolation="lanczos").as_dict()},
    ],
    ids=str,
)
def test_what_is_read_is_valid(folder: Path, changes: dict[str, Any]) -> None:
    assert both(folder, changes) == (True, True)


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_what_is_refused_is_not_valid(folder: Path, changes: dict[str, Any]) -> None:
    assert both(folder, changes) == (False, False)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5000),
    st.floats(-2, 5, allow_nan=False).filter(lambda value: value % 1 != 0),  # 1.0 is an integer to a schema alone
    st.sampled_from(["", "crop", "logits", "bicubic", "0.9"]),
    st.lists(st.floats(0.001, 0.999), max_size=4),
)
UNCHECKED = {"format", "sha256", "files", "weights_source", "onnx_opset", "tellapart", "exports"}
KEYS = sorted(set(SCHEMA["properties"]) - UNCHECKED - {"temperature"})
PLACES = [(key,) for key in KEYS]
PLACES += [("preprocessing", key) for key in SCHEMA["$defs"]["preprocessing"]["properties"]]
PLACES += [("ood_score", key) for key in SCHEMA["$defs"]["ood_score"]["properties"]]
PLACES += [("tolerance", "absolute"), ("tolerance", "relative")]


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_they_agree_on_any_value_in_any_place(folder: Path, place: tuple[str, ...], value: Any) -> None:
    outer: dict[str, Any] = {"preprocessing": Preprocessing(32, 48).as_dict(), "ood_score": SCORE}
    outer["tolerance"] = {"absolute": 1e-3, "relative": 1e-3}
    changes = {place[0]: value} if len(place) == 1 else {place[0]: outer[place[0]] | {place[1]: value}}
    valid, read = both(folder, changes)
    assert valid == read
