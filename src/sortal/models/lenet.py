"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition"): the classic baseline.

As it is usually built today: full connections between the maps, ReLU for scaled tanh, maxima for trained averages. With
10 classes and grey images of 32x32 px it has 61,706 parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

GRID = 5
"""Feature positions a side that the fully connected layers see: those of a 32x32 image."""


class LeNet5(nn.Module):
    """Two convolutions of 5x5, each followed by a maximum over 2x2, and two fully connected layers.

    (N, in_chans, H, W) to the embedding (N, 84), what the fully connected layers make of the feature map
    (N, 16, h, w), h = ((H - 4) / 2 - 4) / 2. Maps of other images than 32x32 are averaged to 5x5 before those layers.
    """

    def __init__(self, *, in_chans: int):
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(in_chans, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.grid = nn.AdaptiveAvgPool2d(GRID)
        self.connected = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * GRID**2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.maps(x)
        return self.connected(self.grid(features)), features


def lenet5(*, in_chans: int = 3) -> LeNet5:
    """60,856 parameters for grey images, for images of 16 px and more; the last of its layers is the network's head."""
    return LeNet5(in_chans=in_chans)
