"""Association and the closed-form vote on given Gaussians: what masks and geometry allow before anything is trained.

Rendering is linear in labels, so the contributions of each Gaussian to the masks of each view are computed once; every
association is then a renumbering of columns and a sum, which makes an ablation row a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gseg_ns.benchmarking.scoring import score_labels
from gseg_ns.errors import GsegError
from gseg_ns.evaluation.folders import id_files, read_ids
from gseg_ns.lifting.consensus import ConsensusOptions, ViewLabels, find_groups, group_lookup
from gseg_ns.lifting.identity import SILENT
from gseg_ns.lifting.memory_bank import MemoryBank, MemoryBankOptions, relabel
from gseg_ns.lifting.votes import accumulate_votes, labels_from_votes
from gseg_ns.masks import resize_labels
from gseg_ns.rendering import Camera, composite, vote
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

CHANNELS = 32
"""Labels composited at a time."""


@dataclass(frozen=True)
class Association:
    """How masks of different views find together."""

    kind: Literal["none", "memory-bank", "consensus"] = "consensus"
    """none: each view's ids as they are (the paper's "w/o mask association")"""
    memory_bank: MemoryBankOptions = field(default_factory=MemoryBankOptions)
    """Settings of the memory bank"""
    consensus: ConsensusOptions = field(default_factory=ConsensusOptions)
    """Settings of the agreement of views"""


class Contributions(NamedTuple):
    """What the Gaussians give to the labels of one view: the non-zero entries of [N, L + 1]."""

    gaussians: Tensor  # [nnz] int64
    labels: Tensor  # [nnz] int64
    weights: Tensor  # [nnz] float32, pixels


@dataclass
class View:
    """A training view with masks."""

    name: str
    camera: Camera
    labels: Tensor  # [H, W] int32, 1..L in this view, 0 = unlabelled
    contributions: Contributions
    truth: Contributions | None
    """The same for the ground truth, where it has this view."""

    def answer(self, count: int) -> ViewLabels:
        """The mask that most of each Gaussian's contribution lies in, as `gseg_ns.lifting.consensus.view_labels`."""
        votes = torch.zeros((count, int(self.labels.max()) + 1))
        gaussians, labels, weights = self.contributions
        votes[gaussians, labels] = weights
        if votes.shape[1] == 1:
            votes = torch.cat([votes, torch.zeros_like(votes)], dim=1)
        best, label = votes[:, 1:].max(dim=1)
        return ViewLabels(torch.where(best > 0, label + 1, 0).int(), best.clamp_max(6e4).half())


class ClosedForm:
    """A scene, its masks and trained Gaussians, prepared for any number of associations."""

    def __init__(self, splats: Splats, views: Sequence[View], test: Sequence[tuple[dict[str, Any], Tensor]]) -> None:
        """Hold what `prepare` found.

        Args:
            splats: the Gaussians.
            views: training views with masks, in the order of the images' names.
            test: projection and ground truth [H, W] of each test view.
        """
        self.splats = splats
        self.views = views
        self.test = test
        self._answers: dict[str, ViewLabels] = {}

    @classmethod
    def prepare(
        cls,
        scene: Path,
        masks: str,
        ground_truth: str,
        geometry: Path,
        frame: Literal["nerfstudio", "original"] = "nerfstudio",
    ) -> ClosedForm:
        """Read a scene, its masks, its ground truth and a splat, and compute all contributions.

        Args:
            scene: folder, as for `ns-train --data`.
            masks: mask folder within it.
            ground_truth: folder of label maps within it.
            geometry: a 3DGS PLY or a run, as for `--pipeline.model.geometry`.
            frame: coordinates of a PLY.

        Raises:
            GsegError: something of this is missing or damaged, or no test view has ground truth.
        """
        from gseg_ns.data.cameras import to_camera
        from gseg_ns.data.datamanager import MaskDatamanager, MaskDatamanagerConfig
        from gseg_ns.dataparsers.gseg_data import GsegDataParserConfig
        from gseg_ns.models.trained_geometry import load_geometry

        device = "cuda" if torch.cuda.is_available() else "cpu"
        config = MaskDatamanagerConfig(
            dataparser=GsegDataParserConfig(data=scene), cache_images_type="uint8", masks_dir=Path(masks)
        )
        config.data = scene
        datamanager = config.setup(device=device)
        assert isinstance(datamanager, MaskDatamanager)
        datamanager.require_masks()
        dataset = datamanager.train_dataset
        splats = load_geometry(geometry, frame, dataset.metadata).to(device)
        files = id_files(scene / ground_truth)

        views = []
        for view in sorted(range(len(dataset)), key=lambda index: dataset.image_filenames[index].as_posix()):
            labels = datamanager.labels(view)
            if labels is None:
                continue
            stem = dataset.image_filenames[view].stem
            camera = to_camera(datamanager.camera(view)).to(device)
            meta = project_splats(splats, camera)
            truth = None
            if stem in files:
                truth = contributions(meta, resize_labels(read_ids(files[stem]), *labels.shape))
            views.append(View(stem, camera, labels, contributions(meta, labels), truth))

        datamanager.cached_eval  # noqa: B018  undistorts the cameras on first access
        test = []
        for view, path in enumerate(datamanager.eval_dataset.image_filenames):
            if path.stem in files:
                camera = to_camera(datamanager.eval_dataset.cameras[view : view + 1]).to(device)
                test.append((project_splats(splats, camera), read_ids(files[path.stem])))
        if not test:
            raise GsegError(f"{scene / ground_truth} has no label map for any test view: names must match the images")
        return cls(splats, views, test)

    # ---------------------------------------------------------------------------------------------- association

    def associate(self, association: Association, order: Sequence[int] | None = None) -> tuple[list[Tensor], int]:
        """Give the masks of all views group ids.

        Args:
            association: how.
            order: the order in which the views are visited; None: by the names of the images.

        Returns:
            (lookup [L + 1] int64 of each view, in the order of `views`; number of groups).
        """
        order = range(len(self.views)) if order is None else order
        lookups: list[Tensor] = [torch.empty(0)] * len(self.views)
        if association.kind == "none":
            lookups = [torch.arange(int(view.labels.max()) + 1) for view in self.views]
            return lookups, max(len(lookup) for lookup in lookups) - 1
        if association.kind == "memory-bank":
            means = self.splats.means
            bank = MemoryBank(len(means), association.memory_bank, means.device)
            for index in order:
                view = self.views[index]
                lookups[index] = bank.add_view(means, view.camera, view.labels.to(means.device)).cpu()
            return lookups, bank.num_groups
        for view in self.views:
            if view.name not in self._answers:
                self._answers[view.name] = view.answer(len(self.splats))
        said = [self._answers[self.views[index].name] for index in order]
        groups = find_groups(self.splats.means, said, association.consensus)
        count = int(groups.max())
        for index, answer in zip(order, said, strict=True):
            lookups[index] = group_lookup(answer, groups, count, association.consensus)
        return lookups, count

    def lift(self, association: Association, order: Sequence[int] | None = None) -> Tensor:
        """The closed-form label of each Gaussian under an association: [N] int64 on the CPU, 0 = none."""
        lookups, count = self.associate(association, order)
        pairs = [(view.contributions, lookup) for view, lookup in zip(self.views, lookups, strict=True)]
        return self._vote(pairs, count)

    def ceiling(self) -> Tensor | None:
        """The label of each Gaussian that the ground truth of the training views votes for, or None without any.

        0 is void in these scores (`score_labels`), so its pixels do not vote; see `lift_truth`.
        """
        truths = [view.truth for view in self.views if view.truth is not None]
        if not truths:
            return None
        ids = torch.unique(torch.cat([truth.labels for truth in truths]))
        ids = torch.cat([ids.new_zeros(1), ids[ids > 0]])
        dense = [truth._replace(labels=torch.searchsorted(ids, truth.labels.clamp_min(0))) for truth in truths]
        return ids[self._vote([(truth, torch.arange(len(ids))) for truth in dense], len(ids) - 1)]

    def _vote(self, pairs: Sequence[tuple[Contributions, Tensor]], count: int) -> Tensor:
        votes = torch.zeros(len(self.splats) * (count + 1))
        for (gaussians, labels, weights), lookup in pairs:
            votes.index_add_(0, gaussians * (count + 1) + relabel(labels, lookup), weights)
        return labels_from_votes(votes.view(-1, count + 1))

    # --------------------------------------------------------------------------------------------------- scores

    def score(self, labels: Tensor) -> dict[str, Any]:
        """Render labels [N] into the test views and score them (see `score_labels`)."""
        predicted = [render_labels(meta, labels) for meta, _ in self.test]
        return {**score_labels(predicted, [truth for _, truth in self.test]), "num_gaussians": len(self.splats)}


@torch.no_grad()
def lift_truth(splats: Splats, views: Sequence[tuple[Camera, Tensor]]) -> Tensor:
    """The object that each Gaussian belongs to by ground truth: where most of its contribution lies.

    For scores of single objects, where a selection pays for all that it covers beside its own: what is no object (0)
    wins Gaussians as any object does. `ClosedForm.ceiling` is for scores of label maps, which do not look at 0.

    Args:
        splats: the Gaussians.
        views: camera and label map [H, W] of each view.

    Returns:
        [N] int64, 0 = no object, or not seen.
    """
    ids = torch.cat([torch.zeros(1, dtype=torch.long), *(labels.unique().clamp_min(0) for _, labels in views)]).unique()
    projected = (
        (project_splats(splats, camera.to(splats.device)), torch.searchsorted(ids, labels.long().clamp_min(0)))
        for camera, labels in views
    )
    votes = accumulate_votes(projected, len(splats), len(ids), splats.device)
    return ids.to(splats.device)[labels_from_votes(votes, count_unlabelled=True)]


@torch.no_grad()
def contributions(meta: dict[str, Any], labels: Tensor) -> Contributions:
    """What each Gaussian gives to each label of a view.

    Args:
        meta: projection of the view.
        labels: [H, W] int.
    """
    # Ids may be large and few (16-bit ground truth), so the table has a column for those present only.
    present, dense = torch.unique(labels.long(), return_inverse=True)
    votes = vote(meta, dense.to(meta["means2d"].device), len(present)).cpu()
    gaussians, columns = votes.nonzero(as_tuple=True)
    return Contributions(gaussians, present[columns], votes[gaussians, columns])


@torch.no_grad()
def render_labels(meta: dict[str, Any], labels: Tensor) -> Tensor:
    """The label with the largest composited weight at every pixel.

    Args:
        meta: projection of the view, of N Gaussians.
        labels: [N] int64, 0 = none, which is never an answer.

    Returns:
        [H, W] int64 on the CPU; 0 where labelled Gaussians hardly show.
    """
    device = meta["means2d"].device
    present, index = torch.unique(labels, return_inverse=True)
    index = index.to(device)
    height, width = int(meta["height"]), int(meta["width"])
    best = torch.full((height, width), SILENT, device=device)
    winner = torch.zeros((height, width), dtype=torch.long, device=device)
    wanted = [column for column in range(len(present)) if int(present[column]) != 0]
    for start in range(0, len(wanted), CHANNELS):
        columns = torch.tensor(wanted[start : start + CHANNELS], device=device)
        value, place = composite(meta, (index[:, None] == columns[None]).float()).max(dim=-1)
        better = value > best
        best = torch.where(better, value, best)
        winner = torch.where(better, columns[place], winner)
    answer = present.to(device)[winner]
    return torch.where(best > SILENT, answer, 0).cpu()
