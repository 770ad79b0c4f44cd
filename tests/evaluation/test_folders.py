from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gseg_ns.errors import GsegError
from gseg_ns.evaluation.folders import load_id_maps, read_ids


def save(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def test_common_views_are_loaded_and_the_rest_reported(tmp_path: Path) -> None:
    ids = (np.arange(12, dtype=np.uint16) * 300).reshape(3, 4)
    for name in ("a", "b", "c"):
        save(tmp_path / "gt" / f"{name}.png", ids)
    save(tmp_path / "pred" / "b.png", ids)
    save(tmp_path / "pred" / "c.png", np.kron(ids, np.ones((2, 2), np.uint16)))
    save(tmp_path / "pred" / "z.png", ids)
    maps = load_id_maps(tmp_path / "pred", tmp_path / "gt")
    assert maps.names == ("b", "c")
    assert maps.missing == ("a",)
    assert maps.resized == ("c",)
    assert maps.gt[0].max() == 3300
    assert maps.pred[1].tolist() == ids.tolist()


def test_png_of_every_depth_and_npy(tmp_path: Path) -> None:
    maps: dict[str, np.ndarray] = {
        "eight": np.array([[0, 255]], np.uint8),
        "sixteen": np.array([[0, 65535]], np.uint16),
        "thirtytwo": np.array([[0, 70000]], np.int32),
        "bits": np.array([[False, True]]),
    }
    for name, ids in maps.items():
        path = tmp_path / f"{name}.png"
        if ids.dtype == np.int32:  # Pillow writes mode I as 16 bits: only .npy holds more
            path = path.with_suffix(".npy")
            np.save(path, ids)
        else:
            Image.fromarray(ids).save(path)
        assert read_ids(path).tolist() == ids.astype(int).tolist(), name
    palette = Image.fromarray(np.array([[3, 9]], np.uint8), "P")
    palette.putpalette([i % 256 for i in range(768)])
    palette.save(tmp_path / "palette.png")
    assert read_ids(tmp_path / "palette.png").tolist() == [[3, 9]]


def test_no_view_in_common(tmp_path: Path) -> None:
    save(tmp_path / "pred" / "x.png", np.zeros((2, 2), np.uint8))
    save(tmp_path / "gt" / "y.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(GsegError, match=r"no view in common.* x.* y"):
        load_id_maps(tmp_path / "pred", tmp_path / "gt")


def test_bad_folders(tmp_path: Path) -> None:
    save(tmp_path / "gt" / "y.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(GsegError, match="not a folder"):
        load_id_maps(tmp_path / "none", tmp_path / "gt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GsegError, match="no label map"):
        load_id_maps(tmp_path / "empty", tmp_path / "gt")
    np.save(tmp_path / "gt" / "y.npy", np.zeros((2, 2), int))
    with pytest.raises(GsegError, match="two masks for y"):
        load_id_maps(tmp_path / "gt", tmp_path / "gt")


def test_files_that_are_no_label_maps(tmp_path: Path) -> None:
    np.save(tmp_path / "float.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(GsegError, match=r"float\.npy holds float32"):
        read_ids(tmp_path / "float.npy")
    np.save(tmp_path / "flat.npy", np.zeros(4, int))
    with pytest.raises(GsegError, match="two dimensions"):
        read_ids(tmp_path / "flat.npy")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(GsegError, match=r"pickle\.npy"):
        read_ids(tmp_path / "pickle.npy")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(GsegError, match=r"broken\.png"):
        read_ids(tmp_path / "broken.png")
    with pytest.raises(GsegError, match="does not exist"):
        read_ids(tmp_path / "none.png")
