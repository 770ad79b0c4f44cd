"""Where views see the surfaces of objects: a patch in each Gaussian that pixels end in.

No centre of a Gaussian is where the eye puts a surface: opaque ones lie behind it, faint ones before it, and what a
view looks through has some on either side. A pixel ends in the Gaussian that makes half of what it shows, at the peak
of that one along its ray; the patch of a Gaussian is where the pixels of all views end in it (`Evidence.patches`).
Neighbouring patches make one surface, on which they are laid, so that what is left of noise is no thickness.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.neighbours import PointTree
from gseg_ns.objects.boxes import Ellipsoids
from gseg_ns.objects.evidence import Evidence
from gseg_ns.splats import Splats
from gseg_ns.splats.transform import rotation_matrices

FEWEST = 2.0
"""Pixels that make a patch."""

EDGE = 1.25
"""Standard deviations of a patch's points from its middle to its edge; 2 would be those of a disc, which is cut where
the pixels end in its neighbours."""

NEIGHBOURS = 12
"""So many patches, the one in their middle among them, make a plane."""

ENOUGH = 10
"""Patches that an object has at least: fewer say little of where it ends."""

AROUND = 16
"""So many patches around one are asked whether they are another thing's, in touch with it."""

TOUCHING = 3.0
"""Patches touch that are no farther apart than this many times their spreads together."""

LOWEST = 0.2
"""Part of the patches of an object, the lowest, near which is what it may stand on."""


class Surfaces:
    """Surfaces of all objects of a scene."""

    def __init__(self, splats: Splats, groups: Tensor, evidence: Evidence) -> None:
        """Place the patches.

        Args:
            splats: N Gaussians, where they are now.
            groups: int [N], 0 = none.
            evidence: of these rows.
        """
        count = len(splats)
        seen = evidence.ends.cpu() >= FEWEST
        patches = torch.zeros(count, 9) if evidence.patches is None else evidence.patches.cpu()
        if evidence.patches is None:
            seen = torch.zeros(count, dtype=torch.bool)
        self._rows = torch.nonzero(seen)[:, 0]
        self._place = torch.full((count,), -1).index_put_((self._rows,), torch.arange(len(self._rows)))
        self._groups = groups.cpu()[self._rows]
        self._pixels = evidence.ends.cpu()[self._rows].double()
        chosen = patches[self._rows].double()
        part = splats.subset(self._rows.to(splats.device)).to("cpu")
        turned = rotation_matrices(part.quats.detach().double()) * part.scales.detach().double().exp()[:, None, :]
        self._middles = part.means.detach().double() + (turned @ chosen[:, :3, None])[:, :, 0]
        covariances = turned @ chosen[:, _SQUARE].view(-1, 3, 3) @ turned.transpose(1, 2)
        values, axes = np.linalg.eigh(covariances.numpy())
        deviations = np.sqrt(np.maximum(values, 0))
        self._spread = torch.from_numpy(deviations[:, 2])
        deviations[:, 0] = 0  # across the patch: noise, and the bend of the surface
        self._axes = axes * (EDGE * deviations)[:, None, :]

    @cached_property
    def _tree(self) -> PointTree:
        return PointTree(self._middles.float())

    def of(self, rows: Tensor, weights: Tensor, up: NDArray[np.float64] | None = None) -> Ellipsoids | None:
        """The surface of an object, and what touches it from below.

        Args:
            rows: int64 [n], its Gaussians.
            weights: [n], what of each is surface.
            up: [3]; +z where None.

        Returns:
            None where the views show too little of it.
        """
        rows, weights = rows.cpu(), weights.cpu().double()
        places = self._place[rows]
        taken = (places >= 0) & (weights > 0)
        places, weights = places[taken], weights[taken]
        if len(places) < ENOUGH:
            return None
        middles = _on_planes(self._middles[places], weights)
        body = Ellipsoids(middles.numpy(), self._axes[places.numpy()], weights.numpy())
        heights = self._middles[places] @ torch.as_tensor([0.0, 0, 1] if up is None else up, dtype=torch.float64)
        low = places[heights.argsort()[: max(int(LOWEST * len(places)), ENOUGH)]]
        found = self._touching(low, int(self._groups[places[0]]))
        return body._replace(contacts=self._middles[found].numpy(), contact_weights=self._pixels[found].numpy())

    def _touching(self, places: Tensor, group: int) -> Tensor:
        """Which patches of other groups, or of none, touch some patches [n] of a group: int64 [m]."""
        distances, others = self._tree.nearest(self._middles[places].float(), AROUND)
        near = distances <= TOUCHING * (self._spread[places][:, None] + self._spread[others])
        return others[near & (self._groups[others] != group)].unique()


def _on_planes(points: Tensor, weights: Tensor) -> Tensor:
    """Points [n, 3], each moved onto the plane of those around it, by weight [n]."""
    _, around = PointTree(points.float()).nearest(points.float(), NEIGHBOURS)
    near, share = points[around], weights[around]
    share = share / share.sum(dim=1, keepdim=True)
    middle = (share[:, :, None] * near).sum(dim=1)
    apart = near - middle[:, None]
    covariances = torch.einsum("nk,nki,nkj->nij", share, apart, apart)
    normals = torch.linalg.eigh(covariances)[1][:, :, 0]
    return points + ((middle - points) * normals).sum(dim=1, keepdim=True) * normals


_SQUARE = [3, 4, 5, 4, 6, 7, 5, 7, 8]
"""Places of a covariance's rows in a patch."""
