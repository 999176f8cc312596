"""Pretrained backbones that a plan may choose from: those at hand, and modern ones with free licences on timm's hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from tellapart.models import backbones, hub, weight_packages
from tellapart.models.pretrained import Definition, find, local_weights
from tellapart.models.scratch import OWN
from tellapart.recipe.schema import Model

Origin = Literal["folder", "package", "cache", "hub"]

_MEGA = 10**6
#: timm writes them small.
_SPDX = {name.lower(): name for name in ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-NC-4.0")}


@dataclass(frozen=True)
class Candidate:
    """A pretrained backbone.

    Attributes:
        name: for `--model`.
        size_px: side in pixels of the pictures to begin with: those of its pretraining, or fewer where that had many.
        macs: multiplications with an addition, a picture of that size.
        n_parameters: without its classifier.
        download_mb: megabytes (10⁶ bytes) to fetch; 0 where it is at hand.
        licence: of the weights, by its SPDX name; "" where they do not say.
        source: where the weights are: "folder" (TELLAPART_WEIGHTS), "package" (from the package index), "cache" (the
            hub's, on this machine), or "hub".
        download_seconds: how long that may take; 0 where it is at hand, or where nobody measured.
    """

    name: str
    size_px: int
    macs: int
    n_parameters: int
    download_mb: float
    licence: str
    source: Origin
    download_seconds: float = 0.0

    @property
    def at_hand(self) -> bool:
        """Whether nothing needs to be fetched."""
        return self.source != "hub"

    @property
    def cost(self) -> str:
        """A word for the computation a picture: low below 0.5 billion multiplications, high from 2 billion."""
        return "low" if self.macs < 500 * _MEGA else "medium" if self.macs < 2000 * _MEGA else "high"


def _on_hub(name: str, size_px: int, megamacs: int, kiloparameters: int, download_mb: float) -> Candidate:
    return Candidate(name, size_px, megamacs * _MEGA, kiloparameters * 1000, download_mb, "Apache-2.0", "hub")


#: Networks of timm whose weights are free, from the least to the most computation. Sizes, licences and counts are those
#: that timm states and that its networks give when they are counted; a test does so.
PUBLISHED = (
    _on_hub("mobilenetv4_conv_small.e2400_r224_in1k", 224, 185, 2493, 15.2),
    _on_hub("mobilenetv2_100.ra_in1k", 224, 299, 2224, 14.2),
    _on_hub("tf_efficientnet_lite0.in1k", 224, 384, 3371, 18.8),
    _on_hub("efficientnet_b0.ra4_e3600_r224_in1k", 224, 385, 4008, 21.3),
    _on_hub("convnext_atto.d2_in1k", 224, 547, 3375, 14.8),
    _on_hub("tf_efficientnet_lite1.in1k", 240, 599, 4136, 21.9),
    _on_hub("tf_efficientnet_lite2.in1k", 260, 858, 4811, 24.6),
    _on_hub("mobilenetv4_conv_medium.e500_r256_in1k", 256, 1079, 8435, 39.1),
    _on_hub("tiny_vit_5m_224.dist_in22k_ft_in1k", 224, 1255, 5072, 21.6),
    _on_hub("mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k", 256, 1270, 9794, 44.6),
    _on_hub("tf_efficientnetv2_b3.in21k_ft_in1k", 240, 1907, 12821, 57.9),
    _on_hub("convnext_nano.in12k_ft_in1k", 224, 2445, 14953, 62.4),
    _on_hub("resnet50.a1_in1k", 224, 4087, 23508, 102.4),
    _on_hub("convnext_tiny.in12k_ft_in1k", 224, 4455, 27820, 114.4),
    _on_hub("vit_small_patch14_reg4_dinov2.lvd142m", 224, 6228, 21630, 88.2),
)


def candidates(offline: bool = False) -> list[Candidate]:
    """The backbones that a training can begin with: those at hand first, then those that the hub would send.

    Where the hub may be asked, it is: whether it answers, and how fast it sends. That takes a few seconds at most.

    Args:
        offline: never ask the hub, as with HF_HUB_OFFLINE.

    Raises:
        WeightsError: a folder in TELLAPART_WEIGHTS is not as timm's hub writes it.
    """
    here = at_hand()
    if offline:
        return here
    try:
        bytes_a_second = hub.hub_speed(PUBLISHED[0].name)
    except hub.NotThereError:
        return here
    rest = [replace(c, download_seconds=c.download_mb * _MEGA / bytes_a_second) for c in not_at_hand(here)]
    return here + rest


def at_hand() -> list[Candidate]:
    """The backbones whose pretrained weights lie on this machine, in the order in which they are looked for."""
    origins: dict[str, Origin] = {}
    for names, origin in _local_names():
        origins |= {name: origin for name in names if name not in origins}
    return [_described(name, origin) for name, origin in origins.items()]


def not_at_hand(here: list[Candidate]) -> list[Candidate]:
    """Those of the hub of which `here` has neither these weights nor others."""
    names = {_architecture(candidate.name) for candidate in here}
    return [candidate for candidate in PUBLISHED if _architecture(candidate.name) not in names]


def _local_names() -> Iterator[tuple[list[str], Origin]]:
    yield [name for name in local_weights() if name not in OWN], "folder"
    yield list(weight_packages.installed()), "package"
    # The hub's cache also holds what other programs fetched, and networks that another version of timm knew.
    yield [name for name in hub.cached_names() if backbones.is_timm(name) and hub.is_published(name)], "cache"


def _described(name: str, origin: Origin) -> Candidate:
    definition = find(Model(name=name, pretrained=False))
    size = definition.preprocessing.height
    same = [c for c in PUBLISHED if _architecture(c.name) == _architecture(definition.name)]
    size = min([size, *(c.size_px for c in same)]) if same else size
    macs, n_parameters = next(((c.macs, c.n_parameters) for c in same if c.size_px == size), (0, 0))
    if not macs:
        macs, n_parameters = count(definition, size)
    return Candidate(name, size, macs, n_parameters, 0.0, _licence(definition, name, origin), origin)


def _licence(definition: Definition, name: str, origin: Origin) -> str:
    if origin == "package":
        return weight_packages.PACKAGES[name].licence
    stated = hub.timm_published(name).get("license") or "" if origin == "cache" else definition.licence
    return _SPDX.get(stated.lower(), stated)


def count(definition: Definition, size: int) -> tuple[int, int]:
    """Multiplications with an addition a picture, and parameters, of a backbone; it is built without memory."""
    with torch.device("meta"):
        if definition.source == "timm":
            backbone = backbones.timm_backbone(definition.name, definition.options)
            backbones.resize_timm(definition.name, backbone, definition.options, size, size)
        else:
            backbone = backbones.torchvision_backbone(definition.name)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            backbone.eval()(torch.zeros(1, 3, size, size))
    # The counter takes a multiplication and an addition for two.
    return counter.get_total_flops() // 2, sum(weight.numel() for weight in backbone.parameters())


def _architecture(name: str) -> str:
    """A name without its tag."""
    return name.partition(".")[0]
