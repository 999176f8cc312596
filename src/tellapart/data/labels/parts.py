"""Names of the parts of a data set: train, validation and test in the spellings that people use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

_PARTS = {
    **dict.fromkeys(("train", "training", "trn", "entrainement", "apprentissage"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development", "eval", "validierung"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "evaluation", "holdout"), "test"),
}
#: Words beside the part's own that leave `train_images`, `test set` or `val2017` the name of a part.
_FILLERS = (
    *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "jpg", "jpeg", "png"),
    *("data", "dataset", "set", "split", "sample", "samples", "folder", "dir", "part"),
)
_GLUED = re.compile(f"({'|'.join(sorted(_PARTS, key=len, reverse=True))})({'|'.join(_FILLERS)})s?")


def part_of(name: str) -> str | None:
    """The part that a name of a folder, or a cell, stands for: "train", "validation", "test", or None.

    `train`, `train_images`, `Training Set`, `valset` and `val2017` are names of parts; `train_station` and `test_tube`
    are not: only words for pictures and data, and numbers, may stand beside the part's own.
    """
    words = [word for word in _words(name) if not word.isdecimal()]
    glued = [match for word in words if (match := _GLUED.fullmatch(word))]
    own = [_PARTS[word] for word in words if word in _PARTS] + [_PARTS[match[1]] for match in glued]
    n_fillers = sum(word in _FILLERS for word in words)
    return own[0] if len(own) == 1 and n_fillers + 1 == len(words) else None


def part_of_file(stem: str) -> str | None:
    """The part that a table is named after, as train.csv, trainLabels.csv and val_list.txt are; other words may be."""
    words = _words(stem)
    own = [_PARTS[word] for word in words if word in _PARTS]
    own += [_PARTS[match[1]] for word in words if (match := _GLUED.fullmatch(word))]
    return own[0] if own else None


def parts_in(names: Collection[str]) -> dict[str, str]:
    """Name → part, of those names that stand for one.

    Where no name does, names with the same other words, for train and for another part, do: `seg_train`, `seg_test`.
    """
    parts = {name: part for name in names if (part := part_of(name))}
    if parts:
        return parts
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = _words(name)
        own = [word for word in words if word in _PARTS]
        if len(own) == 1:
            others = tuple(word for word in words if word not in _PARTS)
            alike.setdefault(others, {})[name] = _PARTS[own[0]]
    several = [named for named in alike.values() if {"train"} < set(named.values())]
    return several[0] if len(several) == 1 else {}


def _words(name: str) -> list[str]:
    """Words in lower case without accents: `trainLabels` and `train-labels` have two."""
    plain = "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\d_a-zA-Z]+", plain)]
