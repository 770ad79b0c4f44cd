from __future__ import annotations

import os
from pathlib import Path

import pytest

from gseg_ns.disk_cache import BOUND, LOCATION, DiskCache, cache_folder, file_digest, key_of
from gseg_ns.errors import GsegError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOCATION, str(tmp_path / "cache"))
    return tmp_path / "cache" / "kind"


def test_what_was_put_is_found_by_its_key_alone(folder: Path) -> None:
    DiskCache("kind").put(key_of("a", 1), b"content")
    assert DiskCache("kind").get(key_of("a", 1)) == b"content"
    assert DiskCache("kind").get(key_of("a", 1.5)) is None
    assert DiskCache("other").get(key_of("a", 1)) is None


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_entry_is_as_if_it_were_not_there(folder: Path, damage: bytes | None) -> None:
    cache = DiskCache("kind")
    cache.put("key", b"content")
    content = bytearray((folder / "key").read_bytes())
    content[-1] ^= 1
    (folder / "key").write_bytes(content if damage is None else damage)
    assert cache.get("key") is None
    assert not (folder / "key").exists()
    cache.put("key", b"again")
    assert cache.get("key") == b"again"


def test_what_was_not_asked_for_longest_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOUND, str(5000 / 2**30))
    cache = DiskCache("kind")
    for number in range(6):
        cache.put(str(number), bytes(1000))
        os.utime(folder / str(number), (number, number))
    assert cache.get("0") is not None
    cache.trim()
    assert sorted(path.name for path in folder.iterdir()) == ["0", "3", "4", "5"]


def test_nothing_is_kept_where_nothing_may_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOUND, "0")
    DiskCache("kind").put("key", b"content")
    assert DiskCache("kind").get("key") is None
    assert not folder.exists()
    monkeypatch.setenv(BOUND, "much")
    with pytest.raises(GsegError, match=BOUND):
        DiskCache("kind")


def test_a_place_that_cannot_be_written_to_only_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(LOCATION, str(tmp_path / "file"))
    cache = DiskCache("kind")
    cache.put("key", b"content")
    assert cache.get("key") is None
    cache.trim()


def test_the_folder_is_the_systems_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOCATION)
    assert cache_folder().name == "gseg-ns"


def test_a_file_that_changed_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = file_digest(path)
    path.write_bytes(b"another")
    assert file_digest(path) != first
