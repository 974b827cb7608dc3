"""The recipes that come with Sortal say what their first lines promise: rates, groups, frozen layers, losses, names."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sortal.core.preprocess import PreprocessSpec, prepare
from sortal.core.recipe import Recipe, load_recipe
from sortal.core.shelf import find_recipe, shelf
from sortal.models.backbones import create, create_on_meta
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.sweep import combinations
from sortal.train.augment import AUGMENTATIONS, ClassFacts
from sortal.train.losses import make_loss
from sortal.train.optim import make_optimizer
from sortal.train.phases import make_phases
from sortal.train.schedule import rate_at, schedule_notes

CLASSES = ClassFacts(names=("rare", "common"), counts=np.array([20, 400]))
SPEC = PreprocessSpec(size=(64, 64), mean=(0.5,) * 3, std=(0.25,) * 3)
SWEEPS = [
    (path.stem, words)
    for path in shelf().values()
    for words in re.findall(r"^# +sortal sweep (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
]


def recipe(name: str, *settings: str) -> Recipe:
    return load_recipe(find_recipe(name), settings)


def rate(found: Recipe, epoch: float, *, epochs: float | None = None) -> float:
    planned = float(found.train.epochs) if epochs is None else epochs
    assert isinstance(found.optim.lr, float)
    return rate_at(epoch / planned, found.schedule, base=found.optim.lr, epochs=planned)


def residual() -> Network:
    """A ResNet of stem and four stages, small; no branch begins at zero, so every weight has a gradient."""
    network = create(ModelSource(name="test_resnet", architecture="test_resnet"), classes=3, size=(32, 32))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    return network


def optimizer(network: Network, found: Recipe) -> torch.optim.Optimizer:
    lr, backbone_lr, decay = found.optim.lr, found.optim.backbone_lr, found.optim.layer_decay
    assert isinstance(lr, float) and isinstance(backbone_lr, float) and isinstance(decay, float)  # noqa: PT018
    return make_optimizer(network, found.optim, lr=lr, backbone_lr=backbone_lr, layer_decay=decay)


def rates(network: Network, found: Recipe) -> dict[str, float]:
    given = {id(p): group["lr"] for group in optimizer(network, found).param_groups for p in group["params"]}
    return {name: given[id(p)] for name, p in network.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", sorted(shelf()))
def test_every_recipe_loads_and_opens_with_its_command(name: str) -> None:
    assert load_recipe(find_recipe(name)).to_yaml()
    comment = [line for line in shelf()[name].read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(re.match(rf"# +sortal (train|sweep) .*--recipe recipes/{name}\.yaml", line) for line in comment)


@pytest.mark.parametrize(("name", "words"), SWEEPS)
def test_every_setting_of_a_sweep_in_a_recipe_is_valid(name: str, words: str) -> None:
    assert f"--recipe recipes/{name}.yaml" in words
    fixed = re.findall(r" ([a-z_.]+=\S+)", words)
    settings = combinations(re.findall(r"--vary=(\S+)", words))
    loaded = [recipe(name, *fixed, *(f"{key}={value}" for key, value in one.items())) for one in settings]
    assert len({one.digest for one in loaded}) == len(settings) > 1


def test_other_recipes_that_a_recipe_points_to_exist() -> None:
    for path in shelf().values():
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"recipes/([\w-]+)\.yaml", text)) <= set(shelf()), path.name


@pytest.mark.parametrize(("name", "degrees"), [("rot15", 15.0), ("rot30", 30.0)])
def test_rotation_is_as_far_as_the_name_says_and_acts_in_training(name: str, degrees: float) -> None:
    found = recipe(name)
    policy = AUGMENTATIONS.get(found.augment.name)(found.augment, SPEC, CLASSES)
    assert policy.ranges.rotate == degrees
    assert found.train.freeze == "none"  # a head on frozen features would see no variation


def test_torchvision_basic_is_its_five_steps_with_its_numbers() -> None:
    found = recipe("torchvision-basic")
    spec = PreprocessSpec(size=(224, 224), mean=found.input.mean, std=found.input.std)
    policy = AUGMENTATIONS.get(found.augment.name)(found.augment, spec, CLASSES)
    ranges = policy.ranges
    assert (ranges.crop_scale, ranges.flip) == ((0.08, 1.0), 0.5)
    assert (ranges.brightness, ranges.contrast, ranges.rotate) == (0.2, 0.2, 0.0)
    assert (found.input.size, found.input.mean) == (224, (0.485, 0.456, 0.406))
    assert found.input.std == (0.229, 0.224, 0.225)
    assert prepare(policy.stored(spec), np.zeros((300, 400, 3), np.uint8)).shape[2] == 3


def test_tiered_serves_rare_and_common_classes_differently() -> None:
    found = recipe("tiered")
    policy = AUGMENTATIONS.get(found.augment.name)(found.augment, SPEC, CLASSES)
    assert policy.served(np.array([0, 1, 0])) == ["rare", "common", "rare"]
    assert (policy.rare.ranges.chance, policy.common.ranges.chance) == (1.0, 0.8)
    assert policy.common.ranges.blur == 0 < policy.rare.ranges.blur


def test_cycles_double_and_restart_at_5_15_35_and_75() -> None:
    found = recipe("sgdr-double")
    jumps = [e for e in range(1, 80) if rate(found, e, epochs=80) > 10 * rate(found, e - 1e-3, epochs=80)]
    assert jumps == [5, 15, 35, 75]
    assert found.train.epochs == 35
    assert schedule_notes(found.schedule, 35.0, patience=found.train.patience) == ()


def test_cycles_of_five_epochs_go_from_a_hundredth_to_a_millionth() -> None:
    found = recipe("sgdr-constant")
    for start in range(0, 30, 5):
        assert rate(found, start) == pytest.approx(0.01)
        assert rate(found, start + 5 - 1e-5) == pytest.approx(1e-6, rel=1e-3)
    assert schedule_notes(found.schedule, 30.0, patience=found.train.patience) == ()
    assert found.optim.name == "sgd"


@pytest.mark.parametrize("name", ["step-decay", "scratch-grades"])
def test_every_ten_epochs_a_tenth_and_the_run_ends_before_the_rate_is_useless(name: str) -> None:
    found = recipe(name)
    for epoch in np.arange(0.0, 30.0, 0.5):
        assert rate(found, epoch) == pytest.approx(0.01 * 0.1 ** (epoch // 10))
    assert found.optim.name == "sgd"
    assert found.optim.backbone_lr == found.optim.lr
    assert schedule_notes(found.schedule, 30.0) == ()
    assert "1e-07" in schedule_notes(found.schedule, 50.0)[0] or "1e-05" in schedule_notes(found.schedule, 50.0)[0]


def test_the_cosine_falls_from_1e_3_to_1e_6_and_never_rises() -> None:
    found = recipe("cosine-50")
    course = [rate(found, epoch) for epoch in np.linspace(0, 50, 201)]
    assert course[0] == pytest.approx(1e-3)
    assert course[100] == pytest.approx((1e-3 + 1e-6) / 2)
    assert course[-1] == pytest.approx(1e-6)
    assert all(later < earlier for earlier, later in pairwise(course))
    assert rate(found, 75, epochs=75) == pytest.approx(1e-6)  # a longer run ends there too


def test_layer_rates_are_1e_5_below_and_1e_3_in_the_head() -> None:
    network = residual()
    found = rates(network, recipe("layer-rates"))
    assert set(found) == {name for name, _ in network.named_parameters()}
    assert {rate for name, rate in found.items() if name.startswith("backbone.")} == {1e-5}
    assert {rate for name, rate in found.items() if name.startswith("head.")} == {1e-3}


def test_two_rates_train_the_head_and_the_last_stage_and_nothing_else() -> None:
    found, network = recipe("two-rates"), residual()
    assert found.model.name == "resnet50"
    [phase] = make_phases(found, (32, 32), frozen=False, tuned=True)
    assert phase.keep_last == 1
    network.freeze_stages(phase.keep_last)
    given = rates(network, found)
    assert {name.split(".")[0]: rate for name, rate in given.items()} == {"backbone": 1e-4, "head": 1e-3}
    assert all("layer4" in name for name in given if name.startswith("backbone."))
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    steps = optimizer(network, found)
    network(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))[0].logsumexp(1).sum().backward()
    steps.step()
    changed = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == set(given)


def test_the_last_stage_of_resnet50_is_its_layer4() -> None:
    assert create_on_meta("resnet50", classes=3).stages() == ("stem", "layer1", "layer2", "layer3", "layer4")


def test_gradual_unfreezing_begins_with_the_first_three_stages_frozen() -> None:
    found, network = recipe("gradual-unfreeze"), residual()
    assert (found.optim.lr, found.optim.backbone_lr) == (1e-3, 1e-5)
    kept = [phase.keep_last for phase in make_phases(found, (32, 32), frozen=False, tuned=True)]
    assert kept == [0, 2, None]
    network.freeze_stages(2)
    learning = {name for name, p in network.named_parameters() if p.requires_grad and name.startswith("backbone.")}
    assert {re.search(r"layer\d", name)[0] for name in learning} == {"layer3", "layer4"}  # type: ignore[index]


def test_regularized_has_the_usual_numbers_and_its_sweep_goes_over_the_ranges() -> None:
    found = recipe("regularized")
    assert (found.optim.weight_decay, found.model.dropout) == (1e-4, 0.3)
    [words] = [words for name, words in SWEEPS if name == "regularized"]
    settings = combinations(re.findall(r"--vary=(\S+)", words))
    loaded = [recipe("regularized", *(f"{key}={value}" for key, value in one.items())) for one in settings]
    decays, dropouts = {one.optim.weight_decay for one in loaded}, {one.model.dropout for one in loaded}
    assert (min(decays), max(decays), min(dropouts), max(dropouts)) == (1e-4, 1e-3, 0.2, 0.5)


def test_a_large_batch_is_256_images_whole_or_in_parts() -> None:
    whole, parts = recipe("large-batch"), recipe("large-batch", "train.batch=32", "optim.accumulate=8")
    assert whole.train.batch == 256
    assert isinstance(parts.train.batch, int)
    assert parts.train.batch * parts.optim.accumulate == 256


def test_scratch_grades_are_exactly_the_settings_of_the_case() -> None:
    found = recipe("scratch-grades")
    assert (found.model.name, found.augment.cutmix, found.augment.mixup) == ("resnet50", 1.0, 0.0)
    assert (found.loss.name, found.loss.gamma, found.loss.alpha) == ("focal", 2.0, 0.25)
    loss = make_loss(found.loss, np.array([10, 10, 10, 10]))
    logits = torch.tensor([[2.0, 0.5, -1.0, 0.0]])
    right = torch.softmax(logits, 1)[0, 0]
    expected = -0.25 * (1 - right) ** 2 * torch.log(right)
    assert float(loss(logits, torch.tensor([0]))) == pytest.approx(float(expected), rel=1e-5)


def test_scratches_are_not_mirrored_where_a_fixed_camera_sees_them() -> None:
    found = recipe("scratch-grades")
    policy = AUGMENTATIONS.get(found.augment.name)(found.augment, SPEC, CLASSES)
    assert policy.ranges.flip == policy.ranges.flip_vertical == 0


def test_the_confusable_pair_gets_attention_behind_the_last_stage() -> None:
    found = recipe("confusable-cbam")
    network = create(
        ModelSource(name="test_resnet", architecture="test_resnet"),
        classes=2,
        size=(32, 32),
        attention=found.model.attention,
    )
    assert network.attention is not None
    assert recipe("confusable-cbam", "model.attention=null").model.attention is None


def test_the_three_backbones_of_the_parts_case_are_compared_by_one_line() -> None:
    [words] = [words for name, words in SWEEPS if name == "parts-backbones"]
    [varied] = re.findall(r"--vary=(\S+)", words)
    names = [one["model"] for one in combinations([varied])]
    assert names == ["resnet50", "efficientnet_b3", "convnext_tiny"]
    assert recipe("parts-backbones").model.name == recipe("parts-208").model.name == "convnext_tiny"
    counts = {name: create_on_meta(name, classes=1000).parameter_count for name in names}
    assert [round(count / 1e6, 2) for count in counts.values()] == [25.56, 12.23, 28.59]


def test_efficientnetv2_has_focal_loss() -> None:
    found = recipe("efficientnetv2-focal")
    assert (found.loss.name, found.loss.gamma, found.loss.smoothing) == ("focal", 2.0, 0.0)
    assert create_on_meta(found.model.name, classes=5).classes == 5


def test_recipes_are_files_of_a_screen() -> None:
    for path in shelf().values():
        assert len(Path(path).read_text(encoding="utf-8").splitlines()) <= 25
