"""Exports a bundle to a program of torch.export: one .pt2 file, which torch loads without any code of ours."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from tellapart.core.files import replacing
from tellapart.deploy.bundle.golden import read_golden
from tellapart.deploy.bundle.read import Bundle
from tellapart.deploy.export.about import left_out, metadata
from tellapart.deploy.export.bundle_network import bundle_network
from tellapart.deploy.export.exported import Exported, golden_difference

_ALLOWED = 1e-3  # of the logits' size


def export_torch(bundle: Bundle, path: Path) -> Exported:
    """Write the file, whole or not at all: uint8 pictures [n, height, width, 3] → logits [n, n_classes].

    Raises:
        BundleError: its answers are not the bundle's.
        ModelError: the network cannot be built again.
    """
    network = bundle_network(bundle)
    pictures, _ = read_golden(bundle)
    two = torch.from_numpy(pictures[:1].repeat(2, axis=0))  # a size of one would be taken as fixed
    program = torch.export.export(network, (two,), dynamic_shapes=({0: torch.export.Dim("n")},))
    with replacing(path) as beside, beside.open("wb") as file, warnings.catch_warnings():
        # Of layers whose tensors share memory it saves the whole memory, which is what is wanted.
        warnings.filterwarnings("ignore", message="No complete tensor found")
        torch.export.save(program, file, extra_files=metadata(bundle))
    # What was just written here, and no file of anybody else's.
    loaded = torch.export.load(path).module()
    difference = golden_difference(
        bundle, lambda pixels: loaded(torch.from_numpy(pixels.copy())).numpy(), _ALLOWED, "torch program"
    )
    return Exported(path, difference, left_out(bundle, probabilities=False))
