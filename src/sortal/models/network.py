"""Network: a backbone and a head, with the three outputs that every exported graph has too.

It offers what a classifier wrapper needs: freezing by stages, another head, forward passes for answers and for losses.
Creating one by name is `models.backbones`; reading and writing its weights is `models.weights`.
Shapes: N batch, C channels, H and W pixels, K classes, D embedding, F feature channels, h and w feature positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

from sortal.core.errors import InternalError, WeightsError
from sortal.models.attention import Cbam
from sortal.models.cut import Cut
from sortal.models.heads import Head, MultiScaleHead, Widths, Wiring, build_head, last_linear
from sortal.models.pooling import Pooling
from sortal.models.stages import find_stages, frozen_modules


@runtime_checkable
class HasMiddle(Protocol):
    """A backbone that can also give the feature map (N, C, h, w) of an earlier stage."""

    def forward_with_middle(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) to embedding, feature map and the map of the last stage of higher resolution."""


class Network(nn.Module):
    """A backbone, (N, C, H, W) -> (embedding (N, D), feature map (N, F, h, w)), and a head.

    `architecture`, `arguments` (complete: they rebuild the backbone), `identity`, `cut` (where channels were pruned),
    `wiring`, `classes` and `embedding_dim` are what a bundle records. With `wiring.views` "mirror" the embedding is the
    mean over the image and its mirror image, and so are the logits of a linear head; only in evaluation mode, and in
    exported graphs.
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
        widths: Widths,
        wiring: Wiring,
        attention: Cbam | None = None,
        pooling: Pooling | None = None,
        cut: Cut | None = None,
    ):
        super().__init__()
        self.architecture = architecture
        self.arguments = dict(arguments)
        self.identity = identity
        self.cut = dict(cut or {})
        self.wiring = wiring
        self.widths = widths
        self.statistics_frozen = False
        self.backbone = backbone
        self.attention = attention
        self.pooling = pooling or Pooling("mean", backbone, ())
        self.head: Head = build_head(wiring, widths, classes, dropout=dropout)
        self._stages = find_stages(backbone)
        self._learnable = frozenset(name for name, p in backbone.named_parameters() if p.requires_grad)
        self._frozen: list[str] = []

    @property
    def embedding_dim(self) -> int:
        return self.widths.embedding

    @property
    def feature_dim(self) -> int:
        return self.widths.features

    @property
    def linear_head(self) -> bool:
        """Whether the logits are one linear layer of the embedding, so that a head fitted on embeddings is complete."""
        return self.wiring.head == "linear"

    @property
    def linear(self) -> nn.Linear:
        """The linear layer that the logits come out of: of the main branch in a `multi_scale` head; the second one in
        an `mlp` head, where it does not take the embedding."""
        return last_linear(self.head)

    @property
    def classes(self) -> int:
        return self.linear.out_features

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned, head included."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def backbone_frozen(self) -> bool:
        """Whether no stage of the backbone learns."""
        return self._frozen == [""]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, H, W) float32 to logits (N, K), embedding (N, D) and feature map (N, F, h, w)."""
        embedding, feature_map, middle = self._features(x)
        return self._all_logits(embedding, middle)[0], embedding, feature_map

    def embed(self, x: Tensor) -> Tensor:
        """(N, C, H, W) float32 to (N, D)."""
        return self._features(x)[0]

    def training_outputs(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(N, C, H, W) to all logits that get a loss, (N, K) each, and the embedding (N, D), in one pass.

        The first logits are the network's answer; a `multi_scale` head adds those of its main and of its middle branch.
        """
        embedding, _, middle = self._features(x)
        return self._all_logits(embedding, middle), embedding

    def training_logits(self, x: Tensor) -> tuple[Tensor, ...]:
        """The logits of `training_outputs`."""
        return self.training_outputs(x)[0]

    def set_head(self, linear: nn.Linear) -> bool:
        """Use a linear layer that was fitted on embeddings (D inputs, any number of classes); returns whether it fits.

        It becomes a `linear` head's layer, or the main branch of a `multi_scale` head, whose middle branch begins anew
        where the classes differ. An `mlp` head has no place for it and stays as it is: False.
        """
        if linear.in_features != self.embedding_dim:
            raise InternalError(f"the head takes {linear.in_features} numbers, the embedding has {self.embedding_dim}")
        if isinstance(self.head, MultiScaleHead):
            if self.head.middle.out_features != linear.out_features:
                self.replace_head(linear.out_features)
            self.head.main[-1] = linear
        elif self.linear_head:
            self.head[-1] = linear
        return self.wiring.head != "mlp"

    def replace_head(self, classes: int, *, dropout: float = 0.0) -> None:
        """Put a head of the same kind with new random numbers (torch's generator) in the place of the present one."""
        device = self.linear.weight.device
        self.head = build_head(self.wiring, self.widths, classes, dropout=dropout).to(device).train(self.training)

    def repool(self, kind: str, *, channels: int, size: tuple[int, int]) -> None:
        """Make the embedding in another way (`models.pooling`), with a new linear head for its width."""
        classes, device = self.classes, self.linear.weight.device
        self.pooling = Pooling(kind, self.backbone, self.stages()).train(self.training)
        self.wiring = replace(self.wiring, pooling=kind)
        self.widths = measure_widths(self.backbone, channels=channels, size=size, pooling=self.pooling)
        self.head = build_head(self.wiring, self.widths, classes, dropout=0.0).to(device).train(self.training)

    def stages(self) -> tuple[str, ...]:
        """Names of the backbone's stages from input to output, for example `stem`, `layer1` ... `layer4`."""
        return tuple(self._stages)

    def parameter_stages(self) -> dict[str, int]:
        """Full name of each parameter -> index of its stage in `stages()`; the head and the attention, which are new,
        have the number of stages."""
        index = {f"backbone.{name}": i for i, names in enumerate(self._stages.values()) for name in names}
        return {name: index.get(name, len(self._stages)) for name, _ in self.named_parameters()}

    def freeze_stages(self, keep_last: int | Literal["all"]) -> None:
        """Let exactly the last so many stages learn (0: none), and the head and the attention, which always do.

        Frozen stages get no gradients, and their batch norms and dropouts stay in evaluation mode under `train()`, so
        that running statistics do not move. Parameters that the backbone was built with as fixed stay fixed.
        """
        names = list(self._stages.values())
        kept = len(names) if keep_last == "all" else min(keep_last, len(names))
        frozen = set(chain.from_iterable(names[: len(names) - kept]))
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name in self._learnable and name not in frozen)
        for parameter in self.head_parameters():
            parameter.requires_grad_()
        self._frozen = frozen_modules(self.backbone, frozen)
        self.train(self.training)

    def freeze_backbone(self) -> None:
        """`freeze_stages(0)`."""
        self.freeze_stages(0)

    def freeze_statistics(self) -> None:
        """Batch norms keep their running statistics under `train()`; their scale and shift are still learned.

        For fine-tuning from a head that was fitted on frozen features: it knows the features of these statistics only.
        """
        self.statistics_frozen = True
        self.train(self.training)

    def unfreeze(self) -> None:
        """Undo `freeze_stages` and `freeze_statistics`."""
        self.statistics_frozen = False
        self.freeze_stages("all")

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        return self.backbone.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Of the head and of the attention: everything that pretrained weights do not bring."""
        if self.attention is not None:
            yield from self.attention.parameters()
        yield from self.head.parameters()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Trainable parameters as optimizer groups; norms, biases and position tables are not decayed."""
        spared = _spared_names(self)
        groups: dict[float, list[nn.Parameter]] = {weight_decay: [], 0.0: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[0.0 if parameter.ndim <= 1 or name in spared else weight_decay].append(parameter)
        return [{"params": params, "weight_decay": decay} for decay, params in groups.items() if params]

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's signature)
        super().train(mode)
        for name in self._frozen:
            self.backbone.get_submodule(name).eval()
        if self.statistics_frozen:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embedding, feature map, and the middle map where the head needs one; means over the views."""
        mirrored = self.wiring.views == "mirror" and not self.training
        images = torch.cat([x, x.flip(3)]) if mirrored else x
        middle = None
        if isinstance(self.head, MultiScaleHead):
            embedding, feature_map, middle = cast(HasMiddle, self.backbone).forward_with_middle(images)
        else:
            embedding, feature_map = self.backbone(images)
        embedding = self.pooling(embedding)
        if not mirrored:
            return embedding, feature_map, middle
        embedding = embedding.reshape(2, -1, embedding.shape[1]).mean(0)
        return embedding, _mean_of_views(feature_map), None if middle is None else _mean_of_views(middle)

    def _all_logits(self, embedding: Tensor, middle: Tensor | None) -> tuple[Tensor, ...]:
        if isinstance(self.head, MultiScaleHead):
            logits: tuple[Tensor, ...] = self.head(embedding, middle)
            return logits
        return (self.head(embedding),)


def measure_widths(
    backbone: nn.Module,
    *,
    channels: int,
    size: tuple[int, int],
    middle: bool = False,
    pooling: Pooling | None = None,
) -> Widths:
    """The widths of a backbone, read from a black image of `size`, (height, width), sent through it and the pooling.

    Raises WeightsError when a middle stage is asked of a backbone that shows none.
    """
    if middle and not isinstance(backbone, HasMiddle):
        raise WeightsError(
            "this architecture shows no middle stage",
            received="model.head=multi_scale",
            hint="use model.head=linear or mlp, or a network of timm, for example resnet50 or convnext_tiny",
        )
    was_training = backbone.training
    device = next((parameter.device for parameter in backbone.parameters()), None)
    image = torch.zeros(1, channels, *size, device=device)
    backbone.eval()
    with torch.no_grad():
        outputs = cast(HasMiddle, backbone).forward_with_middle(image) if middle else backbone(image)
    backbone.train(was_training)
    if [output.ndim for output in outputs] != [2, 4, 4][: len(outputs)]:
        raise InternalError(f"a backbone gave shapes {[tuple(output.shape) for output in outputs]}")
    pooled = outputs[0] if pooling is None else pooling(outputs[0])
    embedding, features, *rest = (int(output.shape[1]) for output in (pooled, *outputs[1:]))
    return Widths(embedding=embedding, features=features, middle=rest[0] if rest else 0)


def _mean_of_views(maps: Tensor) -> Tensor:
    """(2 N, F, h, w), of images and then of their mirror images, to the mean (N, F, h, w) as the images lie."""
    plain, mirrored = maps.reshape(2, -1, *maps.shape[1:]).unbind(0)
    return (plain + mirrored.flip(3)) / 2


def _spared_names(network: Network) -> set[str]:
    """Full names of the parameters that their own modules ask not to decay (timm's convention)."""
    names = set()
    for prefix, module in network.named_modules():
        spare = getattr(module, "no_weight_decay", None)
        if callable(spare):
            names |= {f"{prefix}.{name}" for name in spare()}
    return names
