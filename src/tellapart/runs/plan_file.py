"""What plan.json holds, see `training.planning.ledger`: checked as a whole, like the other JSON files of a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from tellapart.runs.json_files import Count, Values

Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class PlanTiming(Values):
    """`Timing`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reading: Seconds
    frozen: Seconds
    answering: Seconds
    step: Seconds
    solving: Seconds
    setup: Seconds


class PlanWork(Values):
    """`Workload`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    n_train: Count
    n_validation: Count
    n_test: Count
    n_classes: Count
    rarest: Count
    n_trainings: Annotated[int, Field(ge=1, le=2)]
    explains: bool = True


class PlanFile(Values):
    """`Ledger`."""

    asked: str
    minutes: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    began: Seconds
    timing: PlanTiming
    work: PlanWork
    planned: Seconds
    announced: Seconds
    latest: Seconds
    expected: Annotated[list[Seconds], Field(max_length=1000)]
    open: bool
    memory: Annotated[str, Field(pattern=r"^plan-[0-9a-f]{1,64}\.json$")]
    outcome: Annotated[list[str], Field(max_length=100)]
    taken: Seconds | None = None
