"""Pretrained weights from a file, the folder TELLAPART_WEIGHTS, a package, or the hub.

Random ones are never taken in silence.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tellapart.core.bundle_description import DESCRIPTION, read_description
from tellapart.core.plain_json import read_json_file
from tellapart.core.preprocess import Preprocessing
from tellapart.core.suggest import did_you_mean
from tellapart.core.text import as_lines
from tellapart.errors import ModelError, TellapartError, WeightsError
from tellapart.models import backbones, hub, weight_packages
from tellapart.models.architecture import Architecture, Source
from tellapart.models.scratch import OWN
from tellapart.models.weights import State, first_line, read_weights
from tellapart.recipe.networks import LAYOUTS
from tellapart.recipe.schema import Model

FOLDER = "TELLAPART_WEIGHTS"

#: Endings of files of weights in that folder.
_ENDINGS = (".torchvision.safetensors", ".safetensors")


@dataclass(frozen=True)
class Definition:
    """A backbone and its weights, before anything is built.

    Attributes:
        source, name, options: the definition of the backbone; see `Architecture`.
        preprocessing: that of the weights.
        state: the weights by name, or None for random ones.
        origin: where they come from, in words.
        licence: of the weights, as the description beside them has it; "" where there is none.
    """

    source: Source
    name: str
    preprocessing: Preprocessing
    options: dict[str, Any] = field(default_factory=dict)
    state: State | None = None
    origin: str = "random initial weights"
    licence: str = ""


def find(model: Model) -> Definition:
    """Find a network and its weights: a file that is named, the folder TELLAPART_WEIGHTS, a package, the hub.

    Raises:
        ModelError: no such network.
        WeightsError: weights are wanted and cannot be had; with what was tried and the ways out.
    """
    if model.name == "blocks":
        return _blocks(model)
    local = local_weights()
    sources = _sources(model.name)
    if not sources and model.name not in local:
        raise _unknown(model.name, local)
    if model.weights is not None:
        return _from_path(model, Path(model.weights).expanduser(), sources)
    if model.name in local:
        # Without its weights too the folder's definition counts, so that the network is the same.
        return _from_path(model, local[model.name], sources, read=model.pretrained)
    if not model.pretrained:
        return _described(model, sources[0])
    if sources[0] == "own":
        raise _unpublished(model.name)
    if model.name in weight_packages.installed():
        return _from_package(model.name)
    return _from_hub(model, sources[0], _tried_folder(local))


def _blocks(model: Model) -> Definition:
    """A network built of the recipe's blocks."""
    definition = Definition(
        "own", "blocks", Preprocessing(64, 64), {"blocks": [block.model_dump() for block in model.blocks]}
    )
    if model.weights is not None:
        return replace(definition, state=read_weights(Path(model.weights).expanduser()), origin=model.weights)
    if model.pretrained:
        raise _unpublished(model.name)
    return definition


def _unpublished(name: str) -> WeightsError:
    return WeightsError(
        f"{name} is a network of Tellapart's own: nobody publishes weights for it.",
        "Train it from scratch (--recipe scratch), or give weights of your own (--weights FILE).",
    )


def local_weights() -> dict[str, Path]:
    """Names and paths of the weights in the folder TELLAPART_WEIGHTS; empty where there is none.

    A folder with a `config.json` may have any name; a file has the name of a network.
    """
    named = os.environ.get(FOLDER)
    root = Path(named or ".").expanduser()
    if not named or not root.is_dir():
        return {}
    paths: dict[str, Path] = {}
    for path in sorted(root.iterdir(), key=lambda p: (p.is_file(), p.name)):
        ending = next((e for e in _ENDINGS if path.name.endswith(e)), None)
        if (path / "config.json").is_file():
            paths[path.name] = path
        elif ending and path.is_file() and _sources(path.name.removesuffix(ending)):
            paths.setdefault(path.name.removesuffix(ending), path)
    return paths


def _sources(name: str) -> list[Source]:
    """Who defines a network of this name, first choice first."""
    if name in OWN:
        return ["own"]
    sources: list[Source] = ["timm"] if backbones.is_timm(name) else []
    return [*sources, "torchvision"] if name in backbones.torchvision_names() else sources


def _unknown(name: str, local: dict[str, Path]) -> ModelError:
    if name == "auto":
        return ModelError(
            'The recipe leaves open which network it is (model.name = "auto"), which only a [plan] can choose.',
            "Name it, --set model.name=tf_efficientnet_lite0 for one; or train with --recipe fast.",
        )
    names = [*OWN, *local, *sorted(backbones.timm_names() | backbones.torchvision_names())]
    hint = f"{did_you_mean(name, names, 4)} tellapart models --all lists them.".lstrip()
    return ModelError(f"There is no network '{name}'.", hint)


def _described(model: Model, source: Source) -> Definition:
    """A network as its source defines it, without weights."""
    name = model.name
    if source == "own":
        options = {"layout": model.layout} if name in LAYOUTS else {}
        return Definition(source, name, backbones.own_preprocessing(name, model.layout), options)
    if source == "torchvision":
        return Definition(source, name, backbones.torchvision_preprocessing(name))
    return Definition(source, name, backbones.timm_preprocessing(hub.timm_published(name)))


def _from_path(model: Model, path: Path, sources: list[Source], read: bool = True) -> Definition:
    """Weights in a file, or in a folder as timm's hub lays it out."""
    name = model.name
    if not path.exists():
        raise WeightsError(f"{path}: there is no such file.", "Check --weights, or leave it out.")
    if path.is_dir():
        definition = _described_by_config(path)
        file = next((path / f for f in hub.HUB_FILES if (path / f).is_file()), path / hub.HUB_FILES[0])
        return replace(definition, state=read_weights(file), origin=str(path)) if read else definition
    if not sources:
        raise _unknown(name, {})
    if not read:
        return _described(model, sources[0])
    state = read_weights(path)
    if path.with_name(DESCRIPTION).is_file():
        return replace(_described_by_bundle(path.parent, name), state=state, origin=str(path))
    source = max(sources, key=lambda s: _overlap(name, s, state)) if len(sources) > 1 else sources[0]
    return replace(_described(model, source), state=state, origin=str(path))


def _described_by_config(folder: Path) -> Definition:
    """A network of timm as the `config.json` beside its weights describes it."""
    file = folder / "config.json"
    try:
        config = read_json_file(file)
        published = config.get("pretrained_cfg", config)
        architecture, options = str(config["architecture"]), dict(config.get("model_args") or {})
        preprocessing = Preprocessing.from_dict(backbones.timm_preprocessing(published).as_dict())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file} is not as timm's hub writes it: {type(error).__name__}: {error}") from None
    if not backbones.is_timm(architecture):
        raise ModelError(f"{file} asks for '{architecture}', a network that the installed timm does not know.")
    options.pop("num_classes", None)
    if published.get("fixed_input_size"):
        options.setdefault("img_size", [preprocessing.height, preprocessing.width])
    return Definition("timm", architecture, preprocessing, options, licence=str(published.get("license") or ""))


def _described_by_bundle(folder: Path, name: str) -> Definition:
    """The network that a bundle of ours holds: its padding, mean and deviation may differ from the published ones."""
    its = Architecture.from_dict(read_description(folder).architecture)
    if its.name != name:
        raise WeightsError(
            f"The weights beside {folder / DESCRIPTION} are those of {its.name}, not {name}.", f"--model {its.name}"
        )
    return Definition(its.source, its.name, its.preprocessing, its.options)


def _overlap(name: str, source: Source, state: State) -> int:
    """Number of names that a state shares with a backbone: tells timm's layout from torchvision's."""
    backbone = backbones.timm_backbone(name, {}) if source == "timm" else backbones.torchvision_backbone(name)
    return len(backbone.state_dict().keys() & state.keys())


def _from_package(name: str) -> Definition:
    package = weight_packages.PACKAGES[name]
    state = weight_packages.read_package(package)
    origin = f"the package {package.package} {package.version}"
    return Definition("timm", name, package.preprocessing, state=state, origin=origin)


def _from_hub(model: Model, source: Source, tried: str) -> Definition:
    name, definition = model.name, _described(model, source)
    package = weight_packages.PACKAGES.get(name)
    try:
        state, origin = hub.from_torchvision(name) if source == "torchvision" else hub.from_timm(name)
        return replace(definition, state=state, origin=origin)
    except TellapartError:
        raise
    except Exception as error:  # noqa: BLE001 - the hub's client and the network raise anything
        raise WeightsError(
            as_lines(
                [
                    f"There are no pretrained weights for {name} to be had. Tried:",
                    f"  - {tried}",
                    *([f"  - the package {package.package}: it is not installed"] if package else []),
                    f"  - the hub: {first_line(error)}",
                ]
            ),
            as_lines(
                [
                    "Ways out:",
                    *(f"  - a network at hand:  --model {name}" for name in list(weight_packages.installed())[:1]),
                    *([f"  - a package: {package.install}"] if package else []),
                    "  - a file:    --weights FILE (safetensors, or a plain state dict)",
                    f"  - a folder:  {FOLDER}=FOLDER that holds {name}/ (as timm's hub does), or {name}.safetensors",
                    "  - no weights at all:  --recipe scratch",
                ]
            ),
        ) from None


def announcements(model: Model) -> list[str]:
    """What building a network is going to fetch from a hub, a sentence each. Nothing where that will fail anyway."""
    sentences = []
    for part in [Model(**member.model_dump()) for member in model.members] or [model]:
        sources = _sources(part.name)
        here = part.name in local_weights() or part.name in weight_packages.installed()
        if part.weights is not None or not part.pretrained or here or not sources or sources[0] == "own":
            continue
        with contextlib.suppress(hub.NotThereError):
            if download := hub.to_fetch(sources[0], part.name):
                sentences.append(f"Fetching the pretrained weights of {part.name}: {download.sentence}.")
    return sentences


def _tried_folder(local: dict[str, Path]) -> str:
    folder = os.environ.get(FOLDER)
    if not folder:
        return f"a folder of weights: {FOLDER} is not set"
    if not Path(folder).expanduser().is_dir():
        return f"a folder of weights: {FOLDER}={folder} is not a folder"
    return f"the folder {FOLDER}={folder}: it holds {', '.join(local) or 'no weights'}"
