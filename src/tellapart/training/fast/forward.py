"""Forward passes made fast: whoever calls them sees a function of inputs, and nothing of what was done to layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tellapart.training.fast.fuse_batchnorm import learning

Forward = Callable[[Tensor], Tensor]


def training_forward(layers: nn.Module) -> Forward:
    """Layers as a training step runs them: inputs → outputs, with gradients for the layers' own parameters.

    They are fused at the first call: only then it is known in which modes they train, and what their inputs look like.
    """
    fused: list[nn.Module] = []

    def run(inputs: Tensor) -> Tensor:
        if not fused:
            fused.append(learning(layers, inputs[:2]))
        outputs: Tensor = fused[0](inputs)
        return outputs

    return run
