"""The story of `sortal compress` where channels are cut: the chain, its report, its pictures and its folder."""

from __future__ import annotations

from pathlib import Path

from sortal.compress.images import Material
from sortal.compress.picture import draw_candidates
from sortal.compress.prune.chain import Chain, compress_chain
from sortal.compress.prune.picture import draw_sensitivity
from sortal.compress.prune.report import chain_report
from sortal.core.bundle import Bundle
from sortal.core.progress import Listener
from sortal.core.recipe import Recipe
from sortal.core.report import Report
from sortal.core.run import RunFolder, new_run
from sortal.evaluate.pages.write import write_report


def prune_model(
    bundle: Bundle,
    run: RunFolder | None,
    material: Material,
    *,
    name: str,
    recipe: Recipe,
    out: Path | None,
    listener: Listener,
) -> Report:
    """Prune `bundle` as `recipe.compress` says, make int8 of the result where that was asked for, and report.

    The new bundle is `out`, else `bundle` in the folder of the report. Finished cuts are kept in `compressions/steps`,
    where the same command finds them. See `story.pruned` for the errors; then there is no new folder.
    """
    root = Path("compressions") if run is None else run.path / "compressions"
    with new_run(root, name) as home:
        try:
            target = home.bundle if out is None else out
            chain = compress_chain(bundle, material, recipe=recipe, home=root, target=target, listener=listener)
            return _written(chain, chain_report(chain, name), home.path)
        except BaseException:
            home.discard()
            raise


def _written(chain: Chain, report: Report, folder: Path) -> Report:
    candidates = draw_candidates(report, folder / "candidates.png")
    spared = draw_sensitivity(chain.sensitivity, folder / "sensitivity.png")
    paths = {"picture": str(candidates)}
    if chain.bundle is not None:
        paths["bundle"] = str(chain.bundle.path)
    if chain.int8 is not None:
        paths |= {name: str(path) for name, path in chain.int8.attached.items()}
    report = report.model_copy(update={"paths": {**report.paths, **paths}})
    pictures = {
        "accuracy, time and size of every step": candidates,
        "accuracy when one set of channels is cut alone, before training": spared,
    }
    return write_report(report, folder, pictures)
