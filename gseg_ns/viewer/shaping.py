"""What browsers select by shapes in space, colors and ranges, and what they measure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gseg_ns.editing.operations import Edited, centre_of
from gseg_ns.editing.session import Session
from gseg_ns.errors import GsegError
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.colors import color_at, flood, of_color
from gseg_ns.selection.picking import pick
from gseg_ns.selection.selection import Mode
from gseg_ns.selection.shapes import Box, in_front, in_range, inside_box, inside_sphere, longest_extents
from gseg_ns.viewer.held import Held, packed

Vector = tuple[float, float, float]
Property = Literal["size", "opacity"]

_BINS = 48


@dataclass(frozen=True)
class Histogram:
    """How many Gaussians that are drawn have which size or opacity."""

    low: float
    high: float
    """Ends of the range, in units of the scene or 0..1; the bins of sizes are equal in the logarithm."""
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Extent:
    """Where what is selected is."""

    pivot: Vector
    """What it turns about."""
    centre: Vector
    """Of the box around it, in units of the scene."""
    size: Vector
    """Edges of that box, without the farthest fiftieth on each side."""


class Shaping(Held):
    """Shapes, colors, ranges and lengths."""

    def select_like(
        self, camera: Camera, x: float, y: float, connected: bool, tolerance: float, mode: Mode, through: bool
    ) -> str:
        """Select what has the color under a pixel: all of it, or what is connected with the spot.

        Args:
            camera: the view that was clicked on.
            x: pixel column.
            y: pixel row.
            connected: whether only what is connected.
            tolerance: distance of colors, see `of_color`.
            mode: how it meets the selection.
            through: whether what other Gaussians hide in this view is meant, too.

        Raises:
            GsegError: there is nothing.
        """
        with self._held() as session, torch.no_grad():
            splats = session.scene.splats.subset(session.scene.drawn)
            found = pick(splats, camera, x, y)
            color = color_at(splats, found)
            mask = flood(splats, found.top, color, tolerance) if connected else of_color(splats, color, tolerance)
            what = "a flood" if connected else "a color"
            return self._select_drawn(session, mask, mode, what, None if through else camera)

    def select_sphere(self, centre: Vector, radius: float, mode: Mode, seen_by: Camera | None = None) -> str:
        """Select what is drawn with its centre in a sphere, in units of the scene; with `seen_by` what it shows."""
        with self._held() as session, torch.no_grad():
            mask = inside_sphere(session.scene.splats.means[session.scene.drawn], centre, radius)
            return self._select_drawn(session, mask, mode, "a sphere", seen_by)

    def select_box(self, box: Box, mode: Mode, seen_by: Camera | None = None) -> str:
        """Select what is drawn with its centre in a box; with `seen_by` what it shows."""
        with self._held() as session, torch.no_grad():
            mask = inside_box(session.scene.splats.means[session.scene.drawn], box)
            return self._select_drawn(session, mask, mode, "a box", seen_by)

    def select_range(self, name: Property, low: float, high: float, mode: Mode, seen_by: Camera | None = None) -> str:
        """Select what is drawn with its size (units of the scene) or opacity (0..1) in a range.

        Args:
            name: what is compared.
            low: the least.
            high: the most.
            mode: how it meets the selection.
            seen_by: only what this view shows of it.

        Raises:
            GsegError: the range ends before it begins.
        """
        with self._held() as session, torch.no_grad():
            mask = in_range(_values(session.scene, name, session.scene.drawn), low, high)
            return self._select_drawn(session, mask, mode, f"a range of {name}", seen_by)

    def histogram(self, name: Property) -> Histogram:
        """How sizes or opacities of what is drawn are spread.

        Raises:
            GsegError: nothing is drawn.
        """
        with self._held() as session, torch.no_grad():
            values = _values(session.scene, name, session.scene.drawn).cpu()
        if not len(values):
            raise GsegError("Nothing is drawn. Press “Show all”.")
        if name == "opacity":
            return Histogram(0.0, 1.0, tuple(torch.histc(values, _BINS, 0, 1).int().tolist()))
        values = values.clamp_min(1e-9).log()
        low, high = float(values.min()), float(values.max())
        high = max(high, low + 1e-6)
        return Histogram(math.exp(low), math.exp(high), tuple(torch.histc(values, _BINS, low, high).int().tolist()))

    def _select_drawn(self, session: Session, mask: Tensor, mode: Mode, what: str, seen_by: Camera | None) -> str:
        """Select some of the rows that are drawn, or of them what a view shows, and say how many that are."""
        drawn = session.scene.drawn
        if seen_by is not None:
            mask = in_front(mask, session.scene.splats.subset(drawn), seen_by)
        rows = torch.zeros_like(drawn)
        rows[drawn] = mask
        count = self._select(session, rows, mode, f"select by {what}")
        hit = int(mask.sum())
        return f"{what[2:].capitalize()}: {hit:,} Gaussians, {count:,} selected now."

    # ------------------------------------------------------------------------------------------------ lengths

    @property
    def metres(self) -> float | None:
        """Length of a unit of the scene, where the user has said it."""
        with self._held() as session:
            return session.state.metres

    def point_at(self, camera: Camera, x: float, y: float) -> Vector:
        """Where the surface is that a pixel shows: half of what covers the pixel lies before it.

        Raises:
            GsegError: there is nothing.
        """
        with self._held() as session, torch.no_grad():
            scene = session.scene
            found = pick(scene.splats, camera, x, y, scene.drawn)
            means = scene.splats.means[found.rows].double().cpu()
        viewmat, K = camera.viewmat.double().cpu(), camera.K.double().cpu()
        depth = means @ viewmat[2, :3] + viewmat[2, 3]
        order = depth.argsort()
        covered = found.weights.double().cpu()[order].cumsum(0)
        middle = depth[order][int((covered < covered[-1] / 2).sum())]
        ray = torch.linalg.solve(K, torch.tensor([x, y, 1.0], dtype=torch.float64))
        px, py, pz = (viewmat[:3, :3].T @ (ray * middle - viewmat[:3, 3])).tolist()
        return px, py, pz

    def set_length(self, length: float, metres: float) -> str:
        """Say how long something is.

        Args:
            length: in units of the scene.
            metres: what it is in truth.

        Raises:
            GsegError: no lengths.
        """
        if not length > 0:
            raise GsegError("The two points are the same. Measure something first.")
        with self._held() as session:
            session.set_metres(metres / length)
            unit = session.state.metres
        return f"A unit of the scene is {unit:.4g} m. Lengths are in metres from now on."

    def extent(self) -> Extent:
        """Where what is selected is.

        Raises:
            GsegError: nothing is selected.
        """
        with self._held() as session, torch.no_grad():
            scene = session.scene
            mask = packed(session.selection.mask & ~scene.removed).unpack(scene.splats.device)
            means = scene.splats.means[mask].detach().double()
            low, high = torch.quantile(means[:: max(len(means) // 100_000, 1)], means.new_tensor([0.02, 0.98]), dim=0)
            pivot = _vector(centre_of(scene.splats, mask))
        return Extent(pivot, _vector((low + high) / 2), _vector((high - low).clamp_min(1e-4)))


def _values(scene: Edited, name: Property, drawn: Tensor) -> Tensor:
    splats = scene.splats.subset(drawn)
    return longest_extents(splats) if name == "size" else splats.opacities.detach().sigmoid()


def _vector(values: Tensor) -> Vector:
    x, y, z = values.tolist()
    return x, y, z
