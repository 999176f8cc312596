"""Recipes that are written and refused, for several test files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.errors import RecipeError
from tellapart.recipe.load import load_recipe


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(name: str | Path, changes: list[str] | None = None) -> str | None:
    """The error of a recipe that is refused."""
    try:
        load_recipe(name, changes)
    except RecipeError as error:
        return error.message
    return None


def mistake(name: str | Path, changes: list[str] | None = None) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, changes)
    return caught.value
