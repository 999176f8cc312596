"""Findings on labels: class names that are alike, small and unequal classes, pictures without a label."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np

from tellapart.auditing.findings import Finding
from tellapart.core.text import counted
from tellapart.data.catalog import Catalog

#: Fewest pictures of a class to learn from and to evaluate on.
_FEW = 10
_UNEQUAL = 10.0
_MOST = 200  # classes whose co-occurrence is counted


def label_findings(catalog: Catalog) -> list[Finding]:
    """Everything odd about the classes."""
    rows = catalog.readable
    findings = [*_alike(catalog.classes)]
    target = catalog.target(rows)
    if catalog.multilabel:
        counts = target.sum(axis=0, dtype=np.int64)
        unknown = catalog.unknown(rows)
        none = ~(target.any(axis=1) if unknown is None else target.any(axis=1) | unknown.any(axis=1))
        findings += [Finding("no-labels", "none of the labels", int(row)) for row in rows[none]]
    else:
        counts = np.bincount(target[target >= 0], minlength=len(catalog.classes))
        findings += [Finding("unlabelled", "no label", int(row)) for row in rows[target < 0]] if catalog.classes else []
    for name, n in zip(catalog.classes, counts.tolist(), strict=True):
        if n < _FEW:
            findings.append(Finding("small-class", f"“{name}” has {counted(n, 'picture')} that can be read"))
    present = counts[counts > 0]
    if len(present) > 1 and present.max() > _UNEQUAL * present.min():
        most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
        findings.append(
            Finding(
                "imbalance",
                f"“{catalog.classes[most]}” has {counted(int(counts[most]), 'picture')},"
                f" “{catalog.classes[least]}” {int(counts[least]):,}",
            )
        )
    return findings


def _alike(classes: tuple[str, ...]) -> list[Finding]:
    """Names that people would take for one name."""
    same: dict[str, list[str]] = {}
    for name in classes:
        folded = unicodedata.normalize("NFKC", name).casefold()
        same.setdefault(re.sub(r"[\s_\-]+", "", folded) or folded, []).append(name)
    return [
        Finding("alike-names", " and ".join(f"“{name}”" for name in names)) for names in same.values() if len(names) > 1
    ]


def label_facts(catalog: Catalog) -> dict[str, Any]:
    """Counts of labels; with several labels also how many a picture has and which come together."""
    facts: dict[str, Any] = {"multilabel": catalog.multilabel, "classes": catalog.counts()}
    if catalog.multilabel and len(catalog):
        target = catalog.target().astype(np.int64)
        a_picture = np.bincount(target.sum(axis=1))
        facts["labels_a_picture"] = {str(k): int(n) for k, n in enumerate(a_picture) if n}
        if len(catalog.classes) <= _MOST:
            facts["together"] = (target.T @ target).tolist()
    return facts
