"""What a layout says of a folder, for several test files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tellapart.data.labels.layout import Layout, find_layout
from tellapart.errors import DataError

Draw = Callable[..., Path]


def layout_of(root: Path, **options: object) -> Layout:
    return find_layout(root, **options)  # type: ignore[arg-type]


def labels(layout: Layout) -> dict[str, list[str]]:
    rows = layout.table.select("path", "labels").iter_rows()
    return {path: [layout.classes[i] for i in numbers] for path, numbers in rows}


def unknown(layout: Layout) -> dict[str, list[str]]:
    rows = layout.table.select("path", "unknown").iter_rows()
    return {path: [layout.classes[i] for i in numbers] for path, numbers in rows}


def column(layout: Layout, name: str) -> dict[str, str | None]:
    return dict(layout.table.select("path", name).iter_rows())


def refused(root: Path, kind: type[Exception] = DataError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        layout_of(root, **options)
    return str(caught.value)
