"""Counts of a server for Prometheus."""

from __future__ import annotations

from typing import Any

from tellapart.core.extras import require

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counts of requests, pictures and answers; nothing of a picture or a caller is in them."""

    def __init__(self) -> None:
        client = require("prometheus_client", "Serving", "serve", "prometheus-client")
        self._client = client
        self.registry = client.CollectorRegistry()
        self.requests = client.Counter(
            "tellapart_requests", "Requests by kind and status.", ["kind", "status"], registry=self.registry
        )
        self.pictures = client.Counter(
            "tellapart_pictures", "Pictures by what came of them.", ["result"], registry=self.registry
        )
        self.stored = client.Counter(
            "tellapart_pictures_stored", "Pictures with --keep, by what came of it.", ["result"], registry=self.registry
        )
        self.seconds = client.Histogram(
            "tellapart_answer_seconds", "Time from a request to its answer.", buckets=_SECONDS, registry=self.registry
        )
        self.inside = client.Gauge("tellapart_pictures_inside", "Pictures on their way.", registry=self.registry)

    def text(self) -> bytes:
        """All of them, as Prometheus reads it."""
        text: bytes = self._client.generate_latest(self.registry)
        return text

    @property
    def content_type(self) -> Any:
        """Of that text."""
        return self._client.CONTENT_TYPE_LATEST
