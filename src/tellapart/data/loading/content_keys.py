"""Cache keys by content: a picture's key is what it is, not where it lies."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.array_store import KEY, Keys
from tellapart.data.catalog import Catalog

Rows = npt.NDArray[np.int64]
_CHUNK = 100_000


def content_keys(catalog: Catalog, rows: Rows) -> Keys:
    """The first half of each file's SHA-256: equal for equal files, wherever they lie."""
    column = catalog.table["sha256"].bin.slice(0, KEY.itemsize)
    parts = [b"".join(column.gather(rows[start : start + _CHUNK])) for start in range(0, len(rows), _CHUNK)]
    return np.frombuffer(b"".join(parts), KEY)


def marked(keys: Keys, *marks: Any) -> Keys:
    """Keys of something made of the same pictures; `marks` (one, or one a picture) describe what."""
    tags = b"".join(hashlib.blake2b(json.dumps(mark).encode(), digest_size=KEY.itemsize).digest() for mark in marks)
    words = np.frombuffer(tags, np.uint64).reshape(-1, 2)
    return (keys.view(np.uint64).reshape(-1, 2) ^ words).reshape(-1).view(KEY)
