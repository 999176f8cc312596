"""Exports a bundle to a folder as timm's hub has them: `timm.create_model("local-dir:FOLDER", pretrained=True)`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tellapart.core.version import __version__
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.export.about import left_out, metadata
from tellapart.deploy.export.bundle_network import bundle_network
from tellapart.deploy.export.exported import Exported, golden_difference
from tellapart.deploy.export.folder import replacing_folder
from tellapart.errors import UsageError
from tellapart.models.network import Network

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_ALLOWED = 1e-3  # of the logits' size


def export_timm(bundle: Bundle, folder: Path) -> Exported:
    """Write the folder, whole or not at all.

    Raises:
        UsageError: the network is not timm's with a linear head, or the folder holds something else.
        BundleError: its answers are not the bundle's.
    """
    import timm
    from safetensors.torch import save

    network = bundle_network(bundle)
    architecture = network.architecture
    if architecture.source != "timm" or architecture.head.hidden or architecture.resize_inside:
        raise UsageError(
            f"{architecture.name} with this head is no network that timm can build.",
            "Possible are timm's networks with a linear head. Others go to --to onnx or --to torch.",
        )
    like = timm.create_model(architecture.name, num_classes=architecture.n_classes, **architecture.options)
    classifier = str(like.default_cfg["classifier"])  # type: ignore[index]
    weights = {name: tensor.contiguous() for name, tensor in network.backbone.state_dict().items()}
    weights[f"{classifier}.weight"] = network.head[-1].weight  # type: ignore[index]
    weights[f"{classifier}.bias"] = network.head[-1].bias  # type: ignore[index]
    try:
        like.load_state_dict(weights)
    except RuntimeError:
        raise UsageError(
            f"timm's {architecture.name} has other layers before its classifier than this network.",
            "Use --to onnx or --to torch.",
        ) from None
    with replacing_folder(folder, {CONFIG, WEIGHTS}) as beside:
        # From bytes, since safetensors gives its own files to their owner alone.
        (beside / WEIGHTS).write_bytes(save(weights, metadata={"format": "pt"}))
        (beside / CONFIG).write_text(json.dumps(_config(bundle, network, classifier), indent=2), encoding="utf-8")
        loaded = timm.create_model(f"local-dir:{beside}", pretrained=True).eval()
        with torch.inference_mode():
            difference = golden_difference(
                bundle,
                lambda pixels: loaded(network.normalise(torch.from_numpy(pixels.copy()))).numpy(),
                _ALLOWED,
                "timm folder",
            )
    return Exported(folder, difference, left_out(bundle, probabilities=False))


def _config(bundle: Bundle, network: Network, classifier: str) -> dict[str, Any]:
    """config.json in timm's layout; its preprocessing is ours as nearly as timm can say it."""
    preprocessing = bundle.preprocessing
    size = [3, preprocessing.height, preprocessing.width]
    return {
        "tellapart": metadata(bundle),
        "architecture": network.architecture.name,
        "num_classes": len(bundle.classes),
        "model_args": network.architecture.options,
        "pretrained_cfg": {
            "num_classes": len(bundle.classes),
            "input_size": size,
            "fixed_input_size": False,
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop,
            "crop_mode": {"crop": "center", "squash": "squash", "pad": "border"}[preprocessing.fit],
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "classifier": classifier,
            "label_names": list(bundle.classes),
            "origin_url": f"made with Tellapart {__version__}",
        },
    }
