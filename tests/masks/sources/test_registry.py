from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from gseg_ns.choices import MaskSourceName
from gseg_ns.cli.masks import Masks
from gseg_ns.cli.segment import Segment
from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskFolder, load_masks
from gseg_ns.masks.images import in_path_order, scene_images
from gseg_ns.masks.sources import SOURCES, GroundedConfig, Sam2Config, Sam3Config, Sam3VideoConfig, VideoConfig
from gseg_ns.masks.sources.registry import WORDED
from tiny_models import save_grounding_dino, save_sam2, save_sam2_video, save_sam3, save_sam3_video

WORDS = ("mug", "chair")


def test_the_command_line_offers_what_there_is() -> None:
    assert tuple(SOURCES) == get_args(MaskSourceName)
    assert WORDED == ("sam3", "grounded", "sam3-video")
    configs = Masks(Path("scene")).configs()
    assert {name: type(config) for name, config in configs.items()} == SOURCES


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", minversion="5")
    folder = tmp_path_factory.mktemp("models")
    for name, save in (
        ("dino", save_grounding_dino), ("sam2", save_sam2), ("video", save_sam2_video), ("sam3", save_sam3),
        ("sam3-video", save_sam3_video),
    ):  # fmt: skip
        save(folder / name)
    return folder


def options(models: Path) -> dict[str, dict[str, Any]]:
    lax = {"points_per_side": 2, "pred_iou_thresh": -1e3, "stability_score_thresh": 0.0, "box_nms_thresh": 0.99}
    everything = Sam2Config(model=str(models / "sam2"), **lax)  # type: ignore[arg-type]
    return {
        "sam2": {"sam2": everything},
        "sam3": {"sam3": Sam3Config(words=WORDS, model=str(models / "sam3"), threshold=0.0)},
        "grounded": {
            "grounded": GroundedConfig(words=WORDS, model=str(models / "dino"), sam=str(models / "sam2"), threshold=0.0)
        },
        "video": {"video": VideoConfig(model=str(models / "video"), stride=3, everything=everything)},
        "sam3-video": {"sam3_video": Sam3VideoConfig(words=WORDS, model=str(models / "sam3-video"), stride=3)},
    }


@pytest.mark.parametrize("name", ["sam2", "sam3", "grounded", "video", "sam3-video"])
def test_masks_and_segment_write_what_sources_find(name: str, models: Path, tiny_capture: Path) -> None:
    """The options of one source speak for it, in both commands; what is there is not made again."""
    given = options(models)[name]
    Masks(tiny_capture, output_dir=Path("found"), max_side=48, **given).main()
    images = scene_images(tiny_capture)
    files = MaskFolder(tiny_capture / "found").match([image.path for image in images])
    found = [load_masks(file) for file in files if file is not None]
    assert len(found) == len(images)
    assert all((masks.height, masks.width) == (36, 48) for masks in found)
    assert sum(len(masks) for masks in found) > 0
    records = [record for masks in found for record in masks.extra]
    assert any(record.get("label") in WORDS for record in records) == (name in WORDED)
    assert all("track" in record for record in records) == ("video" in name)
    written = {path: path.stat().st_mtime_ns for path in (tiny_capture / "found").glob("*.json")}
    Masks(tiny_capture, output_dir=Path("found"), max_side=48, **given).main()
    assert {path: path.stat().st_mtime_ns for path in (tiny_capture / "found").glob("*.json")} == written
    words = WORDS if name in WORDED else ()
    folder = Segment(tiny_capture, words, **given)._masks(tiny_capture, True)
    assert len(list((tiny_capture / folder).glob("[0-9].json"))) == len(images)


def test_video_sources_ask_for_all_pictures_together(models: Path, tiny_capture: Path) -> None:
    given = options(models)["video"]
    for more in ({"workers": 2}, {"shard": "1/2"}, {"dask": "local"}):
        with pytest.raises(GsegError, match="leave --shard, --workers and --dask out"):
            Masks(tiny_capture, **given, **more).main()  # type: ignore[arg-type]


def test_the_path_through_chosen_views_leads_from_each_to_the_nearest(tiny_capture: Path) -> None:
    images = scene_images(tiny_capture)
    assert in_path_order(tiny_capture, images) == images
    (tiny_capture / "views.json").write_text("{}")
    path = [image.key for image in in_path_order(tiny_capture, images)]
    assert path == ["0", "2", "4", "1", "3"]
