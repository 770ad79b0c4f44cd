"""What training views show of objects and of what is around them, as surfaces are made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.proxies.depth import lens_of, opaque_depth
from gseg_ns.proxies.kernels import look_through
from gseg_ns.proxies.stereo import Look, corrected
from gseg_ns.rendering import Camera
from gseg_ns.rendering.threads import share
from gseg_ns.splats.container import Splats

_SURFACE = 0.3
"""The part of what an object covers of a pixel at which its surface is. Along the training views' rays to the labelled
points of a mug 25 pixels wide, depths are half a pixel too deep (median) where half is covered, and right at .3."""
_LEAST = 0.1
"""Of a pixel that an object covers, for its depth to be known there."""


@dataclass(frozen=True)
class Sight:
    """One view."""

    camera: Camera
    labels: NDArray[np.int32]
    """The group that each pixel shows [H, W]; 0 = none."""
    depth: NDArray[np.float32]
    """Of what it shows [H, W], infinite where that is nothing."""
    photograph: NDArray[np.uint8] | None = None
    """[H, W, 3]; None where it is gone."""


@dataclass(frozen=True)
class Seen:
    """An object in all views."""

    sights: tuple[Sight, ...]
    group: int
    """Its name in them."""
    rotation: Tensor
    """[3, 3] float64; with `translation` and `scale` the similarity from the views' coordinates to those where its
    Gaussians are: p -> scale * rotation @ p + translation."""
    translation: Tensor  # [3] float64
    scale: float

    def cameras(self) -> Iterator[tuple[Sight, Camera]]:
        """Each view, and its camera where the Gaussians are."""
        for sight in self.sights:
            matrix = sight.camera.viewmat.double().cpu().clone()
            turned = matrix[:3, :3] @ self.rotation.T
            matrix[:3, 3] = self.scale * matrix[:3, 3] - turned @ self.translation
            matrix[:3, :3] = turned
            yield sight, Camera(matrix, sight.camera.K, sight.camera.width, sight.camera.height)

    def look(
        self, splats: Splats, origin: NDArray[np.float64], voxel: float, side: int, truncation: float
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What the views say of a grid of voxels.

        A pixel that shows the object ends in it, however faint it is: where the object covers `_SURFACE` of all that it
        covers there, or deeper where photographs say so (see `gseg_ns.proxies.stereo`). One that shows something else
        sees through all that lies before that.

        Args:
            splats: the object's Gaussians.
            origin: [3], the grid's least corner.
            voxel: a side of one.
            side: how many along each.
            truncation: a length.

        Returns:
            How far before the surface each is, in -1..1 of the truncation, and of which any view says so, both
            [side, side, side].
        """
        sums, weights = np.zeros((side,) * 3, np.float32), np.zeros((side,) * 3, np.float32)
        corners = torch.from_numpy(origin) + voxel * side * torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        looks = []
        for sight, camera in self.cameras():
            view, lens = camera.viewmat, lens_of(camera)
            if not _in_picture(corners, camera):
                continue
            depths = self.scale * sight.depth
            own = sight.labels == self.group
            if own.any():
                away = (splats.means.detach().double().cpu() @ view[2, :3] + view[2, 3]).abs()
                pixel = away.clamp_min(1e-3 * voxel) / lens[0]
                found = opaque_depth(splats, camera, np.inf, pixel, _SURFACE, _LEAST)
                # Where none of it is found, the view says nothing.
                depths = np.where(own, np.where(np.isfinite(found), found, -np.inf), depths).astype(np.float32)
                own = own & np.isfinite(found)
            looks.append(Look(view.numpy(), lens, depths, own, sight.photograph))
        middle = origin + voxel * side / 2
        for look, depths in zip(looks, corrected(looks, middle, voxel), strict=True):
            share(look_through, side, origin, voxel, look.view, look.lens, depths, look.own, truncation, sums, weights)
        known = weights > 0
        return np.divide(sums, weights, out=np.full_like(sums, -1), where=known), known


def _in_picture(corners: Tensor, camera: Camera) -> bool:
    """Whether a body with these corners [n, 3] may be in a picture."""
    seen = corners @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    rays = seen @ camera.K.double().cpu().T  # a corner's pixel, times its depth
    x, y, z = rays.unbind(1)
    return not any(
        bool(side.all()) for side in (z <= 0, x < 0, y < 0, x > camera.width * z, y > camera.height * z)
    )  # fmt: skip
