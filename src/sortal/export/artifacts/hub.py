"""A model folder in the format of the Hugging Face hub, as timm reads it: `timm.create_model("local-dir:FOLDER",
pretrained=True)`. Made from the bundle's weights, not from its graph, and offline.

    config.json          architecture, arguments, label names, input and licence, in timm's own form
    model.safetensors    the whole network under timm's keys, classifier included
    README.md            a model card with the licence
    preprocess.json decision.json labels.json     as in the bundle: what timm's format has no place for

timm alone must be able to build the network: one of its architectures with one linear layer behind its own pooling.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sortal.core.bundle import Bundle
from sortal.core.canonical import parse
from sortal.core.errors import BundleError
from sortal.core.identity import DECISION, LABELS, PREPROCESS
from sortal.core.labels import LabelSet
from sortal.core.manifest import ModelSpec
from sortal.core.preprocess import PreprocessSpec
from sortal.export.parity import Side
from sortal.runtime.network_input import NetworkInput

if TYPE_CHECKING:
    from torch import nn

DETAILS = {"format": "hub", "precision": "float32", "model": "model.safetensors", "engine": "timm"}
_CROP_MODES = {"crop": "center", "stretch": "squash", "pad": "border"}


def convert_bundle(bundle: Bundle, out: Path) -> None:
    """Fill `out`. Raises BundleError for a bundle without weights or a network that timm alone cannot build."""
    from timm.models import save_for_hf

    spec = bundle.preprocess
    save_for_hf(
        _timm_network(bundle),
        str(out),
        model_config={
            "label_names": list(bundle.labels.names),
            "pretrained_cfg": {"license": bundle.manifest.weights_licence},
        },
        safe_serialization=True,
        data_config={
            "input_size": (spec.channels, *spec.size),
            "interpolation": spec.interpolation,
            "mean": spec.mean,
            "std": spec.std,
            "crop_pct": spec.crop,
            "crop_mode": _CROP_MODES[spec.resize],
        },
    )
    for name in (LABELS, PREPROCESS, DECISION):
        (out / name).write_bytes((bundle.path / name).read_bytes())
    (out / "README.md").write_text(_card(bundle), encoding="utf-8")


def side(folder: Path) -> Side:
    """The folder as timm opens it, for a parity check."""
    import timm
    import torch

    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    def run(batch: NetworkInput) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(batch)).numpy()
        return logits

    labels = LabelSet.model_validate(parse((folder / LABELS).read_bytes(), where=LABELS))
    told = tuple(network.pretrained_cfg["label_names"])
    return Side(
        name="timm",
        run=run,
        labels=labels if labels.names == told else LabelSet(names=told),
        preprocess=PreprocessSpec.model_validate(parse((folder / PREPROCESS).read_bytes(), where=PREPROCESS)),
    )


def _timm_network(bundle: Bundle) -> nn.Module:
    from sortal.models.backbones import load_network
    from sortal.models.wrapped import IN_CHANS, PRE_LOGITS, TimmBackbone, timm_body

    model = bundle.manifest.model
    if bundle.weights_path is None:
        raise BundleError("this bundle has no weights of its own", where=str(bundle.path))
    network = load_network(model, bundle.weights_path)
    if not isinstance(network.backbone, TimmBackbone):
        raise _unfit(f"{model.architecture} is no architecture of timm")
    _check_plain(model)
    arguments = {key: value for key, value in model.arguments.items() if key not in (IN_CHANS, PRE_LOGITS)}
    whole = timm_body(model.architecture, arguments, channels=bundle.preprocess.channels, classes=model.classes)
    named: Any = whole.pretrained_cfg
    if not isinstance(named.get("classifier"), str):
        raise _unfit(f"{model.architecture} has not one classifier")
    head = {f"{named['classifier']}.{key}": value for key, value in network.linear.state_dict().items()}
    try:
        whole.load_state_dict(network.backbone.body.state_dict() | head, strict=True)
    except RuntimeError as error:
        raise _unfit(f"its weights do not fit timm's {model.architecture}") from error
    return whole.eval()


def _check_plain(model: ModelSpec) -> None:
    """Raise BundleError for what timm has no argument for."""
    extras = {
        f"head={model.head}": model.head != "linear",
        f"attention={model.attention}": model.attention is not None,
        f"pooling={model.pooling}": model.pooling != "mean",
        f"views={model.views}": model.views != "single",
        f"without {', '.join(model.identity)}": bool(model.identity),
    }
    found = [name for name, present in extras.items() if present]
    if found:
        raise _unfit(", ".join(found))


def _unfit(reason: str) -> BundleError:
    hint = "export onnx, which every network becomes"
    return BundleError("timm alone cannot build this network", where="hub", received=reason, hint=hint)


def _card(bundle: Bundle) -> str:
    """The front page that the hub shows; its head is YAML."""
    manifest, names = bundle.manifest, bundle.labels.names
    listed = "\n".join(f"- {name}" for name in names)
    return f"""---
library_name: timm
pipeline_tag: image-classification
license: other
license_name: {manifest.weights_licence!r}
tags:
- image-classification
- timm
---

# {manifest.model.architecture}, {len(names)} classes

```python
import timm

model = timm.create_model("local-dir:path/to/this/folder", pretrained=True).eval()
```

Licence of the weights: {manifest.weights_licence}. Bundle: `{manifest.id}`. Started from: {manifest.model.source}.

`preprocess.json` says how images are prepared, to the pixel; timm's own transforms resize nearly alike. `decision.json`
has the temperature and the thresholds, which timm does not apply: its softmax is not calibrated.

## Classes

{listed}
"""
