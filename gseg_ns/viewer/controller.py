"""What the viewer's buttons do, without any button: answers in words and numbers that any front end can show.

Selecting, editing, listing and exporting are a module each, which `acting` puts together; this one adds the pictures,
which Nerfstudio's viewer draws here and a page of ours in the browser.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from gseg_ns.models.base import SegmentationModel
from gseg_ns.viewer.acting import Controller
from gseg_ns.viewer.drawing import Drawing, looked_at
from gseg_ns.viewer.picturing import Picturing


class SegmentController(Controller, Picturing):
    """Selection and edits on a model in the viewer."""

    def __init__(self, model: SegmentationModel, lock: AbstractContextManager[Any] | None = None) -> None:
        """Start with nothing selected; see `Held`."""
        super().__init__(model, lock)
        self._drawing = Drawing(model)

    @torch.no_grad()
    def outputs(
        self,
        camera: Cameras,
        crop: OrientedBox | None,
        wanted: Collection[str] | None = None,
        quick: bool = False,
    ) -> dict[str, Tensor]:
        """Render a view with edits and highlight, see `Drawing`. Called with the lock held, by the render threads."""
        session = self._current()
        # The picture of groups follows the slider once groups have been asked for; before, that would cost clusters.
        groups = None
        if self.model.has_scales and self._prompter.has_groups and looked_at("groups", wanted):
            groups = self._row_groups(session.scene)
        return self._drawing.outputs(session, self._seen, groups, camera, crop, wanted, quick)
