"""Choosing the cameras that see every surface of a splat well, from nothing but the splat."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gseg_ns.errors import GsegError
from gseg_ns.rendering import Camera, composite, project, visible
from gseg_ns.rendering.threads import share
from gseg_ns.splats.container import Splats
from gseg_ns.splats.projection import NEAR
from gseg_ns.views.kernels import look_shares, sight, worth
from gseg_ns.views.places import SKIPPED, Kind, Places, find_places, focus_places
from gseg_ns.views.solids import Body, Floats, Solids, body_of, finest, voxelize
from gseg_ns.views.upright import Frame, find_frame, find_standing_frame, frame_of_up

Tell = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and of how much."""

_STRUCTURE = 0.25
"""What floor, walls and ceiling weigh together, in parts of what all things do: they are seen behind everything else,
but where no picture shows them nothing tells what they are."""
_LEAST_PLACES = 3
"""From which a surface can be seen, to be asked for."""
_BY_COUNT = np.array([1, 0.95, 0.9, 0.6, 0.45, 0.3, 0.22, 0.16, 0.12, 0.08, 0.05])
"""What one more picture of a surface is worth, by how many show it already."""
_REMEMBERED = 12
_SAME = math.cos(math.radians(15))
_COARSE = 0.025
"""Size of a Gaussian in widths of a picture, beyond which it is a blur."""
_BLURRED = 0.04
"""Mean size of what a picture shows, in its widths, from which on it is blurred."""
_FOG = 0.15
"""How far apart what half of a picture's pixels show lies along them, in parts of its distance, from which on it is no
surface: at most 0.09 in rooms, 0.13 at the photographs' cameras of a blurred capture, above 0.35 in fog."""
_BESIDE_FOG = math.cos(math.radians(45))
"""Of the angle to a picture that is fog, within which no other is tried from its place."""
_HOPELESS = 400
"""Pictures that are fog, after which no more are tried where none was taken."""
_BACKGROUND = 0.02
"""Part of the area of what is seen, from which on it is no thing alone that has so much far behind it: none in things
that were cut out, 0.06 and more in captures of one thing. Cameras beyond it would see nothing else."""
_CAPTURED = 2000
"""Gaussians that a trained capture has at least: what has fewer was cut out of one, and where it is fog within it is
hollow, like a mug."""
_GRID = (12, 9)
_CHECKED_WIDTH = 128
_LEAST_GAUSSIANS = 50


@dataclass(frozen=True)
class ViewOptions:
    """What is asked for."""

    count: int = 40
    """Pictures."""
    width: int = 640
    height: int = 480
    fov: float = 64.0
    """Degrees across."""
    up: tuple[float, float, float] | None = None
    """In the file's coordinates; None: estimated."""
    kind: Kind | None = None
    """None: found out."""
    across: int = 80
    """Voxels along a side of a scene that is a cube."""

    @property
    def slopes(self) -> tuple[float, float]:
        """Tangents of half a picture's angles, across and down."""
        across = math.tan(math.radians(self.fov / 2))
        return across, across * self.height / self.width

    def intrinsics(self) -> torch.Tensor:
        """[3, 3] float32."""
        focal = self.width / 2 / self.slopes[0]
        return torch.tensor([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1]])


@dataclass(frozen=True)
class ViewPlan:
    """Cameras, and what is known of the splat that they are for."""

    cameras: list[Camera]
    """In the splat's coordinates, the most valuable first."""
    up: tuple[float, float, float]
    up_is_certain: bool
    """Whether something tells up from down; False: it is a guess that pictures may show upside down."""
    up_reason: str
    """What tells it, for people."""
    kind: Kind
    enclosure: float
    """Share of rays that meet something, from where most do: near 1 in a closed room."""
    clear: float
    """Nearest that a camera comes to anything solid, in scene units."""
    near: float
    """Depth from which on the splat is to be drawn: less than usual where its units are tiny."""
    seen: float
    """Share of the surface, but for walls and floor, that at least three of the cameras show, of what can be seen from
    anywhere. What is rough on walls counts, too: in rooms it is low where all things are seen."""


def choose_views(
    splats: Splats, options: ViewOptions | None = None, tell: Tell = lambda what, done, total: None
) -> ViewPlan:
    """Choose cameras for a splat of which nothing else is known.

    The free space of its voxels is searched: in a room from all places within the walls that are away from things and
    not below them, around an object from all sides. Each picture in turn is the one that adds most: surfaces seen
    large, from new directions, that few pictures show yet. Before it is taken it is drawn small, and loses what it has
    of holes, of things right before the lens, of blur and, in a room, of fog. Where fog leaves fewer pictures than were
    asked for, places on all sides of what is finest are tried as well: a capture from one side is no fog from there.
    Equal splats give equal cameras.

    Args:
        splats: on any device, classic or antialiased.
        options: what is asked for.
        tell: is told how far it is.

    Raises:
        GsegError: there is too little to look at, a room is a fog from wherever cameras could stand, or an option
            cannot be.
    """
    options = options or ViewOptions()
    _check(options)
    body = body_of(splats)
    if len(body.means) < _LEAST_GAUSSIANS:
        raise GsegError(
            f"The splat has {len(body.means)} Gaussians that are seen, too few to look for cameras: give them with "
            "--cameras"
        )
    planner = None
    for frame, solids, places in _find(body, options, tell):
        planner = _Planner(splats, frame, solids, places, options)
        chosen = planner.choose(tell)
        if chosen or planner.met_fog:
            break
    if planner is None:
        raise GsegError("There is no free place to look at the splat from: give cameras with --cameras")
    if places.kind == "room" and planner.met_fog and len(chosen) < options.count and options.kind is None:
        others = iter([(frame, solids, _focus(body, frame, solids, options))])
        if len(body.means) < _CAPTURED:
            others = _find(body, replace(options, kind="object"), tell)
        for upright, filled, before in others:
            if len(before.positions):
                other = _Planner(splats, upright, filled, before, options)
                found = other.choose(tell)
                if len(found) > len(chosen):
                    planner, frame, places, chosen = other, upright, before, found
    if not chosen and not planner.met_fog:
        raise GsegError(
            "From every free place a picture of the splat would be holes, what is right before the lens, or blur: give "
            "cameras with --cameras"
        )
    if not chosen:
        raise GsegError(
            "The splat is a fog from wherever cameras could stand, as a short or one-sided capture leaves it where no "
            "photograph was taken: give the cameras of its photographs (gseg views SPLAT --cameras FILE)"
        )
    return ViewPlan(
        [planner.camera(*pair) for pair in chosen],
        (float(frame.up[0]), float(frame.up[1]), float(frame.up[2])),
        frame.is_certain,
        frame.reason,
        places.kind,
        places.enclosure,
        places.clear,
        near_plane(places.clear),
        planner.share_seen(),
    )


def near_plane(clear: float) -> float:
    """Depth from which on to draw where cameras come as near to things as `clear`."""
    return min(NEAR, 0.1 * clear)


def _check(options: ViewOptions) -> None:
    for name, value, low, high in (
        ("count", options.count, 1, 10_000),
        ("width", options.width, 16, 8192),
        ("height", options.height, 16, 8192),
        ("fov", options.fov, 10, 150),
    ):
        if not low <= value <= high:
            raise GsegError(f"--{name} is {value:g}: it must be from {low} to {high}")
    if options.up is not None and not 1e-9 < math.hypot(*options.up) < math.inf:
        raise GsegError("--up has no direction: give three numbers, not all of them 0")


def _find(body: Body, options: ViewOptions, tell: Tell) -> Iterator[tuple[Frame, Solids, Places]]:
    """The upright frame, what is solid in it, and where cameras may stand, if they may anywhere.

    Then what the splat may be else, to be tried where that before gives no picture, and not since it is a fog.
    """
    tell("Looking for up", 0, 1)
    first = voxelize(body, 0.05, options.across)
    points = first.points(np.argwhere(first.solid))
    if len(points) < 4:
        raise GsegError("Nothing of the splat is opaque, so that nothing tells where cameras can be: use --cameras")
    if options.up is not None:
        frame = frame_of_up(np.array(options.up, dtype=np.float64), points, first.voxel)
    elif options.kind == "object":
        frame = find_standing_frame(points, first.voxel)
    else:
        frame = find_frame(points, first.voxel)
    tell("Looking for places", 0, 1)
    solids = voxelize(body.turned(frame.turn), across=options.across)
    is_amid = options.kind == "focus"
    if not is_amid:
        places = find_places(solids, options.kind, options.slopes)
        is_amid = places.kind == "object" and options.kind is None and body.background > _BACKGROUND
    if is_amid:
        before = _focus(body, frame, solids, options)
        if len(before.positions):
            yield frame, solids, before
    if options.kind == "focus":
        return
    if places.kind == "object" and options.kind is None and options.up is None:
        # What was taken for a floor is a seat, or the top of a table.
        frame = find_standing_frame(points, first.voxel)
        solids = voxelize(body.turned(frame.turn), across=options.across)
        places = find_places(solids, "object", options.slopes)
    if len(places.positions):
        yield frame, solids, places


def _focus(body: Body, frame: Frame, solids: Solids, options: ViewOptions) -> Places:
    middle, radius = finest(body)
    return focus_places(solids, frame.turn @ middle, radius, options.slopes, frame.is_certain)


class _Planner:
    """What is seen from where, and by which pictures so far."""

    def __init__(self, splats: Splats, frame: Frame, solids: Solids, places: Places, options: ViewOptions) -> None:
        self._splats, self._frame, self._solids, self._places = splats, frame, solids, places
        self._options = options
        index = np.argwhere(solids.solid)
        at = np.ascontiguousarray(solids.grid(places.positions))
        seen = np.empty((len(at), len(index)), np.bool_)
        share(sight, len(at), solids.solid, at, index.astype(np.int32), SKIPPED, seen, grain=4)
        asked = seen.sum(axis=0) >= _LEAST_PLACES
        index, seen = index[asked], seen[:, asked]
        self._is_thing = ~places.rough[tuple(index.T)]
        self._weights = self._weigh(index).astype(np.float32)
        grain = solids.grain[tuple(index.T)]
        focal = options.width / 2 / options.slopes[0]
        points = solids.points(index)
        self._seen_from: list[tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]] = []
        for place, row in zip(places.positions, seen, strict=True):
            ids = np.flatnonzero(row).astype(np.int32)
            ways = points[ids] - place
            length = np.linalg.norm(ways, axis=1)
            near = length > places.clear
            ids, ways, length = ids[near], ways[near], length[near]
            quality = np.minimum(1, places.reach * 2 / length)
            blur = focal * grain[ids] / length / options.width
            quality *= np.minimum(1, _COARSE / np.maximum(blur, 1e-9))
            self._seen_from.append((ids, (ways / length[:, None]).astype(np.float32), quality.astype(np.float32)))
        self._counts = np.zeros(len(index), np.int64)
        self._directions = np.zeros((len(index), _REMEMBERED, 3), np.float32)
        self._at = at
        self._across = float(np.linalg.norm(solids.box[1] - solids.box[0]))
        self._may_be_fog = places.kind in ("room", "focus")
        self.met_fog = False
        """Whether a picture was left out since it showed no surface."""

    def _weigh(self, index: NDArray[np.int64]) -> Floats:
        # What Gaussians wider than a voxel make has no detail to look at: the ragged ends of walls, and what trainings
        # leave where no photograph looked.
        coarse = self._solids.grain[tuple(index.T)] / self._solids.voxel
        weights = np.minimum(1, 1 / np.maximum(coarse.astype(np.float64), 1e-9)) ** 2
        things = self._is_thing
        if self._places.kind == "ground" and things.any():
            points = self._solids.points(index)
            middle = np.median(points[things], axis=0)
            away = np.linalg.norm(points - middle, axis=1) / self._places.reach
            weights *= np.exp(-(np.maximum(away - 1, 0) ** 2))
        if things.any():
            weights[~things] *= _STRUCTURE * weights[things].sum() / max(float(weights[~things].sum()), 1e-9)
        return weights

    def choose(self, tell: Tell) -> list[tuple[int, Floats]]:
        """Place and turn of each picture."""
        candidates = [(place, turn) for place, turns in enumerate(self._places.turns) for turn in turns]
        fitness = self._fitness(candidates)
        worst = 0.3 if self._may_be_fog else 0.05
        possible = np.flatnonzero(fitness > worst)
        if len(possible) == 0:
            possible = np.argsort(-fitness, kind="stable")[: self._options.count]
        heap = [(-self._worth(candidates[i], fitness[i]), int(i)) for i in possible]
        heapq.heapify(heap)
        checked: set[int] = set()
        foggy: defaultdict[int, list[Floats]] = defaultdict(list)
        fogs = 0
        chosen: list[tuple[int, Floats]] = []
        while heap and len(chosen) < self._options.count:
            _, number = heapq.heappop(heap)
            pair = candidates[number]
            place, turn = pair
            if number not in checked and any(turn[2] @ way > _BESIDE_FOG for way in foggy[place]):
                continue
            value = self._worth(pair, fitness[number])
            if heap and value < -heap[0][0] - 1e-9:
                heapq.heappush(heap, (-value, number))
                continue
            if number not in checked:
                checked.add(number)
                merit, is_fog = self._as_drawn(*pair)
                fitness[number] *= merit
                if is_fog:
                    foggy[place].append(turn[2])
                    fogs += 1
                    if fogs >= _HOPELESS and not chosen:
                        break
                if fitness[number] > worst:
                    heapq.heappush(heap, (-self._worth(pair, fitness[number]), number))
                continue
            self._take(pair)
            chosen.append(pair)
            tell("Choosing cameras", len(chosen), self._options.count)
        self.met_fog = fogs > 0
        return chosen

    def camera(self, place: int, turn: Floats, width: int | None = None) -> Camera:
        """The camera of a picture, in the file's coordinates."""
        rotation = turn @ self._frame.turn
        view = np.eye(4)
        view[:3, :3] = rotation
        view[:3, 3] = -turn @ self._places.positions[place]
        options = self._options
        camera = Camera(torch.tensor(view, dtype=torch.float32), options.intrinsics(), options.width, options.height)
        return camera if width is None else camera.resized(width, max(1, round(width * options.height / options.width)))

    def share_seen(self) -> float:
        """Share of the weight that three pictures show."""
        things = self._is_thing if self._is_thing.any() else np.ones_like(self._is_thing)
        return float((self._counts[things] >= _LEAST_PLACES).mean()) if len(things) else 0.0

    def _fitness(self, candidates: list[tuple[int, Floats]]) -> Floats:
        """How much of each picture is worth looking at, by the voxels alone."""
        if self._places.kind == "object":
            # From below one sees what was hardly photographed.
            return np.array([1.0 if turn[2, 2] < 0.25 else 0.6 for _, turn in candidates])
        across, down = self._options.slopes
        x, y = np.meshgrid(np.linspace(-0.9, 0.9, _GRID[0]) * across, np.linspace(-0.9, 0.9, _GRID[1]) * down)
        corners = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
        corners /= np.linalg.norm(corners, axis=1, keepdims=True)
        out = np.empty((len(candidates), 2), np.float32)
        share(
            look_shares, len(candidates), self._solids.solid, self._at,
            np.array([place for place, _ in candidates]), np.array([turn for _, turn in candidates]), corners,
            2 * self._places.clear / self._solids.voxel, 2.0 * float(np.linalg.norm(self._solids.solid.shape)), out,
            grain=100,
        )  # fmt: skip
        return self._merit(out[:, 0].astype(np.float64), out[:, 1].astype(np.float64))

    def _merit(self, empty: Floats, near: Floats) -> Floats:
        merit = np.maximum(0, 1 - 2 * near)
        return merit * np.maximum(0, 1 - 1.5 * empty) if self._places.kind == "room" else merit

    def _as_drawn(self, place: int, turn: Floats) -> tuple[float, bool]:
        """What a picture loses by what is seen when it is drawn: holes, things before the lens, blur, fog.

        Returns:
            part that it keeps, and whether it shows nothing but fog.
        """
        camera = self.camera(place, turn, _CHECKED_WIDTH)
        splats = self._splats
        meta = project(
            splats.means, splats.quats, splats.scales.exp(), splats.opacities.sigmoid(),
            camera.viewmat[None].to(splats.means), camera.K[None].to(splats.means), camera.width, camera.height,
            near_plane=near_plane(self._places.clear), rasterize_mode=splats.rasterize_mode,
        )  # fmt: skip
        shown = visible(meta)[0]
        sizes = self._splats.scales.exp().median(dim=1).values
        depth = meta["depths"][0]
        coarse = (camera.K[0, 0] * sizes / depth.clamp_min(1e-6) / camera.width).clamp(max=1)
        near = (depth < self._places.clear).to(depth)
        # A sky or hills far behind, of which a trace shines through all surfaces, are no fog.
        far = depth.clamp(1e-12, self._across).log()
        ones = torch.ones_like(depth)
        layers = torch.stack([ones, near, coarse, far, far.square()], dim=1)
        alpha, close, blur, mean, square = composite(meta, torch.where(shown[:, None], layers, 0.0)).unbind(-1)
        seen = alpha > 0.5
        if not bool(seen.any()):
            return 0.0, False
        empty = np.array(1 - float(seen.float().mean()))
        before = np.array(float(close.mean()))
        merit = float(self._merit(empty, 2 * before))
        merit *= min(1.0, _BLURRED / max(float(blur[seen].mean()), 1e-9))
        if not self._may_be_fog:
            return merit, False
        # A surface is at one distance; what lies at many along one pixel is what no photograph held together.
        mean, square = mean[seen] / alpha[seen], square[seen] / alpha[seen]
        spread = float((square - mean.square()).clamp_min(0).sqrt().median())
        if spread > 2 * _FOG:
            return 0.0, True
        return merit * min(1.0, _FOG / max(spread, 1e-9)) ** 2, False

    def _worth(self, pair: tuple[int, Floats], fitness: float) -> float:
        place, turn = pair
        ids, ways, quality = self._seen_from[place]
        return float(fitness) * worth(
            turn.astype(np.float32), self._options.slopes, ids, ways, quality, self._weights, self._counts,
            self._directions, _BY_COUNT, _SAME,
        )  # fmt: skip

    def _take(self, pair: tuple[int, Floats]) -> None:
        place, turn = pair
        ids, ways, quality = self._seen_from[place]
        local = ways @ turn.T.astype(np.float32)
        across, down = self._options.slopes
        ahead = np.maximum(local[:, 2], 1e-6)
        inside = (local[:, 2] > 0.1) & (np.abs(local[:, 0]) < across * ahead) & (np.abs(local[:, 1]) < down * ahead)
        inside &= quality > 0.3
        ids, ways = ids[inside], ways[inside]
        self._directions[ids, np.minimum(self._counts[ids], _REMEMBERED - 1)] = ways
        self._counts[ids] += 1
