"""What planning remembers in the cache: timings of networks, and whole plans, so that a command repeats its plan."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tellapart.core.cache import read_note, versions, write_note
from tellapart.core.files import cache_folder
from tellapart.core.hardware import n_processors
from tellapart.training.runtime import machine

#: Notes beyond so many are removed, the oldest first.
_MOST = 500


def note_file(kind: str, about: Mapping[str, Any]) -> Path:
    """The file of a note: by all that it depends on, this machine and the versions too.

    Args:
        kind: of the note, such as "timing".
        about: plain values.
    """
    here = {"torch": torch.__version__, "threads": torch.get_num_threads(), "processors": n_processors(), **machine()}
    full = {"kind": kind, **about, **here, "versions": versions()}
    name = hashlib.sha256(json.dumps(full, sort_keys=True, default=str).encode()).hexdigest()[:24]
    return cache_folder("plans") / f"{kind}-{name}.json"


def recall(file: Path) -> dict[str, Any] | None:
    """What a note says; None where there is none, or it is damaged: then it is measured again."""
    return read_note(file)


def remember(file: Path, values: dict[str, Any]) -> None:
    """Write a note. A memory that cannot be written costs time, not the training."""
    with contextlib.suppress(OSError):
        write_note(file, values)
        notes = sorted(file.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in notes[:-_MOST]:
            path.unlink(missing_ok=True)
