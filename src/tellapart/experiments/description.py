"""study.json: what a study varies, holds and measures. Whoever shows or judges a study starts from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tellapart.core.plain_json import first_fault

#: The largest study: a page and a table of more cells help nobody.
MAX_CELLS, MAX_SEEDS = 20_000, 1_000
_Text = Annotated[str, Field(max_length=10_000)]


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Level(_Values):
    """One level of a factor.

    Attributes:
        label: its name in tables; of a number, the number as text.
        changes: what it sets: key of the recipe → value.
    """

    label: _Text
    changes: dict[str, Any] = {}


class Factor(_Values):
    """What a study varies.

    Attributes:
        name: the recipe's key, or the name that the study's file gives to variants.
        kind: "list", "variants" (a level moves several keys) or "range" (numbers between two ends).
        levels: in the file's order; of a range, those that a grid takes, or none where numbers are drawn.
        keys: of the recipe that it moves.
        low, high, log, integer: of a range.
        when: other factors' labels under which alone it is varied.
    """

    name: _Text
    kind: Literal["list", "variants", "range"]
    levels: tuple[Level, ...] = ()
    keys: tuple[_Text, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    when: dict[str, tuple[_Text, ...]] = {}


class Objective(_Values):
    """What is to be high or low: a metric on validation, "seconds" or "n_parameters"."""

    name: _Text
    direction: Literal["maximize", "minimize"]


class SeedRange(_Values):
    """Seeds on demand: every cell has `first` of them, and undecided ones get more, up to `last`."""

    first: int = Field(ge=1, le=MAX_SEEDS)
    last: int = Field(ge=1, le=MAX_SEEDS)


class Description(_Values):
    """A study, as study.json holds it.

    Attributes:
        version: of this schema.
        name: of the directory, for titles. about: the user's own words.
        objectives: the first one is `score` in the results.
        factors: what is varied.
        design: how cells are chosen.
        baseline: id of the cell that the others are compared with.
        seeds: their number, or their range where undecided cells get more.
        vary_randomness: what differs between the seeds of a cell: "split", "init" (initial weights), "order" (of the
            pictures, with augmentation and dropout). With more than one that is nested, each has seeds of its own.
        nested: whether these are nested, so that what each adds to the spread can be told.
        folds: of the cross-validation; 0: one validation part.
        n_validation: pictures that each score rests on. n_train: pictures trained on.
        classes, multilabel: of the pictures.
        pictures: where they lay.
        machine: versions, processor, and such; see `runtime.environment`.
        threads, runtime: the same for all trainings.
        fingerprint: digests of "pictures", "split" and "recipe": what cannot be compared is not mixed.
        command: what repeats or continues the study.
        state: "open" until all cells are done; "closed" once the test part was opened.
    """

    version: Literal[1] = 1
    name: _Text
    about: _Text = ""
    objectives: tuple[Objective, ...] = Field(min_length=1)
    factors: tuple[Factor, ...] = ()
    design: Literal["one-at-a-time", "grid", "random", "optuna"]
    baseline: _Text
    seeds: int | SeedRange
    vary_randomness: tuple[Literal["split", "init", "order"], ...] = ("init", "order")
    nested: bool = False
    folds: int = 0
    n_validation: int = 0
    n_train: int = 0
    classes: tuple[str, ...] = ()
    multilabel: bool = False
    pictures: _Text = ""
    machine: dict[str, Any] = {}
    threads: int = 1
    runtime: dict[str, Any] = {}
    fingerprint: dict[str, str] = {}
    command: _Text = ""
    state: Literal["open", "done", "closed"] = "open"

    @property
    def objective(self) -> Objective:
        """The first objective: the score of the results."""
        return self.objectives[0]


def parse_description(values: Any) -> Description:
    """Plain values → description.

    Raises:
        ValueError: they are none; one line says why.
    """
    try:
        return Description.model_validate(values)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
