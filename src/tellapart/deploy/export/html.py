"""Exports a bundle to one HTML file that classifies pictures in any browser, without server or network."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.extras import require
from tellapart.core.files import write_text
from tellapart.core.text import json_in_html
from tellapart.deploy.bundle.read import MODEL, Bundle
from tellapart.deploy.export import browser_engine
from tellapart.deploy.export.exported import Exported, golden_difference
from tellapart.deploy.export.half_weights import half_weights
from tellapart.deploy.export.onnx_file import OnnxModel
from tellapart.deploy.page.describe import describe, fill, scripts

#: The engine is made of text in the page itself, so inline scripts and WebAssembly may run; nothing can be fetched.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'none'"
)
_SCRIPTS = ("preprocess.js", "scaled_jpeg.js", "read_picture.js", "answer.js", "local_engine.js", "classifier.js")
_PRIVACY = "Your pictures stay on this device: this page sends nothing anywhere, and works without a network."
_ALLOWED = 0.01  # of the logits' size; weights in float16 change them by a thousandth or so


def export_html(bundle: Bundle, path: Path, engine_folder: Path | None = None) -> Exported:
    """Write the page, whole or not at all.

    Args:
        bundle: the classifier.
        path: of the HTML file.
        engine_folder: holds the browser's engine, see `browser_engine`.

    Raises:
        BundleError: the engine cannot be had, or the network answers otherwise with weights in float16.
        MissingExtraError: onnx is not installed.
    """
    network = _network(bundle)
    difference = golden_difference(bundle, OnnxModel(network).logits, _ALLOWED, "page")
    engine = browser_engine.browser_engine(engine_folder)
    data = [
        _data("model", "application/json", json_in_html(describe(bundle, _PRIVACY))),
        _data("engine", "text/plain", engine.script.replace("</script", "<\\/script")),
        _data("engine-binary", "text/plain", _packed(engine.binary)),
        _data("network", "text/plain", _packed(network.SerializeToString())),
    ]
    if bundle.known is not None:
        numbers = np.concatenate([tensor.ravel() for tensor in bundle.known.tensors().values()])
        data.append(_data("known", "text/plain", _packed(numbers.astype("<f4").tobytes())))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    write_text(path, fill(bundle, policy, "\n".join(data), f"<script>\n{scripts(*_SCRIPTS)}\n</script>"))
    return Exported(path, difference)


def _network(bundle: Bundle) -> Any:
    onnx = require("onnx", "Exporting a page", "train")
    model = onnx.load(bundle.folder / MODEL)
    half_weights(model)
    return model


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _data(name: str, kind: str, content: str) -> str:
    return f'<script type="{kind}" id="{name}">{content}</script>'
