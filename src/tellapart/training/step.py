"""One training step. The training loop, the learning-rate test and the autotuner all take their steps here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tellapart.data.augmentation.mixup import mix
from tellapart.data.loading.loader import Rows
from tellapart.errors import TrainingError
from tellapart.training.stage import TrainingStage, position_seed

#: Mean loss, number of pictures, number of right ones. The tensors are scalars on the device: asking for them waits.
MicroLoss = tuple[Tensor, int, Tensor]


@dataclass(frozen=True)
class Batch:
    """What one step of the optimizer learns from.

    Attributes:
        parts: (inputs, rows) of the stage's inputs; as many as the stage accumulates, fewer at an epoch's end.
        position: (seed, stage, epoch, step): all that the step leaves to chance is a function of it.
    """

    parts: Sequence[tuple[Tensor, Rows]]
    position: tuple[int, ...]

    @property
    def n_pictures(self) -> int:
        return sum(len(rows) for _, rows in self.parts)


def train_step(stage: TrainingStage, batch: Batch) -> list[MicroLoss]:
    """Take one step of the stage's optimizer, at the learning rates that it has.

    Args:
        stage: its part of the network is in training mode; see `Part.train_mode`.

    Raises:
        TrainingError: a batch of one picture, of which batch norm would have to take statistics from single numbers.
    """
    _seed(stage, batch)
    stage.optimizer.zero_grad(set_to_none=True)
    losses: list[MicroLoss] = []
    for number, (inputs, rows) in enumerate(batch.parts):
        target, wanted = stage.wanted(rows), stage.lesson(rows)
        if stage.mixes:
            inputs, wanted = _mixed(stage, inputs, wanted, (*batch.position, number))
        for micro in _micro_batches(stage, len(rows)):
            with stage.runtime.autocast():
                logits = _forward(stage, inputs[micro])
            # In float32: softmax and logarithm lose too much in bfloat16.
            loss = stage.training_loss(logits.float(), wanted[micro])
            # Weighted by its share, gradients sum to that of the mean over the step, however the step is cut.
            (loss * (len(logits) / batch.n_pictures)).backward()  # type: ignore[no-untyped-call]
            losses.append((loss.detach(), len(logits), n_right(logits, target[micro])))
    if stage.config.clip:
        torch.nn.utils.clip_grad_norm_(stage.network.parameters(), stage.config.clip)
    stage.optimizer.step()
    return losses


def _seed(stage: TrainingStage, batch: Batch) -> None:
    """Seed torch's own generator, from which dropout draws, by position: it has no state that a kill could lose."""
    seed = position_seed(*batch.position)
    # torch.manual_seed also writes down a stack trace for a GPU that was not used yet: a fifth of a small step.
    seed_all = torch.default_generator.manual_seed if stage.runtime.device == "cpu" else torch.manual_seed
    seed_all(seed)


def _mixed(stage: TrainingStage, inputs: Tensor, target: Tensor, position: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Inputs mixed with each other, and their targets as shares, by MixUp or CutMix."""
    shares = target.float() if target.ndim == 2 else one_hot(target, len(stage.dataset.catalog.classes)).float()
    mixed, wanted = mix(inputs.permute(0, 2, 3, 1), shares, stage.recipe.mix, np.random.default_rng(position))
    return mixed.permute(0, 3, 1, 2), wanted


def _micro_batches(stage: TrainingStage, n: int) -> Iterator[slice]:
    """Slices of a batch that go through the layers one after another: the whole, where layers see all of it."""
    size = stage.micro_batch or n
    return (slice(start, start + size) for start in range(0, n, size))


def _forward(stage: TrainingStage, inputs: Tensor) -> Tensor:
    try:
        return stage.forward(inputs)
    except ValueError as error:
        if len(inputs) > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            "The last batch of an epoch is a single picture, of which batch norm cannot take statistics.",
            f"Try another size of batch: --set stages.{stage.number}.batch_size={stage.config.batch_size + 1}",
        ) from error


def n_right(logits: Tensor, target: Tensor) -> Tensor:
    """Number of pictures named right, a scalar; with several labels, each counts by its share of right known labels."""
    if target.ndim == 1:
        return (logits.argmax(1) == target).sum()
    right = (logits > 0) == (target > 0)
    if not target.is_floating_point():
        return right.float().mean(1).sum()
    is_known = ~target.isnan()
    return ((right & is_known).sum(1) / is_known.sum(1).clamp(min=1)).sum()
