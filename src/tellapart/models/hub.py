"""Weights from the hubs of timm and torchvision: from their cache on this machine, or from the network.

The hub's own client retries for most of a minute where there is no network. So its cache is looked at first, and then
whether the hub answers at all.
"""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tellapart.errors import ModelError
from tellapart.models.weights import State, read_weights

#: Files in which timm's hub keeps weights, best first.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class NotThereError(Exception):
    """The hub cannot be asked, or has no such weights. The text says why."""


def timm_published(name: str) -> dict[str, Any]:
    """Metadata that timm publishes with the weights of a network: size, mean, deviation, address.

    Args:
        name: timm's name, with or without a tag, as in "resnet34.a1_in1k".

    Raises:
        ModelError: timm knows the network but not the tag.
    """
    from timm.models import get_pretrained_cfg, list_pretrained

    try:
        published = get_pretrained_cfg(name)
    except RuntimeError:
        architecture, _, tag = name.partition(".")
        known = list_pretrained(f"{architecture}.*")
        raise ModelError(
            f"timm knows {architecture}, but no weights of it tagged '{tag}'.",
            f"Possible: {', '.join(known) or architecture}.",
        ) from None
    return asdict(published) if published else {}


def from_timm(name: str) -> tuple[State, str]:
    """The weights that timm publishes, and where they come from in words.

    Raises:
        NotThereError: there are none, or the hub cannot be asked.
        Exception: whatever timm and its hub's client raise when a download or a file goes wrong.
    """
    import timm
    from huggingface_hub import constants

    published = timm_published(name)
    repository, url = published.get("hf_hub_id") or "", published.get("url") or ""
    if not repository and not url:
        raise NotThereError(f"timm publishes no weights for {name}")
    url = url if isinstance(url, str) else url[0]
    cached = _cached_on_hub(published) if repository else _cached_url(url)
    if cached:
        whole = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(cached)})
    else:
        _require_answer(constants.ENDPOINT if repository else url)
        whole = timm.create_model(name, pretrained=True)
    return whole.state_dict(), f"the hub's {repository or url}" + (", from its cache" if cached else "")


def from_torchvision(name: str) -> tuple[State, str]:
    """The newest weights that torchvision publishes, and where they come from in words. Raises as `from_timm`."""
    from torchvision import models

    published = models.get_model_weights(name).DEFAULT
    cached = _cached_url(published.url)
    if cached:
        return read_weights(cached), f"torchvision's {published}, from its cache"
    _require_answer(published.url)
    return published.get_state_dict(check_hash=True, weights_only=True), f"torchvision's {published}"


def cached_names() -> set[str]:
    """Names (with tags) of the networks whose weights lie in the hub's cache."""
    from huggingface_hub import constants

    return {path.name.removeprefix("models--timm--") for path in Path(constants.HF_HUB_CACHE).glob("models--timm--*")}


def _cached_on_hub(published: dict[str, Any]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if published.get("custom_load"):
        return None  # a format that only timm's own way reads
    named = published.get("hf_hub_filename")
    repository, _, revision = published["hf_hub_id"].partition("@")
    for file in (named,) if named else HUB_FILES:
        path = try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
    return None


def _cached_url(url: str) -> Path | None:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return path if path.is_file() else None


def _require_answer(url: str, seconds: float = 8.0) -> None:
    """Return if the host answers at all, whatever it says; otherwise raise, in bounded time."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise NotThereError("not in its cache on this machine, and HF_HUB_OFFLINE forbids to ask it")
    problem = ["it does not answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                problem.clear()
        except urllib.error.HTTPError:
            problem.clear()
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            # The hub's client has certificates of its own: let it decide.
            problem[:] = [] if isinstance(reason, ssl.SSLError) else [f"it cannot be reached ({reason})"]

    # A thread, because looking up a host's name knows no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if problem:
        raise NotThereError(f"not in its cache on this machine, and {problem[0]}")
