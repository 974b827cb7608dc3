"""The architectures Sortal recommends, and the rows of the table that `models.selection` ranks them by.

Published accuracies are facts about other people's weights on ImageNet-1k, in float32, at `tested_px`; published speeds
are left out, since they hold for one machine. Counting and timing is `models.catalog`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sortal.core.errors import InputError

Hardware = Literal["edge", "cpu", "low-power gpu", "gpu", "multi-gpu"]
Goal = Literal["light", "medium", "real-time", "accuracy"]

PUBLISHED_IN = "timm, results/results-imagenet.csv (github.com/huggingface/pytorch-image-models)"
SCRATCH_ADVICE = "Transformers need pretrained weights: from scratch on few images they lose to a small CNN."


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """An architecture worth trying. `top1_percent` was published for the tag `weights` at `tested_px` pixels."""

    name: str
    family: str
    weights: str | None = None
    top1_percent: float | None = None
    tested_px: int = 224
    why: str


RECOMMENDED: tuple[Recommended, ...] = (
    Recommended(
        name="sortal_small",
        family="residual CNN",
        why="Sortal's own: trains from scratch on a CPU in minutes, at 64 to 128 px.",
    ),
    Recommended(
        name="sortal_tiny",
        family="residual CNN",
        why="Sortal's own, for images of 28 to 32 px.",
    ),
    Recommended(
        name="sortal_quick",
        family="plain CNN",
        why="Sortal's own, for images up to 64 px from scratch in minutes; made for recipes/quick.yaml.",
    ),
    Recommended(
        name="lenet5",
        family="LeNet",
        why="The classic baseline for 28 to 32 px (1998): what a small image set gives without any effort.",
    ),
    Recommended(
        name="mobilenetv3_small_100",
        family="MobileNet",
        weights="lamb_in1k",
        top1_percent=67.7,
        why="Fewest multiplications of all; for very weak devices.",
    ),
    Recommended(
        name="mobilenetv2_100",
        family="MobileNet",
        weights="ra_in1k",
        top1_percent=73.0,
        why="Small, quick, survives 8-bit quantization well.",
    ),
    Recommended(
        name="mobilenet_edgetpu_100",
        family="MobileNet",
        why="Made for edge accelerators; plain ReLU and no squeeze-excite, so 8 bits cost little.",
    ),
    Recommended(
        name="mobilenetv3_large_100",
        family="MobileNet",
        weights="ra_in1k",
        top1_percent=75.8,
        why="More accurate than V2 at equal speed in float32.",
    ),
    Recommended(
        name="tf_efficientnet_lite0",
        family="EfficientNet-Lite",
        weights="in1k",
        top1_percent=74.8,
        why="No squeeze-excite and ReLU6: converts to 8-bit runtimes without unsupported operations.",
    ),
    Recommended(
        name="efficientnet_b0",
        family="EfficientNet",
        weights="ra_in1k",
        top1_percent=77.7,
        why="The base of the family whose depth, width and resolution grow together.",
    ),
    Recommended(
        name="efficientnet_b3",
        family="EfficientNet",
        weights="ra2_in1k",
        top1_percent=82.2,
        tested_px=320,
        why="Compound scaling with phi 2; much accuracy for its parameters, slow for its size.",
    ),
    Recommended(
        name="tf_efficientnetv2_s",
        family="EfficientNetV2",
        weights="in21k_ft_in1k",
        top1_percent=84.3,
        tested_px=384,
        why="Fused blocks: trains faster than EfficientNet of equal accuracy.",
    ),
    Recommended(
        name="resnet18",
        family="ResNet",
        weights="a1_in1k",
        top1_percent=73.2,
        tested_px=288,
        why="The plainest network that works; every runtime is fast at it.",
    ),
    Recommended(
        name="resnet50",
        family="ResNet",
        weights="a1_in1k",
        top1_percent=81.2,
        tested_px=288,
        why="The field's reference, well supported everywhere.",
    ),
    Recommended(
        name="resnet152",
        family="ResNet",
        weights="a1h_in1k",
        top1_percent=83.5,
        tested_px=288,
        why="Large; usable as the teacher of a small network.",
    ),
    Recommended(
        name="convnext_tiny",
        family="ConvNeXt",
        weights="in12k_ft_in1k",
        top1_percent=84.5,
        tested_px=288,
        why="A pure CNN designed with what transformers taught; strong on fine-grained classes.",
    ),
    Recommended(
        name="coatnet_nano_rw_224",
        family="CoAtNet (hybrid)",
        weights="sw_in1k",
        top1_percent=81.7,
        why="Convolutions in the early stages, attention in the late ones: a hybrid of CNN and transformer.",
    ),
    Recommended(
        name="swin_tiny_patch4_window7_224",
        family="Swin Transformer",
        weights="ms_in1k",
        top1_percent=81.4,
        why="Attention in shifted windows, four stages; takes several resolutions. " + SCRATCH_ADVICE,
    ),
    Recommended(
        name="vit_base_patch16_224",
        family="Vision Transformer",
        weights="augreg2_in21k_ft_in1k",
        top1_percent=85.1,
        why="Global attention from the first layer; needs a GPU. " + SCRATCH_ADVICE,
    ),
)

_MOBILE = ("mobilenetv3_large_100", "mobilenetv2_100", "tf_efficientnet_lite0", "resnet18", "efficientnet_b0")

BY_HARDWARE: dict[Hardware, tuple[str, ...]] = {
    "edge": ("mobilenetv3_small_100", "mobilenetv3_large_100", "tf_efficientnet_lite0", "mobilenet_edgetpu_100"),
    "cpu": _MOBILE,
    "low-power gpu": _MOBILE,
    "gpu": ("resnet50", "convnext_tiny", "tf_efficientnetv2_s", "coatnet_nano_rw_224", "efficientnet_b3", "resnet152"),
    "multi-gpu": ("vit_base_patch16_224", "swin_tiny_patch4_window7_224", "convnext_tiny", "resnet152"),
}
"""What suits a machine, best first: MobileNet a CPU or a weak GPU, ResNet one GPU, transformers several."""

BY_GOAL: dict[Goal, tuple[str, ...]] = {
    "light": ("mobilenetv3_small_100", "mobilenetv3_large_100", "tf_efficientnet_lite0", "mobilenetv2_100"),
    "medium": ("resnet50", "efficientnet_b0", "coatnet_nano_rw_224", "resnet18"),
    "real-time": ("mobilenetv3_large_100", "tf_efficientnet_lite0", "mobilenetv3_small_100", "resnet18"),
    "accuracy": (
        "convnext_tiny",
        "vit_base_patch16_224",
        "tf_efficientnetv2_s",
        "resnet152",
        "swin_tiny_patch4_window7_224",
    ),
}
"""What suits a wish, best first."""


def suggest(hardware: Hardware, goal: Goal | None = None) -> tuple[Recommended, ...]:
    """Architectures for a machine and a wish, best first, each with its reason (`why`).

    A wish puts its own architectures first, of these the ones that suit the machine; it takes none away. Raises
    InputError for an unknown machine or wish.
    """
    _require(hardware, get_args(Hardware), "hardware")
    suited = BY_HARDWARE[hardware]
    if goal is not None:
        _require(goal, get_args(Goal), "goal")
        wanted = sorted(BY_GOAL[goal], key=lambda name: name not in suited)
        suited = tuple(dict.fromkeys((*wanted, *suited)))
    by_name = {item.name: item for item in RECOMMENDED}
    return tuple(by_name[name] for name in suited)


def _require(value: str, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        raise InputError(f"unknown {what}", received=str(value), hint="known: " + ", ".join(known))
