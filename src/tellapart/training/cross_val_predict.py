"""Probabilities for every picture from a model that has not seen it: a quick classifier on features, by folds."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from tellapart.core.events import Computing
from tellapart.core.predictions import Floats, probabilities
from tellapart.core.vectors import unit_length
from tellapart.training.linear_probe import solutions
from tellapart.training.losses import Loss, build_loss

#: Strengths of the penalty that are tried: strong ones, since weak ones follow wrong labels.
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2)
_LANDMARKS = 1500


def kernel_map(features: npt.NDArray[np.float32], seed: int = 0) -> npt.NDArray[np.float32]:
    """Features in which a linear model sees as a Gaussian kernel does, by how alike two pictures are.

    The kernel is exp(-2 d² / median d²) of the distances d between features of unit length, approximated from some of
    the pictures (Williams & Seeger 2001, the Nyström method); with at most 1,500 pictures it is exact.

    Args:
        features: float32 [n, d].
        seed: of the choice of pictures.

    Returns:
        float32 [n, m], m <= 1,500; products of rows are m times the kernel.
    """
    unit = unit_length(features)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(unit))[:_LANDMARKS])
    landmarks = unit[chosen]
    median = float(np.median(np.maximum(2 - 2 * landmarks @ landmarks.T, 0))) or 1.0

    def kernel(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        return np.asarray(np.exp(-2 * np.maximum(2 - 2 * (rows @ landmarks.T), 0) / median), np.float64)

    values, vectors = np.linalg.eigh(kernel(landmarks))
    large = values > 1e-6 * values.max()
    project = vectors[:, large] * np.sqrt(int(large.sum()) / values[large])
    parts = [kernel(unit[start : start + 4096]) @ project for start in range(0, len(unit), 4096)]
    return np.concatenate(parts).astype(np.float32)


def out_of_sample(
    features: npt.NDArray[np.float32],
    target: npt.NDArray[Any],
    fold: npt.NDArray[np.int64],
    strengths: Sequence[float] = STRENGTHS,
    unknown: npt.NDArray[np.bool_] | None = None,
) -> Generator[Computing, None, Floats]:
    """Logistic regression on features as they are, fitted without one fold after the other.

    One strength of the penalty is taken for all folds: the one with the lowest loss on what was left out.

    Args:
        features: float32 [n, d].
        target: one label: int64 [n], class numbers 0 to k - 1. Several: uint8 [n, k].
        fold: [n], number of the fold that each picture lies in, from 0.
        strengths: of the penalty.
        unknown: bool [n, k]: cells of the target that are not known and take no part.

    Yields:
        Computing, after every fold.

    Returns:
        float64 [n, k]: of each picture, by the model fitted without its fold.
    """
    multilabel = target.ndim == 2
    n_classes = target.shape[1] if multilabel else int(target.max()) + 1
    labels = torch.from_numpy(target.astype(np.float32) if multilabel else target)
    if unknown is not None:
        labels[torch.from_numpy(unknown)] = math.nan
    # A picture weighs as much as others, however many of its labels are known.
    loss: Loss = build_loss("binary_cross_entropy", True, masked=True) if unknown is not None else cross_entropy
    if multilabel and unknown is None:
        loss = binary_cross_entropy_with_logits
    x = torch.from_numpy(np.asarray(features, np.float32))
    logits = np.empty((len(strengths), len(target), n_classes), np.float32)
    n_folds = int(fold.max()) + 1
    for number in range(n_folds):
        inside = torch.from_numpy(fold == number)
        head = torch.nn.Linear(x.shape[1], n_classes)
        n = int((~inside).sum())
        for k, _ in enumerate(solutions(x[~inside], labels[~inside], head, loss, n, strengths, standardise=False)):
            with torch.no_grad():
                logits[k, inside.numpy()] = head(x[inside]).numpy()
        yield Computing(-1, "probabilities of pictures left out", number + 1, n_folds)
    losses = [float(loss(torch.from_numpy(part), labels)) for part in logits]
    return probabilities(logits[int(np.argmin(losses))], multilabel)
