"""What browsers draw of a session, as bytes: splats, what each is of, and which are selected or not shown.

A frame is four little-endian uint32 (kind, version of the splats, how many, 0), and what `web/src/served_scene.js`
reads behind them.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gseg_ns.page.placing import page_placement
from gseg_ns.rendering import Camera
from gseg_ns.runs.labelled import view_of
from gseg_ns.serving.messages import Seen
from gseg_ns.splats import Placement, Splats
from gseg_ns.splats.placement import Axis
from gseg_ns.splats.ply import write_ply
from gseg_ns.splats.transform import quaternion_multiply, rotation_to_quaternion
from gseg_ns.viewer.acting import Shown
from gseg_ns.viewer.shaping import Vector

SPLATS, ROWS, MARKS = 1, 2, 3
"""Kinds of frames: a PLY; a uint16 each; a bit each for selected, and then for not shown."""

MOST_OBJECTS = 30_000
"""Rows are 16-bit numbers, of which a browser needs two an object."""

Quaternion = tuple[float, float, float, float]

_LARGEST = 150_000_000
"""Bytes of splats above which a browser is sent less of how their colors change with the view."""

_TALLEST = 720
"""Pixels of a view that is asked about, as in the tab: browsers on fine screens have more."""


class Space:
    """The coordinates of the page, in which y is up and the scene around the origin."""

    def __init__(self, splats: Splats, up: Axis = "z") -> None:
        """Place splats, which are the session's."""
        self.placement: Placement = page_placement(splats, Placement(up=up))
        self._turn = self.placement.rotation
        self._back = rotation_to_quaternion(self._turn.T)

    def point(self, there: Sequence[float]) -> Vector:
        """From the page to the scene."""
        x, y, z = (self._turn.T @ (_column(there) - self.placement.translation)).tolist()
        return x, y, z

    def vector(self, there: Sequence[float]) -> Vector:
        """A shift, from the page to the scene."""
        x, y, z = (self._turn.T @ _column(there)).tolist()
        return x, y, z

    def turn(self, there: Quaternion) -> Quaternion:
        """A rotation (w, x, y, z) of the page's points, as one of the scene's."""
        w, x, y, z = quaternion_multiply(self.axes_tensor(there), _conjugate(self._back)).tolist()
        return w, x, y, z

    def axes(self, there: Quaternion) -> Quaternion:
        """Axes (w, x, y, z) in the page, as they are in the scene."""
        w, x, y, z = self.axes_tensor(there).tolist()
        return w, x, y, z

    def axes_tensor(self, there: Quaternion) -> Tensor:
        """See `axes`."""
        return quaternion_multiply(self._back, _column(there))

    def shown(self, here: Sequence[float]) -> list[float]:
        """A point of the scene in the page."""
        found: list[float] = (self._turn @ _column(here) + self.placement.translation).tolist()
        return found

    def edges(self, here: Sequence[float]) -> list[float]:
        """Edges of a box along the scene's axes, along the page's."""
        found: list[float] = (self._turn.abs() @ _column(here)).tolist()
        return found

    def camera(self, seen: Seen) -> tuple[Camera, float]:
        """The view in the scene, no higher than 720 pixels, and what pixels of the browser are to be multiplied with.

        Raises:
            GsegError: it cannot be a view.
        """
        pose = torch.tensor(seen.pose, dtype=torch.float64).reshape(4, 4).T.clone()
        pose[:3, 3] = self._turn.T @ (pose[:3, 3] - self.placement.translation)
        pose[:3, :3] = self._turn.T @ pose[:3, :3]
        zoom = min(1.0, _TALLEST / seen.height)
        width, height = max(1, round(seen.width * zoom)), max(1, round(seen.height * zoom))
        return view_of(pose, seen.fov, width, height), zoom


class Picture:
    """What of it browsers have been told, and what is new."""

    def __init__(self, splats: Splats, up: Axis = "z") -> None:
        """Begin with nothing told."""
        self.space = Space(splats, up)
        self.version = 0
        self._splats: Splats | None = None
        self._broken = torch.zeros(0, dtype=torch.bool)
        self.frames: dict[int, bytes] = {}
        """The last of each kind: what a browser that comes is told."""

    def update(self, shown: Shown, groups: Sequence[int]) -> list[bytes]:
        """The frames that browsers lack.

        Args:
            shown: what there is.
            groups: those that are listed, in the order of the list: the first is row 1.
        """
        new: dict[int, bytes] = {}
        if shown.splats is not self._splats:
            if self._splats is None or not _same(shown.splats, self._splats):
                self.version += 1
                new[SPLATS] = self._packed(SPLATS, self._ply(shown.splats), len(shown.splats))
            self._splats = shown.splats
        count = len(shown.splats)
        new[ROWS] = self._packed(ROWS, _rows(shown.groups, groups, count), count)
        unseen = ~shown.drawn.cpu() | self._broken
        bits = [np.packbits(mask.numpy(), bitorder="little").tobytes() for mask in (shown.selected.cpu(), unseen)]
        new[MARKS] = self._packed(MARKS, b"".join(bits), count)
        # Rows and marks are of the splats before them.
        changed = [kind for kind in new if SPLATS in new or self.frames.get(kind) != new[kind]]
        self.frames.update(new)
        return [new[kind] for kind in sorted(changed)]

    def everything(self) -> list[bytes]:
        """What a browser that comes is told."""
        return [self.frames[kind] for kind in sorted(self.frames)]

    def _packed(self, kind: int, payload: bytes, count: int) -> bytes:
        return struct.pack("<4I", kind, self.version, count, 0) + payload

    def _ply(self, splats: Splats) -> bytes:
        fit = splats.exportable().cpu()
        self._broken = ~fit
        splats = replace(splats.to("cpu"), extra={})
        degrees = [d for d in range(splats.sh_degree + 1) if len(splats) * 4 * (14 + 3 * (d + 1) ** 2) <= _LARGEST]
        splats = splats.with_sh_degree(max(degrees, default=0))
        if bool(self._broken.any()):  # in their places, where nobody sees them
            splats = replace(
                splats,
                means=torch.where(fit[:, None], splats.means, 0),
                scales=torch.where(fit[:, None], splats.scales, -9),
                quats=torch.where(fit[:, None], splats.quats, splats.quats.new_tensor([1.0, 0, 0, 0])),
                opacities=torch.where(fit, splats.opacities, -9),
                sh=torch.where(fit[:, None, None], splats.sh, 0),
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scene.ply"
            write_ply(path, self.space.placement.of(splats))
            return path.read_bytes()


def _rows(groups: Tensor | None, listed: Sequence[int], count: int) -> bytes:
    if groups is None or not listed:
        return bytes(2 * count)
    table = np.zeros(max(int(groups.max()), 0, *listed) + 1, "<u2")
    table[list(listed[:MOST_OBJECTS])] = np.arange(1, min(len(listed), MOST_OBJECTS) + 1)
    return table[groups.clamp_min(0).cpu().numpy()].tobytes()


def _same(one: Splats, other: Splats) -> bool:
    names = ("means", "quats", "scales", "opacities", "sh")
    return all(getattr(one, name) is getattr(other, name) for name in names)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def _conjugate(quaternion: Tensor) -> Tensor:
    return quaternion * quaternion.new_tensor([1.0, -1, -1, -1])
