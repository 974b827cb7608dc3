"""Network: a backbone and a linear head, with the three outputs that every exported graph has too.

Shapes: N batch, C channels, H and W pixels, K classes, D embedding, F feature channels, h and w feature positions.
Creating one by name is `models.backbones`; reading and writing its weights is `models.weights`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from sortal.core.errors import InternalError


class Network(nn.Module):
    """A backbone, (N, C, H, W) -> (embedding (N, D), feature map (N, F, h, w)), and a head: dropout and a linear layer.

    `architecture`, `arguments` (complete: they rebuild the backbone), `identity`, `classes` and `embedding_dim` are
    what a bundle records.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        architecture: str,
        arguments: Mapping[str, Any],
        identity: tuple[str, ...],
        classes: int,
        dropout: float,
        embedding_dim: int,
        feature_dim: int,
    ):
        super().__init__()
        self.architecture = architecture
        self.arguments = dict(arguments)
        self.identity = identity
        self.embedding_dim = embedding_dim
        self.feature_dim = feature_dim
        self.backbone_frozen = False
        self.statistics_frozen = False
        self.backbone = backbone
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(embedding_dim, classes))
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    @property
    def linear(self) -> nn.Linear:
        """The linear layer of the head: weight (K, D), bias (K,)."""
        layer = self.head[-1]
        if not isinstance(layer, nn.Linear):
            raise InternalError("the head of a network must end in a linear layer")
        return layer

    @property
    def classes(self) -> int:
        return self.linear.out_features

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned, head included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) float32 to logits (N, K), embedding (N, D) and feature map (N, F, h, w)."""
        embedding, feature_map = self.backbone(x)
        return self.head(embedding), embedding, feature_map

    def embed(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float32 to (N, D)."""
        embedding: Tensor = self.backbone(x)[0]
        return embedding

    def set_head(self, linear: nn.Linear) -> None:
        """Put another linear layer (D inputs, any number of classes) in the place of the present one."""
        if linear.in_features != self.embedding_dim:
            raise InternalError(f"the head takes {linear.in_features} numbers, the embedding has {self.embedding_dim}")
        self.head[-1] = linear

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        return self.backbone.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        return self.head.parameters()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Trainable parameters as optimizer groups; norms, biases and position tables are not decayed."""
        spared = _spared_names(self)
        groups: dict[float, list[nn.Parameter]] = {weight_decay: [], 0.0: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[0.0 if parameter.ndim <= 1 or name in spared else weight_decay].append(parameter)
        return [{"params": params, "weight_decay": decay} for decay, params in groups.items() if params]

    def freeze_backbone(self) -> None:
        """No gradients for the backbone, and its batch norms and dropouts stay in evaluation mode under `train()`."""
        self.backbone_frozen = True
        self.backbone.requires_grad_(requires_grad=False)
        self.backbone.eval()

    def freeze_statistics(self) -> None:
        """Batch norms keep their running statistics under `train()`; their scale and shift are still learned.

        For fine-tuning from a head that was fitted on frozen features: it knows the features of these statistics only.
        """
        self.statistics_frozen = True
        self.train(self.training)

    def unfreeze(self) -> None:
        """Undo `freeze_backbone` and `freeze_statistics`."""
        self.backbone_frozen = False
        self.statistics_frozen = False
        self.backbone.requires_grad_(requires_grad=True)
        self.backbone.train(self.training)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        if self.statistics_frozen:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def measure_widths(backbone: nn.Module, *, channels: int, size: tuple[int, int]) -> tuple[int, int]:
    """(D, F) of a backbone, read from a black image of `size`, (height, width), sent through it."""
    was_training = backbone.training
    device = next((parameter.device for parameter in backbone.parameters()), None)
    backbone.eval()
    with torch.no_grad():
        embedding, feature_map = backbone(torch.zeros(1, channels, *size, device=device))
    backbone.train(was_training)
    if embedding.ndim != 2 or feature_map.ndim != 4:
        raise InternalError(f"a backbone gave shapes {tuple(embedding.shape)} and {tuple(feature_map.shape)}")
    return embedding.shape[1], feature_map.shape[1]


def _spared_names(network: Network) -> set[str]:
    """Full names of the parameters that their own modules ask not to decay (timm's convention)."""
    names = set()
    for prefix, module in network.named_modules():
        spare = getattr(module, "no_weight_decay", None)
        if callable(spare):
            names |= {f"{prefix}.{name}" for name in spare()}
    return names
