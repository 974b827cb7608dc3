"""The plan as a file: what people may write, what is refused and where, and plans made from an audit's issues."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sortal.core.errors import DataError
from sortal.core.labels import LabelSet
from sortal.core.report import Report
from sortal.data.checks.material import issues
from sortal.data.open import images
from sortal.data.repair.moves import content_digest
from sortal.data.repair.plan import Plan, load_plan, save_plan
from sortal.data.repair.resolve import resolve
from sortal.data.repair.suggest import plan_from
from sortal.data.scan import scan
from sortal.data.table import build_table
from trees import make, plan_of

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
ENTRIES = st.one_of(
    st.fixed_dictionaries(
        {"do": st.sampled_from(["quarantine", "drop"]), "image": TEXT, "why": TEXT, "apply": st.booleans()}
    ),
    st.fixed_dictionaries({"do": st.just("relabel"), "image": TEXT, "from": TEXT, "to": TEXT}),
    st.fixed_dictionaries({"do": st.just("merge"), "classes": st.lists(TEXT, min_size=1, max_size=3), "to": TEXT}),
    st.fixed_dictionaries({"do": st.just("rename"), "from": TEXT, "to": TEXT, "confidence": st.floats(0, 1)}),
)


@settings(max_examples=40, deadline=None)
@given(entries=st.lists(ENTRIES, max_size=4), source=TEXT)
def test_a_plan_reads_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, entries: list[object], source: str
) -> None:
    plan = Plan.model_validate({"source": source, "actions": entries})
    folder = tmp_path_factory.mktemp("plans")
    save_plan(plan, folder / "plan.yaml")
    assert load_plan(folder / "plan.yaml").plan == plan
    (folder / "plan.json").write_text(json.dumps(plan.content()))
    assert load_plan(folder / "plan.json").plan == plan
    audit = Report(kind="audit", subject="photos", body={"plan": plan.content()})
    (folder / "audit.json").write_text(audit.to_json())
    assert load_plan(folder / "audit.json").plan == plan


def test_the_file_says_at_its_top_how_it_is_used(tmp_path: Path) -> None:
    plan = plan_of({"do": "relabel", "image": "no/1.png", "from": "no", "to": "7"}).plan
    text = plan.to_yaml()
    assert "sortal fix --undo photos --apply" in text
    assert yaml.safe_load(text)["actions"][0]["from"] == "no"
    assert text.splitlines()[-7].startswith("- do: relabel")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- do: quarantine\n  image: a\n  aply: true", "unknown key 'aply'"),
        ("- do: quarantine\n  image: 7", "put it in quotes"),
        ("- do: delete\n  image: a", "one of quarantine, drop"),
        ("- image: a", "one of quarantine, drop"),
        ("- do: quarentine\n  image: a", "did you mean quarantine"),
        ("- do: relabel\n  image: a\n  from: x", "to: Field required"),
        ("- do: quarantine\n  image: a\n  apply: maybe", "valid boolean"),
        ("- do: quarantine\n  image: a\n  digest: abc", "pattern"),
        ("- do: drop\n  image: a\n  image: b", "'image' is given twice"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(f"source: photos\nactions:\n- do: drop\n  image: ok.png\n{text}\n")
    with pytest.raises(DataError) as caught:
        load_plan(path)
    assert message in str(caught.value)
    assert "line 5" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "source: x\nformat: 2\n", "source: x\nactons: []\n"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(DataError):
        load_plan(path)


def test_a_report_without_a_plan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(Report(kind="evaluation", subject="x").to_json())
    with pytest.raises(DataError, match="no plan"):
        load_plan(path)


def test_every_entry_that_cannot_be_done_is_listed_and_none_is_done(tmp_path: Path) -> None:
    root = make(tmp_path / "photos", {"cat": 3, "dog": 2, "cow": 1})
    plan = plan_of(
        {"do": "quarantine", "image": "cat/9.png"},
        {"do": "quarantine", "image": "cat/0.png", "digest": "0" * 64},
        {"do": "relabel", "image": "cat/1.png", "from": "dog", "to": "cow"},
        {"do": "relabel", "image": "cat/2.png", "from": "cat", "to": "dgo"},
        {"do": "drop", "image": "dog/0.png"},
        {"do": "quarantine", "image": "dog/0.png"},
        {"do": "rename", "from": "dog", "to": "cow"},
        {"do": "quarantine", "image": "cat/9.png", "apply": False},
    )
    with pytest.raises(DataError) as caught:
        resolve(plan, images(root))
    said = str(caught.value)
    for part in ("entry 1: cat/9.png: there is no such image", "entry 2: cat/0.png: its content", "not 'dog'", "'dgo'",
                 "entry 6: dog/0.png: it is in entry 5 too", "merge them instead"):  # fmt: skip
        assert part in said
    assert "6 entries of the plan" in said


def test_images_that_are_gone_or_changed_can_be_left_out(tmp_path: Path) -> None:
    root = make(tmp_path / "photos", {"cat": 3, "dog": 2})
    plan = plan_of(
        {"do": "quarantine", "image": "cat/9.png"},
        {"do": "quarantine", "image": "cat/0.png", "digest": "0" * 64},
        {"do": "relabel", "image": "cat/1.png", "from": "dog", "to": "cat"},
        {"do": "quarantine", "image": "cat/2.png", "digest": content_digest(root / "cat/2.png")},
    )
    with pytest.raises(DataError, match="--skip-changed"):
        resolve(plan, images(root))
    changes = resolve(plan, images(root), skip_changed=True)
    assert list(changes.out) == ["cat/2.png"]
    assert not changes.relabel
    assert [problem.entry for problem in changes.skipped] == [0, 1, 2]


@pytest.mark.parametrize(
    "actions",
    [
        [{"do": "merge", "classes": ["cat", "dog"], "to": "cat"}, {"do": "rename", "from": "cat", "to": "x"}],
        [{"do": "merge", "classes": ["cat"], "to": "x"}, {"do": "merge", "classes": ["dog"], "to": "X"}],
        [{"do": "merge", "classes": ["cat", "dgo"], "to": "cat"}],
        [{"do": "rename", "from": "cat", "to": ""}],
    ],
)
def test_classes_that_conflict_are_refused(tmp_path: Path, actions: list[dict[str, object]]) -> None:
    root = make(tmp_path / "photos", {"cat": 2, "dog": 2})
    with pytest.raises((DataError, ValueError)):
        resolve(plan_of(*actions), images(root))


def test_a_plan_from_issues_takes_one_action_an_image(tmp_path: Path) -> None:
    root = make(tmp_path / "photos", {"cat": 4, "dog": 2})
    (root / "cat/broken.png").write_bytes(b"not an image")
    table = scan(images(root))
    odd = ["cat/1.png", "cat/2.png", "cat/3.png"]
    found = pl.concat(
        [
            issues("dark", "warning", ["cat/0.png"]),
            issues("label_error", "warning", odd, score=[0.95, 0.6, 0.99], do="relabel", to=["dog", "dog", "cat"]),
            issues("exact_duplicates", "warning", ["cat/1.png"], other=["dog/0.png"], do="drop"),
            issues("unreadable", "error", ["cat/broken.png"], value=["no image format"], do="quarantine"),
        ]
    )
    plan = plan_from(found, table)
    entries = {action.image: action for action in plan.actions}  # type: ignore[union-attr]
    assert sorted(entries) == ["cat/1.png", "cat/2.png", "cat/broken.png"]
    assert (entries["cat/1.png"].do, entries["cat/1.png"].apply) == ("drop", True)
    assert "label_error" in entries["cat/1.png"].why
    assert "dog/0.png" in entries["cat/1.png"].why
    assert (entries["cat/2.png"].do, entries["cat/2.png"].apply, entries["cat/2.png"].confidence) == (
        "relabel",
        False,
        0.6,
    )
    assert entries["cat/broken.png"].digest == content_digest(root / "cat/broken.png")
    assert entries["cat/2.png"].digest == content_digest(root / "cat/2.png")
    assert plan.content_digest == table.content_digest
    resolve(plan_of(*plan.content()["actions"]), images(root))


def test_one_copy_stays_whoever_asks_for_the_others(tmp_path: Path) -> None:
    """A leak takes the copy in train, a duplicate takes the later one: together they ask for both."""
    table = scan(images(make(tmp_path / "photos", {"cat": 6})))
    names = [f"cat/{number}.png" for number in range(6)]
    found = pl.concat(
        [
            issues("exact_duplicates", "warning", names[1:3], score=[1, 1], other=[names[0]] * 2, do="quarantine"),
            issues("leak", "error", names[:2], other=[names[2]] * 2, do="quarantine"),
            issues("near_duplicates", "warning", [names[4]], score=[0.95], other=[names[3]], do="quarantine"),
            issues("incomplete", "warning", [names[3]], do="quarantine"),
            issues("near_duplicates", "warning", [names[5]], score=[0.95], other=[names[4]], do="quarantine"),
        ]
    )
    out = sorted(action.image for action in plan_from(found, table).actions)  # type: ignore[union-attr]
    assert out == [*names[:2], names[3], names[5]]


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()).filter(lambda p: p[0] != p[1])))
def test_no_chain_of_copies_loses_its_last_one(pairs: list[tuple[int, int, bool]]) -> None:
    frame = pl.DataFrame({"uri": [f"{n}.png" for n in range(8)]})
    table = build_table(frame, labels=LabelSet(names=()), source="x", root=Path("/nowhere"))
    names = table.names()
    parts = [
        issues("copy", "error" if bad else "warning", [names[a]], score=[1.0], other=[names[b]], do="quarantine")
        for a, b, bad in pairs
    ]
    plan = plan_from(pl.concat([issues("none", "info", []), *parts]), table)
    out = {action.image for action in plan.actions}  # type: ignore[union-attr]
    for name in out:
        assert {names[b] for a, b, _ in pairs if names[a] == name} - out
