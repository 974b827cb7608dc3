"""The story of `sortal export`: artifacts made from a bundle's exported graph, checked on real images, attached.

Everything is made and checked before anything is attached, so that whatever goes wrong leaves the bundle as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sortal.core.bundle import Bundle, open_bundle
from sortal.core.errors import BundleError, InputError
from sortal.core.manifest import MANIFEST
from sortal.core.preprocess import Pixels
from sortal.core.progress import Listener
from sortal.core.report import Cell, Finding, Metric, Report, Table
from sortal.core.run import RunFolder, open_run
from sortal.export.artifacts import ARTIFACTS, FROM_WEIGHTS, member
from sortal.export.conversion import convert_apart
from sortal.export.gate import check_artifact
from sortal.export.images import calibration_pixels, images_to_check
from sortal.export.parity import Side
from sortal.export.publish import attach_made, refuse_unequal
from sortal.export.sides import file_side
from sortal.export.targets import settle
from sortal.runtime.locate import ARTIFACT
from sortal.runtime.sources import Images, Item

GRAPH = "model.onnx"


@dataclass(frozen=True, kw_only=True)
class Made:
    """One artifact that was made and found equal, not yet attached."""

    name: str
    folder: Path
    parity: Report


def export_artifacts(
    where: Path,
    names: Sequence[str],
    *,
    images: Images | None,
    count: int,
    replace: bool,
    time_limit_s: float,
    listener: Listener,
) -> Report:
    """Make the artifacts `names` of a run or bundle and attach them, each checked on up to `count` images.

    A name may be a kind of machine (`auto`, `android`, ... of `export.targets`): it stands for the artifact to take.
    The report (kind `export`) has a table of artifacts and a path for each. Raises InputError for unknown names, names
    that are taken (unless `replace`) and where there are no images; BundleError where an artifact does not answer as
    the original, or a converter fails.
    """
    folder = _bundle_folder(where)
    bundle = open_bundle(folder)
    names, kept = settle(names, bundle.artifacts(), replace=replace, say=listener.say)
    if kept and not names:
        return _nothing_to_do(where, bundle, kept)
    wanted = _checked(names, bundle, replace=replace)
    if ARTIFACT not in bundle.artifacts():
        raise BundleError("only a bundle with an ONNX artifact can be exported", where=str(folder))
    original = bundle.artifact(ARTIFACT) / GRAPH
    run = _run_of(folder)
    items = images_to_check(run, images, count)
    needed = any(_is_calibrated(name) for name in wanted)
    pixels = calibration_pixels(run, images, bundle.preprocess) if needed else None
    with TemporaryDirectory(prefix="sortal-export-") as work:
        made = []
        for number, name in enumerate(wanted):
            listener.progress("exporting", number, len(wanted))
            made.append(_make(name, original, Path(work), bundle, items, time_limit_s, pixels))
        listener.progress("exporting", len(wanted), len(wanted))
        for one in made:
            attach_made(folder, one.name, one.folder, one.parity, replace=replace)
    return _report(where, bundle, made, {name: folder / "artifacts" / name for name in wanted})


def _bundle_folder(where: Path) -> Path:
    return where / "bundle" if (where / "bundle" / MANIFEST).is_file() else where


def _run_of(folder: Path) -> RunFolder | None:
    home = folder.absolute().parent
    return open_run(home) if folder.name == "bundle" and (home / "split.csv").is_file() else None


def _checked(names: Sequence[str], bundle: Bundle, *, replace: bool) -> list[str]:
    """The names once each. Raises InputError for what is unknown or taken, before any work."""
    wanted = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not wanted:
        raise InputError("no artifact is named", hint="known: " + ", ".join(ARTIFACTS.names()))
    for name in wanted:
        member(name)
        if name in bundle.artifacts() and not replace:
            raise InputError(
                "the bundle has this artifact already",
                where=str(bundle.path / "artifacts" / name),
                hint="add --replace to make it anew",
            )
    return wanted


def _is_calibrated(name: str) -> bool:
    return bool(member(name).DETAILS.get("calibrated"))


def _make(
    name: str,
    original: Path,
    work: Path,
    bundle: Bundle,
    items: Sequence[Item],
    time_limit_s: float,
    pixels: Pixels | None,
) -> Made:
    out = work / name
    out.mkdir()
    details = member(name).DETAILS
    reference: Side = file_side(original)
    if name in FROM_WEIGHTS.names():
        member(name).convert_bundle(bundle, out)
        artifact: Side = member(name).side(out)
    else:
        given = pixels if _is_calibrated(name) else None
        shown = work / f"{name}.onnx" if details["engine"] is None else None
        convert_apart(name, original, out, time_limit_s=time_limit_s, pixels=given, stand_in=shown)
        artifact = file_side(shown or out / details["model"], engine=details["engine"] or "onnxruntime")
    parity = check_artifact(
        reference,
        artifact,
        items,
        decision=bundle.decision,
        precision=details["precision"],
        epsilon=details.get("epsilon"),
    )
    refuse_unequal(name, parity)
    return Made(name=name, folder=out, parity=_without_engine(name, out, parity))


def _without_engine(name: str, made: Path, parity: Report) -> Report:
    """The report, with what was read back from an artifact that nobody opens here, and said to be that."""
    details = member(name).DETAILS
    if details["engine"] is not None:
        return parity
    message = (
        f"not run here: it is for {details['for']}. Its file was read back and compared ({made.name}/check.json); "
    )
    message += "the numbers are of the original's graph with its weights, in float32 on ONNX Runtime"
    finding = Finding(code="not_run_here", severity="info", message=message)
    body = parity.body | member(name).details(made / details["model"])
    return parity.model_copy(update={"findings": (*parity.findings, finding), "body": body})


def _nothing_to_do(where: Path, bundle: Bundle, kept: Sequence[str]) -> Report:
    paths = {name: str(bundle.path / "artifacts" / name) for name in kept}
    return Report(kind="export", subject=str(where), paths=paths, provenance={"bundle": bundle.id})


def _report(where: Path, bundle: Bundle, made: Sequence[Made], paths: dict[str, Path]) -> Report:
    columns = ("artifact", "precision", "MB", "flips", "flip rate", "allowed", "largest difference", "smallest margin")
    notes = tuple(
        finding.model_copy(update={"message": f"{one.name}: {finding.message}"})
        for one in made
        for finding in one.parity.findings
    )
    return Report(
        kind="export",
        subject=str(where),
        metrics={"images": Metric(value=made[0].parity.metrics["images"].value)},
        tables={"artifacts": Table(columns=columns, rows=tuple(_row(one, paths[one.name]) for one in made))},
        findings=(*notes, *_not_run(made)),
        paths={name: str(path) for name, path in paths.items()},
        provenance={"bundle": bundle.id},
    )


def _row(one: Made, path: Path) -> tuple[Cell, ...]:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    numbers = one.parity.metrics
    flips, rate, apart, margin = (
        numbers[name].value for name in ("flips", "flip_rate", "max_probability_difference", "smallest_margin")
    )
    body = one.parity.body
    return one.name, str(body["precision"]), round(size / 1e6, 2), flips, rate, body["epsilon"], apart, margin


def _not_run(made: Sequence[Made]) -> list[Finding]:
    """What was checked of artifacts that other programs run."""
    found = []
    for one in made:
        details = member(one.name).DETAILS
        foreign = details.get("for")
        if foreign is not None and details["engine"] is not None:
            message = f"{one.name}: its ONNX file was checked here with ONNX Runtime; {foreign} itself was not run"
            found.append(Finding(code="not_run_here", severity="info", message=message))
    return found
