"""Where teachers come from: a run, a bundle or an artifact, or weights of an architecture, fitted to the classes first.

A run or bundle is answered by its exported graph, which on CPUs is two to three times faster than the live network; on
another device by the network itself. Weights that tell our classes apart by a head of their own keep it; any others
become a teacher by a linear head on their frozen features of the training images.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from sortal.core.bundle import open_bundle
from sortal.core.canonical import digest
from sortal.core.errors import RecipeError, WeightsError
from sortal.core.labels import LabelSet
from sortal.core.manifest import MANIFEST
from sortal.core.preprocess import PreprocessSpec
from sortal.core.progress import Listener
from sortal.data.table import ImageTable
from sortal.models.backbones import create, load_network
from sortal.models.cards import StoredCard, class_names, file_sha256, find_card, load_card
from sortal.models.network import Network
from sortal.models.resolve import ModelSource, has_card_suffix, resolve
from sortal.models.weights import read_state, weights_bytes
from sortal.runtime.engines import ENGINES
from sortal.runtime.engines.protocol import Engine
from sortal.runtime.locate import locate
from sortal.runtime.metadata import from_metadata
from sortal.train.features import extract, live_extractor
from sortal.train.head_choice import fold_groups
from sortal.train.linear import put_head
from sortal.train.probe import choose_strength, cross_validate

_ROUND_PX = 32
"""Input sides of elongated images are multiples of this."""


class Member(Protocol):
    """One teacher with its own classes and preprocessing."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> LabelSet: ...
    @property
    def spec(self) -> PreprocessSpec: ...
    @property
    def digest(self) -> str:
        """Equal for members that answer alike."""

    def run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) normalized by `spec` to logits (N, K) and embedding (N, D)."""

    def close(self) -> None:
        """Give memory and threads back."""


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """An exported graph on an inference engine."""

    name: str
    labels: LabelSet
    spec: PreprocessSpec
    digest: str
    engine: Engine

    def run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Member.run`."""
        outputs = self.engine.run(images.cpu().contiguous().numpy())
        logits, embedding = torch.from_numpy(outputs.logits), torch.from_numpy(outputs.embedding)
        return logits.to(images.device), embedding.to(images.device)

    def close(self) -> None:
        """See `Member.close`."""
        self.engine.close()


@dataclass(frozen=True, kw_only=True)
class _Live:
    """A network, frozen and in evaluation mode for good."""

    name: str
    labels: LabelSet
    spec: PreprocessSpec
    digest: str
    network: Network

    def run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See `Member.run`."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            logits, embedding, _ = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits, embedding

    def close(self) -> None:
        """See `Member.close`."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What opening a teacher may need."""

    table: ImageTable
    student: PreprocessSpec
    threads: int
    listener: Listener
    seed: int
    device: torch.device
    keep: bool
    """Whether features stay in the cache that runs share."""


def open_member(reference: str, how: Opening) -> Member:
    """The teacher that `reference` names: a path, a weights card, or an architecture with published weights."""
    path = Path(reference).expanduser()
    if path.exists() and not has_card_suffix(reference):
        return _of_path(path, how)
    try:
        source = resolve(reference, say=how.listener.say)
    except WeightsError as error:
        if has_card_suffix(reference) or not _is_path(reference):
            raise
        raise RecipeError("there is no such teacher", where="distill.teacher", received=reference) from error
    if source.weights_path is None:
        raise RecipeError("this teacher has no weights to teach from", where="distill.teacher", received=reference)
    return _of_weights(reference, source, how)


def open_network(reference: str) -> Network:
    """The live network of a run or bundle, frozen: to take layers from. Raises RecipeError where it has no weights."""
    path = Path(reference).expanduser()
    folder = path / "bundle" if (path / "bundle" / MANIFEST).is_file() else path
    bundle = open_bundle(folder)
    if bundle.weights_path is None:
        raise RecipeError("this teacher came without its weights", where="distill.teacher", received=reference)
    return _frozen(load_network(bundle.manifest.model, bundle.weights_path))


def _of_path(path: Path, how: Opening) -> Member:
    if how.device.type != "cpu" and (live := _of_bundle_weights(path, how.device)) is not None:
        return live
    located = locate(path)
    engine: Engine = ENGINES.get("openvino" if located.model.suffix == ".xml" else "onnxruntime").open(
        located.model, threads=how.threads
    )
    info = located.info or from_metadata(engine.metadata, where=str(located.model))
    return _Graph(
        name=str(path),
        labels=info.labels,
        spec=info.preprocess,
        digest=digest({"file": file_sha256(located.model), "engine": engine.name}),
        engine=engine,
    )


def _of_bundle_weights(path: Path, device: torch.device) -> Member | None:
    folder = path / "bundle" if (path / "bundle" / MANIFEST).is_file() else path
    if not (folder / MANIFEST).is_file() or (folder / "model.onnx").is_file():
        return None
    bundle = open_bundle(folder)
    if bundle.weights_path is None:
        return None
    network = _frozen(load_network(bundle.manifest.model, bundle.weights_path)).to(device)
    return _Live(name=str(path), labels=bundle.labels, spec=bundle.preprocess, digest=bundle.id, network=network)


def _of_weights(reference: str, source: ModelSource, how: Opening) -> Member:
    spec, own = _spec_of(source, how.student), _own_classes(reference, source, how.table.labels)
    labels = own or how.table.labels
    network = _frozen(create(source, classes=len(labels), channels=spec.channels, size=spec.size, seed=0))
    if own is not None:
        _check_head(network, source, reference)
    else:
        _fit_head(reference, network, spec, how)
    return _Live(
        name=f"{source.architecture} ({source.source})",
        labels=labels,
        spec=spec,
        digest=_network_digest(network, spec),
        network=network.to(memory_format=torch.channels_last).to(how.device),
    )


def _spec_of(source: ModelSource, student: PreprocessSpec) -> PreprocessSpec:
    """The student's part of the picture at the size and with the colors that the weights were trained on."""
    if source.input is None:
        return student
    same = len(source.input.mean) == student.channels
    colors = {"mean": source.input.mean, "std": source.input.std} if same else {}
    size = _size_of(source.input.size, student.size)
    return student.model_copy(update={"size": size, "interpolation": source.input.interpolation, **colors})


def _size_of(side: int, shape: tuple[int, int]) -> tuple[int, int]:
    """A square of `side` pixels, or about as many pixels with the aspect of `shape`."""
    if shape[0] == shape[1]:
        return side, side
    factor = side / math.sqrt(shape[0] * shape[1])
    height, width = (max(_ROUND_PX, round(pixels * factor / _ROUND_PX) * _ROUND_PX) for pixels in shape)
    return height, width


def _own_classes(reference: str, source: ModelSource, labels: LabelSet) -> LabelSet | None:
    """The classes of a card whose weights tell exactly ours apart, in the order of its head."""
    stored = _card_of(reference)
    if stored is None or stored.card.sha256 != source.sha256:
        return None
    try:
        names = class_names(stored, classes=len(labels))
    except WeightsError:
        return None
    theirs = LabelSet(names=names) if len(set(names)) == len(names) and names else None
    return theirs if theirs is not None and sorted(labels.mapping_from(theirs)) == list(range(len(labels))) else None


def _card_of(reference: str) -> StoredCard | None:
    return load_card(Path(reference).expanduser()) if has_card_suffix(reference) else find_card(reference)[0]


def _check_head(network: Network, source: ModelSource, reference: str) -> None:
    """`create` begins a head anew where it finds none that fits: a teacher with such a head would teach noise."""
    weight = network.linear.weight
    state = {} if source.weights_path is None else read_state(source.weights_path)
    if not any(tensor.shape == weight.shape and torch.equal(tensor, weight) for tensor in state.values()):
        raise RecipeError(
            f"the card names {network.classes} classes, but its weights have no head for them",
            where="distill.teacher",
            received=reference,
        )


def _fit_head(reference: str, network: Network, spec: PreprocessSpec, how: Opening) -> None:
    """A linear head on frozen features of the training images; the penalty as for a student's probe."""
    run, key = live_extractor(network), _network_digest(network, spec) if how.keep else None
    train, val = (
        extract(
            how.table,
            how.table.split_rows(split),
            spec,
            run,
            threads=how.threads,
            listener=how.listener,
            stage=f"teacher's features of {split} images",
            key=key,
        )[0]
        for split in ("train", "val")
    )
    classes = len(how.table.labels)
    if len(val.rows):
        choice = choose_strength(train.values, train.labels, val.values, val.labels, classes)
    else:
        groups = fold_groups(how.table, train.rows)
        choice = cross_validate(train.values, train.labels, groups, classes, seed=how.seed)
    put_head(network, choice.head)
    _frozen(network)
    accuracy = next(right for strength, _, right in choice.tried if strength == choice.strength)
    by = "validation images" if len(val.rows) else "held-out training images"
    how.listener.say(f"teacher {reference}: a linear head fitted on its frozen features, {accuracy:.1%} of {by} right")


def _network_digest(network: Network, spec: PreprocessSpec) -> str:
    return digest(
        {
            "architecture": network.architecture,
            "arguments": network.arguments,
            "weights": hashlib.sha256(weights_bytes(network)).hexdigest(),
            "spec": spec.model_dump(mode="json"),
        }
    )


def _frozen(network: Network) -> Network:
    network.requires_grad_(requires_grad=False)
    return network.eval()


def _is_path(reference: str) -> bool:
    return "/" in reference or "\\" in reference
