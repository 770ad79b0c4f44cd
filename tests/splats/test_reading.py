from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from gseg_ns.errors import GsegError
from gseg_ns.splats import Placement, write_ply
from gseg_ns.splats.reading import read_splats
from gseg_ns.splats.spz import write_spz
from random_splats import make


def test_a_ply_is_read_by_its_suffix(tmp_path: Path) -> None:
    splats = make(20, 2)
    write_ply(tmp_path / "a.PLY", splats)
    assert torch.equal(read_splats(tmp_path / "a.PLY").means, splats.means)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_an_spz_is_read_as_it_was_written(tmp_path: Path, degree: int) -> None:
    pytest.importorskip("gsply")
    splats = make(50, degree)
    splats = splats.subset(splats.exportable())
    # Of y up already, so that writing turns nothing.
    write_spz(tmp_path / "a.spz", splats, Placement(up="y"))
    again = read_splats(tmp_path / "a.spz")
    assert again.sh_degree == degree
    assert torch.allclose(again.means, splats.means, atol=1e-4)
    assert torch.allclose(again.scales, splats.scales.clamp(-10, 5.9), atol=0.04)
    assert torch.allclose(again.opacities.sigmoid(), splats.opacities.sigmoid(), atol=0.004)
    assert torch.allclose(again.sh[:, 0], splats.sh[:, 0].clamp(-3.3, 3.3), atol=0.03)
    turn = torch.nn.functional.normalize(splats.quats, dim=1)
    assert ((again.quats * turn).sum(dim=1).abs() > 0.999).all()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", gzip.compress(b""), gzip.compress(b"x" * 40),
        gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, 2**31, 0, 12, 0, 0)),
        gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 9, 1, 0, 12, 0, 0)),
        gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, 5, 0, 12, 0, 0) + bytes(30)),
        gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, 5, 0, 12, 0, 0) + bytes(2**20)),
    ],
    ids=[
        "empty", "of another kind", "nothing", "no header", "too many", "another version", "too little", "too much",
    ],  # compressed bytes know the time, and names of tests must not
)  # fmt: skip
def test_a_damaged_spz_is_one_message(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("gsply")
    (tmp_path / "a.spz").write_bytes(content)
    with pytest.raises(GsegError, match=r"a\.spz"):
        read_splats(tmp_path / "a.spz")


def test_other_formats_and_missing_files_are_one_message(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="convert it"):
        read_splats(tmp_path / "a.ksplat")
    for suffix in ("ply", "spz"):
        with pytest.raises(GsegError, match="does not exist"):
            read_splats(tmp_path / f"a.{suffix}")
