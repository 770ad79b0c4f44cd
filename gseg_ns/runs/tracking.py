"""A click that nothing prepared: the mask of a view, carried around the object by a tracker, and lifted.

No groups, no features and no photographs are needed: pictures are drawn of the splat itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gseg_ns.data.cameras import to_camera
from gseg_ns.errors import GsegError
from gseg_ns.lifting.carried import Carried, lift_object
from gseg_ns.masks import resize_labels
from gseg_ns.masks.asking import asking
from gseg_ns.masks.trackers import Tracker, load_tracker
from gseg_ns.pictures import to_bytes
from gseg_ns.rendering import Camera
from gseg_ns.splats import Splats
from gseg_ns.views.drawing import draw_view
from gseg_ns.views.orbit import Thing, is_cut_off, orbit, thing_of, up_of

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

    from gseg_ns.models.base import SegmentationModel
    from gseg_ns.selection.prompts import Prompt

LONGEST = 512
"""Pixels of the longer side of the pictures that a tracker is given, at most."""
PICTURES = 24
"""Around the object, both ways together."""
ROUNDS = 3
"""So often an object is followed around at most, from farther away each time, while pictures cut it off."""


@dataclass(frozen=True)
class Tracked:
    """What a click means."""

    selected: Tensor  # [N]
    """bool, on the CPU."""
    carried: Carried
    views: list[tuple[Camera, Tensor]]
    """The view that was clicked on, and those around the object, each with its mask."""

    @property
    def believed(self) -> int:
        """How many of the views agree, more or less."""
        return int((self.carried.weights > 0.5).sum())


@torch.no_grad()
def track_object(
    splats: Splats,
    camera: Camera,
    mask: Tensor,
    tracker: Tracker,
    up: NDArray[np.float64] | None = None,
    begin: Callable[[int], None] = lambda number: None,
) -> Tracked:
    """The Gaussians of an object, by its mask in one view.

    Args:
        splats: N Gaussians, whatever is known of them.
        camera: the view.
        mask: [H, W] bool of that view.
        tracker: carries the mask to each side.
        up: [3]; found out unless given.
        begin: is told before each round around the object which it is, from 1.

    Raises:
        GsegError: the mask shows nothing of the splat, nothing can be seen of the object from elsewhere, or the tracker
            fails, or its masks agree on nothing.
    """
    camera = _small(camera)
    first = resize_labels(mask.int().cpu(), camera.height, camera.width) > 0
    clicked = _picture(splats, camera)

    def carry(way: list[Camera]) -> list[Tensor]:
        pictures = [clicked, *(_picture(splats, one) for one in way)]
        with asking("The tracker"):
            masks = tracker.carry(pictures, first.numpy())[1:]
        return [torch.from_numpy(found) for found in masks]

    tracked = follow(splats, camera, first, up_of(splats, camera) if up is None else up, PICTURES, carry, begin)
    if not bool(tracked.selected.any()):
        raise GsegError("The tracker's masks agree on nothing. Click elsewhere, or add a point.")
    return tracked


@torch.no_grad()
def follow(
    splats: Splats,
    camera: Camera,
    first: Tensor,
    up: NDArray[np.float64],
    count: int,
    carry: Callable[[list[Camera]], list[Tensor]],
    begin: Callable[[int], None] = lambda number: None,
) -> Tracked:
    """The Gaussians of an object, by its mask in one view and what follows it from there.

    An object that reaches out of most pictures around it (of a lamp that stood in the picture's edge, there is only the
    shade) is followed anew from twice as far.

    Args:
        splats: N Gaussians.
        camera: the view.
        first: [H, W] bool of it.
        up: [3]
        count: of pictures, both ways together.
        carry: the mask [H, W] bool of each picture on a way that begins beside the view.
        begin: is told before each round which it is, from 1.

    Raises:
        GsegError: the mask shows nothing of the splat, or nothing can be seen of the object from elsewhere.
    """
    views, thing = [(camera, first)], thing_of(splats, camera, first)
    for number in range(1, ROUNDS + 1):
        begin(number)
        around = [
            (one, mask)
            for way in orbit(splats, camera, first, up, count, thing=thing).ways
            if way
            for one, mask in zip(way, carry(way), strict=True)
        ]
        if not around:
            break
        views += around
        if not is_cut_off([mask for _, mask in around]):
            break
        thing = Thing(thing.centre, 2 * thing.radius)  # around the same: what is known of it has strays
    if len(views) == 1:
        raise GsegError(
            "It cannot be seen from anywhere else: other things stand before it. Click on it in another view."
        )
    carried = lift_object(splats, views)
    return Tracked(carried.selected, carried, views)


def _small(camera: Camera) -> Camera:
    scale = LONGEST / max(camera.width, camera.height)
    if scale >= 1:
        return camera
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


def _picture(splats: Splats, camera: Camera) -> NDArray[np.uint8]:
    return to_bytes(draw_view(splats, camera).rgb)


class TrackedClicks:
    """Clicks on a model that a tracker answers; it is loaded once, and which way is up found out once.

    For one thread at a time.
    """

    def __init__(self, model: SegmentationModel) -> None:
        """Load nothing yet."""
        self._model = model
        self._tracker: tuple[str, Any] | None = None
        self._up: tuple[Any, NDArray[np.float64]] | None = None

    def mask(self, name: str, picture: Tensor, prompt: Prompt) -> Tensor:
        """The tracker's own mask [H, W] of the points of a prompt on a picture uint8 [H, W, 3].

        Raises:
            GsegError: there is no such tracker, or it fails.
        """
        points = torch.cat([prompt.positive, prompt.negative]).double().cpu().numpy()
        wanted = np.arange(len(points)) < len(prompt.positive)
        tracker = self.tracker(name)
        with asking(f"The tracker {name!r}"):
            return torch.from_numpy(tracker.mask(picture.cpu().numpy(), points, wanted))

    def carry(
        self,
        name: str,
        camera: Cameras,
        mask: Tensor,
        splats: Splats | None = None,
        begin: Callable[[int], None] = lambda number: None,
    ) -> Tracked:
        """What a mask of a view [1] means; see `track_object`.

        Args:
            name: of the tracker.
            camera: the view,
            mask: and its mask [H, W] bool.
            splats: the model's Gaussians, where training may change them meanwhile; None: as they are.
            begin: see `track_object`.
        """
        splats = self._model.splats() if splats is None else splats
        view = to_camera(self._model.corrected(camera)).to("cpu")
        version = self._model.geometry_version()
        if self._up is None or self._up[0] != version:
            self._up = version, up_of(splats, view)
        return track_object(splats, view, mask, self.tracker(name), self._up[1], begin)

    def tracker(self, name: str) -> Tracker:
        """The tracker of a name, loaded."""
        if self._tracker is None or self._tracker[0] != name:
            self._tracker = None  # two do not stay in memory
            self._tracker = name, load_tracker(name, self._model.device)
        tracker: Tracker = self._tracker[1]
        return tracker
