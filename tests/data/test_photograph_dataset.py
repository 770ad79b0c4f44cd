from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gseg_ns.data.photograph_dataset import PhotographDataset
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
from gseg_ns.errors import GsegError
from posed_photographs import HEIGHT, WIDTH, change_json, write_json

NAMES = [f"v{i}.png" for i in range(3)]


def dataset(scene: Path) -> PhotographDataset:
    return PhotographDataset(GsegDataParserConfig(data=scene, eval_mode="all").setup().get_dataparser_outputs("train"))


def colors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH, 3)).astype(np.uint8) * 60


@pytest.mark.parametrize("mode", ["P", "L", "I;16", "1", "LA", "RGBA", "CMYK"])
def test_pixels_are_what_a_viewer_of_pictures_shows(tmp_path: Path, mode: str) -> None:
    scene = write_json(tmp_path, NAMES)
    picture = Image.fromarray(colors())
    if mode == "CMYK":
        change_json(scene, frames=lambda frame: frame | {"file_path": frame["file_path"].replace("png", "tif")})
        for name in NAMES:
            picture.convert("CMYK").save(scene / f"images/{name}".replace("png", "tif"))
    elif mode == "I;16":
        Image.fromarray(colors()[..., 0].astype(np.uint16) * 257).save(scene / "images/v0.png")
    else:
        picture.convert(mode, **({"palette": Image.Palette.ADAPTIVE} if mode == "P" else {})).save(
            scene / "images/v0.png"
        )
    pixels = dataset(scene).get_numpy_image(0)
    assert pixels.shape == (HEIGHT, WIDTH, 4 if "A" in mode else 3)
    if mode == "I;16":
        assert np.array_equal(pixels, np.repeat(colors()[..., :1], 3, axis=2))
    else:
        shown = picture if mode == "P" else picture.convert(mode)
        assert np.abs(pixels[..., :3].astype(int) - np.asarray(shown.convert("RGB"))).max() <= 1


def test_photometric_masks_of_any_kind_and_of_some_photographs(tmp_path: Path) -> None:
    scene = write_json(tmp_path, NAMES)
    kept = np.zeros((HEIGHT, WIDTH), np.uint8)
    kept[10:] = 255
    Image.fromarray(np.repeat(kept[..., None], 3, axis=2)).resize((2 * WIDTH, 2 * HEIGHT), 0).save(scene / "m.png")

    def masked(frame: dict) -> dict:
        return frame | {"mask_path": "m.png"} if frame["file_path"].endswith("v1.png") else frame

    change_json(scene, frames=masked)
    data = dataset(scene)
    assert np.array_equal(data.get_data(1)["mask"][..., 0].numpy(), kept > 0)
    assert bool(data.get_data(0)["mask"].all())


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    data = dataset(write_json(tmp_path, NAMES))
    (tmp_path / "images/v1.png").write_bytes(b"no picture")
    (tmp_path / "images/v2.png").unlink()
    for number in (1, 2):
        with pytest.raises(GsegError, match=rf"v{number}\.png"):
            data.get_data(number)
    assert data[2]["image"].shape == (HEIGHT, WIDTH, 3)
