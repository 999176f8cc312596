"""The one way to say which name was meant, or which names there are."""

from __future__ import annotations

from collections.abc import Iterable

_MOST, _LONGEST = 20, 80  # names listed; signs compared


def suggest(written: str, names: Iterable[str]) -> str:
    """A hint where a name is not known: "Did you mean 'fast'?", or "Possible: fast, transfer." where none is like it.

    Args:
        written: what somebody wrote.
        names: those that there are; the first twenty are listed.
    """
    known = list(names)
    more = f", and {len(known) - _MOST:,} more" if len(known) > _MOST else ""
    return did_you_mean(written, known) or f"Possible: {', '.join(known[:_MOST])}{more}."


def did_you_mean(written: str, names: Iterable[str], n: int = 1) -> str:
    """The question alone, with the `n` likeliest names; "" where none is like what was written."""
    import difflib  # needed by errors alone

    close = [f"'{name}'" for name in difflib.get_close_matches(written[:_LONGEST], list(names), n=n)]
    return f"Did you mean {' or '.join(filter(None, [', '.join(close[:-1]), close[-1]]))}?" if close else ""
