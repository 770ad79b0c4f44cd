"""Association and the closed-form vote on given Gaussians: what masks and geometry allow before anything is trained.

Rendering is linear in labels, so the contributions of each Gaussian to the masks of each view are computed once; every
association is then a renumbering of columns and a sum, which makes an ablation row a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gseg_ns import gpu
from gseg_ns.benchmarking.scoring import score_labels
from gseg_ns.lifting.association import Associated, AssociationOptions, associate
from gseg_ns.lifting.hidden import name_hidden, shown_share
from gseg_ns.lifting.identity import SILENT
from gseg_ns.lifting.memory_bank import relabel
from gseg_ns.lifting.strengths import StrengthOptions, Strengths, fit_strengths, label_image
from gseg_ns.lifting.votes import VoteStore, lift, view_votes
from gseg_ns.masks import resize_labels
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

Association = AssociationOptions
"""How masks of different views find together: as kept results name it."""


@dataclass
class View:
    """A training view with masks."""

    name: str
    camera: Camera
    labels: Tensor  # [H, W] int32, 1..L in this view, 0 = unlabelled
    photograph: Callable[[int, int], Tensor | None] = lambda height, width: None
    """Its colors at a size, see `view_colors`"""


class ClosedForm:
    """A scene, its masks and trained Gaussians, prepared for any number of associations."""

    def __init__(
        self,
        splats: Splats,
        views: Sequence[View],
        votes: VoteStore,
        truth: VoteStore,
        test: Sequence[tuple[dict[str, Any], Tensor]],
        shown: Tensor | None,
        truth_maps: Sequence[tuple[Camera, Tensor]] = (),
    ) -> None:
        """Hold what `prepare` found.

        Args:
            splats: the Gaussians.
            views: training views with masks, in the order of the images' names.
            votes: what the Gaussians give to their masks.
            truth: the same for the ground truth of those views that have any.
            test: projection and ground truth [H, W] of each test view.
            shown: [N], the largest `shown_share` of each Gaussian among `views`; None where these are all views.
            truth_maps: camera and ground truth [H, W] of the training views that `truth` is of.
        """
        self.splats = splats
        self.views = views
        self.votes = votes
        self.truth = truth
        self.test = test
        self.truth_maps = truth_maps
        self.shown = shown

    @classmethod
    def prepare(
        cls,
        scene: Path,
        masks: str,
        ground_truth: str,
        geometry: Path,
        frame: Literal["nerfstudio", "original"] = "nerfstudio",
        consistent: bool = False,
    ) -> ClosedForm:
        """Read a scene, its masks, its ground truth and a splat, and compute all contributions.

        Args:
            scene: folder, as for `ns-train --data`.
            masks: mask folder within it.
            ground_truth: folder of label maps within it.
            geometry: a 3DGS PLY or a run, as for `--pipeline.model.geometry`.
            frame: coordinates of a PLY.
            consistent: the ids of the masks agree over the views, and stay as they are.

        Raises:
            GsegError: something of this is missing or damaged, or no test view has ground truth.
        """
        from gseg_ns.data.cameras import to_camera
        from gseg_ns.data.datamanager import MaskDatamanager, MaskDatamanagerConfig
        from gseg_ns.data.ground_truth import ground_truth as read_truth
        from gseg_ns.data.photographs import view_colors
        from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
        from gseg_ns.models.trained_geometry import load_geometry

        device = gpu.best_device()
        config = MaskDatamanagerConfig(
            dataparser=GsegDataParserConfig(data=scene), cache_images_type="uint8", masks_dir=Path(masks),
            masks_are_consistent=consistent,
        )  # fmt: skip
        config.data = scene
        datamanager = config.setup(device=device)
        assert isinstance(datamanager, MaskDatamanager)
        datamanager.require_masks()
        dataset = datamanager.train_dataset
        splats = load_geometry(geometry, frame, dataset.metadata).to(device)
        trained_truth = read_truth(datamanager, scene / ground_truth, "train", required=False)
        tested_truth = read_truth(datamanager, scene / ground_truth, "test")
        names = datamanager.names("train")

        views, votes, truth, truth_maps = [], VoteStore(), VoteStore(), []
        shown = torch.zeros(len(splats))
        for view in sorted(range(len(dataset)), key=lambda index: dataset.image_filenames[index].as_posix()):
            labels = datamanager.labels(view)
            if labels is None:
                continue
            camera = to_camera(datamanager.camera(view)).to(device)
            meta = project_splats(splats, camera)
            colors = partial(view_colors, datamanager, view)
            views.append(View(names[view], camera, labels, colors))
            said = view_votes(meta, labels)
            votes.append(said)
            torch.maximum(shown, shown_share(meta, said), out=shown)
            if view in trained_truth:
                truth_maps.append((camera, resize_labels(trained_truth[view], *labels.shape).clamp_min(0)))
                truth.append(view_votes(meta, truth_maps[-1][1]))

        datamanager.cached_eval  # noqa: B018  undistorts the cameras on first access
        test = []
        for view, labels in tested_truth.items():
            camera = to_camera(datamanager.eval_dataset.cameras[view : view + 1]).to(device)
            test.append((project_splats(splats, camera), labels))
        hidden = shown if len(views) < len(dataset) else None
        return cls(splats, views, votes, truth, test, hidden, truth_maps)

    # ---------------------------------------------------------------------------------------------- association

    def associate(self, association: AssociationOptions, order: Sequence[int] | None = None) -> Associated:
        """Give the masks of all views group ids.

        Args:
            association: how.
            order: the order in which the views are visited; None: by the names of the images.
        """
        order = range(len(self.views)) if order is None else order
        return associate(association, self.splats.means, self.views, self.votes, order)

    def lift(self, association: AssociationOptions, order: Sequence[int] | None = None) -> Tensor:
        """The closed-form label of each Gaussian under an association: [N] int64 on the CPU, 0 = none."""
        return self.vote(self.associate(association, order))

    def vote(self, found: Associated) -> Tensor:
        """The same, of what `associate` found."""
        return name_hidden(lift(self.votes, *found, len(self.splats)), self.shown, self.splats.means).labels

    def ceiling(self) -> Tensor | None:
        """The label of each Gaussian that the ground truth of the training views votes for, or None without any.

        0 is void in these scores (`score_labels`), so its pixels do not vote; see `gseg_ns.lifting.votes.lift_truth`.
        """
        if not len(self.truth):
            return None
        ids = torch.unique(torch.cat([torch.zeros(1).int(), *(votes.labels.unique() for votes in self.truth)]))
        # Ids may be large and few: 16-bit ground truth.
        lookup = torch.zeros(int(ids[-1]) + 1, dtype=torch.long)
        lookup[ids.long()] = torch.arange(len(ids))
        return ids.long()[lift(self.truth, [lookup] * len(self.truth), len(ids) - 1, len(self.splats)).labels]

    # ------------------------------------------------------------------------------------------------- strengths

    def strengths(self, labels: Tensor, found: Associated | None, options: StrengthOptions | None = None) -> Strengths:
        """Fit strengths (see `gseg_ns.lifting.strengths`) to the masks of the training views, or to their ground truth.

        Args:
            labels: [N], of `lift` under `found`, or of `ceiling`.
            found: the association; None: the ground truth.
            options: of the fit.
        """
        # In dense numbers: those of ground truth may be large and few.
        ids = torch.cat([torch.zeros(1, dtype=torch.long), labels.cpu()]).unique()
        dense = torch.searchsorted(ids, labels.cpu())
        if found is None:
            maps = [(camera, _numbered(truth.cpu(), ids)) for camera, truth in self.truth_maps]
        else:
            maps = [
                (view.camera, _numbered(relabel(view.labels, lookup), ids))
                for view, lookup in zip(self.views, found.lookups, strict=True)
            ]

        def ask(view: int) -> tuple[dict[str, Any], Tensor]:
            camera, targets = maps[view]
            return project_splats(self.splats, camera), targets

        # Ground truth is where it is.
        colors = None if found is None else lambda view, *size: self.views[view].photograph(*size)
        return fit_strengths(dense.to(self.splats.device), len(maps), ask, options, colors)

    # --------------------------------------------------------------------------------------------------- scores

    def score(self, labels: Tensor, strengths: Tensor | None = None) -> dict[str, Any]:
        """Render labels [N], each as loud as its strength [N], into the test views and score them: `score_labels`."""
        predicted = [render_labels(meta, labels, strengths) for meta, _ in self.test]
        return {**score_labels(predicted, [truth for _, truth in self.test]), "num_gaussians": len(self.splats)}


def _numbered(labels: Tensor, ids: Tensor) -> Tensor:
    """Labels [H, W] as places in rising `ids`; 0 for those that are not there."""
    place = torch.searchsorted(ids, labels.long()).clamp_max(len(ids) - 1)
    return torch.where(ids[place] == labels, place, 0)


@torch.no_grad()
def render_labels(meta: dict[str, Any], labels: Tensor, strengths: Tensor | None = None) -> Tensor:
    """The label with the largest composited weight at every pixel (`gseg_ns.lifting.strengths.label_image`).

    Args:
        meta: projection of the view, of N Gaussians.
        labels: [N] int64, 0 = none, which is never an answer.
        strengths: [N] how loud each is; None: all alike.

    Returns:
        [H, W] int64 on the CPU; 0 where labelled Gaussians hardly show.
    """
    answer, weight = label_image(meta, labels, strengths)
    return torch.where(weight > SILENT, answer, 0).cpu()
