"""How well pictures of none of the known classes are told from those of the known ones, score by score.

TELLAPART_TEST_DATA=… TELLAPART_WEIGHTS=… python -m benchmarks.unknown [--model NAME] [--seeds N]

The pictures are the folders breeds/, fruit/ and grocery/. For each seed a quarter of the classes of a set is left out
of training (the near unknown); the others are divided into training, validation, test. A linear head is fitted on the
features of a pretrained network, as the first stage of the recipe `transfer` does. Then pictures of the known classes
(validation and test) are compared with far unknown ones: other sets, digits, noise. AUROC: the chance that an unknown
picture has a higher score than a known one. False accepts: share of unknown pictures accepted where 95 % of the known
validation pictures are. KnownClasses sets: breeds, and grocery, so that the choice of a score is not tuned to one set.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import record
from tellapart.core.predictions import Predictions
from tellapart.core.preprocess import preprocess
from tellapart.data.decoding.decode import read_picture
from tellapart.evaluation.calibrate import fit_temperatures
from tellapart.evaluation.fit_open_set import fit_known, fit_ood_score
from tellapart.evaluation.open_set import unit_length

_BATCH = 32
_EXTENSIONS = (".jpg", ".jpeg", ".png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=1200, help="pictures of a set at most")
    options = parser.parse_args()
    root = Path(os.environ["TELLAPART_TEST_DATA"])
    sets = {name: _pictures(root / name, options.most) for name in ("breeds", "fruit", "grocery")}
    features = dict(_features(options.model, sets))
    found = {}
    for known in ("breeds", "grocery"):
        labels = _labels(known, sets[known], root)
        far = {name: values for name, values in features.items() if name != known}
        seeds = [_one_seed(features[known], labels, far, seed) for seed in range(options.seeds)]
        found[known] = _summary(seeds)
        for score, values in found[known].items():
            print(known, score, {name: round(value["auroc"]["mean"], 3) for name, value in values.items()}, flush=True)
    counts = {name: len(values) for name, values in features.items()}
    figures = {"model": options.model, "seeds": options.seeds, "n_pictures": counts, "left_out": 0.25, "scores": found}
    record.write(f"unknown_{options.model}", figures)


def _pictures(folder: Path, most: int) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _EXTENSIONS)
    chosen = np.random.default_rng(0).permutation(len(paths))[:most]
    return [paths[i] for i in np.sort(chosen)]


def _labels(known: str, paths: list[Path], root: Path) -> np.ndarray:
    """Class numbers: the folder below the set's, for grocery the kind within its part. Small classes get -1."""
    depth = 1 if known == "breeds" else 3
    names = np.array(["/".join(path.relative_to(root / known).parts[:depth][-2:]) for path in paths])
    _, number, count = np.unique(names, return_inverse=True, return_counts=True)
    return np.where(count[number] >= 8, number, -1)


def _features(weights: str, sets: dict[str, list[Path]]) -> Iterator[tuple[str, np.ndarray]]:
    """What a pretrained network's backbone makes of each set, and of digits and noise."""
    import torch
    from sklearn.datasets import load_digits

    from tellapart.models.create import create_network
    from tellapart.recipe.schema import Data, Model
    from tellapart.training.fast.fuse_batchnorm import folded

    network = create_network(Model(name=weights), 2, Data())
    preprocessing = network.preprocessing
    fast = None

    def run(batch: np.ndarray) -> np.ndarray:
        nonlocal fast
        inputs = network.normalise(torch.from_numpy(batch))
        fast = fast or folded(network.backbone, inputs)
        with torch.inference_mode():
            return fast(inputs).numpy()

    with ThreadPoolExecutor(2) as pool:
        for name, paths in sets.items():
            parts = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
            yield (
                name,
                np.concatenate(
                    [run(np.stack(list(pool.map(lambda p: read_picture(p, preprocessing), b)))) for b in parts]
                ),
            )
    ink = np.round(load_digits().images[:100] * (255 / 16)).astype(np.uint8)
    digits = np.stack([preprocess(np.repeat(digit[:, :, None], 3, axis=2), preprocessing) for digit in ink])
    noise = np.random.default_rng(0).integers(0, 256, (100, preprocessing.height, preprocessing.width, 3), np.uint8)
    for name, pictures in (("digits", digits), ("noise", noise)):
        yield name, np.concatenate([run(pictures[start : start + _BATCH]) for start in range(0, 100, _BATCH)])


def _one_seed(
    features: np.ndarray, labels: np.ndarray, far: dict[str, np.ndarray], seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Score → unknown set → AUROC and false accepts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(seed)
    classes = random.permutation(np.unique(labels[labels >= 0]))
    left_out = classes[: len(classes) // 4]
    unknown = {"near": features[np.isin(labels, left_out)], **far}
    train, validation, test = _divide(labels, classes[len(left_out) :], random)
    names, target = np.unique(labels[train], return_inverse=True)
    scale = features[train].std(axis=0).mean() * np.sqrt(features.shape[1])
    head = LogisticRegression(C=10.0, max_iter=3000).fit(features[train] / scale, target)

    def logits(values: np.ndarray) -> np.ndarray:
        return head.decision_function(values / scale).astype(np.float32)

    known = fit_known(features[train], target, len(names))
    answers = Predictions.of(
        np.arange(len(validation)),
        logits(features[validation]),
        np.searchsorted(names, labels[validation]),
        tuple(map(str, names)),
    )
    temperature = fit_temperatures(answers)
    ood_score = fit_ood_score(answers, known.distance(features[validation]), temperature, 0.95)
    bank = unit_length(features[train])
    plain = _plain_mahalanobis(features[train], target)

    def scores(values: np.ndarray) -> dict[str, np.ndarray]:
        z = logits(values)
        certainty = Predictions.of(np.arange(len(z)), z, np.zeros(len(z)), answers.classes).probabilities(temperature)
        distance = known.distance(values)
        return {
            "distance and doubt": ood_score.of(distance, certainty.max(axis=1)),
            "distance (length 1)": distance,
            "distance (as they are)": plain(values),
            "doubt": 1 - certainty.max(axis=1),
            "energy": -np.log(np.exp(z.astype(float)).sum(axis=1)),
            "nearest neighbour": 1 - (unit_length(values) @ bank.T).max(axis=1),
        }

    seen, held = scores(features[validation]), scores(features[test])
    result: dict[str, dict[str, dict[str, float]]] = {name: {} for name in seen}
    for place, values in unknown.items():
        for name, strange in scores(values).items():
            inside = np.concatenate([seen[name], held[name]])
            mark = np.r_[np.zeros(len(inside)), np.ones(len(strange))]
            limit = np.quantile(seen[name], 0.95)
            result[name][place] = {
                "auroc": float(roc_auc_score(mark, np.r_[inside, strange])),
                "false_accepts": float((strange <= limit).mean()),
            }
    return result


def _divide(
    labels: np.ndarray, classes: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in classes:
        rows = random.permutation(np.flatnonzero(labels == label))
        first = round(0.7 * len(rows))
        second = first + max(1, (len(rows) - first) // 2)
        for part, some in zip(parts, (rows[:first], rows[first:second], rows[second:]), strict=True):
            part += some.tolist()
    return tuple(np.sort(part) for part in parts)  # type: ignore[return-value]


def _plain_mahalanobis(features: np.ndarray, target: np.ndarray):
    """Distance to the nearest class mean, features as they are, covariance shrunk (Ledoit, Wolf 2004)."""
    from sklearn.covariance import LedoitWolf

    means = np.stack([features[target == c].mean(axis=0) for c in np.unique(target)]).astype(float)
    inverse = LedoitWolf(assume_centered=True).fit(features - means[target]).precision_

    def distance(values: np.ndarray) -> np.ndarray:
        x = values.astype(float)
        whitened = x @ inverse
        squares = (whitened * x).sum(1)[:, None] - 2 * whitened @ means.T + ((means @ inverse) * means).sum(1)
        return np.sqrt(squares.min(axis=1).clip(0))

    return distance


def _summary(seeds: list[dict]) -> dict:
    """Mean, lowest and highest over the seeds."""
    result: dict = {}
    for score, places in seeds[0].items():
        result[score] = {}
        for place, values in places.items():
            result[score][place] = {}
            for name in values:
                all_ = np.array([seed[score][place][name] for seed in seeds])
                numbers = {"mean": all_.mean(), "lowest": all_.min(), "highest": all_.max()}
                result[score][place][name] = {key: round(float(number), 4) for key, number in numbers.items()}
    return result


if __name__ == "__main__":
    main()
