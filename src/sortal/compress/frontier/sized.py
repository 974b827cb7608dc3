"""The same network at another input size: weights kept, the head fitted anew on features of that size, and everything
that depends on it (temperature, thresholds, unknown score, exported graph) made as training makes it.

The head is fitted on training images alone, also where the run's own head learned from the validation images in the
end: those judge here. It is a convex problem, so the size costs one pass over the images and no training.
"""

from __future__ import annotations

from pathlib import Path

import torch

from sortal.compress.frontier.ground import Ground
from sortal.compress.frontier.steps import Made, Refusal
from sortal.compress.frontier.wish import Wish
from sortal.core.bundle import Bundle
from sortal.core.errors import BundleError, MachineError, SortalError
from sortal.core.preprocess import PreprocessSpec
from sortal.core.recipe import Recipe
from sortal.core.run import RunFolder
from sortal.decide import decision_of_run
from sortal.graphs import graph_extractor, publish
from sortal.models.backbones import load_network
from sortal.models.network import Network
from sortal.models.resolve import resolve
from sortal.runtime.threads import allowed_cpus
from sortal.start import Start
from sortal.train.fit import fit
from sortal.train.plan import Plan


def sized(ground: Ground, wish: Wish, parent: Bundle, folder: Path) -> Made | Refusal:
    """The network of `parent` at the size of `wish`; see `Step`. Only a linear head can be fitted like that."""
    if parent.weights_path is None:
        raise BundleError("a network without its weights cannot be fitted anew", where=str(parent.path))
    network = load_network(parent.manifest.model, parent.weights_path)
    if not network.linear_head:
        return Refusal(why=f"a head of the kind {network.wiring.head} is not fitted anew for another size")
    spec = ground.spec(wish)
    answer = _takes(network, spec)
    if answer:
        return Refusal(why=answer)
    try:
        return _refitted(ground, spec, parent, network, folder)
    except MachineError:
        raise
    except SortalError as error:
        return Refusal(why=str(error))


def _refitted(ground: Ground, spec: PreprocessSpec, parent: Bundle, network: Network, folder: Path) -> Made:
    recipe = _recipe(ground, spec)
    start = Start(source=resolve(str(parent.path)), plan=_plan(spec, network), network=network)
    home = RunFolder(path=folder)
    with graph_extractor(recipe, home, start.plan, network) as extractor:
        fitted = fit(
            recipe,
            ground.table,
            source=start.source,
            plan=start.plan,
            listener=ground.listener,
            network=network,
            extractor=extractor,
        )
    decided = decision_of_run(recipe, ground.table, start.plan, fitted)
    found = publish(home, recipe, ground.table, start, fitted, decided.decision, ground.listener, parent=parent.id)
    for leftover in (home.path / "cache").iterdir():
        leftover.unlink()
    (home.path / "cache").rmdir()
    home.log_path.unlink(missing_ok=True)
    said = (*(one.message for one in found if one.severity != "info"), *fitted.notes)
    return Made(notes=tuple(said))


def _takes(network: Network, spec: PreprocessSpec) -> str:
    """Why a network cannot take images of this size; empty where it can."""
    try:
        with torch.inference_mode():
            logits = network.eval()(torch.zeros(1, spec.channels, *spec.size))[0]
    except Exception as error:  # timm's networks raise whatever their layers do, AssertionErrors among it
        return f"the network does not take {spec.size[1]} x {spec.size[0]} pixels: {str(error).splitlines()[0]}"
    return "" if torch.isfinite(logits).all() else "its answers at this size are not finite"


def _recipe(ground: Ground, spec: PreprocessSpec) -> Recipe:
    """The recipe of the run, for this size and the contract that is asked for."""
    height, width = spec.size
    size = height if height == width else (height, width)
    recipe = ground.recipe
    return recipe.model_copy(
        update={"input": recipe.input.model_copy(update={"size": size}), "contract": ground.contract}
    )


def _plan(spec: PreprocessSpec, network: Network) -> Plan:
    """A linear head on frozen features, once."""
    cpus = allowed_cpus()
    return Plan(
        stages=("probe",),
        size=spec.size,
        resize=spec.resize,
        crop=spec.crop,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        freeze="backbone",
        refit=False,
        pooling=network.pooling.kind,
        epochs=0,
        batch=32,
        lr=0.0,
        layer_decay=1.0,
        time_s=None,
        threads=cpus,
        workers=min(cpus, 8),
    )
