"""Findings on pictures of one scene: on two sides of the split, or merely several of one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tellapart.auditing.findings import Finding
from tellapart.auditing.scenes import Scenes
from tellapart.data.splitting.split import PURPOSES

Ints = npt.NDArray[np.int64]
_RANK = {"train": 0, "": 1, "validation": 2, "test": 3}


def scene_findings(
    scenes: Scenes, copies: Ints, sides: npt.NDArray[np.str_] | None, left_out: npt.NDArray[np.bool_]
) -> list[Finding]:
    """One finding at most a row and kind: with the picture it is most like.

    Args:
        scenes: from `find_scenes`.
        copies: int64 [n], equal for copies and near duplicates, which have findings of their own.
        sides: [n], "train", "validation", "test" or "", or None where nothing is divided.
        left_out: bool [n], rows without findings.
    """
    findings: list[Finding] = []
    named: set[tuple[str, int]] = set()
    for i in np.argsort(-scenes.score, kind="stable").tolist():
        one, two = int(scenes.first[i]), int(scenes.second[i])
        if left_out[one] or left_out[two] or copies[one] == copies[two]:
            continue
        kind, detail = "scene", scenes.evidence[i]
        if sides is not None and sides[one] and sides[two] and sides[one] != sides[two]:
            one, two = sorted((one, two), key=lambda row: _RANK[str(sides[row])])
            sides_of = " and ".join(PURPOSES[str(sides[row])] for row in (one, two))
            kind, detail = "scene-leak", f"{detail}; for {sides_of}"
        if (kind, one) not in named:
            named.add((kind, one))
            findings.append(Finding(kind, detail, one, two, float(scenes.score[i])))
    return findings
