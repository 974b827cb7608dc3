"""The sections of a recipe: every key, its values, its default and what it means. Reading YAML is `core.recipe`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Below1 = Annotated[float, Field(ge=0.0, lt=1.0)]
SizePx = Annotated[int, Field(ge=8, le=2048)]

Imbalance = Literal[
    "auto",
    "none",
    "sampler",
    "sqrt_sampler",
    "weights",
    "effective",
    "focal",
    "balanced_softmax",
    "logit_adjustment",
    "crt",
    "smote",
    "mixup_rare",
    "undersample",
]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(value: Any) -> Any:
    """`90`, `90s`, `10m`, `1.5h` as seconds."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smh]?)\s*", value)):
        return float(found[1]) * _UNITS_S[found[2] or "s"]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0.0)]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes`, `on` and `true` as truth, which would pass for 1 where a key is not a yes or no."""
        if isinstance(value, bool) and "bool" not in str(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("true and false (yes, no, on, off) are no values for this key")
        return value


class SplitSection(Section):
    """Shares of the images that go to validation and test where the source has no splits of its own."""

    val: Below1 = 0.15
    test: Below1 = 0.15
    file: str | None = None
    """A split file of `sortal split`, which then decides alone."""
    near: bool = True
    """Whether near duplicates and bursts are looked for, in one pass that decodes every image, and kept together.
    Identical files and groups always are."""
    leaks: Literal["refuse", "allow"] = "refuse"
    """What to do where the source's own splits share images or groups; `allow` measures by how much that flatters."""


class DataSection(Section):
    """Which images, how they are grouped and divided."""

    split: SplitSection = SplitSection()
    group: str | None = None
    """A column, or a regular expression over paths whose first group is the key; a group never crosses splits."""
    label: str = "label"
    """The column that holds the class, for tables."""
    level: Literal["fine", "coarse"] | None = None
    """Which level of a taxonomy is learned; null means the finest."""
    boxes: Literal["crops", "image", "largest"] | None = None
    """What annotated boxes become: a crop each (also null), the one class of an image's boxes, or its largest box's."""
    margin: NonNegative = 0.0
    """Grown around each crop, on every side, as a share of the box's width or height."""
    quality: Literal["refuse", "allow"] = "refuse"
    """What is done where images cannot be learned from as they are: one picture under several labels, or more than a
    tenth of the files unreadable."""
    refit: Auto | bool = "auto"
    """Whether validation images join the training images once they have chosen everything. `auto`: for the final linear
    head where there is a test split."""


class InputSection(Section):
    """What becomes the PreprocessSpec."""

    size: Auto | SizePx | tuple[int, int] = "auto"
    """Pixels a side, or [height, width]."""
    resize: Auto | Literal["crop", "pad", "stretch"] = "auto"
    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875
    interpolation: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bicubic"
    channels: Literal[1, 3] = 3
    depth: Literal[8, 16] = 8
    mean: Auto | tuple[float, ...] = "auto"
    std: Auto | tuple[float, ...] = "auto"
    region: tuple[Share, Share, Share, Share] | None = None


class ModelSection(Section):
    """Which network, from which weights."""

    name: str = "auto"
    """`auto` (the best of what is at hand, by a probe), an architecture, or the path of a weights card."""
    weights: str | None = "auto"
    """`auto` (pretrained where there are any), null (from scratch), a file, a card, or a hub name."""
    arguments: dict[str, Any] = {}
    """Passed to the architecture."""
    head: Literal["linear", "mlp", "multi_scale"] = "linear"
    hidden: Auto | Count = "auto"
    """Width of the hidden layer of an `mlp` head; `auto` is half the embedding (2048 -> 1024)."""
    fusion: Literal["learned"] | Share = 0.7
    """Share of the last stage's logits in a `multi_scale` head; the rest are a middle stage's."""
    attention: Literal["cbam"] | None = None
    """Attention put after a stage of a convolutional backbone."""
    attention_stage: int | None = None
    """Index of that stage, from the input; null is the last."""
    pooling: Auto | Literal["mean", "sqrt", "stages"] = "auto"
    """How feature maps become the embedding: their mean, its signed square root, or roots of means and deviations of
    the last stages. `auto`: `stages` for a linear head that is fitted on pretrained features, else `mean`."""
    dropout: Below1 = 0.0
    drop_path: Below1 = 0.0
    """Stochastic depth: largest chance to skip a residual branch."""
    views: Literal["single", "mirror"] = "single"
    """What an answer is averaged over: the image, or the image and its mirror image (twice the cost)."""
    max_latency_ms: Positive | None = None
    """For `name=auto`: networks that answer more slowly on this machine are not considered."""


class AugmentSection(Section):
    """How training images are varied; `strength` scales all of it, 0 turns it off. null: as the policy says."""

    name: str = "basic"
    strength: NonNegative = 1.0
    mixup: NonNegative = 0.0
    """Alpha of the Beta distribution; 0 turns it off."""
    cutmix: NonNegative = 0.0
    mix_share: Share = 1.0
    """Share of the batches that are mixed, where MixUp or CutMix is on."""
    erase: Share = 0.0
    """Chance of one erased rectangle."""
    families: tuple[Literal["geometric", "color", "advanced"], ...] = ("geometric", "color", "advanced")
    """Which families of variations may act."""
    crop_scale: tuple[Share, Share] | None = None
    """Smallest and largest share of the area that a random crop keeps."""
    flip: Share | None = None
    """Chance of a mirror image."""
    flip_vertical: Share | None = None
    quarter_turns: Share | None = None
    """Chance of a turn by 0, 90, 180 or 270 degrees."""
    rotate: NonNegative | None = None
    """Largest angle in degrees."""
    scale: tuple[Positive, Positive] | None = None
    """Zoom factors, for example [0.8, 1.2]."""
    brightness: Share | None = None
    contrast: Share | None = None
    hue: Annotated[float, Field(ge=0.0, le=0.5)] | None = None
    """Largest turn of the hue, as a share of the color circle."""
    saturation: Share | None = None
    value: Share | None = None
    blur: Share | None = None
    """Chance of a 3 px blur."""
    noise: Share | None = None
    """Chance of Gaussian noise."""
    noise_std: NonNegative = 0.02
    holes: Annotated[int, Field(ge=0)] | None = None
    """Coarse dropout: at most so many holes."""
    hole_px: Count = 16
    """Largest side of a hole in pixels."""
    chiral: tuple[str, ...] = ()
    """Classes whose mirror images are another class (left and right parts, threads, text): never flipped or turned.
    `*` means all."""
    rare_below: Annotated[int, Field(ge=0)] = 50
    """Classes with fewer training images get the policy's stronger variations, where it has any."""


class LossSection(Section):
    """What is minimized."""

    name: Literal["cross_entropy", "focal"] = "cross_entropy"
    smoothing: Below1 = 0.1
    gamma: NonNegative = 2.0
    """Of the focal loss; 0 is cross-entropy."""
    alpha: Share | None = None
    """One weight for the focal loss; null leaves classes alike."""
    imbalance: Imbalance = "none"
    """One remedy for unequal class sizes; `auto` chooses by validation macro accuracy on frozen features."""
    beta: Below1 = 0.999
    """Of the effective number of samples."""
    tau: NonNegative = 1.0
    """Strength of logit adjustment."""
    coarse: NonNegative = 0.0
    """Weight of the loss of the next coarser level, where the labels have parents."""


class OptimSection(Section):
    """How it is minimized."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Auto | Positive = "auto"
    """Of the head and of the top of the backbone, unless `backbone_lr` says otherwise."""
    backbone_lr: Auto | Positive = "auto"
    """Of the uppermost backbone layers; `layer_decay` goes down from there."""
    weight_decay: NonNegative = 0.05
    layer_decay: Auto | Annotated[float, Field(gt=0.0, le=1.0)] = "auto"
    momentum: Below1 = 0.9
    """Of sgd."""
    nesterov: bool = True
    """Of sgd."""
    norm_lr_factor: Positive = 1.0
    """Factor on the rate of the biases of norms."""
    clip: NonNegative = 1.0
    """Largest total gradient norm; 0 turns clipping off."""
    accumulate: Count = 1
    """Steps whose gradients are added up before the weights change."""
    ema: Below1 = 0.0
    """Decay of the moving average of the weights; 0 turns it off."""


class ScheduleSection(Section):
    """How the learning rate changes over a run."""

    name: Literal["cosine", "cosine_restarts", "one_cycle", "triangle", "step", "constant"] = "cosine"
    warmup: Share = 0.05
    """Share of all steps in which the rate rises linearly."""
    floor: Share = 1e-3
    """Last rate as a share of the base rate."""
    period: Positive = 5.0
    """Epochs of the first cycle of `cosine_restarts` (T_0)."""
    period_factor: Annotated[float, Field(ge=1.0)] = 2.0
    """How much longer each cycle is than the one before (T_mult)."""
    step: Positive = 10.0
    """Epochs between the drops of `step`."""
    factor: Share = 0.1
    """What a drop multiplies the rate with."""


class TrainSection(Section):
    """How long, how much at once, and when to stop."""

    time: Seconds | None = None
    """Budget of the whole command in seconds; `10m` and `1h` are understood."""
    epochs: Auto | Annotated[int, Field(ge=0)] = "auto"
    """Passes of gradient training; 0 fits the head on frozen features only."""
    batch: Auto | Literal["largest"] | Count = "auto"
    """Images a step, over all processes; `largest`: as many as there is memory for."""
    freeze: Auto | Literal["none", "backbone"] = "auto"
    unfreeze: Auto | Literal["all", "gradual"] | Annotated[int, Field(ge=1)] = "auto"
    """Which backbone stages learn: `all`, only the last so many, or `gradual`: head, then last stages, then all."""
    statistics: Auto | Literal["frozen", "batch"] = "auto"
    """Batch norms keep the running statistics of the pretrained weights, or follow the batches."""
    sizes: Auto | tuple[SizePx, ...] = "auto"
    """Input sizes of the phases of training, smallest first, in pixels a side."""
    precision: Auto | Literal["fp32", "bf16", "fp16", "amp", "apex"] = "auto"
    layout: Auto | Literal["channels_last", "contiguous"] = "auto"
    compile: Auto | bool = "auto"
    patience: Count = 10
    """Epochs without a better validation metric before training stops early."""
    metric: Literal["macro_f1", "accuracy", "macro_accuracy"] = "macro_f1"
    average: Share = 0.0
    """Share of the last steps whose weights are averaged; 0 turns it off."""
    interpolate: Auto | Literal["none"] = "auto"
    """Mix fine-tuned with pretrained weights by the share that is best on validation images."""
    head_fit: Auto | Literal["logistic", "ridge"] = "auto"
    """How a linear head is fitted on features: logistic regression, or ridge regression onto the classes. `auto`: what
    validation images prefer."""
    refit_head: Auto | bool = "auto"
    """Fit the linear head anew on the features of the trained backbone, where validation agrees."""
    workers: Auto | Annotated[int, Field(ge=0)] = "auto"
    decode: Auto | Literal["reference", "fast"] = "auto"
    """How training JPEGs are decoded: by the reference, or at reduced scale; validation always by the reference."""
    cache: bool = True
    """Keep prepared images and frozen features for later runs."""
    parallel: Literal["none", "dp", "ddp"] = "none"
    """More processes are started with torchrun; `dp` is accepted and means `ddp`."""
    trackers: tuple[str, ...] = ()
    """Where rows of metrics also go: tensorboard, mlflow, wandb."""


class DistillSection(Section):
    """Learning from a teacher while training."""

    teacher: str | tuple[str, ...] | None = None
    """A run, a bundle, an artifact or a weights card with its own head; several are averaged."""
    temperature: Positive = 2.0
    ce_weight: Share = 0.7
    """Weight of the labels' cross-entropy; the teacher has the rest."""
    kind: Literal["soft", "hard"] = "soft"
    """The teacher's probabilities, or its answers as labels."""
    answers: Auto | Literal["live", "kept"] = "auto"
    """`live`: about each varied picture that the student sees; `kept`: once about every image as it is, which costs
    nothing a step. `auto`: kept where pictures never change."""
    unlabelled: str | None = None
    """Images without labels (a folder, an archive) that the teacher answers about too; they have no other loss."""
    init: Literal["weights", "teacher"] = "weights"
    """`teacher`: layers of the (first) teacher whose names and shapes fit are what the student starts from."""
    feature: NonNegative = 0.0
    """Weight of the cosine distance between the embeddings of student and teacher."""


class EvaluateSection(Section):
    """What the report says beside accuracy."""

    top_k: tuple[Count, ...] = (1, 3, 5)
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    ok: Auto | str | None = "auto"
    """The class of good parts, without which there is no false-detection rate; `auto` knows it by names such as `ok`
    or `good`, null says there is none."""
    ordered: bool | tuple[str, ...] = False
    """The classes are grades: true in their order in the labels, or the graded ones, lowest first."""
    back_off: Share = 0.5
    """With a taxonomy: answer the class at this probability, else the coarse class at it, else leave it to a person."""
    reference: dict[str, Annotated[float, Field(ge=0.0)] | dict[str, Annotated[float, Field(ge=0.0)]]] = {}
    """Figures to stand beside a metric: `accuracy: 0.987`, or by whose they are, `{human: 0.78, paper: 0.92}`."""
    thumbnails: bool = True
    """Whether the page shows the images; without, it names them."""
    latency: Annotated[int, Field(ge=0)] = 0
    """So many decisions are also timed, one image at a time, from the file's bytes; 0: none."""
    robustness: Annotated[int, Field(ge=0)] = 0
    """So many of the images are also answered blurred, noisy, dark, turned, covered ..., each 55 times; 0: none."""
    unknown: Literal["auto", "none", "energy", "mahalanobis", "knn", "rank"] = "auto"
    """Which score tells images of no known class; `auto` takes the one that separates left-out classes best."""
    unknown_rate: Annotated[float, Field(gt=0.0, le=0.5)] = 0.01
    """Share of known images that may be called unknown, on average."""


class ExportSection(Section):
    """Which deployment artifacts a run makes."""

    artifacts: tuple[str, ...] = ("onnx",)


class CompressSection(Section):
    """What `sortal compress` makes smaller and faster, and what that may cost."""

    int8: bool = False
    """Integers of 8 bits instead of float32, where that is faster on this machine and within the budget."""
    max_drop: NonNegative = 0.5
    """Percentage points of accuracy and of macro accuracy that may be lost on validation images."""
    calibration_images: Annotated[int, Field(ge=10)] = 128
    """Training images that say which range activations have, spread over the classes."""
    method: Literal["all", "own"] = "all"
    """Which tools try: Sortal's own ranges beside NNCF and dynamic quantization, or the own ones alone, which is
    quicker."""
    weight_bits: Auto | Literal[7, 8] = "auto"
    """7 for processors without VNNI, which may add up 8-bit products wrongly; `auto` tries both on this one."""
    tensorrt: bool = False
    """Also make `tensorrt-int8`, with symmetric ranges; its accuracy is judged here, its speed on the GPU is not."""
    qat: Auto | bool = "auto"
    """Training with rounded weights and activations; `auto` where no int8 without training is within the budget."""
    qat_epochs: Count = 4
    """Passes over the training images while they are rounded."""
    prune: Share = 0.0
    """Share of the network that is cut away, whole channels at a time; 0 cuts nothing."""
    prune_by: Literal["macs", "parameters", "latency"] = "macs"
    """What `prune` is a share of; latency is measured on this machine."""
    criterion: Literal["l1", "taylor", "group"] = "group"
    """Which channels go first: small weights, little effect on the loss, or small weights of all layers that share a
    channel."""
    prune_steps: Count = 3
    """Cuts, each followed by training."""
    prune_epochs: Count | Auto = "auto"
    """Passes over the training images after each cut; `auto` by the number of images."""
    teacher: str | tuple[str, ...] | None = None
    """Whose answers training after a cut follows beside the labels; null is the network before the cut."""
    unlabelled: str | None = None
    """Images without labels that the teacher answers about in training after a cut, beside the training images."""
    frontier: bool = False
    """Try shares to prune, precisions and input sizes, and take the smallest that keeps the budget and the contract."""
    sizes: tuple[Count, ...] = ()
    """Sides of the square input that the frontier tries, in pixels; empty is the network's own and two smaller ones."""
    time: Seconds | None = None
    """How long the frontier may take."""
