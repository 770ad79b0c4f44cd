"""Selecting by a box in space or a rectangle on the screen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.rendering import vote
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.rotation import rotation_matrix
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats


@dataclass(frozen=True)
class Box:
    """An oriented box."""

    centre: tuple[float, float, float]
    """World coordinates."""
    size: tuple[float, float, float]
    """Full edge lengths along the box's own axes, world units."""
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """Quaternion (w, x, y, z) that turns the box's axes into the world's; need not be normalised."""


def inside_box(means: Tensor, box: Box) -> Tensor:
    """Which centres lie in the box, faces included.

    Args:
        means: [N, 3] world coordinates.
        box: the box.

    Returns:
        bool [N].
    """
    rotation = rotation_matrix(box.rotation).to(means)
    local = (means - means.new_tensor(box.centre)) @ rotation  # = R^T (x - c) for row vectors
    return (local.abs() <= means.new_tensor(box.size) / 2).all(dim=1)


def inside_rectangle(
    means: Tensor, camera: Camera, corner: tuple[float, float], opposite: tuple[float, float], near: float = 0.01
) -> Tensor:
    """Which centres project into a rectangle of the image, whatever is in front of them.

    Args:
        means: [N, 3] world coordinates.
        camera: the view.
        corner: (x, y) of one corner in pixels.
        opposite: (x, y) of the corner across.
        near: centres nearer to the camera plane than this (world units) or behind it are out.

    Returns:
        bool [N].
    """
    viewmat, K = camera.viewmat.to(means), camera.K.to(means)
    points = means @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = points[:, 2]
    pixels = (points @ K.T)[:, :2] / depth.clamp_min(near)[:, None]
    low = means.new_tensor([min(corner[0], opposite[0]), min(corner[1], opposite[1])])
    high = means.new_tensor([max(corner[0], opposite[0]), max(corner[1], opposite[1])])
    return (depth > near) & (pixels >= low).all(dim=1) & (pixels <= high).all(dim=1)


def visible_share(splats: Splats, camera: Camera) -> Tensor:
    """How much of each Gaussian the camera sees.

    Args:
        splats: the Gaussians.
        camera: the view.

    Returns:
        [N] float: the sum over pixels of alpha times transmittance, in pixels.
    """
    labels = torch.zeros(camera.height, camera.width, dtype=torch.int64, device=splats.means.device)
    return vote(project_splats(splats, camera), labels, 1)[:, 0]


def rectangle(
    splats: Splats,
    camera: Camera,
    corner: tuple[float, float],
    opposite: tuple[float, float],
    visible_only: bool = True,
    min_visible: float = 0.05,
) -> Tensor:
    """Select with a rectangle on the screen.

    Args:
        splats: the Gaussians.
        camera: the view that the rectangle was drawn on.
        corner: (x, y) of one corner in pixels.
        opposite: (x, y) of the corner across.
        visible_only: leave out what other Gaussians hide in this view, so that a rectangle over a mug does not take
            the wall behind.
        min_visible: with `visible_only`, the least contribution to the image in pixels.

    Returns:
        bool [N].
    """
    mask = inside_rectangle(splats.means, camera, corner, opposite)
    if visible_only:
        mask &= visible_share(splats, camera) >= min_visible
    return mask
