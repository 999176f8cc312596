"""The torch network of a bundle, built anew from its description and its weights."""

from __future__ import annotations

from tellapart.deploy.bundle.read import WEIGHTS, Bundle
from tellapart.errors import BundleError
from tellapart.models.architecture import Architecture
from tellapart.models.create import rebuild
from tellapart.models.network import Network


def bundle_network(bundle: Bundle) -> Network:
    """The network in inference mode, float32, on the processor.

    Raises:
        ModelError: the architecture cannot be built, or has more weights than the file.
        BundleError: the weights do not fit.
    """
    from safetensors.torch import load_file

    path = bundle.folder / WEIGHTS
    try:
        weights = load_file(path)
        network = rebuild(Architecture.from_dict(bundle.architecture), sum(t.numel() for t in weights.values()))
        network.load_state_dict(weights)
    except (OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} cannot be used: {error}") from error
    return network.eval().requires_grad_(False)
