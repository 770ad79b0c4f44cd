"""Where everything stands: a room and objects that touch and stack but never intersect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gseg_ns.demo.materials import Material
from gseg_ns.demo.meshes import FloatArray, Mesh
from gseg_ns.demo.objects import BUILDERS, Model, Paint, Part

# What the first objects are, so that the smallest scenes already have copies, a stack, a contact and thin things.
_OPENING: tuple[tuple[str, str], ...] = (
    ("lamp", "free"),
    ("stool", "free"),
    ("stool", "copy"),
    ("crate", "free"),
    ("mug", "on top"),
    ("book", "touching"),
    ("ball", "free"),
    ("cone", "free"),
    ("ring", "free"),
    ("corner", "free"),
    ("vase", "free"),
    ("mug", "copy lying"),
)
_GAP = 0.05
_CONTACT = 0.001
WALL_HEIGHT = 2.4


@dataclass(frozen=True)
class PlacedObject:
    """A model in the room.

    Attributes:
        object_id: 1, 2, ...: its id in the ground truth.
        model: what it is; shared by identical copies.
        copy_of: the id of the first object of the same model, None for that one itself.
        rotation: [3, 3] object to world.
        position: [3] of the object's origin.
        support: the id of the object that it stands on, 0 for the floor.
        hull: [H, 2] convex counter-clockwise outline on the floor.
    """

    object_id: int
    model: Model
    copy_of: int | None
    rotation: FloatArray
    position: FloatArray
    support: int
    hull: FloatArray


@dataclass(frozen=True)
class Surface:
    """A piece of the room: a slab facing inwards, its texture in a frame of its own."""

    name: str
    mesh: Mesh
    material: Material
    rotation: FloatArray
    position: FloatArray


@dataclass(frozen=True)
class Layout:
    """A whole room.

    Attributes:
        objects: in order of their ids, 1..N.
        surfaces: floor and walls; the k-th has the instance id N + 1 + k.
        radius: of the disc about the origin in which the objects stand, metres.
        half_size: half the room's width.
    """

    objects: tuple[PlacedObject, ...]
    surfaces: tuple[Surface, ...]
    radius: float
    half_size: float


def convex_hull(points: FloatArray) -> FloatArray:
    """Counter-clockwise convex outline [H, 2] of points [P, 2]."""
    from scipy.spatial import ConvexHull

    return points[ConvexHull(points).vertices]


def hull_gap(first: FloatArray, second: FloatArray) -> float:
    """The widest gap between two convex counter-clockwise outlines along an edge's normal; negative if they overlap.

    A lower bound on their distance, exact unless corner is nearest to corner.
    """
    widest = -np.inf
    for a, b in ((first, second), (second, first)):
        edge = np.roll(a, -1, axis=0) - a
        normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        reach = (b @ normal.T).min(axis=0) - np.einsum("ij,ij->i", a, normal)
        widest = max(widest, float(reach.max()))
    return widest


def _yaw(angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


class _Placer:
    """Puts models on the floor one after the other, by rejection."""

    def __init__(self, rng: np.random.Generator, radius: float) -> None:
        self.rng = rng
        self.radius = radius
        self.placed: list[PlacedObject] = []
        self._centres = np.empty((0, 2))
        self._reach = np.empty(0)
        self._standing: list[int] = []
        self._taken_tops: set[int] = set()

    def _free(self, hull: FloatArray, clearance: float, without: int = 0) -> bool:
        """Whether the outline keeps `clearance` from all that stands on the floor but object `without`."""
        centre = hull.mean(axis=0)
        reach = np.linalg.norm(hull - centre, axis=1).max()
        near = np.linalg.norm(self._centres - centre, axis=1) < self._reach + reach + clearance
        return all(
            self._standing[k] == without or hull_gap(self.placed[self._standing[k] - 1].hull, hull) >= clearance
            for k in np.flatnonzero(near)
        )

    def _add(
        self,
        model: Model,
        copy_of: int | None,
        rotation: FloatArray,
        position: FloatArray,
        support: int,
        hull: FloatArray,
    ) -> None:
        object_id = len(self.placed) + 1
        self.placed.append(PlacedObject(object_id, model, copy_of, rotation, position, support, hull))
        if support == 0:
            centre = hull.mean(axis=0)
            self._standing.append(object_id)
            self._centres = np.vstack([self._centres, centre])
            self._reach = np.append(self._reach, np.linalg.norm(hull - centre, axis=1).max())

    @staticmethod
    def _at_rest(model: Model, rotation: FloatArray) -> tuple[FloatArray, float, FloatArray]:
        """The turned model's outline about its origin [H, 2], the height that puts it on z = 0, and its extent in z."""
        vertices = np.concatenate([part.mesh.vertices for part in model.parts]) @ rotation.T
        return convex_hull(vertices[:, :2]), -float(vertices[:, 2].min()), vertices[:, 2]

    def on_floor(self, model: Model, copy_of: int | None, lying: bool) -> None:
        """Stand (or lay) a model on the floor, anywhere free; the disc grows where there is no room left."""
        tall = max(float(part.mesh.vertices[:, 2].max()) for part in model.parts) > 0.5
        attempt = 0
        while True:
            yaw = self.rng.uniform(0, 2 * np.pi)
            rotation = _yaw(yaw)
            if lying:
                # On its side, handle (+x) upwards and a little askew.
                side = _yaw(float(self.rng.uniform(-0.5, 0.5)))
                rotation = rotation @ np.array([[0.0, 0, 1.0], [0, 1.0, 0], [-1.0, 0, 0]]).T @ side
            hull, lift, _ = self._at_rest(model, rotation)
            reach = float(np.linalg.norm(hull, axis=1).max())
            # Tall things stay off the rim, where they would fill a near camera's view.
            limit = (self.radius - reach) * (0.75 if tall else 1.0)
            r, angle = limit * np.sqrt(self.rng.uniform()), self.rng.uniform(0, 2 * np.pi)
            offset = np.array([r * np.cos(angle), r * np.sin(angle)])
            if self._free(hull + offset, _GAP):
                self._add(model, copy_of, rotation, np.append(offset, lift), 0, hull + offset)
                return
            attempt += 1
            if attempt % 40 == 0:
                self.radius *= 1.02

    def touching(self, model: Model, copy_of: int | None) -> bool:
        """Push a model against an upright one already there, face to face where both have faces."""
        anchors = [item for item in self.placed if item.support == 0 and item.model.boxy]
        for _ in range(40):
            if not anchors:
                break
            anchor = anchors[int(self.rng.integers(len(anchors)))]
            heading = float(np.arctan2(anchor.rotation[1, 0], anchor.rotation[0, 0]))
            quarter = int(self.rng.integers(4)) * np.pi / 2
            rotation = _yaw(heading + int(self.rng.integers(4)) * np.pi / 2)
            hull, lift, _ = self._at_rest(model, rotation)
            direction = np.array([np.cos(heading + quarter), np.sin(heading + quarter)])
            slide = np.array([-direction[1], direction[0]]) * self.rng.uniform(-0.06, 0.06)
            start = anchor.position[:2] + slide
            near, far = 0.0, 2.0
            for _ in range(30):
                middle = (near + far) / 2
                if hull_gap(anchor.hull, hull + start + middle * direction) < _CONTACT:
                    near = middle
                else:
                    far = middle
            offset = start + far * direction
            if np.linalg.norm(hull + offset, axis=1).max() <= self.radius and self._free(
                hull + offset, _GAP, anchor.object_id
            ):
                self._add(model, copy_of, rotation, np.append(offset, lift), 0, hull + offset)
                return True
        return False

    def on_top(self, model: Model, copy_of: int | None) -> bool:
        """Stand a model on one whose top is free and wide enough."""
        rotation = _yaw(self.rng.uniform(0, 2 * np.pi))
        hull, lift, height = self._at_rest(model, rotation)
        centre = (hull.min(axis=0) + hull.max(axis=0)) / 2
        reach = float(np.linalg.norm(hull - centre, axis=1).max())
        hosts = [
            item
            for item in self.placed
            if item.support == 0
            and item.object_id not in self._taken_tops
            and item.model.top is not None
            and item.rotation[2, 2] > 0.99
            and item.model.top[1] >= reach
            and item.model.top[0] + np.ptp(height) < 1.0
        ]
        if not hosts:
            return False
        host = hosts[int(self.rng.integers(len(hosts)))]
        assert host.model.top is not None
        room = host.model.top[1] - reach
        offset = host.position[:2] + self.rng.uniform(-0.6, 0.6, 2) * room - centre
        self._taken_tops.add(host.object_id)
        # A hair's breadth above, so that a ray never finds both faces at one depth.
        position = np.append(offset, host.position[2] + host.model.top[0] + lift + 0.0005)
        self._add(model, copy_of, rotation, position, host.object_id, hull + offset)
        return True


def _surfaces(half: float, rng: np.random.Generator) -> tuple[Surface, ...]:
    """Floor and four walls, each a thin slab outside the room."""

    def slab(
        name: str,
        material: Material,
        origin: Sequence[float],
        along: Sequence[float],
        up: Sequence[float],
        height: float,
    ) -> Surface:
        a, u = np.asarray(along, dtype=np.float64), np.asarray(up, dtype=np.float64)
        rotation = np.stack([a, np.cross(u, a), u], axis=1)
        corners = np.array([[x, y, z] for z in (0.0, height) for y in (0.0, 0.05) for x in (-half, half)])
        # Vertex 4 z + 2 y + x; two triangles for each of the six sides.
        sides = [(0, 2, 1, 3), (4, 5, 6, 7), (0, 1, 4, 5), (2, 6, 3, 7), (0, 4, 2, 6), (1, 3, 5, 7)]
        faces = np.array([face for a, b, c, d in sides for face in ((a, b, c), (b, d, c))])
        return Surface(name, Mesh(corners, faces), material, rotation, np.asarray(origin, dtype=np.float64))

    oak = Material("planks", ((0.72, 0.59, 0.46), (0.53, 0.40, 0.29)), 0.15, 0, 0.25, int(rng.integers(1000)))
    white = (0.90, 0.88, 0.84)
    papers = (
        ((0.86, 0.82, 0.74), (0.72, 0.60, 0.46), (0.60, 0.66, 0.60)),
        ((0.66, 0.72, 0.74), (0.86, 0.84, 0.78), (0.38, 0.47, 0.54)),
        ((0.86, 0.82, 0.74), (0.55, 0.64, 0.58), (0.70, 0.52, 0.44)),
        ((0.76, 0.66, 0.60), (0.90, 0.82, 0.74), (0.47, 0.36, 0.38)),
    )
    floor_origin = (0.0, -half, 0.0)
    surfaces = [slab("floor", oak, floor_origin, (1, 0, 0), (0, 1, 0), 2 * half)]
    for k, paper in enumerate(papers):
        angle = k * np.pi / 2
        outward = (float(np.cos(angle)), float(np.sin(angle)), 0.0)
        along = (outward[1], -outward[0], 0.0)
        material = Material("wall", (*paper, white), 0.24, 0, 0.0, int(rng.integers(1000)))
        origin = (half * outward[0], half * outward[1], 0.0)
        surfaces.append(slab(f"wall {k + 1}", material, origin, along, (0, 0, 1), WALL_HEIGHT + 0.4 * half))
    return tuple(surfaces)


def make_layout(num_objects: int, seed: int = 0) -> Layout:
    """Furnish a room.

    Objects stand on the floor in a disc that grows with their number; some are identical copies, some touch, some
    stand on others. Their outlines on the floor, or their height ranges, are disjoint, so no two intersect.

    Args:
        num_objects: how many, at least 1.
        seed: equal seeds give equal rooms.

    Raises:
        ValueError: `num_objects` is below 1.
    """
    if num_objects < 1:
        raise ValueError("A room needs at least one object.")
    rng = np.random.default_rng([seed, 0])
    paint = Paint(rng)
    # The disc holds the objects' outlines (about 0.1 m2 each) loosely: crowded, but each can be seen.
    placer = _Placer(rng, radius=0.5 + 0.22 * float(np.sqrt(num_objects)))
    first_of: dict[int, int] = {}
    last_of: dict[str, Model] = {}
    categories = sorted(BUILDERS)
    queue: list[str] = []
    for index in range(num_objects):
        if index < len(_OPENING):
            category, how = _OPENING[index]
        else:
            if not queue:
                queue = [str(name) for name in rng.permutation(categories)]
            category = queue.pop()
            how = ("free", "touching", "free", "on top", "free", "copy")[index % 6]
        model = last_of[category] if "copy" in how and category in last_of else BUILDERS[category](paint)
        last_of[category] = model
        copy_of = first_of.get(id(model))
        first_of.setdefault(id(model), index + 1)
        if how == "touching" and placer.touching(model, copy_of):
            continue
        if how == "on top" and placer.on_top(model, copy_of):
            continue
        lying = model.can_lie and ("lying" in how or (index >= len(_OPENING) and rng.uniform() < 0.4))
        placer.on_floor(model, copy_of, lying)
    half = placer.radius + 1.5
    return Layout(tuple(placer.placed), _surfaces(half, rng), placer.radius, half)


def parts_of(layout: Layout) -> list[tuple[int, Part, FloatArray, FloatArray]]:
    """Every part in the room: (instance id, part, rotation [3, 3], position [3]), the room's surfaces last."""
    result = [
        (item.object_id, part, item.rotation, item.position) for item in layout.objects for part in item.model.parts
    ]
    for k, surface in enumerate(layout.surfaces):
        part = Part(surface.name, surface.mesh, surface.material)
        result.append((len(layout.objects) + 1 + k, part, surface.rotation, surface.position))
    return result
