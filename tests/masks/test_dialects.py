"""Masks as other tools write them: folders as users have them, made here."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskFolder, load_labels, load_masks
from gseg_ns.masks.check import check
from gseg_ns.masks.dialects.label_studio import decode_brush
from gseg_ns.masks.images import scene_images

HEIGHT, WIDTH = 24, 32
LEFT = np.zeros((HEIGHT, WIDTH), dtype=bool)
LEFT[4:20, 3:12] = True
RIGHT = np.zeros((HEIGHT, WIDTH), dtype=bool)
RIGHT[8:16, 18:30] = True
OBJECTS = (LEFT, RIGHT)
LABELS = LEFT + 2 * RIGHT.astype(np.int32)
IMAGES = ("left/0001.jpg", "left/0002.jpg", "right/0001.jpg")


def rle(mask: np.ndarray, compressed: bool = True) -> dict[str, Any]:
    found = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    if compressed:
        return {"size": [HEIGHT, WIDTH], "counts": found["counts"].decode()}
    flat = mask.T.ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def corners(mask: np.ndarray) -> list[tuple[int, int]]:
    """The polygon of a rectangle."""
    y, x = np.nonzero(mask)
    left, top, right, bottom = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def flat(mask: np.ndarray) -> list[int]:
    return [value for point in corners(mask) for value in point]


def save(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path) if path.suffix == ".png" else np.save(path, content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")


def binary(mask: np.ndarray) -> np.ndarray:
    return (255 * mask).astype(np.uint8)


def coco_file(folder: Path, segmentation: Callable[[np.ndarray], Any], name: Callable[[str], str] = str) -> None:
    images = [{"id": 7 + i, "file_name": name(path), "height": HEIGHT, "width": WIDTH} for i, path in enumerate(IMAGES)]
    annotations = [
        {"id": 2 * i + j, "image_id": 7 + i, "category_id": 1, "segmentation": segmentation(mask), "iscrowd": 0}
        for i in range(len(IMAGES))
        for j, mask in enumerate(OBJECTS)
    ]
    save(folder / "instances_default.json", {"images": images, "annotations": annotations, "categories": []})


def brush(mask: np.ndarray) -> list[int]:
    """Label Studio's run lengths of a mask: an opaque picture where it is."""
    values = np.repeat(binary(mask).ravel(), 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 8, 9, 16))
    edges = np.flatnonzero(np.diff(values)) + 1
    for start, end in zip([0, *edges], [*edges, len(values)], strict=True):
        if end - start <= 8:  # written one by one
            bits += f"0{0:02b}{end - start - 1:03b}" + "".join(f"{value:08b}" for value in values[start:end])
        else:
            bits += f"1{3:02b}{end - start - 1:016b}{values[start]:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def label_studio(folder: Path, value: Callable[[np.ndarray], dict[str, Any]], image: Callable[[str], str]) -> None:
    tasks = []
    for path in IMAGES:
        results = [
            {"original_width": WIDTH, "original_height": HEIGHT, "type": "x", "value": value(mask)} for mask in OBJECTS
        ]
        cancelled = {"was_cancelled": True, "result": results[:1]}
        tasks.append({"data": {"image": image(path)}, "annotations": [cancelled, {"result": results}]})
    save(folder / "project-1-at-2026-01-01.json", tasks)


def percent(mask: np.ndarray) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(mask)]


def cvat(folder: Path, shape: Callable[[np.ndarray], str]) -> None:
    images = "".join(
        f'<image id="{i}" name="{path}" width="{WIDTH}" height="{HEIGHT}">{"".join(map(shape, OBJECTS))}</image>'
        for i, path in enumerate(IMAGES)
    )
    save(folder / "annotations.xml", f'<?xml version="1.0" encoding="utf-8"?><annotations>{images}</annotations>')


def cvat_mask(mask: np.ndarray) -> str:
    (left, top), _, (right, bottom), _ = corners(mask)
    # One column and row of what is not the mask.
    part = mask[top - 1 : bottom, left - 1 : right].ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], part, [2]])))
    runs = ", ".join(map(str, np.diff(np.concatenate([[0], edges]))))
    place = f'left="{left - 1}" top="{top - 1}" width="{right - left + 1}" height="{bottom - top + 1}"'
    return f'<mask label="thing" rle="{runs}" {place} z_order="0"></mask>'


def each(content: Callable[[], Any], pattern: str) -> Callable[[Path], None]:
    """A file for each image."""

    def write(folder: Path) -> None:
        for path in IMAGES:
            stem = PurePosixPath(path)
            save(folder / pattern.format(parent=stem.parent, stem=stem.stem, name=stem.name), content())

    return write


def amg(folder: Path) -> None:
    for path in IMAGES:
        inner = folder / PurePosixPath(path).with_suffix("")
        for number, mask in enumerate(OBJECTS):
            save(inner / f"{number}.png", binary(mask))
        save(inner / "metadata.csv", "id,area,bbox_x0,predicted_iou,stability_score\n0,1,0,0.75,0.9\n1,1,0,0.5,0.9\n")


def numbered(folder: Path) -> None:
    for path in IMAGES:
        for number, mask in enumerate(OBJECTS):
            save(
                folder / PurePosixPath(path).parent / f"{PurePosixPath(path).stem}_mask_{number + 9}.png", binary(mask)
            )


def by_object(folder: Path) -> None:
    """SAM 2's `vos_inference.py --per_obj_png_file`."""
    for path in IMAGES:
        for number, mask in enumerate(OBJECTS):
            save(folder / f"{number + 1:03d}" / PurePosixPath(path).with_suffix(".png"), binary(mask))


def shapes(grouped: bool = False) -> dict[str, Any]:
    found = []
    for number, mask in enumerate(OBJECTS):
        points = corners(mask)
        parts = [points]
        if grouped:  # in two halves, as what is behind something else
            (left, top), (right, _), (_, bottom), _ = points
            middle = (top + bottom) // 2
            parts = [[(left, top), (right, middle)], [(left, middle), (right, bottom)]]
        for part in parts:
            kind = "rectangle" if len(part) == 2 else "polygon"
            group = number if grouped else None
            found.append({"label": "thing", "shape_type": kind, "points": part, "group_id": group, "flags": {}})
    found.append({"label": "place", "shape_type": "point", "points": [(1, 1)], "group_id": None})
    return {"version": "3", "shapes": found, "imageHeight": HEIGHT, "imageWidth": WIDTH, "imageData": None}


def labelme_masks() -> dict[str, Any]:
    """What LabelMe's AI tool writes: a PNG of the box."""
    found = []
    for mask in OBJECTS:
        (left, top), _, (right, bottom), _ = corners(mask)
        stream = io.BytesIO()
        Image.fromarray(mask[top:bottom, left:right]).save(stream, format="PNG")
        text = base64.b64encode(stream.getvalue()).decode()
        box = [[left, top], [right - 1, bottom - 1]]
        found.append({"label": "thing", "shape_type": "mask", "points": box, "mask": text})
    return {"shapes": found, "imageHeight": HEIGHT, "imageWidth": WIDTH}


def rgb_ids() -> np.ndarray:
    """Ids of several bytes as colors, as panoptic PNGs and DEVA have them."""
    ids = np.where(LABELS == 1, 70_000, np.where(LABELS == 2, 3, 0))
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)


def palette(folder: Path) -> None:
    for path in IMAGES:
        image = Image.fromarray(LABELS.astype(np.uint8), mode="P")
        image.putpalette([0, 0, 0, 250, 50, 83, 51, 221, 255])
        (folder / "SegmentationObject" / path).parent.mkdir(parents=True, exist_ok=True)
        image.save((folder / "SegmentationObject" / path).with_suffix(".png"))
        save((folder / "SegmentationClass" / path).with_suffix(".png"), (LABELS > 0).astype(np.uint8))
    save(folder / "labelmap.txt", "# label:color_rgb:parts:actions")


def grounded_sam_2(folder: Path) -> None:
    for path in IMAGES:
        parent, stem = PurePosixPath(path).parent, PurePosixPath(path).stem
        save(folder / "mask_data" / parent / f"mask_{stem}.npy", LABELS.astype(np.uint16))
        said = {"mask_name": f"mask_{stem}.npy", "labels": {"1": {"instance_id": 1}}}
        save(folder / "json_data" / parent / f"mask_{stem}.json", said)


def beside_photographs(folder: Path) -> None:
    for path in IMAGES:
        inner = (folder / path).with_suffix(".png")
        save(inner, np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
        save(inner.with_suffix(".json"), shapes())


def records(**keys: Any) -> Callable[[], list[dict[str, Any]]]:
    """SA-1B's list; `keys` of each record may be functions of its mask."""
    return lambda: [{key: value(m) if callable(value) else value for key, value in keys.items()} for m in OBJECTS]


def grounded_sam() -> dict[str, Any]:
    annotations = [{"segmentation": rle(m), "score": [0.8], "class_name": "a"} for m in OBJECTS]
    return {"annotations": annotations, "box_format": "xyxy", "img_width": WIDTH, "img_height": HEIGHT}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    return rle(mask, compressed=False)


def shown_bytes(mask: np.ndarray) -> dict[str, Any]:
    return {**rle(mask), "counts": str(rle(mask)["counts"].encode())}


def polygons(mask: np.ndarray) -> list[list[int]]:
    return [flat(mask)]


def windows(folder: Path) -> None:
    coco_file(folder / "annotations", polygons, lambda name: "C:\\data\\" + name.replace("/", "\\"))


def brushes(folder: Path) -> None:
    def value(mask: np.ndarray) -> dict[str, Any]:
        return {"format": "rle", "rle": brush(mask), "brushlabels": ["thing"]}

    label_studio(folder, value, lambda name: f"s3://bucket/{name}")


def drawn_in_label_studio(folder: Path) -> None:
    def value(mask: np.ndarray) -> dict[str, Any]:
        return {"points": percent(mask), "closed": True, "polygonlabels": ["thing"]}

    label_studio(folder, value, lambda name: f"/data/local-files/?d=scene%2Fimages%2F{name.replace('/', '%2F')}")


def cvat_polygon(mask: np.ndarray) -> str:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(mask))
    return f'<polygon label="thing" points="{points}" z_order="0"/>'


def grey() -> np.ndarray:
    return LABELS.astype(np.uint8)


DIALECTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "sa-1b": (each(records(segmentation=rle, predicted_iou=0.9), "{parent}/{stem}.json"), "SA-1B"),
    "uncompressed": (each(records(segmentation=uncompressed, score=[0.9]), "{parent}/{name}.json"), "SA-1B"),
    "counts as Python shows bytes": (each(records(segmentation=shown_bytes), "{parent}/{stem}.json"), "SA-1B"),
    "truth values": (each(records(segmentation=np.ndarray.tolist), "{parent}/{stem}.json"), "SA-1B"),
    "grounded-sam-2": (each(grounded_sam, "{parent}/{stem}.json"), "Grounded-SAM-2"),
    "grounded-sam-2 tracked": (grounded_sam_2, "NumPy label map"),
    "coco polygons": (lambda folder: coco_file(folder, polygons), "COCO, one file for all images"),
    "coco run lengths": (lambda folder: coco_file(folder, uncompressed), "COCO, one file for all images"),
    "coco of another machine": (windows, "COCO, one file for all images"),
    "labelme": (each(shapes, "{parent}/{stem}.json"), "LabelMe"),
    "labelme masks": (each(labelme_masks, "{parent}/{stem}.json"), "LabelMe"),
    "x-anylabeling groups": (each(lambda: shapes(grouped=True), "{parent}/{stem}.json"), "LabelMe"),
    "labelme beside photographs": (beside_photographs, "LabelMe"),
    "label studio brushes": (brushes, "Label Studio"),
    "label studio polygons": (drawn_in_label_studio, "Label Studio"),
    "cvat masks": (lambda folder: cvat(folder, cvat_mask), "CVAT XML"),
    "cvat polygons": (lambda folder: cvat(folder, cvat_polygon), "CVAT XML"),
    "cvat segmentation masks": (palette, "palette"),
    "amg": (amg, "in a folder for each image"),
    "numbered": (numbered, "numbered"),
    "by object": (by_object, "in a folder for each object"),
    "name.jpg.png": (each(grey, "{parent}/{name}.png"), "8 bits, grey"),
    "16 bits": (each(lambda: (300 * LABELS).astype(np.uint16), "{parent}/{stem}.png"), "16 bits, grey"),
    "rgb ids": (each(rgb_ids, "Annotations/{parent}/{stem}.png"), "RGB ids"),
    "decorated": (each(grey, "{parent}/{stem}_masks.png"), "8 bits, grey"),
    "a folder in common": (each(grey, "video/{parent}/{stem}.png"), "8 bits, grey"),
    "stacks": (each(lambda: np.stack(OBJECTS)[:, None], "{parent}/{stem}.npy"), "NumPy stack"),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_folder_of_another_tool(tmp_path: Path, name: str) -> None:
    write, dialect = DIALECTS[name]
    write(tmp_path / "masks")
    files = MaskFolder(tmp_path / "masks").assign([PurePosixPath("images") / path for path in IMAGES])
    for file in files:
        assert file is not None
        assert dialect in file.dialect
        masks = load_masks(file).decode().numpy()
        assert len(masks) == 2
        # COCO's polygons take in the pixels that their outline touches.
        grown = "polygon" in name or "labelme" == name or "group" in name or "beside" in name or "another" in name
        for mask, truth in zip(masks if masks[0][10, 5] else masks[::-1], OBJECTS, strict=True):
            assert (mask & truth).sum() == truth.sum()
            assert (mask != truth).sum() <= (60 if grown else 0)
        labels = load_labels(file)
        assert labels.shape == (HEIGHT, WIDTH)
        assert len({int(labels[10, 5]), int(labels[10, 20]), 0}) == 3


def test_scores_of_amg_are_in_its_table(tmp_path: Path) -> None:
    amg(tmp_path)
    file = MaskFolder(tmp_path).find(PurePosixPath("images/right/0001.jpg"))
    assert file is not None
    assert load_masks(file).scores.tolist() == [0.75, 0.5]
    assert file.key == "right/0001"


def test_what_was_drawn_last_is_on_top(tmp_path: Path) -> None:
    def nested(z: tuple[int, int]) -> str:
        inner = np.zeros_like(LEFT)
        inner[8:12, 5:9] = True
        pairs = zip((inner, LEFT), z, strict=True)
        return "".join(cvat_mask(mask).replace('z_order="0"', f'z_order="{order}"') for mask, order in pairs)

    for z, top in (((1, 0), True), ((0, 0), False)):
        text = f'<annotations><image name="a.jpg" width="{WIDTH}" height="{HEIGHT}">{nested(z)}</image></annotations>'
        save(tmp_path / f"{top}.xml", text)
        file = MaskFolder(tmp_path / f"{top}.xml").find(PurePosixPath("images/a.jpg"))
        assert file is not None
        labels = load_labels(file, min_visible=0.0)
        assert (int(labels[9, 6]) != int(labels[5, 4])) == top


BOXES = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}],
    "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1], "segmentation": []}],
}
STAR = {"shapes": [{"shape_type": "star", "points": [[0, 0]]}], "imageHeight": 4, "imageWidth": 4}
SHORT_BRUSH = {"original_width": 4, "original_height": 4, "value": {"rle": [0, 0, 0, 9]}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", "", "JPEG changes labels"),
        ("a.txt", "0 0.1 0.2 0.3 0.4 0.5 0.6", "export COCO"),
        ("a.pkl", "", "pickles"),
        ("a.xml", "<annotation><object><bndbox/></object></annotation>", "no XML of CVAT"),
        ("annotations.xml", "<annotations><track><box/></track></annotations>", "CVAT for images"),
        ("annotations.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "entities"),
        ("annotations.xml", "<annotations><image", "damaged"),
        ("boxes.json", BOXES, r"boxes of a\.jpg and no masks"),
        ("a.json", {"shapes": [], "imagePath": "a.jpg"}, "no imageHeight"),
        ("a.json", STAR, "a damaged 'star'"),
        ("ls.json", [{"data": {"image": "a.jpg"}, "annotations": [{"result": [SHORT_BRUSH]}]}], "another image size"),
    ],
)
def test_what_cannot_be_read_is_one_message(tmp_path: Path, name: str, content: Any, message: str) -> None:
    save(tmp_path / name, content)

    def read() -> None:
        file = MaskFolder(tmp_path).find(PurePosixPath("images/a.jpg"))
        assert file is not None
        load_masks(file)

    with pytest.raises(GsegError, match=message):
        read()


def test_label_maps_are_no_objects_of_one_image(tmp_path: Path) -> None:
    for level in ("part", "object"):
        save(tmp_path / level / "a.png", np.arange(24, dtype=np.uint8).reshape(4, 6))
    file = MaskFolder(tmp_path).find(PurePosixPath("images/a.jpg"))
    assert file is not None
    with pytest.raises(GsegError, match=r"part/a\.png|object/a\.png"):
        load_masks(file)
    assert MaskFolder(tmp_path, (".png",)).find(PurePosixPath("images/a.jpg")) is None


def test_smooth_edges_and_cutouts_of_single_objects(tmp_path: Path) -> None:
    smooth = binary(LEFT)
    smooth[4, 3:12] = 100
    save(tmp_path / "a" / "0.png", smooth)
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 4)).astype(np.uint8)
    picture[..., 3] = binary(RIGHT)
    save(tmp_path / "a" / "1.png", picture)
    file = MaskFolder(tmp_path).find(PurePosixPath("images/a.jpg"))
    assert file is not None
    masks = load_masks(file).decode().numpy()
    assert (masks[0] != LEFT).sum() == 9
    assert (masks[1] == RIGHT).all()


def test_names_that_could_be_two(tmp_path: Path) -> None:
    for name in ("a_mask.png", "a_seg.png"):
        save(tmp_path / name, LABELS.astype(np.uint8))
    with pytest.raises(GsegError, match=r"both be of a\.jpg"):
        MaskFolder(tmp_path).find(PurePosixPath("images/a.jpg"))


def test_brushes_are_bounded() -> None:
    data = bytes(brush(LEFT))
    assert (decode_brush(data, 4 * HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 4)[..., 3] == binary(LEFT)).all()
    for damaged in (data[:-8], data[:3], data[:4] + b"\x00" * 40):
        with pytest.raises(ValueError, match="run lengths"):
            decode_brush(damaged, 4 * HEIGHT * WIDTH)


def test_check_names_the_dialect(tmp_path: Path) -> None:
    for path in IMAGES:
        inner = tmp_path / "images" / path
        inner.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(inner)
    coco_file(tmp_path / "masks", lambda m: rle(m))
    report = check(tmp_path / "masks", scene_images(tmp_path))
    assert report.dialects == {"COCO, one file for all images": 3}
    assert not report.missing
    assert not report.extra
    assert report.masks == [2, 2, 2]


def test_check_turns_masks_back(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "images" / "b.jpg")
    save(tmp_path / "masks" / "a.png", np.rot90(LABELS, -1).astype(np.uint8))
    save(tmp_path / "masks" / "b.png", np.rot90(LABELS, -1).astype(np.uint8).copy())
    report = check(tmp_path / "masks", scene_images(tmp_path))
    assert report.turned == ["a.png: 24x32, the image is 32x24"]
    assert report.wrong_size == ["b.png: 24x32, the image is 32x24"]
    assert torch.equal(load_labels(tmp_path / "masks" / "a.png"), torch.from_numpy(np.rot90(LABELS, -1).copy()).int())


# --------------------------------------------------------------------------------------------------- more of the kinds


def coco_of(ids: Callable[[int], Any], segments: list[Any]) -> dict[str, Any]:
    images = [{"id": ids(i), "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(IMAGES)]
    records = [{"id": 1, "image_id": i, "segmentation": part} for i in range(len(IMAGES)) for part in segments]
    return {"images": images, "annotations": records}


def found_in(folder: Path, image: str = IMAGES[0]) -> list[np.ndarray]:
    file = MaskFolder(folder).find(PurePosixPath("images") / image)
    assert file is not None
    return sorted(load_masks(file).decode().numpy(), key=lambda mask: -int(mask.sum()))


def test_ids_of_images_as_text_and_as_numbers_are_the_same(tmp_path: Path) -> None:
    save(tmp_path / "a.json", coco_of(str, [rle(LEFT), rle(RIGHT)]))
    assert np.array_equal(found_in(tmp_path)[0], LEFT)
    save(tmp_path / "a.json", coco_of(lambda i: f"x{i}", [rle(LEFT)]))
    with pytest.raises(GsegError, match="of no image that it lists"):
        found_in(tmp_path)


def test_specks_of_polygons_do_not_cost_the_file(tmp_path: Path) -> None:
    save(tmp_path / "a.json", coco_of(int, [[flat(LEFT)], [[]], [[1, 2, 3, 4]], [flat(RIGHT), [5, 5]]]))
    assert len(found_in(tmp_path)) == 2


def test_results_without_names_are_one_message(tmp_path: Path) -> None:
    records = [{"image_id": i, "segmentation": rle(LEFT), "score": 0.9} for i in range(3)]
    save(tmp_path / "coco_instances_results.json", records)
    with pytest.raises(GsegError, match="COCO's results, which name images by number alone"):
        MaskFolder(tmp_path).match([PurePosixPath("images") / path for path in IMAGES])


def test_pixels_as_zeros_and_ones(tmp_path: Path) -> None:
    each(records(segmentation=lambda mask: mask.astype(int).tolist()), "{parent}/{stem}.json")(tmp_path)
    assert np.array_equal(found_in(tmp_path)[0], LEFT)


@pytest.mark.parametrize(
    "array",
    [np.repeat(np.stack(OBJECTS, axis=2), 2, axis=1), LABELS[..., None].repeat(2, 1), LABELS[None].repeat(2, 2)],
    ids=["last", "one channel", "one channel first"],
)
def test_arrays_of_other_orders(tmp_path: Path, array: np.ndarray) -> None:
    save(tmp_path / "left/0001.npy", array)
    assert [int(mask.sum()) for mask in found_in(tmp_path)] == [2 * int(LEFT.sum()), 2 * int(RIGHT.sum())]


@pytest.mark.parametrize(
    "pattern",
    [
        "{parent}/{name}.mask.png",
        "{parent}/{stem}.mask.png",
        "{parent}/{stem}_gt.png",
        "{parent}/{stem}_instanceIds.png",
        "{parent}/{stem}_grounded_sam2_results.png",
        "{parent}/1.png",
        "{parent}/{stem}_jpg.rf.0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c.png",
    ],
)
def test_names_as_tools_decorate_them(tmp_path: Path, pattern: str) -> None:
    save(tmp_path / pattern.format(parent="left", stem="0001", name="0001.jpg"), grey())
    assert len(found_in(tmp_path)) == 2


def test_numbers_that_could_be_two_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "1.png", grey())
    save(tmp_path / "01.png", grey())
    with pytest.raises(GsegError, match="could both be of"):
        MaskFolder(tmp_path).find(PurePosixPath("images/0001.jpg"))
