"""Selecting by a sphere or a box in space, a rectangle on the screen, or a range of sizes or opacities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.rendering import vote
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.rotation import rotation_matrix
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats

_MARGIN = 1.05

SEEN = 0.05
"""Pixels of a view that a Gaussian adds at least where it is in front."""


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


def inside_sphere(means: Tensor, centre: tuple[float, float, float], radius: float) -> Tensor:
    """Which centres lie in a sphere, its surface included.

    Args:
        means: [N, 3] world coordinates.
        centre: of the sphere.
        radius: in world units.

    Returns:
        bool [N].
    """
    return (means - means.new_tensor(centre)).norm(dim=1) <= radius


def longest_extents(splats: Splats) -> Tensor:
    """The size of each Gaussian: its longest standard deviation, [N] in world units."""
    return splats.scales.detach().amax(dim=1).exp()


def in_range(values: Tensor, low: float, high: float) -> Tensor:
    """Which values [N], such as sizes and opacities, lie in a range, its ends included: bool [N].

    Raises:
        GsegError: the range ends before it begins.
    """
    if not low <= high:
        raise GsegError(f"A range from {low:g} to {high:g} has nothing in it: give the smaller number first.")
    return (values >= low) & (values <= high)


def image_points(means: Tensor, camera: Camera, near: float = 0.01) -> Tensor:
    """Where centres are seen, in the image and around it.

    Args:
        means: [N, 3] world coordinates.
        camera: the view.
        near: centres nearer to the camera plane than this (world units) or behind it are seen nowhere.

    Returns:
        [N, 2] pixels x, y; NaN for those that are seen nowhere.
    """
    viewmat, K = camera.viewmat.to(means), camera.K.to(means)
    points = means @ viewmat[:3, :3].T + viewmat[:3, 3]
    depth = points[:, 2:]
    pixels = (points @ K.T)[:, :2] / depth.clamp_min(near)
    return torch.where(depth > near, pixels, torch.nan)


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
    pixels = image_points(means, camera, near)
    low = means.new_tensor([min(corner[0], opposite[0]), min(corner[1], opposite[1])])
    high = means.new_tensor([max(corner[0], opposite[0]), max(corner[1], opposite[1])])
    return ((pixels >= low) & (pixels <= high)).all(dim=1)


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


def in_front(mask: Tensor, splats: Splats, camera: Camera, min_visible: float = SEEN) -> Tensor:
    """What a view shows of a selection, whatever made it: without what other Gaussians hide, or what is out of view.

    Args:
        mask: bool [N].
        splats: all Gaussians that are drawn.
        camera: the view.
        min_visible: the least contribution to the image in pixels.

    Returns:
        bool [N].
    """
    if not bool(mask.any()):  # the view need not be drawn
        return mask
    return mask & (visible_share(splats, camera) >= min_visible)


def rectangle(
    splats: Splats,
    camera: Camera,
    corner: tuple[float, float],
    opposite: tuple[float, float],
    visible_only: bool = True,
    min_visible: float = SEEN,
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
    return in_front(mask, splats, camera, min_visible) if visible_only else mask


def bounding_sphere(splats: Splats) -> tuple[Tensor, float]:
    """Centre [3] and radius of an object, without its farthest fiftieth: a stray Gaussian does not make it small."""
    means = splats.means.detach().double()
    centre = torch.quantile(means, means.new_tensor([0.02, 0.98]), dim=0).mean(dim=0)
    distance = (means - centre).norm(dim=1) + splats.scales.detach().double().exp().amax(dim=1)
    return centre.float(), float(torch.quantile(distance, 0.98)) * _MARGIN
