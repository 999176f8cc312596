"""Values as a notebook shows them: title, table, notes. Plain HTML, which follows the notebook's own colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tellapart.core.text import visible

_MOST = 40  # rows that are shown


def html_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A table with a title and notes as HTML; texts are cleaned and escaped, and long tables cut off with a line."""
    head = "".join(f"<th style='text-align:left'>{_text(name)}</th>" for name in header)
    lines = ["".join(f"<td style='text-align:left'>{_text(cell)}</td>" for cell in row) for row in rows[:_MOST]]
    more = [f"… and {len(rows) - _MOST:,} more"] if len(rows) > _MOST else []
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    said = "".join(f"<p>{_text(note)}</p>" for note in (*more, *notes) if note)
    return f"<div><strong>{_text(title)}</strong>{table}{said}</div>"


def _text(text: str) -> str:
    return escape(visible(text))
