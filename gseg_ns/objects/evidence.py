"""What a run's views say of its Gaussians: how much each gives to pictures, how much of that is its own object, and
where the eye puts a surface in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gseg_ns.rendering import Camera, pixel_weights, sparse_vote
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats
from gseg_ns.splats.transform import rotation_matrices

PIXELS = 3000
"""So many pixels of a group, evenly drawn, say in each view what of it is in front."""


@dataclass(frozen=True)
class Evidence:
    """Sums over views. Weights are in pixels: 1 is one pixel that shows a Gaussian and nothing else."""

    total: Tensor  # [N] float32
    """What each Gaussian gives to all pixels."""
    own: Tensor  # [N] float32
    """What of it falls on pixels that are called its group."""
    front: Tensor  # [N] float32
    """What of `own` is in the nearer half of what a pixel shows, where the eye sees a surface. What is seen through it,
    like a reflection in a glossy tray, is in the farther half from wherever one looks."""
    ends: Tensor  # [N] float32
    """Pixels of its group that it makes half of what they show: where the eye puts the surface. A faint film before it
    never does, however large it is."""
    pixels: Tensor  # [K + 1] int64
    """Pixels that are called each group."""
    views: Tensor  # [K + 1] int64
    """Views that show each group."""
    num_views: int
    """Views that were asked."""
    patches: Tensor | None = None  # [N, 9] float32
    """Where in each Gaussian the pixels of `ends` end: mean x, y, z and covariance xx, xy, xz, yy, yz, zz of these
    points along its own axes, in standard deviations, so that they move along with it. None where not asked."""
    sure: Tensor | None = None  # [N] float32
    """Its group's part of all that the masks said of each Gaussian, 0..1. Pixels are called what Gaussians in front are
    said to be, and cannot gainsay them; masks can. None where no masks voted."""

    def rows(self, source: Tensor) -> Evidence:
        """That of other rows.

        Args:
            source: int64 [M], which Gaussian each row is, or is a copy of; -1 for none, of which nothing is known.
        """
        known = source.to(self.total.device).clamp_min(0)
        strange = source.to(self.total.device) < 0

        def taken(values: Tensor) -> Tensor:
            return torch.where(strange, 0, values[known]) if len(values) else values.new_zeros(len(known))

        parts = taken(self.total), taken(self.own), taken(self.front), taken(self.ends)
        patches = self.patches
        if patches is not None:
            patches = patches[known] if len(patches) else patches.new_zeros(len(known), 9)
            patches = torch.where(strange[:, None], 0, patches)
        sure = None if self.sure is None else taken(self.sure)
        return Evidence(*parts, self.pixels, self.views, self.num_views, patches, sure)

    def shared(self, source: Tensor) -> Evidence:
        """That of rows which are parts of Gaussians, such as halves: each has an equal part of what was summed, so that
        sums over an object stay what they were.

        Args:
            source: int64 [M], which Gaussian each row is, or is a part of.
        """
        parts, source = self.rows(source), source.to(self.total.device)
        share = 1 / torch.bincount(source, minlength=1)[source].to(self.total.dtype)
        return replace(parts, **{name: getattr(parts, name) * share for name in ("total", "own", "front", "ends")})

    def to(self, device: torch.device | str) -> Evidence:
        """The same on `device`."""
        names = ("total", "own", "front", "ends", "pixels", "views")
        patches = None if self.patches is None else self.patches.to(device)
        sure = None if self.sure is None else self.sure.to(device)
        return replace(self, **{name: getattr(self, name).to(device) for name in names}, patches=patches, sure=sure)


@torch.no_grad()
def gather_evidence(splats: Splats, groups: Tensor, views: Iterable[tuple[Camera, Tensor]]) -> Evidence:
    """Ask views.

    Args:
        splats: N Gaussians.
        groups: int [N], 0 = none.
        views: camera, and the group of each pixel as the run draws it [H, W]; 0 = none.

    Returns:
        On the device of the splats.
    """
    device, count = splats.device, len(splats)
    groups = groups.to(device, torch.int64)
    size = int(groups.max()) + 1 if count else 1
    total, own, front, ends = (torch.zeros(count, device=device) for _ in range(4))
    points = torch.zeros(count, 9, dtype=torch.float64, device=device)
    pixels, shown = (torch.zeros(size, dtype=torch.int64, device=device) for _ in range(2))
    num_views = 0
    for camera, labels in views:
        num_views += 1
        camera = camera.to(device)
        meta = project_splats(splats, camera)
        gaussians, called, weights = sparse_vote(meta, labels)
        gaussians, called, weights = gaussians.to(device).long(), called.to(device).long(), weights.to(device)
        total.index_add_(0, gaussians, weights)
        same = called == groups[gaussians]
        own.index_add_(0, gaussians[same], weights[same])
        half = _nearer_half(meta, labels, groups)
        front += half.nearer
        ends.index_add_(0, half.ends, half.weight.float())
        points.index_add_(0, half.ends, half.weight[:, None] * _moments(_within(splats, camera, half)))
        counted = torch.bincount(labels.to(device).flatten().long().clamp(0, size - 1), minlength=size)
        pixels += counted
        shown += counted > 0
    front = front.minimum(own)  # of drawn pixels it is a guess
    points /= ends.double().clamp_min(1)[:, None]
    points[:, 3:] -= _moments(points[:, :3])[:, 3:]
    return Evidence(total, own, front, ends, pixels, shown, num_views, points.float())


@dataclass(frozen=True)
class _NearerHalf:
    """Of what some pixels of a view show that are called the Gaussian's group."""

    nearer: Tensor  # [N]
    """What each Gaussian gives to it, in pixels of the view."""
    ends: Tensor  # [P] int64
    """In which Gaussian it ends, of each pixel ..."""
    places: Tensor  # [P] int64
    """... with its place in the flattened view ..."""
    weight: Tensor  # [P] float64
    """... and how many pixels of the view it stands for."""


def _nearer_half(meta: dict[str, Any], labels: Tensor, groups: Tensor) -> _NearerHalf:
    """Look at some pixels of each group, and of what is in none.

    Args:
        meta: of the view, see `project`.
        labels: int [H, W].
        groups: int64 [N].
    """
    flat = labels.flatten().to(groups.device, torch.int64)
    called = flat.argsort(stable=True)
    _, counts = flat[called].unique_consecutive(return_counts=True)
    step = (counts / PIXELS).ceil().long().repeat_interleave(counts)
    place = torch.arange(len(called), device=called.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    drawn = place % step == 0
    chosen, each = called[drawn], step[drawn].float()
    weights = pixel_weights(meta, chosen)
    row, val = weights.row.to(groups.device), weights.val.to(groups.device).double()
    passed = val.cumsum(0) - val
    begin = weights.crow[:-1].to(groups.device)
    filled = torch.nonzero(weights.crow.diff().to(groups.device) > 0)[:, 0]
    start = torch.zeros(len(chosen), dtype=torch.float64, device=groups.device)
    start[filled] = passed[begin[filled]]
    half = weights.alpha.to(groups.device).double() / 2
    left = half[row] - (passed - start[row])  # of the nearer half, when a pixel has come to a Gaussian
    nearer = left.clamp_min(0).minimum(val).float() * each[row]
    col = weights.col.to(groups.device).long()
    same = groups[col] == flat[chosen][row]
    sums = torch.zeros(len(groups), device=groups.device).index_add_(0, col[same], nearer[same])
    ending = same & (left > 0) & (left <= val)
    return _NearerHalf(sums, col[ending], chosen[row[ending]], each[row[ending]].double())


def _within(splats: Splats, camera: Camera, half: _NearerHalf) -> Tensor:
    """Where pixels end in their Gaussians: [P, 3] along the Gaussian's axes from its centre, in standard deviations.

    A ray meets a Gaussian as a bell in one dimension; it ends at the peak.
    """
    K, view = camera.K.double(), camera.viewmat.double()
    rows, columns = (half.places // camera.width).double(), (half.places % camera.width).double()
    x, y = (columns + 0.5 - K[0, 2]) / K[0, 0], (rows + 0.5 - K[1, 2]) / K[1, 1]
    rays = torch.stack([x, y, torch.ones_like(x)], dim=1) @ view[:3, :3]
    eye = -view[:3, :3].T @ view[:3, 3]
    scales = splats.scales[half.ends].double().exp().clamp_min(1e-12)
    whitened = rotation_matrices(splats.quats[half.ends].double()).transpose(1, 2) / scales[:, :, None]
    along = (whitened @ rays[:, :, None])[:, :, 0]
    centre = (whitened @ (splats.means[half.ends].double() - eye)[:, :, None])[:, :, 0]
    depth = (along * centre).sum(dim=1, keepdim=True) / (along * along).sum(dim=1, keepdim=True)
    return depth * along - centre


def _moments(points: Tensor) -> Tensor:
    """Points [n, 3] and their products xx, xy, xz, yy, yz, zz: [n, 9]."""
    x, y, z = points.unbind(1)
    return torch.stack([x, y, z, x * x, x * y, x * z, y * y, y * z, z * z], dim=1)
