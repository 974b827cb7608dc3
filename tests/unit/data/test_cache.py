"""The cache: found again with the right bytes or not at all, within its budget, used by many at once."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sortal.core.errors import InputError
from sortal.data import cache as module
from sortal.data.cache import cache_info, clear_cache, content_keys, open_cache, read_with_key
from sortal.data.open import images
from sortal.data.packs import DamagedPackError, encode_pack, open_pack
from sortal.data.scan import scan

SETTINGS = {"size": 5}
SHAPE = (5, 4, 3)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def item(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)


def fill(numbers: range, settings: dict[str, int] = SETTINGS) -> str | None:
    with open_cache("images", settings) as cache:
        assert cache is not None
        for number in numbers:
            cache.put(key(number), item(number))
        cache.flush()
        return cache.note


def found(numbers: range, settings: dict[str, int] = SETTINGS) -> list[int]:
    """The numbers that are there; each is compared."""
    with open_cache("images", settings) as cache:
        assert cache is not None
        got = {number: cache.get(key(number)) for number in numbers}
    there = [number for number, value in got.items() if value is not None]
    assert all(np.array_equal(got[number], item(number)) for number in there)
    return there


def packs(root: Path) -> list[Path]:
    return sorted(root.rglob("*.pack"))


def test_what_was_put_is_found_under_its_settings_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACK_BYTES", 4 * item(0).nbytes)
    fill(range(10))
    assert len(packs(root)) == 3
    assert found(range(12)) == list(range(10))
    assert found(range(12), {"size": 6}) == []


def test_items_are_found_before_the_cache_is_closed_and_stay_readable_when_it_is_deleted() -> None:
    with open_cache("images", SETTINGS) as cache:
        assert cache is not None
        cache.put(key(1), item(1))
        cache.flush()
        view = cache.get(key(1))
        assert clear_cache() > 0
        assert view is not None
        assert np.array_equal(view, item(1))
        assert not view.flags.writeable
    assert found(range(3)) == []


def test_a_cut_or_altered_pack_is_noticed_wherever_it_was_hit_and_made_again(root: Path) -> None:
    fill(range(6))
    (path,) = packs(root)
    whole = path.read_bytes()
    start = whole.index(item(0).tobytes())
    places = [*range(0, 700, 13), *range(start, len(whole), 29)]
    for place in places:
        altered = bytearray(whole)
        altered[place] ^= 0x10
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(altered)
        there = found(range(6))  # compares every item that is found
        assert len(there) == 5 if place >= start else there in ([], list(range(6)))
        assert not path.exists() or there == list(range(6)), place
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole[:length])
        assert found(range(6)) == []
        assert not path.exists()
    fill(range(6))
    assert found(range(6)) == list(range(6))


def test_a_foreign_file_is_no_pack(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"SORTPAK1", b"SORTPAK1" + b"\xff" * 60, b"x" * 5000)):
        path = tmp_path / f"{number}.pack"
        path.write_bytes(content)
        with pytest.raises(DamagedPackError):
            open_pack(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_packs_keep_type_and_shape(tmp_path: Path, dtype: type) -> None:
    items = [(np.random.default_rng(n).random((3, 7)) * 200).astype(dtype) for n in range(3)]
    path = tmp_path / "a.pack"
    path.write_bytes(encode_pack([key(n) for n in range(3)], items))
    pack = open_pack(path)
    assert pack.keys == tuple(key(n) for n in range(3))
    assert all(np.array_equal(pack.item(n), items[n]) and pack.item(n).dtype == dtype for n in range(3))


def test_the_least_recently_used_packs_go_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for group in range(4):
        fill(range(group * 10, group * 10 + 10), {"size": group})
        for path in packs(root):
            if path.stat().st_mtime > 1e6:
                os.utime(path, (group + 1.0, group + 1.0))
    size = packs(root)[0].stat().st_size
    assert found(range(10), {"size": 0}) == list(range(10))  # now the youngest
    monkeypatch.setenv("SORTAL_CACHE_GB", str(4.5 * size / 1e9))
    assert fill(range(40, 50), {"size": 4}) is None
    assert [group for group in range(5) if found(range(50), {"size": group})] == [0, 2, 3, 4]
    monkeypatch.setenv("SORTAL_CACHE_GB", str(1.5 * size / 1e9))
    assert fill(range(50, 60), {"size": 5}) is None
    assert [group for group in range(6) if found(range(60), {"size": group})] == [5]


def test_a_run_never_removes_what_it_uses_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACK_BYTES", 4 * item(0).nbytes)
    fill(range(4))
    monkeypatch.setenv("SORTAL_CACHE_GB", str(2.5 * packs(root)[0].stat().st_size / 1e9))
    with open_cache("images", SETTINGS) as cache:
        assert cache is not None
        assert cache.get(key(0)) is not None
        for number in range(4, 20):
            cache.put(key(number), item(number))
        cache.flush()
        assert cache.note is not None
        assert "full" in cache.note
    assert found(range(20)) == list(range(8))


def test_no_more_than_half_of_the_free_disk(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    class Usage:
        free = 3000

    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage)
    assert cache_info().budget_bytes == 1500
    note = fill(range(200))
    assert note is not None
    assert packs(root) == []


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_zero_turns_the_cache_off(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_CACHE_GB", limit)
    with open_cache("images", SETTINGS) as cache:
        assert cache is None


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTAL_CACHE_GB", "much")
    with pytest.raises(InputError, match="SORTAL_CACHE_GB"), open_cache("images", SETTINGS):
        pass


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SORTAL_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with open_cache("images", SETTINGS) as cache:
        assert cache is None
    assert cache_info().folder is None
    assert clear_cache() == 0


def test_a_folder_that_cannot_be_written_leaves_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SORTAL_CACHE", str(tmp_path / "file"))
    note = fill(range(3))
    assert note is not None
    assert str(tmp_path / "file") in note


def _child(start: int) -> None:
    for number in range(start, start + 40, 8):
        fill(range(number, number + 8))
        assert set(range(number, number + 8)) <= set(found(range(120)))


def test_several_processes_fill_one_cache_at_once() -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_child, args=(start,)) for start in (0, 20)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert found(range(120)) == list(range(60))


def test_info_counts_and_clearing_leaves_other_folders_alone(root: Path) -> None:
    fill(range(7))
    (root / "weights").mkdir()
    info = cache_info()
    assert info.folder == root / "packs-1"
    assert info.items == {"images": 7, "features": 0, "surveys": 0}
    assert info.packs == {"images": 1, "features": 0, "surveys": 0}
    assert clear_cache() == info.used_bytes["images"] > 7 * item(0).nbytes
    assert (root / "weights").is_dir()
    assert cache_info().items == {"images": 0, "features": 0, "surveys": 0}


def test_keys_are_of_content_and_region(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name, color in (("a/1.png", 1), ("a/2.png", 1), ("b/3.png", 2)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (color, 5, 5)).save(folder / name)
    table = scan(images(folder))
    rows = np.arange(3)
    one, twin, other = content_keys(table, rows)
    assert one == twin != other
    assert [read_with_key(table, row)[1] for row in range(3)] == [one, twin, other]
    cut = table.with_columns({"region": [[0.0, 0.0, 0.5, 0.5]] * 3})
    assert content_keys(cut, rows)[0] not in (one, other)
    source, got = read_with_key(cut, 0)
    assert got == content_keys(cut, rows)[0]
    assert isinstance(source, np.ndarray)
    unknown = replace(table, frame=table.with_columns({"digest": [None] * 3}).frame)
    assert content_keys(unknown, rows) == [None] * 3


def test_a_file_that_changed_since_the_scan_has_the_key_of_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "set" / "a" / "1.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (9, 9), (1, 5, 5)).save(path)
    table = scan(images(tmp_path / "set"))
    before = content_keys(table, np.arange(1))[0]
    Image.new("RGB", (9, 9), (2, 5, 5)).save(path)
    assert read_with_key(table, 0)[1] != before
