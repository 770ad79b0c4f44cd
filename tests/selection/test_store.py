from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.selection import store
from gseg_ns.selection.store import (
    Fingerprint,
    check_name,
    load_group_names,
    load_selections,
    save_group_names,
    save_selections,
)


def test_round_trip(tmp_path: Path) -> None:
    means = torch.rand(101, 3)
    fingerprint = Fingerprint.of(means)
    masks = {"red mug": torch.rand(101) < 0.5, "Schüssel": torch.zeros(101, dtype=torch.bool)}
    save_selections(tmp_path / "run" / "selections.npz", masks, fingerprint)
    loaded = load_selections(tmp_path / "run" / "selections.npz", fingerprint)
    assert list(loaded) == list(masks)
    for name, mask in masks.items():
        assert torch.equal(loaded[name].unpack(), mask)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["selections.npz"]
    save_selections(tmp_path / "none.npz", {}, fingerprint)
    assert load_selections(tmp_path / "none.npz", fingerprint) == {}


def test_another_run_is_refused(tmp_path: Path) -> None:
    means = torch.rand(101, 3)
    save_selections(tmp_path / "s.npz", {"a": means[:, 0] > 0.5}, Fingerprint.of(means))
    with pytest.raises(GsegError, match="101 Gaussians, this run has 100"):
        load_selections(tmp_path / "s.npz", Fingerprint.of(means[:100]))
    with pytest.raises(GsegError, match="another run"):
        load_selections(tmp_path / "s.npz", Fingerprint.of(means + 1))


def test_copies_need_the_edits_that_made_them(tmp_path: Path) -> None:
    fingerprint, path = Fingerprint.of(torch.rand(10, 3)), tmp_path / "s.npz"
    appended = torch.tensor([4, 5, 6])
    copies = torch.arange(13) >= 11
    save_selections(path, {"copies": copies, "own": torch.arange(13) < 3}, fingerprint, appended)
    loaded = load_selections(path, fingerprint, torch.tensor([4, 5, 6, 1]))
    assert torch.equal(loaded.take("copies").unpack(), copies)
    assert loaded.take("own").length == 10
    for other in (None, torch.tensor([4, 5]), torch.tensor([4, 5, 7])):
        loaded = load_selections(path, fingerprint, other)
        assert list(loaded) == ["own"]
        with pytest.raises(GsegError, match="edits are not at hand"):
            loaded.take("copies")
        with pytest.raises(GsegError, match="It has: own, copies"):
            loaded.take("mug")
    with pytest.raises(GsegError, match="over 13 Gaussians"):
        save_selections(path, {"copies": copies}, fingerprint)


def test_files_of_the_first_format_are_read(tmp_path: Path) -> None:
    """They had no copies."""
    fingerprint, mask = Fingerprint.of(torch.rand(10, 3)), torch.arange(10) < 3
    save_selections(tmp_path / "s.npz", {"mug": mask}, fingerprint)
    with np.load(tmp_path / "s.npz") as archive:
        fields = {name: archive[name] for name in ("count", "digest", "names", "masks")}
    np.savez_compressed(tmp_path / "s.npz", format=np.array("gseg-selections-1"), **fields)
    loaded = load_selections(tmp_path / "s.npz", fingerprint, torch.tensor([4, 5]))
    assert torch.equal(loaded.take("mug").unpack(), mask)
    np.savez_compressed(tmp_path / "s.npz", format=np.array("gseg-selections-3"), **fields)
    with pytest.raises(GsegError, match="gseg-selections-3"):
        load_selections(tmp_path / "s.npz", fingerprint)


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    fingerprint = Fingerprint.of(torch.rand(10, 3))
    with pytest.raises(GsegError, match="no selection file"):
        load_selections(tmp_path / "s.npz", fingerprint)
    (tmp_path / "s.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(GsegError, match="not a selection file"):
        load_selections(tmp_path / "s.npz", fingerprint)
    np.savez(tmp_path / "t.npz", a=np.array([{"b": 1}], dtype=object))
    with pytest.raises(GsegError, match="not a selection file"):
        load_selections(tmp_path / "t.npz", fingerprint)


def test_a_mask_of_the_wrong_length_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="over 9 Gaussians"):
        save_selections(tmp_path / "s.npz", {"a": torch.zeros(9, dtype=torch.bool)}, Fingerprint.of(torch.rand(10, 3)))
    assert not (tmp_path / "s.npz").exists()


@pytest.mark.parametrize("name", ["a/b", "../x", "a\\b", "", ".hidden", "a\0b", "y" * 65])
def test_names(name: str) -> None:
    with pytest.raises(GsegError):
        check_name(name)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = Fingerprint.of(torch.rand(101, 3))
    for group in (-1, 2**31, 10**30):
        with pytest.raises(GsegError, match="There is no group"):
            save_group_names(tmp_path / "names.json", {(group, None): "mug"}, fingerprint)
    save_group_names(tmp_path / "names.json", {(2**31 - 1, None): "mug"}, fingerprint)
    assert load_group_names(tmp_path / "names.json", fingerprint) == {(2**31 - 1, None): "mug"}
    monkeypatch.setattr(store, "_MOST", 1000)
    masks = {f"selection {number}": torch.rand(101) < 0.5 for number in range(40)}
    with pytest.raises(GsegError, match="40 selections of 101 Gaussians"):
        save_selections(tmp_path / "s.npz", masks, fingerprint)
    save_selections(tmp_path / "s.npz", {"a": masks["selection 0"]}, fingerprint)
    assert list(load_selections(tmp_path / "s.npz", fingerprint)) == ["a"]
