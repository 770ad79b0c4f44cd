"""Every reader of files against damaged files: an error that names the file, or values of sense; never much memory.

A few thousand inputs run with the other tests. More: `pytest tests/test_fuzz.py --fuzz-inputs 100000`, and with another
`--fuzz-seed` other ones. An input that fails is kept, and its number and seed make it again.
"""

from __future__ import annotations

import base64
import copy
import gzip
import io
import json
import random
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement

import mutations as damage
import posed_photographs as support
import random_splats
from gseg_ns.errors import GsegError
from gseg_ns.splats import Splats

MOST_MEMORY = 500 * 2**20
MOST_SECONDS = 10.0


@dataclass(frozen=True)
class Target:
    """A file that something reads."""

    file: str
    """Its path within the folder of the target."""
    data: bytes
    """What it holds when it is whole."""
    mutate: damage.Mutate
    read: Callable[[Path], Any]
    """Reads it, and asserts that what it has read makes sense."""


def _finite(*values: Any) -> None:
    for value in values:
        assert bool(torch.as_tensor(value).isfinite().all())


# ----------------------------------------------------------------------------------------------------- splats and edits


def _read_ply(path: Path) -> Splats:
    from gseg_ns.splats.ply import read_ply

    splats = read_ply(path)
    assert splats.sh.shape[1] in (1, 4, 9, 16)
    kept = read_ply(path, drop_invalid=True)
    _finite(kept.means, kept.quats, kept.scales, kept.opacities, kept.sh)
    return splats


def _ply(folder: Path, text: bool = False) -> bytes:
    from gseg_ns.splats.ply import write_ply

    write_ply(folder / "made.ply", random_splats.make(12, 1 if text else 3))
    if text:
        whole = PlyData.read(folder / "made.ply", mmap=False)
        whole.text = True
        whole.write(folder / "made.ply")
    return (folder / "made.ply").read_bytes()


def _swap(path: Path) -> None:
    from gseg_ns.editing.operations import Swap, _read, evaluate
    from gseg_ns.selection.packed import PackedMask

    _read.cache_clear()
    splats = random_splats.make(30)
    scene = evaluate(splats, [Swap(PackedMask.pack(torch.arange(30) < 9), str(path))])
    _finite(scene.splats.means, scene.splats.scales, scene.splats.sh, scene.splats.opacities)


_SCENE = random_splats.make(40)


def _edits(folder: Path) -> bytes:
    from gseg_ns.editing import operations as kinds
    from gseg_ns.editing.edit_list import save_edits
    from gseg_ns.selection.packed import PackedMask
    from gseg_ns.selection.store import Fingerprint

    mask, other = PackedMask.pack(torch.arange(40) < 9), PackedMask.pack(torch.arange(40) > 30)
    operations: list[kinds.Operation] = [
        kinds.Recolor(mask, (0.1, 0.5, 1.0), amount=0.5),
        kinds.SetOpacity(mask, 0.5),
        kinds.Transform(mask, (1.0, 1.0, 0.0, 0.0), (1.0, 2.0, 3.0), 2.0, (0.0, 0.0, 1.0)),
        kinds.Duplicate(mask, (1.0, 0.0, 0.0)),
        kinds.Swap(mask, other),
        kinds.Remove(other),
        kinds.Hide(mask),
        kinds.Isolate(mask),
        kinds.ShowAll(),
    ]
    save_edits(folder / "made.json", operations, Fingerprint.of(_SCENE.means))
    return (folder / "made.json").read_bytes()


def _read_edits(path: Path) -> None:
    from gseg_ns.editing.edit_list import describe, load_edits
    from gseg_ns.editing.operations import evaluate
    from gseg_ns.selection.store import Fingerprint

    operations = load_edits(path, Fingerprint.of(_SCENE.means))
    try:
        scene = evaluate(_SCENE, operations)
    except GsegError as error:
        raise GsegError(f"{path}: {error}") from error  # of what the edits do, not of the file
    splats = scene.splats
    _finite(splats.means, splats.quats, splats.scales, splats.opacities, splats.sh)
    assert float(splats.means.abs().max()) < 1e9
    for operation in operations:
        assert describe(operation).isprintable()


# ------------------------------------------------------------------------------------------------------ beside the run


def _selections(folder: Path) -> bytes:
    from gseg_ns.selection.store import Fingerprint, save_selections

    masks = {"mug": torch.arange(40) < 9, "a cup": torch.arange(43) > 30}
    save_selections(folder / "made.npz", masks, Fingerprint.of(_SCENE.means), torch.tensor([1, 2, -1]))
    return (folder / "made.npz").read_bytes()


def _read_selections(path: Path) -> None:
    from gseg_ns.selection.store import Fingerprint, check_name, load_selections

    saved = load_selections(path, Fingerprint.of(_SCENE.means), torch.tensor([1, 2, -1]))
    for name, mask in saved.items():
        assert check_name(name) == name
        assert 40 <= mask.length <= 43
        assert mask.unpack().shape == (mask.length,)


def _names(folder: Path) -> bytes:
    from gseg_ns.selection.store import Fingerprint, save_group_names

    names: dict[Any, str] = {(1, None): "mug", (2, 0.5): "die Tasse", (3, None): "椅子"}
    save_group_names(folder / "made.json", names, Fingerprint.of(_SCENE.means))
    return (folder / "made.json").read_bytes()


def _read_names(path: Path) -> None:
    from gseg_ns.selection.store import Fingerprint, check_name, load_group_names

    for (group, scale), name in load_group_names(path, Fingerprint.of(_SCENE.means)).items():
        assert type(group) is int
        assert group >= 0
        assert scale is None or 0 <= scale <= 1
        assert check_name(name) == name
        name.encode()


def _vote_graph(folder: Path) -> bytes:
    from gseg_ns.lifting.text import VoteGraph

    graph = VoteGraph(torch.rand(6, 8).half(), torch.rand(6, 3), torch.rand(6, 3), torch.tensor([0, 0, 1, 1, -1, 1]))
    graph.save(folder / "made.npz")
    return (folder / "made.npz").read_bytes()


def _read_vote_graph(path: Path) -> None:
    from gseg_ns.lifting.text import VoteGraph

    graph = VoteGraph.read(path)
    _finite(graph.clip, graph.features, graph.gates)
    assert len(graph.clip) == len(graph.features) == len(graph.gates) == len(graph.targets)


def _checkpoint(folder: Path) -> bytes:
    parameters = {
        **{"means": _SCENE.means, "quats": _SCENE.quats, "scales": _SCENE.scales},
        **{"features_dc": _SCENE.sh[:, 0], "features_rest": _SCENE.sh[:, 1:], "opacities": _SCENE.opacities[:, None]},
    }
    state = {f"_model.gauss_params.{name}": value.clone() for name, value in parameters.items()}
    torch.save({"step": 9, "pipeline": state, "optimizers": {}, "rate": np.float64(0.5)}, folder / "made.ckpt")
    return (folder / "made.ckpt").read_bytes()


def _read_checkpoint(path: Path) -> None:
    from gseg_ns.models.trained_geometry import load_geometry

    splats = load_geometry(path.parents[1], "nerfstudio", {})
    assert splats.means.shape == (len(splats), 3)
    assert splats.means.dtype == torch.float32


def _dataparser_transforms(_: Path) -> bytes:
    return json.dumps({"transform": [[1.0, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 3]], "scale": 0.25}).encode()


def _read_dataparser_transforms(path: Path) -> None:
    from gseg_ns.models.trained_geometry import run_frame

    frame = run_frame(path.parent)
    assert frame is not None
    assert frame[0].shape in ((3, 4), (4, 4))
    _finite(frame[0], frame[1])
    assert frame[1] > 0


def _config(folder: Path) -> bytes:
    import yaml

    from gseg_ns.method_configs.gaga import gaga

    config = copy.deepcopy(gaga.config)
    config.data, config.output_dir = folder / "scene", folder
    return yaml.dump(config).encode()


def _read_config(path: Path) -> None:
    from nerfstudio.engine.trainer import TrainerConfig

    from gseg_ns.runs.safe_config import read_config

    config = read_config(path)
    assert isinstance(config, TrainerConfig)
    assert isinstance(config.experiment_name, str | None)
    assert isinstance(config.data, Path | None)
    assert callable(config.pipeline.model.setup)


# ---------------------------------------------------------------------------------------------------------------- masks


def _masks() -> Any:
    from gseg_ns.masks import MaskSet

    masks = torch.zeros(4, 30, 40, dtype=torch.bool)
    masks[0, 2:20, 3:30] = masks[1, 10:28, 8:38] = masks[2, 5:9, 5:9] = masks[3, :, :2] = True
    return MaskSet.from_arrays(masks, [0.9, 0.8, 0.7, 0.95], [{"id": i, "point": [1.5, 2]} for i in range(4)])


def _sa1b(folder: Path) -> bytes:
    from gseg_ns.masks.io import write_mask_set

    write_mask_set(folder / "made.json", _masks())
    return (folder / "made.json").read_bytes()


def _sa1b_lists(_: Path) -> bytes:
    from gseg_ns.masks.mask_set import rle_counts

    masks = _masks()
    records = [
        {"segmentation": {"size": [30, 40], "counts": rle_counts(rle).tolist()}, "score": 0.5} for rle in masks.rles
    ]
    return json.dumps({"image": {"height": 30, "width": 40}, "annotations": records}).encode()


def _read_masks(path: Path) -> None:
    from gseg_ns.masks import load_labels, read_mask_set

    masks = read_mask_set(path)
    _finite(masks.scores)
    assert len(masks.scores) == len(masks.rles) == len(masks.extra)
    assert all(0 <= area <= masks.height * masks.width for area in masks.areas.tolist())
    labels = load_labels(path)
    assert labels.shape == (masks.height, masks.width)
    assert int(labels.min()) >= 0
    assert int(labels.max()) <= len(masks)


def _tool(name: str) -> Callable[[Path], bytes]:
    """An export of an annotation tool, of one image of 30x40 pixels."""
    outline, size = [[3.0, 2.0], [30.0, 2.0], [30.0, 20.0], [3.0, 20.0]], {"height": 30, "width": 40}
    flat = [value for point in outline for value in point]
    picture = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) % 2 * 255).save(picture, format="PNG")
    shapes = [
        {"label": "a", "shape_type": "polygon", "points": outline, "group_id": 1},
        {"label": "a", "shape_type": "rectangle", "points": outline[::2], "group_id": 1},
        {"label": "b", "shape_type": "circle", "points": outline[:2], "score": 0.5},
        {
            **{"label": "c", "shape_type": "mask", "points": [[1, 1], [8, 6]]},
            "mask": base64.b64encode(picture.getvalue()).decode(),
        },
    ]
    bits = f"{30 * 40 * 4:032b}{7:05b}" + f"{15:04b}" * 4 + f"100{1199:016b}{255:08b}" + f"100{3599:016b}{0:08b}"
    bits += "0" * (-len(bits) % 8)
    drawn = [
        {"rle": [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)], "brushlabels": ["a"]},
        {"points": [[10.0, 20.0], [60.0, 20.0], [60.0, 70.0]], "polygonlabels": ["b"]},
        {"x": 10.0, "y": 20.0, "radiusX": 5.0, "radiusY": 9.0, "rotation": 30.0},
        {"x": 10.0, "y": 20.0, "width": 50.0, "height": 30.0, "rotation": 10.0},
    ]
    results = [{"original_width": 40, "original_height": 30, "value": value} for value in drawn]
    mask = '<mask label="d" rle="10, 20, 18" left="2" top="3" width="8" height="6" z_order="1"/>'
    points = ";".join(f"{x},{y}" for x, y in outline)
    inner = (
        f'<polygon label="a" points="{points}" group_id="1"/><box label="b" xtl="1" ytl="2" xbr="9" ybr="8" '
        f'rotation="20"/><ellipse label="c" cx="9" cy="8" rx="4" ry="5"/>{mask}'
    )
    documents: dict[str, Any] = {
        "coco": {
            "images": [{"id": 7, "file_name": "a.png", **size}],
            "annotations": [
                {"image_id": 7, "segmentation": [flat]},
                {"image_id": 7, "segmentation": {"size": [30, 40], "counts": [100, 200, 900]}, "score": [0.5]},
            ],
        },
        "labelme": {"shapes": shapes, "imageHeight": 30, "imageWidth": 40},
        "label-studio": [{"data": {"image": "s3://b/a.png"}, "annotations": [{"result": results}]}],
    }
    xml = f'<annotations><image id="0" name="a.png" width="40" height="30">{inner}</image></annotations>'
    return lambda _: xml.encode() if name == "cvat" else json.dumps(documents[name]).encode()


def _read_tool(path: Path) -> None:
    from gseg_ns.masks.dialects.documents import document_masks, open_document
    from gseg_ns.masks.io import read_mask_set
    from gseg_ns.masks.paint import paint

    document = open_document(path)
    read = (
        [read_mask_set(path)]
        if document is None
        else [document_masks(path, entry) for entry in document.names.values()]
    )
    for masks in read:
        _finite(masks.scores)
        assert all(0 <= area <= masks.height * masks.width for area in masks.areas.tolist())
        assert int(paint(masks, min_score=-1e9).max()) <= len(masks)


def _damage_xml(data: bytes, rng: random.Random) -> bytes:
    """Other numbers and words within quotes; or a damaged text."""
    if rng.random() < 0.4:
        return damage.damage_text(data, rng)
    parts = data.split(b'"')
    at = 2 * rng.randrange(len(parts) // 2) + 1
    words = (
        b"",
        b"-1",
        b"0",
        b"99999",
        b"1000000000",
        b"9" * 400,
        b"nan",
        b"1e308",
        b"1,2;3,4;5,6",
        b"x" * 3000,
        b"1, 47",
    )
    parts[at] = rng.choice(words)
    return b'"'.join(parts)


def _objects_of_one_image(_: Path) -> bytes:
    return b"id,area,predicted_iou\n0,100,0.9\na,20,0.5\n"


def _read_objects_of_one_image(path: Path) -> None:
    from gseg_ns.masks.dialects.binary import read_objects

    for name in ("0.png", "1.png"):
        Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(path.parent / name)
    masks = read_objects([path.parent / name for name in ("0.png", "1.png")])
    assert len(masks) == 2
    _finite(masks.scores)


def _stack(_: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, _masks().decode().numpy())
    return out.getvalue()


def _read_stack(path: Path) -> None:
    from gseg_ns.masks.dialects.binary import read_stack
    from gseg_ns.masks.mask_file import MaskFile

    assert MaskFile.of(path).is_label_map in (True, False)
    masks = read_stack(path)
    assert all(0 <= area <= masks.height * masks.width for area in masks.areas.tolist())


def _scores(_: Path) -> bytes:
    segments = [{"id": 1, "score": 0.5}, {"id": 300, "score": 1}, {"id": 4}]
    return json.dumps({"annotations": [{"file_name": "a.png", "segments_info": segments}]}).encode()


def _read_scores(path: Path) -> None:
    from gseg_ns.masks.sources.entity import read_scores

    for name, segments in read_scores(path).items():
        assert isinstance(name, str)
        for number, score in segments.items():
            assert number >= 0
            _finite(score)


def _settings(_: Path) -> bytes:
    return json.dumps(_job(Path()).settings()).encode()


def _job(folder: Path) -> Any:
    from gseg_ns.masks.generate import Job
    from gseg_ns.masks.sources.classical import ClassicalConfig

    return Job(ClassicalConfig(), folder)


def _read_settings(path: Path) -> None:
    from gseg_ns.masks.generate import prepare

    before = path.read_bytes()
    prepare(_job(path.parent), [], overwrite=False)
    assert path.read_bytes() == before


def _picture(form: str, mode: str) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        y, x = np.mgrid[:30, :40]
        colors = np.stack([x * 6, y * 8, x + y, 255 - x], axis=-1).astype(np.uint8)
        if mode == "I;16":
            image = Image.fromarray((x * 1000).astype(np.uint16))
        elif mode == "P":
            image = Image.fromarray((x // 8).astype(np.uint8), "P")
            image.putpalette([i % 256 for i in range(768)])
        else:
            image = Image.fromarray(colors, "RGBA").convert(mode)
        out = io.BytesIO()
        image.save(out, format=form, **({"compression": "tiff_lzw"} if form == "TIFF" else {}))
        return out.getvalue()

    return make


def _read_label_map(path: Path) -> None:
    from gseg_ns.evaluation.folders import read_ids
    from gseg_ns.masks import load_masks, read_label_map

    labels = read_label_map(path)
    assert labels.dtype == torch.int32
    assert labels.ndim == 2
    assert 0 <= int(labels.min()) <= int(labels.max()) < 2**24
    assert read_ids(path).shape == labels.shape
    assert (load_masks(path).areas > 0).all()


def _load_masks(path: Path) -> None:
    from gseg_ns.masks.load import load_masks

    assert (load_masks(path).areas > 0).all()


def _read_photograph(path: Path) -> None:
    from gseg_ns.captures.photographs import image_size
    from gseg_ns.evaluation.protocols.base import read_rgb
    from gseg_ns.masks.images import read_image

    size = image_size(path)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*size, 3)
    if path.suffix in (".png", ".jpg"):
        assert read_rgb(path).shape == pixels.shape


def _read_for_training(path: Path) -> None:
    from types import SimpleNamespace

    from gseg_ns.data.photograph_dataset import PhotographDataset

    dataset: Any = SimpleNamespace(image_filenames=[path], scale_factor=1.0)
    pixels = PhotographDataset.get_numpy_image(dataset, 0)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] in (3, 4)
    assert PhotographDataset._mask(dataset, path, (5, 6)).shape == (5, 6, 1)


def _read_picture(path: Path) -> None:
    from gseg_ns.masks.orientation import exif_orientation
    from gseg_ns.pictures import read_png

    assert exif_orientation(path) in range(1, 9)
    picture = read_png(path)
    assert picture.shape[2] == 3
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


def _npy(_: Path) -> bytes:
    out = io.BytesIO()
    np.save(out, np.arange(24, dtype=np.int32).reshape(4, 6))
    return out.getvalue()


def _damage_npy(data: bytes, rng: random.Random) -> bytes:
    return damage.damage_text(data, rng) if rng.random() < 0.3 else damage.damage_bytes(data, rng)


def _read_npy(path: Path) -> None:
    from gseg_ns.evaluation.folders import read_ids

    ids = read_ids(path)
    assert ids.dtype == torch.int64
    assert ids.ndim == 2


def _embedding(_: Path) -> bytes:
    out = io.BytesIO()
    grid = np.random.default_rng(0).random((8, 16, 16)).astype(np.float16)
    np.savez(out, embedding=grid, input_size=np.array([768, 1024]), original_size=np.array([30, 40]), square=1024)
    return out.getvalue()


def _read_embedding(path: Path) -> None:
    from gseg_ns.lifting.sam_guidance import read_embedding

    grid = read_embedding(path)
    assert grid.ndim == 3
    assert 0 not in grid.shape
    assert grid.dtype == torch.float32
    _finite(grid)


# --------------------------------------------------------------------------------------------------- results and scenes


def _objects(_: Path) -> bytes:
    listed = [{"group": i, "name": f"n{i}", "file": f"objects/group_{i:04d}.ply", "gaussians": 30} for i in (1, 2)]
    return json.dumps({"frame": "original", "objects": listed}).encode()


def _read_objects(path: Path) -> None:
    from gseg_ns.splats.objects import _listed_files

    for file in _listed_files(path.parent):
        assert file.suffix in (".ply", ".spz", ".glb") or file == path
        assert file.parent in (path.parent, path.parent / "objects")
        assert not file.is_dir()


_KEY = {"kind": "quality", "name": "room", "seed": 1}


def _cell(folder: Path) -> bytes:
    from gseg_ns.benchmarking.cells import CellStore

    CellStore(folder).put(_KEY, {"iou": 50.0, "psnr": float("nan")})
    return CellStore(folder).path(_KEY).read_bytes()


def _read_cell(path: Path) -> None:
    from gseg_ns.benchmarking.cells import CellStore

    told: list[str] = []
    store = CellStore(path.parent, warn=told.append)
    path.replace(store.path(_KEY))
    result = store.get(_KEY)
    assert isinstance(result, dict) or str(path.parent) in told[0]


def _evidence(folder: Path) -> bytes:
    from gseg_ns.objects import Evidence
    from gseg_ns.runs.evidence import _keep

    told = Evidence(
        *(torch.rand(40) for _ in range(4)),
        *(torch.arange(5) for _ in range(2)),
        num_views=9,
        patches=torch.rand(40, 9),
    )
    _keep(folder / "evidence-made.npz", told)
    return (folder / "evidence-made.npz").read_bytes()


def _read_evidence(path: Path) -> None:
    from gseg_ns.runs.evidence import _read

    told = _read(path, 40, 5)
    if told is not None:
        _finite(told.total, told.own, told.front)
        assert told.total.shape == (40,)
        assert told.pixels.dtype == told.views.dtype == torch.int64
        assert 0 <= told.num_views < 2**31
        told.rows(torch.tensor([0, 39, -1]))


def _measured(_: Path) -> bytes:
    return json.dumps({"psnr": 21.5, "step": 3, "lpips": 0.1}).encode()


def _read_measured(path: Path) -> None:
    from types import SimpleNamespace

    from gseg_ns.runs.overview import _psnr

    run: Any = SimpleNamespace(config_path=path.parent / "config.yml", folder=path.parent, step=3)
    psnr = _psnr(run)
    assert psnr is None or abs(psnr) < 1000


def _read_region(path: Path) -> None:
    from gseg_ns.data.training_regions import same_region

    assert same_region(path, np.eye(30, 40, dtype=bool)) in (True, False)


def _outline(_: Path) -> bytes:
    return json.dumps([[1.5, 2], [30, 2.25], [30, 20], [4, 20]]).encode()


def _read_outline(path: Path) -> None:
    from gseg_ns.cli.select import _read_line

    for point in _read_line(path):
        _finite(*point)


def _background(_: Path) -> bytes:
    return json.dumps({"parts": [{"part_id": i, "object_id": i // 2} for i in range(6)]}).encode()


def _read_background(path: Path) -> None:
    from gseg_ns.benchmarking.clicks import background_ids

    assert all(part >= 0 for part in background_ids(path.parent / "part"))


def _scene(file: str, damaged: str = "") -> Callable[[Path], bytes]:
    """A scene in the folder `fuzzed`, of which one file is damaged."""

    def make(folder: Path) -> bytes:
        root, names = folder / "fuzzed", [f"{i}.png" for i in range(4)]
        if file == "transforms.json":
            support.write_json(
                root, names, applied_scale=0.5, ply_file_path="cloud.ply", train_filenames=["images/1.png"]
            )
        else:
            support.write_photographs(root / "images", names)
            model = "OPENCV"
            lens = (60.0, 60.0, 32.0, 24.0, 0.01, 0.0, 0.0, 0.001)
            support.write_model(root / "sparse" / "0", names, model, lens, text=file.endswith(".txt"))
        cloud = np.zeros(20, [(name, "f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")])
        PlyData([PlyElement.describe(cloud, "vertex")]).write(root / "cloud.ply")
        return (root / (damaged or file)).read_bytes()

    return make


def _read_scene(path: Path) -> None:
    from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
    from gseg_ns.evaluation.protocols.base import registered_images
    from gseg_ns.masks.images import scene_images

    root = next(folder for folder in path.parents if folder.name == "fuzzed")
    for split in ("train", "test"):
        outputs = GsegDataParserConfig(data=root).setup().get_dataparser_outputs(split)
        cameras = outputs.cameras
        assert len(outputs.image_filenames) == len(cameras) > 0
        assert all(file.is_file() for file in outputs.image_filenames)
        _finite(cameras.camera_to_worlds, cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.distortion_params)
        _finite(outputs.dataparser_transform, outputs.dataparser_scale)
        assert bool((cameras.fx > 0).all() and (cameras.fy > 0).all())
        assert bool((cameras.width == 64).all() and (cameras.height == 48).all())  # those of the photographs
        _finite(outputs.metadata.get("points3D_xyz", torch.zeros(0)))
    assert all(image.path.is_file() and ".." not in image.key for image in scene_images(root))
    if path.name.startswith("images."):
        assert registered_images(root)


def _spz(folder: Path) -> bytes:
    from gseg_ns.splats.spz import write_spz

    write_spz(folder / "made.spz", random_splats.make(12, 3))
    return (folder / "made.spz").read_bytes()


def _damage_spz(data: bytes, rng: random.Random) -> bytes:
    """Damage below the compression, or the compressed bytes."""
    if rng.random() < 0.3:
        return damage.damage_bytes(data, rng)
    return gzip.compress(damage.damage_bytes(gzip.decompress(data), rng), 1)


def _read_spz(path: Path) -> None:
    from gseg_ns.splats.spz import read_spz

    splats = read_spz(path)
    assert splats.sh.shape[1] in (1, 4, 9, 16)
    _finite(splats.means, splats.quats, splats.scales, splats.opacities, splats.sh)


def _cameras_json(_: Path) -> bytes:
    turned = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    camera = {"position": [1, 2, 3], "rotation": turned, "width": 64, "height": 48, "fx": 50.5, "fy": 50.5}
    return json.dumps([{"id": number, "img_name": f"{number}.png", **camera} for number in range(3)]).encode()


def _read_cameras_json(path: Path) -> None:
    from gseg_ns.captures.cameras_json import read_cameras_json

    for frame in read_cameras_json(path):
        _finite(torch.from_numpy(frame.pose))
        assert frame.lens.fx > 0
        assert 0 < frame.lens.width <= 2**16


_OF_A_RESULT = {"cameras/transforms.json": b"{}", "splats.ply": b"ply"}


def _manifest(folder: Path) -> bytes:
    from gseg_ns.runs.result_folder import write_manifest

    (folder / "cameras").mkdir()
    for name, content in _OF_A_RESULT.items():
        (folder / name).write_bytes(content)
    write_manifest(folder, {"method": "gaga", "options": {"sh_degree": 3}, "state": {"words": [[1, "mug", 0.5]]}})
    return (folder / "manifest.json").read_bytes()


def _read_manifest(path: Path) -> None:
    from gseg_ns.runs.result_folder import read_result

    (path.parent / "cameras").mkdir(exist_ok=True)
    for name, content in _OF_A_RESULT.items():
        (path.parent / name).write_bytes(content)
    assert read_result(path).files <= _OF_A_RESULT.keys()


def _tensors(folder: Path) -> bytes:
    from gseg_ns.runs.result_folder import write_tensors

    write_tensors(folder / "made.safetensors", {"labels": torch.arange(9).int(), "confidence": torch.rand(9)})
    return (folder / "made.safetensors").read_bytes()


def _read_tensors(path: Path) -> None:
    from gseg_ns.runs.result_folder import read_tensors

    _finite(*(tensor for tensor in read_tensors(path).values() if tensor.is_floating_point()))


TARGETS: dict[str, tuple[str, Callable[[Path], bytes], damage.Mutate, Callable[[Path], Any]]] = {
    "ply": ("a.ply", _ply, damage.damage_ply, _read_ply),
    "ply-text": ("a.ply", lambda folder: _ply(folder, text=True), damage.damage_text, _read_ply),
    "swap": ("a.ply", _ply, damage.damage_ply, _swap),
    "edits": ("edits.json", _edits, damage.damage_json, _read_edits),
    "selections": ("selections.npz", _selections, damage.damage_npz, _read_selections),
    "group-names": ("group_names.json", _names, damage.damage_json, _read_names),
    "vote-graph": ("text_0.npz", _vote_graph, damage.damage_npz, _read_vote_graph),
    "checkpoint": ("nerfstudio_models/step-000000009.ckpt", _checkpoint, damage.damage_zip, _read_checkpoint),
    "dataparser-transforms": (
        "dataparser_transforms.json",
        _dataparser_transforms,
        damage.damage_json,
        _read_dataparser_transforms,
    ),
    "config": ("config.yml", _config, damage.damage_text, _read_config),
    "sa1b": ("a.json", _sa1b, damage.damage_json, _read_masks),
    "sa1b-lists": ("a.json", _sa1b_lists, damage.damage_json, _read_masks),
    "coco": ("a.json", _tool("coco"), damage.damage_json, _read_tool),
    "labelme": ("a.json", _tool("labelme"), damage.damage_json, _read_tool),
    "label-studio": ("a.json", _tool("label-studio"), damage.damage_json, _read_tool),
    "cvat": ("a.xml", _tool("cvat"), _damage_xml, _read_tool),
    "table-of-masks": ("metadata.csv", _objects_of_one_image, damage.damage_text, _read_objects_of_one_image),
    "stack": ("a.npy", _stack, _damage_npy, _read_stack),
    "scores": ("a.json", _scores, damage.damage_json, _read_scores),
    "settings": (".settings.json", _settings, damage.damage_json, _read_settings),
    "labels-16-bit": ("a.png", _picture("PNG", "I;16"), damage.damage_png, _read_label_map),
    "labels-palette": ("a.png", _picture("PNG", "P"), damage.damage_png, _read_label_map),
    "labels-panoptic": ("a.png", _picture("PNG", "RGB"), damage.damage_png, _read_label_map),
    "labels-alpha": ("a.png", _picture("PNG", "RGBA"), damage.damage_png, _read_label_map),
    "photograph-jpeg": ("a.jpg", _picture("JPEG", "RGB"), damage.damage_bytes, _read_photograph),
    "photograph-png": ("a.png", _picture("PNG", "RGBA"), damage.damage_png, _read_photograph),
    "photograph-16-bit": ("a.png", _picture("PNG", "I;16"), damage.damage_png, _read_photograph),
    "photograph-tiff": ("a.tif", _picture("TIFF", "RGB"), damage.damage_bytes, _read_photograph),
    "photograph-webp": ("a.webp", _picture("WEBP", "RGB"), damage.damage_bytes, _read_photograph),
    "photograph-bmp": ("a.bmp", _picture("BMP", "RGB"), damage.damage_bytes, _read_photograph),
    "training-png": ("a.png", _picture("PNG", "RGBA"), damage.damage_png, _read_for_training),
    "training-jpeg": ("a.jpg", _picture("JPEG", "RGB"), damage.damage_bytes, _read_for_training),
    "picture": ("a.png", _picture("PNG", "RGB"), damage.damage_png, _read_picture),
    "npy": ("a.npy", _npy, _damage_npy, _read_npy),
    "embedding": ("a.npz", _embedding, damage.damage_npz, _read_embedding),
    "objects": ("objects.json", _objects, damage.damage_json, _read_objects),
    "cell": ("a.json", _cell, damage.damage_json, _read_cell),
    "transforms": ("transforms.json", _scene("transforms.json"), damage.damage_json, _read_scene),
    **{
        f"colmap-{name}": (f"sparse/0/{name}", _scene(f"sparse/0/{name}"), mutate, _read_scene)
        for kind, mutate in (("bin", damage.damage_bytes), ("txt", damage.damage_text))
        for name in (f"cameras.{kind}", f"images.{kind}", f"points3D.{kind}")
    },
    "cloud": ("cloud.ply", _scene("transforms.json", "cloud.ply"), damage.damage_ply, _read_scene),
    "evidence": ("evidence-0.npz", _evidence, damage.damage_npz, _read_evidence),
    "measured": ("eval_test.json", _measured, damage.damage_json, _read_measured),
    "photometric-mask": ("a.png", _picture("PNG", "RGBA"), damage.damage_png, _read_region),
    "outline": ("a.json", _outline, damage.damage_json, _read_outline),
    "parts": ("scene.json", _background, damage.damage_json, _read_background),
    "spz": ("a.spz", _spz, _damage_spz, _read_spz),
    "cameras-json": ("cameras.json", _cameras_json, damage.damage_json, _read_cameras_json),
    "result": ("manifest.json", _manifest, damage.damage_json, _read_manifest),
    "safetensors": ("a.safetensors", _tensors, damage.damage_bytes, _read_tensors),
}


TOLERANT = ("objects", "cell", "evidence", "measured", "photometric-mask")
"""Readers that make do with nothing where a file is damaged."""


@dataclass
class Taken:
    """What the dearest of some inputs took."""

    memory: int = 0
    seconds: float = 0.0


@contextmanager
def bounded(what: str, taken: Taken) -> Iterator[None]:
    """Fail where more than `MOST_MEMORY` is taken, or more than `MOST_SECONDS`."""
    resident, peak = _memory("VmRSS"), _memory("VmHWM")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        peak = resident
    start = time.process_time()
    try:
        yield
    finally:
        seconds, new_peak = time.process_time() - start, _memory("VmHWM")
        memory = new_peak - resident if new_peak > peak else 0
        taken.memory, taken.seconds = max(taken.memory, memory), max(taken.seconds, seconds)
    assert seconds < MOST_SECONDS, f"{what} took {seconds:.1f} s"
    assert memory < MOST_MEMORY, f"{what} took {memory / 2**20:.0f} MiB"


def _memory(of: str) -> int:
    """Bytes of this process: VmRSS, what it has now, or VmHWM, the most that it had; 0 where no system tells."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(of))
    return 0


@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_or_make_sense(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> None:
    file, make, mutate, read = TARGETS[name]
    inputs = max(1, round(request.config.getoption("fuzz_inputs") / len(TARGETS)))
    seed = request.config.getoption("fuzz_seed")
    whole = make(tmp_path)
    path = tmp_path / "fuzzed" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)
    read(path)
    refused, taken = 0, Taken()
    for number in range(inputs):
        data = mutate(whole, random.Random(f"{seed} {name} {number}"))
        path.write_bytes(data)
        what = f"input {number} of {name} with seed {seed} ({len(data)} bytes)"
        try:
            with bounded(what, taken):
                read(path)
        except GsegError as error:
            refused += 1
            text = str(error)
            assert str(tmp_path) in text, f"{what}: the message does not name the file: {text}"
            assert len(text) < 2000, f"{what}: a message of {len(text)} letters"
            text.encode()
        except Exception as error:
            kept = tmp_path / f"failed-{number}{path.suffix}"
            kept.write_bytes(data)
            raise AssertionError(f"{what}: {type(error).__name__}: {error}; kept as {kept}") from error
    for figure in ("inputs", "refused", "taken"):
        record_property(figure, str(locals()[figure]))
    assert refused or inputs < 20 or name in TOLERANT


# ------------------------------------------------------------------------------------------------ made to fill memory


def _png_of(height: int, width: int, color: int = 0, data: bytes = b"") -> bytes:
    """A PNG of 8 bits of a color type, with these compressed pixels."""
    header = height.to_bytes(4, "big")
    chunks = (
        (b"IHDR", width.to_bytes(4, "big") + header + bytes((8, color, 0, 0, 0))),
        (b"IDAT", data),
        (b"IEND", b""),
    )
    packed = (
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _rows(row: bytes, count: int) -> bytes:
    """Compressed pixels of equal rows."""
    stream = zlib.compressobj(1)
    return b"".join(stream.compress(b"\0" + row) for _ in range(count)) + stream.flush()


def _checkers(side: int) -> bytes:
    """Compressed pixels of which each differs from its neighbours."""
    stream, rows = zlib.compressobj(1), (b"\0" + b"\1\2" * (side // 2), b"\0" + b"\2\1" * (side // 2))
    return b"".join(stream.compress(row) for _ in range(side // 2) for row in rows) + stream.flush()


def _every_color(side: int) -> bytes:
    """Compressed pixels of which no two have one color: rows of differences to the row above."""
    first = np.arange(side, dtype="<u4").view(np.uint8).reshape(side, 4)[:, :3].tobytes()
    stream = zlib.compressobj(1)
    step = np.full(side, side, dtype="<u4").view(np.uint8).reshape(side, 4)[:, :3].tobytes()
    return (
        stream.compress(b"\0" + first)
        + b"".join(stream.compress(b"\2" + step) for _ in range(side - 1))
        + stream.flush()
    )


def _records(height: int, width: int, masks: list[list[int]]) -> bytes:
    return json.dumps([{"segmentation": {"size": [height, width], "counts": counts}} for counts in masks]).encode()


_SIDE = 7200
"""Of a square whose masks may be read: 51.8 million pixels."""


def _halves(count: int) -> list[list[int]]:
    """Masks that are one pixel less than half of the image and cut each other into many regions."""
    return [[number, _SIDE * _SIDE // 2, _SIDE * _SIDE - _SIDE * _SIDE // 2 - number] for number in range(count)]


HUGE: dict[str, tuple[str, Callable[[], bytes], tuple[Callable[[Path], Any], ...], bool]] = {
    "a mask of 1 KiB that claims 1e9 pixels": (
        "a.json",
        lambda: _records(10_000, 100_000, [[0, 10**9]]).ljust(1024),
        (_read_masks,),
        True,
    ),
    "a PNG of 642 KiB that wants 3.9 GiB": (
        "a.png",
        lambda: _png_of(26_000, 26_000, data=random.Random(0).randbytes(642 * 1024)),
        (_read_label_map, _read_photograph, _read_for_training, _read_picture),
        True,
    ),
    "masks just small enough": ("a.json", lambda: _records(_SIDE, _SIDE, _halves(20)), (_read_masks,), False),
    "masks that cut each other into too many regions": (
        "a.json",
        lambda: _records(_SIDE, _SIDE, _halves(9000)),
        (_read_masks,),
        True,
    ),
    "labels just small enough": (
        "a.png",
        lambda: _png_of(5000, 5000, data=_rows(bytes(range(200)) * 25, 5000)),  # 16 bytes a pixel
        (_load_masks,),
        False,
    ),
    "labels that change at every pixel": (
        "a.png",
        lambda: _png_of(5000, 5000, data=_checkers(5000)),
        (_load_masks,),
        True,
    ),
    "a label for every pixel": ("a.png", lambda: _png_of(3000, 3000, 2, _every_color(3000)), (_load_masks,), True),
    "JSON of empty lists": ("a.json", lambda: b"[" + b"[]," * 7_000_000 + b"[]]", (_read_masks, _read_scores), True),
    "JSON of one character outside of the plane": (
        "a.json",
        lambda: b'{"a": "' + b"x" * (8 * 2**20) + "𝄞".encode() + b'"}',
        (_read_masks, _read_scores),
        True,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HUGE)
def test_files_that_are_made_to_fill_memory(name: str, tmp_path: Path) -> None:
    file, make, readers, refused = HUGE[name]
    path = tmp_path / file
    path.write_bytes(make())
    for read in readers:
        with bounded(name, Taken()):
            if not refused:
                read(path)
                continue
            with pytest.raises(GsegError, match=re.escape(str(path))):
                read(path)
