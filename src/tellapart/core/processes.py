"""Whether this process is one of several that train together, as torchrun says in the environment."""

from __future__ import annotations

import os

_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Whether a launcher such as torchrun has started this process as one of a group."""
    return all(name in os.environ for name in _NAMES)


def rank() -> int:
    """This process's number in its group, from 0; 0 too where there is no group."""
    return int(os.environ["RANK"]) if launched() else 0
