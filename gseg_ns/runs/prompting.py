"""Which Gaussians a click or a mark on a view means: the one answer of viewer, command line and benchmarks.

A method of groups answers with the group that the pixel shows, a method of features (SAGA) with all Gaussians whose
feature is like the pixel's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.editing.operations import Edited, begin
from gseg_ns.errors import GsegError
from gseg_ns.lifting.thresholds import SAME_THING
from gseg_ns.rendering import dominant_labels
from gseg_ns.selection.picking import pick
from gseg_ns.selection.prompts import OPAQUE, Prompt, mark_queries, marked_groups, select
from gseg_ns.selection.prompts_sam import guided_queries, mask_queries, select_guided
from gseg_ns.splats.projection import project_splats

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.rendering import Camera


@dataclass(frozen=True)
class Point:
    """What lies under a click on a view."""

    feature: Tensor  # [D]
    """The method's main feature, composited at the pixel."""
    group: int
    """The group that the pixel shows; 0 for methods that answer by features."""
    row: int
    """The Gaussian that the pixel shows most of: a row of the scene that was clicked on."""
    positive: bool = True
    path: tuple[int, ...] = ()
    """Of methods with a tree: its nodes from the part that was hit up to the group that this is in."""


class Seen(NamedTuple):
    """What a view shows to marks, of methods that answer by features."""

    image: Tensor  # [H, W, D]
    """The main feature, composited."""
    alpha: Tensor  # [H, W]


@dataclass(frozen=True)
class MarkedView:
    """Clicks on one view that a mask answers, and that mask."""

    camera: Cameras  # [1]
    picture: Tensor  # [H, W, 3] uint8
    points: Prompt
    mask: Tensor | None = None  # [H, W] bool

    @classmethod
    def begin(cls, model: SegmentationModel, camera: Cameras, x: float, y: float) -> MarkedView:
        """Render a view, without edits, and mark its first, positive point (pixels)."""
        picture = (model.picture(camera) * 255).round().to(torch.uint8)
        return cls(camera, picture, Prompt(positive=torch.tensor([[x, y]])))

    def adding(self, x: float, y: float, positive: bool) -> MarkedView:
        """The same view with a further point (pixels), and no mask yet."""
        name = "positive" if positive else "negative"
        points = torch.cat([getattr(self.points, name), torch.tensor([[x, y]])])
        return replace(self, points=replace(self.points, **{name: points}), mask=None)

    def shows(self, camera: Cameras) -> bool:
        """Whether another camera [1] shows the same."""
        one, other = to_camera(self.camera), to_camera(camera)
        return (
            (one.width, one.height) == (other.width, other.height)
            and torch.allclose(one.viewmat, other.viewmat, atol=1e-6)
            and torch.allclose(one.K, other.K)
        )


class Prompter:
    """Answers prompts on a model; what it looked up is kept until training changes the model."""

    def __init__(self, model: SegmentationModel) -> None:
        """Prompt a model, possibly in training."""
        self.model = model
        self._groups: tuple[Any, Tensor] | None = None
        self._scene: tuple[Any, Edited] | None = None

    def groups(self, scale: float | None = None) -> Tensor:
        """The group of each of the model's Gaussians at a scale: int64 [N], 0 = none."""
        key = self._key(scale)
        if self._groups is None or self._groups[0] != key:
            self._groups = key, self.model.gaussian_groups(scale)
        return self._groups[1]

    @property
    def has_groups(self) -> bool:
        """Whether groups have been asked for, which with some methods takes long the first time."""
        return self._groups is not None

    def knows(self, scale: float | None = None) -> bool:
        """Whether the groups at a scale have been asked for, and are those of the model as it is now."""
        return self._groups is not None and self._groups[0] == self._key(scale)

    def _key(self, scale: float | None) -> tuple[Any, ...]:
        return self.model.geometry_version(), self.model.step, scale

    @torch.no_grad()
    def point(
        self,
        camera: Camera,
        x: float,
        y: float,
        positive: bool = True,
        scale: float | None = None,
        scene: Edited | None = None,
    ) -> Point:
        """Look up what a click hits.

        Args:
            camera: the view.
            x: pixel column, from the left border of the image.
            y: pixel row, from the upper border.
            positive: whether it is what is wanted, or what is not.
            scale: granularity in [0, 1] of methods that have scales; None: the model's default.
            scene: the model's Gaussians after edits; None: as they are.

        Raises:
            GsegError: the point is outside the view, on empty space, or on what belongs to no group.
        """
        scene = self._unedited() if scene is None else scene
        found = pick(scene.splats, camera, x, y, scene.drawn)
        source = scene.source[found.rows]
        features = self.model.gauss_params[self.model.main_feature].detach()[source.clamp_min(0)]
        # What came from elsewhere has no feature; a picture of the edited scene shows it as such, too.
        feature = found.weights @ torch.where(source[:, None] >= 0, features, 0)
        group = 0
        if not self.model.prompts_by_feature:
            in_view = partial(_shown_by_vote, scene, camera)
            group = self.model.group_under(feature, source, found.weights, scale, in_view)
        if group == 0 and not (self.model.prompts_by_feature and bool(feature.any())):
            raise GsegError("That spot belongs to no group. Click elsewhere, or draw a rectangle.")
        return Point(feature, group, found.top, positive, self._path(group, int(scene.source[found.top])))

    def _path(self, group: int, source: int) -> tuple[int, ...]:
        """The nodes of the tree, if there is one, around a click.

        Args:
            group: what the pixel shows.
            source: the Gaussian that it shows most of; -1 for what is not of this model.
        """
        tree = self.model.tree()
        if tree is None or not 0 < group <= len(tree):
            return ()
        path = tree.path(int(tree.nodes[source])) if source >= 0 else []
        return tuple(path if group in path else tree.path(group))  # or the pixel shows more of another

    def _unedited(self) -> Edited:
        key = self.model.geometry_version()
        if self._scene is None or self._scene[0] != key:
            self._scene = key, begin(self.model.splats())
        return self._scene[1]

    @torch.no_grad()
    def select_points(
        self, points: Sequence[Point], scale: float | None = None, threshold: float | None = SAME_THING
    ) -> Tensor:
        """Select what clicks mean together.

        Args:
            points: see `point`, looked up at this scale; of groups in their order, for what was taken away can be added
                again.
            scale: see `point`.
            threshold: least cosine, for methods that answer by features; None: the mean of all (`adaptive_threshold`).

        Returns:
            bool [N].

        Raises:
            GsegError: the scale or the threshold is out of range.
        """
        if self.model.prompts_by_feature:
            positive, negative = ([p.feature for p in points if p.positive == sign] for sign in (True, False))
            return self._like(positive, negative, self._gate(scale), threshold)
        groups = self.groups(scale)
        chosen = torch.zeros_like(groups, dtype=torch.bool)
        narrowed: list[Point] = []
        for place, point in enumerate(points):
            if not point.positive:
                if not any(other.group in point.path for other in narrowed):
                    chosen = chosen & ~(groups == point.group)
                continue
            # A later click on another part of the same thing says that the thing is too much.
            refused = [other.path for other in points[place + 1 :] if not other.positive]
            node = _largest_without(point, refused)
            if node is not None:
                narrowed.append(point)
            chosen = chosen | ((groups == point.group) if node is None else self.node(node))
        return chosen

    def node(self, node: int) -> Tensor:
        """The Gaussians of a node of the tree: bool [N].

        Raises:
            ValueError: there is no tree.
        """
        tree = self.model.tree()
        if tree is None:
            raise ValueError("this model has no tree")
        return tree.contains(node)

    @torch.no_grad()
    def see(self, camera: Cameras) -> Seen:
        """Render what a view [1] shows to marks; the model's last view is then this one."""
        image = self.model.feature_image(camera)
        alpha = self.model.composite(torch.ones(len(self.model.means), 1, device=self.model.device))[..., 0]
        return Seen(image, alpha)

    @torch.no_grad()
    def select(
        self,
        camera: Cameras,
        prompt: Prompt,
        scale: float | None = None,
        threshold: float | None = SAME_THING,
        mask_by_sam: bool = False,
        embedding: Tensor | None = None,
        seen: Seen | None = None,
    ) -> Tensor:
        """Select what the marks on a view mean.

        Args:
            camera: the view [1] that was marked.
            prompt: the marks.
            scale: see `point`.
            threshold: least cosine, for methods that answer by features; None: the mean of all (`adaptive_threshold`).
            mask_by_sam: the mask of the prompt was made by SAM from points: SAGA's way for those.
            embedding: what SAM's encoder says of the view [h, w, C]. With it and without a threshold, a model with SAM
                guidance is asked as version 1 has it, by SAM's own features.
            seen: what the view shows (`see`), for callers that ask it several times.

        Returns:
            bool [N].

        Raises:
            GsegError: a mark does not fit the view, or lies on empty space.
        """
        model, view = self.model, to_camera(self.model.corrected(camera)).to(self.model.device)
        marks = [(x, y, sign) for sign in (True, False) for x, y in prompt.points(sign)]
        points = [self.point(view, x, y, sign, scale) for x, y, sign in marks]
        if prompt.scribble is None and prompt.mask is None:
            return self.select_points(points, scale, threshold)
        if not model.prompts_by_feature:
            wanted, refused = marked_groups(prompt, model.label_image(camera, scale))
            wanted |= {point.group for point in points if point.positive}
            refused |= {point.group for point in points if not point.positive}
            groups = self.groups(scale)
            return torch.isin(groups, torch.tensor(sorted(wanted - refused), dtype=torch.long, device=groups.device))
        gate = self._gate(scale)
        image, alpha = self.see(camera) if seen is None else seen
        if mask_by_sam and prompt.mask is not None:
            shown = prompt.mask.to(alpha.device) & (alpha >= OPAQUE)
            projected = None if embedding is None or threshold is not None else model.project_embedding(embedding)
            if projected is not None and bool(shown.any()):
                features = model.gauss_params[model.main_feature].detach()
                return select_guided(features, guided_queries(projected, image, shown))
        positive, negative = mark_queries(prompt, image, alpha)
        if mask_by_sam and prompt.mask is not None:
            positive = mask_queries(image, shown, gate, SAME_THING if threshold is None else threshold)
        return self._like(
            [*positive, *(point.feature for point in points if point.positive)],
            [*negative, *(point.feature for point in points if not point.positive)],
            gate,
            threshold,
        )

    def _gate(self, scale: float | None) -> Tensor | None:
        return self.model.gate(self.model.default_scale if scale is None else scale)

    def _like(
        self, positive: Sequence[Tensor], negative: Sequence[Tensor], gate: Tensor | None, threshold: float | None
    ) -> Tensor:
        """Gaussians whose features are like some queries [D] and less like others: bool [N]."""
        features = self.model.gauss_params[self.model.main_feature].detach()
        if not positive:
            return torch.zeros(len(features), dtype=torch.bool, device=features.device)
        refused = torch.stack([*negative]) if negative else None
        return select(features, torch.stack([*positive]), refused, gate, threshold)[0]


def _largest_without(point: Point, refused: Sequence[tuple[int, ...]]) -> int | None:
    """The largest node around a click, of those that are not larger than its group, which holds no refused part.

    Args:
        point: a click on what is wanted.
        refused: paths of clicks on what is not.

    Returns:
        None where the group itself is right, or even the part that was hit is refused.
    """
    if point.group not in point.path or not any(point.group in path for path in refused):
        return None
    inside = point.path[: point.path.index(point.group)]
    return next((node for node in reversed(inside) if not any(node in path for path in refused)), None)


def _shown_by_vote(scene: Edited, camera: Camera, labels: Tensor) -> Tensor:
    """The labels that a view of an edited scene shows, each Gaussian as loud as another.

    Args:
        scene: M rows.
        camera: the view.
        labels: of the model's Gaussians [N].
    """
    source = scene.source[scene.drawn]
    own = torch.where(source >= 0, labels[source.clamp_min(0)], 0)
    return dominant_labels(project_splats(scene.splats.subset(scene.drawn), camera), own)[0].unique()
