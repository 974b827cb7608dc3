from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gratings import SOURCE
from sortal.core.errors import MachineError
from sortal.core.sections import OptimSection, TrainSection
from sortal.models.backbones import create
from sortal.models.network import Network
from sortal.train.batch_finder import find_batch
from sortal.train.optim import copy_state, make_optimizer
from sortal.train.precision import GradientStep, Measured, Mode, choose_mode

OPEN = TrainSection(precision="auto", layout="auto", compile=False)


@pytest.fixture
def network() -> Network:
    return create(SOURCE, classes=3, size=(16, 16), dropout=0.5)


@pytest.fixture(autouse=True)
def _bf16_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried must not depend on the processor that tests run on."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


def choose(network: Network, train: TrainSection, seconds: dict[str, float], **more: float) -> Measured:
    """With a clock on which each mode takes what `seconds` says: the loss of a step tells it which mode is running."""
    now = [0.0]
    kind = ["fp32", "contiguous"]

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        kind[0] = "bf16" if torch.is_autocast_enabled("cpu") else "fp32"
        now[0] += seconds[f"{kind[0]} {kind[1]}"]
        return cross_entropy(logits, targets)

    def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        last = inputs[0].is_contiguous(memory_format=torch.channels_last)
        kind[1] = "channels_last" if last else "contiguous"

    network.register_forward_pre_hook(look)
    images, targets = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 0])
    return choose_mode(network, images, targets, loss, train, clock=lambda: now[0], **more)


ALL = {"fp32 contiguous": 1.0, "fp32 channels_last": 0.7, "bf16 contiguous": 1.4, "bf16 channels_last": 1.2}


def test_the_fastest_is_chosen_and_everything_measured_is_told(network: Network) -> None:
    measured = choose(network, OPEN, ALL)
    assert measured.mode.name == "fp32 channels_last"
    assert dict(measured.table) == pytest.approx(ALL)
    assert "fp32 channels_last 700 ms" in measured.mode.notes[-1]


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({"fp32 channels_last": 1.1}, "fp32 contiguous"),
        ({"fp32 channels_last": 0.99}, "fp32 contiguous"),  # noise
        ({"bf16 channels_last": 0.5}, "bf16 channels_last"),
        ({"bf16 channels_last": 0.66}, "fp32 channels_last"),  # too little for fewer bits
    ],
)
def test_nothing_slower_than_plain_training_is_chosen(network: Network, changes: dict[str, float], chosen: str) -> None:
    assert choose(network, OPEN, ALL | changes).mode.name == chosen


def test_settings_are_obeyed_and_what_is_settled_is_not_measured(network: Network) -> None:
    measured = choose(network, TrainSection(precision="bf16", layout="contiguous", compile=False), {})
    assert (measured.mode.name, measured.table) == ("bf16 contiguous", ())
    measured = choose(network, TrainSection(precision="bf16", compile=False), ALL)
    assert measured.mode.name == "bf16 channels_last"
    assert {name for name, _ in measured.table} == {"bf16 contiguous", "bf16 channels_last"}


@pytest.mark.parametrize("asked", ["amp", "apex"])
def test_amp_is_mixed_precision_and_apex_says_where_it_went(network: Network, asked: str) -> None:
    train = TrainSection.model_validate({"precision": asked, "layout": "contiguous", "compile": False})
    mode = choose(network, train, {}).mode
    assert mode.precision == "bf16"  # on a CPU; fp16 on CUDA
    assert "train.precision=amp" in mode.notes[0]
    assert ("Apex" in mode.notes[0]) == (asked == "apex")


def test_the_network_and_the_random_state_stay_as_they_are(network: Network) -> None:
    state, random = copy_state(network), torch.random.get_rng_state()
    images, targets = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0])
    choose_mode(network, images, targets, cross_entropy, OPEN)
    assert torch.equal(torch.random.get_rng_state(), random)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(p.grad is None and p.is_contiguous() for p in network.parameters())


def test_compiling_is_tried_only_for_long_runs_and_failure_is_no_disaster(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def fails(module: nn.Module) -> nn.Module:
        tried.append(module)
        raise RuntimeError("no toolchain\nwith details")

    monkeypatch.setattr(torch, "compile", fails)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    auto = TrainSection(precision="fp32", layout="contiguous", compile="auto")
    assert not choose(network, auto, ALL, compile_worth_s=60.0).mode.compiled
    assert not tried
    mode = choose(network, auto, ALL, compile_worth_s=360000.0).mode
    assert tried
    assert not mode.compiled
    assert "no toolchain" in mode.notes[0]
    assert "details" not in mode.notes[0]


def test_compiling_needs_a_compiler_and_pays_or_is_not_used(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: module)
    auto = TrainSection(precision="fp32", layout="contiguous", compile="auto")
    asked = auto.model_copy(update={"compile": True})
    monkeypatch.setattr(shutil, "which", lambda name: name)
    assert not choose(network, auto, ALL, compile_worth_s=360000.0).mode.compiled  # no faster
    assert choose(network, asked, ALL).mode.compiled
    monkeypatch.setattr(shutil, "which", lambda name: None)
    mode = choose(network, asked, ALL).mode
    assert not mode.compiled
    assert "C++ compiler" in mode.notes[0]


def test_a_mode_survives_json() -> None:
    mode = Mode(precision="bf16", layout="channels_last", compiled=True, notes=("a", "b"))
    assert Mode.from_plain(json.loads(json.dumps(mode.plain()))) == mode
    with mode.autocast():
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with Mode().autocast():
        assert not torch.is_autocast_enabled("cpu")


class Line(nn.Module):
    """y = w x."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0]))


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.1)


def test_accumulated_steps_are_one_step_of_the_whole_batch(network: Network) -> None:
    network.eval()  # no dropout, no batch statistics
    images, targets = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    twin = create(SOURCE, classes=3, size=(16, 16)).eval()
    twin.load_state_dict(network.state_dict())
    section = OptimSection(name="sgd")
    whole = GradientStep(clip=1.0, mode=Mode())
    parts = GradientStep(clip=1.0, accumulate=4, mode=Mode())
    one, other = (make_optimizer(net, section, lr=0.1, backbone_lr=0.1, layer_decay=1.0) for net in (network, twin))
    whole.backward(cross_entropy(network(images)[0], targets))
    taken = whole.step(network, one)
    for number in range(4):
        rows = slice(2 * number, 2 * number + 2)
        parts.backward(cross_entropy(twin(images[rows])[0], targets[rows]))
        last = parts.step(twin, other)
        assert last.changed == (number == 3)
        assert (last.norm is None) == (number < 3)
    assert taken.norm == pytest.approx(last.norm, rel=1e-4)
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
        assert b.grad is None


def test_fp16_losses_are_scaled_and_gradients_unscaled_before_they_are_clipped() -> None:
    line = Line()
    optimizer = sgd(line)
    stepper = GradientStep(clip=1.0, mode=Mode(precision="fp16"))
    assert stepper.scale > 1
    stepper.backward((line.w * torch.tensor([3.0, 4.0])).sum())
    assert line.w.grad is not None
    assert torch.allclose(line.w.grad, stepper.scale * torch.tensor([3.0, 4.0]))
    taken = stepper.step(line, optimizer)
    assert taken.norm == pytest.approx(5.0)
    assert taken.changed
    assert torch.allclose(line.w.detach(), torch.tensor([1.0, 2.0]) - 0.1 * torch.tensor([0.6, 0.8]), atol=1e-6)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_an_overflow_under_fp16_skips_the_step_and_halves_the_scale(bad: float) -> None:
    line = Line()
    stepper = GradientStep(clip=1.0, mode=Mode(precision="fp16"))
    before = stepper.scale
    stepper.backward((line.w * torch.tensor([bad, 1.0])).sum())
    taken = stepper.step(line, sgd(line))
    assert (taken.changed, taken.skipped) == (False, True)
    assert torch.equal(line.w.detach(), torch.tensor([1.0, 2.0]))
    assert stepper.scale == before / 2
    stepper.backward(line.w.sum())
    assert stepper.step(line, sgd(line)).changed


def test_without_a_scaler_a_norm_that_is_no_number_changes_nothing_and_is_no_skip() -> None:
    line = Line()
    stepper = GradientStep(clip=0.0, mode=Mode())
    stepper.backward((line.w * float("nan")).sum())
    taken = stepper.step(line, sgd(line))
    assert (taken.changed, taken.skipped) == (False, False)
    assert torch.equal(line.w.detach(), torch.tensor([1.0, 2.0]))


def test_state_goes_through_json_with_scale_and_gradients_under_way() -> None:
    line = Line()
    make: Callable[[], GradientStep] = lambda: GradientStep(clip=0.0, accumulate=2, mode=Mode(precision="fp16"))  # noqa: E731
    stepper = make()
    for _ in range(2):
        stepper.backward((line.w * float("inf")).sum())
    stepper.step(line, sgd(line))
    stepper.backward((line.w * 2).sum())
    other, twin = make(), Line()
    other.load(json.loads(json.dumps(stepper.state())))
    other.load_gradients(twin, stepper.gradients(line))
    assert other.scale == stepper.scale < make().scale
    for each, net in ((stepper, line), (other, twin)):
        each.backward((net.w * 3).sum())
        assert each.step(net, sgd(net)).changed
        assert not each.gradients(net)
    assert torch.equal(line.w, twin.w)
    assert torch.allclose(line.w.detach(), torch.tensor([1.0, 2.0]) - 0.1 * 2.5)


def test_layer_norms_are_those_before_clipping(network: Network) -> None:
    optimizer = make_optimizer(network, OptimSection(), lr=1e-3, backbone_lr=1e-3, layer_decay=1.0)
    stepper = GradientStep(clip=1e-3, mode=Mode())
    stepper.backward(cross_entropy(network(torch.randn(4, 3, 16, 16))[0], torch.tensor([0, 1, 2, 0])))
    taken = stepper.step(network, optimizer, layers=True)
    assert taken.norm is not None
    assert sum(norm**2 for norm in taken.layers.values()) ** 0.5 == pytest.approx(taken.norm, rel=1e-5)


def test_the_largest_batch_doubles_with_the_memory(network: Network) -> None:
    state = copy_state(network)
    found = [find_batch(network, (32, 32), low=1, high=4096, free_bytes=free << 20) for free in (100, 200, 400)]
    assert found[1:] == [2 * batch for batch in found[:2]]
    assert find_batch(network, (64, 64), low=1, high=4096, free_bytes=400 << 20) == found[2] // 4
    assert find_batch(network, (32, 32), low=8, high=32, free_bytes=1 << 40) == 32
    assert find_batch(network, (32, 32), low=8, high=16) == 16
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])
    with pytest.raises(MachineError):
        find_batch(network, (32, 32), free_bytes=1 << 20)
