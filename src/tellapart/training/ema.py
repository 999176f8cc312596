"""A running mean of a network's weights, which is often better than the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average (Polyak and Juditsky 1992; Tarvainen and Valpola 2017, arXiv 1703.01780).

    After step t = 0, 1, 2 …: average ← d · average + (1 - d) · weights, with d = min(decay, (1 + t) / (10 + t)): a
    young average forgets the weights that it began with.

    Of the parameters that are trained when it is made; make a new one for each stage, when the
    network is on its device. Buffers (statistics of batch normalisation) are means already: the average has the
    network's own.

    Args:
        network: its weights now are where the average begins.
        decay: in [0, 1); about 1 - 1 / steps that it looks back over.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"an average with a decay of {decay}")
        self.decay = decay
        self.n_updates = 0
        self._weights = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now: call after each step of the optimizer."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        self.n_updates += 1
        if self._average:
            torch._foreach_lerp_(list(self._average.values()), list(self._weights.values()), 1 - decay)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Within it the network has the averaged weights; after it its own again, bit for bit."""
        own = {name: p.detach().clone() for name, p in self._weights.items()}
        _copy(self._average, self._weights)
        try:
            yield
        finally:
            _copy(own, self._weights)

    def state_dict(self) -> dict[str, Any]:
        """{"n_updates": int, "average": tensors by the names of the parameters}; not copied."""
        return {"n_updates": self.n_updates, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, of a network with the same parameters trained."""
        if state["average"].keys() != self._average.keys():
            raise ValueError("an average of other parameters")
        self.n_updates = int(state["n_updates"])
        _copy(state["average"], self._average)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
