"""Networks of our own, small enough to be trained from scratch.

Each function builds a backbone, a plain `nn.Sequential` from normalised float [n, 3, h, w] to features [n, d]; the last
linear layer is the head, built by `heads.build_head`. Four of them are classics that published reports used, layer by
layer as published, so that the reports can be checked; `small-cnn` is the one to start from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tellapart.errors import ModelError
from tellapart.models import scratch_0_1
from tellapart.recipe.networks import CURRENT_LAYOUT


@dataclass(frozen=True)
class OwnNetwork:
    """How to build one of our own backbones.

    Attributes:
        build: (height, width, dropout) → backbone; where it takes one, also batch_norm.
        size: side of the pictures in pixels, unless the recipe says otherwise.
        smallest: smallest side in pixels that leaves something to see after the last pooling.
        dropout: unless the recipe says otherwise.
        about: one line for people.
        batch_norm: whether it can be built with batch norm.
    """

    build: Callable[..., nn.Sequential]
    size: int
    smallest: int
    dropout: float
    about: str
    batch_norm: bool = False


def mlp(height: int, width: int, dropout: float) -> nn.Sequential:
    """One hidden layer of 255: pixels → 255 features.

    At 300 pixels this is the 270,000 → 255 scheme with 69 million weights; by default pictures are 64 pixels.
    """
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            hidden=nn.Sequential(nn.Linear(3 * height * width, 255), nn.ReLU(), nn.Dropout(dropout)),
        )
    )


def tutorial_cnn(height: int, width: int, dropout: float, batch_norm: bool = False) -> nn.Sequential:
    """The network of PyTorch's CIFAR-10 tutorial: two 5×5 convolutions with pooling, then 120 and 84 features.

    Dropout follows the last pooling and the second linear layer. The first linear layer grows with the picture: 400
    inputs at 32 pixels, 82,944 at 300.

    Args:
        height, width: of the pictures, in pixels.
        dropout: of both layers.
        batch_norm: between each convolution and its ReLU; no part of the tutorial.
    """
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))

    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
        return [nn.Conv2d(inputs, outputs, 5, bias=not batch_norm), *norm, nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(*convolution(3, 6)),
            conv2=nn.Sequential(*convolution(6, 16), nn.Dropout(dropout)),
            flatten=nn.Flatten(),
            fc1=nn.Sequential(nn.Linear(16 * rows * columns, 120), nn.ReLU()),
            fc2=nn.Sequential(nn.Linear(120, 84), nn.ReLU(), nn.Dropout(dropout)),
        )
    )


def cnn8(height: int, width: int, dropout: float) -> nn.Sequential:
    """Eight 3×3 convolutions, each with ReLU, dropout and batch norm; pooling after each pair; 512 → 128 features.

    In the last convolution dropout stands before ReLU, as published; dropout follows the 128 features, too. Made for 32
    pixels, where 2 × 2 × 128 = 512 values are left; at other sizes they are averaged down to 2 × 2.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for pair, n_filters in enumerate((16, 32, 64, 128), start=1):
        convolutions: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(channels, n_filters, 3, padding=1)
            convolutions += [convolution, nn.ReLU(), nn.Dropout(dropout), nn.BatchNorm2d(n_filters)]
            channels = n_filters
        if pair == 4:
            convolutions[-3:-1] = [nn.Dropout(dropout), nn.ReLU()]
        layers[f"pair{pair}"] = nn.Sequential(*convolutions, nn.MaxPool2d(2))
    if (height // 16, width // 16) != (2, 2):
        layers["pool"] = nn.AdaptiveAvgPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(layers)


def breeds_cnn(height: int, width: int, dropout: float) -> nn.Sequential:
    """Convolutions of 32, 64 and 64 filters without padding, pooling between them; dropout; 64 features.

    At 160 pixels 36 × 36 × 64 = 82,944 values are left, so that nearly all weights are in the linear layer.
    """
    rows, columns = (((side - 2) // 2 - 2) // 2 - 2 for side in (height, width))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
            conv3=nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Dropout(dropout)),
            flatten=nn.Flatten(),
            fc=nn.Sequential(nn.Linear(64 * rows * columns, 64), nn.ReLU()),
        )
    )


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm, added to their input.

    Source: He et al., Deep Residual Learning for Image Recognition, 2015; the shortcut averages before its 1×1
    convolution, as in He T. et al., Bag of Tricks, 2018.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if stride > 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, bias=False)).append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] → [n, outputs, h / stride, w / stride]."""
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        out: Tensor = self.act(y + self.shortcut(x))
        return out


def small_cnn(height: int, width: int, dropout: float) -> nn.Sequential:
    """A small residual network: stem, four stages of 32 to 256 channels, global average → 256 features.

    The stem scales by 1, 2 or 4, so that the first stage works on 8 to 56 pixels a side whatever the picture.
    """
    side = max(height, width)
    strides = (1,) if side < 32 else (2,) if side < 96 else (2, 2)
    stem: list[nn.Module] = []
    channels = 3
    for stride in strides:
        stem += [nn.Conv2d(channels, 32, 3, stride, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        channels = 32
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(*stem),
            stage1=Residual(32, 32, 1),
            stage2=Residual(32, 64, 2),
            stage3=Residual(64, 128, 2),
            stage4=Residual(128, 256, 2),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
        )
    )


_TUTORIAL = "PyTorch's CIFAR-10 tutorial: two convolutions"
_CNN8 = "eight convolutions of 16 to 128 filters"
_BREEDS = "three convolutions of 32, 64 and 64 filters"

OWN: dict[str, OwnNetwork] = {
    "small-cnn": OwnNetwork(small_cnn, 64, 8, 0.0, "residual network of 1.2 million weights: the one to start from"),
    "mlp": OwnNetwork(mlp, 64, 1, 0.0, "one hidden layer of 255"),
    "tutorial-cnn": OwnNetwork(tutorial_cnn, 32, 16, 0.0, _TUTORIAL, batch_norm=True),
    "cnn8": OwnNetwork(cnn8, 32, 16, 0.2, _CNN8),
    "breeds-cnn": OwnNetwork(breeds_cnn, 160, 18, 0.2, _BREEDS),
}

#: Layout 1: what version 0.1 built under these names. Its runs and bundles hold the weights of these.
_OWN_0_1: dict[str, OwnNetwork] = {
    "tutorial-cnn": OwnNetwork(scratch_0_1.tutorial_cnn, 32, 16, 0.0, _TUTORIAL),
    "cnn8": OwnNetwork(scratch_0_1.cnn8, 32, 16, 0.2, _CNN8),
    "breeds-cnn": OwnNetwork(scratch_0_1.breeds_cnn, 96, 8, 0.2, _BREEDS),
}


def own_network(name: str, layout: int) -> OwnNetwork:
    """A network of our own by its name, a key of `OWN`, and its layout; see `recipe.networks.LAYOUTS`."""
    return _OWN_0_1.get(name, OWN[name]) if layout == 1 else OWN[name]


def build_own(
    name: str,
    height: int,
    width: int,
    dropout: float | None = None,
    batch_norm: bool = False,
    layout: int = CURRENT_LAYOUT,
) -> nn.Sequential:
    """One of our own backbones, for pictures of one size.

    Args:
        name: a key of `OWN`.
        height, width: of the pictures, in pixels.
        dropout: 0 to below 1; by default the network's own.
        batch_norm: for those that can be built so.
        layout: see `recipe.networks.LAYOUTS`.

    Raises:
        ModelError: the pictures are too small for it, or it has no batch norm.
    """
    own = own_network(name, layout)
    if min(height, width) < own.smallest:
        raise ModelError(
            f"{name} cannot take pictures of {width}×{height} pixels: nothing is left after its last pooling.",
            f"The smallest size that works is {own.smallest}: --set data.size={own.smallest}",
        )
    if batch_norm and not own.batch_norm:
        raise ModelError(
            f"{name} cannot be built with batch norm (model.batch_norm).",
            f"Possible: {', '.join(other for other, each in OWN.items() if each.batch_norm)}, in layout "
            f"{CURRENT_LAYOUT}.",
        )
    return own.build(height, width, own.dropout if dropout is None else dropout, *([True] if batch_norm else []))
