from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin

from gseg_ns.errors import GsegError
from gseg_ns.masks.orientation import exif_orientation, fits_upright_alone, mask_index, same_proportions

STORED = torch.arange(1, 4 * 6 + 1).reshape(4, 6).int()


def save(path: Path, orientation: int) -> Image.Image:
    image = Image.fromarray(STORED.numpy().astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return Image.open(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_masks_are_turned_back(tmp_path: Path, orientation: int) -> None:
    upright = ImageOps.exif_transpose(save(tmp_path / "a.png", orientation))
    assert upright is not None
    mask = torch.from_numpy(np.array(upright)).int()
    assert exif_orientation(tmp_path / "a.png") == orientation
    index = mask_index("m", tuple(mask.shape), (4, 6), orientation, upright=True)
    assert torch.equal(mask if index is None else mask.flatten()[index], STORED)


@pytest.mark.parametrize("behind", [False, True])
def test_tags_of_a_png_are_found_without_its_pixels(
    tmp_path: Path, behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    save(path, 6)
    chunks, at, data = [], 8, path.read_bytes()
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        chunks.append(data[at:end])
        at = end
    kinds = [chunk[4:8] for chunk in chunks]
    tags = chunks.pop(kinds.index(b"eXIf"))
    if behind:
        path.write_bytes(data[:8] + b"".join([*chunks[:-1], tags, chunks[-1]]))
        assert exif_orientation(path) == 6
    path.write_bytes(data[:8] + b"".join(chunks) if behind else data)

    def refuse(*_: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
    assert exif_orientation(path) == (1 if behind else 6)


def test_the_size_tells_who_turned(tmp_path: Path) -> None:
    assert fits_upright_alone((6, 4), (4, 6), 6)
    assert not fits_upright_alone((4, 6), (4, 6), 6)
    assert not fits_upright_alone((6, 4), (4, 6), 3)
    assert mask_index("m", (4, 6), (4, 6), 6) is None, "made from the pixels as stored"
    double = STORED.repeat_interleave(2, 0).repeat_interleave(2, 1)
    turned = torch.from_numpy(np.rot90(double.numpy(), -1).copy())
    index = mask_index("m", tuple(turned.shape), (4, 6), 6)
    assert index is not None
    assert torch.equal(turned.flatten()[index], STORED)


@pytest.mark.parametrize(
    ("mask", "orientation", "message"),
    [((6, 4), 1, "no EXIF tag"), ((6, 4), 3, "no EXIF tag"), ((40, 90), 6, "another picture")],
)
def test_other_proportions_are_refused(mask: tuple[int, int], orientation: int, message: str) -> None:
    with pytest.raises(GsegError, match=message):
        mask_index("m.png", mask, (40, 60) if mask[0] == 40 else (4, 6), orientation)


def test_rounding_is_no_other_proportion() -> None:
    assert same_proportions((171, 256), (4000, 6000))
    assert same_proportions((3997, 6000), (999, 1500))
    assert not same_proportions((256, 256), (4000, 6000))
    assert exif_orientation(Path("absent.jpg")) == 1
