"""bundle.json, the description of a bundle: its one reader, and the schema that all of it passes before any is used.

A bundle may come from anybody, who can sign whatever he writes. So every number has bounds, lists go together, and what
has no use here ("about") is at most shown.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.core import checks
from tellapart.core.old_names import current_keys
from tellapart.core.plain_json import read_json_file
from tellapart.core.predictions import MEANS, Mean
from tellapart.core.preprocess import Preprocessing
from tellapart.core.text import visible
from tellapart.errors import BundleError

FORMAT = 3
#: The same for other programs: JSON Schema of the format that is written today.
SCHEMA_FILE = Path(__file__).with_name("bundle.schema.json")
DESCRIPTION = "bundle.json"
AGAIN = "Copy it again from where it came from, or make it anew by training again."
MOST_COPIES = 32


@dataclass(frozen=True)
class Tolerance:
    """Tolerance of onnxruntime's logits beside the golden ones: absolute + relative × |golden|."""

    absolute: float
    relative: float


@dataclass(frozen=True)
class Description:
    """bundle.json; see `deploy.bundle.read.Bundle` for what the entries mean.

    `architecture` is checked by `models.architecture` before anything is built, and `files` when they are used.
    `ood_score` holds the fields of `evaluation.open_set.OodScore`.
    """

    classes: list[str]
    multilabel: bool
    preprocessing: Preprocessing
    temperature: float | list[float]
    thresholds: list[float]
    tolerance: Tolerance
    architecture: dict[str, Any]
    about: dict[str, Any]
    sets: dict[float, float]
    n_validation: int
    ood_score: dict[str, Any] | None
    tta: int
    flip: bool
    tta_mean: Mean
    files: Any


def _by_number(values: Any) -> Any:
    """JSON knows texts alone as keys: "0.95" → 0.95."""
    return {float(key): value for key, value in checks.plain(values).items()}


_COUNT, _SHARE, _NUMBER = checks.integer(0, 1_000_000_000), checks.number(0, 1), checks.number(-1e30, 1e30)
_DIVISOR, _TEXT = checks.number(1e-6, 1e6), checks.text()
_TOLERANCE = checks.record({"absolute": checks.number(0, 0.1), "relative": checks.number(0, 0.1)})
# Mean and standard deviation.
_PAIR = checks.listed(_NUMBER, [2])
_SCORE = checks.record(
    {
        "distance": _PAIR,
        "doubt": _PAIR,
        "limit": _NUMBER,
        "share": _SHARE,
        "n": _COUNT,
        "by_default": (checks.boolean, lambda: True),
    }
)
_CHECK = checks.record(
    {
        "classes": checks.listed(_TEXT, range(1, 1_000_001)),
        "multilabel": checks.boolean,
        "preprocessing": Preprocessing.from_dict,
        "temperature": checks.either(_DIVISOR, checks.listed(_DIVISOR)),
        "thresholds": checks.listed(_SHARE),
        "tolerance": lambda value: Tolerance(**_TOLERANCE(value)),
        "architecture": checks.plain,
        "about": checks.plain,
        "sets": (lambda value: checks.by_key(_SHARE, _SHARE)(_by_number(value)), dict),
        "n_validation": (_COUNT, lambda: 0),
        "ood_score": (checks.none_or(_SCORE), lambda: None),
        "tta": (checks.integer(0, MOST_COPIES), lambda: 0),
        "flip": (checks.boolean, lambda: False),
        "tta_mean": (checks.one_of(*MEANS), lambda: "logits"),
        "files": (lambda value: value, lambda: None),
    }
)


def _check(values: Any) -> Description:
    """The description, whose entries are within bounds and go together.

    Raises:
        ValueError: they are not, or do not.
    """
    one = Description(**_CHECK(values))
    n, score = len(one.classes), one.ood_score
    if len(set(one.classes)) != n:
        raise ValueError("a class has its name twice")
    if isinstance(one.temperature, list) and (not one.multilabel or len(one.temperature) != n):
        raise ValueError(f"{len(one.temperature)} temperatures for {n} classes")
    if len(one.thresholds) != (n if one.multilabel else 0):
        raise ValueError(f"{len(one.thresholds)} thresholds for {n} classes")
    if score is not None and min(score["distance"][1], score["doubt"][1]) <= 0:
        raise ValueError("a standard deviation is above 0")
    # What is used of a bundle's origin: the columns of a competition's answer.
    checks.record({"columns": (checks.listed(_TEXT, (0, 2)), list)})(one.about)
    return one


def own_digest(values: dict[str, Any]) -> str:
    """SHA-256 over everything in bundle.json but the digest itself."""
    rest = {key: value for key, value in values.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def signed_text(values: dict[str, Any]) -> str:
    """The text of bundle.json, with the digest that fits. Names of folders that are no UTF-8 become escapes."""
    text = json.dumps({**values, "sha256": own_digest(values)}, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


def read_description(folder: Path) -> Description:
    """bundle.json, checked to be whole, of a format that is understood, and of values that can be used.

    Args:
        folder: the bundle's.

    Raises:
        BundleError: it is missing, damaged, out of bounds, or was written by a newer Tellapart.
    """
    path = folder / DESCRIPTION
    try:
        values = read_json_file(path)
        whole = isinstance(values, dict) and values.get("sha256") == own_digest(values)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read: {error}", AGAIN) from error
    if not isinstance(values, dict) or type(values.get("format")) is not int:
        raise BundleError(f"{path} is not the description of a bundle.", AGAIN)
    if values["format"] > FORMAT:
        raise BundleError(
            f"{folder} has format {values['format']}, written by Tellapart {values.get('tellapart', 'unknown')}; "
            f"this version reads formats up to {FORMAT}.",
            "Install a newer version: pip install --upgrade tellapart",
        )
    if not whole:
        raise BundleError(f"{path} is damaged, or was changed after it was written.", AGAIN)
    try:
        return _check(current_keys(values))
    except ValueError as error:
        raise BundleError(f"{path} lacks or garbles what a bundle needs: {visible(str(error))}.", AGAIN) from error
