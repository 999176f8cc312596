"""The space of a study: its factors with their levels, and the recipe that a choice of levels makes."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tellapart.core.suggest import suggest
from tellapart.core.text import counted
from tellapart.errors import RecipeError
from tellapart.experiments.description import MAX_CELLS, Factor, Level
from tellapart.experiments.read_study import Source
from tellapart.experiments.study_file import StudyFile, Vary
from tellapart.recipe.load import read_recipe
from tellapart.recipe.read_toml import parse
from tellapart.recipe.schema import Recipe

#: Keys that a study holds by itself, and why.
_HELD = {
    "seed": "the seeds of a study are its 'seeds'",
    "data.test": "the test part of a study is locked, and the same for all cells",
    "data.split_seed": 'for several splits: vary_randomness = ["split", …]',
    "retrain": "cells are judged on validation; tellapart study close trains the winner again",
    "about": "it changes no training",
}


@dataclass(frozen=True)
class Cell:
    """One choice of levels.

    Attributes:
        id: 12 hexadecimal digits of its recipe's content, without seed and words.
        levels: factor → label, in the order of the factors; a factor whose condition does not hold is missing.
        changes: key of the recipe → value.
        recipe: complete.
    """

    id: str
    levels: dict[str, str]
    changes: dict[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Space:
    """The factors of a study, and the recipe that they change.

    Attributes:
        recipe: name or path. settings: "key=value" changes for all cells.
        base: the recipe with these.
        factors: in the file's order.
        own: the levels that the recipe itself has, or those that the study's `baseline` names.
        source: for messages.
    """

    recipe: str
    settings: tuple[str, ...]
    base: Recipe
    factors: tuple[Factor, ...]
    own: dict[str, Level]
    source: Source

    def applies(self, factor: Factor, levels: Mapping[str, str]) -> bool:
        """Whether the factor's condition holds for these levels."""
        return all(levels.get(other) in labels for other, labels in factor.when.items())

    def cell(self, chosen: Mapping[str, Level]) -> Cell:
        """The cell of these levels, without factors whose condition does not hold.

        Raises:
            RecipeError: they give no recipe; with the levels.
        """
        levels: dict[str, str] = {}
        changes: dict[str, Any] = {}
        for factor in self.in_order():
            if factor.name in chosen and self.applies(factor, levels):
                levels[factor.name] = chosen[factor.name].label
                changes |= chosen[factor.name].changes
        ordered = {factor.name: levels[factor.name] for factor in self.factors if factor.name in levels}
        recipe = self._recipe(changes, ordered)
        return Cell(recipe_id(recipe), ordered, changes, recipe)

    def in_order(self) -> list[Factor]:
        """The factors, each behind those that its condition names."""
        left, order = list(self.factors), list[Factor]()
        while left:
            ready = [factor for factor in left if not set(factor.when) - {done.name for done in order}]
            if not ready:
                raise RecipeError(f"The conditions of {left[0].name} lead back to itself.", "Remove one 'when'.")
            order += ready
            left = [factor for factor in left if factor not in ready]
        return order

    def _recipe(self, changes: Mapping[str, Any], levels: Mapping[str, str]) -> Recipe:
        try:
            recipe, _ = read_recipe(self.recipe, [*self.settings, *change_texts(changes)])
        except RecipeError as error:
            of = ", ".join(f"{name} = {label}" for name, label in levels.items())
            at = self.source.at("vary")
            raise RecipeError(f"{at}: the cell {of} is no recipe: {error.message}", error.hint) from None
        return recipe


def read_space(study: StudyFile, source: Source) -> Space:
    """The space of a study's file.

    Raises:
        RecipeError: a key that the recipe does not have, levels that give the same recipe, conditions without sense.
    """
    base, _ = read_recipe(study.recipe, list(study.set))
    if base.plan is not None and not base.plan.why:
        raise RecipeError(
            f"The recipe {study.recipe} chooses network and epochs by itself, so its cells would differ in more than "
            "what is varied.",
            "Take a recipe without a [plan], such as transfer, or the recipe.toml of a run.",
        )
    factors = tuple(_factor(name, vary, study, source) for name, vary in study.vary.items())
    _check_apart(factors, source)
    own = {f.name: _own_level(f, base, study, source) for f in factors}
    space = Space(study.recipe, tuple(study.set), base, factors, own, source)
    for factor in factors:
        _check_levels(space, factor)
    return space


def _factor(name: str, vary: Vary, study: StudyFile, source: Source) -> Factor:
    when = {other: tuple(label_of(value) for value in values) for other, values in vary.when.items()}
    for other, labels in when.items():
        known = [label_of(v) for v in study.vary[other].levels] or list(study.vary[other].variants)
        if unknown := [label for label in labels if known and label not in known]:
            raise RecipeError(
                f"{source.at('vary', name)}: '{name}' waits for {other} = {unknown[0]}, which is none of its levels.",
                suggest(unknown[0], known),
            )
    if vary.variants:
        levels = tuple(_variant(label, changes, name, source) for label, changes in vary.variants.items())
        keys = tuple(dict.fromkeys(key for level in levels for key in level.changes))
        return _checked(Factor(name=name, kind="variants", levels=levels, keys=keys, when=when), source)
    keys = tuple(vary.keys) or (name,)
    if vary.levels:
        levels = tuple(Level(label=label_of(v), changes=dict.fromkeys(keys, v)) for v in vary.levels)
        return _checked(Factor(name=name, kind="list", levels=levels, keys=keys, when=when), source)
    ends = {"low": vary.low, "high": vary.high, "log": vary.log, "integer": vary.integer}
    whole = Factor.model_validate({"name": name, "kind": "range", "keys": keys, "when": when, **ends})
    numbers = dict.fromkeys(_spread(vary))
    return _checked(whole.model_copy(update={"levels": tuple(number_level(whole, x) for x in numbers)}), source)


def _variant(label: str, changes: Sequence[str], name: str, source: Source) -> Level:
    values: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise RecipeError(
                f"{source.at('vary', name)}: '{name}', {label}: expected \"key=value\" (it is {change!r}).",
                'For example: "model.dropout=0.4"',
            )
        try:
            values[key.strip()] = parse(f"value = {text}", f"{name}, {label}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()
    return Level(label=label, changes=values)


def _checked(factor: Factor, source: Source) -> Factor:
    """The factor, if its labels differ and it moves nothing that a study holds.

    Raises:
        RecipeError: it does not.
    """
    at = source.at("vary", factor.name)
    labels = [level.label for level in factor.levels]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise RecipeError(f"{at}: '{factor.name}' has the level {twice} twice.", "Remove one of them.")
    for key in factor.keys:
        if key in _HELD:
            raise RecipeError(f"{at}: '{key}' cannot be varied: {_HELD[key]}.")
    return factor


def _check_apart(factors: Sequence[Factor], source: Source) -> None:
    """Refuse two factors that set one key: the later one would undo the earlier."""
    setting: dict[str, str] = {}
    for factor in factors:
        for key in factor.keys:
            if key in setting:
                raise RecipeError(
                    f"{source.at('vary', factor.name)}: '{setting[key]}' and '{factor.name}' both set {key}.",
                    "Join them to one factor of named variants.",
                )
            setting[key] = factor.name


def _spread(vary: Vary) -> list[float]:
    """The levels of a range for a grid: both ends, and numbers evenly between."""
    assert vary.low is not None
    assert vary.high is not None
    shares = [number / (vary.n - 1) for number in range(vary.n)]
    if vary.log:
        low, high = math.log(vary.low), math.log(vary.high)
        spread = [math.exp(low + share * (high - low)) for share in shares]
    else:
        spread = [vary.low + share * (vary.high - vary.low) for share in shares]
    return [round(x) if vary.integer else rounded(x) for x in spread]


def number_level(factor: Factor, number: float) -> Level:
    """The level of a range's number. It is rounded to four digits, so that label and value are the same."""
    value = round(number) if factor.integer else rounded(number)
    return Level(label=label_of(value), changes=dict.fromkeys(factor.keys, value))


def rounded(number: float) -> float:
    """A number with four digits."""
    return float(f"{number:.4g}")


def label_of(value: Any) -> str:
    """A value of the recipe as a label."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else toml_text(value)


def _own_level(factor: Factor, base: Recipe, study: StudyFile, source: Source) -> Level:
    """The baseline's level: what the study says, or the recipe's own where it is among the levels, or the first."""
    if factor.name in study.baseline:
        wanted = study.baseline[factor.name]
        if factor.kind == "range" and isinstance(wanted, int | float) and not isinstance(wanted, bool):
            return number_level(factor, wanted)
        level = next((level for level in factor.levels if level.label == label_of(wanted)), None)
        if level is None:
            raise RecipeError(
                f"{source.at('baseline', factor.name)}: {label_of(wanted)!r} is no level of '{factor.name}'.",
                suggest(label_of(wanted), [level.label for level in factor.levels]),
            )
        return level
    values = base.model_dump()
    for level in factor.levels:
        if level.changes and all(_value_at(values, key) == value for key, value in level.changes.items()):
            return level
    own = _value_at(values, factor.keys[0]) if factor.kind == "range" else None
    if isinstance(own, int | float) and not isinstance(own, bool):
        return Level(label=label_of(own), changes=dict.fromkeys(factor.keys, own))
    empty = next((level for level in factor.levels if not level.changes), None)
    return empty or factor.levels[0]


def _value_at(values: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, dict) and part in values:
            values = values[part]
        else:
            return None
    return values


def _check_levels(space: Space, factor: Factor) -> None:
    """Refuse levels that give the same recipe, seen from the baseline, and those that give none."""
    ids: dict[str, str] = {}
    for level in factor.levels:
        chosen = {**space.own, **condition(space, factor), factor.name: level}
        cell = space.cell(chosen)
        if cell.levels.get(factor.name) != level.label:
            continue
        if cell.id in ids:
            raise RecipeError(
                f"{space.source.at('vary', factor.name)}: the levels {ids[cell.id]} and {level.label} of "
                f"'{factor.name}' give the same recipe.",
                "Remove one of them, or let them set what they are to set.",
            )
        ids[cell.id] = level.label


def condition(space: Space, factor: Factor) -> dict[str, Level]:
    """Levels of other factors that make the factor's condition hold; none where it holds for the baseline."""
    levels: dict[str, Level] = {}
    for other, labels in factor.when.items():
        waited = next(f for f in space.factors if f.name == other)
        if space.own[other].label not in labels:
            levels |= condition(space, waited)
            levels[other] = next(level for level in waited.levels if level.label in labels)
    return levels


def recipe_id(recipe: Recipe) -> str:
    """A digest of what a recipe trains: equal recipes have one, whatever they are called."""
    values = recipe.model_dump(mode="json", exclude={"about", "seed", "retrain"})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def change_texts(changes: Mapping[str, Any]) -> list[str]:
    """Changes as --set takes them."""
    return [f"{key}={toml_text(value)}" for key, value in changes.items()]


def toml_text(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)} = {toml_text(v)}' for k, v in value.items())}}}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)


def check_number(n: int) -> None:
    """Refuse more cells than a study can show.

    Raises:
        RecipeError: there are more.
    """
    if n > MAX_CELLS:
        raise RecipeError(
            f"This study has {counted(n, 'cell')}, and {MAX_CELLS:,} are the most.",
            'Vary less, or draw some: design = "random", budget = { trials = 100 }',
        )
