"""A network backbone from a recipe's list of blocks, its shapes checked before anything is built."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, assert_never

import torch
from torch import Tensor, nn

from tellapart.errors import ModelError
from tellapart.models.heads import ACTIVATIONS
from tellapart.recipe.networks import AnyBlock, BatchNorm, Conv, Dense, Dropout, Flatten, Inception, Pool, Residual

_LARGEST_SIDE = 4096
#: Values of a flattened picture, and weights of one dense block (4 GiB in float32): both grow faster than one expects.
_MOST_FEATURES, _MOST_WEIGHTS = 2**24, 2**30


class Shape(NamedTuple):
    """Output shape of a block: channels and pixels, or features with a height and width of 1."""

    channels: int
    height: int
    width: int


class InceptionBlock(nn.Module):
    """Branches of different reach side by side, their channels concatenated; see `recipe.networks.Inception`.

    Attributes:
        branches: each [n, inputs, h, w] → [n, its own channels, h, w].
        dropout: after all of them.
    """

    def __init__(self, block: Inception, inputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleDict()
        if block.conv1:
            self.branches["conv1"] = _convolution(block, inputs, block.conv1, 1)
        for kernel, reduced, channels in ((3, block.reduce3, block.conv3), (5, block.reduce5, block.conv5)):
            if channels:
                first = _convolution(block, inputs, reduced, 1) if reduced else nn.Sequential()
                self.branches[f"conv{kernel}"] = first.extend(_convolution(block, reduced or inputs, channels, kernel))
        if block.pooled:
            pool = nn.MaxPool2d(3, stride=1, padding=1)
            self.branches["pooled"] = nn.Sequential(pool, *_convolution(block, inputs, block.pooled, 1))
        self.dropout = nn.Dropout(block.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, all branches' channels, h, w]."""
        side_by_side: Tensor = self.dropout(torch.cat([branch(x) for branch in self.branches.values()], dim=1))
        return side_by_side


class ResidualBlock(nn.Module):
    """Convolutions added to their input; see `recipe.networks.Residual`.

    Attributes:
        path: the convolutions, each with batch norm, and activations between them.
        shortcut: nothing, or a 1×1 convolution (and batch norm) where the shape changes.
        last: activation and dropout after the sum.
    """

    def __init__(self, block: Residual, inputs: int) -> None:
        super().__init__()
        path = _convolution(block, inputs, block.channels, block.kernel, block.stride)
        for _ in range(block.n_convolutions - 1):
            path.extend(_convolution(block, block.channels, block.channels, block.kernel))
        self.path = path[:-1]  # the last activation stands behind the sum
        self.shortcut = nn.Sequential()
        if block.stride > 1 or inputs != block.channels:
            self.shortcut = _convolution(block, inputs, block.channels, 1, block.stride)[:-1]
        self.last = nn.Sequential(ACTIVATIONS[block.activation](), nn.Dropout(block.dropout))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, channels, ⌈h / stride⌉, ⌈w / stride⌉]."""
        out: Tensor = self.last(self.path(x) + self.shortcut(x))
        return out


def build_blocks(blocks: Sequence[AnyBlock], height: int, width: int) -> nn.Sequential:
    """The backbone that a list of blocks describes, for pictures of one size, with random weights.

    Each block is one module, named by its kind and number ("conv1"). Global average pooling follows the last block
    that works on pictures, unless a `flatten` block does.

    Args:
        blocks: at least one.
        height, width: of the pictures, in pixels.

    Returns:
        Normalised float [n, 3, height, width] → features [n, d]: d is the last block's channels or size, or all values
        of a flattened picture.

    Raises:
        ModelError: a block that cannot stand where it does; with its number, counted from 1, and its kind.
    """
    behind = shapes(blocks, height, width)
    average = _average_before(blocks)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, block in enumerate(blocks):
        if index == average:
            layers |= _global_average()
        inputs = behind[index - 1].channels if index else 3
        layers[f"{block.block}{index + 1}"] = _module(block, inputs)
    if average == len(blocks):
        layers |= _global_average()
    return nn.Sequential(layers)


def shapes(blocks: Sequence[AnyBlock], height: int, width: int) -> list[Shape]:
    """Output shape of each block, without building anything.

    Raises:
        ModelError: as `build_blocks`.
    """
    if not blocks:
        raise ModelError("There are no blocks to build a network from.", "Write at least one [[model.blocks]].")
    _check_order(blocks)
    average = _average_before(blocks)
    outputs, shape = [], Shape(3, height, width)
    for index, block in enumerate(blocks):
        shape = Shape(shape.channels, 1, 1) if index == average else shape
        if excess := _excess(block, shape):
            raise ModelError(
                f"{_called(blocks, index)}: {excess}.",
                "Smaller pictures, more pooling before the flatten block, or no flatten block.",
            )
        if misfit := _misfit(block, shape):
            smallest = _smallest_side(blocks, min(height, width))
            larger = f"Larger pictures (--set data.size={smallest}), or fewer" if smallest else "Fewer"
            raise ModelError(
                f"{_called(blocks, index)}: the picture is only {shape.width}×{shape.height} pixels here; "
                f"{misfit} does not fit.",
                f"{larger} strides and pools up to there. In the recipe it is model.blocks.{index}, counted from 0.",
            )
        shape = _behind(block, shape)
        outputs.append(shape)
    return outputs


def _average_before(blocks: Sequence[AnyBlock]) -> int | None:
    """The index of the block that global average pooling stands before, or their number; None: a block flattens."""
    if any(isinstance(block, Flatten) for block in blocks):
        return None
    return next((i for i, block in enumerate(blocks) if isinstance(block, Dense | Dropout)), len(blocks))


def _check_order(blocks: Sequence[AnyBlock]) -> None:
    """Pictures first, features behind them. Before a flatten block, dropout is of pictures."""
    flattens = any(isinstance(block, Flatten) for block in blocks)
    of_features = (Flatten, Dense) if flattens else (Dense, Dropout)
    flat = next((i for i, block in enumerate(blocks) if isinstance(block, of_features)), len(blocks))
    if not flattens and isinstance(blocks[0], Dense | Dropout):
        raise ModelError(
            f"{_called(blocks, 0)}: there is no block before it that works on pictures, so it would see nothing but "
            "the mean colour.",
            "Put a conv, inception or residual block first. A network of linear layers alone is --model mlp.",
        )
    for index in range(flat + 1, len(blocks)):
        if not isinstance(blocks[index], Dense | Dropout):
            raise ModelError(
                f"{_called(blocks, index)}: it stands behind {_called(blocks, flat)}, which turns the picture into "
                "features.",
                "Put dense and dropout blocks last, and at most one flatten block before them.",
            )


def _called(blocks: Sequence[AnyBlock], index: int) -> str:
    return f"block {index + 1} ({blocks[index].block})"


def _excess(block: AnyBlock, shape: Shape) -> str:
    """What a block that does not work on pictures has too many of, in words; "" where it is within bounds."""
    if isinstance(block, Flatten) and (n := _behind(block, shape).channels) > _MOST_FEATURES:
        return f"{n:,} features of a picture are more than {_MOST_FEATURES:,}"
    if isinstance(block, Dense) and shape.channels * block.size > _MOST_WEIGHTS:
        return f"{shape.channels:,} features × {block.size:,} are more than {_MOST_WEIGHTS:,} weights"
    return ""


def _misfit(block: AnyBlock, shape: Shape) -> str:
    """The kernel or pool that is too large for the picture, in words; "" where all fits."""
    side = min(shape.height, shape.width)
    if isinstance(block, Pool):
        return f"a {block.size}×{block.size} pool" if block.size > side + 2 * block.padding else ""
    if isinstance(block, Conv) and block.padding is not None:
        return f"a {block.kernel}×{block.kernel} kernel" if block.kernel > side + 2 * block.padding else ""
    kernel = 1
    if isinstance(block, Conv | Residual):
        kernel = block.kernel
    elif isinstance(block, Inception):
        kernel = 5 if block.conv5 else 3 if block.conv3 else 1
    if isinstance(block, Residual) and block.n_convolutions > 1:
        side = _strided(side, block.stride)
    # Beyond this the outer weights meet nothing but padding, wherever the kernel stands.
    return f"a {kernel}×{kernel} kernel" if kernel > 2 * side - 1 else ""


def _behind(block: AnyBlock, shape: Shape) -> Shape:
    """Output shape of a block for an input shape."""
    match block:
        case Conv():
            pixels = [_windows(side, block.kernel, block.stride, _padding(block)) for side in shape[1:]]
            return Shape(block.channels, *pixels)
        case Residual():
            return Shape(block.channels, _strided(shape.height, block.stride), _strided(shape.width, block.stride))
        case Inception():
            return Shape(block.channels, shape.height, shape.width)
        case Pool():
            pixels = [_windows(side, block.size, block.stride or block.size, block.padding) for side in shape[1:]]
            return Shape(shape.channels, *pixels)
        case Flatten():
            return Shape(shape.channels * shape.height * shape.width, 1, 1)
        case Dense():
            return Shape(block.size, 1, 1)
        case BatchNorm() | Dropout():
            return shape
    assert_never(block)


def _padding(block: Conv) -> int:
    return block.kernel // 2 if block.padding is None else block.padding


def _windows(side: int, size: int, stride: int, padding: int) -> int:
    """How many windows of `size` pixels lie in a side."""
    return (side + 2 * padding - size) // stride + 1


def _strided(side: int, stride: int) -> int:
    return -(-side // stride)


def _smallest_side(blocks: Sequence[AnyBlock], too_small: int) -> int | None:
    """Smallest side of square pictures in which every block fits; None where it would be beyond all reason."""
    for side in range(too_small + 1, _LARGEST_SIDE + 1):
        shape = Shape(3, side, side)
        for block in blocks:
            if _misfit(block, shape):
                break
            shape = _behind(block, shape)
        else:
            return side
    return None


def _module(block: AnyBlock, inputs: int) -> nn.Module:
    match block:
        case Conv():
            layers = _convolution(block, inputs, block.channels, block.kernel, block.stride, block.padding)
            return layers.append(nn.Dropout(block.dropout))
        case Inception():
            return InceptionBlock(block, inputs)
        case Residual():
            return ResidualBlock(block, inputs)
        case Pool():
            return _pool(block)
        case BatchNorm():
            return nn.BatchNorm2d(inputs)
        case Flatten():
            return nn.Flatten()
        case Dense():
            return nn.Sequential(
                nn.Linear(inputs, block.size), ACTIVATIONS[block.activation](), nn.Dropout(block.dropout)
            )
        case Dropout():
            return nn.Dropout(block.dropout)
    assert_never(block)


def _convolution(
    block: Conv | Inception | Residual,
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    padding: int | None = None,
) -> nn.Sequential:
    """Convolution, batch norm (if wanted; it makes the bias needless) and activation: the activation is last."""
    padding = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding=padding, bias=not block.batch_norm)]
    layers += [nn.BatchNorm2d(outputs)] if block.batch_norm else []
    return nn.Sequential(*layers, ACTIVATIONS[block.activation]())


def _pool(block: Pool) -> nn.Module:
    if block.kind == "max":
        pool: nn.Module = nn.MaxPool2d(block.size, block.stride, block.padding)
    else:
        pool = nn.AvgPool2d(block.size, block.stride, block.padding, count_include_pad=False)
    return nn.Sequential(pool, nn.Dropout(block.dropout)) if block.dropout else pool


def _global_average() -> dict[str, nn.Module]:
    return {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
