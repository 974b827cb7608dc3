"""Networks of timm and torchvision made to answer as a backbone: (N, C, H, W) -> (embedding, feature map).

What differs between families is settled here once: where features and pooling are, which axis holds the channels, and
which tokens are no positions. Shapes: N batch, L tokens, F feature channels, h and w feature positions, D embedding.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sortal.core.errors import WeightsError
from sortal.models.published import TORCHVISION

FORBIDDEN_ARGUMENTS = frozenset(
    {
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "num_classes",
        "in_chans",
        "features_only",
        "weights",
        "pre_logits",
    }
)
"""Arguments that would load files, reach the network, or contradict the data; they never come from a user or a file."""

IN_CHANS, PRE_LOGITS = "in_chans", "pre_logits"
"""Recorded with the arguments: the channels where they are not 3, and `VisionBackbone.pre_logits` where it is true."""


class TimmBackbone(nn.Module):
    """A timm network without its classifier. Images are padded with zeros (the mean color) to whole patches."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body: Any = body
        self._channels_last = getattr(body, "output_fmt", "NCHW") == "NHWC"
        self._prefix_tokens = int(getattr(body, "num_prefix_tokens", 0))
        self._patch = _patch(body)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self._padded(x)
        return self._outputs(self.body.forward_features(x), x)

    def forward_with_middle(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of `forward`, and the map (N, C, h, w) of the stage that `middle_index` chooses.

        Raises WeightsError for a network that timm cannot tap.
        """
        x = self._padded(x)
        features, taps = self.body.forward_intermediates(x, indices=[middle_index(self.body)], output_fmt="NCHW")
        return *self._outputs(features, x), taps[0]

    def _padded(self, x: Tensor) -> Tensor:
        height, width = _whole_patches((x.shape[2], x.shape[3]), self._patch)
        return nn.functional.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))

    def _outputs(self, features: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.body.forward_head(features, pre_logits=True)
        return embedding.flatten(1), self.as_map(features, x.shape[2] / x.shape[3])

    def as_map(self, features: Tensor, aspect: float) -> Tensor:
        """(N, F, h, w), (N, h, w, F) or (N, L, F) to (N, F, h, w); `aspect` is height over width."""
        if features.ndim == 4:
            return features.permute(0, 3, 1, 2) if self._channels_last else features
        tokens = features[:, self._prefix_tokens :]
        rows = _rows(tokens.shape[1], aspect)
        return tokens.transpose(1, 2).reshape(-1, tokens.shape[2], rows, tokens.shape[1] // rows)


class VisionBackbone(nn.Module):
    """A convolutional torchvision network without its classifier.

    `pre_logits` keeps the hidden layers that the classifier has before its last one (AlexNet, VGG, MobileNetV3).
    """

    def __init__(self, body: nn.Module, *, pre_logits: bool):
        super().__init__()
        self.features, self.pool = _vision_parts(body)
        self.classifier = _hidden_layers(body) if pre_logits else nn.Sequential()
        self._published = {} if hasattr(body, "features") else _numbered(body)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature_map = self.features(x)
        return self.classifier(self.pool(feature_map).flatten(1)), feature_map

    def forward_with_middle(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of `forward`, and the map (N, C, h, w) after the last layer that has a higher resolution."""
        maps = [x]
        for layer in self.features.children():
            maps.append(layer(maps[-1]))
        final = maps[-1]
        higher = [one for one in maps[1:] if one.shape[2] > final.shape[2]] or maps[-2:-1]
        return self.classifier(self.pool(final).flatten(1)), final, higher[-1]

    def own_name(self, published: str) -> str:
        """What torchvision's parameter of that name is called here: `layer1.0.conv1.weight` of a ResNet, for example,
        `features.4.0.conv1.weight`."""
        first, _, rest = published.partition(".")
        return f"{self._published[first]}.{rest}" if first in self._published else published


def middle_index(body: Any) -> int:
    """Which of a timm network's `feature_info` a middle branch taps: the last of higher resolution than the final one;
    two thirds up where all are alike, as in a plain vision transformer. Raises WeightsError where there are none."""
    infos = getattr(body, "feature_info", None)
    if not infos or not hasattr(body, "forward_intermediates"):
        raise WeightsError("this architecture shows no middle stage", received=type(body).__name__)
    scales = [info["reduction"] for info in infos]
    higher = [number for number, scale in enumerate(scales) if scale < scales[-1]]
    return higher[-1] if higher else max(0, 2 * len(scales) // 3 - 1)


def check_arguments(architecture: str, arguments: Mapping[str, Any]) -> None:
    """Raises WeightsError for an argument of FORBIDDEN_ARGUMENTS."""
    refused = sorted(FORBIDDEN_ARGUMENTS & set(arguments))
    if refused:
        raise WeightsError(
            f"model.arguments may not set {refused[0]!r}",
            where=architecture,
            hint="weights are chosen by model.weights; channels and classes come from input and data",
        )


def timm_body(architecture: str, arguments: Mapping[str, Any], *, channels: int, classes: int = 0) -> nn.Module:
    """A timm network with random weights. Raises WeightsError when it does not take the arguments."""
    import timm

    base = architecture.partition(".")[0]
    try:
        body: nn.Module = timm.create_model(base, num_classes=classes, in_chans=channels, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError, AttributeError, KeyError) as error:
        raise _unfit(architecture, arguments, error) from error
    return body


def vision_body(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A torchvision network with random weights, by torchvision's own registry (`torchvision.models.get_model`)."""
    from torchvision.models import get_model

    try:
        body: nn.Module = get_model(architecture.removeprefix(TORCHVISION), weights=None, **arguments)
    except (TypeError, ValueError) as error:
        raise _unfit(architecture, arguments, error) from error
    return body


def size_arguments(body: nn.Module, arguments: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """`arguments` completed for networks that are built for an image size: they start at `size`, (height, width), and
    take other sizes later by interpolating their position table or masking their windows."""
    known = inspect.signature(type(body).__init__).parameters
    extra: dict[str, Any] = {}
    if "img_size" in known:
        extra["img_size"] = list(_whole_patches(size, _patch(body)))
    if "dynamic_img_size" in known:
        extra["dynamic_img_size"] = True
    return {**extra, **arguments}


def replace_by_identity(body: nn.Module, names: tuple[str, ...]) -> None:
    """Replace sub-modules by the identity. Raises WeightsError for a name that does not exist."""
    for name in names:
        parent, _, child = name.rpartition(".")
        try:
            body.get_submodule(name)
        except AttributeError as error:
            raise WeightsError("no such sub-module to replace by the identity", received=name) from error
        setattr(body.get_submodule(parent), child, nn.Identity())


def _patch(body: nn.Module) -> tuple[int, int]:
    """(height, width) of the patches that a network cuts its image into; (1, 1) where it does not."""
    size = getattr(getattr(body, "patch_embed", None), "patch_size", None)
    return (int(size[0]), int(size[1])) if isinstance(size, tuple) else (1, 1)


def _whole_patches(size: tuple[int, int], patch: tuple[int, int]) -> tuple[int, int]:
    """`size` rounded up to multiples of `patch`."""
    return -(-size[0] // patch[0]) * patch[0], -(-size[1] // patch[1]) * patch[1]


def _rows(tokens: int, aspect: float) -> int:
    """How many rows a grid of `tokens` positions has for an image of that aspect; 1 column where none fits."""
    wanted = math.sqrt(tokens * aspect)
    fitting = [rows for rows in range(1, tokens + 1) if tokens % rows == 0]
    return min(fitting, key=lambda rows: abs(math.log(rows / wanted)))


def _vision_parts(body: nn.Module) -> tuple[nn.Module, nn.Module]:
    children = dict(body.named_children())
    if "avgpool" not in children or not ("layer4" in children or isinstance(children.get("features"), nn.Module)):
        raise WeightsError(
            "only the convolutional networks of torchvision can be used",
            received=type(body).__name__,
            hint="timm has transformers, for example vit_base_patch16_224 and swin_tiny_patch4_window7_224",
        )
    if "features" in children:
        return children["features"], children["avgpool"]
    return nn.Sequential(*(children[name] for name in _numbered(body))), children["avgpool"]


def _numbered(body: nn.Module) -> dict[str, str]:
    """torchvision's names of the parts of a ResNet -> their places in `VisionBackbone.features`."""
    names = [name for name, _ in body.named_children() if name not in ("avgpool", "fc")]
    return {name: f"features.{number}" for number, name in enumerate(names)}


def _hidden_layers(body: nn.Module) -> nn.Sequential:
    """The layers of a torchvision classifier before its last linear one; none where that is its only one."""
    classifier = getattr(body, "classifier", None)
    layers = list(classifier) if isinstance(classifier, nn.Sequential) else []
    linears = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    return nn.Sequential(*layers[: linears[-1]]) if len(linears) > 1 else nn.Sequential()


def _unfit(architecture: str, arguments: Mapping[str, Any], error: Exception) -> WeightsError:
    return WeightsError(
        f"{architecture} cannot be created with these arguments: {error}",
        received=", ".join(f"{key}={value!r}" for key, value in arguments.items()) or "no arguments",
        hint="see model.arguments",
    )
