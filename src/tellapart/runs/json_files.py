"""What the JSON files of a run directory hold. They may be anybody's, or damaged: each is checked as a whole first."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    model_validator,
)

from tellapart.core.old_names import current_keys
from tellapart.core.plain_json import first_fault, parse_json
from tellapart.errors import RunError

_AGAIN = "Train again with another --out."


def _checked_by(read: Callable[[str], Any]) -> AfterValidator:
    """For a text that this function can read; it stays text."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


#: Bounded: a number of thousands of digits is work without bound, and no float holds it.
Count = Annotated[int, Field(ge=0, le=2**53)]


class Values(BaseModel):
    """Plain values of these types; others, which a later version may write, are left out."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Score(Values):
    """`Metric`."""

    value: float
    low: float
    high: float
    n: Count


class OldValues(Values):
    """Values that 0.1 wrote under other keys."""

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, values: Any) -> Any:
        return current_keys(values) if isinstance(values, dict) else values


class Corrections(Values):
    """What a training with corrections notes about them."""

    applied: str
    first: str | None = None
    file: str | None = None


class Environment(Values):
    """environment.json: the command, and what it ran on; the report shows all that stands there."""

    model_config = ConfigDict(extra="allow")

    begun: Annotated[str, _checked_by(datetime.fromisoformat)]
    command: Annotated[str, _checked_by(shlex.split)]
    weights: str = ""
    resumed: list[str] = []
    corrections: Corrections | None = None


class WorkerSession(Values):
    """`sessions.Session`."""

    began: float
    workers: Annotated[Count, Field(le=10**6)]
    nodes: list[str] = []
    saved: float = 0.0
    ended: float = 0.0


class WorkersFile(RootModel[list[WorkerSession]]):
    """workers.json."""


class ClassScores(Values):
    """Scores of one class."""

    precision: Score
    recall: Score
    f1: Score
    n: Count
    n_predicted: Count


class LabelPair(Values):
    """Two labels that occur on one picture."""

    labels: Annotated[list[str], Field(min_length=2, max_length=2)]
    n: Count


class LabelSwap(Values):
    """Two labels of which the second is answered in the place of the first."""

    label: str
    answer: str
    n: Count


class Scores(OldValues):
    """`Evaluation.as_dict`."""

    on: str
    multilabel: bool
    n: Count
    classes: Annotated[list[str], Field(min_length=1)]
    metrics: Annotated[dict[str, Score], Field(min_length=1)]
    per_class: list[ClassScores]
    confusion: list[list[Count]]
    together: list[LabelPair] = []
    taken_for: list[LabelSwap] = []
    notes: list[str] = []
    with_trained: Scores | None = None

    @model_validator(mode="after")
    def _of_these_classes(self) -> Scores:
        n = len(self.classes)
        square = len(self.confusion) == n and all(len(line) == n for line in self.confusion)
        if len(self.per_class) not in (0, n) or (self.confusion and not square):
            raise ValueError(f"scores that are not of {n} classes")
        return self


class Bin(Values):
    """Pictures of about the same certainty."""

    certainty: float
    right: Score


class Reliability(Values):
    """`Reliability.as_dict`."""

    error: Score
    bins: list[Bin]


class Coverage(Values):
    """Prediction sets of one coverage."""

    coverage: float
    covered: Score
    size: float


class CertaintyCheck(Values):
    """How far the certainty on a part of the pictures can be trusted."""

    before: Reliability
    after: Reliability
    sets: list[Coverage] = []
    unknown: dict[Literal["accepted", "accuracy_of_accepted", "right_and_accepted"], Score] = {}


class OodScore(Values):
    """The limit of the out-of-distribution score."""

    by_default: bool
    share: float


class Gain(OldValues):
    """What test-time augmentation gained."""

    sentence: str


class EvaluationFile(OldValues):
    """evaluation.json."""

    model_config = ConfigDict(extra="allow")

    temperature: float | Annotated[list[float], Field(min_length=1)]
    thresholds: list[float] | None
    evaluations: Annotated[dict[str, Scores], Field(min_length=1)]
    certainty: dict[str, CertaintyCheck] = {}
    tta: Gain | None = None
    notes: list[str] = []
    n_validation: Count = 0
    ood_score: OodScore | None = None

    @model_validator(mode="after")
    def _with_its_limit(self) -> EvaluationFile:
        if self.ood_score is None and any(check.unknown for check in self.certainty.values()):
            raise ValueError("shares of unknown pictures without ood_score, their limit")
        return self


class Layer(Values):
    """A layer of a network."""

    name: str
    kind: str
    depth: Annotated[int, Field(ge=0, le=1000)]
    input: list[Count] | None
    output: list[Count] | None
    parameters: Count


class Bytes(Values):
    """Memory of a batch."""

    weights: Count
    activations: Count
    input: Count


class NetworkFile(Values):
    """network.json."""

    layers: list[Layer]
    parameters: Count
    multiply_adds: Count
    batch_size: Count
    bytes: Bytes


class Skipped(Values):
    """A picture that was left out."""

    path: str
    reason: str


class SkippedFile(RootModel[list[Skipped]]):
    """skipped.json."""


class StoredLabel(Values):
    """A label of a picture."""

    name: str
    certainty: float | None = None
    right: bool | None = None


class StoredCard(Values):
    """A picture with its labels."""

    row: Count
    name: str
    labels: list[StoredLabel] = []
    answered: list[StoredLabel] = []
    has_answer: bool = True
    link: str = ""
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, values: Any) -> Any:
        return (
            {"labels" if key == "given" else key: v for key, v in values.items()}
            if isinstance(values, dict)
            else values
        )


class StoredMap(Values):
    """A heat map: its file in the folder of figures."""

    title: str
    file: str
    method: str = ""
    said: str


class StoredExplanation(Values):
    """Why a picture was answered so."""

    card: StoredCard
    seen: str
    maps: list[StoredMap]
    alike: list[StoredCard]


class StoredCheck(Values):
    """Sanity check of a method."""

    method: str
    agreement: float
    n: Count


class ExplanationsFile(Values):
    """figures/explained.json; 0.1 had one method, and its check among the other values."""

    method: str
    n_training: Count
    explained: list[StoredExplanation]
    notes: list[str] = []
    checks: list[StoredCheck] | None = None
    agreement: float = 0.0
    n_checked: Count = 0
    why_not: str = ""


class AverageFile(Values):
    """average.json."""

    runs: Annotated[list[str], Field(min_length=1)]
    weights: list[Annotated[float, Field(gt=0)]] | None = None


class Verdict(Values):
    """A student beside the same one trained on the labels alone."""

    on: str
    sentence: str
    words: Literal["better", "worse", "cannot tell"]
    metric: str
    alone: Score
    distilled: Score
    teachers: list[Score]


class DistillationFile(Values):
    """distillation.json: the teachers, their bundles' digests, the unlabelled pictures, and the comparison."""

    teachers: Annotated[list[str], Field(min_length=1)]
    digests: list[str]
    unlabelled: Count
    left_out: list[str] = []
    verdict: Verdict | None = None


def read_checked(path: Path, schema: type[BaseModel], as_written: bool = False) -> Any:
    """Plain values of a file, as its schema wants them, under the keys of today.

    Args:
        as_written: without the schema's defaults for what the file leaves out.

    Raises:
        RunError: it cannot be read, or is not what was written.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        return schema.model_validate_json(json.dumps(values)).model_dump(exclude_unset=as_written)
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {first_fault(error)}.", _AGAIN) from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}.", _AGAIN) from error
