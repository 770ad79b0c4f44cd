from __future__ import annotations

import json
from pathlib import Path

import pytest

from gseg_ns.benchmarking.cells import CellStore, digest_files
from gseg_ns.errors import GsegError

KEY = {"kind": "run", "method": "gaga", "seed": 0, "options": ["--a", "1"]}


def counting(result: dict[str, float]) -> tuple[list[int], object]:
    calls: list[int] = []

    def compute() -> dict[str, float]:
        calls.append(1)
        return result

    return calls, compute


def test_a_finished_cell_is_not_computed_again(tmp_path: Path) -> None:
    calls, compute = counting({"iou": 81.25})
    assert CellStore(tmp_path).run(KEY, compute) == {"iou": 81.25}  # type: ignore[arg-type]
    assert CellStore(tmp_path).run(dict(reversed(KEY.items())), compute) == {"iou": 81.25}  # type: ignore[arg-type]
    assert len(calls) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_file_says_all_settings_and_the_version(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    store.put(KEY, {"iou": 1.0})
    (path,) = tmp_path.iterdir()
    cell = json.loads(path.read_text())
    assert cell["key"].items() >= KEY.items()
    assert {"version", "torch"} <= cell["key"].keys()
    assert path.name.startswith("run-gaga-0-")


@pytest.mark.parametrize("name", ["method", "seed", "options"])
def test_another_setting_is_another_cell(tmp_path: Path, name: str) -> None:
    store = CellStore(tmp_path)
    store.put(KEY, {"iou": 1.0})
    assert store.get({**KEY, name: "other"}) is None


def test_another_version_is_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CellStore(tmp_path).put(KEY, {"iou": 1.0})
    monkeypatch.setattr("gseg_ns.benchmarking.cells.version", lambda _: "99.0")
    assert CellStore(tmp_path).get(KEY) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"key": {}, "result": {"iou": 3}}'])
def test_a_damaged_cell_is_computed_again_and_told(tmp_path: Path, content: bytes) -> None:
    warnings: list[str] = []
    store = CellStore(tmp_path, warn=warnings.append)
    store.put(KEY, {"iou": 1.0})
    store.path(KEY).write_bytes(content)
    calls, compute = counting({"iou": 2.0})
    assert store.run(KEY, compute) == {"iou": 2.0}  # type: ignore[arg-type]
    assert len(calls) == 1
    assert len(warnings) == 1
    assert str(store.path(KEY)) in warnings[0]
    assert CellStore(tmp_path).get(KEY) == {"iou": 2.0}


def test_redo_computes_once_in_a_process(tmp_path: Path) -> None:
    CellStore(tmp_path).put(KEY, {"iou": 1.0})
    store = CellStore(tmp_path, redo=True)
    calls, compute = counting({"iou": 2.0})
    assert [store.run(KEY, compute)["iou"] for _ in range(2)] == [2.0, 2.0]  # type: ignore[arg-type]
    assert len(calls) == 1


def test_a_digest_follows_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"1")
    first = digest_files(folder)
    (folder / "a.png").write_bytes(b"2")
    second = digest_files(folder)
    (folder / "a.png").rename(folder / "b.png")
    assert len({first, second, digest_files(folder)}) == 3
    with pytest.raises(GsegError, match="none cannot be read"):
        digest_files(tmp_path / "none")
