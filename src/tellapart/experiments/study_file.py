"""The schema of a study's file: what is varied, how often, and what for. An unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tellapart.experiments.description import MAX_CELLS, MAX_SEEDS
from tellapart.recipe.transforms import Section

Design = Literal["one-at-a-time", "grid", "random", "optuna"]
Randomness = Literal["split", "init", "order"]
_MAX_LEVELS = 1_000
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Changes = Annotated[list[Annotated[str, Field(max_length=10_000)]], Field(max_length=100)]

#: Keys of a factor that is written at length; any other table holds named variants.
_AT_LENGTH = ("levels", "variants", "from", "to", "keys", "when", "log", "integer", "n")


class Vary(Section):
    """One factor of `[vary]`: a list of values, named variants, or a range."""

    levels: list[Any] = Field(default_factory=list, max_length=_MAX_LEVELS, description="values of the key")
    variants: dict[_Name, _Changes] = Field(
        default_factory=dict, max_length=_MAX_LEVELS, description='name → "key=value" changes, as --set takes them'
    )
    low: float | None = Field(default=None, alias="from", description="lower end of a range")
    high: float | None = Field(default=None, alias="to", description="upper end of a range")
    log: bool = Field(default=False, description="range: numbers are spread evenly by their logarithm")
    integer: bool = Field(default=False, description="range: whole numbers alone")
    n: int = Field(default=5, ge=2, le=_MAX_LEVELS, description="range: levels that a grid or one-at-a-time takes")
    keys: list[_Name] = Field(
        default_factory=list, max_length=100, description="keys of the recipe that a level sets; by default the name"
    )
    when: dict[_Name, list[Any]] = Field(
        default_factory=dict, max_length=20, description="factor → its levels under which alone this one is varied"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [bool(self.levels), bool(self.variants), self.low is not None or self.high is not None]
        if sum(kinds) != 1:
            empty = "it has no level" if not any(kinds) else "it has levels of two kinds"
            raise PydanticCustomError("factor", f"{empty}: give a list, named variants, or a range {{ from, to }}")
        if kinds[2]:
            self._check_range()
        elif self.log or self.integer or "n" in self.model_fields_set:
            raise PydanticCustomError("factor", "'log', 'integer' and 'n' belong to a range { from, to }")
        if self.keys and self.variants:
            raise PydanticCustomError("factor", "'keys' belong to levels or a range: variants name their own")
        if not all(map(_is_plain, self.levels)):
            raise PydanticCustomError(
                "factor", "a level is a text, a number, true or false, a list or a table of these"
            )
        n = len(self.levels or self.variants)
        if not kinds[2] and n < 2:
            raise PydanticCustomError("factor", "it has one level, so there is nothing to compare: give at least two")
        return self

    def _check_range(self) -> None:
        if self.low is None or self.high is None or self.low >= self.high:
            raise PydanticCustomError("factor", "a range needs 'from' and a larger 'to'")
        if self.log and self.low <= 0:
            raise PydanticCustomError("factor", "log = true needs a 'from' above 0")
        if self.integer and (self.low % 1 or self.high % 1):
            raise PydanticCustomError("factor", "integer = true needs whole numbers as 'from' and 'to'")


def _is_plain(value: Any) -> bool:
    """Whether a recipe may have such a value. TOML has dates too, and Python None."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return all(map(_is_plain, value.values())) if isinstance(value, dict) else isinstance(value, str | int | float)


def _at_length(written: Any) -> Any:
    """A factor as its table at length: a list holds levels, a table of other keys variants."""
    if isinstance(written, list):
        return {"levels": written}
    if isinstance(written, dict) and not any(key in _AT_LENGTH for key in written):
        return {"variants": written}
    return written


Factor = Annotated[Vary, BeforeValidator(_at_length)]


class Seeds(Section):
    """Seeds on demand: every cell has `from`; those that are undecided get more, up to `to`."""

    first: int = Field(alias="from", ge=2, le=MAX_SEEDS)
    last: int = Field(alias="to", ge=2, le=MAX_SEEDS)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first >= self.last:
            raise PydanticCustomError("seeds", "'from' must be smaller than 'to'")
        return self


class Budget(Section):
    """`[budget]`: how much is tried."""

    trials: int = Field(default=30, ge=1, le=MAX_CELLS, description="cells of a random or optuna design")
    minutes: float | None = Field(
        default=None, gt=0, le=1e6, description="no training is begun after that; the same command goes on"
    )


class StudyFile(Section):
    """A whole study. `[vary]` and `recipe` say what is compared; all else has a default."""

    about: str = Field(default="", max_length=10_000)
    recipe: _Name = Field(default="transfer", description="shipped recipe or TOML file, relative to the study's file")
    set: _Changes = Field(default_factory=list, description='"key=value" changes for all cells')
    pictures: str | None = Field(default=None, description="folder or table, relative to the study's file")
    label_options: dict[_Name, str | bool | int] = Field(
        default_factory=dict, max_length=20, description="how their labels are read: the options of scan, by name"
    )
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)] | Seeds = Field(
        default=3, description="trainings of a cell; or { from = 3, to = 12 }: more for cells that are undecided"
    )
    objective: _Name | Annotated[list[_Name], Field(min_length=1, max_length=5)] | None = Field(
        default=None, description='a metric on validation, "seconds" or "n_parameters"; several: a Pareto front'
    )
    vary: dict[_Name, Factor] = Field(min_length=1, max_length=100)
    design: Design = "one-at-a-time"
    budget: Budget = Budget()
    baseline: dict[_Name, Any] = Field(
        default_factory=dict, max_length=100, description="factor → level; by default the recipe's own value"
    )
    folds: int = Field(default=0, ge=0, le=100, description="cross-validation over so many folds; 0: one part")
    vary_randomness: Annotated[list[Randomness], Field(min_length=1, max_length=3)] = Field(
        default=["init", "order"], description="what differs between the seeds of a cell"
    )
    nested: bool = Field(
        default=False, description="each of vary_randomness has seeds of its own, nested: n seeds, n × n trainings …"
    )
    pruner: Literal["none", "wilcoxon", "halving"] = Field(
        default="none", description="optuna: give up hopeless cells after some seeds or folds, or after some epochs"
    )
    runtime: str = Field(default="float32", max_length=100, description="the same for all trainings, as --runtime")
    threads: int | None = Field(default=None, ge=1, le=1024, description="of each training, the same for all")

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        if len(set(self.vary_randomness)) < len(self.vary_randomness):
            raise PydanticCustomError("unused", "'vary_randomness' names one twice")
        if self.nested and (len(self.vary_randomness) < 2 or isinstance(self.seeds, Seeds)):
            raise PydanticCustomError("unused", "'nested' needs two of vary_randomness, and a number of seeds")
        if self.folds == 1 or (self.folds and "split" in self.vary_randomness):
            raise PydanticCustomError(
                "unused", "'folds' starts at 2, and takes the place of 'split' in vary_randomness"
            )
        if self.pruner != "none" and (self.design != "optuna" or isinstance(self.objective, list)):
            raise PydanticCustomError("unused", "'pruner' belongs to design = \"optuna\" with one objective")
        if "trials" in self.budget.model_fields_set and self.design not in ("random", "optuna"):
            raise PydanticCustomError("unused", '\'budget.trials\' belongs to design = "random" or "optuna"')
        if isinstance(self.seeds, Seeds) and self.design == "optuna":
            raise PydanticCustomError("unused", "seeds on demand and a search exclude each other: give one number")
        for name, factor in self.vary.items():
            for other in factor.when:
                if other not in self.vary or other == name:
                    raise PydanticCustomError("when", f"'{name}' waits for '{other}', which is no other factor")
        for name in self.baseline:
            if name not in self.vary:
                raise PydanticCustomError("baseline", f"'baseline' names '{name}', which is no factor")
        return self

    @property
    def objectives(self) -> list[str]:
        """Names of the objectives; none: the headline metric of the pictures."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective or [])
