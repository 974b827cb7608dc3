"""One and more steps of each optimizer against the formulas of the papers, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gratings import SOURCE
from sortal.core.sections import OptimSection
from sortal.models.backbones import create
from sortal.train.optim import make_optimizer

Floats = NDArray[np.float64]
LR, DECAY, BETA1, BETA2, EPSILON = 0.01, 0.1, 0.9, 0.999, 1e-8


def sgd(w: Floats, gradients: list[Floats], *, momentum: float, nesterov: bool) -> Floats:
    velocity = np.zeros_like(w)
    for number, gradient in enumerate(gradients):
        g = gradient + DECAY * w
        velocity = momentum * velocity + g if number else g
        w = w - LR * (g + momentum * velocity if nesterov else velocity)
    return w


def adam(w: Floats, gradients: list[Floats], *, decoupled: bool) -> Floats:
    m, v = np.zeros_like(w), np.zeros_like(w)
    for number, gradient in enumerate(gradients, start=1):
        g = gradient if decoupled else gradient + DECAY * w
        w = w * (1 - LR * DECAY) if decoupled else w
        m, v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g**2
        w = w - LR * (m / (1 - BETA1**number)) / (np.sqrt(v / (1 - BETA2**number)) + EPSILON)
    return w


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_steps_are_those_of_the_formula(name: str, steps: int) -> None:
    network = create(SOURCE, classes=3, size=(16, 16))
    settings = {
        "sgd": OptimSection(name="sgd", momentum=0.0, weight_decay=DECAY),
        "momentum": OptimSection(name="sgd", nesterov=False, weight_decay=DECAY),
        "nesterov": OptimSection(name="sgd", nesterov=True, weight_decay=DECAY),
        "adam": OptimSection(name="adam", weight_decay=DECAY),
        "adamw": OptimSection(name="adamw", weight_decay=DECAY),
    }
    optimizer = make_optimizer(network, settings[name], lr=LR, backbone_lr=LR, layer_decay=1.0)
    weight = network.linear.weight
    before = weight.detach().double().numpy().copy()
    random = np.random.default_rng(0)
    gradients = [random.normal(0, 1, weight.shape).astype(np.float32) for _ in range(steps)]
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    wide = [gradient.astype(np.float64) for gradient in gradients]
    expected = {
        "sgd": lambda: sgd(before, wide, momentum=0.0, nesterov=False),
        "momentum": lambda: sgd(before, wide, momentum=0.9, nesterov=False),
        "nesterov": lambda: sgd(before, wide, momentum=0.9, nesterov=True),
        "adam": lambda: adam(before, wide, decoupled=False),
        "adamw": lambda: adam(before, wide, decoupled=True),
    }[name]()
    assert np.allclose(weight.detach().numpy(), expected, rtol=1e-5, atol=1e-7)


def test_decoupled_decay_does_not_depend_on_the_size_of_the_gradient() -> None:
    """With a zero gradient a weight shrinks by lr * decay exactly; L2 in Adam's gradient would move it by lr."""
    network = create(SOURCE, classes=3, size=(16, 16))
    section = OptimSection(name="adamw", weight_decay=0.5)
    optimizer = make_optimizer(network, section, lr=0.1, backbone_lr=0.1, layer_decay=1.0)
    before, bias = network.linear.weight.detach().clone(), network.linear.bias.detach().clone()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(network.linear.weight, before * (1 - 0.1 * 0.5))
    assert torch.equal(network.linear.bias, bias)
