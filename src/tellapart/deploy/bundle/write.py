"""Writes a bundle: export, description, comparison with torch, and only then it takes its place."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.core.bundle_description import DESCRIPTION, FORMAT, signed_text
from tellapart.core.files import naming
from tellapart.core.own_paths import without_folders
from tellapart.core.predictions import Mean
from tellapart.core.preprocess import Pixels
from tellapart.core.version import __version__
from tellapart.deploy.bundle.card import card
from tellapart.deploy.bundle.golden import check_golden
from tellapart.deploy.bundle.read import CARD, GOLDEN, KNOWN, WEIGHTS, Bundle, describe_files
from tellapart.deploy.bundle.replace import folder_beside, put
from tellapart.deploy.export.formats import FORMATS
from tellapart.deploy.export.onnx import OPSET
from tellapart.errors import BundleError
from tellapart.evaluation.calibration_summary import Certainty
from tellapart.evaluation.open_set import KnownClasses

if TYPE_CHECKING:
    from tellapart.models.network import Network

# onnxruntime fuses and reorders sums, so float32 logits differ from torch's in the last digits: 1e-6 to 1e-4 as a rule.
ABSOLUTE, RELATIVE = 1e-3, 1e-3
MAX_GOLDEN = 8


def write_bundle(
    folder: Path,
    network: Network,
    classes: Sequence[str],
    multilabel: bool,
    certainty: Certainty,
    *,
    golden: Pixels,
    about: dict[str, Any],
    known: KnownClasses | None = None,
    tta: int = 0,
    flip: bool = False,
    tta_mean: Mean = "logits",
) -> None:
    """Write a bundle whole or not at all, replacing an older one.

    The files are made in a folder beside, read back, and compared with torch on the golden pictures. Only then the
    folder takes its place; a kill at any moment leaves the older bundle or the new one.

    Args:
        folder: holds nothing, or an older bundle and nothing else; its parents are made.
        network: left as it is: the export works on a copy, on the CPU, in float32.
        classes: names, in the order of the logits.
        multilabel: True where a picture may have none, one or several of the classes.
        certainty: with several labels, thresholds of None are 0.5 each.
        golden: uint8 [k, height, width, 3], preprocessed pictures; the first 8 are stored.
        about: plain values for JSON, all optional. The model card shows "trained_on" (a sentence), "command" and
            "evaluation" (`Evaluation.as_dict()`; its matrix and per-class table stay in the run directory).
        known: the known classes, for the out-of-distribution score; None where there is no such score.
        tta, flip, tta_mean: test-time augmentation by default: changed copies of a picture, whether they may be
            mirrored, and what is averaged over them.

    Raises:
        ValueError: arguments that do not belong together.
        BundleError: the network cannot be exported, onnxruntime answers otherwise than torch, or the folder holds
            something else. Nothing is left half-written.
        MissingExtraError: onnxscript is not installed.
    """
    golden = golden[:MAX_GOLDEN]
    _check_arguments(network, golden, classes, multilabel, certainty)
    description = _describe(network, classes, multilabel, certainty, about)
    description |= {"tta": tta, "flip": flip, "tta_mean": tta_mean}
    json.dumps(description)  # what cannot be written is an error before minutes are spent on the export
    folder = folder.resolve()
    with naming(folder), folder_beside(folder) as part:
        _write_network(part, network, golden)
        if known is not None:
            _write_known(part, known)
        _write_description(part, description)
        _verify(part)
        put(part, folder)


def _describe(
    network: Network, classes: Sequence[str], multilabel: bool, certainty: Certainty, about: dict[str, Any]
) -> dict[str, Any]:
    """bundle.json but for the files."""
    temperature = certainty.temperature
    thresholds = certainty.thresholds or ((0.5,) * len(classes) if multilabel else ())
    return {
        "format": FORMAT,
        "tellapart": __version__,
        "architecture": network.architecture.as_dict(),
        "weights_source": without_folders(network.weights_source),
        "classes": list(classes),
        "multilabel": multilabel,
        "preprocessing": network.preprocessing.as_dict(),
        "temperature": list(temperature) if isinstance(temperature, tuple) else float(temperature),
        "thresholds": [float(threshold) for threshold in thresholds],
        "tolerance": {"absolute": ABSOLUTE, "relative": RELATIVE},
        "onnx_opset": OPSET,
        "sets": {str(level): float(threshold) for level, threshold in certainty.sets.items()},
        "n_validation": certainty.n_validation,
        "ood_score": certainty.ood_score.as_dict() if certainty.ood_score else None,
        "about": _to_pass_on(about),
    }


def _check_arguments(
    network: Network, golden: Pixels, classes: Sequence[str], multilabel: bool, certainty: Certainty
) -> None:
    preprocessing, n_classes = network.preprocessing, network.architecture.n_classes
    shape = (preprocessing.height, preprocessing.width, 3)
    if golden.dtype != np.uint8 or golden.shape[1:] != shape or not len(golden):
        raise ValueError(
            f"golden must be uint8 [k, {preprocessing.height}, {preprocessing.width}, 3], "
            f"not {golden.dtype} {golden.shape}"
        )
    temperature, thresholds = certainty.temperature, certainty.thresholds
    each = temperature if isinstance(temperature, tuple) else (temperature,)
    if len(each) not in (1, n_classes) or not all(t > 0 and math.isfinite(t) for t in each):
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if len(set(classes)) != n_classes or len(classes) != n_classes:
        raise ValueError(f"classes must be {n_classes} names that differ, one a logit, not {list(classes)}")
    if multilabel and thresholds is not None and len(thresholds) != len(classes):
        raise ValueError(f"{len(thresholds)} thresholds for {len(classes)} classes")
    if not multilabel and thresholds is not None:
        raise ValueError("thresholds are for several labels only")


def _to_pass_on(about: dict[str, Any]) -> dict[str, Any]:
    """`about` without paths of this machine, and without the tables of an evaluation that grow with the classes."""
    about = about | without_folders({key: about[key] for key in ("command", "recipe") if key in about})
    if "evaluation" not in about:
        return about
    tables = ("classes", "per_class", "confusion", "together", "taken_for")
    return {**about, "evaluation": {key: value for key, value in about["evaluation"].items() if key not in tables}}


def _write_network(folder: Path, network: Network, golden: Pixels) -> None:
    """Weights, exported network, golden pictures and logits, all from one copy on the CPU in float32."""
    import safetensors.numpy
    import safetensors.torch
    import torch

    plain = copy.deepcopy(network).to("cpu", torch.float32).eval().requires_grad_(False)
    # Copies, since safetensors refuses tensors that share memory (tied weights). Written from bytes, since it gives
    # its own files to their owner alone.
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in plain.state_dict().items()}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
    with torch.inference_mode():
        logits = plain(torch.from_numpy(golden.copy())).float().numpy()
    (folder / GOLDEN).write_bytes(safetensors.numpy.save({"pictures": golden.copy(), "logits": logits}))
    for name, export in FORMATS.items():
        export(plain, golden, folder / name)


def _write_known(folder: Path, known: KnownClasses) -> None:
    import safetensors.numpy

    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in known.tensors().items()}
    (folder / KNOWN).write_bytes(safetensors.numpy.save(tensors))


def _write_description(folder: Path, description: dict[str, Any]) -> None:
    """bundle.json, with the digests of the files written so far, and the model card."""
    description["files"] = describe_files(folder)
    # A class name may come from a folder's name that is no UTF-8; its escapes are what JSON reads back.
    (folder / CARD).write_bytes(card(description).encode("utf-8", "backslashreplace"))
    (folder / DESCRIPTION).write_bytes(signed_text(description).encode())


def _verify(folder: Path) -> None:
    try:
        check_golden(Bundle.load(folder))
    except BundleError as error:
        raise BundleError(
            f"No bundle was written: the exported network cannot be trusted. {error.message}",
            "The training itself is not lost. Please report this, with the network's name.",
        ) from error
