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

After the last block on pictures, global average pooling makes one feature of each channel.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from tellapart.recipe.transforms import Section


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
    """One convolution, padded so that stride 1 keeps the size; then batch norm, activation, dropout."""

    block: Literal["conv"] = "conv"
    channels: Channels
    kernel: Kernel = 3
    stride: Stride = 1
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
    """Max or average pooling over windows of `size` × `size` pixels; the stride is the size by default."""

    block: Literal["pool"] = "pool"
    kind: Literal["max", "average"] = "max"
    size: int = Field(2, ge=1, le=64)
    stride: Stride | None = None


class Dense(Block):
    """A linear layer to `size` features, then activation, dropout."""

    block: Literal["dense"] = "dense"
    size: Channels
    activation: Activation = "relu"
    dropout: DropoutShare = 0.0


class Dropout(Block):
    """Dropout of features in training. The other blocks have a key `dropout` of their own."""

    block: Literal["dropout"] = "dropout"
    dropout: float = Field(gt=0, lt=1)


AnyBlock = Annotated[Conv | Inception | Residual | Pool | Dense | Dropout, Field(discriminator="block")]

_BLOCKS = TypeAdapter(list[AnyBlock])


def read_blocks(values: list[dict[str, Any]]) -> list[AnyBlock]:
    """Blocks from the plain values that `model_dump` returns.

    Raises:
        pydantic.ValidationError: an unknown key, a wrong type or a value out of range.
    """
    return _BLOCKS.validate_python(values)


def _is_single(name: str) -> str:
    if name in ("blocks", "ensemble"):
        raise PydanticCustomError("member", "a member is one of the networks that `tellapart models` lists")
    return name


class Member(Section):
    """One backbone of an ensemble, and where its weights come from."""

    name: Annotated[str, AfterValidator(_is_single)]
    pretrained: bool = True
    weights: str | None = Field(default=None, description="a file of weights, instead of the pretrained ones")
