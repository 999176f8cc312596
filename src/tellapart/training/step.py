"""One training step. The training loop, the learning-rate test and the autotuner all take their steps here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tellapart.data.augmentation.mixup import mix
from tellapart.data.loading.loader import Rows
from tellapart.errors import TrainingError
from tellapart.training.inputs import evenly
from tellapart.training.parallel.division import Share
from tellapart.training.parallel.norms import Synchronised
from tellapart.training.parallel.workers import Workers
from tellapart.training.stage import TrainingStage, position_seed

#: Mean loss, number of pictures, number of right ones. The tensors are scalars on the device: asking for them waits.
MicroLoss = tuple[Tensor, int, Tensor]


@dataclass(frozen=True)
class Batch:
    """What one step of the optimizer learns from.

    Attributes:
        parts: (inputs, rows) of the stage's inputs; as many as the stage accumulates, fewer at an epoch's end. Of a
            step that is divided among workers, this worker's micro-batches, which may be loaded when asked for.
        position: (seed, stage, epoch, step): all that the step leaves to chance is a function of it.
        share: of a step that is divided: which share these parts are.
    """

    parts: Iterable[tuple[Tensor, Rows]]
    position: tuple[int, ...]
    share: Share | None = None

    @cached_property
    def n_pictures(self) -> int:
        return self.share.n_pictures if self.share else sum(len(rows) for _, rows in self.parts)


def steps(stage: TrainingStage, epoch: int, first: int) -> Iterator[Batch]:
    """The batches of an epoch's steps, from step `first` on, in which they are loaded ahead."""
    order, size, n = stage.order(epoch), stage.config.batch_size, stage.config.accumulate
    positions = [(stage.dataset.seed, stage.number, epoch, step) for step in range(first, stage.steps)]
    if stage.division is None:
        batches = stage.inputs.train(order, epoch, evenly(len(order), size, first * n))
        for position in positions:
            yield Batch(list(islice(batches, n)), position)
        return
    starts = range(first * n * size, len(order), n * size)
    shares = [stage.division.share(start, min(n * size, len(order) - start), size, n) for start in starts]
    batches = stage.inputs.train(order, epoch, [cut for share in shares for cut in share.cuts])
    for position, share in zip(positions, shares, strict=True):
        yield Batch(islice(batches, len(share.cuts)), position, share)


def train_step(stage: TrainingStage, batch: Batch) -> list[MicroLoss]:
    """Take one step of the stage's optimizer, at the learning rates that it has.

    Args:
        stage: its part of the network is in training mode; see `Part.train_mode`.

    Raises:
        TrainingError: a batch of one picture, of which batch norm would have to take statistics from single numbers.
        WorkerError: another worker has failed.
    """
    stage.optimizer.zero_grad(set_to_none=True)
    if batch.share is None:
        _seed(stage, batch.position)
        losses = [loss for number, part in enumerate(batch.parts) for loss in _learn(stage, batch, number, *part)]
    else:
        losses = _learn_share(stage, batch, batch.share)
    if stage.config.clip:
        torch.nn.utils.clip_grad_norm_(stage.network.parameters(), stage.config.clip)
    stage.optimizer.step()
    return losses


def _learn(stage: TrainingStage, batch: Batch, number: int, inputs: Tensor, rows: Rows) -> Iterator[MicroLoss]:
    """Add the gradients of one part of a step, of this number."""
    inputs, target, wanted = _lesson(stage, batch, number, inputs, rows)
    for micro in _micro_batches(stage, len(rows)):
        with stage.runtime.autocast():
            logits = _forward(stage, inputs[micro])
        # In float32: softmax and logarithm lose too much in bfloat16.
        loss = stage.training_loss(logits.float(), wanted[micro])
        # Weighted by its share, gradients sum to that of the mean over the step, however the step is cut.
        (loss * (len(logits) / batch.n_pictures)).backward()  # type: ignore[no-untyped-call]
        yield loss.detach(), len(logits), n_right(logits, target[micro])


def _lesson(
    stage: TrainingStage, batch: Batch, number: int, inputs: Tensor, rows: Rows
) -> tuple[Tensor, Tensor, Tensor]:
    """A part's inputs, mixed where the stage mixes; the target of its rows; and what the training loss takes."""
    target, wanted = stage.wanted(rows), stage.lesson(rows)
    if stage.mixes:
        inputs, wanted = _mixed(stage, inputs, wanted, (*batch.position, number))
    return inputs, target, wanted


def _learn_share(stage: TrainingStage, batch: Batch, share: Share) -> list[MicroLoss]:
    """Put the gradients of a step into the parameters, of which this worker computes a share.

    Returns:
        The losses of all micro-batches, of all workers; of a step whose norms are synchronised, that of the whole.
    """
    division, gradients = stage.division, stage.gradients
    assert division
    workers, counts = division.workers, division.workers.leads or not share.repeated
    n_rows = 1 if division.synchronised else len(share.sizes) // workers.n
    results = torch.zeros(n_rows, 2, dtype=torch.float64, device=stage.runtime.device)
    with gradients.step(len(share.cuts)):
        with workers.together():
            if division.synchronised:
                results[0] = _learn_as_one(stage, batch, share) * counts
            else:
                for own, (inputs, rows) in enumerate(batch.parts):
                    number = share.first + own
                    _seed(stage, (*batch.position, number))
                    with gradients.part(own, len(rows) / share.n_pictures):
                        for loss, size, right in _learn(stage, batch, number, inputs, rows):
                            results[own, 0] += loss * size
                            results[own, 1] += right
        gradients.finish(counts)
    everyone = workers.gathered(results).flatten(0, 1)
    if division.synchronised:
        total, right = everyone.sum(0)
        return [(total / share.n_pictures, share.n_pictures, right)]
    sizes = zip(everyone, share.sizes, strict=True)
    return [(total / size, size, right) for (total, right), size in sizes if size]


def _learn_as_one(stage: TrainingStage, batch: Batch, share: Share) -> Tensor:
    """Add the gradients of a worker's micro-batches, which go through the layers at once: norms see all of the step.

    Returns:
        float64 [2], the sum of losses and the number of right ones.
    """
    assert stage.division
    numbers = range(share.first, share.first + len(share.cuts))
    lessons = [_lesson(stage, batch, number, *part) for number, part in zip(numbers, batch.parts, strict=True)]
    inputs, target, wanted = (torch.cat(each) for each in zip(*lessons, strict=True))
    seeds = [position_seed(*batch.position, number) for number in numbers]
    workers = Workers() if share.repeated else stage.division.workers
    synchronised = Synchronised(workers, [len(part) for part, _, _ in lessons], seeds, inputs.device)
    with stage.gradients.part(0, 1.0), synchronised, stage.runtime.autocast():
        logits = _forward(stage, inputs).float()
        loss = stage.training_loss(logits, wanted)
        (loss * (len(logits) / batch.n_pictures)).backward()  # type: ignore[no-untyped-call]
    return torch.stack([loss.detach().double() * len(logits), n_right(logits.detach(), target).double()])


def _seed(stage: TrainingStage, position: tuple[int, ...]) -> None:
    """Seed torch's own generator, from which dropout draws, by position: it has no state that a kill could lose."""
    seed = position_seed(*position)
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
