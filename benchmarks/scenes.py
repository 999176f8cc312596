"""Pictures of one scene in real sets: how many the audit ties, what of that is false, and what a leak of them is worth.

False ties are counted in two ways. Pairs between the given parts of groceries, which were photographed in other shops
or on other days, are false. Sets in which each picture comes from elsewhere (fruit, breeds, animals) have few scenes,
so their ties are upper limits; a contact sheet of them is written for looking (--sheet).

What a leak is worth: the nearest training picture by features names the held-out one, for pictures held out at random,
for whole groups held out, and for the part that the data give as the test.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.scenes --sets grocery breeds animals fruit:600
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import record
from tellapart.auditing.scenes import Scenes, find_scenes, scene_groups
from tellapart.core.vectors import unit_length
from tellapart.data.catalog import Catalog
from tellapart.data.decoding.decode import decode
from tellapart.workflows.audit import _features, measured_scan
from tellapart.workflows.progress import ProgressSink

_SHOWN, _SIDE = 48, 98


def features_of(catalog: Catalog, model: str, store: Path | None) -> np.ndarray:
    """Features of a set, from the store if they are there: they take minutes."""
    path = None if store is None else store / f"{catalog.root.name}-{len(catalog)}-{model}.npy"
    if path is not None and path.is_file():
        return np.load(path)
    features = _features(catalog, model, ProgressSink())
    if path is not None:
        np.save(path, features)
    return features


def ties(catalog: Catalog, scenes: Scenes) -> dict[str, Any]:
    """Numbers of pairs, of those between given parts, of tied pictures."""
    part = catalog.table["split"].fill_null("").to_numpy()
    groups, untied = scene_groups(catalog, np.arange(len(catalog)), scenes)
    sizes = np.bincount(groups)
    return {
        "n_pairs": len(scenes.first),
        "n_pairs_between_parts": int((part[scenes.first] != part[scenes.second]).sum()),
        "share_tied": round(float(sizes[sizes > 1].sum() / len(catalog)), 4),
        "largest_group": int(sizes.max()),
        "n_classes_left_untied": len(untied),
    }


def nearest_neighbour(catalog: Catalog, features: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Accuracy of the nearest training picture: a picture left out, its group left out, and the given other part."""
    part = catalog.table["split"].to_numpy()
    train, other = np.flatnonzero(part == "train"), np.flatnonzero(part != "train")
    label, unit = catalog.target(), unit_length(features)
    cosine = unit[train] @ unit[train].T
    np.fill_diagonal(cosine, -np.inf)
    apart = np.where(groups[train, None] == groups[None, train], -np.inf, cosine)
    answers = {
        "left_out_one_by_one": (label[train][cosine.argmax(axis=1)], label[train]),
        "left_out_by_group": (label[train][apart.argmax(axis=1)], label[train]),
        "given_other_part": (label[train][(unit[other] @ unit[train].T).argmax(axis=1)], label[other]),
    }
    return {name: round(float((answer == truth).mean()), 4) for name, (answer, truth) in answers.items()}


def sheet(catalog: Catalog, scenes: Scenes, path: Path) -> None:
    """Write pairs, drawn at random, side by side."""
    drawn = np.random.default_rng(0).permutation(len(scenes.first))[:_SHOWN]
    whole = Image.new("RGB", (16 * (_SIDE + 2), 14 * (_SIDE + 2) // 2), "white")
    for i, pair in enumerate(drawn.tolist()):
        for j, row in enumerate((scenes.first[pair], scenes.second[pair])):
            picture = Image.fromarray(decode(catalog.path(row), _SIDE)).resize((_SIDE, _SIDE))
            whole.paste(picture, ((i % 8) * 2 * (_SIDE + 2) + j * _SIDE, i // 8 * (_SIDE + 10)))
    whole.save(path)


def main() -> None:
    """Measure the sets that are asked for, and record them."""
    parser = argparse.ArgumentParser()
    sets = ["grocery", "breeds", "animals", "fruit"]
    parser.add_argument("--sets", nargs="+", default=sets, help="fruit:600 takes so many pictures, drawn at random")
    parser.add_argument("--model", default="tf_mobilenetv3_small_100")
    parser.add_argument("--store", type=Path, help="folder for features")
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets of what is tied")
    options = parser.parse_args()
    figures: dict[str, Any] = {"model": options.model}
    progress = ProgressSink()
    for wanted in options.sets:
        name, _, most = wanted.partition(":")
        catalog, measured = measured_scan(Path(os.environ["TELLAPART_TEST_DATA"]) / name, progress)
        if most:
            drawn = np.random.default_rng(0).permutation(len(catalog))[: int(most)]
            measured = measured.take(np.sort(drawn))
            catalog = catalog.without(np.setdiff1d(np.arange(len(catalog)), drawn))
        features = features_of(catalog, options.model, options.store)
        plain = progress.watch(find_scenes(catalog, measured))
        scenes = progress.watch(find_scenes(catalog, measured, features))
        figures[name] = {"n": len(catalog), "by_looks": ties(catalog, plain), "by_features": ties(catalog, scenes)}
        if catalog.table["split"].n_unique() > 1:
            groups, _ = scene_groups(catalog, np.arange(len(catalog)), scenes)
            figures[name]["nearest_neighbour"] = nearest_neighbour(catalog, features, groups)
        if options.sheet:
            sheet(catalog, scenes, options.sheet / f"{name}.png")
    record.write("scenes", figures)


if __name__ == "__main__":
    main()
