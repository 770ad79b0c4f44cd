from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gseg_ns.disk_cache import LOCATION
from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet, cached, cached_label_runs, paint, read_mask_set, write_label_map, write_mask_set


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv(LOCATION, str(tmp_path / "cache"))
    generator = torch.Generator().manual_seed(0)
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path in paths:
        masks = torch.rand(9, 5, 4, generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2) > 0.6
        write_mask_set(path, MaskSet.from_arrays(masks, torch.rand(9, generator=generator)))
    write_label_map(tmp_path / "3.png", torch.arange(12).reshape(3, 4))
    return [*paths, tmp_path / "3.png"]


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were painted."""
    done: list[Path] = []
    load = cached.load_label_runs
    monkeypatch.setattr(
        cached, "load_label_runs", lambda file, *options: done.append(file.path) or load(file, *options)
    )
    return done


def test_painted_once_and_the_same_as_painted(files: list[Path], painted: list[Path]) -> None:
    for threads in (1, 3):
        found = cached_label_runs(files, "largest", 0.3, 0.2, threads)
        for path, runs in zip(files[:3], found[:3], strict=True):
            assert torch.equal(runs.image(), paint(read_mask_set(path), "largest", 0.3, 0.2))
        assert torch.equal(found[3].image(), torch.arange(12).reshape(3, 4).int())
    assert sorted(painted) == sorted(files)
    steps: list[int] = []
    cached_label_runs(files, progress=lambda: steps.append(1))
    assert len(steps) == 4


def test_other_options_and_other_bytes_are_painted_anew(files: list[Path], painted: list[Path]) -> None:
    cached_label_runs(files)
    cached_label_runs(files[:1], "smallest")
    cached_label_runs(files[:1], min_score=0.1)
    cached_label_runs(files[:1], min_visible=0.9)
    assert painted[4:] == files[:1] * 3
    files[0].write_bytes(files[1].read_bytes())
    again = cached_label_runs(files)
    assert painted[7:] == [], "the same masks under another name"
    assert torch.equal(again[0].image(), again[1].image())


def test_a_damaged_entry_is_painted_anew(files: list[Path], painted: list[Path], tmp_path: Path) -> None:
    first = cached_label_runs(files)
    for entry in (tmp_path / "cache" / "labels").iterdir():
        entry.write_bytes(entry.read_bytes()[:-3])
    again = cached_label_runs(files)
    assert len(painted) == 8
    assert all(torch.equal(one.image(), two.image()) for one, two in zip(first, again, strict=True))
    cached_label_runs(files)
    assert len(painted) == 8


def test_a_damaged_file_is_told(files: list[Path]) -> None:
    files[1].write_text("[{")
    with pytest.raises(GsegError, match=r"1\.json"):
        cached_label_runs(files, threads=2)
    files[1].unlink()
    with pytest.raises(GsegError, match=r"1\.json"):
        cached_label_runs(files)
