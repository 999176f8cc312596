"""Exports a bundle to OpenVINO's own format: a folder with the network (.xml) and its weights (.bin)."""

from __future__ import annotations

from pathlib import Path

from tellapart.core.openvino_quiet import load_openvino
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.export.about import left_out, metadata
from tellapart.deploy.export.exported import Exported, golden_difference
from tellapart.deploy.export.folder import replacing_folder
from tellapart.deploy.export.onnx_file import network_with_probabilities
from tellapart.errors import MissingExtraError

NETWORK, WEIGHTS = "model.xml", "model.bin"
_ALLOWED = 5e-3  # of the logits' size


def export_openvino(bundle: Bundle, folder: Path) -> Exported:
    """Write the folder, whole or not at all; weights stay float32.

    Raises:
        BundleError: its answers are not the bundle's.
        UsageError: the folder holds something else.
        MissingExtraError: openvino or onnx is not installed.
    """
    try:
        openvino = load_openvino()
    except ImportError as error:
        raise MissingExtraError("Exporting to OpenVINO", "fast", "openvino") from error
    core = openvino.Core()
    model = core.read_model(network_with_probabilities(bundle).SerializeToString())
    for name, text in metadata(bundle).items():
        model.set_rt_info(text, ["tellapart", name])
    with replacing_folder(folder, {NETWORK, WEIGHTS}) as beside:
        openvino.save_model(model, beside / NETWORK, compress_to_fp16=False)
        compiled = core.compile_model(beside / NETWORK, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        difference = golden_difference(
            bundle, lambda pictures: compiled({"pictures": pictures})["logits"], _ALLOWED, "OpenVINO folder"
        )
    return Exported(folder, difference, left_out(bundle))
