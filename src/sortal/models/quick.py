"""`sortal_quick`: Sortal's network for images of up to 64 px from scratch, when minutes count.

The first layer is not learned. It decorrelates ("whitens") patches of 2x2 pixels with the statistics of the training
images, so that learning starts from inputs that every direction of which matters equally; three short blocks of plain
convolutions follow. The design is that of Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"
(arXiv:2404.00498), section 3; widths are chosen by CPU time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sortal.core.errors import InternalError, WeightsError
from sortal.models.blocks import scaled_width

PATCH_PX = 2
"""Side of the patches that are whitened."""

_WIDTHS = (32, 96, 192)
_EPSILON = 5e-4
"""Added to the variances: directions in which patches hardly vary are noise and are not blown up without limit."""
_SAMPLES = 5000
"""Images that the statistics are taken from; more change nothing."""
_EMBEDDING_SCALE = 1 / 9
"""Maxima over positions are large; unscaled, the large rates of this recipe throw the head about in its first steps."""


class Whitening(nn.Module):
    """A fixed convolution of 2x2 patches to their whitened components, then the same negated, with a learned bias.

    (N, C, H, W) to (N, 8 C, H - 1, W - 1). Until `fit` is called it passes the pixels of a patch on as they are.
    """

    weight: Tensor

    def __init__(self, channels: int):
        super().__init__()
        inputs = channels * PATCH_PX**2
        self.register_buffer("weight", _both_signs(torch.eye(inputs), channels))
        self.bias = nn.Parameter(torch.zeros(2 * inputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Whiten patches as those of `images` (N, C, H, W): their second moments become the identity.

        Principal components, each divided by its root mean square (Coates and Ng 2012, section 4). A shift of the mean
        is left to the bias.
        """
        channels = images.shape[1]
        patches = functional.unfold(images, PATCH_PX).transpose(1, 2).reshape(-1, channels * PATCH_PX**2)
        moments = patches.T.double() @ patches.double() / len(patches)
        variances, directions = torch.linalg.eigh(moments)
        components = (directions / (variances + _EPSILON).sqrt()).T.flip(0)
        self.weight.copy_(_both_signs(components.to(self.weight.dtype), channels))


class QuickNet(nn.Module):
    """Whitening and three blocks of two 3x3 convolutions, each block at half the resolution of the last.

    (N, in_chans, H, W) to the embedding (N, F), the largest value of each feature, scaled, and the feature map
    (N, F, h, w), about 8 times smaller than the image, which has to have at least 9 pixels a side.
    """

    def __init__(self, *, in_chans: int, widths: tuple[int, ...]):
        super().__init__()
        self.whitening = Whitening(in_chans)
        inputs = (self.whitening.bias.numel(), *widths[:-1])
        self.stages = nn.Sequential(*map(_stage, inputs, widths))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stages(functional.gelu(self.whitening(x)))
        return features.amax((2, 3)) * _EMBEDDING_SCALE, features

    def initialize_from_images(self, images: Tensor) -> None:
        """Set the whitening layer from training images (N, in_chans, H, W), normalized as the network will get them.

        To be called once, before training. Raises InternalError where there are no images, or other channels.
        """
        channels = self.whitening.weight.shape[1]
        if images.ndim != 4 or not len(images) or images.shape[1] != channels:
            raise InternalError(f"images of {channels} channels are wanted", received=str(tuple(images.shape)))
        self.whitening.fit(images[:: -(-len(images) // _SAMPLES)])


def sortal_quick(*, in_chans: int = 3, width: float = 1.0) -> QuickNet:
    """About 0.6 M parameters, 30 M multiplications for an image of 32 px; `width` scales all blocks."""
    if not 0.1 <= width <= 16:
        raise WeightsError("width must lie between 0.1 and 16", received=f"width={width}")
    return QuickNet(in_chans=in_chans, widths=tuple(scaled_width(base, width) for base in _WIDTHS))


class _Unit(nn.Module):
    """A 3x3 convolution, maximum over 2x2 pixels where `pool`, batch norm, GELU."""

    def __init__(self, channels: int, width: int, *, pool: bool):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(width)
        nn.init.dirac_(self.conv.weight[: min(channels, width)].data)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.norm(self.pool(self.conv(x))))


def _stage(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(_Unit(channels, width, pool=True), _Unit(width, width, pool=False))


def _both_signs(components: Tensor, channels: int) -> Tensor:
    """(K, C * 4) to the kernels (2 K, C, 2, 2): the components, then their negatives."""
    return torch.cat([components, -components]).view(-1, channels, PATCH_PX, PATCH_PX)
