"""Single clicks on ground-truth objects: where they are set, in the same places for every method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEAST_PIXELS = 40
"""Objects smaller than this in their best view are left out: they have no interior to click."""

_EROSIONS = (3, 2, 1)
"""Pixels from an object's outline at which a click is interior, as many as the object allows."""


@dataclass(frozen=True)
class ObjectClicks:
    """Clicks on one object in one view, each a prompt of its own."""

    name: int
    """Id of the object in the ground truth."""
    view: int
    """Index of the view."""
    points: Tensor
    """[C, 2] float32, x and y of pixel centres, from the upper left corner."""


def draw_clicks(
    maps: Sequence[Tensor], names: Iterable[int] | None = None, clicks: int = 3, seed: int = 0
) -> list[ObjectClicks]:
    """Choose for each object a view that shows it well, and points of its interior there.

    Args:
        maps: [H, W] int ground-truth label map of each view.
        names: the objects; None: all ids but 0.
        clicks: points an object.
        seed: of the choice of views and points.

    Returns:
        the objects that some view shows with `LEAST_PIXELS` or more; the view is a random one of those that show at
        least half as many pixels as the best.
    """
    if names is None:
        names = {int(i) for image in maps for i in image.unique()} - {0}
    rng = np.random.default_rng(seed)
    found = []
    for name in sorted(names):
        areas = np.array([int((image == name).sum()) for image in maps])
        if not len(areas) or areas.max() < LEAST_PIXELS:
            continue
        view = int(rng.choice(np.flatnonzero(areas >= areas.max() / 2)))
        y, x = np.nonzero(_interior((maps[view] == name).cpu().numpy()))
        picked = rng.choice(len(y), clicks)
        points = torch.from_numpy(np.stack([x[picked], y[picked]], axis=1)).float() + 0.5
        found.append(ObjectClicks(name, view, points))
    return found


def _interior(inside: np.ndarray) -> np.ndarray:
    """The pixels [H, W] of a mask that lie deepest in it, or all of a mask that is one pixel thin."""
    from scipy.ndimage import binary_erosion

    for count in _EROSIONS:
        eroded = binary_erosion(inside, iterations=count)
        if eroded.any():
            return np.asarray(eroded)
    return inside
