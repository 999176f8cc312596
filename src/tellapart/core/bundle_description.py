"""bundle.json, the description of a bundle: its one reader, and the schema that all of it passes before any is used.

A bundle may come from anybody, who can sign whatever he writes. So every number has bounds, lists go together, and what
has no use here ("about") is at most shown.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tellapart.core.old_names import current_keys
from tellapart.core.plain_json import first_fault, read_json_file
from tellapart.core.predictions import Mean
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import BundleError

FORMAT = 3
DESCRIPTION = "bundle.json"
AGAIN = "Copy it again from where it came from, or make it anew by training again."
MOST_COPIES = 32


def _text(value: Any) -> str:
    """A string. Not pydantic's own, which refuses the names of folders that are no UTF-8."""
    if not isinstance(value, str) or len(value) > 10_000:
        raise ValueError("a text of at most 10,000 characters is needed here")
    return value


def _none_or_two(values: list[Any]) -> list[Any]:
    if len(values) not in (0, 2):
        raise ValueError("two names or none are needed here")
    return values


def _by_number(values: Any) -> Any:
    """JSON knows texts alone as keys: "0.95" → 0.95."""
    return {float(key): value for key, value in values.items()} if isinstance(values, dict) else values


Text = Annotated[Any, AfterValidator(_text)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
Divisor = Annotated[float, Field(ge=1e-6, le=1e6)]
Plain = dict[Any, Any]


class _Part(BaseModel):
    """Base of all parts: no silent conversion; a key that is not known counts in the digest alone."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Tolerance(_Part):
    """Tolerance of onnxruntime's logits beside the golden ones: absolute + relative × |golden|."""

    absolute: Annotated[float, Field(ge=0, le=0.1)]
    relative: Annotated[float, Field(ge=0, le=0.1)]


class OodScoreValues(_Part):
    """The fields of `evaluation.open_set.OodScore`: mean and deviation twice, limit, share, number, default."""

    distance: Annotated[list[Number], Field(min_length=2, max_length=2)]
    doubt: Annotated[list[Number], Field(min_length=2, max_length=2)]
    limit: Number
    share: Share
    n: Count
    by_default: bool = True

    @model_validator(mode="after")
    def _deviations(self) -> Self:
        if min(self.distance[1], self.doubt[1]) <= 0:
            raise ValueError("a standard deviation is above 0")
        return self


class About(_Part):
    """What is used of a bundle's origin: the columns of a competition's answer."""

    columns: Annotated[list[Text], AfterValidator(_none_or_two)] = Field(default_factory=list)


class Description(_Part):
    """bundle.json; see `deploy.bundle.read.Bundle` for what the entries mean."""

    classes: Annotated[list[Text], Field(min_length=1, max_length=1_000_000)]
    multilabel: bool
    preprocessing: Preprocessing
    temperature: Divisor | list[Divisor]
    thresholds: list[Share]
    tolerance: Tolerance
    architecture: Plain  # checked by `models.architecture` before anything is built
    about: Plain
    sets: Annotated[dict[Share, Share], BeforeValidator(_by_number)] = Field(default_factory=dict)
    n_validation: Count = 0
    ood_score: OodScoreValues | None = None
    tta: Annotated[int, Field(ge=0, le=MOST_COPIES)] = 0
    flip: bool = False
    tta_mean: Mean = "logits"
    files: Any = None  # whose entries are checked when they are used

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        n = len(self.classes)
        if len(set(self.classes)) != n:
            raise ValueError("a class has its name twice")
        if isinstance(self.temperature, list) and (not self.multilabel or len(self.temperature) != n):
            raise ValueError(f"{len(self.temperature)} temperatures for {n} classes")
        if len(self.thresholds) != (n if self.multilabel else 0):
            raise ValueError(f"{len(self.thresholds)} thresholds for {n} classes")
        About.model_validate(self.about)
        return self


def own_digest(values: dict[str, Any]) -> str:
    """SHA-256 over everything in bundle.json but the digest itself."""
    rest = {key: value for key, value in values.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


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
        return Description.model_validate(current_keys(values))
    except ValidationError as error:
        raise BundleError(f"{path} lacks or garbles what a bundle needs: {first_fault(error)}.", AGAIN) from error
