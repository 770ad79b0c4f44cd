"""What answers by its labels alone: a labelled PLY, or a result whose method does.

It is asked as a model is, and gives the same answers (tests compare them), but is opened in moments: neither Nerfstudio
nor the method is loaded. What only they can do, a picture or a run of what is selected, loads them then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gseg_ns import gpu
from gseg_ns.lifting.naming import numbered
from gseg_ns.lifting.strengths import label_under
from gseg_ns.lifting.tree import Tree, level_of
from gseg_ns.reading import integer, number, read_json, reading, text
from gseg_ns.rendering import Camera
from gseg_ns.runs.labels import (
    LABELLED_PLY,
    LARGEST_GROUP,
    NOTES,
    extra_state,
    labels_of_ply,
    labels_of_result,
    names_beside,
)
from gseg_ns.runs.result_folder import CAMERAS, MODEL, SPLATS, column, is_result, read_result, read_tensors
from gseg_ns.splats import Splats
from gseg_ns.splats.ply import read_ply

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from gseg_ns.models.base import SegmentationModel

_BY_LABELS = ("gaga", "unified-lift", "gradiseg")
"""Methods whose labels answer, unless they were told to answer otherwise."""


class LabelledModel:
    """Answers what the controller of a session asks a model."""

    main_feature = "none"
    prompts_by_feature = False
    two_phases = False
    in_feature_phase = True
    geometry_steps = 0
    default_scale = 0.5

    def __init__(
        self,
        source: Path,
        splats: Splats,
        labels: Tensor,
        words: Mapping[int, str],
        strengths: Tensor | None = None,
        tree: Tree | None = None,
        step: int = 0,
    ) -> None:
        """Answer by labels.

        Args:
            source: what it was opened from.
            splats: N Gaussians.
            labels: int64 [N], the group of each; 0 = none.
            words: what groups are called; several may be called the same.
            strengths: how loud each is in pictures of labels [N]; None: all alike.
            tree: of parts, objects and groups, which answers in place of the labels.
            step: of the training that it came of.
        """
        self.source = source
        self.step = step
        self.config = SimpleNamespace(num_iterations=step + 1, sh_degree=splats.sh_degree)
        self.gauss_params = {self.main_feature: torch.zeros(len(splats), 1, device=splats.device)}
        self.has_scales = tree is not None and bool((tree.parents > 0).any())
        self._splats, self._labels, self._words = splats, labels, dict(words)
        self._strengths, self._tree = strengths, tree

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._splats.device

    @property
    def means(self) -> Tensor:
        """Centres [N, 3]."""
        return self._splats.means

    def splats(self) -> Splats:
        """The Gaussians."""
        return self._splats

    def geometry_version(self) -> int:
        """Nothing trains here."""
        return 0

    def tree(self) -> Tree | None:
        """The tree of parts, objects and groups, where there is one."""
        return self._tree

    def gaussian_groups(self, scale: float | None = None) -> Tensor:
        """The group of each Gaussian: int64 [N], 0 = none."""
        if self._tree is None:
            return self._labels
        return self._tree.labels(level_of(self.default_scale if scale is None else scale))

    def group_names(self, scale: float | None = None) -> dict[int, str]:
        """What groups are called from the start; the words of several are numbered."""
        if not self._words:
            return {}
        sizes = dict(enumerate(torch.bincount(self.gaussian_groups(scale)).tolist()))
        return numbered({group: word for group, word in self._words.items() if sizes.get(group)}, sizes)

    def group_under(
        self,
        feature: Tensor,
        rows: Tensor,
        weights: Tensor,
        scale: float | None = None,
        in_view: Callable[[Tensor], Tensor] | None = None,
    ) -> int:
        """The group that a pixel shows; 0 = none. See `SegmentationModel.group_under`."""
        # Strengths are fitted to the objects: other cuts of a tree have other borders.
        fitted = self._tree is None or scale is None or level_of(scale) == "object"
        return label_under(rows, weights, self.gaussian_groups(scale), self._strengths if fitted else None, in_view)

    # ------------------------------------------------------------------------------- what loads the method

    @cached_property
    def _whole(self) -> SegmentationModel:
        from gseg_ns.runs.run import load_run

        return load_run(self.source, allow_unfinished=True).model

    def whole(self) -> SegmentationModel:
        """The model that it stands for."""
        return self._whole

    def picture(self, camera: Cameras) -> Tensor:
        """The colors of a view: [H, W, 3] in [0, 1]."""
        return self._whole.picture(camera)

    def label_image(self, camera: Cameras, scale: float | None = None) -> Tensor:
        """Segment a view: [H, W] int64 group ids, 0 = none."""
        return self._whole.label_image(camera, scale)

    def corrected(self, camera: Cameras) -> Cameras:
        """The camera itself: those of a result are corrected already."""
        return camera


@dataclass(frozen=True)
class Labelled:
    """What was opened."""

    path: Path
    """The manifest, or the PLY."""
    folder: Path
    """Where what people save with it lies."""
    name: str
    model: LabelledModel
    cameras: Path | None
    """A transforms.json in the coordinates of the Gaussians."""


def open_labelled(path: Path, data: Path | None = None) -> Labelled | None:
    """Open what answers by its labels.

    Args:
        path: a PLY, with labels or without, or a result: its folder or its manifest.
        data: a scene in the coordinates of a PLY.

    Returns:
        None where it is neither, or a result of a method that answers otherwise.

    Raises:
        GsegError: it is damaged.
    """
    if is_result(path):
        return None if data is not None else _of_result(path)
    if not path.is_file() or path.suffix.lower() != ".ply":
        return None
    splats, labels, _ = labels_of_ply(path, plain=True)
    device = _device(len(splats))
    words = {group: word for group, (word, _) in names_beside(path).items()}
    model = LabelledModel(path, splats.to(device), labels.to(device), words)
    return Labelled(path, path.with_name(path.name + NOTES), path.stem, model, data)


def _of_result(path: Path) -> Labelled | None:
    result = read_result(path)
    about, manifest = result.about, result.path(SPLATS).parent / "manifest.json"
    with reading(manifest, "the manifest of a result", "Make it again."):
        method = text(about["method"], "its method")
        options = about["options"] if isinstance(about["options"], dict) else {}
        state = extra_state(about["state"])
        steps = integer(about["steps"], 0, what="its steps")
    splats = replace(read_ply(result.path(SPLATS)), extra={})
    count, device = len(splats), _device(len(splats))
    strengths, tree = None, None
    if method == LABELLED_PLY:
        labels, _ = labels_of_result(result, count)
    elif method in _BY_LABELS:
        model = result.path(MODEL)
        tensors = read_tensors(model)
        with reading(model, "the model of a result", "Make it again."):
            tree = _tree(tensors, count)
            tree = None if tree is None else replace(tree, nodes=tree.nodes.to(device))
            voted = len(tensors.get("voted_labels", ())) == count  # results of earlier versions have none
            if tree is None and (options.get("labels", "vote") != "vote" or not voted):
                return None
            if voted:
                labels = column(tensors, "voted_labels", count, torch.int32).long()
            else:
                labels = torch.zeros(count, dtype=torch.int64)
            if bool((labels < 0).any()) or int(labels.max()) > LARGEST_GROUP:
                raise ValueError(f"labels that are not from 0 to {LARGEST_GROUP}")
            if len(tensors.get("strengths", ())):
                strengths = column(tensors, "strengths", count, torch.float32).to(device)
    else:
        return None
    words = {group: word for group, (word, _) in state["words"].items()}
    model_of = LabelledModel(path, splats.to(device), labels.to(device), words, strengths, tree, max(steps - 1, 0))
    cameras = result.path(CAMERAS) if CAMERAS in result.files else None
    return Labelled(manifest, result.folder, result.folder.stem, model_of, cameras)


def _tree(tensors: Mapping[str, Tensor], count: int) -> Tree | None:
    """The tree of a result, if it has one.

    Raises:
        ValueError: its tables do not fit together.
    """
    parents = tensors.get("tree_parents", torch.zeros(0))
    if len(parents) == 0 or len(tensors["tree_nodes"]) != count:
        return None
    nodes = column(tensors, "tree_nodes", count, torch.int32).long()
    if bool((nodes < 0).any()) or bool((nodes >= len(parents)).any()) or len(parents) > LARGEST_GROUP:
        raise ValueError("a tree that leads nowhere")
    objects = column(tensors, "tree_objects", len(parents), torch.bool)
    evidence = column(tensors, "tree_evidence", len(parents), torch.float32)
    return Tree(parents.long(), nodes, evidence, tensors.get("voted_confidence", torch.zeros(count)), objects)


def _device(count: int) -> torch.device:
    gpu.refuse_on_cpu(count)
    return torch.device("cpu" if gpu.best_device() == "cpu" or gpu.fault() else "cuda")


def cameras_of_result(path: Path) -> list[Camera]:
    """The views of a result, as `pack_run` writes them; all other scenes have their own readers.

    Raises:
        GsegError: the file is damaged.
    """
    what = ("the cameras of a result", "Make it again.")
    content = read_json(path, *what)
    with reading(path, *what):
        found = []
        for frame in content["frames"]:
            fx, fy, cx, cy = (number(frame[name], -1e9, 1e9) for name in ("fl_x", "fl_y", "cx", "cy"))
            pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
            lens = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            found.append(Camera.from_c2w(pose, lens, integer(frame["w"], 1, 2**20), integer(frame["h"], 1, 2**20)))
        return found


def view_of(pose: Tensor, fov: float, width: int, height: int) -> Camera:
    """A view as a browser has it.

    Args:
        pose: camera to world [4, 4], OpenGL.
        fov: vertical, in degrees.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Raises:
        GsegError: the pose has no inverse.
    """
    focal = height / 2 / math.tan(math.radians(fov) / 2)
    lens = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera.from_c2w(pose.float(), lens, width, height)
