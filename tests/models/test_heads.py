from __future__ import annotations

import pytest
import torch
from torch import nn

from tellapart.models.heads import build_head
from tellapart.recipe.schema import Head


def kinds(head: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in head]


def test_plain_head_is_one_linear_layer() -> None:
    head = build_head(10, 3, Head())
    assert kinds(head) == ["Linear"]
    assert head(torch.zeros(2, 10)).shape == (2, 3)


def test_dropout_without_hidden_layers_acts_on_the_features() -> None:
    assert kinds(build_head(10, 3, Head(dropout=0.2))) == ["Dropout", "Linear"]


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "hardswish"])
def test_hidden_layers_with_activation_and_dropout(activation: str) -> None:
    head = build_head(10, 3, Head.model_validate({"hidden": [256, 7], "activation": activation, "dropout": 0.3}))
    kind = {"relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "hardswish": "Hardswish"}[activation]
    assert kinds(head) == ["Linear", kind, "Dropout", "Linear", kind, "Dropout", "Linear"]
    assert [layer.out_features for layer in head if isinstance(layer, nn.Linear)] == [256, 7, 3]
    assert head(torch.zeros(2, 10)).shape == (2, 3)
