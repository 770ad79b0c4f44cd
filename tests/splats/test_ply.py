from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from gseg_ns.errors import GsegError
from gseg_ns.splats import Splats, ply
from gseg_ns.splats.ply import read_ply, write_ply


def make(count: int, degree: int = 3) -> Splats:
    g = torch.Generator().manual_seed(count + degree)
    return Splats(
        means=torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g),
        opacities=torch.randn(count, generator=g),
        sh=torch.randn(count, (degree + 1) ** 2, 3, generator=g),
        extra={
            "label": torch.randint(0, 70000, (count,), generator=g, dtype=torch.int32),
            "rgb": torch.randint(0, 255, (count, 3), generator=g, dtype=torch.uint8),
            "obj_dc": torch.randn(count, 16, generator=g),
        },
    )


def assert_same(a: Splats, b: Splats) -> None:
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert list(a.extra) == list(b.extra)
    for name, column in a.extra.items():
        assert torch.equal(column, b.extra[name]), name
        assert column.dtype == b.extra[name].dtype, name


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_round_trip(tmp_path: Path, degree: int) -> None:
    splats = make(50, degree)
    write_ply(tmp_path / "a.ply", splats)
    assert_same(splats, read_ply(tmp_path / "a.ply"))


def test_rows_are_written_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splats = make(50)
    comments = ["element vertex 0"]
    write_ply(tmp_path / "whole.ply", splats, comments=comments)
    monkeypatch.setattr(ply, "_ROWS", 7)
    write_ply(tmp_path / "portions.ply", splats, comments=comments)
    assert (tmp_path / "portions.ply").read_bytes() == (tmp_path / "whole.ply").read_bytes()
    assert_same(splats, read_ply(tmp_path / "portions.ply"))


@pytest.mark.parametrize("form", ["ascii", "big"])
def test_other_encodings(tmp_path: Path, form: str) -> None:
    splats = make(20, 2)
    write_ply(tmp_path / "a.ply", splats)
    data = PlyData.read(tmp_path / "a.ply")["vertex"].data
    element = PlyElement.describe(np.array(data), "vertex")
    ply = PlyData([element], text=True) if form == "ascii" else PlyData([element], byte_order=">")
    ply.write(tmp_path / "b.ply")
    assert_same(splats, read_ply(tmp_path / "b.ply"))


def test_layout_is_that_of_3dgs(tmp_path: Path) -> None:
    splats = make(4, 1)
    write_ply(tmp_path / "a.ply", splats)
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:18] == [f"f_rest_{i}" for i in range(9)]
    assert names[18:26] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert names[26:30] == ["label", "red", "green", "blue"]
    # Channel-major: the first three are the red coefficients of the three degree-1 functions.
    for channel in range(3):
        for k in range(3):
            np.testing.assert_array_equal(vertex[f"f_rest_{3 * channel + k}"], splats.sh[:, 1 + k, channel])
    assert vertex["label"].dtype == np.dtype("<i4")
    assert vertex["red"].dtype == np.dtype("u1")


def test_open3d_reads_the_same_fields(tmp_path: Path) -> None:
    o3d = pytest.importorskip("open3d")
    splats = make(30, 3)
    write_ply(tmp_path / "a.ply", splats)
    cloud = o3d.t.io.read_point_cloud(str(tmp_path / "a.ply"))
    np.testing.assert_array_equal(cloud.point.positions.numpy(), splats.means)
    for i in range(45):
        expected = splats.sh[:, 1:].transpose(1, 2).reshape(30, 45)[:, i]
        np.testing.assert_array_equal(cloud.point[f"f_rest_{i}"].numpy()[:, 0], expected)
    np.testing.assert_array_equal(cloud.point["opacity"].numpy()[:, 0], splats.opacities)
    np.testing.assert_array_equal(cloud.point["label"].numpy()[:, 0], splats.extra["label"])


def test_further_properties(tmp_path: Path) -> None:
    splats = make(5, 0)
    splats.extra.clear()
    write_ply(
        tmp_path / "a.ply",
        splats,
        {"picked": torch.tensor([True, False, True, False, True]), "group": np.arange(5, dtype=np.int64)},
        comments=["made by a test"],
    )
    back = read_ply(tmp_path / "a.ply")
    assert back.extra["picked"].tolist() == [1, 0, 1, 0, 1]
    assert back.extra["group"].dtype == torch.int32
    assert PlyData.read(tmp_path / "a.ply").comments == ["made by a test"]


def test_missing_properties_are_named(tmp_path: Path) -> None:
    points = np.zeros(3, dtype=[("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1")])
    PlyData([PlyElement.describe(points, "vertex")]).write(tmp_path / "cloud.ply")
    with pytest.raises(GsegError, match=r"cloud\.ply is not a 3DGS PLY.*f_dc_0.*opacity.*rot_3"):
        read_ply(tmp_path / "cloud.ply")


@pytest.mark.parametrize("keep", [100, 1000, 4000, -1])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    write_ply(tmp_path / "a.ply", make(40))
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(data[:keep])
    with pytest.raises(GsegError, match=r"b\.ply"):
        read_ply(tmp_path / "b.ply")


@pytest.mark.parametrize(
    "content", [b"", b"not a ply", b"ply\nformat binary_little_endian 1.0\nend_header\n", b"\x80\x02cos"]
)
def test_not_a_ply(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(GsegError, match=r"a\.ply"):
        read_ply(tmp_path / "a.ply")


def test_absurd_count_and_odd_sh(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", make(4))
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "b.ply").write_bytes(data.replace(b"vertex 4", b"vertex 4000000000000"))
    with pytest.raises(GsegError, match=r"b\.ply"):
        read_ply(tmp_path / "b.ply")
    (tmp_path / "c.ply").write_bytes(data.replace(b"f_rest_44", b"f_last_44"))
    with pytest.raises(GsegError, match="44 f_rest"):
        read_ply(tmp_path / "c.ply")
    with pytest.raises(GsegError, match="does not exist"):
        read_ply(tmp_path / "none.ply")


def test_invalid_rows_are_dropped_on_request(tmp_path: Path) -> None:
    splats = make(6)
    splats.opacities[:] = 1.0
    splats.opacities[0] = -9.0
    splats.scales[3, 0] = float("inf")
    splats.quats[4, 2] = float("nan")
    write_ply(tmp_path / "a.ply", splats)
    assert len(read_ply(tmp_path / "a.ply")) == 6
    kept = read_ply(tmp_path / "a.ply", drop_invalid=True)
    assert torch.equal(kept.extra["label"], splats.extra["label"][torch.tensor([1, 2, 5])])


def test_what_cannot_be_written(tmp_path: Path) -> None:
    splats = make(3)
    path = tmp_path / "a.ply"
    with pytest.raises(GsegError, match="no Gaussian"):
        write_ply(path, splats.subset(torch.zeros(3, dtype=torch.bool)))
    with pytest.raises(GsegError, match="32 bits"):
        write_ply(path, splats, {"id": torch.tensor([2**40, 0, 0])})
    with pytest.raises(GsegError, match="expected"):
        write_ply(path, splats, {"id": torch.zeros(4)})
    with pytest.raises(GsegError, match="twice"):
        write_ply(path, splats, {"opacity": torch.zeros(3)})
    with pytest.raises(GsegError, match="type"):
        write_ply(path, splats, {"z0": np.zeros(3, dtype=np.complex64)})
    assert list(tmp_path.iterdir()) == []


def test_columns_numbered_with_gaps_stay_apart(tmp_path: Path) -> None:
    splats = make(3, 0)
    splats.extra.clear()
    write_ply(tmp_path / "a.ply", splats, {"w_1": torch.ones(3), "w_3": torch.zeros(3)})
    assert set(read_ply(tmp_path / "a.ply").extra) == {"w_1", "w_3"}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_leaves_the_former_file(tmp_path: Path) -> None:
    """A limit on the size of files fails a write half-way, as a full disk does."""
    import resource

    path = tmp_path / "object.ply"
    write_ply(path, make(3))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(GsegError, match=r"Cannot write .*object\.ply.*free space"):
            write_ply(path, make(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [file.name for file in tmp_path.iterdir()] == ["object.ply"]
    assert path.read_bytes() == before
