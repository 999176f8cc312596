"""A picture classifier: normalisation, backbone and head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tellapart.core.preprocess import Preprocessing
from tellapart.models.architecture import Architecture
from tellapart.models.heads import ResizeInside


class Network(nn.Module):
    """uint8 pictures in, logits out. Normalisation is inside, so that an exported model needs none.

    Attributes:
        backbone: float [n, 3, h, w], normalised → features [n, n_features].
        head: features → logits [n, n_classes].
        architecture: from which the network can be built again.
        n_features: length of a feature vector.
        weights_source: where the initial weights came from, in words.
        scale, shift: float [1, 3, 1, 1], not part of the state: they follow from the preprocessing.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, backbone: nn.Module, head: nn.Module, architecture: Architecture, n_features: int, weights_source: str
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.architecture = architecture
        self.n_features = n_features
        self.weights_source = weights_source
        self.resize = ResizeInside(*architecture.backbone_size) if architecture.resize_inside else nn.Identity()
        mean = torch.tensor(self.preprocessing.mean, dtype=torch.float64)
        std = torch.tensor(self.preprocessing.std, dtype=torch.float64)
        # (x / 255 - mean) / std as one multiply-add over pixels of 0 to 255.
        self.register_buffer("scale", (1 / (255 * std)).float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).float().view(1, 3, 1, 1), persistent=False)

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes this network's input."""
        return self.architecture.preprocessing

    def normalise(self, pictures: Tensor) -> Tensor:
        """uint8 [n, h, w, 3] → the backbone's input: float [n, 3, h, w], scaled per channel, resized if asked.

        Pictures in height × width × channel order are channels-last memory already: nothing is copied to reorder.
        """
        pixels = pictures.permute(0, 3, 1, 2).to(self.scale.dtype)
        normalised: Tensor = self.resize(torch.addcmul(self.shift, pixels, self.scale))
        return normalised

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 [n, h, w, 3] → logits [n, n_classes]."""
        logits: Tensor = self.head(self.backbone(self.normalise(pictures)))
        return logits

    def answer(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [n, h, w, 3] → logits [n, n_classes] and the features [n, n_features] that they rest on."""
        features: Tensor = self.backbone(self.normalise(pictures))
        return self.head(features), features


class LogitsAndFeatures(nn.Module):
    """A network that gives its features beside its logits; for whoever needs a module to call or export."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.answer`."""
        return self.network.answer(pictures)
