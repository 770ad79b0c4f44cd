"""What of objects floats: shown before it goes, and left out of what is exported."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gseg_ns.editing.operations import Edited
from gseg_ns.errors import GsegError
from gseg_ns.objects import Evidence, find_floaters
from gseg_ns.viewer.held import Held, drawn_rows

if TYPE_CHECKING:
    from gseg_ns.models.base import SegmentationModel

Ask = Callable[[float | None], Evidence]
"""What the views say of the model's Gaussians, for groups at a scale; takes long, and is called without the lock."""


class Floating(Held):
    """Floaters, as `gseg_ns.objects.floaters` finds them by what the views show."""

    def __init__(self, model: SegmentationModel, lock: AbstractContextManager[Any] | None = None) -> None:
        super().__init__(model, lock)
        self._floaters: tuple[Hashable, Tensor] | None = None

    def select_floaters(self, ask: Ask) -> str:
        """Select what floats of the objects that are selected, or of all of them where nothing is.

        Args:
            ask: is called where it is not known yet.

        Raises:
            GsegError: there are no objects, the views cannot be asked, or training went on meanwhile.
        """
        with self._held() as session:
            if not self._knows_groups:
                raise GsegError("The objects are not known yet. Press “List the objects” first.")
            known, key, scale = self._floats() is not None, self._key(), self._group_scale
            splats, groups = session.splats, self._prompter.groups(scale)
        if not bool((groups > 0).any()):
            raise GsegError("There are no objects yet.")
        if not known:
            evidence = ask(scale)
            rows = splats.exportable()
            seen = evidence.rows(torch.nonzero(rows)[:, 0]).to("cpu")
            floating = torch.zeros(len(splats), dtype=torch.bool, device=rows.device)
            floating[rows] = find_floaters(splats.subset(rows).to("cpu"), groups[rows].cpu(), seen).to(rows.device)
            with self._held():
                if self._key() != key:
                    raise GsegError("Training went on meanwhile. Press again when it is over.")
                self._floaters = key, floating
        with self._held() as session, torch.no_grad():
            floats = self._floats()
            if floats is None:
                raise GsegError("Training went on meanwhile. Press again when it is over.")
            scene = session.scene
            found = drawn_rows(scene, floats)
            if bool(session.selection.mask.any()):
                found = found & session.selection.mask
            objects = len(self._row_groups(scene)[found].unique())
            if not objects:
                return "Nothing floats of that: every Gaussian is part of what the views show."
            count = self._select(session, found, "set", "select floaters")
        return (
            f"Floaters: {count:,} Gaussians of {objects} object{'' if objects == 1 else 's'}, selected. "
            "“Export” leaves them out; “Remove” takes them away."
        )

    def _key(self) -> Hashable:
        return self._seen, self.model.step, self._group_scale, self._by_feature

    def _floats(self) -> Tensor | None:
        """Which of the model's Gaussians float, bool [N]; None where nobody has asked."""
        return self._floaters[1] if self._floaters is not None and self._floaters[0] == self._key() else None

    def _floating_rows(self, scene: Edited) -> Tensor | None:
        """Of the edited scene's rows, bool [M]; None where nobody has asked."""
        floats = self._floats()
        return None if floats is None else floats[scene.source.clamp_min(0)] & (scene.source >= 0)
