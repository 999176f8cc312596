"""K-fold cross-validation for small sets: each fold is the test once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tellapart.data.catalog import Catalog
from tellapart.data.splitting.split import Split, draw, is_amount, leaks, left_out, ties_of, usable
from tellapart.data.splitting.stratify import Ties
from tellapart.errors import SplitError, UsageError


def kfold(catalog: Catalog, n_folds: int = 5, *, validation: float = 0.15, seed: int = 0) -> list[Split]:
    """Divide pictures into folds with equal shares of every class; in split i, fold i is the test.

    Pictures of one group, and exact copies, lie in one fold. What is not the test is divided into training and
    validation anew for each split. The data's own test pictures stay aside, in no part: they are for a last
    evaluation. The data's other parts do not count.

    Args:
        catalog: the pictures.
        n_folds: at least 2.
        validation: share for validation, above 0 and below 1, of the pictures that are not the test; or their number.
        seed: the same seed and catalog give the same folds.

    Raises:
        SplitError: no labels, or a class with too few pictures to train and validate on beside each fold.
        UsageError: fewer than two folds, or a share that makes no sense.
    """
    if n_folds < 2 or validation <= 0 or not is_amount(validation):
        raise UsageError(
            f"{n_folds} folds with {validation:g} for validation cannot be made.",
            "At least two folds, and a share for validation above 0 and below 1, or a number of pictures.",
        )
    rows = usable(catalog)
    own_parts = catalog.table["split"].gather(rows)
    aside = (own_parts == "test").fill_null(False).to_numpy()
    notes = left_out(catalog, rows)
    if aside.any():
        notes.append(f"Left aside: {int(aside.sum()):,} given as test pictures.")
    rows = rows[~aside]
    ties = ties_of(catalog, rows)
    fold_of = deal(ties, n_folds, seed)[ties.tie]
    folds = [rows[fold_of == number] for number in range(n_folds)]
    if not all(map(len, folds)):
        raise SplitError(
            f"{ties.n} pictures, counting exact copies and groups once, are too few for {n_folds} folds.",
            "Use fewer folds, or add pictures.",
        )
    splits = []
    for number, test in enumerate(folds):
        others = np.sort(np.concatenate([fold for i, fold in enumerate(folds) if i != number]))
        try:
            rest, methods = draw(catalog, others, {"validation": validation}, seed + number)
        except SplitError as error:
            raise SplitError(f"Fold {number + 1} of {n_folds}, the others: {error.message}", error.hint) from None
        divided = {"train": np.sort(rest["train"]), "validation": np.sort(rest["validation"]), "test": np.sort(test)}
        text = " ".join([f"Fold {number + 1} of {n_folds} is the test.", *methods, *leaks(catalog, divided), *notes])
        splits.append(Split(**divided, digest=catalog.digest, seed=seed, description=text))
    return splits


def deal(ties: Ties, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Give each tie to the fold that has fewest of its labels, then fewest pictures.

    Iterative stratification (Sechidis et al. 2011): ties whose rarest label is rare go first, of these the large ones,
    as they are the hardest to fit in. A label with fewer ties than there are folds is missing from some.

    Returns:
        int64 [n ties]: number of the fold.
    """
    tie, number = ties.labels()
    labels = np.zeros((ties.n, max(1, len(ties.classes))), np.int64)
    np.add.at(labels, (tie, number), 1)
    size = np.bincount(ties.tie, minlength=ties.n)
    frequency = labels.sum(axis=0)
    rarest = np.where(labels > 0, frequency, len(ties.tie) + 1).min(axis=1)
    shuffled = np.random.default_rng(seed).permutation(ties.n)
    order = shuffled[np.lexsort((-size[shuffled], rarest[shuffled]))]
    held, pictures = np.zeros((n_folds, labels.shape[1])), np.zeros(n_folds)
    fold_of = np.empty(ties.n, np.int64)
    for one in order:
        own = labels[one] > 0
        # A label weighs by its rarity, so that a frequent one does not decide where a rare one goes.
        crowd = (held[:, own] / frequency[own]).sum(axis=1) if own.any() else np.zeros(n_folds)
        fold = int(np.lexsort((pictures, np.round(crowd, 9)))[0])
        fold_of[one] = fold
        held[fold] += labels[one]
        pictures[fold] += size[one]
    return fold_of
