from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from sortal.core.preprocess import Pixels, PreprocessSpec, normalize
from sortal.core.sections import AugmentSection
from sortal.train.augment import AUGMENTATIONS, ClassFacts, Draw, Policy
from sortal.train.augment.augmix import AugMix
from sortal.train.augment.chosen import RAND, TRIVIAL, Chosen
from sortal.train.augment.operations import PIXELS, Step, move
from sortal.train.augment.quick import Quick, alternating
from sortal.train.augment.ranges import Ranges, resolve
from sortal.train.augment.tiered import Tiered
from sortal.train.augment.varied import Varied

CLASSES = ClassFacts(names=("rare", "common"), counts=np.array([12, 500]))
SPEC = PreprocessSpec(size=(64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def named(name: str, **keys: object) -> Policy:
    section = AugmentSection.model_validate({"name": name, **keys})
    policy: Policy = AUGMENTATIONS.get(name)(section, SPEC, CLASSES)
    return policy


def draw(policy: Policy, count: int, *, label: int = 0, epoch: int = 0) -> Draw:
    numbers = np.random.default_rng(epoch).random((count, policy.draws), dtype=np.float32)
    labels = np.full(count, label)
    return Draw(uniforms=numbers, labels=labels, samples=np.arange(count), epoch=epoch)


def texture(count: int, side: int, channels: int = 3) -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (count, side, side, channels)).astype(np.uint8)


def test_torchvision_basic_is_those_five_steps() -> None:
    spec = SPEC.model_copy(update={"size": (224, 224)})
    policy = AUGMENTATIONS.get("torchvision-basic")(AugmentSection(name="torchvision-basic"), spec, CLASSES)
    asked = Ranges(crop_scale=(0.08, 1.0), flip=0.5, brightness=0.2, contrast=0.2)
    assert policy.ranges == asked
    numbers = draw(policy, 4)
    ready = normalize(spec, policy.apply(texture(4, policy.stored(spec).size[0]), numbers))
    assert ready.shape == (4, 3, 224, 224)
    assert ready.dtype == np.float32
    # the same from the views and tones that were drawn, by torch
    view, tones = policy.views(numbers), policy.tones(numbers)
    y, x = np.mgrid[:256, :256] / 256
    smooth = (np.stack([np.sin(4 * x + y), np.cos(3 * y * x), y - x * y], 2) * 60 + 128).astype(np.uint8)
    found = policy.apply(np.repeat(smooth[None], 4, axis=0), numbers)
    for row in range(4):
        wide, tall = np.rint(view.extent[row] * 256).astype(int)
        left, top = (int(v) for v in np.rint(view.center[row] * 256 - np.array([wide, tall]) / 2))
        crop = torch.from_numpy(smooth[top : top + tall, left : left + wide]).permute(2, 0, 1)[None].float()
        sized = torch.nn.functional.interpolate(crop, (224, 224), mode="bilinear", antialias=True)[0]
        mirrored = sized.flip(2) if view.mirrored[row] else sized
        mean = float((mirrored * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0).mean())
        lit = ((mirrored - mean) * tones.contrast[row] + mean) * tones.brightness[row]
        assert float((lit.clamp(0, 255) - torch.from_numpy(found[row]).permute(2, 0, 1)).abs().max()) < 2.5


def test_keys_replace_a_policys_numbers_and_strength_scales_them() -> None:
    base = Ranges(crop_scale=(0.5, 1.0), flip=0.5, rotate=10.0, scale=(0.8, 1.2), hue=0.1, blur=0.2, holes=4)
    asked = AugmentSection(rotate=20, flip=0.1, holes=2, strength=0.5)
    found = resolve(base, asked, center=0.75)
    assert found.rotate == 10.0
    assert found.flip == pytest.approx(0.05)
    assert found.scale == pytest.approx((0.9, 1.1))
    assert found.crop_scale == pytest.approx((0.625, 0.875))
    assert found.hue == pytest.approx(0.05)
    assert found.holes == 2
    assert found.holes_chance == pytest.approx(0.25)
    strong = resolve(base, AugmentSection(strength=3.0), center=0.75)
    assert strong.flip == 0.5
    assert strong.rotate == 30.0
    assert strong.hue == pytest.approx(0.3)
    assert strong.crop_scale == (0.01, 1.0)


@pytest.mark.parametrize("off", ["geometric", "color", "advanced"])
def test_each_family_can_be_switched_off_alone(off: str) -> None:
    families = [family for family in ("geometric", "color", "advanced") if family != off]
    policy = named("full", families=families, noise=0.5, holes=3)
    assert isinstance(policy, Varied)
    numbers = draw(policy, 200)
    view, tones, damage = policy.views(numbers), policy.tones(numbers), policy.damage(numbers)
    moved = view.mirrored.any() or view.angle.any() or (view.zoom != 1).any() or policy.stored(SPEC) != SPEC
    toned = (tones.brightness != 1).any() or tones.hue.any() or (tones.value != 1).any()
    spoiled = damage.noisy.any() or (damage.boxes != 0).any()
    assert (moved, toned, spoiled) == tuple(family != off for family in ("geometric", "color", "advanced"))


def test_industrial_and_medical_mirror_nothing_unless_told() -> None:
    for name in ("industrial", "medical"):
        policy, told = named(name), named(name, flip=0.5)
        assert isinstance(policy, Varied)
        assert isinstance(told, Varied)
        view = policy.views(draw(policy, 500))
        assert not view.mirrored.any()
        assert not view.upended.any()
        assert not view.turns.any()
        assert not policy.tones(draw(policy, 500)).hue.any()
        assert told.views(draw(told, 500)).mirrored.mean() == pytest.approx(0.5, abs=0.07)
    assert named("industrial").ranges.crop_scale[0] >= 0.7  # type: ignore[attr-defined,index]


def test_rare_and_common_classes_go_through_their_own_pipelines() -> None:
    policy = named("tiered")
    assert isinstance(policy, Tiered)
    assert policy.served(np.array([0, 1, 1, 0])) == ["rare", "common", "common", "rare"]
    count = 400
    images = texture(1, 64).repeat(count, axis=0)
    labels = np.arange(count) % 2
    numbers = draw(policy, count)
    mixed = policy.apply(images, Draw(uniforms=numbers.uniforms, labels=labels, samples=numbers.samples, epoch=0))
    plain = {turned.tobytes() for turn in range(4) for turned in _both(np.rot90(images[0], turn))}
    outside = np.array([image.tobytes() not in plain for image in mixed])
    assert not outside[labels == 1].any()  # common: exact turns and flips alone
    assert outside[labels == 0].mean() > 0.7  # rare: light, blur or noise, holes as well
    untouched = np.array([np.array_equal(image, images[0]) for image in mixed])
    assert 0.2 < untouched[labels == 1].mean() < 0.45  # 20 % nothing, and a quarter of the flips of untouched turns
    assert policy.common.acting(numbers).mean() == pytest.approx(0.8, abs=0.05)
    assert policy.rare.acting(numbers).all()
    for pipeline, label in ((policy.rare, 0), (policy.common, 1)):
        which = labels == label
        assert np.array_equal(mixed[which], pipeline.apply(images[which], numbers.rows(which)))


def _both(image: Pixels) -> list[Pixels]:
    return [np.ascontiguousarray(image), np.ascontiguousarray(image[:, ::-1])]


def test_the_border_between_rare_and_common_is_the_recipes() -> None:
    for below, expected in ((0, ["common", "common"]), (13, ["rare", "common"]), (501, ["rare", "rare"])):
        policy = named("tiered", rare_below=below)
        assert isinstance(policy, Tiered)
        assert policy.served(np.array([0, 1])) == expected


def test_the_flip_alternates_exactly() -> None:
    samples = np.arange(5000)
    epochs = np.stack([alternating(samples, epoch) for epoch in range(6)])
    assert (epochs[1:] != epochs[:-1]).all()
    assert epochs[0].mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(epochs[0][1:], epochs[0][:-1])[0, 1]) < 0.05
    policy = named("quick", families=("geometric",))
    assert isinstance(policy, Quick)
    still = Quick(base=_still(policy.base), alternates=True)
    images = texture(40, 64)
    for epoch in range(4):
        found = still.apply(images, draw(still, 40, epoch=epoch))
        mirrored = alternating(np.arange(40), epoch)
        assert np.array_equal(found, np.where(mirrored[:, None, None, None], images[:, :, ::-1], images))


def _still(policy: Varied) -> Varied:
    return replace(policy, ranges=replace(policy.ranges, shift=0.0))


def test_a_chance_of_mirroring_replaces_the_alternation() -> None:
    policy = named("quick", flip=0.0)
    assert isinstance(policy, Quick)
    images = np.tile(np.arange(64, dtype=np.uint8)[None, None, :, None], (50, 64, 1, 3))
    for epoch in range(2):
        found = policy.apply(images, draw(policy, 50, epoch=epoch))
        assert (found[:, 32, 40, 0] > found[:, 32, 20, 0]).all()


@pytest.mark.parametrize("name", ["trivial", "rand"])
def test_operations_are_drawn_evenly_and_within_their_reach(name: str) -> None:
    policy = named(name)
    assert isinstance(policy, Chosen)
    steps = policy.steps(draw(policy, 3000))
    assert len(steps) == (1 if name == "trivial" else 2)
    operations = TRIVIAL if name == "trivial" else RAND
    for step in steps:
        names = [operation.name for operation in step.operations]
        for operation in operations:
            chosen = np.array([one == operation.name for one in names])
            assert chosen.mean() == pytest.approx(1 / len(operations), abs=0.025)
            found = step.magnitudes[chosen]
            assert (np.abs(found) <= max(abs(operation.low), abs(operation.high)) + 1e-9).all()
            if operation.signed:
                assert 0.3 < (found > 0).mean() < 0.7


def test_rand_uses_level_9_of_30() -> None:
    policy = named("rand")
    assert isinstance(policy, Chosen)
    for step in policy.steps(draw(policy, 200)):
        for operation, magnitude in zip(step.operations, step.magnitudes, strict=True):
            if operation.name == "rotate":
                assert abs(magnitude) == pytest.approx(9.0)


def test_augmix_mixes_shares_that_sum_to_one() -> None:
    policy = named("augmix")
    assert isinstance(policy, AugMix)
    shares = policy.shares(draw(policy, 4000))
    assert shares.shape == (4000, 4)
    assert shares.min() >= 0
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares[:, 0].mean() == pytest.approx(0.5, abs=0.02)  # Beta(1, 1)
    parts = shares[:, 1:] / shares[:, 1:].sum(axis=1, keepdims=True)
    assert parts.var(axis=0) == pytest.approx(np.full(3, 2 / 9 / 4), rel=0.1)  # of Dirichlet(1, 1, 1)


@pytest.mark.parametrize(
    ("name", "magnitude", "reference"),
    [
        ("brightness", -0.4, lambda image: ImageEnhance.Brightness(image).enhance(0.6)),
        ("contrast", 0.5, lambda image: ImageEnhance.Contrast(image).enhance(1.5)),
        ("color", -0.7, lambda image: ImageEnhance.Color(image).enhance(0.3)),
        ("sharpness", 0.8, lambda image: ImageEnhance.Sharpness(image).enhance(1.8)),
        ("posterize", 3.0, lambda image: ImageOps.posterize(image, 3)),
        ("solarize", 128 / 255, lambda image: ImageOps.solarize(image, 128)),
        ("autocontrast", 0.0, ImageOps.autocontrast),
        ("equalize", 0.0, ImageOps.equalize),
    ],
)
def test_operations_on_pixels_are_pillows(name: str, magnitude: float, reference: object) -> None:
    y, x = np.mgrid[:64, :64] / 64
    noise = np.random.default_rng(0).normal(0, 12, (64, 64, 3))
    image = np.clip(np.stack([x * 120 + 60, y * 100 + 50, 150 - x * y * 90], 2) + noise, 20, 220).astype(np.uint8)
    expected = np.asarray(reference(Image.fromarray(image))).astype(int)  # type: ignore[operator]
    words = image.astype(np.uint16) * 257
    PIXELS[name](image, magnitude)
    inside = np.s_[1:-1, 1:-1]  # Pillow leaves the border unsharpened
    tolerance = 7 if name == "equalize" else 2  # Pillow spreads a histogram by whole pixels a level
    assert np.abs(image.astype(int) - expected)[inside].max() <= tolerance
    PIXELS[name](words, magnitude)
    tolerance = 8.1 if name == "equalize" else 34 if name == "posterize" else 2.1
    assert np.abs(words / 257 - image)[inside].max() <= tolerance


@pytest.mark.parametrize("name", [name for name in PIXELS if name != "color"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_operations_treat_a_single_channel_as_gray(name: str, dtype: type) -> None:
    magnitude = {"posterize": 3.0, "solarize": 0.25}.get(name, 0.4)
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max // 2, (20, 20, 1)).astype(dtype)
    gray, colored = image.copy(), image.repeat(3, axis=2)
    PIXELS[name](gray, magnitude)
    PIXELS[name](colored, magnitude)
    assert not np.array_equal(gray, image)
    assert np.abs(colored.astype(int) - gray).max() <= 1
    still = image.copy()
    PIXELS["color"](still, 0.5)
    assert np.array_equal(still, image)


def test_geometric_operations_move_the_way_they_say() -> None:
    where = np.tile(np.array([[1.0, 0.0, 31.5], [0.0, 1.0, 31.5]]), (3, 1, 1))
    by_name = {operation.name: operation for operation in TRIVIAL}
    step = Step(
        operations=[by_name["translate_x"], by_name["rotate"], by_name["shear_x"]],
        magnitudes=np.array([0.25, 90.0, 0.5]),
    )
    found = move(where, step, (64, 64))
    assert found[0] == pytest.approx(np.array([[1, 0, 47.5], [0, 1, 31.5]]))
    assert found[1] == pytest.approx(np.array([[0, -1, 31.5], [1, 0, 31.5]]))
    assert found[2] == pytest.approx(np.array([[1, 0.5, 31.5], [0, 1, 31.5]]))
