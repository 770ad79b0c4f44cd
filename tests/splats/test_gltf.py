from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.splats import Placement, gltf
from gseg_ns.splats.gltf import write_glb
from gseg_ns.splats.scene import objects_of
from random_splats import make


def decode(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The document and the attributes of the only primitive, by the text of glTF 2.0 (sections 3.6, 4.4)."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    document = json.loads(data[20 : 20 + size])
    start = 20 + size
    binary, kind = struct.unpack_from("<I4s", data, start)
    assert kind == b"BIN\0"
    assert binary % 4 == 0
    assert start + 8 + binary == len(data)
    (buffer,) = document["buffers"]
    assert "uri" not in buffer
    assert buffer["byteLength"] <= binary <= buffer["byteLength"] + 3
    found = {}
    (primitive,) = document["meshes"][0]["primitives"]
    for name, index in primitive["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["target"] == 34962
        assert view["byteOffset"] % 4 == 0
        assert accessor["componentType"] == (5121 if name == "COLOR_0" else 5126)
        kind = "u1" if name == "COLOR_0" else "<f4"
        columns = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert view["byteLength"] == np.dtype(kind).itemsize * columns * accessor["count"]
        array = np.frombuffer(data, kind, columns * accessor["count"], start + 8 + view["byteOffset"])
        found[name] = array.reshape(-1, columns)
    return document, found


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_file_holds_the_splats(tmp_path: Path, degree: int) -> None:
    splats = make(degree=degree)
    write_glb(tmp_path / "a.glb", splats)
    document, found = decode(tmp_path / "a.glb")
    prefix = "KHR_gaussian_splatting:"
    named = {name.removeprefix(prefix): array for name, array in found.items()}
    coefficients = [f"SH_DEGREE_{d}_COEF_{n}" for d in range(degree + 1) for n in range(2 * d + 1)]
    assert set(named) == {"POSITION", "COLOR_0", "ROTATION", "SCALE", "OPACITY", *coefficients}
    assert all(len(array) == len(splats) for array in found.values())

    ours = Placement().with_up("y").of(splats)
    np.testing.assert_allclose(named["POSITION"], ours.means, atol=1e-6)
    np.testing.assert_allclose(named["POSITION"], splats.means[:, [0, 2, 1]] * torch.tensor([1, 1, -1]), atol=1e-6)
    np.testing.assert_allclose(named["SCALE"], ours.scales.exp(), rtol=1e-6)
    assert (named["SCALE"] > 0).all()
    np.testing.assert_allclose(named["OPACITY"][:, 0], ours.opacities.sigmoid(), rtol=1e-6)
    assert ((named["OPACITY"] >= 0) & (named["OPACITY"] <= 1)).all()
    np.testing.assert_allclose(np.linalg.norm(named["ROTATION"], axis=1), 1, atol=1e-6)
    unit = torch.nn.functional.normalize(ours.quats, dim=-1)
    np.testing.assert_allclose(named["ROTATION"], unit[:, [1, 2, 3, 0]], atol=1e-6)
    np.testing.assert_allclose(np.stack([named[name] for name in coefficients], 1), ours.sh, atol=1e-6)
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    np.testing.assert_array_equal(np.float32(accessor["min"]), named["POSITION"].min(0))
    np.testing.assert_array_equal(np.float32(accessor["max"]), named["POSITION"].max(0))


def test_the_document_is_what_the_extension_asks_for(tmp_path: Path) -> None:
    """The published schema: `kernel` and `colorSpace` are required strings, the other two have these defaults."""
    write_glb(tmp_path / "a.glb", make())
    document, _ = decode(tmp_path / "a.glb")
    assert document["asset"]["version"] == "2.0"
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0  # points
    assert primitive["extensions"]["KHR_gaussian_splatting"] == {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }
    assert document["scenes"][document["scene"]]["nodes"] == [0]
    assert document["nodes"] == [{"name": "splats", "mesh": 0}]


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    splats = make(10)
    splats.opacities[:] = 1
    splats.opacities[3] = -8
    splats.means[4, 0] = float("nan")
    splats.quats[5] = 0
    write_glb(tmp_path / "a.glb", splats)
    _, found = decode(tmp_path / "a.glb")
    assert len(found["POSITION"]) == 8
    assert found["KHR_gaussian_splatting:ROTATION"][3].tolist() == [0, 0, 0, 1]
    with pytest.raises(GsegError, match="no Gaussian"):
        write_glb(tmp_path / "b.glb", splats.subset(torch.tensor([3, 4])))


def test_many_objects_of_any_name_are_nodes(tmp_path: Path) -> None:
    names = {group: f'a/b "{group % 7}" 🫖' for group in range(1, 1001)}
    write_glb(tmp_path / "a.glb", make(1000, 0), objects_of(torch.arange(1, 1001), names))
    document = json.loads(tmp_path.joinpath("a.glb").read_bytes()[20:].split(b"\0", 1)[0].split(b"BIN")[0][:-4])
    assert [node["name"] for node in document["nodes"]] == list(names.values())


def test_what_is_too_large_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gltf, "_LARGEST", 5000)
    with pytest.raises(GsegError, match="4 GiB"):
        write_glb(tmp_path / "a.glb", make())
    assert not any(tmp_path.iterdir())
