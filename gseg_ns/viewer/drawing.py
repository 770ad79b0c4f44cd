"""What the viewer shows: a view of the edited scene with the selection on it."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable
from dataclasses import replace
from typing import cast

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from gseg_ns.editing.session import Session
from gseg_ns.models.base import SegmentationModel
from gseg_ns.models.parameters import from_parameters
from gseg_ns.palette import colors
from gseg_ns.runs.edited_model import with_gaussians
from gseg_ns.selection.overlay import highlight
from gseg_ns.viewer.kept_views import KeptView, KeptViews, seen_from

QUICK = 200_000
"""Gaussians that a CPU draws in about a tenth of a second: of a picture in motion, so many or up to twice as many."""


class Drawing:
    """Renders sessions on a model, and keeps the edited model from one frame to the next."""

    def __init__(self, model: SegmentationModel) -> None:
        """Draw with a model, possibly in training."""
        self.model = model
        self._shown: tuple[Hashable, SegmentationModel, Tensor] | None = None
        self._quick: tuple[Hashable, SegmentationModel, Tensor] | None = None
        self._kept = KeptViews()

    @torch.no_grad()
    def outputs(
        self,
        session: Session,
        version: Hashable,
        groups: Tensor | None,
        camera: Cameras,
        crop: OrientedBox | None,
        wanted: Collection[str] | None = None,
        quick: bool = False,
    ) -> dict[str, Tensor]:
        """Render a view with edits and highlight.

        May be interrupted by an exception at any line: nothing is half-changed then.

        Args:
            session: what is selected and done.
            version: changes whenever training changes the Gaussians.
            groups: int64 [M] group of each row of the edited scene, to be shown in place of the method's own picture
                of groups; None to leave that.
            camera: the view.
            crop: the viewer's crop box.
            wanted: the outputs that are looked at; others may be empty. None: all.
            quick: the next frame is on its way already: a CPU may draw a part of many Gaussians, each the larger.
        """
        # In the feature phase geometry stands still, and what copies have of the features is of their step.
        scene = version, self.model.step, session.state.operations
        model, drawn = self._edited(session, scene)
        if quick:
            model, drawn = self._thinned(scene, model, drawn)
        model.set_crop(crop)
        view = self._view(model, scene, camera, crop)
        outputs = dict(view.outputs)
        self._complete(outputs, model, camera, wanted)
        rgb = outputs["rgb"]
        mask = torch.zeros_like(rgb[..., 0])
        selected = session.selection.mask
        inside = None if crop is None else crop.within(model.means).reshape(-1)
        if len(model.means) and (inside is None or bool(inside.any())):

            def composite(values: Tensor) -> Tensor:
                values = values if drawn is None else values[drawn]
                return model.composite(values if inside is None else values[inside]).clamp(0, 1)

            chosen = selected if drawn is None else selected[drawn]
            mask = view.share_of(chosen if inside is None else chosen[inside])
            if groups is not None:
                outputs["groups"] = composite(colors(groups).to(rgb) / 255)
        for name in ("rgb", "groups"):
            if name in outputs and looked_at(name, wanted):
                outputs[name] = highlight(outputs[name], mask)
        outputs["selection"] = mask[..., None]
        return outputs

    def _view(self, model: SegmentationModel, scene: Hashable, camera: Cameras, crop: OrientedBox | None) -> KeptView:
        """The view without highlight: drawn, or as it was where nothing of it has changed since."""
        background = tuple(model.background_color.tolist())
        key = scene, model.num_points, model.step, model.training, background, seen_from(camera, crop)
        view = self._kept.find(key)
        if view is None:
            outputs = cast(dict[str, Tensor], model.render(camera.to(model.device)))
            view = KeptView(outputs, getattr(model, "info", {}))
            self._kept.keep(key, view)
        model.info = view.info
        return view

    def _complete(
        self, outputs: dict[str, Tensor], model: SegmentationModel, camera: Cameras, wanted: Collection[str] | None
    ) -> None:
        """Add the method's own pictures. They cost as much as the colors, so only where one is looked at."""
        channels = model.view_channels()
        if wanted is None or any(name in channels for name in wanted):
            outputs.update(model.view_outputs(camera, outputs, wanted))
            return
        blank = outputs["rgb"].new_zeros(())
        size = outputs["rgb"].shape[:2]
        outputs.update({name: blank.expand(*size, count) for name, count in channels.items()})

    def _edited(self, session: Session, key: Hashable) -> tuple[SegmentationModel, Tensor | None]:
        """The model that draws the edited scene, and which rows of the scene it has (None: all)."""
        if not session.state.operations:
            return self.model, None
        if self._shown is None or self._shown[0] != key:
            scene = session.scene
            drawn = scene.drawn
            self._shown = key, with_gaussians(self.model, scene.splats.subset(drawn), scene.source[drawn]), drawn
        _, model, drawn = self._shown
        return self._as_now(model), drawn

    def _thinned(
        self, key: Hashable, model: SegmentationModel, drawn: Tensor | None
    ) -> tuple[SegmentationModel, Tensor | None]:
        """A model of every n-th Gaussian, of n times the area, and which rows of the scene it has."""
        every = model.num_points // QUICK
        if every < 2 or model.device.type != "cpu":
            return model, drawn
        if self._quick is None or self._quick[0] != key:
            rows = torch.arange(0, model.num_points, every)
            few = {name: value.detach()[rows] for name, value in model.gauss_params.items()}
            splats = from_parameters(few, model.config.rasterize_mode)
            # In width and height and so in depth, which does not show.
            splats = replace(splats, scales=splats.scales + 0.5 * math.log(every))
            shown = torch.arange(model.num_points) if drawn is None else drawn.nonzero()[:, 0]
            kept = torch.zeros(model.num_points if drawn is None else len(drawn), dtype=torch.bool)
            kept[shown[rows]] = True
            self._quick = key, with_gaussians(model, splats, rows), kept
        _, model, kept = self._quick
        return self._as_now(model), kept

    def _as_now(self, model: SegmentationModel) -> SegmentationModel:
        """A model with other Gaussians, in the state of the one that may be in training."""
        model.step, model.background_color = self.model.step, self.model.background_color
        model.training = self.model.training
        return model


def looked_at(name: str, wanted: Collection[str] | None) -> bool:
    """Whether an output is among those that are wanted (None: all are)."""
    return wanted is None or name in wanted
