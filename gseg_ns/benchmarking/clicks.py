"""Click IoU: what a single click on an object selects in 3D, seen from views that nobody clicked on.

For each ground-truth object one training view that shows it well and three points of its interior there (seeded, see
`gseg_ns.evaluation.clicks`); each point alone is a prompt. Methods with scales answer at three fixed ones, those with a
tree by all nodes around the click, and what has the best IoU on the clicked view is taken, as a user would; beside it
what a click means without that choice. Scored is the IoU of the selection rendered on the test views, on the pixels of
their photographs, those of all views together; the mean is over the clicks of an object, then over objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.evaluation.clicks import ObjectClicks, draw_clicks
from gseg_ns.evaluation.folders import id_files
from gseg_ns.evaluation.overlap import resize_nearest
from gseg_ns.lifting.thresholds import SAME_THING
from gseg_ns.lifting.votes import lift_truth
from gseg_ns.reading import integer, read_json, reading
from gseg_ns.rendering import Camera
from gseg_ns.runs.prompting import Prompter
from gseg_ns.selection.postprocess import clean_up
from gseg_ns.splats.projection import project_splats

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from gseg_ns.runs.run import Run

CHANNELS = 32
"""Selections composited at a time."""

LEVELS = ("part", "best", "group")
"""Fields of `ClickedObject` about what a click means without a choice."""


@dataclass(frozen=True)
class ClickProtocol:
    """How the objects of a run are clicked."""

    scales: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Granularities that a click may choose from, for methods that have them"""
    threshold: float = SAME_THING
    """Least cosine, for methods that answer by features"""
    clicks: int = 3
    """Clicks on each object"""
    seed: int = 0
    """Seed of the places of the clicks"""
    clean: bool = False
    """Score the selections after post-processing (`clean_up`) too"""


@dataclass(frozen=True)
class ClickedObject:
    """The clicks on one object, means over them; percent."""

    name: int
    iou: float
    ceiling: float
    """IoU of the Gaussians that the ground truth of the training views gives the object (`lift_truth`), drawn as the
    model draws selections."""
    near: float
    """Part of the selected Gaussians that are not far from the object: within its box, enlarged by the box's own size
    on every side. 100 for an empty selection."""
    scale: float
    """The chosen one; 0 for methods without. Of a tree, the place of the node on its path, from 0 (part) to 1."""
    clean_iou: float | None = None
    """`iou` after post-processing."""
    clean_near: float | None = None
    part: float | None = None
    """Of methods with a tree, IoU of the part under the click, without a choice,"""
    best: float | None = None
    """of the node of the default cut,"""
    group: float | None = None
    """and of the root."""


def score_clicks(run: Run, ground_truth: Path, protocol: ClickProtocol | None = None) -> list[ClickedObject]:
    """Click on the objects of a run.

    Args:
        run: of any method.
        ground_truth: folder of label maps of training and test views, named as the images. `scene.json` beside the
            folder may say which parts belong to object 0, the background; they are not clicked on.
        protocol: scales, threshold and number of clicks; the defaults unless given.

    Returns:
        one entry an object that training and test views show; none where the folder has no map of a training view.

    Raises:
        GsegError: the folder is missing or damaged.
    """
    return _Clicks(run, ground_truth, protocol or ClickProtocol()).score()


def check_levels(ground_truths: Sequence[Path]) -> None:
    """Refuse folders of ground truth that cannot be clicked on side by side.

    Raises:
        GsegError: a folder is missing or has no label map, or two have one name, by which their scores are called.
    """
    seen: dict[str, Path] = {}
    for folder in ground_truths:
        id_files(folder)
        other = seen.setdefault(folder.name, folder)
        if other is not folder:
            raise GsegError(
                f"{other} and {folder} have one name, and so would their scores: rename one, or leave it out"
            )


def summary(objects: Sequence[ClickedObject]) -> dict[str, float]:
    """Means over objects as scores: `click_iou`, `click_ceiling`, `click_near`, and those after cleaning where known.

    Empty where there are no objects.
    """
    if not objects:
        return {}
    optional = [name for name in ("clean_iou", "clean_near", *LEVELS) if getattr(objects[0], name) is not None]
    return {
        f"click_{name}": fmean(getattr(entry, name) for entry in objects)
        for name in ["iou", "ceiling", "near", *optional]
    }


def click_scores(run: Run, ground_truths: Sequence[Path], protocol: ClickProtocol | None = None) -> dict[str, float]:
    """Click on the objects of several ground truths, e.g. parts, objects and groups.

    Returns:
        `summary`, as means over the ground truths; where there are several, the scores of each too, as
        `click_iou_part` and so on by the names of the folders.
    """
    levels = {path.name: summary(score_clicks(run, path, protocol)) for path in ground_truths}
    known = [scores for scores in levels.values() if scores]
    result = {key: fmean(scores[key] for scores in known) for key in known[0]} if known else {}
    if len(levels) > 1:
        result |= {f"{key}_{level}": value for level, scores in levels.items() for key, value in scores.items()}
    return result


class _Clicks:
    """One run and one ground truth."""

    def __init__(self, run: Run, ground_truth: Path, protocol: ClickProtocol) -> None:
        self.model = run.model
        self.prompter = Prompter(run.model)
        self.protocol = protocol
        self.splats = run.model.splats()

        given = run.truth(ground_truth, "train", required=False)
        found = [(to_camera(self.model.corrected(view.camera)), labels) for view, labels in given]
        self.train = [(camera, resize_nearest(labels, camera.height, camera.width)) for camera, labels in found]
        scored = run.truth(ground_truth, "test", required=False, pixels="photograph")
        self.test = [(view, resize_nearest(labels, *view.photograph.size)) for view, labels in scored]
        background = background_ids(ground_truth)
        shown = {int(i) for _, labels in self.test for i in labels.unique()} - {0} - background
        self.clicks = draw_clicks([labels for _, labels in self.train], shown, protocol.clicks, protocol.seed)

    @torch.no_grad()
    def score(self) -> list[ClickedObject]:
        """See `score_clicks`."""
        if not self.clicks:
            return []
        names = torch.tensor([entry.name for entry in self.clicks])
        truth = lift_truth(self.splats, self.train)
        chosen, scales, levels = zip(*(self._answers(entry) for entry in self.clicks), strict=True)  # [N, C] each
        selections = [torch.cat(chosen, dim=1)]
        if self.protocol.clean:
            cleaned = [clean_up(self.splats.means, mask) for mask in selections[0].T]
            selections.append(torch.stack(cleaned, dim=1))
        own = truth[:, None] == names.to(truth)
        owners = names.repeat_interleave(self.protocol.clicks)
        ceilings = self._pooled_iou(own, names)
        ious = [self._pooled_iou(entry, owners).view(len(names), -1).mean(dim=1) for entry in selections]
        unchosen = dict.fromkeys(LEVELS, None) if levels[0] is None else self._level_ious(levels, owners)
        nears = [self._near(entry, own).view(len(names), -1).mean(dim=1) for entry in selections]
        return [
            ClickedObject(
                int(names[k]),
                float(ious[0][k]),
                float(ceilings[k]),
                float(nears[0][k]),
                fmean(scales[k]),
                *((float(ious[1][k]), float(nears[1][k])) if self.protocol.clean else (None, None)),
                *(None if values is None else float(values[k]) for values in unchosen.values()),
            )
            for k in range(len(names))
        ]

    def _level_ious(self, levels: Sequence[Tensor], owners: Tensor) -> dict[str, Tensor]:
        """IoU [K] of the selections [N, C, 3] of the clicks on each object, by the names of `LEVELS`."""
        every = torch.cat([*levels], dim=1)
        return {
            name: self._pooled_iou(every[..., place], owners).view(len(levels), -1).mean(dim=1)
            for place, name in enumerate(LEVELS)
        }

    def _answers(self, clicks: ObjectClicks) -> tuple[Tensor, list[float], Tensor | None]:
        """The selection of each click, bool [N, C], the scale that was best for it, and, of a tree, those of `LEVELS`.

        These are bool [N, C, 3].
        """
        camera, labels = self.train[clicks.view]
        here = labels.to(self.splats.device) == clicks.name
        meta = project_splats(self.splats, camera)
        tree = self.model.tree()
        chosen, best_scales, levels = [], [], []
        for x, y in clicks.points.tolist():
            candidates, scales, unchosen = (
                self._at_scales(camera, x, y) if tree is None else self._on_path(camera, x, y)
            )
            best = int(_iou(self.model.silhouettes(meta, candidates), here).argmax())
            chosen.append(candidates[:, best])
            best_scales.append(scales[best])
            levels.append(unchosen)
        return torch.stack(chosen, dim=1), best_scales, None if tree is None else torch.stack(levels, dim=1)

    def _at_scales(self, camera: Camera, x: float, y: float) -> tuple[Tensor, list[float], Tensor]:
        """What a click may mean, bool [N, S], and at which scales; and nothing at levels."""
        scales = self.protocol.scales if self.model.has_scales else (None,)
        candidates = torch.stack([self._selected(camera, x, y, scale) for scale in scales], dim=1)
        return candidates, [scale or 0.0 for scale in scales], candidates[:, :0]

    def _on_path(self, camera: Camera, x: float, y: float) -> tuple[Tensor, list[float], Tensor]:
        """The nodes around a click, bool [N, S], from 0 (the part) to 1, and what it means at `LEVELS` [N, 3]."""
        try:
            point = self.prompter.point(camera, x, y)
        except GsegError:
            nothing = torch.zeros((len(self.splats), len(LEVELS)), dtype=torch.bool, device=self.splats.device)
            return nothing[:, :1], [0.0], nothing
        if not point.path:  # beyond the tree: a cluster of features
            meant = self.prompter.select_points([point])[:, None]
            return meant, [0.0], meant.expand(-1, len(LEVELS))
        nodes = torch.stack([self.prompter.node(node) for node in point.path], dim=1)
        defaults = [0, point.path.index(point.group), -1]
        return nodes, torch.linspace(0, 1, len(point.path)).tolist(), nodes[:, defaults]

    def _selected(self, camera: Camera, x: float, y: float, scale: float | None) -> Tensor:
        """What a click selects: bool [N]; nothing where it hits nothing."""
        try:
            point = self.prompter.point(camera, x, y, scale=scale)
        except GsegError:
            return torch.zeros(len(self.splats), dtype=torch.bool, device=self.splats.device)
        return self.prompter.select_points([point], scale, self.protocol.threshold)

    def _pooled_iou(self, selections: Tensor, names: Tensor) -> Tensor:
        """IoU in percent of selections [N, K] with objects [K], over the pixels of all test views: [K]."""
        common = torch.zeros(len(names), dtype=torch.double)
        union = torch.zeros_like(common)
        for view, labels in self.test:
            for columns in torch.arange(len(names)).split(CHANNELS):
                seen = view.photograph.draw(view.camera, partial(self._seen, selections[:, columns]))["seen"]
                there = labels[..., None] == names[columns]
                common[columns] += (seen & there).sum(dim=(0, 1))
                union[columns] += (seen | there).sum(dim=(0, 1))
        return 100 * common / union.clamp_min(1)

    def _seen(self, selections: Tensor, camera: Cameras) -> dict[str, Tensor]:
        """Where selections bool [N, K] are seen by a camera [1]: bool [H, W, K]."""
        meta = project_splats(self.splats, to_camera(self.model.corrected(camera)))
        return {"seen": self.model.silhouettes(meta, selections).cpu()}

    def _near(self, selections: Tensor, own: Tensor) -> Tensor:
        """Percent of each selection [N, K * C] that is near its object's own Gaussians [N, K]: [K * C]."""
        means = self.splats.means
        near = []
        for k in range(own.shape[1]):
            mine = means[own[:, k]]
            for chosen in selections.view(len(means), own.shape[1], -1)[:, k].T:
                if len(mine) == 0 or not bool(chosen.any()):
                    near.append(100.0)
                    continue
                low, high = (mine.quantile(share, dim=0) for share in (0.01, 0.99))
                within = (means[chosen] >= 2 * low - high) & (means[chosen] <= 2 * high - low)
                near.append(100 * float(within.all(dim=1).float().mean()))
        return torch.tensor(near)


def background_file(ground_truth: Path) -> Path | None:
    """`scene.json` beside the folder `part`, which says what belongs to the background; None where there is none."""
    path = ground_truth.parent / "scene.json"
    return path if ground_truth.name == "part" and path.is_file() else None


def background_ids(ground_truth: Path) -> set[int]:
    """Ids of parts of the background, by `background_file`.

    Raises:
        GsegError: the file is damaged.
    """
    path = background_file(ground_truth)
    if path is None:
        return set()
    about = ("a list of parts", "It needs `parts` with part_id and object_id: repair or remove it.")
    with reading(path, *about):
        parts = read_json(path, *about)["parts"]
        return {integer(part["part_id"]) for part in parts if part["object_id"] == 0}


def _iou(seen: Tensor, truth: Tensor) -> Tensor:
    """IoU [K] of masks [H, W, K] with one [H, W]; 0 where both are empty."""
    there = truth[..., None]
    return (seen & there).sum(dim=(0, 1)) / (seen | there).sum(dim=(0, 1)).clamp_min(1)
