from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from gseg_ns.errors import GsegError
from gseg_ns.pictures import captioned, contact_sheet, read_png, write_mp4, write_png


def test_a_caption_stands_under_the_picture() -> None:
    picture = torch.rand(40, 120, 3)
    result = captioned(picture, "7 mug (123)", (255, 0, 0))
    assert result.shape == (40 + 21, 120, 3)
    torch.testing.assert_close(result[:40], picture, atol=1 / 255, rtol=0)
    assert result[50, 5].tolist() == [1.0, 0.0, 0.0]
    letters = (result[40:, 22:].amax(dim=-1) < 0.5).float()
    assert letters.sum() > 20
    assert not torch.equal(result, captioned(picture, "8 mug (123)", (255, 0, 0)))
    # what does not fit is cut, and the picture stays as wide
    assert captioned(picture, "a very long name of an object " * 5, (0, 0, 0)).shape == result.shape
    assert captioned(torch.rand(16, 16, 3), "7", (0, 0, 0)).shape[1] == 16


def test_a_film_and_a_picture(tmp_path: Path) -> None:
    frames = [torch.full((48, 64, 3), level / 5) for level in range(6)]
    frames[3] = torch.tensor([1.0, 0.0, 0.0]).expand(48, 64, 3)
    write_mp4(tmp_path / "a.mp4", iter(frames))
    film, read = cv2.VideoCapture(str(tmp_path / "a.mp4")), []
    while (answer := film.read())[0]:
        read.append(answer[1])
    assert len(read) == 6
    assert read[0].mean() < 20
    assert read[5].mean() > 235
    blue, _, red = read[3].mean(axis=(0, 1))
    assert red > 150 > 60 > blue
    write_png(tmp_path / "a.png", frames[3])
    assert np.asarray(Image.open(tmp_path / "a.png"))[0, 0].tolist() == [255, 0, 0]
    assert torch.equal(read_png(tmp_path / "a.png"), frames[3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(GsegError, match="Cannot write"):
        write_png(tmp_path / "file" / "a.png", frames[0])


def test_a_sheet_lays_pictures_out_on_white() -> None:
    sheet = contact_sheet([[torch.zeros(4, 6, 3), torch.zeros(4, 6, 3)], [torch.zeros(8, 12, 3)]], gap=2)
    assert sheet.shape == (10, 14, 3)
    assert not sheet[:4, :6].any()
    assert not sheet[6:, :6].any()
    assert sheet[6:, 8:].min() == 1
