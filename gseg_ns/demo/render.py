"""Ray tracing the demo room: what each pixel sees, and how it is lit.

Light is a rectangle above the room (soft shadows from sampled shadow rays, Lambert and Blinn-Phong) and one bounce:
hemisphere rays that escape bring sky, those that hit bring the hit part's mean color, darker the closer the hit is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gseg_ns.demo.cameras import Cameras
from gseg_ns.demo.layout import Layout, parts_of
from gseg_ns.demo.materials import Floats, albedo, to_srgb
from gseg_ns.demo.meshes import corner_normals

_LIGHT = np.array([1.0, 0.95, 0.87], dtype=np.float32) * np.float32(1.3)
_SKY = np.array([0.86, 0.93, 1.0], dtype=np.float32) * np.float32(0.48)
_BOUNCE = np.float32(0.62)
_CONTACT_RANGE = np.float32(0.35)
_CHUNK = 200_000
# Two irrational steps that fill the unit square evenly: the R2 sequence.
_R2 = np.array([0.7548776662466927, 0.5698402909980532], dtype=np.float32)


@dataclass(frozen=True)
class View:
    """What a camera sees.

    Attributes:
        image: [H, W, 3] uint8 sRGB.
        parts: [H, W] int32, index into `layout.parts_of` of what the pixel's centre sees.
        depth: [H, W] float32, distance along the viewing axis in metres.
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.int32]
    depth: Floats


class Renderer:
    """Traces views of a layout on the CPU.

    Args:
        layout: the room.
        samples: rays across a pixel each way; their square is the number of camera rays a pixel.
        light_rays: shadow rays for each camera ray.
        bounce_rays: hemisphere rays for each camera ray.
    """

    def __init__(self, layout: Layout, samples: int = 3, light_rays: int = 2, bounce_rays: int = 2) -> None:
        import open3d as o3d

        self._tensor = o3d.core.Tensor
        self._samples, self._light_rays, self._bounce_rays = samples, light_rays, bounce_rays
        parts = parts_of(layout)
        vertices, triangles, normals, owners = [], [], [], []
        count = 0
        shared: dict[int, NDArray[np.float64]] = {}
        for index, (_, part, rotation, position) in enumerate(parts):
            mesh = part.mesh
            if id(mesh) not in shared:
                shared[id(mesh)] = corner_normals(mesh)
            vertices.append(mesh.vertices @ rotation.T + position)
            triangles.append(mesh.triangles + count)
            normals.append(shared[id(mesh)] @ rotation.T)
            owners.append(np.full(len(mesh.triangles), index, dtype=np.int32))
            count += len(mesh.vertices)
        self.instance_of = np.array([instance for instance, *_ in parts], dtype=np.int32)
        self._materials = [part.material for _, part, _, _ in parts]
        self._rotations = np.stack([rotation for *_, rotation, _ in parts]).astype(np.float32)
        self._positions = np.stack([position for *_, position in parts]).astype(np.float32)
        self._shine = np.array([material.shine for material in self._materials], dtype=np.float32)
        self._means = np.stack([material.mean_albedo() for material in self._materials])
        self._corner_normals = np.concatenate(normals).astype(np.float32)
        self._owners = np.concatenate(owners)
        self._scene: Any = o3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            self._tensor(np.concatenate(vertices).astype(np.float32)),
            self._tensor(np.concatenate(triangles).astype(np.uint32)),
        )
        half = layout.half_size
        self._light_centre = np.array([0.42 * half, -0.34 * half, 1.45 * half], dtype=np.float32)
        self._light_half = np.float32(0.19 * half)
        # So that the floor's middle gets the same light in rooms of every size.
        distance = float(np.linalg.norm(self._light_centre))
        cosine = float(self._light_centre[2]) / distance
        self._light_power = np.float32(distance**2 / cosine**2)

    def _cast(self, origins: Floats, directions: Floats) -> tuple[Floats, NDArray[np.int64], Floats]:
        """First hits: distance [n] in lengths of the direction (inf = none), triangle [n], barycentric uv [n, 2]."""
        hits = self._scene.cast_rays(self._tensor(np.concatenate([origins, directions], axis=1)))
        triangle = hits["primitive_ids"].numpy().astype(np.int64)
        return hits["t_hit"].numpy(), triangle, hits["primitive_uvs"].numpy()

    def _albedo(self, points: Floats, owner: NDArray[np.int32]) -> Floats:
        """Linear albedo [n, 3] of points on the parts `owner` [n]."""
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(self._materials) + 1))
        result = np.empty_like(points)
        for part in np.flatnonzero(np.diff(bounds)):
            index = order[bounds[part] : bounds[part + 1]]
            local = (points[index] - self._positions[part]) @ self._rotations[part]
            result[index] = albedo(self._materials[part], local)
        return result

    def _direct(
        self,
        points: Floats,
        normals: Floats,
        to_eye: Floats,
        shine: Floats,
        jitter: Floats,
    ) -> tuple[Floats, Floats]:
        """Diffuse and specular light [n] from the lamp above, both with soft shadows."""
        start = points + np.float32(1e-3) * normals
        diffuse, specular = np.zeros(len(points), np.float32), np.zeros(len(points), np.float32)
        for k in range(self._light_rays):
            square = (jitter + np.float32(k) * _R2) % 1
            spot = np.empty_like(points)
            spot[:, :2] = self._light_centre[:2] + (2 * square - 1) * self._light_half
            spot[:, 2] = self._light_centre[2]
            way = spot - start
            occluded = self._scene.test_occlusions(
                self._tensor(np.concatenate([start, way], axis=1)), tnear=0.0, tfar=0.999
            ).numpy()
            squared = np.einsum("ij,ij->i", way, way)
            length = np.sqrt(squared)
            lit = np.einsum("ij,ij->i", way, normals) / length
            arriving = np.where(occluded | (lit <= 0), 0, self._light_power * way[:, 2] / length / squared)
            diffuse += arriving * lit
            half = way / length[:, None] + to_eye
            half /= np.linalg.norm(half, axis=1, keepdims=True)
            glint = np.maximum(np.einsum("ij,ij->i", half, normals), 0)
            specular += arriving * glint**48
        return diffuse / self._light_rays, shine * specular / self._light_rays

    def _bounced(self, points: Floats, normals: Floats, jitter: Floats) -> Floats:
        """Light [n, 3] that arrives from the sky and by one bounce."""
        start = points + np.float32(1e-3) * normals
        total = np.zeros_like(points)
        for k in range(self._bounce_rays):
            square = (jitter + np.float32(k) * _R2) % 1
            # A point on the unit sphere plus the normal is distributed as the cosine.
            z, angle = 1 - 2 * square[:, 0], np.float32(2 * np.pi) * square[:, 1]
            r = np.sqrt(np.maximum(1 - z * z, 0))
            way = normals + np.float32(0.999) * np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            distance, triangle, _ = self._cast(start, way)
            hit = np.isfinite(distance)
            total[~hit] += _SKY
            nearness = np.minimum(distance[hit] / _CONTACT_RANGE, 1)
            total[hit] += self._means[self._owners[triangle[hit]]] * (_BOUNCE * (0.1 + 0.9 * nearness))[:, None]
        return total / self._bounce_rays

    def _shade(self, origin: Floats, directions: Floats, jitter: Floats) -> Floats:
        """Linear light [n, 3] arriving at `origin` [3] along -`directions` [n, 3]."""
        distance, triangle, uv = self._cast(np.broadcast_to(origin, directions.shape), directions)
        hit = np.isfinite(distance)
        color = np.empty_like(directions)
        color[~hit] = _SKY
        directions, triangle, uv = directions[hit], triangle[hit], uv[hit]
        points = origin + distance[hit, None] * directions
        weights = np.stack([1 - uv.sum(axis=1), uv[:, 0], uv[:, 1]], axis=1)
        normals = np.einsum("nk,nkd->nd", weights, self._corner_normals[triangle])
        to_eye = -directions / np.linalg.norm(directions, axis=1, keepdims=True)
        normals *= np.where(np.einsum("ij,ij->i", normals, to_eye) < 0, -1, 1)[:, None].astype(np.float32)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        owner = self._owners[triangle]
        diffuse, specular = self._direct(points, normals, to_eye, self._shine[owner], jitter[hit])
        received = diffuse[:, None] * _LIGHT + self._bounced(points, normals, (jitter[hit] + np.float32(0.37)) % 1)
        color[hit] = self._albedo(points, owner) * received + specular[:, None] * _LIGHT
        return color

    def render(self, cameras: Cameras, index: int, seed: int = 0) -> View:
        """One view of the room.

        Args:
            cameras: the cameras.
            index: which of them.
            seed: of the sampling noise; equal seeds give equal images.
        """
        width, height, samples = cameras.width, cameras.height, self._samples
        rng = np.random.default_rng([seed, 1, index])
        pose = cameras.camera_to_worlds[index].astype(np.float32)
        origin = np.ascontiguousarray(pose[:3, 3])
        columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        corners = np.stack([columns, rows], axis=-1).reshape(-1, 2)
        centre = np.array([width / 2, height / 2], dtype=np.float32)

        def rays(pixels: Floats) -> Floats:
            """World directions [n, 3], of depth 1, of pixel positions [n, 2]."""
            plane = (pixels - centre) / np.float32(cameras.focal)
            local = np.stack([plane[:, 0], -plane[:, 1], np.full(len(plane), -1, np.float32)], axis=1)
            return local @ pose[:3, :3].T

        directions = rays(corners + np.float32(0.5))
        depth, triangle, _ = self._cast(np.broadcast_to(origin, directions.shape), directions)
        if not np.isfinite(depth).all():
            raise ValueError(f"View {index} looks out of the room.")

        subs = np.arange(samples * samples)
        offset = np.stack([subs % samples, subs // samples], axis=1)[:, None] + rng.random((len(subs), len(corners), 2))
        pixels = (corners + offset / samples).astype(np.float32)  # [S, H * W, 2]
        # Every pixel continues its own sequence from camera ray to camera ray, so all its shadow rays are spread.
        step = subs.astype(np.float32)[:, None, None] * max(self._light_rays, self._bounce_rays) * _R2
        jitter = rng.random((1, len(corners), 2), dtype=np.float32) + step.astype(np.float32)
        total = np.empty((len(corners), 3), dtype=np.float32)
        chunk = max(_CHUNK // len(subs), 1)
        for low in range(0, len(corners), chunk):
            part = slice(low, low + chunk)
            light = self._shade(origin, rays(pixels[:, part].reshape(-1, 2)), jitter[:, part].reshape(-1, 2))
            # Tone-mapped before averaging: a highlight's edge is then smooth as well.
            total[part] = _tone(light).reshape(len(subs), -1, 3).mean(axis=0)
        image = np.round(to_srgb(total) * 255).astype(np.uint8)
        return View(
            image.reshape(height, width, 3),
            self._owners[triangle].reshape(height, width),
            depth.reshape(height, width),
        )


def _tone(light: Floats) -> Floats:
    """Linear light as displayed: straight up to 0.6, then a soft shoulder towards 1."""
    over = np.maximum(light - np.float32(0.6), 0)
    return np.minimum(light, np.float32(0.6)) + np.float32(0.4) * over / (over + np.float32(0.4))
