"""The exact solution of a linear head on stored features: logistic regression by L-BFGS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tellapart.recipe.schema import L2


def solutions(
    features: Tensor,
    target: Tensor,
    head: nn.Linear,
    loss: Callable[[Tensor, Tensor], Tensor],
    n: int,
    tried: Sequence[float] = L2,
    standardise: bool = True,
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
        tried: inverse strengths C of the penalty, strongest (smallest) first.
        standardise: False takes the features as they are, where their scales mean something.

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
            total = loss(x @ weight.T + bias, target) + weight.square().sum() / (2 * n * strength)
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            scaled = weight / deviation
            head.weight.copy_(scaled)
            head.bias.copy_(bias - scaled @ mean)
            yield float(loss(features @ head.weight.T + head.bias, target))
