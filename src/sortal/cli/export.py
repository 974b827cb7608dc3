"""`sortal export`."""

from __future__ import annotations

from pathlib import Path

import typer

from sortal.cli.output import finish, listener


def export(
    model: Path = typer.Argument(..., help="A run or a bundle."),
    to: list[str] = typer.Option([], "--to", help="Artifacts by name, with commas between them; see `sortal targets`."),
    machine: list[str] = typer.Option([], "--for", help="Kinds of machine instead: auto, nvidia, jetson, android, ..."),
    images: str = typer.Option(None, "--images", help="Images for the check; default: the run's own, if still there."),
    count: int = typer.Option(64, "--count", help="How many images the check takes at most."),
    replace: bool = typer.Option(False, "--replace", help="Make artifacts anew that the bundle has already."),
    time_limit: float = typer.Option(900.0, "--time-limit", help="Seconds that one conversion may take."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON, and nothing else."),
) -> None:
    """Write deployment artifacts into a bundle, each proven on real images to decide as the original does.

    \b
    sortal export runs/photos-1 --to onnx-uint8,openvino
    sortal export runs/photos-1 --to onnx-fp16 --images inbox/ --replace
    sortal export runs/photos-1 --for android

    An artifact that decides otherwise is refused, with the stage where it parts from the original; nothing is changed
    then.
    """
    from sortal import api
    from sortal.cli.tables import draw
    from sortal.export.targets import check_scenario

    machines = [name.strip() for part in machine for name in part.split(",")]
    for name in machines:
        check_scenario(name)
    names = [*(name for part in to for name in part.split(",")), *machines]
    report = api.export(
        model, names, images=images, count=count, replace=replace, time_limit_s=time_limit, listener=listener()
    )
    if not as_json and report.tables:
        draw("artifacts", report.tables["artifacts"])
    finish(
        report,
        as_json=as_json,
        results=list(report.paths.values()),
        following=[_following(name, path) for name, path in report.paths.items()],
    )


def _following(name: str, path: str) -> str:
    if name == "triton":
        return f"tritonserver --model-repository={path}/models"
    if name == "torchserve":
        return f"torchserve --start --model-store {path} --models classifier.mar"
    if name == "hub":
        return f"timm.create_model('local-dir:{path}', pretrained=True)   # in Python"
    if name == "tensorrt":
        return f"sh {path}/build.sh   # on the machine with the GPU"
    if name.startswith("coreml"):
        return f"open {path}/model.mlpackage   # in Xcode on a Mac; a sample is in examples/ios"
    return f"sortal predict {path} inbox/"
