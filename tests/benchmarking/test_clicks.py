from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gseg_ns.benchmarking import clicks
from gseg_ns.benchmarking.ablation import with_levels
from gseg_ns.benchmarking.clicks import ClickProtocol, background_ids, check_levels, click_scores, score_clicks
from gseg_ns.benchmarking.published import TABLES
from gseg_ns.benchmarking.quality import SceneData
from gseg_ns.benchmarking.tables import clicks_table, metric_name
from gseg_ns.data.photographs import Photograph
from gseg_ns.errors import GsegError
from gseg_ns.evaluation.folders import id_files, read_ids
from gseg_ns.lifting.strengths import silhouettes
from gseg_ns.lifting.tree import Tree
from gseg_ns.lifting.votes import lift_truth
from gseg_ns.masks import MaskFolder
from gseg_ns.splats import Splats

WIDTH, HEIGHT = 48, 32


class Model:
    """A wall of Gaussians before the camera; a left and a right object, which a coarse scale puts together."""

    main_feature = "affinity"
    has_scales = True
    prompts_by_feature = True
    step = 0
    strengths: Tensor | None = None

    def __init__(self) -> None:
        y, x = torch.meshgrid(torch.arange(-1.1, 1.1, 0.07), torch.arange(-1.6, 1.6, 0.07), indexing="ij")
        means = torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), 3.0)], dim=1)
        self.right = means[:, 0] > 0
        one, other = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 1.0])
        self.gauss_params = {"affinity": torch.where(self.right[:, None], other, one)}
        self.means = means

    def corrected(self, camera: Any) -> Any:
        return camera

    def splats(self) -> Splats:
        count = len(self.means)
        return Splats(
            means=self.means,
            quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
            scales=torch.full((count, 3), 0.04).log(),
            opacities=torch.full((count,), 4.0),
            sh=torch.zeros(count, 1, 3),
        )

    def silhouettes(self, meta: dict[str, Any], selections: Tensor) -> Tensor:
        return silhouettes(meta, selections, self.strengths)

    def tree(self) -> Tree | None:
        return None

    def geometry_version(self) -> tuple[int, ...]:
        return (0,)

    def gate(self, scale: float) -> Tensor:
        # The first channel is common to all, the others tell the halves apart.
        return torch.tensor([1.0, 0.0, 0.0]) if scale > 0.5 else torch.tensor([0.0, 1.0, 1.0])

    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        return self.right.long() + 1

    def decode(self, features: Tensor, scale: float | None = None) -> Tensor:
        return (features[..., 2] > features[..., 1]).long() + 1

    def group_under(
        self,
        feature: torch.Tensor,
        rows: torch.Tensor,
        weights: torch.Tensor,
        scale: float | None = None,
        in_view: Any = None,
    ) -> int:
        return int(self.decode(feature[None], scale))


class Run:
    def __init__(self) -> None:
        self.model = Model()

    def truth(
        self, folder: Path, split: str, required: bool = True, pixels: str = "view"
    ) -> list[tuple[Any, torch.Tensor]]:
        files = id_files(folder)
        assert pixels == ("view" if split == "train" else "photograph")
        names = ("a", "b") if split == "train" else ("c",)
        photograph = Photograph(Path("c.png"), (HEIGHT, WIDTH), (HEIGHT, WIDTH))
        return [
            (SimpleNamespace(camera=name, photograph=photograph), read_ids(files[name]))
            for name in names
            if name in files
        ]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    from gseg_ns.rendering import Camera

    K = torch.tensor([[48.0, 0, WIDTH / 2], [0, 48.0, HEIGHT / 2], [0, 0, 1]])
    monkeypatch.setattr(clicks, "to_camera", lambda _: Camera(torch.eye(4), K, WIDTH, HEIGHT))
    return Run()


def write(folder: Path, labels: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for name in "abc":
        Image.fromarray(labels.astype(np.uint16)).save(folder / f"{name}.png")
    return folder


def halves() -> np.ndarray:
    labels = np.full((HEIGHT, WIDTH), 4)
    labels[:, WIDTH // 2 :] = 7
    return labels


def test_clicks_choose_the_scale_that_fits(run: Any, tmp_path: Path) -> None:
    objects = score_clicks(run, write(tmp_path / "object", halves()))
    assert [entry.name for entry in objects] == [4, 7]
    assert all(entry.iou > 90 and entry.scale < 1 for entry in objects)
    assert all(entry.ceiling >= entry.iou - 1 for entry in objects)
    assert all(entry.near == 100 and entry.clean_iou is None for entry in objects)
    [whole] = score_clicks(run, write(tmp_path / "group", np.full((HEIGHT, WIDTH), 2)))
    assert whole.iou > 95
    assert whole.scale == 1


def test_what_is_no_object_wins_gaussians_too(run: Any, tmp_path: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), int)
    labels[8:24, 12:36] = 7
    splats = run.model.splats()
    own = lift_truth(splats, [(clicks.to_camera(None), torch.from_numpy(labels))])
    x, y = (splats.means[:, :2] / 3 * 48 + torch.tensor([WIDTH / 2, HEIGHT / 2])).T
    outside = torch.maximum((x - 24).abs() - 12, (y - 16).abs() - 8)
    assert (own[outside < -1] == 7).all()
    assert (own[outside > 1] == 0).all()  # though many of them reach into it
    [entry] = score_clicks(run, write(tmp_path / "object", labels))
    assert entry.ceiling > 85


def test_without_a_scale_that_fits_the_score_is_poor(run: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "object", halves())
    for entry in score_clicks(run, folder, ClickProtocol(scales=(1.0,))):
        assert 40 < entry.iou < 60
        assert entry.ceiling > 90


def test_groups_answer_clicks_too(run: Any, tmp_path: Path) -> None:
    run.model.prompts_by_feature = run.model.has_scales = False
    assert all(entry.iou > 90 for entry in score_clicks(run, write(tmp_path / "object", halves())))


def test_selections_are_scored_as_the_model_draws_them(run: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "object", halves())
    plain = score_clicks(run, folder)
    run.model.strengths = torch.where(run.model.right, 9.0, 1.0)  # the left half is too large, the right one too small
    loud = {entry.name: entry for entry in score_clicks(run, folder)}
    for entry in plain:
        assert loud[entry.name].iou < entry.iou
        assert loud[entry.name].ceiling < entry.ceiling


def test_outliers_are_counted_and_cleaned(run: Any, tmp_path: Path) -> None:
    far = run.model.means[:20] + torch.tensor([0.0, 0.0, -40.0])  # behind the camera: no view shows them
    run.model.means = torch.cat([run.model.means, far])
    run.model.right = torch.cat([run.model.right, torch.ones(20, dtype=torch.bool)])
    features = run.model.gauss_params["affinity"]
    run.model.gauss_params["affinity"] = torch.cat([features, torch.tensor([1.0, 0.0, 1.0]).expand(20, 3)])
    left, right = score_clicks(run, write(tmp_path / "object", halves()), ClickProtocol(clean=True))
    assert left.near == 100
    assert 90 < right.near < 99
    assert right.clean_near == 100
    assert right.clean_iou is not None
    assert right.clean_iou > 90


def test_levels_are_columns(run: Any, tmp_path: Path) -> None:
    folders = [write(tmp_path / "object", halves()), write(tmp_path / "group", np.full((HEIGHT, WIDTH), 2))]
    scores = click_scores(run, folders)
    assert scores["click_iou"] == pytest.approx((scores["click_iou_object"] + scores["click_iou_group"]) / 2)
    assert "click_iou_object" not in click_scores(run, folders[:1])
    table = with_levels(TABLES["saga-v1"][0], ["part", "object"])
    assert table.metrics == ("click_iou_part", "click_iou_object")
    assert table.rows[0].published == (90.93, 90.93)
    assert metric_name(table.metrics[0]) == "part click IoU"
    assert with_levels(TABLES["gaga"][0], ["part", "object"]) == TABLES["gaga"][0]
    assert clicks_table({"object": score_clicks(run, folders[0])}, objects=True).row_count == 3


def test_a_level_may_have_any_name() -> None:
    assert metric_name("click_iou_fine_part") == "fine_part click IoU"
    assert metric_name("click_clean_near_part") == "part cleaned near"
    assert metric_name("click_iou") == "click IoU"


def test_levels_are_checked_beforehand(tmp_path: Path) -> None:
    one, same = write(tmp_path / "a" / "part", halves()), write(tmp_path / "b" / "part", halves())
    check_levels([one])
    with pytest.raises(GsegError, match="have one name"):
        check_levels([one, same])
    with pytest.raises(GsegError, match="nothing is not a folder"):
        check_levels([one, tmp_path / "nothing"])


def test_what_is_clicked_on_is_part_of_a_cell(tmp_path: Path) -> None:
    for name in ("masks", "gt/instance", "gt/part"):
        write(tmp_path / name, halves())

    def key(*clicks: str) -> dict[str, Any]:
        return SceneData(tmp_path, "masks", "gt/instance", clicks).click_key

    assert key() == {"clicks": ["gt/instance"]}  # which the scene's own key has read
    first = key("gt/part", "gt/instance")
    (tmp_path / "gt/scene.json").write_text(json.dumps({"parts": [{"part_id": 4, "object_id": 0}]}))
    second = key("gt/part", "gt/instance")
    write(tmp_path / "other", np.flip(halves()))
    (tmp_path / "other/a.png").replace(tmp_path / "gt/part/a.png")
    third = key("gt/part", "gt/instance")
    assert first["clicks"] == third["clicks"] == ["gt/part", "gt/instance"]
    assert len({key["clicks_digest"] for key in (first, second, third)}) == 3


def test_the_background_is_not_clicked(tmp_path: Path) -> None:
    parts = [{"part_id": 4, "object_id": 0}, {"part_id": 7, "object_id": 3}]
    (tmp_path / "scene.json").write_text(json.dumps({"parts": parts}))
    assert background_ids(tmp_path / "part") == {4}
    assert background_ids(tmp_path / "object") == set()
    (tmp_path / "scene.json").write_text("{}")
    with pytest.raises(GsegError, match=r"scene\.json"):
        background_ids(tmp_path / "part")


def test_ground_truth_of_test_views_only(run: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "object", halves())
    for name in "ab":
        (folder / f"{name}.png").unlink()
    assert score_clicks(run, folder) == []
    assert click_scores(run, [folder]) == {}


def test_stand_in_embeddings(small_scene: Path, tmp_path: Path) -> None:
    from gseg_ns.benchmarking.stand_in import embedding_options
    from gseg_ns.lifting.sam_guidance import read_embedding

    option, folder = embedding_options(small_scene, "masks", tmp_path)
    assert option == "--pipeline.model.embeddings-dir"
    files = sorted(Path(folder).rglob("*.npz"))
    assert len(files) == len(MaskFolder(small_scene / "masks"))
    embedding = read_embedding(files[0])
    assert embedding.shape == (48, 64, 256)
    stamps = [path.stat().st_mtime_ns for path in files]
    embedding_options(small_scene, "masks", tmp_path)
    assert stamps == [path.stat().st_mtime_ns for path in files]


def test_stand_ins_never_land_among_the_masks(tmp_path: Path) -> None:
    from gseg_ns.benchmarking.stand_in import embedding_options

    places = []
    for scene in (tmp_path / "a" / "room", tmp_path / "b" / "room"):
        masks = write(scene / "masks", halves())
        (scene / "images").mkdir()
        for name in "abc":
            Image.new("RGB", (WIDTH, HEIGHT), "red").save(scene / "images" / f"{name}.png")
        before = sorted((scene / "masks").iterdir())
        for named in (str(masks), "masks", "masks/"):  # an absolute one is the same folder
            places.append(embedding_options(scene, named, tmp_path / "out")[1])
        assert sorted((scene / "masks").iterdir()) == before
    assert len(set(places)) == 2
    assert all(Path(place).is_relative_to(tmp_path / "out") for place in places)


def test_embeddings_of_the_scene_are_preferred(tmp_path: Path) -> None:
    from gseg_ns.benchmarking.stand_in import embedding_options

    (tmp_path / "masks").mkdir()
    (tmp_path / "masks_embeddings").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "masks" / "a.png")
    assert embedding_options(tmp_path, "masks", tmp_path / "out") == ()


def test_clicks_choose_a_node_of_the_tree(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = run.model
    nodes = torch.where(model.right, 3, 2)
    tree = Tree(torch.tensor([0, 0, 1, 1]), nodes, torch.ones(4), torch.ones(len(nodes)), torch.arange(4) >= 2)
    model.prompts_by_feature, model.tree = False, lambda: tree
    model.gaussian_groups = lambda scale=None: tree.labels("object")
    model.group_under = lambda feature, rows, weights, scale=None, in_view=None: int(nodes[rows[weights.argmax()]])
    folders = [write(tmp_path / "object", halves()), write(tmp_path / "group", np.full((HEIGHT, WIDTH), 2))]
    for entry in score_clicks(run, folders[0]):
        assert entry.scale == 0
        assert entry.iou == entry.part == entry.best
        assert entry.iou > 90
        assert (entry.group or 100) < 60
    [whole] = score_clicks(run, folders[1])
    assert whole.scale == 1
    assert whole.iou == whole.group
    assert whole.iou > 95
    assert (whole.best or 100) < 60
    assert click_scores(run, folders[1:])["click_best"] == whole.best
    table = clicks_table({"object": score_clicks(run, folders[0]), "group": [whole]})
    assert "unchosen: best" in [str(column.header) for column in table.columns]
