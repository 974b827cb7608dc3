"""A cache of prepared images, frozen features and surveys by content: shared by runs, within a budget, safe to delete.

    <SORTAL_CACHE or the platform's cache folder>/packs-1/{images,features,surveys}/<settings>/<keys>.pack

An item's key is the SHA-256 of an image's bytes (with its region, where a row has one); everything else that decides
what an item is goes into `settings`, whose digest names a folder. Packs are published whole and never changed, so any
number of processes may read and write. Every header and item carries a checksum: a damaged or cut pack is removed and
its items are made again. `SORTAL_CACHE_GB` limits all packs together (10; 0 turns the cache off), and so does half of
what would be free without them; those that were not used for longest go first.

Without a folder that can be written everything works without a cache, and `note` says why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sortal.core.canonical import digest
from sortal.core.errors import InputError, MachineError
from sortal.core.places import cache_root
from sortal.core.publish import publish_file
from sortal.data.packs import SUFFIX, DamagedPackError, Pack, encode_pack, open_pack
from sortal.data.scan import content_digest
from sortal.data.table import ImageTable

Kind = Literal["images", "features", "surveys"]
KINDS: tuple[Kind, ...] = ("images", "features", "surveys")
DEFAULT_GB = 10.0
PACK_BYTES = 16 << 20
"""A pack is published when its items have this size together."""

_FOLDER = "packs-1"


@dataclass(frozen=True, kw_only=True)
class CacheInfo:
    """What the cache holds. `folder` is None where there is none."""

    folder: Path | None
    budget_bytes: int
    used_bytes: dict[Kind, int]
    items: dict[Kind, int]
    packs: dict[Kind, int]


@dataclass(kw_only=True)
class Cache:
    """Items of one kind and one way of making them. `get` may be called from any thread, `put` from one."""

    folder: Path
    note: str | None = None
    """Why nothing more is kept, once that is so."""
    _found: dict[bytes, tuple[Pack, int]] = field(default_factory=dict)
    _checked: set[bytes] = field(default_factory=set)
    _used: set[Path] = field(default_factory=set)
    _keys: list[bytes] = field(default_factory=list)
    _items: list[NDArray[Any]] = field(default_factory=list)
    _writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "sortal-cache"))
    _writing: list[Future[None]] = field(default_factory=list)

    def __contains__(self, key: bytes) -> bool:
        return key in self._found

    def get(self, key: bytes) -> NDArray[Any] | None:
        """The item, a checked read-only view into the file; None where it has to be made."""
        found = self._found.get(key)
        if found is None:
            return None
        pack, number = found
        if key in self._checked:
            checked: NDArray[Any] = pack.items[number]
            return checked
        try:
            item = pack.item(number)
        except DamagedPackError:
            self._found.pop(key, None)
            _remove(pack.path)
            return None
        self._checked.add(key)
        self._use(pack.path)
        return item

    def put(self, key: bytes, item: NDArray[Any]) -> None:
        """Keep an item; it must not change until `flush`. Nothing happens once the cache is full or cannot be written.

        Packs are written by a thread of their own."""
        if self.note is not None or key in self._found:
            return
        self._keys.append(key)
        self._items.append(item)
        if item.nbytes * len(self._items) >= PACK_BYTES:
            self._publish()

    def flush(self) -> None:
        """Publish what is left and wait until all is written; afterwards `get` finds it."""
        if self._items and self.note is None:
            self._publish()
        for future in self._writing:
            future.result()
        self._writing.clear()

    def room_for(self, size_bytes: int) -> bool:
        """Whether so many more bytes fit into the budget when packs that this object does not use are removed."""
        budget = budget_bytes(self.folder)
        mine = sum(_size(path) for path in {pack.path for pack, _ in self._found.values()})
        return self.note is None and mine + size_bytes <= budget

    def close(self) -> None:
        """Publish what is left and end the writing thread."""
        self.flush()
        self._writer.shutdown()

    def _publish(self) -> None:
        keys, items = self._keys, self._items
        self._keys, self._items = [], []
        for future in self._writing[:-1]:  # two packs in memory at most
            future.result()
        self._writing = [*self._writing[-1:], self._writer.submit(self._write, keys, items)]

    def _write(self, keys: list[bytes], items: list[NDArray[Any]]) -> None:
        path = self.folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}{SUFFIX}"
        try:
            if not path.exists():
                data = encode_pack(keys, items)
                if not _make_room(self.folder, len(data), self._used):
                    self.note = "the cache is full: the rest is not kept (SORTAL_CACHE_GB is its size)"
                    return
                publish_file(path, data)
            self._add(open_pack(path))
            self._use(path)
        except (MachineError, OSError, DamagedPackError) as error:
            self.note = f"nothing more is kept in the cache: {getattr(error, 'what', error)} ({self.folder})"

    def _add(self, pack: Pack) -> None:
        self._found.update({key: (pack, number) for number, key in enumerate(pack.keys)})

    def _use(self, path: Path) -> None:
        if path not in self._used:
            self._used.add(path)
            with suppress(OSError):
                os.utime(path)


@contextmanager
def open_cache(kind: Kind, settings: Mapping[str, Any]) -> Iterator[Cache | None]:
    """The items that were made with `settings` (JSON types: all that matters beside the image), None without a cache.

    Raises InputError where SORTAL_CACHE_GB is not a number.
    """
    root = cache_root()
    if root is None or _limit_bytes() <= 0:
        yield None
        return
    cache = Cache(folder=root / _FOLDER / kind / digest(settings)[:32])
    for path in _packs(cache.folder):
        try:
            cache._add(open_pack(path))
        except DamagedPackError:
            _remove(path)
        except OSError:
            continue
    try:
        yield cache
    finally:
        cache.close()


def content_keys(table: ImageTable, rows: NDArray[np.int64]) -> list[bytes | None]:
    """The keys of table rows as far as `scan` has found their digests."""
    chosen = table.frame[rows].select("digest", "region")
    return [
        None if found is None else content_key(found, region)
        for found, region in zip(chosen["digest"].to_list(), chosen["region"].to_list(), strict=True)
    ]


def content_key(found: str, region: Sequence[float] | None) -> bytes:
    """The key of a content digest (hexadecimal), and of the region that a row is of it."""
    if region is None:
        return bytes.fromhex(found)
    return bytes.fromhex(digest({"digest": found, "region": list(region)}))


def read_with_key(table: ImageTable, row: int) -> tuple[bytes | NDArray[Any], bytes]:
    """What `table.read` gives, and the key of exactly these bytes: a file may have changed since it was scanned."""
    whole = table.read_whole(row)
    found = content_digest(whole)
    region = table.frame["region"][row]
    if region is None:
        return whole, content_key(found, None)
    return table.read(row), content_key(found, region.to_list())


def cache_info() -> CacheInfo:
    """Where the cache is and how full."""
    root = cache_root()
    packs: dict[Kind, list[Path]] = {kind: [] if root is None else _packs(root / _FOLDER / kind) for kind in KINDS}
    return CacheInfo(
        folder=None if root is None else root / _FOLDER,
        budget_bytes=0 if root is None else budget_bytes(root),
        used_bytes={kind: sum(map(_size, paths)) for kind, paths in packs.items()},
        items={kind: sum(map(_count, paths)) for kind, paths in packs.items()},
        packs={kind: len(paths) for kind, paths in packs.items()},
    )


def clear_cache() -> int:
    """Remove all packs; runs that use them go on. Returns the bytes that were freed. Raises MachineError."""
    root = cache_root()
    if root is None or not (root / _FOLDER).exists():
        return 0
    before = sum(map(_size, _packs(root / _FOLDER)))
    shutil.rmtree(root / _FOLDER, ignore_errors=True)
    left = sum(map(_size, _packs(root / _FOLDER)))
    if left:
        raise MachineError("a part of the cache cannot be removed", where=str(root / _FOLDER))
    return before


def budget_bytes(folder: Path) -> int:
    """What all packs may take: SORTAL_CACHE_GB, and never more than half of what would be free without them."""
    limit = _limit_bytes()
    root = cache_root()
    used = 0 if root is None else sum(map(_size, _packs(root / _FOLDER)))
    try:
        return min(limit, (shutil.disk_usage(_existing(folder)).free + used) // 2)
    except OSError:
        return 0


def _limit_bytes() -> int:
    text = os.environ.get("SORTAL_CACHE_GB", "").strip() or str(DEFAULT_GB)
    try:
        return int(float(text) * 1e9)
    except (ValueError, OverflowError) as error:
        raise InputError("must be a number of gigabytes", where="SORTAL_CACHE_GB", received=text) from error


def _make_room(folder: Path, size_bytes: int, used: set[Path]) -> bool:
    """Remove packs that were not used for longest until `size_bytes` more fit; those in `used` stay."""
    root = cache_root()
    budget = budget_bytes(folder)
    packs = sorted((path for path in _packs(root / _FOLDER) if path not in used), key=_age) if root else []
    total = sum(map(_size, packs)) + sum(map(_size, used)) + size_bytes
    while total > budget and packs:
        oldest = packs.pop(0)
        total -= _size(oldest)
        _remove(oldest)
    return total <= budget


def _packs(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.rglob(f"*{SUFFIX}") if not path.name.startswith("."))
    except OSError:
        return []


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _count(path: Path) -> int:
    try:
        return len(open_pack(path).keys)
    except (DamagedPackError, OSError):
        return 0


def _existing(folder: Path) -> Path:
    return next((part for part in (folder, *folder.parents) if part.exists()), folder)
