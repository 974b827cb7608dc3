"""Recipe: what a user may write, what it becomes, and how a mistake is answered."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sortal.core.errors import RecipeError
from sortal.core.recipe import Recipe, build_recipe, load_recipe, load_yaml, parse_override


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_golden_recipe_is_the_default_one(golden: Path) -> None:
    assert load_recipe(golden / "recipe.yaml") == Recipe()
    for section, values in load_yaml(golden / "recipe.yaml").items():
        now = yaml.safe_load(Recipe().to_yaml())[section]
        assert _within(values, now)


def _within(old: object, new: object) -> bool:
    """Whether all that `old` says is in `new`, section by section."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _within(value, new[key]) for key, value in old.items())
    return old == new


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    settings = {
        "train.time": "10m",
        "input.size": [96, 128],
        "input.mean": [0.5, 0.5, 0.5],
        "model": "mobilenetv2_100",
        "model.arguments": {"pad_type": "same"},
        "data.group": r"(\d+)_",
        "contract": {"max_error": 0.01, "recall": {"裂纹": 0.98}},
    }
    recipe = load_recipe(None, settings)
    path = put(tmp_path, "recipe.yaml", recipe.to_yaml())
    assert load_recipe(path) == recipe
    assert load_recipe(path).digest == recipe.digest != Recipe().digest


def test_a_chain_of_bases(tmp_path: Path) -> None:
    put(tmp_path, "bases/root.yaml", "optim: {lr: 0.1, clip: 2.0}\nmodel: resnet18\ntrain: {epochs: 3}\n")
    put(tmp_path, "bases/middle.yaml", "base: root.yaml\noptim: {lr: 0.2}\nmodel: {dropout: 0.1}\n")
    path = put(tmp_path, "mine.yaml", "base: bases/middle.yaml\ntrain: {epochs: 5}\n")
    recipe = load_recipe(path, ["optim.lr=3e-4", "model=resnet50"])
    assert (recipe.optim.lr, recipe.optim.clip, recipe.train.epochs) == (3e-4, 2.0, 5)
    assert (recipe.model.name, recipe.model.dropout) == ("resnet50", 0.1)


@pytest.mark.parametrize("names", [("a.yaml",), ("a.yaml", "b.yaml"), ("a.yaml", "b.yaml", "sub/../c.yaml")])
def test_a_circle_of_bases_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "sub").mkdir()
    for name, base in zip(names, [*names[1:], names[0]], strict=True):
        put(tmp_path, name, f"base: {base}\n")
    with pytest.raises(RecipeError, match="circle"):
        load_recipe(tmp_path / names[0])


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent\.yaml"):
        load_recipe(put(tmp_path, "a.yaml", "base: absent.yaml\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optim.lr=3e-4", ("optim.lr", 3e-4)),
        ("optim.lr=1E5", ("optim.lr", 1e5)),
        ("train.time=10m", ("train.time", "10m")),
        ("model.weights=null", ("model.weights", None)),
        ("evaluate.top_k=[1, 2]", ("evaluate.top_k", [1, 2])),
        ("data.group=a=b", ("data.group", "a=b")),
        ("model.name=", ("model.name", None)),
    ],
)
def test_overrides_are_read_as_yaml(text: str, expected: tuple[str, object]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize(
    "text", ["lr", "=3", "optim lr=3", "--lr=3", "optim.lr=[1", "a.lr=!!python/object:os.system {}"]
)
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_override(text)


@pytest.mark.parametrize(
    ("setting", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (".5m", 30), ("' 2 m '", 120)]
)
def test_durations(setting: str, seconds: float) -> None:
    assert load_recipe(None, [f"train.time={setting}"]).train.time == seconds


@pytest.mark.parametrize("setting", ["10 days", "0", "-5", "m", "1m30s", "true"])
def test_durations_that_are_none(setting: str) -> None:
    with pytest.raises(RecipeError, match=r"train\.time"):
        load_recipe(None, [f"train.time={setting}"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trian.epochs=3", "unknown key 'trian'[\\s\\S]*did you mean train"),
        ("train.epoch=3", "unknown key 'train.epoch'[\\s\\S]*did you mean epochs"),
        ("data.split.vall=0.1", "unknown key 'data.split.vall'[\\s\\S]*did you mean val"),
        ("contract.max_eror=0.1", "unknown key 'contract.max_eror'[\\s\\S]*did you mean max_error"),
        ("train.epochs=many", "train.epochs[\\s\\S]*received: 'many'"),
        ("train.batch=0", "train.batch"),
        ("optim.lr=-1", "optim.lr"),
        ("optim.lr=.nan", "optim.lr"),
        ("optim=sgdd", "optim.name[\\s\\S]*adamw"),
        ("input.channels=2", "input.channels"),
        ("input.size=[1, 2, 3]", "input.size"),
        ("data.split.val=1.0", "data.split.val"),
        ("seed=-1", "seed"),
        ("seed=1.5", "seed"),
        ("train.patience=yes", "train.patience[\\s\\S]*received: True"),
        ("model.dropout=abc", "model.dropout"),
        ("evaluate.top_k=[0]", "evaluate.top_k"),
        ("data=5", "data"),
        ("export.artifacts=onnx", "export.artifacts"),
    ],
)
def test_mistakes_name_the_key_and_what_is_near(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(None, [setting])


@pytest.mark.parametrize("key", ["", "learning-rate", "学习率", 7])
def test_keys_that_are_no_words_are_unknown_keys(key: object) -> None:
    for data in ({key: 1}, {"optim": {key: 1}}):
        with pytest.raises(RecipeError, match="unknown key"):
            build_recipe(data, where="x")  # type: ignore[arg-type]


def test_a_section_given_a_plain_value_sets_its_name(tmp_path: Path) -> None:
    path = put(tmp_path, "r.yaml", "model: {dropout: 0.2}\naugment: none\n")
    recipe = load_recipe(path, ["model=mobilenetv2_100", "model.arguments.pad_type=same"])
    assert recipe.model.name == "mobilenetv2_100"
    assert recipe.model.dropout == 0.2
    assert recipe.model.arguments == {"pad_type": "same"}
    assert recipe.augment.name == "none"


def test_a_contract_may_be_a_file(tmp_path: Path) -> None:
    path = put(tmp_path, "contract.yaml", "max_error: 0.02\n")
    recipe = build_recipe({"contract": str(path)}, where="x")
    assert recipe.contract is not None
    assert recipe.contract.max_error == 0.02


@pytest.mark.parametrize(
    "text", ["- a\n", "a: [", "just text", "\x00", "a: !!python/object/apply:os.system [ls]", "? [a]\n: b"]
)
def test_files_that_are_no_recipe_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError):
        load_recipe(put(tmp_path, "r.yaml", text))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"model: \xe9")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(RecipeError):
            load_recipe(path)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert load_recipe(put(tmp_path, "r.yaml", "")) == Recipe()


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe().seed = 1  # type: ignore[misc]


@given(
    st.dictionaries(
        st.text(max_size=8), st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
    )
)
def test_any_data_is_a_recipe_or_a_recipe_error(data: dict[str, object]) -> None:
    with suppress(RecipeError):
        build_recipe(data, where="x")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", ".inf", ".nan"])
@pytest.mark.parametrize(
    "key", ["compress.max_drop", "optim.lr", "model.dropout", "optim.weight_decay", "distill.temperature"]
)
def test_no_number_is_endless_or_none(key: str, value: str) -> None:
    load_recipe(None, [f"{key}=0.5"])
    with pytest.raises(RecipeError, match=key.replace(".", r"\.")):
        load_recipe(None, [f"{key}={value}"])
