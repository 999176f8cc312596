"""Classes of pictures that a model does not know, and those that it knows which they are likely to be."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tellapart.core.text import first_few
from tellapart.core.unicode_names import composed

_SHOWN = 3  # unknown classes that an error names


def unknown_classes(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names that are none of the known ones, under NFC."""
    all_known = set(map(composed, known))
    return [name for name in names if composed(name) not in all_known]


def likeliest(name: str, known: Sequence[str]) -> str | None:
    """The known class that a name is likely to mean: the same last levels, or nearly the same letters; None for none.

    `Vegetables/Brown-Cap-Mushroom` is likely `Vegetables/Mushroom/Brown-Cap-Mushroom`.
    """
    spelled = {_plain(other): other for other in reversed(known)}
    if _plain(name) in spelled:
        return spelled[_plain(name)]
    last = [other for other in known if _plain(other.rpartition("/")[2]) == _plain(name.rpartition("/")[2])]
    if len(last) == 1:
        return last[0]
    near = difflib.get_close_matches(_plain(name), [_plain(other) for other in last or known], n=1, cutoff=0.7)
    return spelled[near[0]] if near else None


def describe_unknown(unknown: Sequence[str], known: Sequence[str]) -> str:
    """The unknown classes in words, each with its likeliest match."""
    matches = [(name, likeliest(name, known)) for name in unknown]
    return first_few([f"{name!r} (likely {match!r})" if match else repr(name) for name, match in matches], _SHOWN)


def _plain(name: str) -> str:
    return "".join(c for c in composed(name).casefold() if c.isalnum() or c == "/")
