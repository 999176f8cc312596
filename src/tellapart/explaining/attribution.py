"""Attribution maps: Grad-CAM and integrated gradients, for any network trained here.

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
#: The name of each method in sentences.
METHODS = {GRAD_CAM: "Grad-CAM", INTEGRATED: "Integrated gradients"}

# Modules whose outputs are no maps of their own: they are parts of the module around them.
_INNER = (nn.Dropout, nn.Identity, nn.Linear)
_ENOUGH = 4  # cells a side; a coarser map says little about regions
_MOST_PREFIX = 8  # tokens of a transformer without a position: class, distillation, registers
_STEPS, _AT_ONCE = 32, 8
#: What a map costs, in answers of the network: a gradient is about three.
FORWARDS = {GRAD_CAM: 3, INTEGRATED: 3 * _STEPS}


def attribute(network: Network, pictures: Pixels, classes: Classes, method: str = GRAD_CAM) -> Map:
    """Attribution maps: above 0 where pixels raise the logit of a class, below 0 where they lower it.

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
    """Heat maps for people, float32 [n, h, w], 0 to 1; arguments as in `attribute`."""
    return _shown(attribute(network, pictures, classes, method), method)


def check_method(network: Network, pictures: Pixels, method: str) -> None:
    """Check that a method can be used.

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
            _map_layers(network, pictures[:1])


def agreement_with_random(
    network: Network,
    pictures: Pixels,
    classes: Classes,
    method: str = GRAD_CAM,
    learned: Map | None = None,
    n_random: int = 2,
) -> float:
    """The sanity check: rank correlation of the maps with those of the same network with random weights.

    A map that hardly depends on the learned weights shows the picture's edges or the network's architecture, and
    explains nothing.

    Args:
        network, pictures, classes, method: see `attribute`.
        learned: the result of `heat_maps` for them, if it is at hand.
        n_random: networks with random weights, each drawn anew.

    Returns:
        The mean rank correlation over pictures and networks, -1 to 1; 1 would mean that nothing changes.
    """
    correlations = []
    with _evaluation_mode(network):
        layers = _map_layers(network, pictures[:1]) if method == GRAD_CAM else ()
        if learned is None:
            learned = _shown(_attributed(network, pictures, classes, method, layers), method)
        for seed in range(n_random):
            other = with_random_weights(network, seed)
            random = _shown(_attributed(other, pictures, classes, method, layers), method)
            correlations += [rank_correlation(a, b) for a, b in zip(learned, random, strict=True)]
    return float(np.mean(correlations))


def with_random_weights(network: Network, seed: int) -> Network:
    """The same architecture with random weights, on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        other = rebuild(network.architecture)
    return other.to(network.scale.device).eval()


def _shown(map: Map, method: str) -> Map:
    """Heat; smoothed where it is that of single pixels, which jumps from one to the next."""
    return heat(smooth(map) if method == INTEGRATED else map)


def _attributed(network: Network, pictures: Pixels, classes: Classes, method: str, layers: Sequence[str]) -> Map:
    if method == GRAD_CAM and not layers:
        layers = _map_layers(network, pictures[:1])
    maps = []
    for start in range(0, len(pictures), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        pixels = torch.tensor(pictures[part], dtype=torch.float32, device=network.scale.device)
        number = torch.tensor(classes[part], device=pixels.device)
        signed = _integrated(network, pixels, number) if method == INTEGRATED else _cam(network, pixels, number, layers)
        maps.append(signed.cpu().numpy())
    return np.concatenate(maps)


def _cam(network: Network, pixels: Tensor, classes: Tensor, layers: Sequence[str]) -> Tensor:
    """[n, h, w]: the sum of the last maps' channels, each weighted by its gradient; of several backbones, of all."""
    outputs: dict[str, Tensor] = {}
    with _recorded(network.backbone, outputs, layers):
        inputs = network.normalise(pixels.requires_grad_())
        logits = network.head(network.backbone(inputs))
    chosen = logits.gather(1, classes[:, None]).sum()
    gradients = torch.autograd.grad(chosen, [outputs[name] for name in layers])
    total = torch.zeros(pixels.shape[:3], device=pixels.device)
    for name, gradient in zip(layers, gradients, strict=True):
        values, slopes = _as_map(outputs[name].detach(), inputs), _as_map(gradient, inputs)
        assert values is not None
        assert slopes is not None
        # The sum of slopes, not their mean: so maps of different resolution count by their share of the logit.
        cells = (values * slopes.sum(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
        total += functional.interpolate(cells.float(), pixels.shape[1:3], mode="bilinear")[:, 0]
    return total


def _integrated(network: Network, pixels: Tensor, classes: Tensor) -> Tensor:
    """[n, h, w]: the baseline of each picture is its own mean colour, a picture without content."""
    captum = require("captum.attr", METHODS[INTEGRATED], "explain")
    empty = pixels.mean(dim=(1, 2), keepdim=True).expand_as(pixels).contiguous()
    method = captum.IntegratedGradients(network, multiply_by_inputs=True)
    shares: Tensor = method.attribute(
        pixels, empty, target=classes, n_steps=_STEPS, internal_batch_size=max(_AT_ONCE, len(pixels))
    )
    return shares.detach().sum(dim=3).float()


def _map_layers(network: Network, picture: Pixels) -> tuple[str, ...]:
    """Names of the modules whose outputs are the last feature maps of a backbone, or of each of several backbones.

    One picture runs through the network: the last output counts that has rows and columns and that the features depend
    on. (A vision transformer's class token does not depend on the last block's other tokens.) Of coarse maps, the last
    one with enough cells counts.

    Raises:
        ModelError: there is none.
    """
    outputs: dict[str, Tensor] = {}
    with _recorded(network.backbone, outputs):
        pixels = torch.tensor(picture, dtype=torch.float32, device=network.scale.device)
        inputs = network.normalise(pixels.requires_grad_())
        features = network.backbone(inputs)
    mixed = (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(0)).to(features)).sum()
    maps = {name: tensor for name, tensor in outputs.items() if _as_map(tensor, inputs) is not None}
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
    """A module's output as [n, channels, rows, columns]; None where it has no rows and columns.

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
    """Whether a map of this size has the aspect ratio of the picture, rounded to whole cells."""
    return 2 <= rows <= height and 2 <= columns <= width and abs(columns - rows * width / height) < 1


@contextmanager
def _recorded(backbone: nn.Module, outputs: dict[str, Tensor], names: Sequence[str] = ()) -> Iterator[None]:
    """Record outputs of a backbone's modules: those named, or all that may give maps, in the order of their ends."""

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                outputs.pop(name, None)  # a module that runs twice counts where it ran last
                outputs[name] = output

        return hook

    watched = [
        module.register_forward_hook(record(name))
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
    """The network in evaluation mode with gradients, and afterwards in its former modes."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
