"""A closed mesh of an object's surface, from depth that is rendered all around it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.errors import GsegError
from gseg_ns.proxies.depth import opaque_depth
from gseg_ns.proxies.sights import Seen
from gseg_ns.rendering import Camera
from gseg_ns.splats.container import Splats
from gseg_ns.splats.mesh import TriangleMesh

_RINGS = ((0.0, 12), (25.0, 10), (50.0, 8), (75.0, 4), (90.0, 1))
"""Degrees above the horizon, and how many views from there. None from below: what a scene shows of an object is open
where it stands, and a view into it would find it hollow."""
_VIEW = math.radians(30)
"""Full angle of view from outside."""
_PIXELS = 1.6
"""Of a view's side, for each voxel of the grid's."""
_TRUNCATION = 1.5
"""Voxels behind a surface that a view speaks of: further in, one that sees the outside of a thin wall would speak
against those that see its inside."""
_OPAQUE = 0.4
"""Opacity that counts as a surface. Half of it lies a little deep where Gaussians are few pixels wide: with 0.5 meshes
of 9 of 19 objects in two rooms missed 95 % of their labelled points, with 0.4 those of 4."""
_STRAY = 0.005
"""Share of Gaussians on each side that the grid need not hold."""
_GROUND = 0.02
"""Share of Gaussians below which an object ends: nothing is seen of what it stands on."""
_MARGIN = 3
"""Voxels of air around the object."""
_AWAY = 1e-3
"""Of the truncation: no voxel's middle is nearer to the surface."""
_CRUMB = 0.05
"""Pieces with less than this share of the largest one's opacity are left out."""


@dataclass(frozen=True)
class _Grid:
    origin: NDArray[np.float64]
    """[3] of its least corner."""
    voxel: float
    side: int


def closed_surface(
    splats: Splats,
    up: Tensor,
    inside: bool = False,
    resolution: int = 96,
    pixel: float = 0.0,
    gaps: float = 0.0,
    seen: Seen | None = None,
) -> TriangleMesh:
    """The solid that no view looks through, as a closed mesh.

    Depth is fused as a truncated signed distance (Curless and Levoy 1996): that of the training views, which also see
    past the object, and, where none of them says anything, depth that is rendered all around the object, whose
    Gaussians are alone there. (From where no photograph was taken one looks into an object through a side that none
    shows.) What no view has seen in front of a surface is taken to be solid, so that the mesh is closed where nothing
    was photographed: an object's underside is flat, a wall has a thickness.

    Args:
        splats: the object, on any device.
        up: [3].
        inside: whether the object is around the others (a room): it is then looked at from within, and the solid ends
            at its box.
        resolution: voxels along the longest side.
        pixel: see `opaque_depth`.
        gaps: those narrower than this, in parts of the longest side, are solid, and so is all air that is closed in.
        seen: what training views show of it; without it, or for what is around the others, there is only what is
            rendered.

    Raises:
        GsegError: the object is too faint to have a surface.
    """
    grid, within = _grid(splats, resolution)
    everything, splats = splats, splats.subset(within)
    field = _distances(splats, grid, up, inside, pixel)
    if not inside:
        if seen is not None:
            told, known = seen.look(splats, grid.origin, grid.voxel, grid.side, _TRUNCATION * grid.voxel)
            field = np.where(known, told, field)
        field = _above_ground(field, grid, splats, up)
    solid = _without_crumbs(field < 0, splats, grid)
    if not solid.any() and seen is not None:  # what views call something else is wholly theirs
        return closed_surface(everything, up, inside, resolution, pixel, gaps)
    if not solid.any():
        raise GsegError("An object is too faint to have a surface.")
    if gaps > 0:
        solid = _without_gaps(solid, gaps * (resolution - 2 * _MARGIN) / 2)
        field = np.where(solid & (field >= 0), np.float32(-0.5), field)
    solid = _without_corners_that_touch(solid)
    # A corner of the mesh right in a voxel's middle would be several ones, and the mesh open there.
    field = np.where(solid, field.clip(max=-_AWAY), np.abs(field).clip(min=_AWAY))
    return _mesh(field, grid)


def decimated(mesh: TriangleMesh, vertices: int) -> TriangleMesh:
    """A closed mesh with about as many vertices as asked for, or as few as leave it closed.

    Args:
        mesh: closed.
        vertices: at least 4.
    """
    import open3d as o3d

    if len(mesh.vertices) <= vertices:
        return mesh
    whole = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices), o3d.utility.Vector3iVector(mesh.faces.astype(np.int32))
    )
    triangles = max(2 * vertices - 4, 4)  # Euler, of one closed piece without handles
    while triangles < len(mesh.faces):
        fewer = whole.simplify_quadric_decimation(triangles)
        fewer.remove_degenerate_triangles()
        fewer.remove_unreferenced_vertices()
        found = TriangleMesh(np.asarray(fewer.vertices), np.asarray(fewer.triangles).astype(np.int64))
        if found.is_closed() and found.volume > 0:
            return found
        triangles = int(triangles * 1.5)  # thin places break first
    return mesh


def _grid(splats: Splats, resolution: int) -> tuple[_Grid, Tensor]:
    """A cube of voxels around the object, and which Gaussians are in it."""
    means = splats.means.detach().double().cpu()
    spread = splats.scales.detach().double().cpu().exp().amax(dim=1, keepdim=True)
    outer = int(_STRAY * len(means))
    low = (means - spread).sort(dim=0).values[outer]
    high = (means + spread).sort(dim=0).values[len(means) - 1 - outer]
    longest = max(float((high - low).max()), 1e-9)
    voxel = longest / (resolution - 2 * _MARGIN)
    middle = (low + high) / 2
    origin = middle - voxel * resolution / 2
    within = ((means >= low) & (means <= high)).all(dim=1)
    if not bool(within.any()):
        within = torch.ones_like(within)
    return _Grid(origin.numpy(), voxel, resolution), within


def _distances(splats: Splats, grid: _Grid, up: Tensor, inside: bool, pixel: float) -> NDArray[np.float32]:
    """Signed distance to the surface, positive in front, in -1..1 of the truncation: [side, side, side]."""
    import open3d as o3d

    truncation = _TRUNCATION * grid.voxel
    volume = o3d.pipelines.integration.UniformTSDFVolume(
        length=grid.voxel * grid.side,
        resolution=grid.side,
        sdf_trunc=truncation,
        color_type=o3d.pipelines.integration.TSDFVolumeColorType.NoColor,
        origin=grid.origin,
    )
    far = 4 * grid.voxel * grid.side
    for camera in _inner_cameras(splats, grid) if inside else _outer_cameras(grid, up):
        depth = opaque_depth(splats, camera, far, pixel, _OPAQUE)
        size, K = camera.width, camera.K
        # There, pixel centres have whole coordinates.
        lens = o3d.camera.PinholeCameraIntrinsic(
            size, size, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]) - 0.5, float(K[1, 2]) - 0.5
        )
        blank = o3d.geometry.Image(np.zeros((size, size, 3), np.uint8))
        picture = o3d.geometry.RGBDImage.create_from_color_and_depth(
            blank, o3d.geometry.Image(depth), depth_scale=1.0, depth_trunc=10 * far, convert_rgb_to_intensity=False
        )
        volume.integrate(picture, lens, camera.viewmat.double().numpy())
    values = np.asarray(volume.extract_volume_tsdf()).astype(np.float32)
    shape = (grid.side,) * 3
    distance, weight = values[:, 0].reshape(shape), values[:, 1].reshape(shape)
    return np.where(weight > 0, distance, np.float32(-1))


def _outer_cameras(grid: _Grid, up: Tensor) -> Iterator[Camera]:
    up = torch.nn.functional.normalize(up.double().cpu(), dim=0)
    side = torch.linalg.cross(up, torch.eye(3, dtype=torch.float64)[int(up.abs().argmin())])
    side = torch.nn.functional.normalize(side, dim=0)
    front = torch.linalg.cross(up, side)
    centre = torch.from_numpy(grid.origin) + grid.voxel * grid.side / 2
    # The ball that the grid's inner cube fits in fills the view.
    distance = 0.87 * grid.voxel * grid.side / math.sin(_VIEW / 2)
    for degrees, count in _RINGS:
        height = math.radians(degrees)
        for number in range(count):
            # Rings are turned against each other.
            angle = 2 * math.pi * (number + degrees / 90) / count
            level = math.cos(angle) * side + math.sin(angle) * front
            towards = math.cos(height) * level + math.sin(height) * up
            right = torch.nn.functional.normalize(-math.sin(angle) * side + math.cos(angle) * front, dim=0)
            yield _camera(centre + distance * towards, -towards, right, _VIEW, round(_PIXELS * grid.side))


def _inner_cameras(splats: Splats, grid: _Grid) -> Iterator[Camera]:
    """Looking along all axes from places within the object's box."""
    means = splats.means.detach().double().cpu()
    low, high = torch.quantile(means[:: max(1, len(means) // 50_000)], torch.tensor([0.05, 0.95]).double(), dim=0)
    axes = torch.eye(3, dtype=torch.float64)
    for place in torch.cartesian_prod(*[torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)] * 3)[::2]:
        eye = low + place * (high - low)
        for axis in range(3):
            for sign in (1.0, -1.0):
                yield _camera(eye, sign * axes[axis], axes[(axis + 1) % 3], math.radians(92), grid.side)


def _camera(eye: Tensor, towards: Tensor, right: Tensor, view: float, size: int) -> Camera:
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(towards, right), towards])
    viewmat[:3, 3] = -viewmat[:3, :3] @ eye
    focal = size / 2 / math.tan(view / 2)
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(viewmat.float(), K.float(), size, size)


def _above_ground(field: NDArray[np.float32], grid: _Grid, splats: Splats, up: Tensor) -> NDArray[np.float32]:
    """The field without what is below the object: no view from above sees that it is air."""
    up = torch.nn.functional.normalize(up.double().cpu(), dim=0)
    heights = (splats.means.detach().double().cpu() @ up).sort().values
    ground = float(heights[int(_GROUND * len(heights))])
    middles = grid.origin[:, None] + grid.voxel * (np.arange(grid.side) + 0.5)
    x, y, z = up.numpy()[:, None] * middles
    height = x[:, None, None] + y[None, :, None] + z[None, None, :]
    below = (ground - height) / (_TRUNCATION * grid.voxel)
    return np.maximum(field, below.clip(-1, 1).astype(np.float32))


def _without_crumbs(solid: NDArray[np.bool_], splats: Splats, grid: _Grid) -> NDArray[np.bool_]:
    """The solid without pieces in which hardly anything of the object is."""
    from scipy import ndimage

    pieces, count = ndimage.label(solid, np.ones((3, 3, 3)))
    if count < 2:
        return solid
    places = (splats.means.detach().double().cpu().numpy() - grid.origin) / grid.voxel
    x, y, z = np.clip(np.floor(places).astype(int), 0, grid.side - 1).T
    # A voxel further: centres are on the surface as often as below it.
    reached = ndimage.grey_dilation(pieces, size=3)
    weights = np.bincount(reached[x, y, z], splats.opacities.detach().cpu().sigmoid().numpy(), minlength=count + 1)
    weights[0] = 0
    return (weights >= _CRUMB * weights.max())[pieces] & solid


def _without_gaps(solid: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """The solid with the air in it that no ball of a radius in voxels gets to from outside."""
    from scipy import ndimage

    margin = math.ceil(radius) + 1  # the grid's end is no wall
    padded = np.pad(solid, margin)
    grown = ndimage.binary_fill_holes(ndimage.distance_transform_edt(~padded) <= radius)
    closed = ndimage.distance_transform_edt(grown) > radius
    return solid | closed[margin:-margin, margin:-margin, margin:-margin]


def _without_corners_that_touch(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The solid with voxels filled in so that nowhere two touch, or two of air do, in an edge or a corner alone.

    What marching cubes make of these is ambiguous: triangles meet in one edge by fours, and the mesh is not closed.
    """
    solid = solid.copy()
    halves = (slice(None, -1), slice(1, None))

    def corners(axes: tuple[int, ...]) -> list[NDArray[np.bool_]]:
        """Of all squares or cubes along axes, views of what is in each corner, opposite ones as far from the ends."""
        places = np.ndindex(*(2,) * len(axes))
        return [
            solid[tuple(halves[dict(zip(axes, place, strict=True))[axis]] if axis in axes else slice(None)
                        for axis in range(3))]
            for place in places
        ]  # fmt: skip

    before = -1
    while before != (before := int(solid.sum())):
        for axes in ((0, 1), (0, 2), (1, 2)):
            a, b, c, d = corners(axes)
            for touching in ((a & d & ~b & ~c), (b & c & ~a & ~d)):
                for corner in (a, b, c, d):
                    corner |= touching
        cube = corners((0, 1, 2))
        for first in range(4):
            opposite = cube[first], cube[7 - first]
            rest = [corner for place, corner in enumerate(cube) if place not in (first, 7 - first)]
            two = opposite[0] & opposite[1] & ~np.any(rest, axis=0)
            air = ~opposite[0] & ~opposite[1] & np.all(rest, axis=0)
            for corner in cube:
                corner |= two | air
    return solid


def _mesh(field: NDArray[np.float32], grid: _Grid) -> TriangleMesh:
    from skimage.measure import marching_cubes

    padded = np.pad(field, 1, constant_values=1)  # closed where the solid reaches the grid's end
    vertices, faces, _, _ = marching_cubes(padded, 0.0, allow_degenerate=False)
    places = grid.origin + grid.voxel * (vertices - 0.5)  # a voxel's value is that of its middle
    mesh = TriangleMesh(places.astype(np.float64), faces.astype(np.int64))
    return mesh if mesh.volume > 0 else TriangleMesh(mesh.vertices, mesh.faces[:, ::-1])
