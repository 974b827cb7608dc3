"""The shape of the package: what may import what, what loads when, and which names are public."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import sortal

SOURCE = Path(sortal.__file__).parent
DRAWINGS = {f"sortal.data.synth.{name}" for name in ("bodies", "nuts", "plates", "rods")}
"""One function a part, whose name (`hex_bolt`) says all there is to say."""
BANNED_CALLS = {"eval", "exec"}
BANNED_MODULES = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}


def _module_name(path: Path) -> str:
    parts = ["sortal", *path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules() -> dict[str, Path]:
    return {_module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def _imports(tree: ast.Module, known: set[str]) -> set[str]:
    """Modules of the package that this module imports when it is loaded."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & known


def _cycle(edges: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def walk(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for target in sorted(edges[node]):
            if cycle := walk(target, [*trail, node]):
                return cycle
        done.add(node)
        return []

    for start in sorted(edges):
        if cycle := walk(start, []):
            return cycle
    return []


def test_no_import_cycles() -> None:
    modules = _modules()
    edges = {
        name: _imports(ast.parse(path.read_text(encoding="utf-8")), set(modules)) - {name}
        for name, path in modules.items()
    }
    assert _cycle(edges) == []


def test_the_cycle_check_finds_a_cycle() -> None:
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]


def test_every_file_opens_with_a_paragraph_and_names_are_documented() -> None:
    missing = []
    for name, path in _modules().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and not ast.get_docstring(tree):
            missing.append(name)
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and name not in DRAWINGS and not ast.get_docstring(node):
                missing.append(f"{name}:{node.name}")
    assert missing == []


def test_nothing_that_can_run_code_is_on_a_load_path() -> None:
    found = []
    for name, path in _modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [f"{name}: {alias.name}" for alias in node.names if alias.name.split(".")[0] in BANNED_MODULES]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BANNED_MODULES:
                found.append(f"{name}: {node.module}")
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                unsafe = {"yaml.load", "torch.load", "np.load", "numpy.load"}
                safe = any(
                    keyword.arg in {"allow_pickle", "weights_only"} for keyword in node.keywords
                ) and "allow_pickle=True" not in ast.unparse(node)
                if called in BANNED_CALLS or (called in unsafe and not safe):
                    found.append(f"{name}: {called} in line {node.lineno}")
    assert found == []


def test_no_module_is_called_utils() -> None:
    assert [name for name in _modules() if name.split(".")[-1] in {"utils", "util", "helpers", "common", "misc"}] == []


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_sortal_loads_nothing_heavy() -> None:
    loaded = _loaded_after("import sortal")
    assert loaded & {"torch", "timm", "numpy", "polars", "pydantic", "typer", "onnxruntime", "matplotlib"} == set()


def test_the_run_side_loads_no_torch() -> None:
    loaded = _loaded_after(
        "import sortal; sortal.load_model; sortal.evaluate; sortal.predict; sortal.images;"
        "import sortal.runtime.classifier, sortal.evaluate.evaluation, sortal.data.open, sortal.data.scan"
    )
    assert loaded & {"torch", "timm", "torchvision", "onnx", "openvino"} == set()


def test_help_loads_only_the_command_line() -> None:
    loaded = _loaded_after("from sortal.cli.app import build; build()")
    assert loaded & {"torch", "polars", "onnxruntime", "matplotlib", "numpy"} == set()


def test_public_names_are_pinned() -> None:
    assert set(sortal.__all__) == {
        "AsyncClient", "Client", "Contract", "LabelSet", "Predictions", "PreprocessSpec", "Recipe", "Report",
        "SortalError", "__version__",
        "audit", "benchmark", "calibrate", "certify", "compare", "compress", "evaluate", "explain", "export", "images",
        "import_model", "learning_curve", "load_model", "predict", "reproduce", "resume", "split", "sweep",
        "synthesize", "train",
    }  # fmt: skip
    assert all(getattr(sortal, name) is not None for name in sortal.__all__)
