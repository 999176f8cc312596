"""Networks from recipes: the backbone with its weights, a new head, and the preprocessing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import torch
from torch import nn

from tellapart.core.preprocess import Preprocessing
from tellapart.errors import ModelError, WeightsError
from tellapart.models import backbones, hub, weight_packages
from tellapart.models.architecture import Architecture, Source
from tellapart.models.blocks import build_blocks
from tellapart.models.ensemble import SideBySide, shared_preprocessing
from tellapart.models.heads import build_head
from tellapart.models.network import Network
from tellapart.models.pretrained import find, local_weights
from tellapart.models.scratch import OWN, build_own
from tellapart.models.weights import State, fill, head_of, read_weights
from tellapart.recipe.load import read_recipe
from tellapart.recipe.networks import read_blocks
from tellapart.recipe.schema import Data, Head, Model

#: File of a run directory with its initial weights.
INITIAL = Path("checkpoints") / "initial.safetensors"


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
        data: its size, fit and crop override those of the weights.

    Raises:
        ModelError: no such network, or it cannot take pictures of that size.
        WeightsError: its weights cannot be had or do not fit.
    """
    if model.resize_inside and not data.size:
        raise ModelError(
            "model.resize_inside needs data.size, the size of the pictures before the network enlarges them.",
            "For example: --set data.size=32",
        )
    if run := _run_of(model.weights):
        return _as_it_began(run, model, n_classes, data)
    if model.members:
        return _ensemble(model, n_classes, data)
    definition = find(model)
    options = dict(definition.options)
    if model.dropout is not None:
        if definition.source != "own" or model.blocks:
            raise ModelError(
                f"model.dropout is for networks of Tellapart's own, and {model.name} is not one.",
                "Dropout before the last layer of any network: --set model.head.dropout=0.2",
            )
        options["dropout"] = model.dropout
    if model.batch_norm:
        options["batch_norm"] = True
    architecture = Architecture(
        definition.source,
        definition.name,
        model.head,
        n_classes,
        _preprocessing(definition.preprocessing, data),
        options,
        model.resize_inside,
    )
    return _build(architecture, [(definition.state, definition.origin)])


def _run_of(weights: str | None) -> Path | None:
    """The run directory of `weights`, which names it or its file of initial weights; None for other files."""
    path = Path(weights or "").expanduser()
    if path.name == INITIAL.name and path.parent.name == INITIAL.parent.name:
        path = path.parent.parent
    return path if weights and (path / "recipe.toml").is_file() else None


def _as_it_began(run: Path, model: Model, n_classes: int, data: Data) -> Network:
    """The network with the initial weights of another run: its head's too, where that has the same shape.

    So two runs differ in what was changed, and not in chance.
    """
    theirs = read_recipe(run / "recipe.toml")[0].model
    if theirs.name != model.name:
        raise WeightsError(
            f"{run} began with the network {theirs.name}, not {model.name}.", f"For the same: --model {theirs.name}"
        )
    if theirs.layout != model.layout:
        raise WeightsError(
            f"{run} began with layout {theirs.layout} of {theirs.name}, not {model.layout}.",
            f"For the same: --set model.layout={theirs.layout}",
        )
    # Only the layers are needed, as that run had them: what they begin with is replaced.
    members = [member.model_copy(update={"pretrained": False}) for member in model.members]
    bare = {"pretrained": False, "weights": theirs.weights, "members": members}
    network = create_network(model.model_copy(update=bare), n_classes, data)
    state = read_weights(run / INITIAL)
    backbone, head = {k: v for k, v in state.items() if not head_of({k: v})}, head_of(state)
    origin = fill(network.backbone, backbone, (), f"{run}, as it began")
    wanted = network.head.state_dict()
    if head.keys() == wanted.keys() and all(head[key].shape == wanted[key].shape for key in wanted):
        network.head.load_state_dict(head)
    else:
        origin += f", but for its head: {n_classes} classes or other layers here"
    network.weights_source = origin
    return network


def _ensemble(model: Model, n_classes: int, data: Data) -> Network:
    """An ensemble: backbones side by side; see `ensemble.SideBySide`."""
    if model.weights is not None or model.dropout is not None:
        raise ModelError("An ensemble has no weights or dropout of its own.", "Give each of [[model.members]] its own.")
    definition = [find(Model(**member.model_dump())) for member in model.members]
    inner = data if model.resize_inside is None else data.model_copy(update={"size": model.resize_inside})
    parts = [
        Architecture(f.source, f.name, Head(), 0, _preprocessing(f.preprocessing, inner), f.options) for f in definition
    ]
    shared = shared_preprocessing([part.preprocessing for part in parts])
    preprocessing = replace(shared, height=data.size or shared.height, width=data.size or shared.width)
    plain = json.loads(json.dumps([part.as_dict() for part in parts]))
    name = " + ".join(part.name for part in parts)
    architecture = Architecture(
        "ensemble", name, model.head, n_classes, preprocessing, {"members": plain}, model.resize_inside
    )
    return _build(architecture, [(f.state, f.origin) for f in definition])


def rebuild(architecture: Architecture, n_weights: int | None = None) -> Network:
    """The same network with random weights, for weights that are loaded next.

    Args:
        architecture: of a network, or from a file.
        n_weights: how many there are to load; a network that has more is refused before it takes memory for them.

    Raises:
        ModelError: it has more, or cannot be built.
    """
    if n_weights is not None:
        _refuse_larger(architecture, n_weights)
    return _build(architecture, repeat((None, "random initial weights")))


def _refuse_larger(a: Architecture, n_weights: int) -> None:
    """Build the backbones without memory, and count; of the head what does not depend on them."""
    parts = [Architecture.from_dict(values) for values in a.options["members"]] if a.source == "ensemble" else [a]
    with torch.device("meta"):
        backbones_alone = [_backbone(part) for part in parts]
        head = build_head(1, a.n_classes, a.head)
    n_own = sum(weight.numel() for module in (*backbones_alone, head) for weight in module.parameters())
    if n_own > n_weights:
        raise ModelError(
            f"{a.name} has {n_own:,} weights, and the file that is to fill them {n_weights:,}.",
            "The file belongs to another network: take it again from where it came from.",
        )


def available_models(pretrained_only: bool = False) -> list[ModelInfo]:
    """The networks that a recipe can name.

    Args:
        pretrained_only: only those with pretrained weights, by their full names (with the tag that tells several
            weights of one network apart); those on this machine come first.
    """
    import timm

    local = local_weights().keys()
    at_hand = {*local, *weight_packages.installed(), *hub.cached_names()}
    torchvision = sorted(backbones.torchvision_names() - backbones.timm_names())
    sources: dict[str, Source] = {} if pretrained_only else dict.fromkeys(OWN, "own")
    sources |= dict.fromkeys(timm.list_models(pretrained=pretrained_only), "timm")
    sources |= dict.fromkeys(torchvision, "torchvision")
    # What else the folder holds is laid out as timm's hub does it, or has a name without a tag.
    others = sorted({*local, *weight_packages.installed()} - sources.keys())
    sources |= {n: "own" if n in OWN else "timm" for n in others}
    models = [ModelInfo(name, source, name in at_hand) for name, source in sources.items()]
    return sorted(models, key=lambda m: not m.local_weights) if pretrained_only else models


def _build(a: Architecture, weights: Iterable[tuple[State | None, str]]) -> Network:
    """A network with these weights (and where they come from); one for each member of an ensemble."""
    height, width = a.backbone_size
    if a.source == "ensemble":
        parts = [Architecture.from_dict(values) for values in a.options["members"]]
        filled = [_filled(part, *own) for part, own in zip(parts, weights, strict=False)]
        origin = "; ".join(dict.fromkeys(own for _, own in filled))
        shared = replace(a.preprocessing, height=height, width=width)
        backbone: nn.Module = SideBySide(
            [backbone for backbone, _ in filled], [part.preprocessing for part in parts], shared
        )
    else:
        backbone, origin = _filled(a, *next(iter(weights)))
    n_features = backbones.count_features(a.name, backbone, height, width)
    head = build_head(n_features, a.n_classes, a.head)
    return Network(backbone, head, a, n_features, origin).to(memory_format=torch.channels_last)  # as pictures come


def _filled(a: Architecture, state: State | None, origin: str) -> tuple[nn.Module, str]:
    """One backbone with its weights, ready for pictures of its size, and where the weights come from."""
    backbone = _backbone(a)
    if state is not None:
        origin = fill(backbone, state, backbones.classifier_keys(a.source, a.name, backbone), origin)
    if a.source == "timm":
        backbones.resize_timm(a.name, backbone, a.options, *a.backbone_size)
    return backbone, origin


def _backbone(a: Architecture) -> nn.Module:
    if a.name == "blocks":
        return build_blocks(read_blocks(a.options["blocks"]), *a.backbone_size)
    if a.source == "own":
        return build_own(a.name, *a.backbone_size, **a.options)
    if a.source == "timm":
        return backbones.timm_backbone(a.name, a.options)
    return backbones.torchvision_backbone(a.name)


def _preprocessing(published: Preprocessing, data: Data) -> Preprocessing:
    """Preprocessing of the weights, with the changes that the recipe makes."""
    crop = data.crop or published.crop
    if data.normalisation:
        mean, std = data.normalisation.mean, data.normalisation.std
        published = replace(published, mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2]))
    return replace(
        published,
        height=data.size or published.height,
        width=data.size or published.width,
        fit=data.fit,
        crop=crop if data.fit == "crop" else 1.0,
    )
