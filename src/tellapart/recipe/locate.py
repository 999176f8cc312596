"""The position of a mistake in a recipe, and the key that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_origin

from pydantic import ValidationError

from tellapart.core.suggest import suggest
from tellapart.recipe.schema import FoundLr, Recipe
from tellapart.recipe.transforms import Section
from tellapart.recipe.upgrade import Outdated, current_path, old_path


@dataclass(frozen=True)
class Source:
    """One file of a recipe: its text, its own values under the keys of today, and the keys of 0.1 in it."""

    path: Path
    text: str
    values: dict[str, Any]
    outdated: list[Outdated]

    def location(self, key: Sequence[str | int]) -> str:
        """The file and the line of a key; the file alone where it has no such key.

        Args:
            key: keys and numbers of entries, under the names of today or of 0.1.
        """
        path = tuple(map(str, key))
        line = line_of(self.text, path) or line_of(self.text, old_path(path))
        return f"{self.path}, line {line}" if line else str(self.path)


def explain(error: ValidationError, sources: list[Source], changes: list[str]) -> tuple[str, str]:
    """Message and hint for the first mistake.

    Args:
        error: of the recipe.
        sources: its files, the first one first.
        changes: "key=value" texts of the command line.
    """
    errors = error.errors()
    # A learning rate is a section or a plain value. A table with 'find' is meant as the section.
    of_section = [e for e in errors if FoundLr.__name__ in e["loc"]]
    is_section = of_section and all(e["type"] not in ("missing", "model_type") for e in of_section)
    first = of_section[0] if is_section else errors[0]
    where = [part for part in first["loc"] if not (isinstance(part, str) and "[" in part)]
    if first["type"] == "extra_forbidden" and "[" in str(first["loc"][-1]):  # the key itself has a bracket: "stages[0]"
        where.append(first["loc"][-1])
    # A union reports the member it tried last ("int", "literal…"): that is not a key of the recipe.
    section, where = _section_of(where)
    if first["type"] == "union_tag_invalid":
        where = [*where, first["ctx"]["discriminator"].strip("'")]
    key = _cut(".".join(map(str, where)))
    at = location(where, sources, changes)
    if first["type"] == "extra_forbidden":
        return f"{at}: unknown key '{key}'.", suggest(str(where[-1]), section.model_fields)
    if first["type"] == "union_tag_invalid":
        tag, names = first["ctx"]["tag"], re.findall(r"'([^']+)'", first["ctx"]["expected_tags"])
        return f"{at}: '{key}': there is no {where[-1]} '{_cut(tag)}'.", suggest(tag, names)
    if first["type"] == "union_tag_not_found":
        tag = first["ctx"]["discriminator"].strip("'")
        return f"{at}: '{key}' does not say which {tag} it is.", f'For example: {tag} = "{_EXAMPLES[tag]}"'
    # Keys that do not go together are reported for their table, which is too long to be repeated.
    value = "" if isinstance(first["input"], dict) else f" (it is {_cut(repr(first['input']))})"
    subject = f"'{key}': " if key else ""
    return (
        f"{at}: {subject}{first['msg']}{value}.",
        "tellapart recipes show NAME prints examples.",
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 200  # signs of a key or value in a message
_EXAMPLES = {"transform": "horizontal_flip", "block": "conv"}  # by the key that tells sections of a list apart


def location(where: Sequence[str | int], sources: list[Source], changes: list[str]) -> str:
    """The change, or the file and line, that sets a key: the last change that does, or else the first file."""
    key = ".".join(map(str, where)) + "."
    for change in reversed(changes):
        changed = ".".join(current_path(tuple(change.partition("=")[0].strip().split(".")))) + "."
        if key.startswith(changed) or changed.startswith(key):
            return f"--set {_cut(change)}"
    return next((source for source in sources if _holds(source.values, where)), sources[0]).location(where)


def _holds(values: Any, where: Sequence[str | int]) -> bool:
    """Whether a file sets a key. A list counts as a whole, since it replaces that of the parent."""
    for part in where:
        if isinstance(values, list):
            return True
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _section_of(where: list[Any]) -> tuple[type[Section], list[Any]]:
    """The section that holds the last key of a location, and the keys and numbers of the location."""
    section: type[Section] = Recipe
    inner: dict[str, type[Section]] = {}
    keys: list[Any] = []
    for part in where:
        if part in inner:  # the name that pydantic adds for one of several sections: no key
            section, inner = inner[part], {}
            continue
        if inner and not isinstance(part, int):  # the name that pydantic adds for a plain value: no key
            break
        keys.append(part)
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part)
        if field is None:
            break
        inner = _sections_in(field.annotation)
        if len(inner) == 1 and not _is_choice(field.annotation):
            section, inner = next(iter(inner.values())), {}
        elif not inner:
            break
    return section, keys


def _is_choice(annotation: Any) -> bool:
    """Whether a field holds one of several kinds of values; a section or nothing is no choice."""
    kinds = [kind for kind in getattr(annotation, "__args__", ()) if kind is not type(None)]
    return get_origin(annotation) in (Union, UnionType) and len(kinds) > 1


def _sections_in(annotation: Any) -> dict[str, type[Section]]:
    """The sections that a field may hold, by name, or by the value of a key such as `transform`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        tag = next((annotation.model_fields[key] for key in _EXAMPLES if key in annotation.model_fields), None)
        return {tag.default if tag else annotation.__name__: annotation}
    sections: dict[str, type[Section]] = {}
    for part in getattr(annotation, "__args__", ()):
        sections |= _sections_in(part)
    return sections


# Not a line of an array, such as `[{ transform = "negative" }]` or `[1, 2]`.
# The blanks around the name are part of it: patterns for blanks beside one that takes them too would be tried in every
# combination.
_HEADER = re.compile(r"^\s*(\[\[?)([^\[\]{},=]+)\]\]?\s*(#.*)?$")


def line_of(text: str, where: tuple[str, ...]) -> int | None:
    """The line of a key, by following the headers of tables; None where the text has no such key.

    Args:
        text: TOML.
        where: keys and numbers of entries, as text.
    """
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        header = _HEADER.match(line)
        if header:
            is_list = header[1] == "[["
            table = _table(header[2], is_list, counts)
            if table == where or (is_list and table[:-1] == where):
                return number
        else:
            key = line.split("=", 1)[0].strip()
            path = (*table, *(part.strip().strip("\"'") for part in key.split(".")))
            if "=" in line and path == where[: len(path)] and len(path) > len(table):
                return number
    return None


def _table(header: str, is_list: bool, counts: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """Path of the table that a header opens; `counts` holds the number of the last entry of each list of tables."""
    table: tuple[str, ...] = ()
    names = [part.strip().strip("\"'") for part in header.split(".")]
    for depth, name in enumerate(names, start=1):
        table = (*table, name)
        if is_list and depth == len(names):
            counts[table] = counts.get(table, -1) + 1
        if table in counts:
            table = (*table, str(counts[table]))
    return table
