"""Which parts of a picture speak for a class: Grad-CAM and integrated gradients, for any network trained here.

Grad-CAM: Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, 2017.
Integrated gradients: Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017, by captum.
The check with random weights: Adebayo et al., Sanity Checks for Saliency Maps, 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.core.extras import require
from tellapart.core.preprocess import Pixels
from tellapart.errors import ModelError
from tellapart.explaining.overlay import Map, heat, rank_correlation, smooth
from tellapart.models.create import rebuild
from tellapart.models.ensemble import SideBySide
from tellapart.models.network import Network

Classes = npt.NDArray[np.int64]
GRAD_CAM, INTEGRATED = "grad-cam", "integrated-gradients"
#: What each method is called in sentences.
METHODS = {GRAD_CAM: "Grad-CAM", INTEGRATED: "Integrated gradients"}

# Modules whose outputs are no maps of their own: what they give is a part of the module around them.
_INNER = (nn.Dropout, nn.Identity, nn.Linear)
_ENOUGH = 4  # cells a side; a coarser last map says little of where
_MOST_PREFIX = 8  # tokens of a transformer that stand for no place: class, distillation, registers
_STEPS, _AT_ONCE = 32, 8


def attribute(network: Network, pictures: Pixels, classes: Classes, method: str = GRAD_CAM) -> Map:
    """Maps of what speaks for a class (above 0) and against it (below).

    Args:
        network: left as it is.
        pictures: uint8 [n, h, w, 3], as the network takes them.
        classes: int64 [n], of each picture the number of the class to explain.
        method: one of `METHODS`.

    Returns:
        float32 [n, h, w]. The scale is the method's own; `overlay.heat` brings it to 0..1.

    Raises:
        ModelError: Grad-CAM of a network without a layer that has rows and columns.
        MissingExtraError: integrated gradients need captum.
    """
    if not len(pictures):
        return np.empty(pictures.shape[:3], np.float32)
    with _evaluation_mode(network):
        return _attributed(network, pictures, classes, method, ())


def heat_maps(network: Network, pictures: Pixels, classes: Classes, method: str = GRAD_CAM) -> Map:
    """What is shown of `attribute`, and by the same arguments: float32 [n, h, w], 0 to 1."""
    return _shown(attribute(network, pictures, classes, method), method)


def ready(network: Network, pictures: Pixels, method: str) -> None:
    """Whether a method can be used at all.

    Args:
        network, pictures: see `attribute`; one picture is enough.
        method: one of `METHODS`.

    Raises:
        ModelError, MissingExtraError: as `attribute`.
    """
    if method == INTEGRATED:
        require("captum.attr", METHODS[INTEGRATED], "explain")
    else:
        with _evaluation_mode(network):
            _places(network, pictures[:1])


def agreement_with_random(
    network: Network,
    pictures: Pixels,
    classes: Classes,
    method: str = GRAD_CAM,
    learned: Map | None = None,
    n_random: int = 2,
) -> float:
    """How alike the maps are to those of the same network with random weights: the sanity check.

    A map that hardly depends on what the network has learned shows the picture's edges, or how the network is built,
    and explains nothing.

    Args:
        network, pictures, classes, method: see `attribute`.
        learned: what `heat_maps` gave for them, if it is at hand.
        n_random: networks with random weights, each drawn anew.

    Returns:
        The mean rank correlation over pictures and networks, -1 to 1; 1 would mean that nothing changes.
    """
    found = []
    with _evaluation_mode(network):
        places = _places(network, pictures[:1]) if method == GRAD_CAM else ()
        if learned is None:
            learned = _shown(_attributed(network, pictures, classes, method, places), method)
        for seed in range(n_random):
            other = with_random_weights(network, seed)
            random = _shown(_attributed(other, pictures, classes, method, places), method)
            found += [rank_correlation(a, b) for a, b in zip(learned, random, strict=True)]
    return float(np.mean(found))


def with_random_weights(network: Network, seed: int) -> Network:
    """The same network as it might have been before any training, on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        other = rebuild(network.architecture)
    return other.to(network.scale.device).eval()


def _shown(map: Map, method: str) -> Map:
    """Heat; that of single pixels, which jumps from one to the next, is gathered from around them."""
    return heat(smooth(map) if method == INTEGRATED else map)


def _attributed(network: Network, pictures: Pixels, classes: Classes, method: str, places: Sequence[str]) -> Map:
    if method == GRAD_CAM and not places:
        places = _places(network, pictures[:1])
    maps = []
    for start in range(0, len(pictures), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        pixels = torch.tensor(pictures[part], dtype=torch.float32, device=network.scale.device)
        number = torch.tensor(classes[part], device=pixels.device)
        signed = _integrated(network, pixels, number) if method == INTEGRATED else _cam(network, pixels, number, places)
        maps.append(signed.cpu().numpy())
    return np.concatenate(maps)


def _cam(network: Network, pixels: Tensor, classes: Tensor, places: Sequence[str]) -> Tensor:
    """[n, h, w]: the last maps' channels, each weighed by its gradient. Of several backbones, the sum of their maps."""
    kept: dict[str, Tensor] = {}
    with _watched(network.backbone, kept, places):
        inputs = network.normalise(pixels.requires_grad_())
        logits = network.head(network.backbone(inputs))
    chosen = logits.gather(1, classes[:, None]).sum()
    gradients = torch.autograd.grad(chosen, [kept[name] for name in places])
    total = torch.zeros(pixels.shape[:3], device=pixels.device)
    for name, gradient in zip(places, gradients, strict=True):
        values, slopes = _as_map(kept[name].detach(), inputs), _as_map(gradient, inputs)
        assert values is not None
        assert slopes is not None
        # The sum of slopes, not their mean: so maps of different fineness count by what they add to the logit.
        cells = (values * slopes.sum(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
        total += functional.interpolate(cells.float(), pixels.shape[1:3], mode="bilinear")[:, 0]
    return total


def _integrated(network: Network, pixels: Tensor, classes: Tensor) -> Tensor:
    """[n, h, w]: the path leads from each picture's own mean colour, a picture without content, to the picture."""
    captum = require("captum.attr", METHODS[INTEGRATED], "explain")
    empty = pixels.mean(dim=(1, 2), keepdim=True).expand_as(pixels).contiguous()
    method = captum.IntegratedGradients(network, multiply_by_inputs=True)
    shares: Tensor = method.attribute(
        pixels, empty, target=classes, n_steps=_STEPS, internal_batch_size=max(_AT_ONCE, len(pixels))
    )
    return shares.detach().sum(dim=3).float()


def _places(network: Network, picture: Pixels) -> tuple[str, ...]:
    """Names of the backbone's modules that give its last map with rows and columns; of several backbones, one for each.

    Found by running one picture: the last output that has rows and columns and that the features depend on. (A vision
    transformer's class token takes nothing from the last block's other tokens, so theirs does not count.) Of coarse
    maps, the last one with enough cells.

    Raises:
        ModelError: there is none.
    """
    kept: dict[str, Tensor] = {}
    with _watched(network.backbone, kept):
        pixels = torch.tensor(picture, dtype=torch.float32, device=network.scale.device)
        inputs = network.normalise(pixels.requires_grad_())
        features = network.backbone(inputs)
    mixed = (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(0)).to(features)).sum()
    maps = {name: tensor for name, tensor in kept.items() if _as_map(tensor, inputs) is not None}
    gradients = torch.autograd.grad(mixed, list(maps.values()), allow_unused=True) if maps else ()
    sides = {}
    for name, gradient in zip(maps, gradients, strict=True):
        slopes = None if gradient is None else _as_map(gradient, inputs)
        if slopes is not None and bool(slopes.any()):
            sides[name] = min(slopes.shape[2:])
    n_backbones = len(network.backbone.members) if isinstance(network.backbone, SideBySide) else 0
    backbones = [f"members.{i}." for i in range(n_backbones)] or [""]
    return tuple(
        _last(network, {n: side for n, side in sides.items() if n.startswith(backbone)}) for backbone in backbones
    )


def _last(network: Network, sides: dict[str, int]) -> str:
    if not sides:
        raise ModelError(
            f"{network.architecture.name} has no layer with rows and columns for Grad-CAM to show.",
            "Use --method integrated-gradients, which works for any network.",
        )
    enough = min(_ENOUGH, max(sides.values()))
    return [name for name, side in sides.items() if side >= enough][-1]


def _as_map(values: Tensor, inputs: Tensor) -> Tensor | None:
    """What a module gives as [n, channels, rows, columns]; None where it has no rows and columns.

    Args:
        values: [n, c, h, w], [n, h, w, c] or, of a transformer, [n, tokens, c].
        inputs: the backbone's, [n, 3, h, w]: rows and columns of a map are in proportion to theirs.
    """
    if len(values) != len(inputs) or not values.is_floating_point():
        return None
    height, width = inputs.shape[2:]
    if values.ndim == 4:
        if _fits(values.shape[2], values.shape[3], height, width):
            return values
        return values.permute(0, 3, 1, 2) if _fits(values.shape[1], values.shape[2], height, width) else None
    if values.ndim == 3:
        for prefix in range(min(_MOST_PREFIX, values.shape[1] - 4) + 1):
            n_tokens = values.shape[1] - prefix
            rows = round((n_tokens * height / width) ** 0.5)
            if rows and n_tokens % rows == 0 and _fits(rows, n_tokens // rows, height, width):
                return values[:, prefix:].transpose(1, 2).reshape(len(values), -1, rows, n_tokens // rows)
    return None


def _fits(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether a map of this size has the shape of the picture, rounded to whole cells."""
    return 2 <= rows <= height and 2 <= columns <= width and abs(columns - rows * width / height) < 1


@contextmanager
def _watched(backbone: nn.Module, kept: dict[str, Tensor], names: Sequence[str] = ()) -> Iterator[None]:
    """Keep what modules of a backbone give: those named, or all that may give maps, in the order in which they end."""

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                kept.pop(name, None)  # a module that runs twice counts where it ran last
                kept[name] = output

        return hook

    watched = [
        module.register_forward_hook(keep(name))
        for name, module in backbone.named_modules()
        if name and (name in names if names else not isinstance(module, _INNER))
    ]
    try:
        yield
    finally:
        for handle in watched:
            handle.remove()


@contextmanager
def _evaluation_mode(network: Network) -> Iterator[None]:
    """The network as it answers, and afterwards in the mode that it was in."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
