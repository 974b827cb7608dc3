from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from sortal.core.sections import AugmentSection
from sortal.train.augment.mixing import cutmix, erase, mix, mixup


def numbered(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    """Images whose every pixel is the image's number."""
    return torch.arange(float(count)).view(count, 1, 1, 1).expand(count, 2, height, width).clone()


def test_mixup_is_convex_in_images_and_targets() -> None:
    images, targets = numbered(6), torch.eye(6)
    for seed, share in enumerate((0.0, 0.25, 0.6, 1.0)):
        mixed, shares = mixup(images, targets, share, np.random.default_rng(seed))
        assert torch.allclose(shares.sum(1), torch.ones(6))
        assert torch.allclose(mixed[:, 0, 0, 0], shares @ torch.arange(6.0), atol=1e-6)
        assert float(mixed.min()) >= 0
        assert float(mixed.max()) <= 5
    assert torch.equal(images, numbered(6))


def test_the_pasted_area_is_the_share_of_the_other_target() -> None:
    images, targets = numbered(5, 13, 21), torch.eye(5)
    clipped = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        share = random.beta(1.0, 1.0)
        pasted, shares = cutmix(images, targets, share, random)
        assert torch.allclose(shares.sum(1), torch.ones(5))
        for row in range(5):
            counts = torch.bincount(pasted[row, 0].flatten().long(), minlength=5) / (13 * 21)
            assert torch.allclose(counts, shares[row], atol=1e-6)
        own = (pasted[0, 0] == 0).float().mean().item()
        clipped += own - share > 0.05
    assert clipped > 20  # windows at the border are cut, and the targets know


def test_cutmix_pastes_one_rectangle() -> None:
    pasted, shares = cutmix(numbered(2, 16, 16), torch.eye(2), 0.5, np.random.default_rng(3))
    other = pasted[0, 0] == 1
    rows, columns = torch.where(other)
    if 0 < float(shares[0, 1]) < 1:
        assert int(other.sum()) == (int(rows.max() - rows.min()) + 1) * (int(columns.max() - columns.min()) + 1)


def test_the_share_is_drawn_from_the_beta_distribution() -> None:
    images, targets = numbered(2, 1, 1), torch.eye(2)
    shares = []
    for seed in range(3000):
        _, mixed = mix(images, targets, AugmentSection(mixup=0.4), np.random.default_rng(seed))
        if float(mixed[0, 0]) != 1.0:  # the partner may be the image itself
            shares.append(float(mixed[0, 0]))
    expected = np.random.default_rng(0).beta(0.4, 0.4, 50_000)
    levels = np.linspace(0.1, 0.9, 9)
    assert np.quantile(shares, levels) == pytest.approx(np.quantile(expected, levels), abs=0.06)


def test_where_both_are_asked_for_each_batch_gets_one() -> None:
    images, targets = numbered(8, 16, 16), torch.eye(8)
    kinds = {"paste": 0, "blend": 0}
    for seed in range(200):
        mixed, _ = mix(images, targets, AugmentSection(mixup=1.0, cutmix=1.0), np.random.default_rng(seed))
        kinds["paste" if torch.equal(mixed, mixed.round()) else "blend"] += 1
    assert 70 < kinds["blend"] < 130


def test_cross_entropy_takes_the_soft_targets() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    _, shares = mixup(numbered(4), torch.eye(4), 0.3, np.random.default_rng(0))
    by_hand = -(shares * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(functional.cross_entropy(logits, shares), by_hand)


def test_erasing_keeps_to_chance_area_and_ratio() -> None:
    images = torch.ones(600, 3, 48, 48)
    found = erase(images, 0.3, np.random.default_rng(0), area=(0.05, 0.15), aspect=2.0)
    hit = found.amin(dim=(1, 2, 3)) == 0
    assert 0.25 < float(hit.float().mean()) < 0.35
    assert float(images.min()) == 1.0
    places = set()
    for image in found[hit]:
        rows, columns = torch.where(image[0] == 0)
        tall, wide = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
        assert int((image == 0).sum()) == 3 * tall * wide
        assert 0.045 <= tall * wide / 48**2 <= 0.16
        assert 0.45 <= tall / wide <= 2.2
        places.add((int(rows.min()), int(columns.min())))
    assert len(places) > 0.8 * int(hit.sum())


def test_the_same_generator_mixes_alike_and_nothing_is_done_unless_asked() -> None:
    images, targets = numbered(4), torch.eye(4)
    same, also = mix(images, targets, AugmentSection(), np.random.default_rng(0))
    assert same is images
    assert also is targets
    both = AugmentSection(mixup=0.4, cutmix=1.0, erase=0.5)
    state = torch.get_rng_state()
    first, shares = mix(images, targets, both, np.random.default_rng(5))
    second, again = mix(images, targets, both, np.random.default_rng(5))
    assert torch.equal(first, second)
    assert torch.equal(shares, again)
    assert torch.equal(torch.get_rng_state(), state)
