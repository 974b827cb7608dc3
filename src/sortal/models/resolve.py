"""Decide what a model name and a weights setting mean: one ModelSource, from which `models.backbones` makes a network.

A name is `auto`, an architecture (of timm, with or without its weights tag, or one of `BACKBONES`), a weights card, a
run or bundle, whose network it then is, or a folder as the Hugging Face hub keeps it (`models.hub_folder`).
This is the only place that decides; reading cards is `models.cards`, fetching is `models.hub`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.canonical import digest
from sortal.core.errors import WeightsError
from sortal.core.manifest import MANIFEST
from sortal.models import BACKBONES
from sortal.models.cards import (
    CARD_SUFFIXES,
    CardInput,
    StoredCard,
    file_sha256,
    find_card,
    load_card,
    verified_weights,
    zoo_cards,
)
from sortal.models.cut import Cut
from sortal.models.hub import HUB_ID, fetch, is_offline, tell
from sortal.models.hub_folder import is_hub_folder, read_hub_folder
from sortal.models.published import TORCHVISION, check_architecture, published_config, published_input
from sortal.models.wrapped import IN_CHANS, PRE_LOGITS

PREFERRED = ("mobilenet_edgetpu_100", "mobilenetv2_100", "mobilenetv3_large_100", "resnet18", "resnet50")
"""Which architecture `auto` takes first from a zoo: small ones that are quick on a CPU, by published accuracy."""
AUTO_DOWNLOAD = "mobilenetv3_large_100"
"""What `auto` downloads where there is no zoo."""
SCRATCH_LICENCE = "none needed: trained from scratch"
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".tar")
TINY_SIZE_PX = 40
"""Up to this size `auto` takes the network made for tiny images."""

_UNKNOWN_LICENCE = "unknown (local file)"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """An architecture and the weights to start from. `notes` are sentences that say what was decided and why."""

    name: str
    """As it was asked for."""
    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    identity: tuple[str, ...] = ()
    cut: Cut = field(default_factory=dict)
    """Shapes of tensors that are smaller than the architecture has them: of a pruned network."""
    weights_path: Path | None = None
    """A verified safetensors file, or None to start from random numbers."""
    input: CardInput | None = None
    """The input that the weights were trained on; None where nothing is known or there are no weights."""
    licence: str = SCRATCH_LICENCE
    source: str = "random initialization"
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    card: str | None = None
    """The weights card, where there is one."""

    @property
    def key(self) -> str | None:
        """What tells this backbone from all others, None where its weights are random numbers."""
        if self.sha256 is None:
            return None
        return digest([self.architecture, self.arguments, list(self.identity), self.sha256])  # weights have the cut


def resolve(
    name: str,
    weights: str | None = "auto",
    arguments: Mapping[str, Any] | None = None,
    *,
    offline: bool | None = None,
    size_px: int | None = None,
    say: Callable[[str], None] = tell,
) -> ModelSource:
    """What `model.name`, `model.weights` and `model.arguments` of a recipe mean.

    Naming a model is consent to download its weights, unless `offline` (by default: `SORTAL_OFFLINE`); `say` receives
    one line with size and licence before that. `size_px` is the image size where it is known; it only helps `auto`.
    Raises WeightsError for an unknown architecture (with the nearest names), a card or file that is absent, altered
    or a pickle, and a download that is forbidden or fails.
    """
    asked = _Asked(name=name, arguments=dict(arguments or {}), offline=is_offline() if offline is None else offline)
    if is_hub_folder(name):  # which as an artifact has a manifest too
        return _from_folder(asked, weights, say)
    if (folder := _bundle_folder(name)) is not None:
        return _from_bundle(asked, open_bundle(folder), weights)
    if name == "auto":
        return _automatic(asked, weights, size_px, say)
    stored, notes = _named_card(name)
    if stored is not None and stored.card.architecture != name:  # the name is that of a card, not of an architecture
        return _with_card_name(asked, stored, weights, notes, say)
    check_architecture(name)
    return _with_weights(asked, weights, say)


def has_card_suffix(name: str) -> bool:
    """True when a name can only be the path of a weights card."""
    return name.endswith(CARD_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    name: str
    arguments: dict[str, Any]
    offline: bool


def _named_card(name: str) -> tuple[StoredCard | None, tuple[str, ...]]:
    if has_card_suffix(name):
        return load_card(Path(name).expanduser()), ()
    return find_card(name)


def _with_card_name(
    asked: _Asked, stored: StoredCard, weights: str | None, notes: tuple[str, ...], say: Callable[[str], None]
) -> ModelSource:
    check_architecture(stored.card.architecture)
    if weights == "auto":
        return _from_card(asked, stored, notes)
    arguments = {**stored.card.arguments, **asked.arguments}
    same = _Asked(name=stored.card.architecture, arguments=arguments, offline=asked.offline)
    found = _with_weights(same, weights, say)
    return _renamed(found, asked.name, identity=stored.card.identity)


def _with_weights(asked: _Asked, weights: str | None, say: Callable[[str], None]) -> ModelSource:
    if weights is None:
        return _scratch(asked)
    if weights == "auto":
        return _pretrained(asked, say)
    if weights.endswith(PICKLE_SUFFIXES):
        raise _pickle_error(weights)
    if has_card_suffix(weights):
        return _matching_card(asked, load_card(Path(weights).expanduser()))
    if weights.endswith(".safetensors") or Path(weights).is_file():
        return _from_file(asked, Path(weights).expanduser())
    stored, notes = find_card(weights)
    if stored is not None:
        return _matching_card(asked, stored, notes)
    if HUB_ID.match(weights):
        return _from_hub(asked, weights, say)
    raise WeightsError(
        "no such weights",
        received=weights,
        hint="use auto, null (from scratch), a .safetensors file, a weights card, or a hub name (owner/name)",
    )


def _pretrained(asked: _Asked, say: Callable[[str], None]) -> ModelSource:
    """`weights: auto`: a card, else the architecture's published weights, else from scratch where there are none."""
    stored, notes = find_card(asked.name)
    if stored is not None:
        return _from_card(asked, stored, notes)
    if asked.name in BACKBONES.names():
        return _scratch(asked, f"{asked.name} has no pretrained weights, so it starts from scratch.")
    if asked.name.startswith(TORCHVISION):
        raise _torchvision_error(asked.name)
    hub_id = getattr(published_config(asked.name), "hf_hub_id", None)
    if hub_id is None:
        return _scratch(asked, f"No weights are published for {asked.name}, so it starts from scratch.")
    return _from_hub(asked, hub_id, say)


def _automatic(asked: _Asked, weights: str | None, size_px: int | None, say: Callable[[str], None]) -> ModelSource:
    if weights not in (None, "auto"):
        if has_card_suffix(weights):
            return _from_card(asked, load_card(Path(weights).expanduser()))
        raise WeightsError("weights were named without an architecture", received=weights, hint="set model.name too")
    own = "sortal_tiny" if size_px is not None and size_px <= TINY_SIZE_PX else "sortal_small"
    small = _Asked(name=own, arguments=asked.arguments, offline=asked.offline)
    if weights is None:
        return _renamed(_scratch(small, f"model=auto without weights: {own}, a small network, from scratch."), "auto")
    if (stored := _preferred_card()) is not None:
        note = f"model=auto: {stored.card.architecture}, because the weights card {stored.path} has it pretrained."
        return _from_card(asked, stored, (note,))
    if asked.offline:
        note = f"model=auto: {own} from scratch, because no weights card was found (SORTAL_ZOO) and downloads are off."
        return _renamed(_scratch(small, note), "auto")
    return _download_or_small(asked, small, say)


def _download_or_small(asked: _Asked, small: _Asked, say: Callable[[str], None]) -> ModelSource:
    try:
        known = _Asked(name=AUTO_DOWNLOAD, arguments=asked.arguments, offline=False)
        return _renamed(_pretrained(known, say), "auto", notes=(f"model=auto: {AUTO_DOWNLOAD}, pretrained.",))
    except WeightsError as error:
        note = f"model=auto: {small.name} from scratch, because no pretrained weights could be had ({error.what})."
        return _renamed(_scratch(small, note), "auto")


def _preferred_card() -> StoredCard | None:
    """The first of PREFERRED that a zoo holds, else the card with the smallest weights file."""
    cards = [stored for stored in zoo_cards() if stored.weights_path.is_file()]
    for architecture in PREFERRED:
        for stored in cards:
            if stored.card.architecture == architecture:
                return stored
    return min(cards, key=lambda stored: stored.weights_path.stat().st_size, default=None)


def _scratch(asked: _Asked, *notes: str) -> ModelSource:
    return ModelSource(name=asked.name, architecture=asked.name, arguments=asked.arguments, notes=notes)


def _from_card(asked: _Asked, stored: StoredCard, notes: tuple[str, ...] = ()) -> ModelSource:
    card = stored.card
    check_architecture(card.architecture)
    return ModelSource(
        name=asked.name,
        architecture=card.architecture,
        arguments={**card.arguments, **asked.arguments},
        identity=card.identity,
        weights_path=verified_weights(stored),
        input=card.input,
        licence=card.licence,
        source=card.source,
        sha256=card.sha256,
        notes=notes,
        card=str(stored.path.absolute()),
    )


def _bundle_folder(name: str) -> Path | None:
    path = Path(name).expanduser()
    return next((folder for folder in (path, path / "bundle") if (folder / MANIFEST).is_file()), None)


def _from_bundle(asked: _Asked, bundle: Bundle, weights: str | None) -> ModelSource:
    """The network of a bundle, pruned ones as narrow as they are; its head stays where there are as many classes."""
    model, spec, where = bundle.manifest.model, bundle.preprocess, str(bundle.path)
    if bundle.weights_path is None and weights is not None:
        raise WeightsError("this bundle came without its weights", where=where, hint="model.weights=null trains anew")
    if weights not in (None, "auto"):
        raise WeightsError("a bundle brings its own weights", received=weights, hint="leave model.weights at auto")
    arguments = {key: value for key, value in model.arguments.items() if key not in (IN_CHANS, PRE_LOGITS)}
    found = ModelSource(
        name=asked.name,
        architecture=model.architecture,
        arguments={**arguments, **asked.arguments},
        identity=model.identity,
        cut=model.cut,
    )
    if weights is None or bundle.weights_path is None:
        return found
    return replace(
        found,
        weights_path=bundle.weights_path,
        input=CardInput(
            size=min(spec.size), crop=spec.crop, interpolation=spec.interpolation, mean=spec.mean, std=spec.std
        ),
        licence=bundle.manifest.weights_licence,
        source=f"bundle {bundle.id[:12]}",
        sha256=bundle.manifest.files[bundle.weights_path.name].sha256,
    )


def _from_folder(asked: _Asked, weights: str | None, say: Callable[[str], None]) -> ModelSource:
    """A model folder of the hub's format; with other weights, its architecture alone."""
    folder = read_hub_folder(Path(asked.name).expanduser())
    check_architecture(folder.architecture)
    arguments = {**folder.arguments, **asked.arguments}
    if weights != "auto":
        same = _Asked(name=folder.architecture, arguments=arguments, offline=asked.offline)
        return _renamed(_with_weights(same, weights, say), asked.name)
    return ModelSource(
        name=asked.name,
        architecture=folder.architecture,
        arguments=arguments,
        weights_path=folder.weights_path,
        input=folder.input,
        licence=folder.licence,
        source=f"model folder {folder.path.name}",
        sha256=file_sha256(folder.weights_path),
    )


def _matching_card(asked: _Asked, stored: StoredCard, notes: tuple[str, ...] = ()) -> ModelSource:
    if stored.card.architecture != asked.name:
        raise WeightsError(
            f"this card holds weights of {stored.card.architecture}, not of {asked.name}",
            where=str(stored.path),
            hint=f"model.name={stored.card.architecture}",
        )
    return _from_card(asked, stored, notes)


def _from_file(asked: _Asked, path: Path) -> ModelSource:
    digest = file_sha256(path, hint="model.weights must name a .safetensors file that exists")
    return ModelSource(
        name=asked.name,
        architecture=asked.name,
        arguments=asked.arguments,
        weights_path=path,
        input=published_input(published_config(asked.name)),
        licence=_UNKNOWN_LICENCE,
        source=f"local file {path.name}",
        sha256=digest,
        notes=(f"The licence of {path.name} is not known; a weights card beside it would record it.",),
    )


def _from_hub(asked: _Asked, hub_id: str, say: Callable[[str], None]) -> ModelSource:
    tagged = hub_id.rpartition("/")[2]
    published = published_config(tagged if tagged.partition(".")[0] == asked.name.partition(".")[0] else asked.name)
    known = getattr(published, "hf_hub_id", None) == hub_id
    licence = (published.license if known else None) or f"see https://huggingface.co/{hub_id}"
    fetched = fetch(hub_id, licence=licence, offline=asked.offline, say=say)
    return ModelSource(
        name=asked.name,
        architecture=asked.name.partition(".")[0],
        arguments=asked.arguments,
        weights_path=fetched.path,
        input=published_input(published),
        licence=licence,
        source=fetched.source,
        sha256=fetched.sha256,
    )


def _renamed(
    found: ModelSource, name: str, *, identity: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> ModelSource:
    return replace(found, name=name, identity=identity or found.identity, notes=(*notes, *found.notes))


def _torchvision_error(name: str) -> WeightsError:
    return WeightsError(
        "torchvision publishes its weights as pickles, which are refused",
        received=name,
        hint=f"model.name={name.removeprefix(TORCHVISION)}.tv_in1k where timm has them as safetensors, "
        "model.weights=<file>.safetensors, or model.weights=null",
    )


def _pickle_error(weights: str) -> WeightsError:
    target = Path(weights).with_suffix(".safetensors").name
    return WeightsError(
        "pickled weights can run code when they are opened, so they are refused",
        received=weights,
        hint='convert them once, where you trust the file: python -c "import torch; from safetensors.torch import '
        f"save_file; d=torch.load('{weights}', map_location='cpu', weights_only=True); d=d.get('state_dict', d); "
        f"save_file({{k: v.contiguous() for k, v in d.items()}}, '{target}')\"",
    )
