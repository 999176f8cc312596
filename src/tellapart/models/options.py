"""The options of a network that a file may set, by list: sizes and kinds of layers.

A run directory, a bundle or a folder of weights may come from anybody, and what it says of the network reaches timm's
constructor, which can read other files and ask a hub. None of these options names a file, an address, or code.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from tellapart.core.plain_json import first_fault
from tellapart.core.preprocess import MOST_SIDE
from tellapart.recipe.networks import AnyBlock, DropoutShare, Layout
from tellapart.recipe.transforms import Section

#: Pixels of a side.
Side = Annotated[int, Field(strict=True, ge=1, le=MOST_SIDE)]

Share = Annotated[float, Field(ge=0, le=1)]
Small = Annotated[int, Field(ge=0, le=256)]


class OwnOptions(Section):
    """Options of a network of our own."""

    dropout: DropoutShare | None = None
    batch_norm: bool = False
    layout: Layout = 1


class BlocksOptions(Section):
    """The blocks of a network that is built of them."""

    blocks: Annotated[list[AnyBlock], Field(min_length=1, max_length=1000)]


class TimmOptions(Section):
    """Arguments of timm's constructors."""

    in_chans: Literal[3] | None = None
    img_size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    pad_type: Literal["", "same", "valid", "symmetric"] | None = None
    global_pool: Literal["", "avg", "max", "avgmax", "catavgmax", "fast", "token", "map"] | None = None
    output_stride: Literal[8, 16, 32] | None = None
    act_layer: Literal["relu", "relu6", "gelu", "gelu_tanh", "quick_gelu", "silu", "swish", "hard_swish"] | None = None
    bn_eps: Share | None = None
    bn_momentum: Share | None = None
    drop_rate: Share | None = None
    drop_path_rate: Share | None = None
    init_values: Share | None = None
    patch_size: Small | None = None
    window_size: Small | None = None
    depth: Small | None = None
    num_heads: Small | None = None
    reg_tokens: Small | None = None
    embed_dim: Annotated[int, Field(ge=1, le=8192)] | None = None
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] | None = None
    qkv_bias: bool | None = None
    class_token: bool | None = None
    no_embed_class: bool | None = None
    dynamic_img_size: bool | None = None
    dynamic_img_pad: bool | None = None


class NoOptions(Section):
    """torchvision's networks have none."""


class EnsembleOptions(Section):
    """The members of an ensemble, each an architecture that is checked for itself."""

    members: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=64)]


_LISTS: dict[str, type[Section]] = {
    "own": OwnOptions,
    "blocks": BlocksOptions,
    "timm": TimmOptions,
    "torchvision": NoOptions,
    "ensemble": EnsembleOptions,
}


def check_options(kind: str, options: Any) -> None:
    """Refuse options that no file may set.

    Args:
        kind: "blocks", or who defines the network: "own", "timm", "torchvision", "ensemble".
        options: by name, as they come from a file.

    Raises:
        ValueError: one is not on the list, or out of range; with its name.
    """
    try:
        _LISTS[kind].model_validate(options)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None
