"""Recipes of version 0.1, read as recipes of today. Each key that changed makes a line: which key to write now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tellapart.errors import RecipeError

#: Keys of 0.1 and their names of today, by their path; "*" stands for the number of an entry.
_RENAMED = {("stages", "*", "rate"): "lr"}

Path = tuple[str, ...]


@dataclass(frozen=True)
class Renamed:
    """A key of 0.1: its path then and now. `twice`: the recipe has the key under both names."""

    before: Path
    now: Path
    twice: bool

    def line(self, place: str) -> str:
        """The sentence for the user.

        Args:
            place: the file and line, or the change, that has the key.

        Raises:
            RecipeError: the recipe has the key under both names.
        """
        before, now = ".".join(self.before), ".".join(self.now)
        if self.twice:
            raise RecipeError(
                f"{place}: '{before}' and '{now}' are one key under two names.",
                f"Remove '{self.before[-1]}': version 0.1 called it so.",
            )
        return f"{place}: '{before}' is now '{now}'."


def upgrade(values: Any, path: Path = ()) -> tuple[Any, list[Renamed]]:
    """Values of a recipe under the keys of today, and the keys that were renamed.

    Args:
        values: plain values as TOML gives them: a whole recipe, or what it has at `path`.
        path: keys and numbers of entries, as text.
    """
    if isinstance(values, list):
        pairs = [upgrade(value, (*path, str(i))) for i, value in enumerate(values)]
        return [value for value, _ in pairs], [renamed for _, inner in pairs for renamed in inner]
    if not isinstance(values, dict):
        return values, []
    current: dict[str, Any] = {}
    changed: list[Renamed] = []
    for key, value in values.items():
        before = (*path, key)
        now = current_path(before)
        if now != before:
            changed.append(Renamed(before, now, twice=now[-1] in values))
        current[now[-1]], inner = upgrade(value, now)
        changed += inner
    return current, changed


def current_path(path: Path) -> Path:
    """The path of a key under the names of today."""
    return _replace(path, {before: (*before[:-1], now) for before, now in _RENAMED.items()})


def old_path(path: Path) -> Path:
    """The path of a key under the names of 0.1."""
    return _replace(path, {(*before[:-1], now): before for before, now in _RENAMED.items()})


def _replace(path: Path, names: dict[Path, Path]) -> Path:
    for pattern, replacement in names.items():
        if tuple("*" if part.isdecimal() else part for part in path[: len(pattern)]) == pattern:
            return (*path[: len(pattern) - 1], replacement[-1], *path[len(pattern) :])
    return path
