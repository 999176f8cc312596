"""Exports a bundle to one HTML file that classifies pictures in any browser, without server or network."""

from __future__ import annotations

import base64
import gzip
import json
import string
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.extras import require
from tellapart.core.files import write_text
from tellapart.core.text import counted, visible
from tellapart.core.version import __version__
from tellapart.deploy.bundle.read import MODEL, Bundle
from tellapart.deploy.export import browser_engine
from tellapart.deploy.export.exported import Exported, golden_difference
from tellapart.deploy.export.half_weights import half_weights
from tellapart.deploy.export.onnx_file import InferenceSession

PAGE = Path(__file__).parents[1] / "page"
#: The engine is made of text in the page itself, so inline scripts and WebAssembly may run; nothing can be fetched.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'none'"
)
_SCRIPTS = ("preprocess.js", "read_picture.js", "answer.js", "local_engine.js", "classifier.js")
_PRIVACY = "Your pictures stay on this device: this page sends nothing anywhere, and works without a network."
_ALLOWED = 0.02  # of the logits' size; weights in float16 change them by a thousandth or so
_FEW = 4


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
    difference = golden_difference(bundle, InferenceSession(network).logits, _ALLOWED, "page")
    engine = browser_engine.browser_engine(engine_folder)
    data = [
        _data("model", "application/json", _json(describe(bundle, _PRIVACY))),
        _data("engine", "text/plain", engine.script.replace("</script", "<\\/script")),
        _data("engine-binary", "text/plain", _packed(engine.binary)),
        _data("network", "text/plain", _packed(network.SerializeToString())),
    ]
    if bundle.known is not None:
        numbers = np.concatenate([tensor.ravel() for tensor in bundle.known.tensors().values()])
        data.append(_data("known", "text/plain", _packed(numbers.astype("<f4").tobytes())))
    write_text(path, page(bundle, POLICY, _SCRIPTS, "\n".join(data)))
    return Exported(path, difference)


def page(bundle: Bundle, policy: str, scripts: tuple[str, ...], data: str) -> str:
    """The page of a classifier, with whichever engine the scripts bring."""
    return string.Template(_read("page.html")).substitute(
        policy=policy,
        version=__version__,
        title=_escaped(_title(bundle)),
        style=_read("style.css"),
        data=data,
        script="\n".join(map(_read, scripts)).replace('"use strict";\n', ""),
    )


def describe(bundle: Bundle, privacy: str) -> dict[str, Any]:
    """All that the page's scripts know of a classifier, as plain values."""
    safest = max(bundle.sets, default=None)
    n = len(bundle.classes)
    one = f"It says which of {n} classes a picture shows, and how sure it is."
    several = f"It says which of {n} labels a picture has (none, one or several), and how sure it is."
    return {
        "title": _title(bundle),
        "subtitle": several if bundle.multilabel else one,
        "privacy": privacy,
        "facts": _facts(bundle),
        "classes": [visible(name) for name in bundle.classes],
        "multilabel": bundle.multilabel,
        "preprocessing": bundle.preprocessing.as_dict(),
        "temperature": bundle.temperature,
        "thresholds": bundle.thresholds,
        "set": None if safest is None else {"coverage": safest, "threshold": bundle.sets[safest]},
        "ood_score": bundle.ood_score.as_dict() if bundle.ood_score else None,
        "known": bundle.known and {name: tensor.size for name, tensor in bundle.known.tensors().items()},
        "tta": bundle.tta,
        "flip": bundle.flip,
        "tta_mean": bundle.tta_mean,
    }


def _title(bundle: Bundle) -> str:
    names = [visible(name) for name in bundle.classes]
    if len(names) > _FEW:
        return f"Tells {len(names)} kinds of pictures apart"
    return f"{', '.join(names[:-1])} or {names[-1]}?" if len(names) > 1 else f"{names[0]}?"


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    """Terms and facts about the classifier, for people."""
    about, facts = bundle.about, [("Classes", ", ".join(map(visible, bundle.classes)))]
    if quality := _quality(about.get("evaluation")):
        facts.append(("How good it is", quality))
    if isinstance(about.get("trained_on"), str):
        facts.append(("Trained on", visible(about["trained_on"])))
    name = bundle.architecture.get("name")
    sides = f"{bundle.preprocessing.width} × {bundle.preprocessing.height} pixels"
    facts.append(("Network", f"{visible(str(name))}, which sees {sides}"))
    facts.append(("Limits", "It knows pictures like those it was trained on; on others its certainty does not hold."))
    facts.append(("Made with", f"Tellapart {__version__}, {date.today().isoformat()}"))
    return facts


def _quality(evaluation: Any) -> str:
    """A sentence on the first score of an evaluation; empty where there is none. A bundle may hold anything here."""
    try:
        name, metric = next(iter(evaluation["metrics"].items()))
        return (
            f"{visible(name)} {metric['value']:.1%} on {counted(evaluation['n'], 'picture')} that it had not seen "
            f"({metric['low']:.1%} to {metric['high']:.1%} with 95 % confidence)"
        )
    except (TypeError, KeyError, ValueError, AttributeError, StopIteration):
        return ""


def _network(bundle: Bundle) -> Any:
    onnx = require("onnx", "Exporting a page", "train")
    model = onnx.load(bundle.folder / MODEL)
    half_weights(model)
    return model


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _data(name: str, kind: str, content: str) -> str:
    return f'<script type="{kind}" id="{name}">{content}</script>'


def _json(value: Any) -> str:
    """JSON that can stand inside <script>."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
