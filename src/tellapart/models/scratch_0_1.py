"""Three of our own networks as version 0.1 built them (`model.layout = 1`), for its runs, bundles and recipes.

They differ from the published ones in `scratch.py`: in where dropout stands, and `breeds_cnn` in padding and a third
pooling, so that its weights have other shapes. Arguments and results are as there.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def tutorial_cnn(height: int, width: int, dropout: float) -> nn.Sequential:
    """Dropout after both linear layers, none after the last pooling."""
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            flatten=nn.Flatten(),
            fc1=nn.Sequential(nn.Linear(16 * rows * columns, 120), nn.ReLU(), nn.Dropout(dropout)),
            fc2=nn.Sequential(nn.Linear(120, 84), nn.ReLU(), nn.Dropout(dropout)),
        )
    )


def cnn8(height: int, width: int, dropout: float) -> nn.Sequential:
    """No dropout after the 128 features; in all convolutions it stands behind ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for pair, n_filters in enumerate((16, 32, 64, 128), start=1):
        convolutions: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(channels, n_filters, 3, padding=1)
            convolutions += [convolution, nn.ReLU(), nn.Dropout(dropout), nn.BatchNorm2d(n_filters)]
            channels = n_filters
        layers[f"pair{pair}"] = nn.Sequential(*convolutions, nn.MaxPool2d(2))
    if (height // 16, width // 16) != (2, 2):
        layers["pool"] = nn.AdaptiveAvgPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Sequential(nn.Linear(512, 128), nn.ReLU())
    return nn.Sequential(layers)


def breeds_cnn(height: int, width: int, dropout: float) -> nn.Sequential:
    """Convolutions with padding, each with pooling: an eighth of the picture's side is left, not a quarter."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            conv3=nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout)),
            flatten=nn.Flatten(),
            fc=nn.Sequential(nn.Linear(64 * (height // 8) * (width // 8), 64), nn.ReLU()),
        )
    )
