"""Pictures divided into folds, each of which is the test once: how small sets are evaluated."""

from __future__ import annotations

import numpy as np

from tellapart.data.catalog import Catalog
from tellapart.data.divide import divide
from tellapart.data.split import Split, draw, leaks, left_out, ties_of, usable
from tellapart.errors import SplitError, UsageError


def kfold(catalog: Catalog, n_folds: int = 5, *, validation: float = 0.15, seed: int = 0) -> list[Split]:
    """Divide pictures into folds with equal shares of every class; in split i, fold i is the test.

    Pictures of one group, and exact copies, lie in one fold. What is not the test is divided into training and
    validation anew for each split. Pictures that the data give as test ones stay aside, in no part: they are for a
    last judgement. Other given parts are not kept.

    Args:
        catalog: the pictures.
        n_folds: at least 2.
        validation: share for validation, above 0 and below 1, of the pictures that are not the test.
        seed: the same seed and catalog give the same folds.

    Raises:
        SplitError: no labels, or a class with fewer pictures than folds, or too few to train and validate on.
        UsageError: fewer than two folds, or a share that makes no sense.
    """
    if n_folds < 2 or not 0 < validation < 1:
        raise UsageError(
            f"{n_folds} folds with validation={validation} cannot be made.",
            "At least two folds, and a share for validation above 0 and below 1.",
        )
    rows = usable(catalog)
    given = catalog.table["split"].gather(rows)
    aside = (given == "test").fill_null(False).to_numpy()
    notes = left_out(catalog, rows)
    if aside.any():
        notes.append(f"Left aside: {int(aside.sum()):,} given as test pictures.")
    rows = rows[~aside]
    names = [f"fold {number}" for number in range(2, n_folds + 1)]
    try:
        parts = divide(ties_of(catalog, rows), dict.fromkeys(names, 1 / n_folds), seed)
    except SplitError as error:
        hint = f"Use fewer than {n_folds} folds, add pictures, or leave the class out."
        raise SplitError(error.message, hint) from None
    folds = [rows[parts[name]] for name in ("train", *names)]
    splits = []
    for number, test in enumerate(folds):
        others = np.sort(np.concatenate([fold for i, fold in enumerate(folds) if i != number]))
        rest, how = draw(catalog, others, {"validation": validation}, seed + number)
        divided = {"train": np.sort(rest["train"]), "validation": np.sort(rest["validation"]), "test": np.sort(test)}
        text = " ".join([f"Fold {number + 1} of {n_folds} is the test.", *how, *leaks(catalog, divided), *notes])
        splits.append(Split(**divided, digest=catalog.digest, seed=seed, how=text))
    return splits
