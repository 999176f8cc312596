"""The exact solution of a linear head on stored features: logistic regression by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tellapart.recipe.schema import L2

Loss = Callable[[Tensor, Tensor], Tensor]
#: (features, target, weight, bias, loss) → the mean loss; its gradient is added to those of weight and bias.
Gradient = Callable[[Tensor, Tensor, Tensor, Tensor, Loss], Tensor]
#: A list of strengths is extended by so many at most, where its best lies at an end.
MOST_BEYOND = 6
#: Strengths beyond these bounds are no penalty at all, or leave no weight.
_BOUNDS = (1e-9, 1e9)


def strength(l2: Sequence[float], number: int) -> float:
    """A strength by its number: from 1 in the list; above its length, or below 0, beyond the end of the list.

    Beyond an end, the list goes on by the ratio of its two entries there, by a factor of ten at most.
    """
    if 1 <= number <= len(l2):
        return l2[number - 1]
    end, inner, n = (l2[-1], l2[-2], number - len(l2)) if number > 0 else (l2[0], l2[1], -number)
    ratio = max(0.1, min(10.0, end / inner))
    return float(min(_BOUNDS[1], max(_BOUNDS[0], end * ratio**n)))


def end_to_extend(l2: Sequence[float], best: int) -> int:
    """At which end of a list its best entry lies, so that the list goes on there: 1 the last, -1 the first, 0 neither.

    Args:
        l2: strengths; only an ascending list of at least two has ends.
        best: number of the best one, from 1.
    """
    if len(l2) < 2 or any(a >= b for a, b in pairwise(l2)):
        return 0
    return {1: -1, len(l2): 1}.get(best, 0)


def whole_gradient(x: Tensor, target: Tensor, weight: Tensor, bias: Tensor, loss: Loss) -> Tensor:
    """The mean loss of all rows; its gradient is added to those of weight and bias."""
    total = loss(x @ weight.T + bias, target)
    total.backward()  # type: ignore[no-untyped-call]
    return total.detach()


def solutions(
    features: Tensor,
    target: Tensor,
    head: nn.Linear,
    loss: Callable[[Tensor, Tensor], Tensor],
    n: int,
    tried: Iterable[float] = L2,
    standardise: bool = True,
    gradient: Gradient = whole_gradient,
) -> Iterator[float]:
    """Put the solution for one strength after another into `head`, each started from the one before.

    Minimises mean loss + ||W||² / (2 n C) over weights on standardised features (Liu & Nocedal 1989 for the method);
    the standardisation is then folded into the head, so that it takes features as they are.

    Args:
        features: float [m, d], all the training features (several views a picture: m = n × views).
        target: what `loss` takes, for the m rows.
        head: linear layer d → n_classes, overwritten.
        loss: mean loss of logits and target.
        n: number of pictures, for the strength of the penalty.
        tried: inverse strengths C of the penalty, strongest (smallest) first; each is asked for when it is needed.
        standardise: False takes the features as they are, where their scales mean something.
        gradient: computes the loss and its gradient, as `whole_gradient`.

    Yields:
        The mean training loss (without penalty), after `head` has been set; once for each of `tried`.
    """
    features = features.float()
    mean, deviation = features.mean(0), features.std(0, correction=0) + 1e-6
    if not standardise:
        mean, deviation = torch.zeros_like(mean), torch.ones_like(deviation)
    x = (features - mean) / deviation
    weight = torch.zeros_like(head.weight, requires_grad=True)
    bias = torch.zeros_like(head.bias, requires_grad=True)
    for strength in tried:
        optimizer = torch.optim.LBFGS(
            [weight, bias], max_iter=200, tolerance_grad=1e-5, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure(optimizer: torch.optim.LBFGS = optimizer, strength: float = strength) -> Tensor:
            optimizer.zero_grad()
            value = gradient(x, target, weight, bias, loss)
            penalty = weight.square().sum() / (2 * n * strength)
            penalty.backward()  # type: ignore[no-untyped-call]
            return value + penalty.detach()

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            scaled = weight / deviation
            head.weight.copy_(scaled)
            head.bias.copy_(bias - scaled @ mean)
            value = float(loss(features @ head.weight.T + head.bias, target))
        yield value  # out of the block: while a generator waits in it, nobody would have gradients


def out_of_fold(
    features: Tensor,
    target: Tensor,
    fold: npt.NDArray[np.int64],
    loss: Callable[[Tensor, Tensor], Tensor],
    tried: Callable[[], Iterable[float]],
    n_views: int,
    n_classes: int,
    gradient: Gradient = whole_gradient,
) -> Iterator[float]:
    """The loss of cross-validation for one strength after another: of each fold, by a head fitted without it.

    Args:
        features: float [m, d], as in `solutions`.
        target: for the m rows.
        fold: int64 [m]: which fold each row lies in; all views of a picture in one.
        loss: mean loss of logits and target.
        tried: makes the strengths anew for each fold; see `solutions`.
        n_views: rows a picture, for the strength of the penalty.
        n_classes: outputs of a head.
        gradient: as in `solutions`.

    Yields:
        The mean loss over all rows, once for each strength.
    """
    parts = []
    for number in np.unique(fold):
        inside = torch.from_numpy(fold == number).to(features.device)
        head = nn.Linear(features.shape[1], n_classes, device=features.device)
        n = max(1, int((~inside).sum()) // n_views)
        parts.append(
            (inside, head, solutions(features[~inside], target[~inside], head, loss, n, tried(), gradient=gradient))
        )
    # Side by side, since which strength comes next depends on how good all folds were with those before.
    for _ in zip(*(path for _, _, path in parts), strict=True):
        with torch.no_grad():
            sums = [
                float(loss(head(features[inside]), target[inside])) * int(inside.sum()) for inside, head, _ in parts
            ]
        yield sum(sums) / len(target)
