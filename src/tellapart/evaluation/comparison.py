"""The values of a comparison: contenders, their scores, and the differences between them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Predictions, Temperature
from tellapart.evaluation import metrics
from tellapart.evaluation.metrics import Array

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Answered:
    """One network's answers to the pictures.

    Attributes:
        predictions: of pictures with a label; the same pictures in the same order for all that are compared.
        temperature, thresholds: as in `metrics.answers`.
    """

    predictions: Predictions
    temperature: Temperature = 1.0
    thresholds: npt.ArrayLike | None = None

    @property
    def answers(self) -> Array:
        return metrics.answers(self.predictions, self.temperature, self.thresholds)

    def in_order(self, classes: tuple[str, ...]) -> Answered:
        """The same answers with the classes in another order."""
        p, limits, temperature = self.predictions, self.thresholds, self.temperature
        columns = [p.classes.index(name) for name in classes]
        positions = np.argsort(columns)  # of each class, its number in the new order
        target = p.target[:, columns] if p.multilabel else np.where(p.target >= 0, positions[p.target], -1)
        unknown = None if p.unknown is None else p.unknown[:, columns]
        return Answered(
            replace(p, logits=p.logits[:, columns], target=target, classes=classes, unknown=unknown),
            tuple(temperature[c] for c in columns) if isinstance(temperature, tuple) else temperature,
            None if limits is None else np.asarray(limits)[columns],
        )


@dataclass(frozen=True)
class Contender:
    """What is compared: a recipe, as one or several trainings that differ in their seed only."""

    name: str
    seeds: tuple[Answered, ...]


@dataclass(frozen=True)
class Standing:
    """The scores of a contender.

    Attributes:
        scores: one a seed. value: their mean. deviation: their standard deviation; None for a single one.
        others: every other score, by name: the mean over seeds.
    """

    name: str
    scores: tuple[float, ...]
    value: float
    deviation: float | None
    others: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """Two contenders held against each other.

    Attributes:
        first, second: positions of the two.
        value: score of the second less that of the first; low, high: its 95 % interval.
        p: how often chance alone would make so large a difference. p_corrected: the same, corrected for looking at
            several differences at once (Holm).
        verdict: on the second. "cannot tell" where `p_corrected` is not below 0.05.
        discordant: pictures that only the first, only the second answers rightly (with several labels: every label);
            None where one of them is more than one training.
        test: how p was found.
        needed: about how many pictures would be needed to tell, if the true difference is the one seen; infinite
            where no number would do.
        smallest: the difference that so many pictures (and seeds) show 80 times in 100.
        seed_share: share of the variance that comes from seeds; None where nothing is known of them.
    """

    first: int
    second: int
    value: float
    low: float
    high: float
    p: float
    p_corrected: float
    verdict: Verdict
    discordant: tuple[int, int] | None
    test: str
    needed: float
    smallest: float
    seed_share: float | None


@dataclass(frozen=True)
class Comparison:
    """Contenders on the same pictures.

    Attributes:
        metric: the score compared. n: number of pictures. multilabel: whether they may have several labels.
        standings: one a contender, as given.
        differences: one a pair, the first contender's pairs first.
        notes: sentences that must be seen with it.
    """

    metric: str
    n: int
    multilabel: bool
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    @property
    def lower_is_better(self) -> bool:
        return self.metric == "log_loss"

    @property
    def best(self) -> int:
        """Position of the contender with the best score; the first of equals."""
        sign = -1 if self.lower_is_better else 1
        return max(range(len(self.standings)), key=lambda i: sign * self.standings[i].value)

    @property
    def leading(self) -> list[int]:
        """Positions of the best contender and of those that cannot be told from it, ascending."""
        pairs = {frozenset((pair.first, pair.second)): pair for pair in self.differences}
        return [
            i
            for i in range(len(self.standings))
            if i == self.best or pairs[frozenset((i, self.best))].verdict == "cannot tell"
        ]

    @property
    def seeds_known(self) -> bool:
        """Whether some recipe was trained more than once."""
        return any(standing.deviation is not None for standing in self.standings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; None where no number of pictures would do."""
        values = asdict(self)
        for difference in values["differences"]:
            difference["needed"] = None if math.isinf(difference["needed"]) else difference["needed"]
        return values
