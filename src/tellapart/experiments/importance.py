"""How important is each factor? The share of the variance between cells that it makes.

*A whole grid*: exact functional analysis of variance. Each factor's share is the variance of its levels' means; two
together make what their cells' means add to that. All shares, with those of three and more, add up to 1.
*One thing at a time*: the same under the assumption that such a study makes, that effects add up.
*Else* (a search, or a grid with gaps): PED-ANOVA, which asks how differently the better tenth of the cells is spread
over a factor's levels than all; Optuna's implementation.

Sources: F. Hutter, H. Hoos, K. Leyton-Brown, An efficient approach for assessing hyperparameter importance, ICML
(2014); S. Watanabe, A. Bansal, F. Hutter, PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
subspaces, IJCAI (2023).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tellapart.core.extras import require
from tellapart.core.predictions import Floats
from tellapart.evaluation.study_summary import CellResult, Importance, StudySummary
from tellapart.experiments.description import Description, Factor
from tellapart.experiments.factor_effects import factor_effects, level_labels, number_of

EXACT = "exact, by the variance of the means over a whole grid (functional ANOVA)"
ADDITIVE = "the variance of the means of each factor's levels, as if effects added up (one thing was varied at a time)"
PED = "PED-ANOVA: how differently the best tenth of the cells is spread over a factor's levels"
#: Fewer cells than this say nothing about importance in a search.
_FEWEST = 10


def importance(summary: StudySummary, description: Description) -> tuple[list[Importance], str]:
    """Shares in 0..1, the largest first, and how they were computed; none where nothing varies."""
    cells = [one for one in summary.cells if one.n]
    if len(cells) < 3 or len(description.factors) < 2:
        return [], ""
    if description.design == "one-at-a-time":
        return _largest_first(_additive(summary, description)), ADDITIVE
    table = whole_grid(summary, description.factors)
    if table is not None:
        return _largest_first(exact([f.name for f in description.factors], table)), EXACT
    if len(cells) < _FEWEST:
        return [], ""
    return _largest_first(_ped_anova(cells, summary, description.factors)), PED


def _largest_first(shares: Mapping[str, float]) -> list[Importance]:
    named = [Importance(name, share) for name, share in shares.items() if math.isfinite(share)]
    return sorted(named, key=lambda one: -one.share)


def whole_grid(summary: StudySummary, factors: Sequence[Factor]) -> Floats | None:
    """Mean scores [n_levels of the first factor, n_levels of the second …]; None where a cell is missing."""
    labels = [{label: i for i, label in enumerate(level_labels(summary, factor))} for factor in factors]
    size = math.prod(len(positions) for positions in labels)
    cells = [one for one in summary.cells if one.n]
    if size > len(cells) or size < 2:
        return None
    table = np.full([len(positions) for positions in labels], np.nan)
    for one in cells:
        if all(factor.name in one.levels for factor in factors):
            at = tuple(p[one.levels[factor.name]] for p, factor in zip(labels, factors, strict=True))
            table[at] = one.score.value
    return table if np.isfinite(table).all() else None


def exact(names: Sequence[str], table: Floats) -> dict[str, float]:
    """Shares of the variance of a whole table: of each factor, and of every two beyond what each makes."""
    total = float(table.var())
    if total < 1e-24:
        return {}
    axes = range(table.ndim)
    mean = table.mean()
    alone = {i: table.mean(axis=tuple(a for a in axes if a != i)) - mean for i in axes}
    shares = {names[i]: float((alone[i] ** 2).mean()) / total for i in axes}
    for i, j in combinations(axes, 2):
        both = table.mean(axis=tuple(a for a in axes if a not in (i, j))) - mean
        beyond = both - alone[i][:, None] - alone[j][None, :]
        shares[f"{names[i]} × {names[j]}"] = float((beyond**2).mean()) / total
    return shares


def _additive(summary: StudySummary, description: Description) -> dict[str, float]:
    variances = {
        effect.factor: float(np.var([level.score.value for level in effect.levels]))
        for effect in factor_effects(summary, description)
    }
    total = sum(variances.values())
    return {name: variance / total for name, variance in variances.items()} if total > 1e-24 else {}


def _ped_anova(cells: Sequence[CellResult], summary: StudySummary, factors: Sequence[Factor]) -> dict[str, float]:
    """Optuna's PED-ANOVA on cells as trials. Factors that some cells do not have are left out."""
    optuna = require("optuna", "The importance of factors", "study")
    common = [f for f in factors if all(f.name in one.levels for one in cells)]
    spaces: dict[str, Any] = {}
    for factor in common:
        labels = level_labels(summary, factor)
        numbers = [number_of(label) for label in labels]
        low, high = min(numbers), max(numbers)
        if factor.kind == "range" and low < high and all(map(math.isfinite, numbers)):
            spaces[factor.name] = optuna.distributions.FloatDistribution(low, high, log=factor.log and low > 0)
        elif len(labels) > 1:
            spaces[factor.name] = optuna.distributions.CategoricalDistribution(labels)
    if not spaces:
        return {}
    direction = "minimize" if summary.lower_is_better else "maximize"
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction=direction)
        for one in cells:
            values = {name: _parameter(space, one.levels[name]) for name, space in spaces.items()}
            study.add_trial(optuna.trial.create_trial(params=values, distributions=spaces, value=one.score.value))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    finally:
        optuna.logging.set_verbosity(before)


def _parameter(space: Any, label: str) -> float | str:
    return number_of(label) if hasattr(space, "low") else label
