"""From an object's Gaussians to what stands for it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.choices import ProxyKind
from gseg_ns.errors import GsegError
from gseg_ns.proxies.convex import convex_hull, convex_pieces, upright_box
from gseg_ns.proxies.sights import Seen
from gseg_ns.proxies.surface import closed_surface, decimated
from gseg_ns.splats.container import Splats
from gseg_ns.splats.mesh import Proxy
from gseg_ns.splats.transform import rotation_matrices

VERTICES: dict[ProxyKind, int] = {"box": 8, "hull": 64, "pieces": 64, "mesh": 2000}
"""Most vertices of a mesh, unless told otherwise."""
_CUT = 300
"""Vertices of the mesh that is cut into convex pieces, however many those may have."""
_CUT_RESOLUTION, _CUT_GAPS = 48, 0.08
"""Of its surface, see `closed_surface`: pieces may be dented by as much, and every fold of a mesh costs seconds."""


def make_proxy(
    splats: Splats,
    up: Tensor,
    surrounds: bool,
    kind: ProxyKind = "hull",
    vertices: int | None = None,
    pixel: float = 0.0,
    seen: Seen | None = None,
) -> Proxy:
    """What stands for an object.

    All kinds are made of the object's closed surface (see `closed_surface`), so that a few stray Gaussians do not
    count; where it is too faint to have one, its Gaussians' ellipsoids are taken. What is around the other objects is a
    mesh whatever is asked for: no convex body has room inside.

    Args:
        splats: the object.
        up: [3].
        surrounds: whether it is around the other objects.
        kind: see `ProxyKind`.
        vertices: most that each mesh has, at least 4; as many as `VERTICES` says unless given.
        pixel: length of a pixel of the training pictures where the object is, 0 where that is not known; see
            `opaque_depth`.
        seen: what training views show of it, where that is known; see `closed_surface`.

    Raises:
        GsegError: a package is not installed.
    """
    most = max(vertices or VERTICES["mesh" if surrounds else kind], 4)
    cut = kind == "pieces" and not surrounds
    try:
        if cut:
            surface = closed_surface(splats, up, resolution=_CUT_RESOLUTION, pixel=pixel, gaps=_CUT_GAPS, seen=seen)
        else:
            surface = closed_surface(splats, up, surrounds, pixel=pixel, seen=seen)
    except GsegError:
        surface = convex_hull(_ellipsoids(splats), 255)
        surrounds = False
    if kind == "mesh" or surrounds:
        return Proxy("mesh", (decimated(surface, most),), surrounds)
    if kind == "box":
        return Proxy("box", (upright_box(surface.vertices, up.double().cpu().numpy()),))
    if kind == "pieces":
        return Proxy("pieces", tuple(convex_pieces(decimated(surface, _CUT), most)))
    return Proxy("hull", (convex_hull(surface.vertices, most),))


def _ellipsoids(splats: Splats) -> NDArray[np.float64]:
    """The ends of all Gaussians' axes, a standard deviation from their centres: [6 n, 3]."""
    axes = rotation_matrices(splats.quats.detach().double().cpu())
    means, lengths = splats.means.detach().double().cpu(), splats.scales.detach().double().cpu().exp()
    ends = [means + sign * lengths[:, k : k + 1] * axes[:, :, k] for k in range(3) for sign in (1, -1)]
    return torch.cat(ends).numpy()
