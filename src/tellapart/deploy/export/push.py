"""Sends a bundle to a hub repository, as a folder that `tellapart predict` reads once it is downloaded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tellapart.core.bundle_description import DESCRIPTION, signed_text
from tellapart.core.extras import require
from tellapart.core.own_paths import without_folders
from tellapart.core.plain_json import read_json_file
from tellapart.core.text import visible
from tellapart.deploy.bundle.card import card
from tellapart.deploy.bundle.golden import read_golden
from tellapart.deploy.bundle.read import CARD, GOLDEN, Bundle
from tellapart.errors import HubError, UsageError

#: What the hub's page needs to know, at the top of the model card. A licence is for the owner to add.
_FRONT = "---\npipeline_tag: image-classification\nlibrary_name: tellapart\n---\n\n"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PRIVATE = "The repository is made private; --public makes one that everybody can see."


@dataclass(frozen=True)
class Parcel:
    """What is sent.

    Attributes:
        folder: its files.
        lines: for people: which files, how large, and what they hold of the user's pictures.
    """

    folder: Path
    lines: tuple[str, ...]


def pack(bundle: Bundle, folder: Path) -> Parcel:
    """Copy a bundle into an empty folder, without paths of this machine.

    Raises:
        UsageError: the model card, which may be edited, names folders of this machine.
    """
    for path in sorted(bundle.folder.iterdir()):
        if path.is_file() and path.name not in (DESCRIPTION, CARD):
            shutil.copyfile(path, folder / path.name)
    values: dict[str, Any] = read_json_file(bundle.folder / DESCRIPTION)
    origin = {key: without_folders(values[key]) for key in ("about", "weights_source") if key in values}
    plain = values | origin
    plain.pop("exports", None)  # they lie on this machine
    (folder / DESCRIPTION).write_text(signed_text(plain), encoding="utf-8")
    (folder / CARD).write_text(_card(bundle.folder / CARD, values, plain), encoding="utf-8")
    _refuse_paths(folder, bundle.folder)
    sizes = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    n_golden = len(read_golden(bundle)[0])
    lines = [f"  {name}, {size / 1e6:.1f} MB" if size > 1e5 else f"  {name}" for name, size in sizes]
    lines.append(f"{GOLDEN} holds {n_golden} of the validation pictures, by which whoever downloads it can verify it.")
    return Parcel(folder, tuple(lines))


def push(parcel: Parcel, repository: str, public: bool, say: Callable[[str], None]) -> str:
    """Send a parcel to a hub repository, which is made where there is none; one commit, whole or not at all.

    The token is that of the hub's own login or of HF_TOKEN; the address that of HF_ENDPOINT.

    Args:
        parcel: the files.
        repository: OWNER/NAME.
        public: whether a new repository can be seen by everybody. One that is there keeps what it is.
        say: called with lines for people, before anything is sent.

    Returns:
        The address of the commit.

    Raises:
        UsageError: no such name can be.
        HubError: the hub cannot be reached, or refuses.
    """
    check_repository(repository)
    hub = require("huggingface_hub", "Sending to a hub", "train", "huggingface-hub")
    constants = require("huggingface_hub.constants", "Sending to a hub", "train", "huggingface-hub")
    if constants.is_offline_mode():
        raise HubError("HF_HUB_OFFLINE is set: nothing is sent.", "Unset it, and repeat the command.")
    if not hub.get_token():
        raise HubError(
            "There is no token for the hub on this machine.", "Log in with `hf auth login`, or set HF_TOKEN."
        )
    api = hub.HfApi(library_name="tellapart")
    try:
        return _send(hub, api, parcel, repository, public, say)
    except (hub.errors.HfHubHTTPError, OSError, ValueError, RuntimeError, _client_errors()) as error:
        raise HubError(f"{api.endpoint} does not take {repository}: {_reason(error)}", _hint(error)) from error


def check_repository(repository: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        UsageError: it is none.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"{repository!r} is no hub repository.", "Name it as OWNER/NAME: --repo me/fruit")


def _send(hub: ModuleType, api: Any, parcel: Parcel, repository: str, public: bool, say: Callable[[str], None]) -> str:
    there = api.repo_exists(repository)
    say(f"Sending to {api.endpoint}/{repository}:")
    for line in parcel.lines:
        say(line)
    if there:
        visibility = "private" if api.repo_info(repository).private else "public: everybody can see it"
        say(f"The repository exists, and is {visibility}.")
    else:
        say("The repository is made public: everybody can see it." if public else _PRIVATE)
        api.create_repo(repository, private=not public)
    commit = api.upload_folder(repo_id=repository, folder_path=parcel.folder, commit_message="A Tellapart bundle")
    return str(commit.commit_url)


def _client_errors() -> type[Exception]:
    """What the hub's client raises where no answer comes."""
    import httpx

    return httpx.HTTPError


def _reason(error: Exception) -> str:
    """The hub's own words, on one line: never a header of the request."""
    words = getattr(error, "server_message", None) or str(error.__cause__ or error)
    return visible(" ".join(str(words).split()))[:300]


def _hint(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return "The token may not write there: `hf auth login` with one that may, or another --repo."
    return "Check the address and the connection, and repeat the command: what arrived is not sent again."


def _card(file: Path, before: dict[str, Any], plain: dict[str, Any]) -> str:
    """The model card; one that was not edited is written anew without folders."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    text = card(plain) if text == card(before) else text
    return text if text.startswith("---\n") else _FRONT + text


def _refuse_paths(folder: Path, bundle: Path) -> None:
    """Refuse to send folders of this machine: its user's home, the bundle's own, the one worked in."""
    places = {str(place) for place in (Path.home(), Path.cwd(), bundle.resolve().parent) if len(place.parts) > 1}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in places:
            if place.encode() in content or json.dumps(place).encode()[1:-1] in content:
                raise UsageError(
                    f"{path.name} names a folder of this machine, {place}: nothing was sent.",
                    f"Take it out of {bundle / path.name}.",
                )
