"""Batch norm of a divided step, against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tellapart.training.parallel.norms import RunningStatistics, Synchronised
from tellapart.training.parallel.workers import Workers


@pytest.fixture
def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4, momentum=None))


def test_synchronised_norms_are_torchs_where_one_worker_has_all_pictures(layers: nn.Module) -> None:
    other, pictures = copy.deepcopy(layers), torch.randn(6, 3, 8, 8) * 3 + 20
    with Synchronised(Workers(), [4, 2], [1, 2], torch.device("cpu")):
        outputs = layers(pictures)
        outputs.square().sum().backward()
    expected = other(pictures)
    expected.square().sum().backward()
    torch.testing.assert_close(outputs, expected)
    for (name, tensor), wanted in zip(layers.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(tensor, wanted, msg=name)
    for own, wanted in zip(layers.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own.grad, wanted.grad, rtol=1e-3, atol=1e-4)


def test_dropout_is_drawn_for_each_micro_batch_apart() -> None:
    dropout, ones = nn.Dropout(0.4), torch.ones(6, 50)

    def dropped(sizes: list[int], seeds: list[int]) -> torch.Tensor:
        with Synchronised(Workers(), sizes, seeds, torch.device("cpu")):
            result: torch.Tensor = dropout(ones[: sum(sizes)])
        return result

    together = dropped([4, 2], [1, 2])
    assert torch.equal(together, torch.cat([dropped([4], [1]), dropped([2], [2])]))
    assert together.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert 0.2 < (together == 0).float().mean() < 0.6


def test_running_statistics_move_once_a_step_by_the_mean_of_its_micro_batches(layers: nn.Module) -> None:
    norm, parts = nn.BatchNorm2d(2), [torch.randn(5, 2, 4, 4) + n for n in range(2)]
    statistics, added = RunningStatistics(norm.modules()), torch.zeros(4)
    for part in parts:
        statistics.begin_part()
        norm(part)
        added += statistics.added(0.5)
    statistics.end_step(added)
    mean = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    variance = torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0)
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance)
    assert norm.num_batches_tracked == 1


def test_a_step_that_failed_leaves_statistics_as_they_were(layers: nn.Module) -> None:
    before = copy.deepcopy(layers.state_dict())
    statistics = RunningStatistics(layers.modules())
    statistics.begin_part()
    layers(torch.randn(2, 3, 8, 8))
    statistics.restore()
    assert all(torch.equal(before[name], tensor) for name, tensor in layers.state_dict().items())
