"""What the documents tell people to type exists, and runs."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

from sortal.cli.app import COMMANDS, build
from sortal.core.recipe import load_recipe
from sortal.serve.settings import ServeSettings
from sortal.stream.settings import StreamSettings
from sortal.workspace.folder import Settings
from worlds import COLORS, World, class_folders

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *REPOSITORY.glob("docs/*.md"),
    *REPOSITORY.glob("recipes/*.yaml"),
    *REPOSITORY.glob("examples/*.sh"),
]


def _commands(text: str) -> list[list[str]]:
    """Every `sortal ...` of a line of code, a comment or in backticks, as words; comments behind it are cut off."""
    lines = re.findall(r"^(?:#\s+|[A-Z_]+=\S+ )?sortal (.+)$", text, re.MULTILINE)
    lines += re.findall(r"`(?:[A-Z_]+=\S+ )?sortal ([^`]+)`", text)
    lines += re.findall(r"\"?\$sortal\"? ([a-z-].+)$", text, re.MULTILINE)
    found = [shlex.split(re.sub(r"  +.*|\s#.*", "", line).replace("'", "")) for line in lines]
    return [words for words in found if words and (words[0] in COMMANDS or words[0].islower())]


def _options() -> dict[str, set[str]]:
    group = typer.main.get_command(build())
    return {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_settings_exist(document: Path) -> None:
    known = _options()
    for words in _commands(document.read_text(encoding="utf-8")):
        if words[0].startswith("-") or words[0] == "drew":
            continue
        assert words[0] in known, words
        flags = {word.partition("=")[0].strip("[]") for word in words if word.lstrip("[").startswith("--")}
        assert flags <= known[words[0]] | {"--help"}, words
        told = [word for before, word in pairwise(words) if before != "--on-label"]
        settings = [word for word in told if re.fullmatch(r"[a-z_.]+=[^<].*", word)]
        settings = [word for word in settings if not re.fullmatch(r"contract=\S+\.yaml", word)]  # not here
        _check(words[0], settings)


def _check(command: str, settings: list[str]) -> None:
    """Settings are those of a recipe, but where a command has its own."""
    own = {"serve": ServeSettings, "stream": StreamSettings, "workspace": Settings}.get(command)
    if own is None:
        load_recipe(None, settings)
    else:
        own.model_validate({key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in settings)})


def test_the_search_for_commands_finds_them() -> None:
    readme = _commands((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert ["train", "photos/"] in readme
    assert ["import", "model.onnx", "--labels", "names.txt", "--preprocess", "preprocess.yaml"] in readme


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    shown = typer.main.get_command(build()).commands[command].help  # type: ignore[attr-defined]
    assert f"sortal {command}" in shown


def _snippet(name: str) -> str:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    code, *_ = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    return code


def test_both_languages_show_the_same_program() -> None:
    plain = [re.sub(r"\s*#.*", "", _snippet(name)) for name in ("README.md", "README.zh.md")]
    assert plain[0] == plain[1]


def _zoo(folder: Path, world: World) -> Path:
    """A card of weights: the network that the world was trained with."""
    folder.mkdir()
    weights = shutil.copy(world.run / "bundle" / "weights.safetensors", folder / "tiny.safetensors")
    card = {
        "architecture": "sortal_tiny",
        "arguments": {"width": 0.15, "depth": 0.5},
        "weights": "tiny.safetensors",
        "sha256": sha256(Path(weights).read_bytes()).hexdigest(),
        "input": {"size": 32, "crop": 1.0, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.25] * 3},
        "licence": "Apache-2.0",
        "source": "drawn here",
    }
    (folder / "mobilenetv2_100.yaml").write_text(yaml.safe_dump(card))
    return folder


def test_the_python_program_of_the_readme_runs(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "photos", dict.fromkeys(COLORS, 14), seed=21)
    class_folders(tmp_path / "other", dict.fromkeys(COLORS, 2), seed=22)
    Image.open(tmp_path / "other" / "red" / "000.png").save(tmp_path / "a.jpg")
    monkeypatch.setenv("SORTAL_ZOO", str(_zoo(tmp_path / "zoo", world)))
    monkeypatch.setenv("SORTAL_OFFLINE", "1")
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()) as printed:
        names: dict[str, object] = {}
        exec(compile(_snippet("README.md"), "README.md", "exec"), names)
    assert "a.jpg" in printed.getvalue()
    assert names["report"].metrics["accuracy"].n == 6  # type: ignore[attr-defined]


def test_the_demo_is_a_sound_script() -> None:
    subprocess.run(["bash", "-n", REPOSITORY / "examples" / "demo.sh"], check=True)


@pytest.mark.slow
def test_the_demo_runs_on_few_pictures(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "sortal"
    for name, seed in (("parts", 1), ("new", 2)):
        sizes = ("--classes", "3", "--images", "36", "--size", "64", "--seed", str(seed))
        subprocess.run([program, "synth", tmp_path / name, *sizes], check=True, capture_output=True)
    done = subprocess.run(
        ["bash", "examples/demo.sh", program, tmp_path], cwd=REPOSITORY, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "What happened:" in done.stdout
    assert (tmp_path / "runs" / "parts-1" / "report.html").is_file()
    assert (tmp_path / "sorted-parts-1").is_dir()
