"""What browsers see of the scene's objects: a list of all of them, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from gseg_ns.editing.operations import Hide, Show
from gseg_ns.errors import GsegError
from gseg_ns.palette import colors
from gseg_ns.selection.selection import Mode
from gseg_ns.selection.shapes import bounding_sphere
from gseg_ns.viewer.held import Held, packed


@dataclass(frozen=True)
class Group:
    """A line of the list of objects."""

    id: int
    name: str
    count: int
    color: tuple[int, int, int]
    hidden: bool


@dataclass(frozen=True)
class Picked:
    """What is selected, as the list and the buttons say it."""

    gaussians: int
    groups: tuple[int, ...]
    """Those that are selected, wholly or in part; empty where groups are not known."""
    called: str
    """In a few words."""


class Listing(Held):
    """The list of objects."""

    def groups(self) -> list[Group]:
        """All groups, the largest first. With methods of features they are clusters: the first time takes long."""
        with self._held() as session, torch.no_grad():
            scene = session.scene
            groups = self._row_groups(scene)
            present = ~scene.removed
            ids, counts = groups[present & (groups > 0)].unique(return_counts=True)
            visible = set(groups[scene.drawn].unique().tolist())
            paint = colors(ids).tolist()
            labels = {**self.model.group_names(self._group_scale), **session.labels(self._group_scale)}
        rows = [
            Group(i, labels.get(i, ""), n, (c[0], c[1], c[2]), i not in visible)
            for i, n, c in zip(ids.tolist(), counts.tolist(), paint, strict=True)
        ]
        return sorted(rows, key=lambda group: -group.count)

    @property
    def lists(self) -> bool:
        """Whether `groups` answers at once."""
        with self._held():
            return self._knows_groups

    def require_list(self) -> None:
        """Refuse what is meant by the number of a group while there is no list: it would be that of another one.

        Raises:
            GsegError: the objects at this scale are not found yet.
        """
        if not self.lists:
            raise GsegError("The objects at this scale are not listed yet. Wait for the list, or ask for it.")

    def why_no_groups(self) -> str:
        """Why there are no objects, and when there will be."""
        model = self.model
        if model.two_phases and not model.in_feature_phase:
            return (
                f"There are no objects yet: they are found when the geometry is trained, at step "
                f"{model.geometry_steps:,} of {model.config.num_iterations:,}. This is step {model.step:,}."
            )
        return (
            f"There are no objects yet: this method finds them in training. This is step {model.step:,} of "
            f"{model.config.num_iterations:,}."
        )

    def picked(self) -> Picked:
        """What is selected."""
        with self._held() as session, torch.no_grad():
            count = session.selection.count
            known = count > 0 and self._knows_groups
            groups = self._pieces(session)[0] if known else ()
            return Picked(count, groups, self._called(session) if count else "nothing")

    def select_group(self, group: int, mode: Mode | Literal["toggle"] = "set") -> str:
        """Select the Gaussians of a group; `toggle`: add a group, or take away one that is selected now."""
        with self._held() as session, torch.no_grad():
            if mode == "toggle":
                # Where the front end said which, it would go by what it was told last: two presses, and one is lost.
                mode = "remove" if self._knows_groups and group in self._pieces(session)[0] else "add"
            mask = self._row_groups(session.scene) == group
            called = self._name(session, group)
            count = self._select(session, mask & ~session.scene.removed, mode, f"{_VERBS[mode]} {called}")
            return f"{called[:1].upper()}{called[1:]}: {count:,} Gaussians selected."

    def select_groups(self, groups: Sequence[int], mode: Mode = "set") -> str:
        """Select the Gaussians of some groups."""
        with self._held() as session, torch.no_grad():
            of = self._row_groups(session.scene)
            mask = torch.isin(of, torch.tensor(list(groups), dtype=of.dtype, device=of.device))
            called = f"{len(groups)} objects"
            count = self._select(session, mask & ~session.scene.removed, mode, f"{_VERBS[mode]} {called}")
            return f"{called}: {count:,} Gaussians selected."

    def label(self, group: int, name: str) -> str:
        """Name a group."""
        with self._held() as session:
            session.label(group, name, self._group_scale)
        return f"Group {group} is now “{name.strip()}”." if name.strip() else f"Group {group} has no name now."

    def toggle(self, group: int) -> str:
        """Hide a group, or show it again where all of it is hidden."""
        with self._held() as session, torch.no_grad():
            scene = session.scene
            mask = (self._row_groups(scene) == group) & ~scene.removed
            hidden = bool(scene.hidden[mask].all())
            verb = "show" if hidden else "hide"
            did = f"{verb} {self._name(session, group)}"
            session.edit((Show if hidden else Hide)(packed(mask)), did)
            return f"{did[:1].upper()}{did[1:]}."

    def sphere_of(self, group: int | None = None) -> tuple[tuple[float, float, float], float]:
        """Centre and radius of what is selected, or of a group, without its far Gaussians; in units of the scene.

        Raises:
            GsegError: there is nothing.
        """
        with self._held() as session, torch.no_grad():
            scene = session.scene
            mask = session.selection.mask if group is None else self._row_groups(scene) == group
            mask = packed(mask & ~scene.removed).unpack(scene.splats.device)
            centre, radius = bounding_sphere(scene.splats.subset(mask).to("cpu"))
        x, y, z = centre.tolist()
        return (x, y, z), radius


_VERBS: dict[Mode, str] = {"set": "select", "add": "add", "remove": "take away", "intersect": "intersect with"}
