"""Weights from the hubs of timm and torchvision: from their cache on this machine, or from the network.

The hub's own client retries for most of a minute where there is no network. So its cache is looked at first, and then
whether the hub answers at all.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch

from tellapart.errors import ModelError
from tellapart.models.weights import State, read_weights

#: Files in which timm's hub keeps weights, best first.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")

_FIRST_BYTES = 2**20


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


def is_published(name: str) -> bool:
    """Whether the installed timm knows weights of this name, with its tag if there is one."""
    try:
        return bool(timm_published(name))
    except ModelError:
        return False


def from_timm(name: str) -> tuple[State, str]:
    """The weights that timm publishes, and where they come from in words.

    Raises:
        NotThereError: there are none, or the hub cannot be asked.
        Exception: whatever timm and its hub's client raise when a download or a file goes wrong.
    """
    import timm
    from huggingface_hub import constants

    published = timm_published(name)
    repository = published.get("hf_hub_id") or ""
    if not repository and not published.get("url"):
        raise NotThereError(f"timm publishes no weights for {name}")
    url = _url_of(published)
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


def cached_names() -> list[str]:
    """Names (with tags) of the networks whose weights lie in the hub's cache, whole."""
    from huggingface_hub import constants

    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--timm--*"))
    names = [folder.name.removeprefix("models--timm--") for folder in folders]
    return [name for name in names if any(_cached_file(f"timm/{name}", file) for file in HUB_FILES)]


def _cached_on_hub(published: dict[str, Any]) -> Path | None:
    if published.get("custom_load"):
        return None  # a format that only timm's own way reads
    named = published.get("hf_hub_filename")
    repository, _, revision = published["hf_hub_id"].partition("@")
    paths = (_cached_file(repository, file, revision) for file in ((named,) if named else HUB_FILES))
    return next(filter(None, paths), None)


def _cached_file(repository: str, file: str, revision: str = "") -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, file, revision=revision or None)
    return Path(path) if isinstance(path, str) else None


def _cached_url(url: str) -> Path | None:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return path if path.is_file() else None


def is_offline() -> bool:
    """Whether the hubs must not be asked: HF_HUB_OFFLINE is set, which `--offline` does too."""
    from huggingface_hub import constants

    # The constant is as old as the library's import.
    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Download:
    """Weights that would have to be fetched.

    Attributes:
        host: that sends them.
        n_bytes: how many there are; None where the host does not say.
        bytes_a_second: at which the first megabyte came.
    """

    host: str
    n_bytes: int | None
    bytes_a_second: float

    @property
    def sentence(self) -> str:
        """How much it is, and how long that may take."""
        if self.n_bytes is None:
            return f"the weights from {self.host}, which does not say how large they are"
        seconds = self.n_bytes / self.bytes_a_second
        lasts = f"{max(1, round(seconds))} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
        return f"{self.n_bytes / 1e6:.0f} MB from {self.host}, about {lasts} at the speed of the first megabyte"


def to_fetch(source: str, name: str) -> Download | None:
    """What `from_timm` or `from_torchvision` would fetch; None where it lies on this machine or nobody publishes it.

    Raises:
        NotThereError: the hub must not be asked, or does not answer.
    """
    if source == "torchvision":
        from torchvision import models

        url = models.get_model_weights(name).DEFAULT.url
        return None if _cached_url(url) else first_megabyte(url)
    published = timm_published(name)
    if not published.get("hf_hub_id") and not published.get("url"):
        return None
    cached = _cached_on_hub(published) if published.get("hf_hub_id") else _cached_url(_url_of(published))
    return None if cached else first_megabyte(_url_of(published))


def _url_of(published: dict[str, Any]) -> str:
    """Where timm's weights lie, by what it publishes."""
    from huggingface_hub import hf_hub_url

    if published.get("hf_hub_id"):
        repository, _, revision = published["hf_hub_id"].partition("@")
        return hf_hub_url(repository, published.get("hf_hub_filename") or HUB_FILES[0], revision=revision or None)
    url = published["url"]
    return url if isinstance(url, str) else str(url[0])


def first_megabyte(url: str, seconds: float = 4.0) -> Download:
    """Fetch the first megabyte of a file, to see how fast it comes and how much there is.

    Args:
        url: of the file.
        seconds: to wait at most.

    Raises:
        NotThereError: the hub must not be asked, or does not answer.
    """
    seen: list[Download] = []
    host = urllib.parse.urlsplit(url).hostname or url

    def read() -> None:
        start, n_bytes = time.monotonic(), 0
        request = urllib.request.Request(url, headers={"Range": f"bytes=0-{_FIRST_BYTES - 1}"})
        with urllib.request.urlopen(request, timeout=seconds) as response:
            whole = response.headers.get("Content-Range", "").rpartition("/")[2] or response.headers["Content-Length"]
            size = int(whole) if whole and whole.isdecimal() else None
            while n_bytes < _FIRST_BYTES and (part := response.read(2**16)):
                n_bytes += len(part)
                seen[:] = [Download(host, size, n_bytes / max(time.monotonic() - start, 1e-6))]

    _within(seconds, read, enough=lambda: bool(seen))
    if not seen:
        raise NotThereError(f"{host} has no such file")
    return seen[0]


def hub_speed(name: str) -> float:
    """Bytes a second at which timm's hub sends the first megabyte of a network's weights. Raises as `to_fetch`."""
    return first_megabyte(_url_of(timm_published(name))).bytes_a_second


def _require_answer(url: str, seconds: float = 8.0) -> None:
    """Return if the host answers at all, whatever it says; otherwise raise, in bounded time."""

    def ask() -> None:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            pass

    _within(seconds, ask)


def _within(seconds: float, ask: Callable[[], None], enough: Callable[[], bool] = lambda: False) -> None:
    """Ask a hub, in bounded time.

    Args:
        seconds: to wait at most.
        ask: asks it; any answer will do, be it that there is no such thing.
        enough: whether it has answered already when the time is over.

    Raises:
        NotThereError: it must not be asked, cannot be reached, or does not answer.
    """
    if is_offline():
        raise NotThereError("not in its cache on this machine, and HF_HUB_OFFLINE, or --offline, forbids to ask it")
    problem = ["it does not answer"]

    def run() -> None:
        try:
            ask()
            problem.clear()
        except urllib.error.HTTPError:
            problem.clear()
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            # The hub's client has certificates of its own: let it decide.
            problem[:] = [] if isinstance(reason, ssl.SSLError) else [f"it cannot be reached ({reason})"]

    # A thread, because looking up a host's name knows no time limit.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if problem and not enough():
        raise NotThereError(f"not in its cache on this machine, and {problem[0]}")
