"""Losses against torch and against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.train.losses import cross_entropy, smoothed


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 30), smoothing=st.sampled_from([0.0, 0.05, 0.1, 0.5]))
def test_index_targets_agree_with_torch(seed: int, classes: int, smoothing: float) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(7, classes, generator=random, dtype=torch.float32) * 5
    targets = torch.randint(classes, (7,), generator=random)
    expected = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert cross_entropy(logits, targets, smoothing=smoothing).item() == pytest.approx(expected.item(), rel=1e-5)


def test_soft_targets_agree_with_torch_and_with_one_hot_indices() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=random)
    shares = torch.softmax(torch.randn(9, 4, generator=random), dim=1)
    expected = torch.nn.functional.cross_entropy(logits, shares, label_smoothing=0.1)
    assert cross_entropy(logits, shares, smoothing=0.1).item() == pytest.approx(expected.item(), rel=1e-6)
    targets = torch.randint(4, (9,), generator=random)
    one_hot = torch.nn.functional.one_hot(targets, 4).float()
    assert cross_entropy(logits, targets, smoothing=0.1).item() == cross_entropy(logits, one_hot, smoothing=0.1).item()


def test_smoothing_of_a_tenth_gives_the_distribution_of_the_formula() -> None:
    found = smoothed(torch.tensor([2]), 5, 0.1)[0]
    assert found.tolist() == pytest.approx([0.02, 0.02, 0.92, 0.02, 0.02], abs=1e-7)
    assert found.sum().item() == pytest.approx(1.0, abs=1e-6)


def test_equal_logits_cost_the_logarithm_of_the_class_count() -> None:
    for classes in (2, 7, 208, 1000):
        value = cross_entropy(torch.zeros(3, classes), torch.tensor([0, 1, 1]), smoothing=0.1).item()
        assert value == pytest.approx(math.log(classes), rel=1e-6)


def test_half_precision_logits_are_computed_in_single_precision() -> None:
    logits = torch.tensor([[30.0, -30.0]], dtype=torch.bfloat16)
    value = cross_entropy(logits, torch.tensor([1]))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(60.0)
