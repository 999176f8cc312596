"""What the lines of a run's event log hold, checked before anything of them is used."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, model_validator

from tellapart.core.events import BeginsFrom, LrFound, Retrained, StageDone, StageStarted, Validated
from tellapart.core.plain_json import first_fault
from tellapart.runs.json_files import Count, Values


class StageRuntime(BaseModel):
    """`Runtime.as_dict`, with plain values of later versions."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, str | int | float | bool | None]

    device: str
    precision: Literal["float32", "bfloat16"] = "float32"
    frozen: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    workers: Count = 2
    why: str = ""
    micro_batch: Count = 0
    engine: Literal["torch", "openvino", "onnxruntime"] = "torch"


class Beside(Values):
    """Bounds of an event's values, and what stands beside its own."""

    seconds: float = 0.0
    stage: Count = 0
    epoch: Annotated[Count, Field(le=10**6)] = 0
    epochs: Annotated[Count, Field(le=10**6)] = 0
    best_epoch: Count = 0
    shown: dict[str, Count] = Field(default_factory=dict)
    runtime: StageRuntime | None = None


Rate = Annotated[float, Field(gt=0, lt=1e9)]


class LrCurve(Values):
    """The curve of a learning-rate test, which a logarithmic axis shows."""

    lr: Rate
    suggestions: dict[str, Rate]
    lrs: list[Rate]
    losses: list[FiniteFloat]
    smoothed: list[FiniteFloat]

    @model_validator(mode="after")
    def _of_one_length(self) -> LrCurve:
        if not len(self.lrs) == len(self.losses) == len(self.smoothed):
            raise ValueError("lrs, losses and smoothed are not of one length")
        return self


@cache
def _events() -> dict[str, TypeAdapter[Any]]:
    kinds = (StageStarted, BeginsFrom, LrFound, Validated, Retrained, StageDone)
    return {kind.__name__: TypeAdapter(kind) for kind in kinds}


def check_event(event: dict[str, Any]) -> None:
    """Refuse an event, under the names of today, whose values are missing or of other types; others may stand beside.

    Raises:
        ValueError: with what is wrong.
    """
    text = json.dumps(event)
    try:
        Beside.model_validate_json(text)
        if event["event"] == "LrFound":
            LrCurve.model_validate_json(text)
        if kind := _events().get(event["event"]):
            kind.validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
