"""Backbones of timm, and those of torchvision that timm lacks.

A backbone turns normalised float [n, 3, h, w] into one feature vector a picture, [n, d]. The classifier it was
published with is left out; everything else keeps its published names, so that published weights fit.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from tellapart.core.preprocess import Interpolation, Preprocessing
from tellapart.errors import ModelError
from tellapart.models.options import check_options
from tellapart.models.scratch import OWN, own_network

#: Family of torchvision: the layer that gives the logits; the parts of its backbone, in order. `pool` and `flatten` are
#: made where torchvision calls a function instead. No parts: not a chain, its own `forward` is kept.
_FAMILIES: dict[str, tuple[str, str]] = {
    "alexnet": ("classifier.6", "features avgpool flatten classifier"),
    "convnext": ("classifier.2", "features avgpool classifier"),
    "densenet": ("classifier", "features relu pool flatten"),
    "efficientnet": ("classifier.1", "features avgpool flatten"),
    "googlenet": (
        "fc",
        "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b inception4c "
        "inception4d inception4e maxpool4 inception5a inception5b avgpool flatten",
    ),
    "maxvit": ("classifier.5", "stem blocks classifier"),
    "mnasnet": ("classifier.1", "layers pool flatten"),
    "mobilenet_v2": ("classifier.1", "features pool flatten"),
    "mobilenet_v3": ("classifier.3", "features avgpool flatten classifier"),
    "regnet": ("fc", "stem trunk_output avgpool flatten"),
    "shufflenet": ("fc", "conv1 maxpool stage2 stage3 stage4 conv5 pool flatten"),
    "squeezenet": ("classifier", "features pool flatten"),
    "swin": ("head", "features norm permute avgpool flatten"),
    "vgg": ("classifier.6", "features avgpool flatten classifier"),
    "vit": ("heads.head", ""),
}

# timm's own registry alone: a name with a colon would ask a hub, or read a folder.
_TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")


@cache
def timm_names() -> frozenset[str]:
    """Names of the networks that timm defines, without tags."""
    import timm

    return frozenset(timm.list_models())


@cache
def torchvision_names() -> frozenset[str]:
    """Names of torchvision's classifiers that can be used here."""
    from torchvision import models

    return frozenset(n for n in models.list_models(module=models) if n.startswith(tuple(_FAMILIES)))


def is_timm(name: str) -> bool:
    """Whether timm defines this network; the name may end in a tag, as in "resnet34.a1_in1k"."""
    import timm

    return bool(_TIMM_NAME.fullmatch(name) and timm.is_model(name))


def is_known(source: str, name: str) -> bool:
    """Whether "own", "timm" or "torchvision" defines a network of this name."""
    if source == "own":
        return name == "blocks" or name in OWN
    return is_timm(name) if source == "timm" else name in torchvision_names()


def timm_backbone(name: str, options: dict[str, Any]) -> nn.Module:
    """A backbone of timm with random weights, at the picture size it was published for.

    Args:
        name: timm's name, with or without the tag of its weights.
        options: arguments for timm's constructor; those that a file may set.

    Raises:
        ModelError: timm cannot build it so, or has no such network.
    """
    import timm

    if not is_timm(name):
        raise ModelError(f"timm has no network {name!r}.", "tellapart models --all lists what there is.")
    try:
        check_options("timm", options)
        backbone = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        extra = f" with {options}" if options else ""
        raise ModelError(
            f"timm cannot build {name}{extra}: {error}", "tellapart models --all lists what there is."
        ) from None
    return backbone


def timm_state(name: str) -> dict[str, torch.Tensor]:
    """Names and shapes of the weights of a network of timm and its classifier, in timm's order, without memory."""
    import timm

    with torch.device("meta"):
        whole: nn.Module = timm.create_model(name, pretrained=False)
    return whole.state_dict()


def torchvision_backbone(name: str) -> nn.Module:
    """A backbone of torchvision with random weights."""
    from torchvision import models

    # torchvision warns that googlenet's initialisation may change, unless it is told which one to use.
    extra = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    whole = models.get_model(name, weights=None, **extra)
    last, parts = _family(name)
    parent, _, key = last.rpartition(".")
    setattr(whole.get_submodule(parent), key, nn.Identity())
    if not parts:
        return cast(nn.Module, whole)
    made = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "relu": nn.ReLU()}
    backbone: OrderedDict[str, nn.Module] = OrderedDict()
    for part in parts.split():
        backbone[part] = getattr(whole, part) if hasattr(whole, part) else made[part]
    if "classifier" in backbone:
        layers = list(backbone["classifier"].named_children())
        # The last dropout acts on the features, so it belongs to the head.
        while isinstance(layers[-1][1], nn.Dropout | nn.Identity):
            layers.pop()
        backbone["classifier"] = nn.Sequential(OrderedDict(layers))
    if "blocks" in backbone:
        backbone["blocks"] = nn.Sequential(*backbone["blocks"].children())
    return nn.Sequential(backbone)


def classifier_keys(source: str, name: str, backbone: nn.Module) -> tuple[str, ...]:
    """Prefixes of the published weights that belong to the classifier, which the backbone lacks."""
    if source == "torchvision":
        auxiliary = ("aux1.", "aux2.") if name == "googlenet" else ()
        return (f"{_family(name)[0]}.", *auxiliary)
    if source == "timm":
        names = _published(backbone).get("classifier") or ()
        keys = backbone.state_dict().keys()
        return tuple(_widest(n, keys) for n in ((names,) if isinstance(names, str) else names))
    return ()


def _widest(classifier: str, keys: Iterable[str]) -> str:
    """Prefix of the outermost module around a classifier of which the backbone keeps nothing (some hold norms)."""
    path = classifier.split(".")
    around = (".".join(path[:depth]) + "." for depth in range(1, len(path) + 1))
    return next((prefix for prefix in around if not any(k.startswith(prefix) for k in keys)), f"{classifier}.")


def resize_timm(name: str, backbone: nn.Module, options: dict[str, Any], height: int, width: int) -> None:
    """Make a backbone of timm that is tied to one picture size (such as a vision transformer) take another.

    Position embeddings are interpolated, so weights are loaded before.

    Args:
        name: for messages.
        backbone: changed in place.
        options: constructor arguments that it was built with.
        height, width: of the pictures to come, in pixels.

    Raises:
        ModelError: it cannot take that size.
    """
    published = _published(backbone)
    built_for = options.get("img_size") or published.get("input_size", (3, 0, 0))[1:]
    native = (built_for, built_for) if isinstance(built_for, int) else tuple(built_for)
    if not published.get("fixed_input_size") or native == (height, width):
        return
    if not hasattr(backbone, "set_input_size"):
        raise ModelError(
            f"{name} takes pictures of {native[1]}×{native[0]} pixels only, not {width}×{height}.",
            f"Leave out data.size, or choose {native[0]}.",
        )
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", None) or (1, 1)
    if height % patch[0] or width % patch[1]:
        down = max(height // patch[0], 1) * patch[0]
        raise ModelError(
            f"{name} takes pictures whose sides are multiples of {patch[0]} pixels, not {width}×{height}.",
            f"Nearest: --set data.size={down} or --set data.size={down + patch[0]}",
        )
    resize = cast(Callable[..., None], backbone.set_input_size)
    try:
        resize(img_size=(height, width))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(f"{name} cannot take pictures of {width}×{height} pixels: {error}") from None


def count_features(name: str, backbone: nn.Module, height: int, width: int) -> int:
    """Length of the feature vector, found by running the backbone once on an empty picture.

    Raises:
        ModelError: the backbone cannot take pictures of this size; with the smallest size that works.
    """
    try:
        features = _try(backbone, height, width)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        smallest = _smallest_size(backbone, min(height, width))
        raise ModelError(
            f"{name} cannot take pictures of {width}×{height} pixels ({str(error).splitlines()[0]}).",
            f"The smallest size that works is {smallest}: --set data.size={smallest}"
            if smallest
            else "Leave out data.size for the size it was made for.",
        ) from None
    if features.ndim != 2:
        raise ModelError(
            f"{name} does not give one feature vector a picture, so no head can stand on it.",
            "Choose another network: tellapart models --all lists them.",
        )
    return features.shape[1]


def _try(backbone: nn.Module, height: int, width: int) -> torch.Tensor:
    training = backbone.training
    weight = next(backbone.parameters())
    try:
        with torch.no_grad():
            result: torch.Tensor = backbone.eval()(
                torch.zeros(1, 3, height, width, device=weight.device, dtype=weight.dtype)
            )
    finally:
        backbone.train(training)
    return result


def _smallest_size(backbone: nn.Module, too_small: int, largest: int = 512) -> int | None:
    """Smallest side above `too_small` that works, by bisection; None where not even `largest` does."""

    def works(side: int) -> bool:
        try:
            return _try(backbone, side, side).numel() > 0
        except (RuntimeError, AssertionError, ValueError, IndexError):
            return False

    low, high = too_small, largest
    if not works(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high


def own_preprocessing(name: str, layout: int) -> Preprocessing:
    """Preprocessing of our own networks: their own size, ImageNet's mean and deviation, the whole picture."""
    size = own_network(name, layout).size
    return Preprocessing(size, size)


def timm_preprocessing(published: dict[str, Any]) -> Preprocessing:
    """Preprocessing that timm publishes with its weights (`pretrained_cfg`)."""
    _, height, width = published.get("input_size") or (3, 224, 224)
    return Preprocessing(
        height,
        width,
        crop=float(published.get("crop_pct") or 0.875),
        interpolation=_interpolation(published.get("interpolation", "bicubic")),
        mean=_three(published.get("mean") or (0.485, 0.456, 0.406)),
        std=_three(published.get("std") or (0.229, 0.224, 0.225)),
    )


def torchvision_preprocessing(name: str) -> Preprocessing:
    """Preprocessing that torchvision publishes with its newest weights, in their transforms."""
    from torchvision import models

    if name == "googlenet":
        # Published with a layer that turns ImageNet's scaling into this one (`transform_input`).
        return Preprocessing(224, 224, crop=0.875, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    preprocessing = models.get_model_weights(name).DEFAULT.transforms()
    return Preprocessing(
        preprocessing.crop_size[0],
        preprocessing.crop_size[0],
        crop=preprocessing.crop_size[0] / preprocessing.resize_size[0],
        interpolation=_interpolation(preprocessing.interpolation.value),
        mean=_three(preprocessing.mean),
        std=_three(preprocessing.std),
    )


def _family(name: str) -> tuple[str, str]:
    return next(_FAMILIES[family] for family in _FAMILIES if name.startswith(family))


def _published(backbone: nn.Module) -> dict[str, Any]:
    return cast(dict[str, Any], getattr(backbone, "pretrained_cfg", {}))


def _interpolation(name: str) -> Interpolation:
    known: dict[str, Interpolation] = {"nearest": "nearest", "bilinear": "bilinear", "lanczos": "lanczos"}
    return known.get(name, "bicubic")


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
