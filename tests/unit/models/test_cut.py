"""Pruned networks as a bundle records them: rebuilt from widths, and every width checked against the architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sortal.core.errors import WeightsError
from sortal.core.manifest import ModelSpec
from sortal.models.backbones import create, load_network, rebuild, record
from sortal.models.cut import cut_of, shrink
from sortal.models.network import Network
from sortal.models.resolve import ModelSource
from sortal.models.weights import save_weights

SMALL = ModelSource(name="sortal_tiny", architecture="sortal_tiny", arguments={"width": 0.25, "depth": 0.5})


def _network() -> Network:
    return create(SMALL, classes=3, size=(32, 32)).eval()


def _narrowed(network: Network) -> dict[str, tuple[int | None, ...]]:
    """Half of the first convolution's filters, wherever they are taken: only the names matter here."""
    name, tensor = next(item for item in network.backbone.named_parameters() if item[1].ndim == 4)
    return {name: (tensor.shape[0] // 2, None, None, None)}


def test_a_cut_shrinks_the_tensor_and_the_layer_says_so() -> None:
    network = _network()
    cut = _narrowed(network)
    name = next(iter(cut))
    before = network.backbone.get_parameter(name).detach().clone()
    shrink(network.backbone, cut, architecture="sortal_tiny")
    layer = network.backbone.get_submodule(name.removesuffix(".weight"))
    assert layer.out_channels == len(before) // 2
    assert torch.equal(network.backbone.get_parameter(name), before[: len(before) // 2])


def test_a_cut_is_what_differs_from_the_architecture() -> None:
    network = _network()
    cut = _narrowed(network)
    shrink(network.backbone, cut, architecture="sortal_tiny")
    assert cut_of(_network().backbone, network.backbone.state_dict()) == cut


@pytest.mark.parametrize("shape", [(10_000, None, None, None), (0, None, None, None), (4,)])
def test_widths_that_the_architecture_cannot_have_are_refused(shape: tuple[int | None, ...]) -> None:
    network = _network()
    name = next(iter(_narrowed(network)))
    with pytest.raises(WeightsError, match="none of sortal_tiny"):
        shrink(network.backbone, {name: shape}, architecture="sortal_tiny")


def test_widths_of_a_tensor_that_does_not_exist_are_refused() -> None:
    with pytest.raises(WeightsError, match="none of sortal_tiny"):
        shrink(_network().backbone, {"no.such.weight": (1,)}, architecture="sortal_tiny")


def test_a_whole_network_records_no_cut_so_that_older_versions_read_it() -> None:
    spec = record(_network())
    assert "cut" not in spec.model_dump(mode="json")
    assert ModelSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_bundle_is_a_model_to_start_from(tmp_path: Path) -> None:
    from sortal.core.bundle import BundleContents, write_bundle
    from sortal.core.decision import DecisionSpec
    from sortal.core.labels import LabelSet
    from sortal.core.preprocess import PreprocessSpec
    from sortal.models.resolve import resolve
    from sortal.models.weights import weights_bytes

    network = _network()
    spec = PreprocessSpec(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    write_bundle(
        tmp_path / "bundle",
        BundleContents(
            labels=LabelSet(names=("a", "b", "c")),
            preprocess=spec,
            decision=DecisionSpec(),
            model=record(network),
            weights_licence="our own",
            weights=weights_bytes(network),
        ),
    )
    found = resolve(str(tmp_path))
    assert (found.architecture, found.licence) == ("sortal_tiny", "our own")
    again = create(found, classes=3, size=(32, 32)).eval()
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(image)[0], network(image)[0])
    assert resolve(str(tmp_path), None).weights_path is None
    with pytest.raises(WeightsError, match="brings its own weights"):
        resolve(str(tmp_path), "other.safetensors")


def test_rebuilding_gives_the_recorded_network(tmp_path: Path) -> None:
    network = _network()
    save_weights(network, tmp_path / "weights.safetensors")
    spec = record(network)
    assert rebuild(spec).parameter_count == network.parameter_count
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_network(spec, tmp_path / "weights.safetensors")(image)[0], network(image)[0])
