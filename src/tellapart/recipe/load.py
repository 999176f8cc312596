"""Reading recipes: a shipped recipe or a file, the recipe that it extends, and changes from the command line."""

from __future__ import annotations

import tomllib
import warnings
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tellapart.core.suggest import suggest
from tellapart.errors import RecipeError
from tellapart.recipe.locate import Source, explain, location
from tellapart.recipe.read_toml import MAX_DEPTH, parse, read_text
from tellapart.recipe.schema import Recipe
from tellapart.recipe.upgrade import Outdated, current_path, l2_of_epochs, probe_epochs, renamed, upgrade

SHIPPED = Path(__file__).parent / "shipped"
_MAX_FILES = 20  # that extend one another
_SHORT = 80  # signs of a name in a message


def shipped() -> dict[str, Path]:
    """Name → file of every recipe that comes with Tellapart."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def list_recipes() -> dict[str, str]:
    """The recipes that come with Tellapart: name → what it is for, in a sentence. `recipe_text` gives one whole."""
    return {name: tomllib.loads(path.read_text(encoding="utf-8")).get("about", "") for name, path in shipped().items()}


def recipe_text(name: str) -> str:
    """The text of a shipped recipe or a recipe file, comments included.

    Raises:
        RecipeError: there is none.
    """
    return read_text(_find(name))


def load_recipe(name: str | Path, changes: list[str] | None = None) -> Recipe:
    """Read a recipe.

    A key of version 0.1 is read under its name of today. A `FutureWarning` says which key to write.

    Args:
        name: the name of a shipped recipe or the path of a TOML file. A file may begin from another recipe with
            `extends = "transfer"` (a shipped name, or a path relative to the file).
        changes: "key=value" texts, e.g. "stages.0.epochs=2"; values are TOML, or bare words for text.

    Raises:
        RecipeError: no such recipe, bad TOML, an unknown key, a wrong type or a value out of range; with the file,
            the line and a suggestion.
    """
    recipe, renamed = read_recipe(name, changes)
    for line in renamed:
        warnings.warn(line, FutureWarning, stacklevel=2)
    return recipe


def read_recipe(name: str | Path, changes: list[str] | None = None) -> tuple[Recipe, list[str]]:
    """As `load_recipe`, but returns the line for each key of version 0.1 beside the recipe, instead of warning."""
    sources = _read(_find(name))
    lines = [_line(source.location(each.path), each) for source in sources for each in source.outdated]
    values: dict[str, Any] = {}
    for source in reversed(sources):
        values = _merge(values, source.values)
    if changes:
        values.setdefault("stages", [{}])  # the default, so that a change can reach into it
    for change in changes or []:
        lines += [_line(f"--set {change}", each) for each in _apply(values, change)]
    values, outdated = upgrade(values)  # the files were upgraded one by one: these are values of changes
    lines += [_line(location(each.path, sources, changes or []), each) for each in outdated]
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(*explain(error, sources, changes or [])) from None
    last = f"stages.{len(recipe.stages) - 1}.epochs"
    for change in changes or []:
        if recipe.plan and not recipe.plan.why and change.partition("=")[0].strip() == last:
            raise RecipeError(
                f"--set {change}: this recipe's plan decides how many epochs its last stage has.",
                "Set the time of the training (--minutes), or take a recipe without a plan: --recipe transfer",
            )
    return recipe, lines


def _line(at: str, outdated: Outdated) -> str:
    """The line for the user about an outdated part. `at` is its file and line, or its change."""
    line = f"{at}: {outdated.line}"
    if outdated.hint:
        raise RecipeError(line, outdated.hint)
    return line


def _read(path: Path, children: tuple[Path, ...] = ()) -> list[Source]:
    """The file of a recipe, then the file that it extends, and so on."""
    text = read_text(path)
    try:
        values = parse(text, str(path))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    parent = values.pop("extends", None)
    source = Source(path, text, *upgrade(values))
    if parent is None:
        return [source]
    at = source.location(["extends"])
    if not isinstance(parent, str):
        raise RecipeError(f"{at}: 'extends' must be the name or path of one recipe.", 'For example: "transfer"')
    try:
        base = _find(parent, path.parent)
    except RecipeError as error:
        raise RecipeError(f"{at}: {error.message}", error.hint) from None
    if base in (*children, path):
        raise RecipeError(f"{at}: 'extends' leads back to the same recipe.", "Remove one of the two 'extends'.")
    if len(children) + 2 > _MAX_FILES:
        raise RecipeError(f"{at}: more than {_MAX_FILES} recipes extend one another.", "Write some of them as one.")
    return [source, *_read(base, (*children, path))]


def _find(name: str | Path, folder: Path | None = None) -> Path:
    known = shipped()
    if str(name) in known:
        return known[str(name)].resolve()
    try:
        path = (folder or Path()) / Path(name).expanduser()
        if path.is_file():
            return path.resolve()
    except (OSError, RuntimeError, ValueError):  # too long a name, "~nobody/…"
        pass
    written = str(name)[:_SHORT]
    where = f" in {folder}" if folder else ""
    raise RecipeError(f"There is no recipe '{written}'{where}.", f"{suggest(written, known)} Or give a .toml file.")


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; everything else, lists of stages too, is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply(values: dict[str, Any], change: str) -> list[Outdated]:
    """Put one "key=value" into the values. Returns its key, where 0.1 called it so."""
    key, equals, text = change.partition("=")
    key = key.strip()
    if key.count(".") > MAX_DEPTH:
        raise RecipeError(f"--set {change[:_SHORT]}: a key of more than {MAX_DEPTH} parts.", "Set a key of the recipe.")
    if not equals or not key:
        raise RecipeError(f"--set {change}: expected key=value.", "For example: --set stages.0.epochs=2")
    try:
        value = parse(f"value = {text}", f"--set {change[:_SHORT]}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    written = tuple(key.split("."))
    *path, last = current_path(written)
    outdated = [renamed(written)] if (*path, last) != written else []
    table: Any = values
    change = change if len(change) <= _SHORT else f"{change[:_SHORT]}…"
    for depth, part in enumerate(path):
        table = _step(table, part, ".".join(path[: depth + 1])[:_SHORT], change)
    if last == "epochs" and isinstance(table, dict) and table.get("solver") and (l2 := l2_of_epochs(value)):
        outdated.append(probe_epochs(written, l2))
        last, value = "l2", l2
    _step(table, last, key[:_SHORT], change)
    table[int(last) if isinstance(table, list) else last] = value
    return outdated


def _step(values: Any, part: str, key: str, change: str) -> Any:
    """The entry `part` of a table or a list, on the way to the key of a change. A table gets it if it has none."""
    if isinstance(values, list):
        if not part.isdecimal() or len(part) > 9 or int(part) >= len(values):
            raise RecipeError(
                f"--set {change}: '{key}' does not exist.", f"It has {len(values)} entries, counted from 0."
            )
        return values[int(part)]
    if not isinstance(values, dict):
        raise RecipeError(f"--set {change}: '{key}' lies below a plain value.", "Set that plain value itself.")
    if part.isdecimal():
        raise RecipeError(f"--set {change}: '{key}' does not exist.", "The recipe has no such list.")
    return values.setdefault(part, {})
