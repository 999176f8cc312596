"""Resizing inside a network is what Pillow does outside."""

import numpy as np
import pytest
import torch
from torch import nn

from tellapart.core.preprocess import resize
from tellapart.models.heads import ResizeInside
from tellapart.models.layer_groups import chain


@pytest.mark.parametrize("size", [(96, 96), (20, 31), (32, 100), (32, 32)])
def test_it_differs_from_pillow_by_the_rounding_alone(size):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    ours = ResizeInside(*size)(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
    theirs = resize(pixels, *size, "bilinear").astype(np.float32)
    # Pillow rounds after the rows, and again after the columns.
    assert np.abs(ours.numpy() - theirs).max() <= 1.01


def test_the_same_size_changes_nothing_and_the_memory_format_stays():
    x = torch.randn(2, 3, 12, 9).to(memory_format=torch.channels_last)
    assert torch.equal(ResizeInside(12, 9)(x), x)
    assert ResizeInside(20, 5)(x).is_contiguous(memory_format=torch.channels_last)


def test_it_can_be_the_first_link_of_a_chain():
    backbone = nn.Sequential(ResizeInside(24, 24), nn.Conv2d(3, 4, 3), nn.Flatten())
    assert [name for name, _ in chain(backbone, torch.randn(2, 3, 8, 8))] == ["0", "1", "2"]
    assert not list(ResizeInside(24, 24).state_dict())
