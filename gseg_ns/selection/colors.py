"""Selecting by color: everything that is like one, or what is connected with a spot by it.

The color of a Gaussian is what it has from all around: the constant part of its spherical harmonics. Likeness is
distance in CIELAB, where equal distances look about equally large: 2 is hardly seen, black and white are 100 apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.selection.neighbourhood import middle_extents, pieces
from gseg_ns.selection.picking import Pick
from gseg_ns.splats import Splats
from gseg_ns.splats.container import SH_C0

Color = tuple[float, float, float]
"""Red, green, blue in 0..1."""

TOLERANCE = 20.0
"""Distance up to which colors are alike: what one material has in light and in soft shade."""


def base_colors(splats: Splats) -> Tensor:
    """The color of each Gaussian from all around: [N, 3] in 0..1."""
    return (0.5 + SH_C0 * splats.sh[:, 0].detach()).clamp(0, 1)


def color_at(splats: Splats, found: Pick) -> Color:
    """The color of what a pixel shows: the base colors of its Gaussians, by what each adds."""
    red, green, blue = (found.weights @ base_colors(splats.subset(found.rows)) / found.weights.sum()).tolist()
    return red, green, blue


def of_color(splats: Splats, color: Color, tolerance: float = TOLERANCE) -> Tensor:
    """Which Gaussians have a color.

    Args:
        splats: the Gaussians.
        color: in 0..1.
        tolerance: distance in CIELAB up to which colors are alike.

    Returns:
        bool [N].

    Raises:
        GsegError: the color is not in 0..1, or the tolerance below zero.
    """
    if not all(0 <= value <= 1 for value in color):
        raise GsegError(f"A color is red, green, blue, each from 0 to 1; {' '.join(f'{v:g}' for v in color)} is none.")
    if not tolerance >= 0:
        raise GsegError(f"A tolerance of {tolerance:g} is no distance: give one from 0 (the very color) to 100.")
    wanted = _lab(splats.means.new_tensor(color)[None])
    return (_lab(base_colors(splats)) - wanted).norm(dim=1) <= tolerance


def flood(splats: Splats, seed: int, color: Color, tolerance: float = TOLERANCE) -> Tensor:
    """Which Gaussians of a color are connected with one by others of it, see `pieces`.

    Args:
        splats: the Gaussians.
        seed: the one to begin with, which is selected whatever its color.
        color: see `of_color`.
        tolerance: see `of_color`.

    Returns:
        bool [N].

    Raises:
        GsegError: see `of_color`.
    """
    alike = of_color(splats, color, tolerance)
    alike[seed] = True
    piece = pieces(splats.means, alike, middle_extents(splats.scales))
    return piece == piece[seed]


def _lab(colors: Tensor) -> Tensor:
    """SRGB [N, 3] in 0..1 as CIELAB [N, 3]."""
    from skimage.color import rgb2lab

    return torch.from_numpy(rgb2lab(colors.double().cpu().numpy())).to(colors)
