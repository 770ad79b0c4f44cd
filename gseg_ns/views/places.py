"""Where cameras may stand, and what they are to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gseg_ns.rendering.threads import share
from gseg_ns.views.kernels import hit_lengths, sight
from gseg_ns.views.solids import Floats, Solids
from gseg_ns.views.upright import sphere

Kind = Literal["room", "ground", "object", "focus"]
"""What is looked at: from within walls; things on open ground; a thing alone, from all around; what photographs were
taken of, amid what they show by the way, from the sides that they were taken from."""

_RAYS = 200
_TRIED = 6000
"""Free places whose surroundings are looked at."""
_ENCLOSED = 0.6
"""Share of rays that meet something, from where most do, in a room."""
_NEARLY = 0.78
"""Share of that of a place that is still inside."""
_HIDDEN = 0.03
"""Share of what is seen from inside a room, but for its walls, that nobody sees from outside: at least 0.1 in rooms
that were photographed, most of the rest being rough walls, and 0.002 in a ball."""
_BEHIND = 0.3
"""Thickness of a wall at most, in radii of the free middle."""
_FEW = 0.02
"""Share of things in all that is solid, below which there are none."""
_FLAT = 3.5
"""Area of the smallest wall, in squares of that radius."""
_CLEAR = 0.25
"""Distance to all that is solid, in radii of the room's free middle."""
SKIPPED = 1.8
"""Voxels next to a surface that is looked at that may be solid, too."""
_PLACES = 260
_PITCHES: dict[Kind, tuple[float, ...]] = {"room": (10, -12, -35, -58), "ground": (-5, -20, -40)}
_YAWS = 12
_AROUND = 260
"""Places around an object at one distance."""
_BEFORE = 160
"""Directions from which what was photographed from one side is tried: nothing but pictures tells which side."""
_AWAY = (0.6, 0.95, 1.5, 2.4)
"""Distances from it, in radii of what is finest."""
_ASIDE = ((0, 0), (-0.25, 0), (0.25, 0), (0, -0.25), (0, 0.25))
"""Parts of a picture's angles, by which pictures from there look past its middle: to the side, and up."""
_STEEPEST = 60
"""Degrees above and below, from which it may have been photographed."""


@dataclass(frozen=True)
class Places:
    """Where cameras may stand."""

    kind: Kind
    enclosure: float
    """Share of rays that meet something, from where most do."""
    reach: float
    """Radius of the free middle: how far things are from a camera, about."""
    clear: float
    """Nearest that a camera comes to anything."""
    positions: Floats
    """[P, 3], in the upright frame."""
    turns: list[Floats]
    """Of each place [n, 3, 3]: pictures that may be taken there; right, down and forward in rows."""
    structure: NDArray[np.bool_]
    """[X, Y, Z], voxels of floor, walls and ceiling, or of the ground."""
    rough: NDArray[np.bool_]
    """[X, Y, Z], these and what is right beside them, but for what lies on them."""


def find_places(solids: Solids, kind: Kind | None, slopes: tuple[float, float]) -> Places:
    """Places in the free space of an upright splat.

    Args:
        solids: in the upright frame.
        kind: None: found out.
        slopes: tangents of half a picture's angles, across and down.
    """
    distance = ndimage.distance_transform_edt(~solids.solid).astype(np.float32) * np.float32(solids.voxel)
    index = np.argwhere(distance > 2 * solids.voxel)
    index = _spread(index, _TRIED)
    points = solids.points(index)
    low, high = solids.box
    inside = ((points > low) & (points < high)).all(axis=1)
    index, points = index[inside], points[inside]
    lengths = np.empty((len(index), _RAYS), np.float32)
    most = 2.0 * float(np.linalg.norm(solids.solid.shape))
    share(hit_lengths, len(index), solids.solid, index + 0.5, sphere(_RAYS), most, lengths, grain=50)
    enclosure = (lengths > 0).mean(axis=1)
    top = float(np.percentile(enclosure, 85)) if len(index) > 20 else 0.0
    if kind == "room" or (kind is None and top > _ENCLOSED):
        within = enclosure > _NEARLY * top
        reach = float(np.percentile(distance[tuple(index[within].T)], 95)) if within.any() else 0.3 * solids.size
        structure, level = find_structure(solids, _FLAT * (reach / solids.voxel) ** 2)
        if kind is None and _holds_things(solids, index[within], structure, reach):
            kind = "room"
    if kind is None:
        kind = "ground" if _has_ground(solids) else "object"
    if kind == "room":
        positions = _inside(solids, distance, index[within], lengths[within], structure, reach)
        turns = [_looks(_PITCHES[kind])] * len(positions)
        return Places(kind, top, reach, _CLEAR * reach, positions, turns, structure, _rough(structure, level))
    structure = _ground(solids) if kind == "ground" else np.zeros_like(solids.solid)
    things = solids.points(np.argwhere(solids.solid & ~structure))
    if len(things) == 0:
        things = solids.points(np.argwhere(solids.solid))
    if kind == "ground":
        # What lies in the middle is what was photographed; hedges and houses behind it are not circled.
        middle = np.median(things, axis=0)
        radius = float(np.percentile(np.linalg.norm(things - middle, axis=1), 70))
    else:
        middle = (things.min(axis=0) + things.max(axis=0)) / 2
        radius = float(np.linalg.norm(things - middle, axis=1).max())
    clear = 0.15 * radius
    positions, turns = _around(solids, distance, middle, radius, clear, slopes, kind)
    if kind == "ground":
        floor = solids.points(np.argwhere(structure))[:, 2].max() if structure.any() else low[2]
        free = (distance[tuple(index.T)] > clear) & (points[:, 2] > floor + clear)
        among = solids.points(index[free])[: 4 * _PLACES]
        chosen = _spread(np.floor(solids.grid(among)).astype(np.int64), _PLACES)
        positions = np.concatenate([positions, solids.points(chosen)])
        turns += [_looks(_PITCHES[kind])] * len(chosen)
    return Places(kind, top, 1.5 * radius, clear, positions, turns, structure, _rough(structure, structure))


def focus_places(solids: Solids, middle: Floats, radius: float, slopes: tuple[float, float], has_floor: bool) -> Places:
    """Places on all sides of what is finest, and near to it: where it was photographed from one side, pictures tell it.

    Args:
        solids: in the upright frame.
        middle: [3], of what is finest, in that frame.
        radius: of most of it.
        slopes: tangents of half a picture's angles, across and down.
        has_floor: nothing is looked at from below.
    """
    aside = np.array(_ASIDE) * 2 * np.arctan(slopes)
    distance = ndimage.distance_transform_edt(~solids.solid) * solids.voxel
    clear = 0.1 * radius
    ways = sphere(_BEFORE)
    steep = np.sin(np.radians(_STEEPEST))
    ways = ways[(ways[:, 2] < steep) & (ways[:, 2] > (0 if has_floor else -steep))]
    positions, turns = [], []
    for length in _AWAY:
        for way in ways:
            place = middle + length * radius * way
            cell = np.floor(solids.grid(place[None])[0]).astype(int)
            if ((cell >= 0) & (cell < solids.solid.shape)).all() and distance[tuple(cell)] < clear:
                continue
            positions.append(place)
            turns.append(np.array([_past(-way, *angles) for angles in aside]))
    none = np.zeros_like(solids.solid)
    return Places("focus", 0.0, 1.5 * radius, clear, np.array(positions).reshape(-1, 3), turns, none, none)


def _past(way: Floats, aside: float, above: float) -> Floats:
    """A picture's turn [3, 3], so far in radians to the side of a direction [3] and above it."""
    yaw = np.arctan2(way[1], way[0]) + aside
    pitch = np.arcsin(np.clip(way[2] / np.linalg.norm(way), -1, 1)) + above
    return look_along(np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)]))


def _rough(structure: NDArray[np.bool_], level: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels of layers, and those beside them: as far as voxels tell, that is their roughness.

    Not so what lies on a level one: things stand there, and small ones are no higher than that.
    """
    beside = np.ones((3, 3, 3))
    below = beside.copy()
    below[:, :, 2] = 0
    return np.asarray(ndimage.binary_dilation(structure & ~level, beside) | ndimage.binary_dilation(level, below))


def _holds_things(solids: Solids, within: NDArray[np.int64], structure: NDArray[np.bool_], reach: float) -> bool:
    """Whether an enclosed space has things in it that are hidden from outside: a hollow thing has not.

    Seen from above they may be: many rooms have no ceiling. What is right behind what is seen from outside is the
    other side of a wall.
    """
    index = np.argwhere(solids.solid).astype(np.int32)
    things = ~structure[tuple(index.T)]
    if things.sum() < _FEW * len(things):
        return False
    ways = sphere(64)
    ways = ways[(ways[:, 2] > -0.5) & (ways[:, 2] < 0.05)]
    middle = np.array(solids.solid.shape) / 2
    outer = np.zeros_like(solids.solid)
    outer[tuple(index[_seen(solids, middle + 2 * float(np.linalg.norm(middle)) * ways, index)].T)] = True
    if not outer.any():
        return True
    behind = ndimage.distance_transform_edt(~outer)[tuple(index.T)] > _BEHIND * reach / solids.voxel
    some = np.flatnonzero(things)[:: max(1, int(things.sum()) // 4000)]
    looked_at = _seen(solids, within[:: max(1, len(within) // 60)] + 0.5, index[some])
    return bool(looked_at.sum() > _FEW * len(some) and behind[some][looked_at].mean() > _HIDDEN)


def _seen(solids: Solids, places: NDArray[Any], index: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which voxels [V] are seen from any of some places."""
    out = np.empty((len(places), len(index)), np.bool_)
    share(sight, len(places), solids.solid, np.ascontiguousarray(places), index, SKIPPED, out, grain=4)
    return np.asarray(out.any(axis=0))


def _inside(
    solids: Solids,
    distance: NDArray[np.float32],
    index: NDArray[np.int64],
    lengths: NDArray[np.float32],
    structure: NDArray[np.bool_],
    reach: float,
) -> Floats:
    """Free places of a room, of all its rooms, that are not within, below or right beside a thing."""
    clear = _CLEAR * reach
    free = distance > clear
    rooms, count = ndimage.label(free)
    room = rooms[tuple(index.T)]
    near = room > 0
    # A hollow thing is no room: its free middle is small.
    wide = ndimage.maximum(distance, rooms, np.arange(count + 1))
    many = np.bincount(room, minlength=count + 1)
    near &= (np.asarray(wide)[room] > 0.5 * reach) & (many[room] > 0.04 * many[1:].max(initial=1))
    # Nor is a place below a table: pictures of what was hardly photographed are smeared.
    near &= ~_below_things(solids, index, structure, 1.2 * reach)
    # Nor what lies below the floor, where trainings leave what nobody saw.
    near &= np.maximum.accumulate(structure, axis=2)[tuple(index.T)] | ~structure.any()
    if not near.any():
        near = room > 0
    if not near.any():
        near = np.ones(len(index), bool)
    chosen = _spread(index[near], _PLACES)
    return solids.points(chosen)


def _below_things(
    solids: Solids, index: NDArray[np.int64], structure: NDArray[np.bool_], most: float
) -> NDArray[np.bool_]:
    """Which voxels have something over them that is no ceiling."""
    things = solids.solid & ~structure
    high = things.shape[2]
    steps = min(high, max(1, round(most / solids.voxel)))
    below = np.zeros(len(index), bool)
    for step in range(1, steps):
        below |= things[index[:, 0], index[:, 1], np.minimum(index[:, 2] + step, high - 1)]
    return below


def _looks(pitches: tuple[float, ...]) -> Floats:
    """Upright pictures in all directions [n, 3, 3]."""
    turns = []
    for number, pitch in enumerate(pitches):
        for step in range(_YAWS):
            yaw = 2 * np.pi * (step + 0.5 * (number % 2)) / _YAWS
            low = np.radians(pitch)
            way = np.array([np.cos(low) * np.cos(yaw), np.cos(low) * np.sin(yaw), np.sin(low)])
            turns.append(look_along(way))
    return np.array(turns)


def look_along(way: Floats) -> Floats:
    """Right, down and forward in rows [3, 3] of an upright picture along `way` [3], where z is up."""
    forward = way / np.linalg.norm(way)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-3:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def _around(
    solids: Solids,
    distance: NDArray[np.float32],
    middle: Floats,
    radius: float,
    clear: float,
    slopes: tuple[float, float],
    kind: Kind,
) -> tuple[Floats, list[Floats]]:
    """Places on spheres around a thing: one from which all of it is seen, and one nearer."""
    whole = radius / np.sin(np.arctan(min(slopes)))
    ways = sphere(_AROUND)
    # Straight from above and below there is no upright picture.
    least, most = (np.radians(5), np.radians(75)) if kind == "ground" else (np.radians(-60), np.radians(75))
    ways = ways[(ways[:, 2] > np.sin(least)) & (ways[:, 2] < np.sin(most))]
    positions, turns = [], []
    for length in (whole, max(0.65 * whole, 1.15 * radius)):
        for way in ways:
            place = middle + length * way
            cell = np.floor(solids.grid(place[None])[0]).astype(int)
            within = ((cell >= 0) & (cell < solids.solid.shape)).all()
            if within and distance[tuple(cell)] < clear:
                continue
            positions.append(place)
            turns.append(look_along(-way)[None])
    return np.array(positions).reshape(-1, 3), turns


def _spread(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """About so many of some voxels [n, 3], evenly spread."""
    if len(index) <= count:
        return index
    # A body of n voxels has about n / step^3 cells, a layer n / step^2.
    low, high = 1.0, (len(index) / count) ** 0.5 + 1
    for _ in range(10):
        step = (low + high) / 2
        low, high = (step, high) if len(np.unique(_cells(index, step))) > count else (low, step)
    cell = np.floor(index / high)
    # Of each cell the voxel nearest to its middle.
    off = np.abs(index - (cell + 0.5) * high).max(axis=1)
    order = np.argsort(off, kind="stable")
    return index[np.sort(order[np.unique(_cells(index, high)[order], return_index=True)[1]])]


def _cells(index: NDArray[np.int64], step: float) -> NDArray[np.int64]:
    """Numbers [n] of the cells that voxels [n, 3] are in."""
    cell = np.floor(index / step).astype(np.int64)
    _, wide, high = cell.max(axis=0) + 1
    return (cell[:, 0] * wide + cell[:, 1]) * high + cell[:, 2]


def find_structure(solids: Solids, least: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Voxels of large flat layers: floors, ceilings and walls of rooms of any outline.

    Args:
        solids: upright.
        least: voxels of the smallest layer that counts.

    Returns:
        [X, Y, Z] of all of them, and of those that are level.
    """
    index = np.argwhere(solids.solid)
    found, is_level = np.zeros((2, len(index)), bool)
    left = np.ones(len(index), bool)
    angles = np.radians(np.arange(0, 180, 5))
    ways = np.concatenate([[[0.0, 0, 1]], np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)])
    layers = [np.floor(index @ way).astype(int) for way in ways]
    layers = [layer - layer.min() for layer in layers]
    for _ in range(40):
        best, number, start = 0, 0, 0
        for way, layer in enumerate(layers):
            counts = np.bincount(layer[left], minlength=3)
            threes = np.convolve(counts, np.ones(3, int), "valid")
            if threes.max() > best:
                best, number, start = int(threes.max()), way, int(threes.argmax())
        if best < least:
            break
        slab = left & (layers[number] >= start) & (layers[number] < start + 3)
        grid = np.zeros_like(solids.solid)
        grid[tuple(index[slab].T)] = True
        parts, _ = ndimage.label(grid, np.ones((3, 3, 3)))
        # The layer is up to three voxels thick: what counts is what is seen of it.
        across = np.delete(np.arange(3), np.abs(ways[number]).argmax())
        numbers = parts[tuple(index[slab].T)]
        cells = np.concatenate([numbers[:, None], index[slab][:, across]], axis=1)
        first = np.unique(_cells(cells, 1), return_index=True)[1]
        large = np.bincount(numbers[first]) >= least
        found[np.flatnonzero(slab)[large[numbers]]] = True
        is_level[np.flatnonzero(slab)[large[numbers]]] = number == 0
        left &= ~slab
    structure, level = np.zeros((2, *solids.solid.shape), bool)
    structure[tuple(index[found].T)] = True
    level[tuple(index[is_level].T)] = True
    return structure, level


def _ground(solids: Solids) -> NDArray[np.bool_]:
    """Voxels of the layer on which all stands."""
    counts = solids.solid.sum(axis=(0, 1))
    threes = np.convolve(counts, np.ones(3, int), "same")
    ground = np.zeros_like(solids.solid)
    layer = int(threes.argmax())
    ground[:, :, max(layer - 1, 0) : layer + 2] = solids.solid[:, :, max(layer - 1, 0) : layer + 2]
    return ground


def _has_ground(solids: Solids) -> bool:
    """Whether things stand on a layer that reaches beyond them on all sides, and nothing is below.

    The top of a table that was turned over is no ground: its legs stand near its edge.
    """
    ground = _ground(solids)
    if not ground.any():
        return False
    level = np.flatnonzero(ground.any(axis=(0, 1)))
    below = solids.solid[:, :, : level.min()].sum()
    above = np.argwhere(solids.solid[:, :, level.max() + 2 :].any(axis=2))
    outline = np.argwhere(ground.any(axis=2))
    if len(above) == 0 or below > 0.05 * solids.solid.sum():
        return False
    things, whole = (np.prod(np.ptp(np.percentile(cells, [3, 97], axis=0), axis=0) + 1) for cells in (above, outline))
    return bool(len(outline) > 0.6 * solids.solid.any(axis=2).sum() and things < 0.5 * whole)
