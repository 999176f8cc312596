"""Asks a server from Python, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tellapart.data.decoding.messages import of_system
from tellapart.deploy.answer import Answer
from tellapart.errors import UsageError

_MOST_BYTES = 50_000_000
_TRIES = 5
_LONGEST_WAIT = 10  # seconds


class Client:
    """A classifier that answers over HTTP; see `tellapart serve`.

    Args:
        address: of the server, such as "http://127.0.0.1:8000".
        token: where it needs one.
        seconds: to wait for an answer.

    Raises:
        UsageError: the address is none of http or https.
    """

    def __init__(self, address: str, token: str = "", seconds: float = 60.0) -> None:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            raise UsageError(f"{address} is no address of a server.", "Such as http://127.0.0.1:8000")
        self.address, self.token, self.seconds = address.rstrip("/"), token, seconds

    def predict(self, picture: str | Path | bytes, **options: Any) -> Answer:
        """Answer for one picture.

        Args:
            picture: a path, or the bytes of a file.
            options: `top`, `coverage`, `unknown`: see `Classifier.predict`.

        Returns:
            The answer. A picture that cannot be read has one too: its `problem` says why.

        Raises:
            UsageError: no server answers there, or it refuses, with the reason.
        """
        path = "" if isinstance(picture, bytes) else str(picture)
        try:
            content = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        except OSError as error:
            return Answer(path, (), (), math.nan, of_system(error))
        wanted = {name: json.dumps(value) for name, value in options.items() if value is not None}
        status, answer = self._ask(f"/v1/predict?{urllib.parse.urlencode(wanted)}", content)
        if status == 422:
            return Answer(path, (), (), math.nan, str(answer.get("error", "the server does not say why")))
        if status != 200:
            raise UsageError(f"{self.address}: {answer.get('error', f'status {status}')}")
        try:
            return Answer(
                path,
                tuple(answer["chosen"]),
                tuple(answer["labels"].items()),
                answer["certainty"],
                None,
                tuple(answer["candidates"]),
                answer["ood_score"],
                answer["unknown"],
            )
        except (KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{self.address} does not answer as a server of Tellapart.", "Is it one? tellapart serve RUN"
            ) from None

    def _ask(self, path: str, content: bytes) -> tuple[int, dict[str, Any]]:
        """Status and answer; where too many wait, after some more tries."""
        headers = {"Content-Type": "application/octet-stream"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        for attempt in range(_TRIES):
            request = urllib.request.Request(self.address + path, content, headers)
            try:
                with urllib.request.urlopen(request, timeout=self.seconds) as response:
                    return response.status, _object(response.read(_MOST_BYTES))
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 429 or attempt == _TRIES - 1:
                        return error.code, _object(error.read(_MOST_BYTES))
                wait = error.headers.get("Retry-After", "")
                time.sleep(min(int(wait), _LONGEST_WAIT) if wait.isdecimal() else 1)
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise UsageError(
                    f"{self.address} does not answer: {error}.", "Is it running? tellapart serve RUN"
                ) from None
        raise AssertionError("the last try returns")


def _object(body: bytes) -> dict[str, Any]:
    """What a server sends, as far as it is an object in JSON."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
