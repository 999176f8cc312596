"""Lines of CSV that any reader takes back as they were, whatever is in the fields."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV (RFC 4180), each line ended by a line feed."""
    return "".join(map(_line, rows))


def _line(fields: Sequence[object]) -> str:
    # With a line end of "\n", the writer would leave a lone carriage return without quotes, and readers stop there.
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(fields)
    return text.getvalue()[:-2] + "\n"
