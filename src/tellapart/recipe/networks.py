"""The sections of a recipe that define a network: one for each kind of block, and one for a member of an ensemble.

They state keys, limits and defaults alone; `models/blocks.py` and `models/ensemble.py` build the networks. A picture
passes the blocks in their order:

    [[model.blocks]]
    block = "conv"
    channels = 32

    [[model.blocks]]
    block = "pool"

    [[model.blocks]]
    block = "inception"
    conv1 = 16
    reduce3 = 16
    conv3 = 32
    pooled = 16

After the last block on pictures, global average pooling makes one feature of each channel; or a `flatten` block makes
one of each value.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tellapart.recipe.transforms import Section

#: Networks of our own that are published ones now, and were not quite in version 0.1.
LAYOUTS = ("tutorial-cnn", "cnn8", "breeds-cnn")
#: Layout 1 is how version 0.1 built them, layout 2 as published. A recipe that Tellapart wrote, and a bundle, without a
#: layout is of version 0.1. See decision 38.
CURRENT_LAYOUT: Literal[2] = 2
Layout = Annotated[
    Literal[1, 2],
    Field(description=f"of {', '.join(LAYOUTS)}: 2, the layers as published; 1, as version 0.1 built them"),
]


def _is_odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise PydanticCustomError("kernel", "a kernel has a centre: its side is an odd number of pixels")
    return kernel


Activation = Literal["relu", "gelu", "silu", "hardswish"]
Channels = Annotated[int, Field(ge=1, le=8192)]
Branch = Annotated[int, Field(ge=0, le=8192)]
Kernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_is_odd)]
Stride = Annotated[int, Field(ge=1, le=16)]
DropoutShare = Annotated[float, Field(ge=0, lt=1)]


class Block(Section):
    """Base of all blocks."""

    block: str


class Conv(Block):
    """One convolution, then batch norm, activation, dropout. Padded by default so that stride 1 keeps the size."""

    block: Literal["conv"] = "conv"
    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 1
    padding: int | None = Field(
        None, ge=0, le=15, description="pixels of zeros on each side; by default half a kernel, rounded down"
    )
    batch_norm: bool = True
    activation: Activation = "relu"
    dropout: DropoutShare = 0.0


class Inception(Block):
    """Up to four parallel branches: convolutions of 1×1, 3×3 and 5×5, and max pooling of 3×3 followed by 1×1.

    Each key is a number of channels; 0 leaves the branch out. `reduce3` and `reduce5` are the channels of the 1×1
    convolution before the larger one; 0 leaves it out.

    Source: Szegedy et al., Going Deeper with Convolutions, 2015, figure 2.
    """

    block: Literal["inception"] = "inception"
    conv1: Branch = 0
    reduce3: Branch = 0
    conv3: Branch = 0
    reduce5: Branch = 0
    conv5: Branch = 0
    pooled: Branch = 0
    batch_norm: bool = True
    activation: Activation = "relu"
    dropout: DropoutShare = 0.0

    @property
    def channels(self) -> int:
        """Channels of all branches together."""
        return self.conv1 + self.conv3 + self.conv5 + self.pooled

    @model_validator(mode="after")
    def _branches_that_exist(self) -> Self:
        if not self.channels:
            raise PydanticCustomError("inception", "an inception block needs conv1, conv3, conv5 or pooled above 0")
        for number, reduced, branch in ((3, self.reduce3, self.conv3), (5, self.reduce5, self.conv5)):
            if reduced and not branch:
                raise PydanticCustomError("inception", f"reduce{number} does nothing without conv{number}")
        return self


class Residual(Block):
    """`n_convolutions`, of which the first has the stride, added to their input; the last activation follows the sum.

    The shortcut is a 1×1 convolution where the shape changes. Source: He et al., Deep Residual Learning for Image
    Recognition, 2016, figure 2 and option B.
    """

    block: Literal["residual"] = "residual"
    channels: Channels
    n_convolutions: int = Field(default=2, ge=1, le=16)
    kernel: Kernel = 3
    stride: Stride = 1
    batch_norm: bool = True
    activation: Activation = "relu"
    dropout: DropoutShare = 0.0


class Pool(Block):
    """Max or average pooling over windows of `size` × `size` pixels, then dropout. The stride is the size."""

    block: Literal["pool"] = "pool"
    kind: Literal["max", "average"] = "max"
    size: int = Field(2, ge=1, le=64)
    stride: Stride | None = None
    padding: int = Field(0, ge=0, le=32, description="pixels on each side that do not count; at most half the size")
    dropout: DropoutShare = 0.0

    @model_validator(mode="after")
    def _half_at_most(self) -> Self:
        if self.padding > self.size // 2:
            raise PydanticCustomError("padding", "the padding of a pool is at most half its size, rounded down")
        return self


class BatchNorm(Block):
    """Batch norm of pictures. The convolutions have a key `batch_norm` of their own, for one before the activation."""

    block: Literal["batch_norm"] = "batch_norm"


class Flatten(Block):
    """Every value of a picture becomes a feature, in place of global average pooling: the picture's size is fixed."""

    block: Literal["flatten"] = "flatten"


class Dense(Block):
    """A linear layer to `size` features, then activation, dropout."""

    block: Literal["dense"] = "dense"
    size: Channels
    activation: Activation = "relu"
    dropout: DropoutShare = 0.0


class Dropout(Block):
    """Dropout of what comes in, in training. The other blocks have a key `dropout` of their own."""

    block: Literal["dropout"] = "dropout"
    dropout: float = Field(gt=0, lt=1)


AnyBlock = Annotated[
    Conv | Inception | Residual | Pool | BatchNorm | Flatten | Dense | Dropout, Field(discriminator="block")
]

_BLOCKS = TypeAdapter(list[AnyBlock])


def read_blocks(values: list[dict[str, Any]]) -> list[AnyBlock]:
    """Blocks from the plain values that `model_dump` returns.

    Raises:
        pydantic.ValidationError: an unknown key, a wrong type or a value out of range.
    """
    return _BLOCKS.validate_python(values)


def _is_single(name: str) -> str:
    if name in ("blocks", "ensemble"):
        raise PydanticCustomError("member", "a member is one of the networks that `tellapart models --all` lists")
    return name


class Member(Section):
    """One backbone of an ensemble, and where its weights come from."""

    name: Annotated[str, AfterValidator(_is_single)]
    pretrained: bool = True
    weights: str | None = Field(default=None, description="a file of weights, instead of the pretrained ones")
    layout: Layout = CURRENT_LAYOUT

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Self:
        check_layout(self.name, self.layout)
        return self

    @model_serializer(mode="wrap")
    def _own_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the layout where there is one alone."""
        values: dict[str, Any] = serialize(self)
        return {key: value for key, value in values.items() if key != "layout" or self.name in LAYOUTS}


def check_layout(name: str, layout: int) -> None:
    """Refuse a layout for a network that has only one."""
    if layout != CURRENT_LAYOUT and name not in LAYOUTS:
        raise PydanticCustomError("unused", f"'layout' belongs to {', '.join(LAYOUTS)}; '{name}' has one alone")
