from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gseg_ns.errors import GsegError
from gseg_ns.masks import (
    MaskSet,
    load_labels,
    load_masks,
    read_label_map,
    read_mask_set,
    write_label_map,
    write_mask_set,
)


@pytest.fixture
def mask_set() -> MaskSet:
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:5, 2:7] = True
    masks[1, 2, 3] = True
    extra = [{"stability_score": 0.9, "granularity": "whole"}, {"stability_score": 0.8, "point_coords": [[3.5, 2.5]]}]
    return MaskSet.from_arrays(masks, [0.75, 0.95], extra)


def test_json_round_trip(tmp_path: Path, mask_set: MaskSet) -> None:
    path = tmp_path / "deep" / "img.0001.json"
    write_mask_set(path, mask_set)
    read = read_mask_set(path)
    assert torch.equal(read.decode(), mask_set.decode())
    assert read.scores.tolist() == pytest.approx([0.75, 0.95])
    assert read.extra == mask_set.extra
    record = json.loads(path.read_text())[0]
    assert record["area"] == 20
    assert record["bbox"] == [2, 1, 5, 4]
    assert [p.name for p in path.parent.iterdir()] == ["img.0001.json"]


def test_dict_form_and_list_counts(tmp_path: Path, mask_set: MaskSet) -> None:
    from gseg_ns.masks.mask_set import rle_counts

    path = tmp_path / "a.json"
    annotations = [
        {"segmentation": {"size": [6, 8], "counts": rle_counts(rle).tolist()}, "score": 0.5} for rle in mask_set.rles
    ]
    path.write_text(json.dumps({"image": {"height": 6, "width": 8}, "annotations": annotations}))
    read = read_mask_set(path)
    assert torch.equal(read.decode(), mask_set.decode())
    assert read.rles == mask_set.rles
    assert read.scores.tolist() == [0.5, 0.5]


def test_an_image_without_masks_keeps_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_mask_set(path, MaskSet(6, 8))
    assert (read_mask_set(path).height, read_mask_set(path).width, len(read_mask_set(path))) == (6, 8, 0)
    path.write_text("[]")
    assert load_labels(path, (6, 8)).tolist() == torch.zeros(6, 8).tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged or not JSON"),
        ('[{"segmentation": {"size": [2, 2], "counts": [4]}', "damaged or not JSON"),
        ("3", "not SA-1B"),
        ('{"info": 1}', "not SA-1B"),
        ("[3]", "mask 0"),
        ('[{"segmentation": [[1, 2, 3, 4]]}]', "run-length"),
        ('[{"segmentation": {"size": [2, 2], "counts": [5]}}]', "mask 0.*cover 5 pixels"),
        (
            '[{"segmentation": {"size": [2, 2], "counts": [1, 3]}}, '
            '{"segmentation": {"size": [1, 4], "counts": [1, 3]}}]',
            "mask 1.*1x4.*2x2",
        ),
        ('[{"segmentation": {"size": [2, 2], "counts": [4]}}]', "all 1 masks are empty"),
        ('[{"segmentation": {"size": [2, 2], "counts": [1, 3]}, "predicted_iou": NaN}]', "the number NaN"),
        ('[{"segmentation": {"size": [2, 2], "counts": [1, 3]}, "predicted_iou": "high"}]', "score"),
    ],
)
def test_damaged_json_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a b.json"
    path.write_text(text)
    with pytest.raises(GsegError, match=message) as caught:
        read_mask_set(path)
    assert "a b.json" in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    for read in (read_mask_set, read_label_map):
        with pytest.raises(GsegError, match="does not exist"):
            read(tmp_path / "none.json")


@pytest.mark.parametrize("largest", [1, 255, 256, 65535])
def test_label_map_round_trip(tmp_path: Path, largest: int) -> None:
    labels = torch.randint(0, largest + 1, (9, 11), dtype=torch.int32)
    labels[0, 0] = largest
    write_label_map(tmp_path / "a.png", labels)
    assert torch.equal(read_label_map(tmp_path / "a.png"), labels)


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="65535"):
        write_label_map(tmp_path / "a.png", torch.tensor([[65536]]))
    with pytest.raises(GsegError, match=r"a\.png"):
        write_label_map(tmp_path / "a.png", torch.tensor([[-1]]))
    assert not list(tmp_path.iterdir())


def test_png_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    labels = np.array([[0, 1, 2], [3, 4, 250]], dtype=np.uint8)
    Image.fromarray(labels).save(path)
    assert read_label_map(path).tolist() == labels.tolist()
    palette = Image.fromarray(labels).convert("P")
    palette.putdata(labels.flatten().tolist())
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(path)
    assert read_label_map(path).tolist() == labels.tolist()
    Image.fromarray(labels > 1).save(path)
    assert read_label_map(path).tolist() == (labels > 1).astype(int).tolist()
    Image.fromarray(np.stack([labels] * 3, axis=-1)).save(path)
    assert read_label_map(path).tolist() == labels.tolist()
    colors = np.zeros((1, 2, 3), dtype=np.uint8)
    colors[0, 1] = (1, 2, 3)
    Image.fromarray(colors).save(path)
    assert read_label_map(path).tolist() == [[0, 1 + 2 * 256 + 3 * 65536]]
    alpha = np.concatenate([np.full((1, 2, 3), 7), [[[0], [255]]]], axis=-1).astype(np.uint8)
    Image.fromarray(alpha).save(path)
    assert read_label_map(path).tolist() == [[0, 7]]


def test_damaged_pngs_name_the_file(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "a.png"
    write_label_map(path, torch.randint(0, 9, (60, 60), dtype=torch.int32))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(GsegError, match=r"a\.png.*damaged"):
        read_label_map(path)
    path.write_bytes(b"no png at all, but long enough for a header")
    with pytest.raises(GsegError, match=r"a\.png is not a PNG"):
        read_label_map(path)
    cv2.imwrite(str(path), np.zeros((3, 3, 3), dtype=np.uint16))
    with pytest.raises(GsegError, match="16-bit colors"):
        read_label_map(path)


def test_load_either_kind(tmp_path: Path, mask_set: MaskSet) -> None:
    write_mask_set(tmp_path / "a.json", mask_set)
    labels = load_labels(tmp_path / "a.json")
    assert labels.unique().tolist() == [0, 1, 2]
    write_label_map(tmp_path / "b.png", labels)
    assert torch.equal(load_labels(tmp_path / "b.png", (12, 16))[::2, ::2], labels)
    masks = load_masks(tmp_path / "b.png", (12, 16))
    assert len(masks) == 2
    assert (masks.height, masks.width) == (12, 16)


def test_masks_of_a_scene(small_scene: Path) -> None:
    masks = read_mask_set(small_scene / "masks" / "frame_00000.json")
    stated = json.loads((small_scene / "masks" / "frame_00000.json").read_text())
    assert len(masks) > 5
    assert masks.areas.tolist() == [record["area"] for record in stated]
    assert masks.bboxes.tolist() == [record["bbox"] for record in stated]


SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]


@pytest.mark.parametrize(
    ("content", "scores"),
    [
        (  # Grounded-SAM-2
            {"annotations": [{"segmentation": {"size": [6, 8], "counts": [12, 36]}, "score": [0.5]}], "img_width": 8},
            [0.5],
        ),
        (  # COCO's polygons
            {"image": {"height": 6, "width": 8}, "annotations": [{"segmentation": [SQUARE], "score": None}]},
            [1.0],
        ),
        (  # X-AnyLabeling and LabelMe
            {
                "imageHeight": 6,
                "imageWidth": 8,
                "shapes": [
                    {"points": [[2, 1], [6, 1], [6, 4], [2, 4]], "shape_type": "polygon", "score": 0.75},
                    {"points": [[2, 1], [6, 4]], "shape_type": "rectangle", "score": None},
                ],
            },
            [0.75, 1.0],
        ),
    ],
    ids=["list of one score", "polygons", "shapes"],
)
def test_dialects_of_json(tmp_path: Path, content: dict[str, object], scores: list[float]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    masks = read_mask_set(tmp_path / "a.json")
    assert (masks.height, masks.width) == (6, 8)
    assert masks.scores.tolist() == scores
    if content.get("img_width"):
        assert masks.areas.tolist() == [36]
        return
    for mask in masks.decode():
        assert mask[1:4, 2:6].all()
        assert int(mask.sum()) <= 20


def test_a_polygon_without_the_images_size_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"segmentation": [SQUARE]}]))
    with pytest.raises(GsegError, match="image whose size is known"):
        read_mask_set(tmp_path / "a.json")


def test_smoothed_edges_of_a_mask_are_no_labels(tmp_path: Path) -> None:
    white = np.zeros((120, 160), np.uint8)
    white[30:90, 40:110] = 255
    small = Image.fromarray(white).resize((80, 60), Image.Resampling.BILINEAR)
    smooth = small.resize((160, 120), Image.Resampling.BICUBIC)
    assert len(np.unique(np.asarray(smooth))) > 20
    for mode in ("L", "RGB", "RGBA"):
        smooth.convert(mode).save(tmp_path / "m.png")
        found = read_label_map(tmp_path / "m.png").numpy()
        assert set(np.unique(found)) == {0, 255}
        assert ((found > 0) == (white > 0)).mean() > 0.98


def test_labels_beside_white_stay_labels(tmp_path: Path) -> None:
    labels = np.full((120, 160), 255, np.uint8)  # what is not labelled is white
    for number in range(20):
        labels[4 + 5 * number : 8 + 5 * number, 10:15] = number
    Image.fromarray(labels).save(tmp_path / "m.png")
    assert np.array_equal(read_label_map(tmp_path / "m.png").numpy(), labels)


def test_what_pascal_voc_leaves_open_is_no_label(tmp_path: Path) -> None:
    labels = np.zeros((8, 10), np.uint8)
    labels[2:6, 2:6], labels[1, 2:6] = 3, 255
    image = Image.fromarray(labels, mode="P")
    for last, kept in (((224, 224, 192), {0, 3}), ((10, 20, 30), {0, 3, 255})):
        image.putpalette([*range(255), *range(255), *range(255), *last])
        image.save(tmp_path / "m.png")
        assert set(read_label_map(tmp_path / "m.png").unique().tolist()) == kept
