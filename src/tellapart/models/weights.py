"""Reading weights from a file, and loading them into a backbone: all of them or none.

Nothing that is read here can execute: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tellapart.core.old_names import current_layers
from tellapart.core.text import as_lines
from tellapart.errors import WeightsError

State = dict[str, Tensor]
_POSSIBLE = "Possible: safetensors, or a state dict written by torch.save. Other Python objects are never unpickled."

#: Prefix of the head's keys after reading a network of our own, so that no backbone can claim them.
_OUR_HEAD = "(head)."
_SHOWN = 4


def read_weights(path: Path) -> State:
    """Weights by name from safetensors, or from what `torch.save` wrote of a state dict.

    A state dict may lie under "state_dict" or "model", and its keys may begin with "module.". Of a network of our own,
    or a checkpoint of one that is not in the middle of a stage, the backbone is taken; see `head_of` for its head.

    Raises:
        WeightsError: the file is missing, damaged, or holds something else than weights.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged or foreign file makes readers raise anything
        why = first_line(error)
        if "weights_only" in why:  # torch advises to load without it: never
            why = "it is damaged, or another kind of file"
        raise WeightsError(f"{path} cannot be read as weights: {why}", _POSSIBLE) from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no state dict, that is, no weights by name.")
    return _plain_keys(content)


def head_of(state: State) -> State:
    """The head's weights in a state that `read_weights` read of a network of our own; empty for other files."""
    return {k.removeprefix(_OUR_HEAD): v for k, v in state.items() if k.startswith(_OUR_HEAD)}


def fill(backbone: nn.Module, state: State, classifier: tuple[str, ...], origin: str) -> str:
    """Load weights into a backbone, all of them or none.

    Args:
        backbone: changed in place.
        state: weights by name.
        classifier: prefixes of names that may be left out.
        origin: where the weights come from, in words.

    Returns:
        `origin`, with a remark if a classifier was left out.

    Raises:
        WeightsError: anything else is missing, left over or of another shape.
    """
    wanted = backbone.state_dict()
    left_out = [k for k in state if k not in wanted and k.startswith((*classifier, _OUR_HEAD))]
    state_used = {k: v for k, v in state.items() if k not in left_out}
    # Converted weights often lack these counters, which nothing here reads.
    missing = [k for k in wanted if k not in state_used and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state_used if k not in wanted]
    reshaped = [
        f"{k} {tuple(v.shape)} instead of {tuple(wanted[k].shape)}"
        for k, v in state_used.items()
        if k in wanted and v.shape != wanted[k].shape
    ]
    if missing or unexpected or reshaped:
        lists = {"missing": missing, "not expected": unexpected, "of another shape": reshaped}
        raise WeightsError(
            as_lines([f"The weights do not fit ({origin}):", *(_listed(fault, keys) for fault, keys in lists.items())]),
            "Name the network that they were made with: --model NAME (timm's or torchvision's name).",
        )
    backbone.load_state_dict(state_used, strict=False)
    outputs = [state[k].shape[0] for k in left_out if k.endswith("weight") and state[k].ndim > 1]
    return f"{origin}, without its classifier of {outputs[-1]} classes" if outputs else origin


def _plain_keys(state: State) -> State:
    for prefix in ("module.", "network."):  # as a parallel training, and as a checkpoint of ours name them
        while all(k.startswith(prefix) for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    if all(k.startswith(("backbone.", "body.", "head.")) for k in state):
        state = current_layers(state)
    if all(k.startswith(("backbone.", "head.")) for k in state) and any(k.startswith("backbone.") for k in state):
        return {
            k.removeprefix("backbone.") if k.startswith("backbone.") else _OUR_HEAD + k.removeprefix("head."): v
            for k, v in state.items()
        }
    return state


def _listed(fault: str, keys: list[str]) -> str:
    shown = [*keys[:_SHOWN], *(["…"] if len(keys) > _SHOWN else [])]
    return f"  {len(keys)} {fault}" + (f": {', '.join(shown)}" if shown else "")


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
