"""One contract for every augmentation policy: pixels in, pixels out, by the numbers drawn and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from sortal.core.errors import RecipeError
from sortal.core.preprocess import Pixels, PreprocessSpec, prepare
from sortal.core.sections import AugmentSection
from sortal.train.augment import AUGMENTATIONS, ClassFacts, Draw, Policy

CLASSES = ClassFacts(names=("left", "right", "nut"), counts=np.array([10, 200, 300]))
SPECS = {
    "large": PreprocessSpec(size=(64, 64), mean=(0.4,) * 3, std=(0.2,) * 3),
    "oblong": PreprocessSpec(size=(56, 80), mean=(0.4,) * 3, std=(0.2,) * 3),
    "padded": PreprocessSpec(size=(64, 64), resize="pad", mean=(0.4,) * 3, std=(0.2,) * 3),
    "stretched": PreprocessSpec(size=(64, 64), resize="stretch", mean=(0.4,) * 3, std=(0.2,) * 3),
    "small": PreprocessSpec(size=(32, 32), crop=1.0, mean=(0.4,) * 3, std=(0.2,) * 3),
    "gray": PreprocessSpec(size=(64, 64), channels=1, mean=(0.4,), std=(0.2,)),
    "deep": PreprocessSpec(size=(64, 64), depth=16, mean=(0.4,) * 3, std=(0.2,) * 3),
    "deep gray": PreprocessSpec(size=(64, 64), channels=1, depth=16, mean=(0.4,), std=(0.2,)),
}


def photo(spec: PreprocessSpec, side: int = 150) -> Pixels:
    """A smooth picture that no mirroring or turning leaves as it is."""
    y, x = np.mgrid[:side, :side] / side
    planes = [np.sin(9 * x + 2 * y) + 0.5 * y, np.cos(7 * y * (1 + x)), x * x + np.sin(5 * y)][: spec.channels]
    scaled = [(plane - plane.min()) / (plane.max() - plane.min()) for plane in planes]
    return (np.stack(scaled, 2) * spec.maximum).astype(np.uint8 if spec.depth == 8 else np.uint16)


def stored(policy: Policy, spec: PreprocessSpec, count: int = 8) -> Pixels:
    one = prepare(policy.stored(spec), photo(spec))
    return np.stack([np.roll(one, 3 * number, axis=0) for number in range(count)])


def draw(policy: Policy, count: int = 8, *, epoch: int = 0, seed: int = 0) -> Draw:
    numbers = np.random.default_rng([seed, epoch]).random((count, policy.draws), dtype=np.float32)
    return Draw(uniforms=numbers, labels=np.arange(count) % 3, samples=np.arange(count), epoch=epoch)


def built(name: str, spec: PreprocessSpec, section: AugmentSection | None = None) -> Policy:
    policy: Policy = AUGMENTATIONS.get(name)(section or AugmentSection(name=name), spec, CLASSES)
    return policy


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
@pytest.mark.parametrize("kind", SPECS)
def test_stored_pixels_become_inputs_of_the_same_kind(name: str, kind: str) -> None:
    spec = SPECS[kind]
    policy = built(name, spec)
    images = stored(policy, spec)
    before = images.copy()
    found = policy.apply(images, draw(policy))
    assert found.shape == (8, *spec.size, spec.channels)
    assert found.dtype == images.dtype
    assert found.flags.c_contiguous
    assert np.array_equal(images, before)
    assert found.std() > 0.05 * spec.maximum


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_an_image_does_not_depend_on_its_batch_or_thread(name: str) -> None:
    policy = built(name, SPECS["large"], AugmentSection(name=name, noise=0.5, blur=0.2, holes=4))
    images, numbers = stored(policy, SPECS["large"], 24), draw(policy, 24)
    whole = policy.apply(images, numbers)
    with ThreadPoolExecutor(3) as pool:
        jobs = []
        for row in range(24):
            only = np.arange(24) == row
            jobs.append(pool.submit(policy.apply, images[only], numbers.rows(only)))
        alone = np.concatenate([job.result() for job in jobs])
    assert np.array_equal(whole, alone)


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
@pytest.mark.parametrize("kind", ["large", "oblong", "padded", "stretched", "small", "deep gray"])
def test_strength_zero_is_the_validation_image(name: str, kind: str) -> None:
    spec = SPECS[kind]
    off = AugmentSection(name=name, strength=0.0, rotate=30, flip=1.0, hue=0.3, brightness=0.5, noise=1.0, holes=8)
    policy = built(name, spec, off)
    image = prepare(policy.stored(spec), photo(spec))
    for epoch in range(2):
        found = policy.apply(np.repeat(image[None], 8, axis=0), draw(policy, epoch=epoch))
        assert np.array_equal(found, np.repeat(prepare(spec, photo(spec))[None], 8, axis=0))


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS.names() if name != "none"])
def test_epochs_differ_and_repeat(name: str) -> None:
    policy = built(name, SPECS["large"])
    images = stored(policy, SPECS["large"])
    first, second = (policy.apply(images, draw(policy, epoch=epoch)) for epoch in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, policy.apply(images, draw(policy, epoch=0)))


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_no_family_means_no_change(name: str) -> None:
    policy = built(name, SPECS["large"], AugmentSection(name=name, families=()))
    images = stored(policy, SPECS["large"])
    assert np.array_equal(policy.apply(images, draw(policy)), images)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS.names() if name != "none"])
def test_chiral_classes_are_never_mirrored_or_quarter_turned(name: str) -> None:
    spec = SPECS["large"]
    section = AugmentSection(name=name, chiral=("left",), flip=1.0, flip_vertical=1.0, quarter_turns=1.0, strength=1.0)
    policy = built(name, spec, section.model_copy(update={"families": ("geometric",)}))
    rows, columns = np.mgrid[: policy.stored(spec).size[0], : policy.stored(spec).size[1]]
    ramp = np.stack([columns, rows, np.zeros_like(rows)], 2).astype(np.uint8) * 3
    numbers = draw(policy, 200)
    found = policy.apply(np.repeat(ramp[None], 200, axis=0), numbers).astype(np.float64)
    right = found[:, 8:-8, 8:-8, 0]
    down = found[:, 8:-8, 8:-8, 1]
    upright = (np.mean(np.gradient(right, axis=2), (1, 2)) > 0) & (np.mean(np.gradient(down, axis=1), (1, 2)) > 0)
    assert upright[numbers.labels == 0].mean() > 0.97  # a steep slant of a corner may turn a mean
    assert upright[numbers.labels != 0].mean() < 0.6
    everyone = built(name, spec, section.model_copy(update={"chiral": ("*",), "families": ("geometric",)}))
    kept = everyone.apply(np.repeat(ramp[None], 200, axis=0), replace(numbers, labels=numbers.labels * 0 + 2))
    assert (kept[:, 32, 40, 0] > kept[:, 32, 24, 0]).mean() > 0.97


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS.names() if name != "none"])
def test_an_unknown_chiral_class_is_named_with_the_nearest(name: str) -> None:
    with pytest.raises(RecipeError, match="did you mean left"):
        built(name, SPECS["large"], AugmentSection(name=name, chiral=("lfet",)))
