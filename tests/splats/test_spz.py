from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.splats import Placement, Splats
from gseg_ns.splats.spz import write_spz
from random_splats import make


def decode(path: Path) -> dict[str, np.ndarray]:
    """SPZ version 3 by its published description, written without looking at any library."""
    data = gzip.decompress(path.read_bytes())
    magic, version, count, degree, bits, _, _ = struct.unpack_from("<IIIBBBB", data)
    assert (magic, version) == (0x5053474E, 3)
    sizes = {"positions": 9, "alphas": 1, "colors": 3, "scales": 3, "rotations": 4, "sh": 3 * ((degree + 1) ** 2 - 1)}
    raw, offset = {}, 16
    for name, size in sizes.items():
        raw[name] = np.frombuffer(data, np.uint8, count * size, offset).reshape(count, size).astype(np.int64)
        offset += count * size
    assert offset == len(data)
    p = raw["positions"].reshape(count, 3, 3) @ np.array([1, 256, 65536])
    word = raw["rotations"] @ np.array([1, 2**8, 2**16, 2**24])
    quats = np.zeros((count, 4))
    for row, w in enumerate(word):
        largest, rest = w >> 30, 1.0
        for i in (3, 2, 1, 0):
            if i != largest:
                value = (w & 511) / 511 * np.sqrt(0.5) * (-1 if w >> 9 & 1 else 1)
                quats[row, i], rest, w = value, rest - value**2, w >> 10
        quats[row, largest] = np.sqrt(max(rest, 0))
    return {
        "means": np.where(p >= 2**23, p - 2**24, p) / 2**bits,
        "opacities": raw["alphas"][:, 0] / 255,
        "dc": (raw["colors"] / 255 - 0.5) / 0.15,
        "scales": raw["scales"] / 16 - 10,
        "quats": quats[:, [3, 0, 1, 2]],
        "sh": (raw["sh"] - 128).reshape(count, -1, 3) / 128,
    }


def covariances(quats: Tensor, scales: Tensor) -> Tensor:
    from gsplat.cuda._torch_impl import _quat_scale_to_covar_preci

    return _quat_scale_to_covar_preci(quats, scales.exp(), compute_preci=False)[0]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_file_holds_the_splats(tmp_path: Path, degree: int) -> None:
    pytest.importorskip("gsply")
    splats = make(200, degree)
    write_spz(tmp_path / "a.spz", splats)
    fields = decode(tmp_path / "a.spz")
    ours = Placement().with_up("y").of(splats)  # the file's axes are right, up, back
    np.testing.assert_allclose(fields["means"], ours.means, atol=1e-5)
    np.testing.assert_allclose(fields["opacities"], torch.sigmoid(ours.opacities), atol=0.003)
    np.testing.assert_allclose(fields["dc"], ours.sh[:, 0], atol=0.014)
    np.testing.assert_allclose(fields["scales"], ours.scales, atol=0.032)
    np.testing.assert_allclose(fields["sh"], ours.sh[:, 1:].clamp(-1, 127 / 128), atol=0.005)
    unit = torch.nn.functional.normalize(ours.quats, dim=-1).double()
    assert (torch.from_numpy(fields["quats"]) * unit).sum(-1).abs().min() > 0.9999


def test_turned_back_it_is_the_same_scene(tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    splats = make(200, 1)
    write_spz(tmp_path / "a.spz", splats)
    data = gsply.read_spz(tmp_path / "a.spz")
    read = Splats(
        means=torch.from_numpy(np.array(data.means)),
        quats=torch.from_numpy(np.array(data.quats)),
        scales=torch.from_numpy(np.array(data.scales)),
        opacities=torch.from_numpy(np.array(data.opacities)).reshape(-1),
        sh=torch.from_numpy(np.concatenate([data.sh0[:, None], data.shN], axis=1)),
    )
    back = Placement(up="y").with_up("z").of(read)
    torch.testing.assert_close(back.means, splats.means, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(back.sh, splats.sh, atol=0.015, rtol=0)
    expected = covariances(splats.quats, splats.scales)
    assert ((covariances(back.quats, back.scales) - expected).norm(dim=(1, 2)) / expected.norm(dim=(1, 2))).max() < 0.1


def test_positions_keep_what_the_extent_leaves(tmp_path: Path) -> None:
    pytest.importorskip("gsply")
    splats = make(50, 0)
    splats.means *= 10000
    write_spz(tmp_path / "a.spz", splats)
    means = decode(tmp_path / "a.spz")["means"]
    np.testing.assert_allclose(means[:, [0, 2, 1]] * [1, -1, 1], splats.means, atol=0.02)
    splats.means[0, 0] = 1e8
    with pytest.raises(GsegError, match="4 million"):
        write_spz(tmp_path / "b.spz", splats)


def test_what_cannot_be_seen_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("gsply")
    splats = make(10, 0)
    splats.opacities[:] = 1
    splats.opacities[3] = -8
    splats.means[4, 0] = float("nan")
    write_spz(tmp_path / "a.spz", splats)
    assert len(decode(tmp_path / "a.spz")["means"]) == 8
    with pytest.raises(GsegError, match="no Gaussian"):
        write_spz(tmp_path / "b.spz", splats.subset(torch.tensor([3, 4])))


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsply", None)
    with pytest.raises(GsegError, match=r"'\.\[spz\]'"):
        write_spz(tmp_path / "a.spz", make(3, 0))
