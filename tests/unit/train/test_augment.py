from __future__ import annotations

import numpy as np
import pytest
import torch

from sortal.core.preprocess import PreprocessSpec
from sortal.core.sections import AugmentSection
from sortal.train.augment import AUGMENTATIONS
from sortal.train.augment.basic import build
from sortal.train.augment.mixing import cutmix, erase, mix, mixup

LARGE = PreprocessSpec(size=(64, 64), resize="crop", mean=(0.5,) * 3, std=(0.5,) * 3)
TINY = PreprocessSpec(size=(32, 32), resize="pad", mean=(0.5,) * 3, std=(0.5,) * 3)


def uniform(count: int, draws: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, draws), dtype=np.float32)


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
@pytest.mark.parametrize("spec", [LARGE, TINY])
def test_every_policy_turns_stored_images_into_inputs(name: str, spec: PreprocessSpec) -> None:
    policy = AUGMENTATIONS.get(name)(AugmentSection(), spec)
    stored = policy.stored(spec)
    images = torch.from_numpy(np.random.default_rng(1).random((5, 3, *stored.size), dtype=np.float32))
    found = policy.apply(images, uniform(5, policy.draws))
    if name != "none" or stored.size == spec.size:
        assert found.shape == (5, 3, *spec.size)
    assert found.min() >= 0
    assert found.max() <= 1
    again = policy.apply(images[2:3], uniform(5, policy.draws)[2:3])
    assert torch.allclose(found[2:3], again, atol=1e-6)


def test_a_crop_keeps_at_least_half_of_the_area() -> None:
    policy = build(AugmentSection(), LARGE)
    ramp = torch.linspace(0, 1, 73)
    image = torch.stack([ramp.expand(73, 73), ramp[:, None].expand(73, 73), torch.zeros(73, 73)])[None]
    draws = uniform(400, policy.draws)
    draws[:, 5:] = 0.5  # no change of light
    seen = policy.apply(image.expand(400, -1, -1, -1), draws)
    width = (seen[:, 0].amax(dim=(1, 2)) - seen[:, 0].amin(dim=(1, 2))) * 73 / 72
    height = (seen[:, 1].amax(dim=(1, 2)) - seen[:, 1].amin(dim=(1, 2))) * 73 / 72
    assert float((width * height).min()) > 0.45  # half, less a pixel of the border
    assert float((width * height).max()) <= 1.03
    mirrored = (seen[:, 0, 0, 0] > seen[:, 0, 0, -1]).float().mean()
    assert 0.4 < float(mirrored) < 0.6


def test_strength_zero_changes_nothing_but_the_mirror() -> None:
    policy = build(AugmentSection(strength=0.0), TINY)
    images = torch.from_numpy(np.random.default_rng(1).random((6, 3, 32, 32), dtype=np.float32))
    draws = uniform(6, policy.draws)
    draws[:, 4] = [0.1, 0.9] * 3
    found = policy.apply(images, draws)
    assert torch.allclose(found[1::2], images[1::2], atol=1e-5)
    assert torch.allclose(found[::2], images[::2].flip(3), atol=1e-5)


def test_small_images_are_shifted_by_whole_pixels() -> None:
    policy = build(AugmentSection(), TINY)
    assert policy.stored(TINY) == TINY
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 16, 16] = 1.0
    draws = uniform(200, policy.draws)
    draws[:, 5:] = 0.5
    found = policy.apply(image.expand(200, -1, -1, -1), draws)
    assert torch.allclose(found[:, 0].amax(dim=(1, 2)), torch.ones(200), atol=1e-3)
    places = {tuple(np.unravel_index(int(one[0].argmax()), (32, 32))) for one in found}
    rows = {int(row) for row, _ in places}
    assert rows == set(range(12, 21))


def test_mixing_keeps_targets_a_distribution_that_fits_the_pixels() -> None:
    random = np.random.default_rng(0)
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    targets = torch.eye(4)
    mixed, shares = mixup(images, targets, 0.25, random)
    assert torch.allclose(shares.sum(1), torch.ones(4))
    assert torch.allclose(mixed[:, 0, 0, 0], shares @ torch.arange(4.0))
    pasted, shares = cutmix(images, targets, 0.4, random)
    assert torch.allclose(pasted.mean(dim=(1, 2, 3)), shares @ torch.arange(4.0), atol=1e-5)


def test_erasing_happens_as_often_as_asked_and_leaves_the_input_alone() -> None:
    images = torch.ones(300, 1, 16, 16)
    found = erase(images, 0.3, np.random.default_rng(0))
    share = float((found.amin(dim=(1, 2, 3)) == 0).float().mean())
    assert 0.2 < share < 0.4
    assert float(images.min()) == 1.0
    assert float(erase(images, 0.0, np.random.default_rng(0)).min()) == 1.0


def test_mix_does_nothing_unless_asked() -> None:
    images, targets = torch.rand(4, 3, 8, 8), torch.eye(4)
    same, also = mix(images, targets, AugmentSection(), np.random.default_rng(0))
    assert same is images
    assert also is targets
    both = AugmentSection(mixup=0.4, cutmix=1.0, erase=0.5)
    changed, shares = mix(images, targets, both, np.random.default_rng(0))
    assert not torch.equal(changed, images)
    assert torch.allclose(shares.sum(1), torch.ones(4))
