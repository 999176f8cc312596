"""Exports a network to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tellapart.core.preprocess import Pixels
from tellapart.errors import BundleError, MissingExtraError

if TYPE_CHECKING:
    import onnx

    from tellapart.models.network import Network

OPSET = 18


def export_onnx(network: Network, golden: Pixels, path: Path) -> None:
    """Write uint8 "pictures" [n, height, width, 3] -> float32 "logits" and "features", n free, weights in the file.

    Args:
        network: in float32 on the CPU.
        golden: uint8 [k, height, width, 3], at least one picture to trace the network with.
        path: the file.

    Raises:
        BundleError: the network cannot be exported.
        MissingExtraError: onnx or onnxscript is not installed.
    """
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
    _remove_notes(model.graph)
    onnx.save(model, path)


def _first_cause(error: BaseException) -> str:
    """One line on the error at the bottom: the exporter's own text is about how to debug it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _remove_notes(graph: onnx.GraphProto) -> None:
    """Drop the exporter's notes: they hold stack traces with the paths of the machine it ran on."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _remove_notes(inner)
