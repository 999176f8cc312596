"""How many held-out pictures are of one scene with training pictures: why a validation score may be flattered."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from tellapart.auditing.audit import measure
from tellapart.auditing.scenes import find_scenes
from tellapart.core.events import Computing
from tellapart.core.text import counted
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import PURPOSES, Split


def scene_leaks(catalog: Catalog, split: Split) -> Generator[Computing, None, dict[str, int]]:
    """By part, "validation" and "test": its pictures that are of one scene with a training picture."""
    scenes = yield from find_scenes(catalog, (yield from measure(catalog)))
    training = np.zeros(len(catalog), bool)
    training[split.train] = True
    beside = np.concatenate([scenes.first[training[scenes.second]], scenes.second[training[scenes.first]]])
    return {part: int(np.isin(getattr(split, part), beside).sum()) for part in ("validation", "test")}


def scene_sentences(leaks: dict[str, int], split: Split) -> list[str]:
    """A sentence a part that has such pictures."""
    return [
        f"{n:,} of {counted(len(getattr(split, part)), 'picture')} for {PURPOSES[part]} are of one scene with training "
        "pictures, which flatters the score on them. --group-duplicates keeps scenes on one side of the split."
        for part, n in leaks.items()
        if n
    ]
