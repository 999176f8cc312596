"""Reading a study: a file, or what the command line says of one. A mistake is named with its file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tellapart.core.suggest import suggest
from tellapart.errors import RecipeError
from tellapart.experiments.study_file import StudyFile
from tellapart.recipe.load import SHIPPED
from tellapart.recipe.locate import line_of
from tellapart.recipe.read_toml import parse, read_text
from tellapart.recipe.schema import Recipe

_SECTIONS = tuple(Recipe.model_fields)
_CUT = 120  # signs of a key or value in a message
_HINT = "docs/studies.md shows the file of a study with all its keys."


@dataclass(frozen=True)
class Source:
    """Where a study was written: a file with its text, or the command line."""

    path: Path | None
    text: str = ""

    def at(self, *key: str) -> str:
        """File and line of a key, or the option of the command line."""
        if self.path is None:
            return f"--vary {key[1]}" if len(key) > 1 and key[0] == "vary" else f"--{key[0].replace('_', '-')}"
        line = line_of(self.text, key) or line_of(self.text, (key[0], *".".join(key[1:]).split(".")))
        return f"{self.path}, line {line}" if line else str(self.path)


def shipped_studies() -> dict[str, Path]:
    """Name → file of every study that comes with Tellapart."""
    return {path.stem: path for path in sorted((SHIPPED / "studies").glob("*.toml"))}


def read_study(name: str | Path, changes: dict[str, Any] | None = None) -> tuple[StudyFile, Source]:
    """Read the file of a study.

    Args:
        name: a TOML file, or the name of a shipped study.
        changes: values that take the place of the file's, by key; those of "vary" and "budget" are added to them.

    Raises:
        RecipeError: no such file, bad TOML, an unknown key, a wrong type or a value out of range.
    """
    known = shipped_studies()
    path = known.get(str(name), Path(name).expanduser())
    if not path.is_file():
        hint = f"{suggest(str(name), known)} Or give a .toml file, or pictures and --vary."
        raise RecipeError(f"There is no study '{name}'.", hint)
    source = Source(path, read_text(path))
    try:
        values = parse(source.text, str(path))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    own = study_of(values, source, validate=False)
    for key in ("recipe", "pictures"):  # paths are relative to the file
        beside = path.parent / str(own.get(key, ""))
        if isinstance(own.get(key), str) and beside.exists() and not (key == "recipe" and not beside.suffix):
            own[key] = str(beside.resolve())
    changes = from_here(changes or {})
    merged = own | changes
    for table in ("vary", "budget"):
        if isinstance(own.get(table), dict) and table in changes:
            merged[table] = own[table] | changes[table]
    if isinstance(own.get("set"), list) and "set" in changes:
        merged["set"] = own["set"] + changes["set"]
    return parse_study(merged, source), source


def from_here(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a command, with the file of its recipe from the root: the study goes on from anywhere."""
    recipe = Path(str(values.get("recipe", ""))).expanduser()
    return values | {"recipe": str(recipe.absolute())} if recipe.suffix and recipe.is_file() else values


def study_of(values: dict[str, Any], source: Source, validate: bool = True) -> Any:
    """Plain values with their factors by full name: `stages.0.lr = [...]` without quotes is a table of tables."""
    vary = values.get("vary")
    values = values | {"vary": _flat(vary)} if isinstance(vary, dict) else values
    baseline = values.get("baseline")
    values = values | {"baseline": _flat(baseline)} if isinstance(baseline, dict) else values
    return parse_study(values, source) if validate else dict(values)


def _flat(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        is_section = name.partition(".")[0] in _SECTIONS and isinstance(value, dict) and _has_keys(value, name)
        flat |= _flat(value, name) if is_section else {name: value}
    return flat


def _has_keys(table: dict[str, Any], name: str) -> bool:
    """Whether a table holds keys of the recipe's section of that name, rather than variants or a range."""
    if name in ("stages", "augment", "model.blocks", "model.members"):
        return all(key.isdecimal() for key in table)
    if name.rpartition(".")[2].isdecimal():
        return True
    section = _section(name)
    return section is not None and all(key in section.model_fields for key in table)


def _section(name: str) -> type[BaseModel] | None:
    section: type[BaseModel] = Recipe
    for part in name.split("."):
        field = section.model_fields.get(part)
        kind: Any = field.annotation if field else None
        if isinstance(kind, UnionType):
            kind = next((each for each in get_args(kind) if isinstance(each, type)), None)
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return None
        section = kind
    return section


def parse_study(values: dict[str, Any], source: Source) -> StudyFile:
    """Plain values → study.

    Raises:
        RecipeError: they are none; with file and line, or the option.
    """
    try:
        return StudyFile.model_validate(values)
    except ValidationError as error:
        raise RecipeError(*_explain(error, values, source)) from None


def _explain(error: ValidationError, values: dict[str, Any], source: Source) -> tuple[str, str]:
    """Message and hint for the first mistake; of several kinds of value that a key may have, for the one meant."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    first = next((each for each in errors if each["type"] in ("factor", "seeds")), first)
    where = _keys_of(first["loc"], values)
    at = source.at(*map(str, where)) if where else str(source.path or "The study")
    key = ".".join(map(str, where))[:_CUT]
    if first["type"] == "missing" and where == ["vary"]:
        return f"{source.path or 'The study'}: it has no [vary], so there is nothing to compare.", _HINT
    if first["type"] == "extra_forbidden":
        section = _names_beside(where)
        return f"{at}: unknown key '{key}'.", suggest(str(where[-1]), section)
    subject = f"'{key}': " if key else ""
    value = "" if isinstance(first["input"], dict | StudyFile) else f" (it is {repr(first['input'])[:_CUT]})"
    return f"{at}: {subject}{first['msg']}{value}.", _HINT


def _keys_of(location: Sequence[str | int], values: Any) -> list[str | int]:
    """The keys of a location that the values have; a union's member that pydantic names is no key."""
    where: list[str | int] = []
    for part in location:
        if isinstance(values, dict) and (part in values or not where):
            where.append(part)
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            where.append(part)
            values = values[part]
    return where


def _names_beside(where: Sequence[str | int]) -> list[str]:
    """The keys that may stand where an unknown one does."""
    if len(where) > 1 and where[0] == "vary":
        return ["levels", "variants", "from", "to", "log", "integer", "n", "keys", "when"]
    if len(where) > 1:
        return {"budget": ["trials", "minutes"], "seeds": ["from", "to"]}.get(str(where[0]), [])
    return list(StudyFile.model_fields)


def read_vary(text: str) -> tuple[str, Any]:
    """One `--vary` of the command line: "key=8,64,256", a TOML list or range, or "key=1e-5..1e-2" (by logarithm).

    Raises:
        RecipeError: it cannot be read so.
    """
    key, equals, written = text.partition("=")
    key, written = key.strip(), written.strip()
    if not key or not equals or not written:
        raise RecipeError(
            f"--vary {text[:_CUT]}: expected key=value,value.", "For example: --vary stages.0.batch_size=8,64,256"
        )
    if ends := re.fullmatch(r"([-+.\deE]+)\.\.([-+.\deE]+)", written):
        try:
            low, high = float(ends[1]), float(ends[2])
        except ValueError:
            raise RecipeError(f"--vary {text[:_CUT]}: a range has two numbers.", "For example 1e-5..1e-2") from None
        return key, {"from": low, "to": high, "log": low > 0}
    parts = _split(written)
    if len(parts) == 1 and written[0] in "[{":
        return key, _value(written, text)
    return key, [_value(part.strip(), text) for part in parts]


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        depth += 0 if quote else (sign in "[{") - (sign in "]}")
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _value(written: str, text: str) -> Any:
    try:
        return parse(f"value = {written}", f"--vary {text[:_CUT]}")["value"]
    except tomllib.TOMLDecodeError:
        if written[:1] in ("[", "{"):
            raise RecipeError(f"--vary {text[:_CUT]}: this is no TOML.", "For example [8, 64], or 8,64") from None
        return written
