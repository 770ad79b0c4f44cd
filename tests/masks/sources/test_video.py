"""Video models: tiny ones with random weights, and the joining of short tracks by stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest

from gseg_ns.errors import GsegError
from gseg_ns.masks.mask_set import MaskSet
from gseg_ns.masks.sources.base import Photo, SourceResult
from gseg_ns.masks.sources.sam2 import Sam2Config
from gseg_ns.masks.sources.video import (
    Joined,
    Sam3VideoConfig,
    Sam3VideoSource,
    VideoConfig,
    VideoSource,
    _stretches,
)
from tiny_models import save_sam2_video, save_sam3_video

HEIGHT, WIDTH = 40, 56


def photos(count: int) -> list[Photo]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return [Photo(PurePosixPath(f"{number}.png"), picture) for number, picture in enumerate(pixels)]


def test_tiny_sam2_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("transformers", minversion="5")
    save_sam2_video(tmp_path / "video")
    lax = Sam2Config(points_per_side=3, pred_iou_thresh=-1e3, stability_score_thresh=0.0, box_nms_thresh=0.99)
    config = VideoConfig(model=str(tmp_path / "video"), stride=2, everything=lax)
    assert config.settings()["everything"]["model"] == "video"
    results = list(config.setup("cpu").generate_all(photos(5)))
    assert len(results) == 5
    for result in results:
        masks = result.masks
        assert (masks.height, masks.width) == (HEIGHT, WIDTH)
        tracks = [record["track"] for record in masks.extra]
        assert len(tracks) == len(set(tracks)) > 0
        assert min(tracks) >= 1


def test_tiny_sam3_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("transformers", minversion="5")
    save_sam3_video(tmp_path / "video")
    config = Sam3VideoConfig(words=("mug", "chair"), model=str(tmp_path / "video"), stride=2)
    results = list(config.setup("cpu").generate_all(photos(3)))
    assert len(results) == 3
    for result in results:
        masks = result.masks
        assert (masks.height, masks.width) == (HEIGHT, WIDTH)
        assert {record["label"] for record in masks.extra} <= {"mug", "chair", ""}
        assert all((record["track"] == 0) == (record["label"] == "") for record in masks.extra)
    assert sum(len(result.masks) for result in results) > 3


def test_stretches_share_a_picture() -> None:
    assert _stretches(9, 4) == [(0, 4), (4, 8)]
    assert _stretches(10, 4) == [(0, 4), (4, 9)]
    assert _stretches(2, 8) == [(0, 1)]
    assert _stretches(1, 8) == [(0, 0)]
    assert _stretches(0, 8) == []


class Divider:
    """Finds bright columns of four pixels: a thing each."""

    def generate(self, photo: Photo, embed: bool) -> SourceResult:
        found = [photo.pixels[..., 0] == level for level in range(50, 250, 50)]
        kept = [mask for mask in found if mask.any()]
        return SourceResult(
            MaskSet.from_arrays(np.stack([np.zeros((HEIGHT, WIDTH), bool), *kept])[1:], [0.9] * len(kept))
        )


class Follower:
    """Follows things by their brightness."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def carry_all(self, pictures: Sequence[np.ndarray], masks: dict[int, np.ndarray]) -> list[dict[int, np.ndarray]]:
        self.lengths.append(len(pictures))
        levels = {number: int(pictures[0][..., 0][mask][0]) for number, mask in masks.items()}
        found = [{number: picture[..., 0] == level for number, level in levels.items()} for picture in pictures]
        return [{number: mask for number, mask in one.items() if mask.any()} for one in found]


def test_tracks_go_on_from_stretch_to_stretch() -> None:
    """Three things move to the right; one is gone after a while, and another comes."""
    pictures = []
    for number in range(13):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for place, level in enumerate((50, 100, 150, 200)):
            if (level != 100 or number < 7) and (level != 200 or number > 5):
                pixels[place * 10 : place * 10 + 6, 2 * number : 2 * number + 6] = level
        pictures.append(Photo(PurePosixPath(f"{number}.png"), pixels))
    follower = Follower()
    source = VideoSource(Divider(), follower, VideoConfig(model="any", stride=4))  # type: ignore[arg-type]
    results = list(source.generate_all(pictures))
    assert len(results) == 13
    assert max(follower.lengths) <= 4
    of_level: dict[int, set[int]] = {}
    for result, photo in zip(results, pictures, strict=True):
        for record, mask in zip(result.masks.extra, result.masks.decode(), strict=True):
            [level] = np.unique(photo.pixels[..., 0][mask.numpy()])
            of_level.setdefault(int(level), set()).add(record["track"])
    assert sorted(of_level) == [50, 100, 150, 200]
    assert all(len(tracks) == 1 for tracks in of_level.values())
    assert len({track for tracks in of_level.values() for track in tracks}) == 4


def test_pictures_in_which_no_word_is_found_show_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, what the words name in other views would go on over all that is there."""
    source = Sam3VideoSource(None, None, Sam3VideoConfig(words=("mug",), stride=2))
    monkeypatch.setattr(source, "_follow", lambda pictures: ([{} for _ in pictures], {}, {}))
    for result in source.generate_all(photos(4)):
        assert result.masks.areas.tolist() == [HEIGHT * WIDTH]
        assert result.masks.extra == [{"label": "", "track": 0}]


def test_things_that_are_called_differently_are_not_one() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    joined = Joined()
    assert joined.join({}, {3: mask}, {3}, {3: "mug"}) == {3: 1}
    assert joined.join({7: mask}, {7: mask}, {7}, {7: "chair"}) == {7: 2}
    assert joined.join({9: mask}, {}, {9, 11}, {9: "chair"}) == {9: 2, 11: 3}
    assert joined.join({1: mask}, {}, {1}, {1: "chair"}) == {1: 4}


def test_what_is_missing_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", minversion="5")
    with pytest.raises(GsegError, match="give some"):
        Sam3VideoConfig().setup("cpu")
    with pytest.raises(GsegError, match="of 2 or more"):
        Sam3VideoConfig(words=("mug",), stride=1).setup("cpu")
    with pytest.raises(GsegError, match="of 2 or more"):
        VideoConfig(stride=1).setup("cpu")
    for config in (Sam3VideoConfig(words=("mug",), model=str(tmp_path)), VideoConfig(model=str(tmp_path))):
        with pytest.raises(GsegError, match="Cannot load") as caught:
            config.setup("cpu")
        assert "\n" not in str(caught.value)

    def gated(*_: object, **__: object) -> None:
        raise OSError("403 Client Error.\nCannot access gated repo")

    monkeypatch.setattr("transformers.Sam3VideoProcessor.from_pretrained", gated)
    with pytest.raises(GsegError, match="grants access by hand"):
        Sam3VideoConfig(words=("mug",)).setup("cpu")
    monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace())
    with pytest.raises(GsegError, match=r"needs transformers 5.*\[sam3\]"):
        Sam3VideoConfig(words=("mug",)).setup("cpu")
