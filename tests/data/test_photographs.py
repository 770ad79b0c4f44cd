"""Between photographs and views: on a scene bent by OpenCV, and on photographs stored on their side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from PIL import Image

from bent_scene import distort_scene
from gseg_ns.data.datamanager import MaskDatamanager, MaskDatamanagerConfig
from gseg_ns.data.ground_truth import ground_truth
from gseg_ns.data.photographs import Photograph, view_colors, view_names
from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
from gseg_ns.errors import GsegError
from gseg_ns.masks import MaskSet, read_label_map, write_label_map, write_mask_set
from gseg_ns.masks.check import check
from gseg_ns.masks.images import scene_images

LENSES = {
    "barrel": {"k1": -0.2, "k2": 0.03, "p1": 0.002, "p2": -0.003},
    "pincushion": {"k1": 0.25},
    "fisheye": {"camera_model": "OPENCV_FISHEYE", "k1": 0.05, "k2": -0.01},
}


def manager(scene: Path) -> MaskDatamanager:
    config = MaskDatamanagerConfig(data=scene, dataparser=GsegDataParserConfig(), cache_images_type="uint8")
    data = config.setup(device="cpu")
    assert isinstance(data, MaskDatamanager)
    return data


@pytest.fixture(scope="module", params=LENSES)
def bent(request: pytest.FixtureRequest, ball_room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bent") / "scene"
    return distort_scene(ball_room, folder, LENSES[request.param], ("masks", "gt/object"))


def on_photo(photo: Photograph, picture: torch.Tensor) -> torch.Tensor:
    """A picture of a view on the photograph's pixels, as if every view near it were the same."""
    pinhole = Cameras(torch.eye(4)[None, :3], 100.0, 100.0, 50.0, 50.0)
    return photo.draw(pinhole, lambda _: {"it": picture})["it"]


def test_labels_go_to_the_view_and_back(bent: Path) -> None:
    data = manager(bent)
    photo = data.photograph(2)
    labels = read_label_map(bent / "masks" / f"{data.names('train')[2]}.png")
    view = photo.to_view(labels)
    assert tuple(view.shape) == photo.view_size == tuple(data.cached_train[2]["image"].shape[:2])
    there = on_photo(photo, view + 1)
    seen = there > 0
    assert seen.float().mean() > 0.5
    assert (there[seen] - 1 == labels[seen]).float().mean() > 0.98
    assert on_photo(photo, torch.rand(*photo.view_size, 3)).shape == (*photo.size, 3)


def test_labels_are_drawn_where_the_photograph_has_them(bent: Path) -> None:
    """Squares of the plane z = 1, seen by the lens as OpenCV has it, and by the pinholes that views are drawn with."""
    meta = json.loads((bent / "transforms.json").read_text())
    photo = manager(bent).photograph(0)
    matrix = np.array([[meta["fl_x"], 0, meta["cx"]], [0, meta["fl_y"], meta["cy"]], [0, 0, 1]])
    y, x = np.mgrid[: photo.size[0], : photo.size[1]] + 0.5
    pixels = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    if meta["camera_model"] == "OPENCV_FISHEYE":
        rays = cv2.fisheye.undistortPoints(pixels, matrix, np.array([meta[f"k{i}"] for i in range(1, 3)] + [0.0, 0.0]))
    else:
        rays = cv2.undistortPoints(pixels, matrix, np.array([meta[name] for name in ("k1", "k2", "p1", "p2")]))

    def squares(points: np.ndarray) -> torch.Tensor:
        column, row = np.floor(points * 25).astype(int).T
        return torch.from_numpy(1 + (column % 5) + 5 * (row % 5))

    def drawn(camera: Cameras) -> dict[str, torch.Tensor]:
        fx, fy, cx, cy = (float(value) for value in (camera.fx, camera.fy, camera.cx, camera.cy))
        y, x = np.mgrid[: photo.view_size[0], : photo.view_size[1]] + 0.5
        return {"it": squares(np.stack([(x - cx) / fx, (y - cy) / fy], axis=-1).reshape(-1, 2)).view(photo.view_size)}

    data = manager(bent)
    found = photo.draw(data.camera(0), drawn)["it"]
    truth = photo.scored(squares(rays.reshape(-1, 2)).view(photo.size))
    assert torch.equal(found > 0, truth > 0)
    wrong = (found != truth)[truth > 0].float().mean()
    by_nearest = (on_photo(photo, drawn(data.camera(0))["it"]) != truth)[truth > 0].float().mean()
    assert wrong < 0.03
    assert 2 * wrong < by_nearest


def test_cameras_need_no_photographs(bent: Path, tmp_path: Path) -> None:
    whole, gone = manager(bent), manager(shutil.copytree(bent, tmp_path / "gone"))
    shutil.rmtree(tmp_path / "gone" / "images")
    _ = whole.cached_train, whole.cached_eval  # undistorts the cameras
    fields = ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "camera_type")
    for split in ("train", "test"):
        for view in range(len(whole.names(split))):
            theirs, ours = whole.camera(view, split), gone.camera(view, split)
            for name in fields:
                assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
            assert (ours.metadata or {}).get("cam_idx") == (view if split == "train" else None)
    assert not {"cached_train", "cached_eval"} & gone.__dict__.keys()


def test_the_whole_photograph_is_in_the_wide_view(bent: Path) -> None:
    data = manager(bent)
    data.cached_train  # noqa: B018  undistorts the cameras
    photo, camera = data.photograph(1), data.camera(1)
    wide, moved = photo.whole(camera)
    assert (int(moved.height), int(moved.width)) == wide.view_size
    assert bool((on_photo(wide, torch.ones(wide.view_size)) == 1).all())
    point = torch.tensor([[40.5, 30.5], [128.0, 96.0]])
    offset = torch.tensor([float(moved.cx - camera.cx), float(moved.cy - camera.cy)])
    torch.testing.assert_close(wide.points_to_view(point), photo.points_to_view(point) + offset, atol=1e-3, rtol=0)


def test_points_land_where_labels_do(bent: Path) -> None:
    photo = manager(bent).photograph(0)
    labels = torch.zeros(photo.size, dtype=torch.int32)
    labels[80:83, 120:123] = 5
    y, x = torch.nonzero(photo.to_view(labels) == 5).float().mean(dim=0) + 0.5
    found = photo.points_to_view(torch.tensor([[121.5, 81.5]]))[0]
    assert abs(found[0] - x) < 0.7
    assert abs(found[1] - y) < 0.7


def test_points_of_the_view_go_back_to_the_photograph(bent: Path) -> None:
    data = manager(bent)
    photo = data.photograph(0).whole(data.camera(0))[0]
    height, width = photo.size
    y, x = torch.meshgrid(torch.arange(0.5, height, 7), torch.arange(0.5, width, 7), indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], dim=1)
    there = photo.points_to_view(points)
    seen = there.isfinite().all(dim=1)
    assert seen.float().mean() > 0.9
    torch.testing.assert_close(photo.points_to_photo(there[seen]), points[seen], atol=0.01, rtol=0)
    assert photo.points_to_photo(torch.tensor([[-900.0, -900.0], [torch.nan, 3.0]])).isnan().all()
    assert photo.of_view().points_to_photo(points) is points


def test_ground_truth_is_undistorted_as_masks_are(bent: Path) -> None:
    data = manager(bent)
    truth = ground_truth(data, bent / "masks", "train")
    assert len(truth) == len(data.train_dataset)
    for view in (0, 5):
        labels = read_label_map(bent / "masks" / f"{data.names('train')[view]}.png")
        assert torch.equal(truth[view], data.photograph(view).to_view(labels).long())


def test_overlapping_masks_on_both(bent: Path) -> None:
    data = manager(bent)
    on_view, on_photo = data.mask_set(1), data.photograph_masks(1)
    assert on_view is not None
    assert on_photo is not None
    assert (on_photo.height, on_photo.width) == data.photograph(1).size
    assert (on_view.height, on_view.width) == data.photograph(1).view_size
    assert len(on_view) == len(on_photo)


def test_fine_ground_truth_keeps_its_size_where_nothing_is_distorted(ball_room: Path, tmp_path: Path) -> None:
    data = manager(ball_room)
    name = data.names("test")[0]
    fine = read_label_map(ball_room / "gt/object" / f"{name}.png").repeat_interleave(2, 0).repeat_interleave(2, 1)
    write_label_map(tmp_path / f"{name}.png", fine)
    assert torch.equal(ground_truth(data, tmp_path, "test")[0], fine.long())
    write_label_map(tmp_path / f"{name}.png", fine[:, :300])
    with pytest.raises(GsegError, match="300x384"):
        ground_truth(data, tmp_path, "test")


# ------------------------------------------------------------------------------------------- on their side


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.T, 2),
    8: np.rot90,
}
"""What EXIF's orientations ask of a viewer."""


def on_their_side(scene: Path, orientation: int, upright: bool = True, lists: bool = False) -> Path:
    """Note an orientation in the photographs, and make the masks as one would who heeds it: label maps or RLE."""
    for path in (scene / "images").iterdir():
        image = Image.open(path)
        image.load()
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
        for folder in ("masks", "gt/object"):
            mask = scene / folder / path.name
            ids = np.asarray(Image.open(mask)).astype(np.uint16)
            if upright:
                ids = np.ascontiguousarray(UPRIGHT[orientation](ids))
            if lists and folder == "masks":
                mask.unlink()
                write_mask_set(mask.with_suffix(".json"), MaskSet.from_labels(torch.from_numpy(ids.astype(np.int32))))
            else:
                Image.fromarray(ids).save(mask)
    return scene


def same_regions(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two label maps differ by the numbers of their labels alone."""
    pairs = torch.stack([one.flatten(), other.flatten()]).unique(dim=1)
    return pairs.shape[1] == len(pairs[0].unique()) == len(pairs[1].unique())


@pytest.mark.parametrize(
    ("orientation", "upright", "lists"),
    [
        *((orientation, True, lists) for orientation in range(2, 9) for lists in (False, True)),
        *((orientation, False, lists) for orientation, lists in ((3, False), (4, True), (6, False), (8, True))),
    ],
)
def test_masks_of_turned_photographs_lie_on_the_stored_pixels(
    ball_room: Path, tmp_path: Path, orientation: int, upright: bool, lists: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = on_their_side(Path(shutil.copytree(ball_room, tmp_path / "s")), orientation, upright, lists)
    turned, plain = manager(scene), manager(ball_room)
    for view in (0, 7):
        assert same_regions(turned.labels(view), plain.labels(view))
        here, there = turned.mask_set(view), plain.mask_set(view)
        assert isinstance(here, MaskSet)
        assert isinstance(there, MaskSet)
        assert torch.equal(here.decode().sum(dim=(1, 2)).sort().values, there.decode().sum(dim=(1, 2)).sort().values)
        assert torch.equal(here.decode().any(dim=0), there.decode().any(dim=0))
    told = " ".join(capsys.readouterr().out.split())
    assert ("turned back" in told) == (upright and orientation > 1)
    if not lists:
        truth = ground_truth(turned, scene / "gt/object", "train")
        assert torch.equal(truth[3], ground_truth(plain, ball_room / "gt/object", "train")[3])
        assert check(scene / "masks", scene_images(scene)).ok


def test_one_turned_mask_tells_of_those_whose_size_does_not(ball_room: Path, tmp_path: Path) -> None:
    scene = Path(shutil.copytree(ball_room, tmp_path / "s"))
    names = sorted(path.name for path in (scene / "images").iterdir())
    for name in names[:8]:  # upside down: the same proportions
        single(scene, name, 3, lambda a: a[::-1, ::-1])
    for name in names[8:]:
        single(scene, name, 6, lambda a: np.rot90(a, -1))
    data, plain = manager(scene), manager(ball_room)
    assert all(torch.equal(data.labels(view), plain.labels(view)) for view in range(len(names) - 4))


def single(scene: Path, name: str, orientation: int, turn) -> None:
    image = Image.open(scene / "images" / name)
    image.load()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(scene / "images" / name, exif=exif)
    ids = np.asarray(Image.open(scene / "masks" / name)).astype(np.uint16)
    Image.fromarray(np.ascontiguousarray(turn(ids))).save(scene / "masks" / name)


def test_pictures_in_place_of_label_maps_are_refused(ball_room: Path) -> None:
    data = manager(ball_room)
    data.config.masks_dir = Path("images")
    with pytest.raises(GsegError, match="is a picture and no label map"):
        data.require_masks()


def test_turned_masks_without_a_tag_are_refused(ball_room: Path, tmp_path: Path) -> None:
    scene = Path(shutil.copytree(ball_room, tmp_path / "s"))
    for path in (scene / "masks").iterdir():
        write_label_map(path, read_label_map(path).T.contiguous())
    with pytest.raises(GsegError, match="no EXIF tag"):
        manager(scene).require_masks()


# --------------------------------------------------------------------------------------------------- names


def two_cameras(ball_room: Path, folder: Path) -> Path:
    """The scene with its photographs in `left` and `right`, of the same names."""
    scene = Path(shutil.copytree(ball_room, folder))
    meta = json.loads((scene / "transforms.json").read_text())
    renamed = {}
    for view, frame in enumerate(meta["frames"]):
        old = Path(frame["file_path"]).name
        new = f"{('left', 'right')[view % 2]}/{view // 2:04d}.png"
        for kind in ("images", "masks", "gt/object"):
            (scene / kind / new).parent.mkdir(exist_ok=True)
            (scene / kind / old).rename(scene / kind / new)
        renamed[frame["file_path"]] = frame["file_path"] = f"images/{new}"
    for key in ("train_filenames", "test_filenames"):
        meta[key] = [renamed[name] for name in meta[key]]
    (scene / "transforms.json").write_text(json.dumps(meta))
    return scene


def test_views_of_one_name_in_two_folders_are_two_views(ball_room: Path, tmp_path: Path) -> None:
    scene = two_cameras(ball_room, tmp_path / "s")
    data, plain = manager(scene), manager(ball_room)
    names = data.names("train")
    assert len(set(names)) == len(names)
    assert {name.split("/")[0] for name in names} == {"left", "right"}
    mirrored, single_folder = (
        ground_truth(data, scene / "gt/object", "train"),
        ground_truth(plain, ball_room / "gt/object", "train"),
    )
    assert sorted(int(t.sum()) for t in mirrored.values()) == sorted(int(t.sum()) for t in single_folder.values())


def test_ground_truth_that_could_be_of_two_views_is_refused(ball_room: Path, tmp_path: Path) -> None:
    scene = two_cameras(ball_room, tmp_path / "s")
    shutil.copytree(scene / "gt/object/left", tmp_path / "flat")
    with pytest.raises(GsegError, match=r"both .*subfolders as the images are"):
        ground_truth(manager(scene), tmp_path / "flat", "train")


def test_names_are_those_of_the_masks(tmp_path: Path) -> None:
    def names(*paths: str) -> list[str]:
        return list(view_names(tmp_path, [tmp_path / path for path in paths]).values())

    assert names("images/a.jpg", "images/b.jpg") == ["a", "b"]
    assert names("images/left/1.jpg", "images/right/1.jpg") == ["left/1", "right/1"]
    assert names("test/r_0.png", "train/r_0.png") == ["test/r_0", "train/r_0"]
    assert names("images_4/1.jpg", "images_4/1.png") == ["1.jpg", "1.png"]
    assert names("images/A.png", "images/a.png") == ["A.png", "a.png"], "one file on many disks"
    assert names("images/cam.0.1.png", "images/cam.1.1.png") == ["cam.0.1", "cam.1.1"]
    assert names("../photos/1.png", "../photos/2.png") == ["photos/1", "photos/2"], "never above a folder of results"


def test_colors_of_a_view_come_at_any_size_and_not_where_the_photograph_is_gone(
    small_scene: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(small_scene, tmp_path / "scene")
    data = manager(copy)
    image = data.read_photograph(1)["image"][..., :3]
    height, width = image.shape[:2]
    whole = view_colors(data, 1, height, width)
    assert whole is not None
    assert torch.equal(whole, image)
    half = view_colors(data, 1, height // 2, width // 2)
    assert half is not None
    assert half.dtype == torch.uint8
    means = image.float().view(height // 2, 2, width // 2, 2, 3).mean(dim=(1, 3))
    assert (half.float() - means).abs().max() <= 0.51
    data.train_dataset.image_filenames[1].unlink()
    assert view_colors(data, 1, height, width) is None


def test_colors_of_a_damaged_photograph_are_left_out_with_a_word(
    small_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are only of help: a vote at the end of a training is not lost for them."""
    data = manager(shutil.copytree(small_scene, tmp_path / "scene"))
    height, width = data.read_photograph(0)["image"].shape[:2]
    path = data.train_dataset.image_filenames[0]
    path.write_bytes(path.read_bytes()[:300])
    assert view_colors(data, 0, height, width) is None
    assert path.name in "".join(capsys.readouterr())
    assert view_colors(data, 1, height, width) is not None


def test_what_is_transparent_in_a_photograph_is_gray(small_scene: Path, tmp_path: Path) -> None:
    """Whatever color is stored there; and photographs that are loaded are not read again."""
    data = manager(shutil.copytree(small_scene, tmp_path / "scene"))
    image = torch.zeros(4, 6, 4, dtype=torch.uint8)
    image[..., 0] = 200
    image[:, :3, 3] = 255
    data.__dict__["cached_train"] = [{"image": image}]
    colors = view_colors(data, 0, 4, 6)
    assert colors is not None
    assert torch.equal(colors[:, :3], image[:, :3, :3])
    assert torch.equal(colors[:, 3:], torch.full((4, 3, 3), 128, dtype=torch.uint8))
