"""Warnings about a split: what in it flatters a score, or leaves a class or a picture out."""

from __future__ import annotations

import numpy as np

from tellapart.core.text import first_few
from tellapart.data.catalog import PARTS, Catalog
from tellapart.data.splitting.split import PURPOSES, VALIDATION_IS_TEST, Split, labels_of, leaks, left_out


def split_warnings(catalog: Catalog, split: Split) -> list[str]:
    """Sentences that must not stay unread before a training: leaks first, then what is missing.

    They follow from catalog and split alone, so they are the same for a split that was made by hand, or long ago.
    """
    parts = {part: getattr(split, part) for part in PARTS}
    warnings = leaks(catalog, parts)
    n_classes = len(catalog.classes)
    classes = {part: set(labels_of(catalog, rows)) for part, rows in parts.items()}
    for part in PARTS:
        # A class that training lacks is not named once more for the validation part, which is drawn from training.
        known = set(range(n_classes)) if part != "validation" else classes["train"]
        absent = sorted(known - classes[part]) if len(parts[part]) else []
        if absent:
            warnings.append(f"Without a picture for {PURPOSES[part]}: {first_few(catalog.classes[i] for i in absent)}.")
    if len(split.test) and (catalog.table["split"].gather(split.test) == "validation").any():
        warnings.append(VALIDATION_IS_TEST)
    usable = np.intersect1d(catalog.readable, catalog.labelled)
    return warnings + left_out(catalog, usable)
