"""What `sortal doctor` looks at: does this machine have what training, serving and pictures need?"""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sortal.core.report import Cell, Finding, Report, Table

PACKAGES: dict[str, str] = {
    "numpy": "base",
    "pillow": "base",
    "polars": "base",
    "onnxruntime": "base",
    "matplotlib": "base",
    "openvino": "openvino",
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "safetensors": "train",
    "onnx": "train",
    "onnxscript": "train",
}
LOW_DISK_BYTES = 2_000_000_000


def checkup() -> Report:
    """Look, change nothing, and say what to do about what is missing."""
    from sortal.runtime.threads import allowed_cpus

    packages, findings = _packages()
    free = shutil.disk_usage(Path.cwd()).free
    if free < LOW_DISK_BYTES:
        findings.append(_finding("disk", "error", f"only {free / 1e9:.1f} GB free here", "free some disk space"))
    findings += _fonts() + _zoo()
    machine: list[tuple[Cell, ...]] = [
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("python", platform.python_version()),
        ("processors allowed", allowed_cpus()),
        ("memory, GB", _memory_gb()),
        ("free disk here, GB", round(free / 1e9, 1)),
        ("offline (SORTAL_OFFLINE)", os.environ.get("SORTAL_OFFLINE", "") not in ("", "0")),
        ("zoo (SORTAL_ZOO)", os.environ.get("SORTAL_ZOO", "not set")),
        ("accelerator", _accelerator()),
    ]
    tables = {"machine": Table(columns=("what", "found"), rows=tuple(machine)), "packages": packages}
    return Report(kind="doctor", subject=platform.node() or "this machine", tables=tables, findings=tuple(findings))


def _packages() -> tuple[Table, list[Finding]]:
    rows: list[tuple[Cell, ...]] = []
    missing: dict[str, list[str]] = {}
    for name, extra in PACKAGES.items():
        try:
            rows.append((name, version(name), extra))
        except PackageNotFoundError:
            rows.append((name, "missing", extra))
            missing.setdefault(extra, []).append(name)
    findings = []
    for extra, names in missing.items():
        text = f"not installed: {', '.join(names)}"
        if extra == "base":
            findings.append(_finding("package", "error", text, "install sortal again: pip install sortal"))
        else:
            findings.append(_finding("package", "info", text, f'pip install "sortal[{extra}]"'))
    return Table(columns=("package", "version", "part of"), rows=tuple(rows)), findings


def _fonts() -> list[Finding]:
    from sortal.evaluate.drawing.fonts import font_for

    if font_for("螺丝") is not None:
        return []
    hint = "install one, for example: apt-get install fonts-wqy-microhei"
    return [_finding("font", "warning", "no font with Chinese characters: plots show class numbers instead", hint)]


def _zoo() -> list[Finding]:
    folders = [Path(part) for part in os.environ.get("SORTAL_ZOO", "").split(os.pathsep) if part]
    return [
        _finding("zoo", "error", f"SORTAL_ZOO names a folder that is not there: {folder}", "correct or unset it")
        for folder in folders
        if not folder.is_dir()
    ]


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)


def _accelerator() -> str:
    try:
        version("torch")
    except PackageNotFoundError:
        return "unknown (torch is not installed)"
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"unknown (torch cannot be loaded: {error})"
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def _finding(code: str, severity: str, message: str, hint: str) -> Finding:
    return Finding.model_validate({"code": code, "severity": severity, "message": message, "hint": hint})
