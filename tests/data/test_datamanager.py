from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from gseg_ns.data.cameras import to_camera
from gseg_ns.data.datamanager import MaskDatamanager, MaskDatamanagerConfig
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet, read_label_map, write_label_map, write_mask_set

SIZE = (48, 64)


def label_map(view: int) -> np.ndarray:
    """A disc and a bar on nothing, at another place in each view."""
    labels = np.zeros(SIZE, np.int32)
    cv2.circle(labels, (20 + 3 * view, 24), 12, 5, -1)
    labels[40:46, 5:60] = 300
    return labels


def write_scene(folder: Path, count: int = 4, distortion: dict[str, float] | None = None) -> Path:
    """Images that show their own labels as grey, so that image and mask can be compared after any warp."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    frames = []
    for view in range(count):
        labels = label_map(view)
        grey = np.select([labels == 5, labels == 300], [100, 200], 0).astype(np.uint8)
        Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(folder / f"images/v{view}.png")
        write_label_map(folder / f"masks/v{view}.png", torch.from_numpy(labels))
        pose = np.eye(4)
        pose[:3, 3] = [0.3 * view, 0.1 * view, 2]
        frames.append({"file_path": f"images/v{view}.png", "transform_matrix": pose.tolist()})
    names = [frame["file_path"] for frame in frames]
    meta = {
        "camera_model": "OPENCV", "fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "w": SIZE[1], "h": SIZE[0],
        "frames": frames, "train_filenames": names, "val_filenames": names[:1], **(distortion or {}),
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def manager(scene: Path, **options: object) -> MaskDatamanager:
    config = MaskDatamanagerConfig(
        data=scene,
        dataparser=GsegDataParserConfig(),
        cache_images_type="uint8",
        **options,  # type: ignore[arg-type]
    )
    return config.setup(device="cpu")


def seen_in(image: torch.Tensor) -> torch.Tensor:
    """Which label the picture shows: 1 = disc, 2 = bar, 0 = nothing, -1 = between."""
    grey = image[..., 0].float()
    seen = torch.full(grey.shape, -1)
    for label, value in ((0, 0), (1, 100), (2, 200)):
        seen[(grey - value).abs() < 3] = label
    return seen


@pytest.mark.parametrize(
    "distortion",
    [None, {"k1": -0.2, "k2": 0.05, "p1": 0.01, "p2": -0.005}, {"k1": 0.15}],
    ids=["none", "brown", "barrel"],
)
def test_masks_follow_the_image_through_undistortion(tmp_path: Path, distortion: dict[str, float] | None) -> None:
    data = manager(write_scene(tmp_path / "s", distortion=distortion))
    for view in range(4):
        image, labels = data.cached_train[view]["image"], data.labels(view)
        assert labels is not None
        assert labels.shape == image.shape[:2]
        seen = seen_in(image)
        sure = seen >= 0
        assert sure.float().mean() > 0.8
        # A pixel of a blurred edge may show a pure color by chance; away from edges there is no difference.
        assert (seen[sure] == labels[sure]).float().mean() > 0.995


def test_overlapping_masks_follow_the_image_too(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s", distortion={"k1": -0.2})
    for view in range(4):
        labels = torch.from_numpy(label_map(view))
        (scene / f"masks/v{view}.png").unlink()
        write_mask_set(
            scene / f"masks/v{view}.json",
            MaskSet.from_arrays(torch.stack([labels == 5, labels == 300]), torch.tensor([0.9, 0.8])),
        )
    data = manager(scene)
    data.cached_train  # noqa: B018
    masks, labels = data.mask_set(2), data.labels(2)
    assert masks is not None
    assert labels is not None
    assert torch.equal(masks.decode()[0], labels == 1)
    assert torch.equal(masks.decode()[1], labels == 2)


def test_batches_carry_labels_but_no_photometric_mask(tmp_path: Path) -> None:
    data = manager(write_scene(tmp_path / "s"))
    _, batch = data.next_train(0)
    assert "mask" not in batch
    assert sorted(batch["labels"].unique().tolist()) == [0, 1, 2], "labels are numbered without gaps"


def test_masks_of_another_size_are_resized(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s")
    full = read_label_map(scene / "masks/v0.png")
    write_label_map(scene / "masks/v0.png", full.repeat_interleave(2, 0).repeat_interleave(2, 1))
    labels = manager(scene).labels(0)
    assert labels is not None
    assert torch.equal(labels > 0, full > 0)


def test_images_at_half_resolution_have_masks_at_half_resolution(tmp_path: Path) -> None:
    data = manager(write_scene(tmp_path / "s"), camera_res_scale_factor=0.5)
    labels = data.labels(1)
    assert labels is not None
    assert labels.shape == data.cached_train[1]["image"].shape[:2] == (24, 32)


@pytest.mark.parametrize(("largest", "kept"), [(300, 300), (5000, 2)])
def test_consistent_ids_are_kept_over_views(tmp_path: Path, largest: int, kept: int) -> None:
    """As numbers of groups; numbers that are too large for tables are numbered anew, in all views alike."""
    scene = write_scene(tmp_path / "s")
    for path in sorted((scene / "masks").glob("*.png")):
        ids = read_label_map(path)
        write_label_map(path, torch.where(ids == 300, largest, ids))
    only_bar = torch.from_numpy(np.where(label_map(1) == 300, largest, 0))
    write_label_map(scene / "masks/v1.png", only_bar)
    data = manager(scene, masks_are_consistent=True)
    labels = data.labels(1)
    assert labels is not None
    assert labels.unique().tolist() == [0, kept]
    assert int(data.ids(1)[kept]) == largest


def test_a_view_without_a_mask_trains_colors_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "s")
    (scene / "masks/v2.png").unlink()
    data = manager(scene)
    assert data.labels(2) is None
    assert data.labels(1) is not None
    assert "1 of 4 training images have no mask" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda s: [p.unlink() for p in (s / "masks").iterdir()], "no mask files"),
        (lambda s: (s / "masks").rename(s / "elsewhere"), "does not exist"),
        (lambda s: [p.rename(p.with_name("x" + p.name)) for p in list((s / "masks").iterdir())], "None of the 4 masks"),
        (lambda s: (s / "masks/v1.png").write_bytes((s / "masks/v1.png").read_bytes()[:60]), "v1.png"),
        (
            lambda s: [write_label_map(p, torch.zeros(SIZE, dtype=torch.int32)) for p in (s / "masks").iterdir()],
            "are empty",
        ),
    ],
    ids=["no files", "no folder", "no match", "corrupt", "all empty"],
)
def test_bad_masks_give_one_message(tmp_path: Path, break_it, message: str) -> None:
    scene = write_scene(tmp_path / "s")
    break_it(scene)
    with pytest.raises(GsegError, match=message):
        manager(scene).require_masks()


def test_one_training_image_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(GsegError, match="at least 2 views"):
        manager(write_scene(tmp_path / "s", count=1)).require_masks()


def test_cameras_agree_with_nerfstudios_rays(tmp_path: Path) -> None:
    data = manager(write_scene(tmp_path / "s", distortion={"k1": -0.1}))
    camera = data.camera(3)
    ours = to_camera(camera)
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    points = rays.origins + 1.7 * rays.directions
    local = points.reshape(-1, 3) @ ours.viewmat[:3, :3].T + ours.viewmat[:3, 3]
    projected = local @ ours.K.T
    pixels = projected[:, :2] / projected[:, 2:]
    y, x = torch.meshgrid(torch.arange(ours.height), torch.arange(ours.width), indexing="ij")
    expected = torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5
    assert (local[:, 2] > 0).all()
    # Nerfstudio keeps the distortion of the camera it has undistorted; its rays are those of a pinhole only without it.
    if camera.distortion_params is not None:
        camera.distortion_params = None
        rays = camera.generate_rays(camera_indices=0, keep_shape=True)
        local = (rays.origins + 1.7 * rays.directions).reshape(-1, 3) @ ours.viewmat[:3, :3].T + ours.viewmat[:3, 3]
        projected = local @ ours.K.T
        pixels = projected[:, :2] / projected[:, 2:]
    torch.testing.assert_close(pixels, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("kind", "message"), [("static", "single region"), ("everything", "one label over everything")]
)
def test_masks_of_what_to_train_on_are_refused(tmp_path: Path, kind: str, message: str) -> None:
    scene = write_scene(tmp_path / "s")
    region = torch.full(SIZE, 255, dtype=torch.int32)
    if kind == "static":
        region[:10] = 0
    for path in (scene / "masks").iterdir():
        write_label_map(path, region)
    with pytest.raises(GsegError, match=message):
        manager(scene).require_masks()


@pytest.mark.parametrize("distortion", [None, {"k1": -0.2}])
@pytest.mark.parametrize("loaded", [False, True])
def test_released_photographs_are_read_again_and_the_order_goes_on(
    tmp_path: Path, distortion: dict[str, float] | None, loaded: bool
) -> None:
    scene = write_scene(tmp_path / "s", distortion=distortion)
    whole, data = manager(scene), manager(scene)
    expected = [whole.next_train(number)[1]["image_idx"] for number in range(10)]
    order = [data.next_train(number)[1]["image_idx"] for number in range(3)] if loaded else []
    data.release_photographs()
    data.release_photographs()
    for number in range(len(order), 10):
        camera, batch = data.next_train(number)
        order.append(batch["image_idx"])
        assert "image" not in batch
        assert torch.equal(camera.fx, whole.train_dataset.cameras.fx[order[-1] : order[-1] + 1])
    assert order == expected
    assert len(data.cached_train) == 4
    for view in range(4):
        assert torch.equal(data.cached_train[view]["image"], whole.cached_train[view]["image"])
    assert data.get_train_rays_per_batch() == whole.get_train_rays_per_batch()


def photometric(scene: Path, invert: bool = False, copy: str | None = None) -> None:
    """Masks of somebody who walks through the views, named in transforms.json; in place of the masks of objects."""
    meta = json.loads((scene / "transforms.json").read_text())
    for view, frame in enumerate(meta["frames"]):
        mask = np.full(SIZE, 255, np.uint8)
        mask[20:, 5 + 9 * view : 15 + 9 * view] = 0
        frame["mask_path"] = f"keep/v{view}.png"
        for folder in ("keep", "masks"):
            (scene / folder).mkdir(exist_ok=True)
            Image.fromarray(255 - mask if invert and folder == "masks" else mask).save(scene / folder / f"v{view}.png")
    if copy is None:
        meta["frames"] = [{key: frame[key] for key in frame if key != "mask_path"} for frame in meta["frames"]]
    (scene / "transforms.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("invert", "named", "message"),
    [
        (False, "named", r"the capture's own masks \(mask_path\)"),
        (True, "named", r"the capture's own masks \(mask_path\)"),
        (False, None, "a single label over most of every view and its border"),
    ],
)
def test_photometric_masks_are_no_objects(tmp_path: Path, invert: bool, named: str | None, message: str) -> None:
    scene = write_scene(tmp_path / "s")
    photometric(scene, invert, named)
    with pytest.raises(GsegError, match=message):
        manager(scene).require_masks()
    manager(scene, masks_are_consistent=True).require_masks()


def test_one_object_that_is_seen_in_all_views_is_one(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s")
    for view in range(4):
        write_label_map(scene / f"masks/v{view}.png", torch.from_numpy((label_map(view) == 5).astype(np.int32)))
    manager(scene).require_masks()


def test_masks_without_ids_cannot_be_consistent(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s")
    for view in range(4):
        (scene / f"masks/v{view}.png").unlink()
        write_mask_set(scene / f"masks/v{view}.json", MaskSet.from_labels(torch.from_numpy(label_map(view))))
    with pytest.raises(GsegError, match="masks without ids"):
        manager(scene, masks_are_consistent=True).require_masks()
    manager(scene).require_masks()


def test_masks_of_one_file_for_all_images_are_trained_on(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s")
    images = [{"id": view, "file_name": f"v{view}.png", "height": 48, "width": 64} for view in range(4)]
    annotations = [
        {"image_id": view, "segmentation": record}
        for view in range(4)
        for record in MaskSet.from_labels(torch.from_numpy(label_map(view))).rles
    ]
    (scene / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    data = manager(scene, masks_dir=Path("coco.json"))
    expected = torch.from_numpy(label_map(2))
    labels = data.labels(2)
    assert labels is not None
    assert len(labels.unique()) == 3
    assert torch.equal(labels > 0, expected > 0)


def test_a_dataparser_of_another_format_is_one_message(tmp_path: Path) -> None:
    from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig

    scene = write_scene(tmp_path / "s")
    with pytest.raises(GsegError, match=r"transforms_train\.json does not exist"):
        MaskDatamanagerConfig(data=scene, dataparser=BlenderDataParserConfig()).setup(device="cpu")
    (scene / "transforms_train.json").write_text("{}")
    with pytest.raises(GsegError, match=r"BlenderDataParser reads.*gseg-data"):
        MaskDatamanagerConfig(data=scene, dataparser=BlenderDataParserConfig()).setup(device="cpu")


def test_the_masks_of_one_photograph_for_all_are_refused(tmp_path: Path) -> None:
    scene = write_scene(tmp_path)
    masks = sorted((scene / "masks").iterdir())
    for path in masks[1:]:
        path.write_bytes(masks[0].read_bytes())
    with pytest.raises(GsegError, match=f"the same masks for all {len(masks)} views"):
        manager(scene).require_masks()
    write_label_map(masks[2], torch.from_numpy(label_map(2)))
    manager(scene).require_masks()


def test_what_upstream_prints_of_photographs_goes_to_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = manager(write_scene(tmp_path / "s"))
    data.log = tmp_path / "gseg.log"
    capsys.readouterr()
    assert len(data.cached_train) == len(data.cached_eval) + 3
    assert capsys.readouterr().out == ""
    assert data.log.read_text(encoding="utf-8").count("Caching") >= 2


def tracked(scene: Path, records: list[list[dict[str, object]]]) -> None:
    """The disc and the bar of each view as masks with these records."""
    for view, said in enumerate(records):
        labels = torch.from_numpy(label_map(view))
        (scene / f"masks/v{view}.png").unlink()
        masks = torch.stack([labels == 5, labels == 300])[: len(said)]
        write_mask_set(scene / f"masks/v{view}.json", MaskSet.from_arrays(masks, None, said))


def test_words_are_looked_for_in_all_views_where_masks_could_say_some(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, 12)
    tracked(scene, [[{"label": ""}, {"label": ""}] for _ in range(11)] + [[{"label": "disc"}, {"label": ""}]])
    data = manager(scene)
    data.require_masks()
    said = [[one.word for one in data.said(view) or []] for view in range(12)]  # in the order of their names
    assert sorted(said) == [["", ""]] * 11 + [["disc", ""]]


def test_masks_that_are_on_no_track_are_left_out_where_others_are_on_one(tmp_path: Path) -> None:
    scene = write_scene(tmp_path, 4)
    tracked(scene, [[{"track": 0}, {"track": 1}], [{"track": 0}, {}], [{}], [{"track": 1}, {"track": 0}]])
    data = manager(scene, masks_are_consistent=True)
    data.require_masks()
    assert [sorted(data.labels(view).unique().tolist()) for view in range(4)] == [[0, 1, 2], [0, 1], [0], [0, 1, 2]]
    assert data.labels(0)[24, 20] == 1
    assert data.labels(3)[24, 29] == 2


def test_masks_are_snapped_to_the_photographs_where_that_is_asked_for(tmp_path: Path) -> None:
    """A mask that is off by two pixels: the pictures show where its objects are."""
    scene = write_scene(tmp_path / "scene")
    for view in range(4):
        labels = torch.from_numpy(label_map(view))
        labels = torch.where(labels == 0, 7, labels)
        write_label_map(scene / f"masks/v{view}.png", labels.roll(2, 1))
    plain, snapped = (manager(scene, snap_masks=snap) for snap in (False, True))
    for view in range(4):
        before, after = plain.labels(view), snapped.labels(view)
        assert before is not None
        assert after is not None
        truth = torch.from_numpy(np.select([label_map(view) == 5, label_map(view) == 300], [1, 3], 2))
        assert int((after != truth).sum()) < 0.3 * int((before != truth).sum())
        again = snapped.labels(view)
        assert again is not None
        assert torch.equal(again, after)
