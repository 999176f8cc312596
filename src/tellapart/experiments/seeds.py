"""The seeds of a cell's trainings: what differs from one to the next, and what is held."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tellapart.experiments.description import Description, SeedRange

ORDER = ("split", "init", "order")


@dataclass(frozen=True)
class Seed:
    """The seeds of one training; for one number, they are the same in all cells.

    Attributes:
        number: of the training in its cell, from 0.
        split: which pictures validate; 0 is the recipe's own division.
        init: the network's initial weights.
        order: of the pictures, with augmentation and dropout.
    """

    number: int
    split: int
    init: int
    order: int


def seeds_of(study: Description, base: int) -> Iterator[Seed]:
    """The seeds of a study's cells, without end, or all n × n … where they are nested.

    Args:
        study: its `vary_randomness` says which seeds differ; the others keep the recipe's own.
        base: seed of the recipe, from which they count.
    """
    if not study.nested:
        for number in itertools.count():
            yield _seed(number, study.vary_randomness, (number,) * len(study.vary_randomness), base)
    names = [name for name in ORDER if name in study.vary_randomness]
    assert isinstance(study.seeds, int)
    for number, chosen in enumerate(itertools.product(range(study.seeds), repeat=len(names))):
        # Nested: an order belongs to its initial weights, and these to their split, so none is used twice.
        own = [sum(c * study.seeds**place for place, c in enumerate(chosen[: i + 1])) for i in range(len(names))]
        yield _seed(number, names, own, base)


def _seed(number: int, names: Sequence[str], values: Sequence[int], base: int) -> Seed:
    seeds = dict(zip(names, values, strict=True))
    return Seed(number, seeds.get("split", 0), base + seeds.get("init", 0), base + seeds.get("order", 0))


def n_first(study: Description) -> int:
    """Number of trainings that every cell has, folds not counted."""
    if isinstance(study.seeds, SeedRange):
        return study.seeds.first
    names = [name for name in ORDER if name in study.vary_randomness]
    return int(study.seeds ** len(names)) if study.nested else study.seeds
