"""Writing a bundle: export, describe, check against torch, and only then put it in place."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.core.files import naming, sync_folder
from tellapart.core.predictions import Mean, Temperature
from tellapart.core.preprocess import Pixels
from tellapart.core.version import __version__
from tellapart.deploy.bundle.card import card
from tellapart.deploy.bundle.read import (
    CARD,
    DESCRIPTION,
    FORMAT,
    GOLDEN,
    KNOWN,
    MODEL,
    WEIGHTS,
    Bundle,
    describe_files,
    own_digest,
    waiting,
)
from tellapart.deploy.bundle.verify import verify
from tellapart.errors import BundleError, MissingExtraError
from tellapart.evaluation.open_set import KnownClasses, OodScore

if TYPE_CHECKING:
    import onnx

    from tellapart.models.network import Network

OPSET = 18
# onnxruntime fuses and reorders sums, so float32 logits differ from torch's in the last digits: 1e-6 to 1e-4 as a rule.
ABSOLUTE, RELATIVE = 1e-3, 1e-3
MAX_GOLDEN = 8


def write_bundle(
    folder: Path,
    network: Network,
    classes: Sequence[str],
    multilabel: bool,
    *,
    temperature: Temperature,
    thresholds: Sequence[float] | None,
    about: dict[str, Any],
    golden: Pixels,
    sets: Mapping[float, float] | None = None,
    n_validation: int = 0,
    known: KnownClasses | None = None,
    ood_score: OodScore | None = None,
    tta: int = 0,
    flip: bool = False,
    tta_mean: Mean = "logits",
) -> None:
    """Write a bundle whole or not at all, replacing an older one.

    The files are made in a folder beside, read back, and compared with torch on the golden pictures (tolerance:
    1e-3 + 1e-3 × the logit's size, kept in bundle.json). Only then the folder takes its place; a kill at any
    moment leaves the older bundle or the new one.

    Args:
        folder: where to; its parents are made. Holds nothing, or an older bundle and nothing else.
        network: what to write. It is left as it is: the export works on a copy, on the processor, in float32.
        classes: names, in the order of the logits.
        multilabel: True where a picture may have none, one or several of the classes.
        temperature: above 0; see `records.probabilities`. Several labels: one number, or one a class.
        thresholds: several labels: the probability, one a class, from which on a label counts (None: 0.5 each).
            One label: None.
        about: plain values for JSON, all optional; kept in bundle.json, the first ones told by the model card:
            "trained_on" (a sentence), "command", "evaluation" (`Evaluation.as_dict()`; its matrix and per-class
            table stay in the run directory).
        golden: uint8 [k, height, width, 3], preprocessed pictures; the first 8 are kept.
        sets, n_validation: thresholds of prediction sets, see `evaluation.sets`, and how many pictures they rest on.
        known, ood_score: both or neither: what is known, and from where on a picture is unknown.
        tta, flip: changed copies of a picture that are averaged with it, and whether they may be mirrored.
        tta_mean: what is averaged over them.

    Raises:
        ValueError: arguments that do not belong together.
        BundleError: the network cannot be exported, onnxruntime answers otherwise than torch, or the folder holds
            something else. Nothing is left half-written.
        MissingExtraError: onnxscript is not installed.
    """
    golden = golden[:MAX_GOLDEN]
    thresholds = ([0.5] * len(classes) if thresholds is None else list(thresholds)) if multilabel else thresholds
    _check_arguments(network, golden, classes, multilabel, temperature, thresholds)
    description = {
        "format": FORMAT,
        "tellapart": __version__,
        "architecture": network.architecture.as_dict(),
        "weights_source": network.weights_source,
        "classes": list(classes),
        "multilabel": multilabel,
        "preprocessing": network.preprocessing.as_dict(),
        "temperature": list(temperature) if isinstance(temperature, tuple) else float(temperature),
        "thresholds": [float(t) for t in thresholds or ()],
        "tolerance": {"absolute": ABSOLUTE, "relative": RELATIVE},
        "onnx_opset": OPSET,
        "sets": {str(level): float(least) for level, least in (sets or {}).items()},
        "n_validation": n_validation,
        "ood_score": ood_score.as_dict() if ood_score else None,
        "tta": tta,
        "flip": flip,
        "tta_mean": tta_mean,
        "about": _slim(about),
    }
    json.dumps(description)  # what cannot be written is found before minutes are spent on the export
    folder = folder.resolve()
    with naming(folder), _beside(folder) as part:
        _write_network(part, network, golden)
        if known is not None:
            _write_known(part, known)
        description["files"] = describe_files(part)
        description["sha256"] = own_digest(description)
        # A class name may come from a folder's name that is no UTF-8; its escapes are what JSON reads back.
        (part / CARD).write_bytes(card(description).encode("utf-8", "backslashreplace"))
        written = json.dumps(description, indent=2, ensure_ascii=False)
        (part / DESCRIPTION).write_bytes(written.encode("utf-8", "backslashreplace"))
        try:
            verify(Bundle.load(part))
        except BundleError as error:
            raise BundleError(
                f"No bundle was written: the exported network cannot be trusted. {error.message}",
                "The training itself is not lost. Please report this, with the network's name.",
            ) from error
        put(part, folder)


def _check_arguments(
    network: Network,
    golden: Pixels,
    classes: Sequence[str],
    multilabel: bool,
    temperature: Temperature,
    thresholds: Any,
) -> None:
    preprocessing, n_classes = network.preprocessing, network.architecture.n_classes
    if (
        golden.dtype != np.uint8
        or golden.shape[1:] != (preprocessing.height, preprocessing.width, 3)
        or not len(golden)
    ):
        raise ValueError(
            f"golden must be uint8 [k, {preprocessing.height}, {preprocessing.width}, 3], "
            f"not {golden.dtype} {golden.shape}"
        )
    each = temperature if isinstance(temperature, tuple) else (temperature,)
    if len(each) not in (1, n_classes) or not all(t > 0 and math.isfinite(t) for t in each):
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if len(set(classes)) != n_classes or len(classes) != n_classes:
        raise ValueError(f"classes must be {n_classes} names that differ, one a logit, not {list(classes)}")
    if multilabel and len(thresholds) != len(classes):
        raise ValueError(f"{len(thresholds)} thresholds for {len(classes)} classes")
    if not multilabel and thresholds is not None:
        raise ValueError("thresholds are for several labels only")


def _slim(about: dict[str, Any]) -> dict[str, Any]:
    """`about` without the tables of an evaluation that grow with the number of classes."""
    if "evaluation" not in about:
        return about
    kept = {k: v for k, v in about["evaluation"].items() if k not in ("classes", "per_class", "confusion")}
    return {**about, "evaluation": kept}


def _write_network(folder: Path, network: Network, golden: Pixels) -> None:
    """Weights, exported model, golden pictures and logits, all from one copy on the processor in float32."""
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
    _export(plain, golden, folder / MODEL)


def _write_known(folder: Path, known: KnownClasses) -> None:
    import safetensors.numpy

    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in known.tensors().items()}
    (folder / KNOWN).write_bytes(safetensors.numpy.save(tensors))


def _export(network: Network, golden: Pixels, path: Path) -> None:
    """uint8 "pictures" [n, height, width, 3] -> float32 "logits" and "features", n free, weights within the file."""
    import torch

    from tellapart.models.network import LogitsAndFeatures

    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Writing a bundle", "train", error.name or "onnx") from error
    two = torch.from_numpy(np.repeat(golden[:1], 2, axis=0))  # two, since a size of one would be taken as fixed
    try:
        torch.onnx.export(
            LogitsAndFeatures(network).eval(),
            (two,),
            path,
            input_names=["pictures"],
            output_names=["logits", "features"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise BundleError(
            f"No bundle was written: the network cannot be exported to ONNX. {_first_cause(error)}",
            "The training itself is not lost. Choose another network, or please report this, with the network's name.",
        ) from error
    model = onnx.load(path)
    _forget_origin(model.graph)
    onnx.save(model, path)


def _first_cause(error: BaseException) -> str:
    """One line on what went wrong at the bottom: the exporter's own text is about how to debug it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _forget_origin(graph: onnx.GraphProto) -> None:
    """Drop the exporter's notes: they hold stack traces with the paths of the machine it ran on."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _forget_origin(inner)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to write to; what is left of it at the end is removed."""
    old, part = waiting(folder), folder.parent / f".{folder.name}.part"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.is_dir() and not folder.exists():  # a writer was killed between its two renames
        old.rename(folder)
    _refuse_others(folder)
    for rest in (old, part):
        _remove(rest)
    part.mkdir()
    try:
        yield part
    finally:
        _remove(part)


def put(part: Path, folder: Path) -> None:
    """Flush the files of `part` to disk and let it take the place of `folder`.

    No system renames over a folder that is not empty, so the older one steps aside for a moment; killed just then,
    `read.py` finds it there, and the next writer puts it back.
    """
    for path in part.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    sync_folder(part)
    if folder.exists():
        folder.rename(waiting(folder))
    part.rename(folder)
    sync_folder(folder.parent)
    _remove(waiting(folder))


def _refuse_others(folder: Path) -> None:
    """Stop rather than replace a folder that holds anything but a bundle."""
    if not folder.exists():
        return
    own = {DESCRIPTION, MODEL, WEIGHTS, GOLDEN, KNOWN, CARD}
    others = sorted(path.name for path in folder.iterdir() if path.name not in own) if folder.is_dir() else ["a file"]
    if others:
        raise BundleError(
            f"{folder} is not replaced, since it holds something that is no part of a bundle: {others[0]}",
            "Move it away, or write the bundle to another folder.",
        )


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
