"""From a recipe to a network: the body with its weights, a new head, and how pictures are brought to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from tellapart.errors import ModelError
from tellapart.models import bodies, hub
from tellapart.models.heads import build_head
from tellapart.models.network import Architecture, Network, Source
from tellapart.models.pretrained import find, local_weights
from tellapart.models.scratch import OWN, build_own
from tellapart.models.weights import State, fill
from tellapart.preprocess import Preprocessing
from tellapart.recipe import Data, Model


@dataclass(frozen=True)
class ModelInfo:
    """A network that can be named in a recipe.

    Attributes:
        name: for `--model`.
        source: who defines it.
        local_weights: pretrained weights lie on this machine.
    """

    name: str
    source: Source
    local_weights: bool


def create_network(model: Model, n_classes: int, data: Data) -> Network:
    """Build the network that a recipe describes, with its initial weights.

    The same `torch.manual_seed` before gives the same initial weights.

    Args:
        model: name, weights and head.
        n_classes: number of logits, at least 1.
        data: its size, fit and crop go before those that the weights were made with.

    Raises:
        ModelError: no such network, or it cannot take pictures of that size.
        WeightsError: its weights cannot be had or do not fit.
    """
    found = find(model)
    options = dict(found.options)
    if model.dropout is not None:
        if found.source != "own":
            raise ModelError(
                f"model.dropout is for networks of Tellapart's own, and {model.name} is not one.",
                "Dropout before the last layer of any network: --set model.head.dropout=0.2",
            )
        options["dropout"] = model.dropout
    architecture = Architecture(
        found.source, found.name, model.head, n_classes, _preprocessing(found.preprocessing, data), options
    )
    return _build(architecture, found.state, found.origin)


def rebuild(architecture: Architecture) -> Network:
    """The same network with random weights, for weights that are loaded next."""
    return _build(architecture, None, "random initial weights")


def available_models(pretrained_only: bool = False) -> list[ModelInfo]:
    """The networks that a recipe can name.

    Args:
        pretrained_only: only those with pretrained weights, by their full names (with the tag that tells several
            weights of one network apart); those on this machine come first.
    """
    import timm

    local, cached = local_weights().keys(), hub.cached_names()
    torchvision = sorted(bodies.torchvision_names() - bodies.timm_names())
    sources: dict[str, Source] = {} if pretrained_only else dict.fromkeys(OWN, "own")
    sources |= dict.fromkeys(timm.list_models(pretrained=pretrained_only), "timm")
    sources |= dict.fromkeys(torchvision, "torchvision")
    # What else the folder holds is laid out as timm's hub does it, or has a name without a tag.
    sources |= {n: "own" if n in OWN else "timm" for n in sorted(local) if n not in sources}
    models = [ModelInfo(name, source, name in local or name in cached) for name, source in sources.items()]
    return sorted(models, key=lambda m: not m.local_weights) if pretrained_only else models


def _build(architecture: Architecture, state: State | None, origin: str) -> Network:
    a, how = architecture, architecture.preprocessing
    body = _body(a)
    if state is not None:
        origin = fill(body, state, bodies.classifier_keys(a.source, a.name, body), origin)
    if a.source == "timm":
        bodies.resize_timm(a.name, body, a.options, how.height, how.width)
    n_features = bodies.count_features(a.name, body, how.height, how.width)
    head = build_head(n_features, a.n_classes, a.head)
    return Network(body, head, a, n_features, origin).to(memory_format=torch.channels_last)  # as pictures come


def _body(a: Architecture) -> nn.Module:
    if a.source == "own":
        return build_own(a.name, a.preprocessing.height, a.preprocessing.width, **a.options)
    if a.source == "timm":
        return bodies.timm_body(a.name, a.options)
    return bodies.torchvision_body(a.name)


def _preprocessing(published: Preprocessing, data: Data) -> Preprocessing:
    """The weights' own, unless the recipe says otherwise."""
    crop = data.crop or published.crop
    return replace(
        published,
        height=data.size or published.height,
        width=data.size or published.width,
        fit=data.fit,
        crop=crop if data.fit == "crop" else 1.0,
    )
