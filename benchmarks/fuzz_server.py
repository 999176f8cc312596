"""Requests made from the server's own description: every one has an answer that the description knows, never a 5xx.

    python -m benchmarks.fuzz_server [N] [SEED]

schemathesis makes requests of all kinds, right and wrong, for each path of `/openapi.json`; bodies are random bytes,
and whole, cut and changed pictures. They go over real HTTP to a real server with `--keep`. Checked of each: status
below 500, status and type as the description has them, content as its schemas have it.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import numpy as np
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from benchmarks import record
from benchmarks.answer_speed import write_bundle_of

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example]
_MOST_FAILURES = 10


def pictures() -> st.SearchStrategy[bytes]:
    """Bodies: pictures, pictures that are cut or changed, anything."""
    whole = []
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"):
        file = io.BytesIO()
        Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(file, kind)
        whole.append(file.getvalue())
    some = st.sampled_from(whole)
    cut = st.builds(lambda picture, n: picture[:n], some, st.integers(0, 500))
    changed = st.builds(
        lambda picture, at, byte: picture[:at] + byte + picture[at + 1 :], some, st.integers(0, 400), _byte
    )
    return st.one_of(some, cut, changed, st.binary(max_size=2000))


_byte = st.binary(min_size=1, max_size=1)


def fuzz(address: str, n: int, seed: int) -> dict[str, Any]:
    """Send requests to a server.

    Args:
        address: such as http://127.0.0.1:8000
        n: requests, the same number to each path that takes a body.
        seed: of what is made up.

    Returns:
        `n`, `statuses` with counts, and `failures`: the first of them, in words.
    """
    for kind in ("application/octet-stream", "image/*"):
        schemathesis.openapi.media_type(kind, pictures())
    schema = schemathesis.openapi.from_dict(httpx.get(f"{address}/openapi.json", timeout=60).json())
    operations = [result.ok() for result in schema.get_all_operations()]
    n_varied = sum(operation.method.upper() == "POST" for operation in operations)  # of others there is one request
    each = -(-n // (2 * n_varied))
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    for number, operation in enumerate(operations):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                cases = operation.as_strategy(generation_mode=mode)
                _send(cases, address, each, seed + number, statuses, failures)
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing about a path without parameters can be wrong
    return {"n": statuses.total(), "statuses": {str(k): v for k, v in sorted(statuses.items())}, "failures": failures}


def _send(
    cases: st.SearchStrategy[Any], address: str, n: int, seed: int, statuses: Counter[int], failures: list[str]
) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=_QUIET
    )
    @given(cases)
    def send(case: Any) -> None:
        response = case.call(base_url=address, timeout=60)
        statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except Exception as error:  # noqa: BLE001 - a check's own kinds
            if len(failures) < _MOST_FAILURES:
                reasons = [str(one) for one in getattr(error, "exceptions", [error])]
                failures.append(f"{case.method} {case.path} {response.status_code}: {' · '.join(reasons)[:1000]}")

    send()


def main() -> None:
    n, seed = (int(argument) for argument in (*sys.argv[1:], "20000", "0")[:2])
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 40, 3), np.uint8)
        for number, picture in enumerate(pixels):
            Image.fromarray(picture).save(f"{folder}/{number}.png")
        write_bundle_of("small-cnn", Path(folder) / "bundle", [f"{folder}/{number}.png" for number in range(48)])
        options = ["--port", "0", "--engine", "onnxruntime", "--keep", f"{folder}/kept"]
        words = ["tellapart", "serve", f"{folder}/bundle", *options]
        server = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = re.search(r"http://[^/]+", server.stdout.readline())
        assert address is not None
        start = time.perf_counter()
        try:
            figures = fuzz(address[0], n, seed)
            alive = httpx.get(f"{address[0]}/healthz", timeout=60).status_code == 200 and server.poll() is None
        finally:
            server.terminate()
            server.wait()
        figures |= {"seed": seed, "seconds": round(time.perf_counter() - start), "alive": alive}
        figures["stored"] = len(os.listdir(f"{folder}/kept"))
    print(figures)
    record.write("fuzz_server", {**figures, "schemathesis": schemathesis.SCHEMATHESIS_VERSION})
    if figures["failures"] or not alive:
        sys.exit(1)


if __name__ == "__main__":
    main()
