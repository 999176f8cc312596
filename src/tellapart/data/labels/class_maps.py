"""Names of classes whose labels are keys: numbers, or WordNet's synsets such as n01440764."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tellapart.core.plain_json import MOST, read_json_file
from tellapart.data.decoding.decode import EXTENSIONS
from tellapart.data.labels.tables import read_table
from tellapart.errors import DataError

SUFFIXES = (".txt", ".json", ".csv", ".tsv")
_SYNSET = re.compile(r"n[0-9]{8}")
#: A line of `words.txt`, `LOC_synset_mapping.txt`, or `map_clsloc.txt`, which has a number between key and name.
_LINE = re.compile(r"(n[0-9]{8})[\s:,;]+(?:[0-9]+\s+)?(\S.*)")


def are_keys(labels: Collection[str]) -> bool:
    """Whether labels say nothing by themselves: all are numbers, or all are synsets."""
    return bool(labels) and (all(map(_is_number, labels)) or all(map(_SYNSET.fullmatch, labels)))


def find_maps(root: Path, files: Iterable[str], labels: Collection[str]) -> list[str]:
    """The files of the root that name all of these labels."""
    return [name for name in files if name.endswith(SUFFIXES) and names_of(root / name, labels) is not None]


def names_of(path: Path, labels: Collection[str]) -> dict[str, str] | None:
    """Label → name, in the order of the labels; None where the file does not name all of them.

    A JSON file maps keys to names (`{"1": "cat"}`, `{"0": ["n01440764", "tench"]}`) or names to numbers
    (`{"cat": 0}`). A text file has a synset and a name a line; a table, two columns. Of several names of one synset
    ("tench, Tinca tinca") the first is taken, where no other class has it too.
    """
    try:
        by_key = _pairs(path) if path.stat().st_size <= MOST else {}
    except (OSError, ValueError, DataError):
        return None
    keys = {label: _plain(label) for label in labels}
    if not all(key in by_key for key in keys.values()):
        return None
    whole = {label: by_key[key].strip() for label, key in keys.items()}
    short = {label: name.split(",")[0].strip() for label, name in whole.items()}
    n_short = Counter(short.values())
    names = {label: name if n_short[name] == 1 else whole[label] for label, name in short.items()}
    return names if len(set(names.values())) == len(names) and all(map(_is_name, names.values())) else None


def _pairs(path: Path) -> dict[str, str]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_json(read_json_file(path))
    if suffix == ".txt":
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        return {match[1]: match[2] for line in lines if (match := _LINE.fullmatch(line.strip()))}
    table = read_table(path)
    if len(table.columns) != 2 or not table.has_header:
        return {}
    keys, names = (table.column(name).str.strip_chars().to_list() for name in table.columns)
    return {_plain(key): name for key, name in zip(keys, names, strict=True) if key and name}


def _from_json(content: Any) -> dict[str, str]:
    if not isinstance(content, dict):
        return {}
    if content and all(isinstance(value, int) for value in content.values()):
        return {str(number): name for name, number in content.items()}
    pairs = {}
    for key, value in content.items():
        if isinstance(value, str):
            pairs[_plain(key)] = value
        elif isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value):
            pairs[_plain(key)] = pairs[value[0]] = value[1]
    return pairs


def _plain(label: str) -> str:
    return str(int(label)) if _is_number(label) else label


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,18}", text))


def _is_name(text: str) -> bool:
    """Whether a text names a class: files and numbers name pictures."""
    return bool(text) and not _is_number(text) and not text.lower().endswith(tuple(EXTENSIONS))
