"""Losses: functions of logits and target, computed in float32 and finite wherever the logits are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tellapart.errors import RecipeError

Loss = Callable[[Tensor, Tensor], Tensor]
Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Loss of each output where its label is there, and where it is not; each [n, n_classes]."""

ONE_LABEL = ("cross_entropy", "focal")
SEVERAL_LABELS = ("binary_cross_entropy", "focal", "asymmetric", "squeezed")


def build_loss(
    kind: str,
    multilabel: bool,
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | Tensor | None = None,
    positive_weights: Sequence[float] | Tensor | None = None,
    gamma: float | None = None,
    alpha: float | None = None,
    clip: float | None = None,
    reduction: Literal["mean", "none"] = "mean",
    masked: bool = False,
) -> Loss:
    """A function of logits [n, n_classes] and target to the loss: a mean over pictures, or one value a picture [n].

    One label: the target is class numbers int64 [n], or shares float [n, n_classes] that sum to 1, as mixing makes
    them. Several labels: 0 and 1, or shares between, [n, n_classes].

    Kinds, with p the probability of an output (softmax for one label, sigmoid for several) and t its target:

    * auto: cross_entropy for one label, binary_cross_entropy for several.
    * cross_entropy: -Σ t log p.
    * binary_cross_entropy: -(t log p + (1 - t) log(1 - p)), mean over outputs.
    * focal (Lin et al. 2017, arXiv 1708.02002). One label: -Σ t (1 - p)^gamma log p. Several: mean over outputs of
      -(alpha t (1 - p)^gamma log p + (1 - alpha) (1 - t) p^gamma log(1 - p)).
    * asymmetric (Ridnik et al. 2021, arXiv 2009.14119, positive exponent 0): mean over outputs of
      -(t log p + (1 - t) q^gamma log(1 - q)), q = max(p - clip, 0).
    * squeezed: binary cross-entropy of 0.99 p + 0.005, summed over outputs.

    Args:
        kind: as above.
        multilabel: whether a picture may have no, one or several labels.
        label_smoothing: share s in [0, 1) of the target that is spread evenly: (1 - s) t + s / n_classes for one label
            (Szegedy et al. 2016, arXiv 1512.00567), (1 - s) t + s / 2 for several.
        class_weights: for one label; each class's term is multiplied by its weight. The mean is over pictures, not
            over weights, so that weights of mean 1 over the pictures leave the size of the loss as it is.
        positive_weights: for several; the term of a label that is there is multiplied by its weight.
        gamma: for focal (default 2) and asymmetric (default 4), at least 0.
        alpha: for focal with several labels, in [0, 1] (default 0.25).
        clip: for asymmetric, in [0, 1) (default 0.05).
        reduction: "none" for one value a picture; "mean" is the mean of these.
        masked: for several; the target is NaN where it is not known whether a label applies. Such outputs have no term,
            and the mean is over the others.

    Raises:
        RecipeError: an unknown kind or option, one that does not go with the labels, or a value out of range.
    """
    kind = kind if kind != "auto" else "binary_cross_entropy" if multilabel else "cross_entropy"
    _check_kind(kind, multilabel)
    _check_options(kind, multilabel, class_weights, positive_weights, gamma, alpha, clip)
    _check_range("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "at least 0 and below 1")
    weights = _as_weights("positive_weights" if multilabel else "class_weights", class_weights, positive_weights)
    if multilabel:
        terms = _terms(kind, gamma, alpha, clip)
        each = _several_labels(terms, label_smoothing, weights, kind == "squeezed", masked)
    else:
        exponent = 0.0 if kind == "cross_entropy" else 2.0 if gamma is None else gamma
        each = _one_label(exponent, label_smoothing, weights)
    return each if reduction == "none" else lambda logits, target: each(logits, target).mean()


def _one_label(gamma: float, smoothing: float, weights: Tensor | None) -> Loss:
    def each(logits: Tensor, target: Tensor) -> Tensor:
        logits = logits.float()
        weight = None if weights is None else weights.to(logits.device)
        if gamma == 0:
            target = target.float() if target.ndim == 2 else target
            return F.cross_entropy(logits, target, weight, reduction="none", label_smoothing=smoothing)
        shares = target.float() if target.ndim == 2 else F.one_hot(target, logits.shape[1]).float()
        shares = (1 - smoothing) * shares + smoothing / logits.shape[1]
        log_p = logits.log_softmax(1)
        # Not quite down to 0: a power below 1 has no finite slope there.
        wrong = (-log_p.expm1()).clamp(min=1e-8)
        terms = -shares * wrong**gamma * log_p
        return (terms if weight is None else terms * weight).sum(1)

    return each


def _several_labels(terms: Terms, smoothing: float, weights: Tensor | None, summed: bool, masked: bool) -> Loss:
    def each(logits: Tensor, target: Tensor) -> Tensor:
        present, absent = terms(logits.float())
        if weights is not None:
            present = present * weights.to(logits.device)
        # NaN is taken out before it meets a logit: a gradient of 0 · NaN would be NaN.
        values = target.float().nan_to_num(0.0) if masked else target.float()
        shares = (1 - smoothing) * values + smoothing / 2
        both = shares * present + (1 - shares) * absent
        if not masked:
            return both.sum(1) if summed else both.mean(1)
        is_known = ~target.isnan()
        total = (both * is_known).sum(1)
        return total if summed else total / is_known.sum(1).clamp(min=1)

    return each


def _terms(kind: str, gamma: float | None, alpha: float | None, clip: float | None) -> Terms:
    """The terms of a loss for several labels, with its default options."""
    if kind == "focal":
        return _focal(2.0 if gamma is None else gamma, 0.25 if alpha is None else alpha)
    if kind == "asymmetric":
        return _asymmetric(4.0 if gamma is None else gamma, 0.05 if clip is None else clip)
    return _squeezed if kind == "squeezed" else _binary


def _binary(logits: Tensor) -> tuple[Tensor, Tensor]:
    return -F.logsigmoid(logits), -F.logsigmoid(-logits)


def _focal(gamma: float, alpha: float) -> Terms:
    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
        return -alpha * (gamma * log_not_p).exp() * log_p, -(1 - alpha) * (gamma * log_p).exp() * log_not_p

    return terms


def _asymmetric(gamma: float, clip: float) -> Terms:
    log_clip = math.log(clip) if clip > 0 else -math.inf

    def terms(logits: Tensor) -> tuple[Tensor, Tensor]:
        # 1 - q = min(1 - p + clip, 1), in logarithms, so that p = 1 without clip stays finite.
        log_not_q = torch.logaddexp(F.logsigmoid(-logits), logits.new_tensor(log_clip)).clamp(max=0)
        q = (logits.sigmoid() - clip).clamp(min=1e-8)
        return -F.logsigmoid(logits), -(q**gamma) * log_not_q

    return terms


def _squeezed(logits: Tensor) -> tuple[Tensor, Tensor]:
    return -(0.99 * logits.sigmoid() + 0.005).log(), -(0.99 * (-logits).sigmoid() + 0.005).log()


def _check_kind(kind: str, multilabel: bool) -> None:
    possible = SEVERAL_LABELS if multilabel else ONE_LABEL
    if kind in possible:
        return
    hint = f"Possible: auto, {', '.join(possible)}."
    if kind in ONE_LABEL + SEVERAL_LABELS:
        pictures, other = ("several labels", "one label") if multilabel else ("one label", "several labels")
        raise RecipeError(f"The loss '{kind}' is for {other} a picture; these pictures have {pictures}.", hint)
    raise RecipeError(f"There is no loss '{kind}'.", hint)


def _check_options(
    kind: str,
    multilabel: bool,
    class_weights: object,
    positive_weights: object,
    gamma: float | None,
    alpha: float | None,
    clip: float | None,
) -> None:
    options = [
        ("class_weights", class_weights, not multilabel),
        ("positive_weights", positive_weights, multilabel),
        ("gamma", gamma, kind in ("focal", "asymmetric")),
        ("alpha", alpha, kind == "focal" and multilabel),
        ("clip", clip, kind == "asymmetric"),
    ]
    for name, value, known in options:
        if value is not None and not known:
            labels = "several labels" if multilabel else "one label"
            raise RecipeError(f"The loss '{kind}' for {labels} a picture has no '{name}'.", "Leave it out.")
    _check_range("gamma", gamma, gamma is None or gamma >= 0, "at least 0")
    _check_range("alpha", alpha, alpha is None or 0 <= alpha <= 1, "between 0 and 1")
    _check_range("clip", clip, clip is None or 0 <= clip < 1, "at least 0 and below 1")


def _check_range(name: str, value: float | None, right: bool, wanted: str) -> None:
    if not right:
        raise RecipeError(f"loss: '{name}' is {value}; it must be {wanted}.")


def _as_weights(name: str, *options: Sequence[float] | Tensor | None) -> Tensor | None:
    values = next((value for value in options if value is not None), None)
    if values is None:
        return None
    weights = torch.as_tensor(values, dtype=torch.float32)
    if weights.ndim != 1 or not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise RecipeError(f"loss: '{name}' must be one number of at least 0 for each class.")
    return weights
