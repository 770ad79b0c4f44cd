"""Splats made by hand: a room whose floor and walls are known, things in it, and a thing alone."""

from __future__ import annotations

import numpy as np
import torch

from gseg_ns.splats import Splats
from gseg_ns.views import ViewOptions

STEP = 0.1
SMALL = ViewOptions(count=18, width=160, height=120, across=44)
"""Quick, and coarse."""


def sheet(origin: list[float], along: list[float], up: list[float], color: list[float]) -> Splats:
    """A rectangle of flat, opaque Gaussians from a corner along two sides across each other."""
    first, second = np.array(along), np.array(up)
    counts = [max(2, round(float(np.linalg.norm(side)) / STEP)) for side in (first, second)]
    a, b = np.meshgrid(*((np.arange(count) + 0.5) / count for count in counts), indexing="ij")
    means = np.array(origin) + a.reshape(-1, 1) * first + b.reshape(-1, 1) * second
    normal = np.cross(first, second)
    flat = int(np.abs(normal).argmax())
    sizes = np.full((len(means), 3), 0.55 * STEP)
    sizes[:, flat] = 0.005
    return _splats(means, sizes, color)


def _splats(means: np.ndarray, sizes: np.ndarray, color: list[float]) -> Splats:
    count = len(means)
    sh = (torch.tensor(color).expand(count, 3) - 0.5) / 0.28209479177387814
    return Splats(
        torch.tensor(means, dtype=torch.float32),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.tensor(sizes, dtype=torch.float32).log(),
        torch.full((count,), 4.0),
        sh[:, None].float().contiguous(),
    )


def box(low: list[float], high: list[float], color: list[float]) -> Splats:
    """The six sides of a box."""
    (x, y, z), (a, b, c) = low, np.array(high) - np.array(low)
    sides = [
        ([x, y, z], [a, 0, 0], [0, b, 0]), ([x, y, z + c], [a, 0, 0], [0, b, 0]), ([x, y, z], [a, 0, 0], [0, 0, c]),
        ([x, y + b, z], [a, 0, 0], [0, 0, c]), ([x, y, z], [0, b, 0], [0, 0, c]), ([x + a, y, z], [0, b, 0], [0, 0, c]),
    ]  # fmt: skip
    return Splats.cat([sheet(*side, color) for side in sides])


def ball(radius: float = 0.5, count: int = 900) -> Splats:
    """A ball of small Gaussians."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - z * z)
    means = radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
    return _splats(means, np.full((count, 3), 0.05 * radius), [0.8, 0.2, 0.2])


THINGS = {
    1: ([0.8, 0.9, 0.0], [1.4, 1.5, 0.6]),
    2: ([2.6, 2.4, 0.0], [3.2, 3.0, 0.9]),
    3: ([0.7, 2.7, 0.0], [1.2, 3.2, 0.5]),
}
"""Boxes in the room."""


def make_room() -> Splats:
    """4 x 4 x 2.4, without a ceiling; z is up. `extra["label"]`: 0 floor and walls, 1..3 the things."""
    shell = [
        sheet([0, 0, 0], [4, 0, 0], [0, 4, 0], [0.6, 0.5, 0.4]),
        *(sheet([x, 0, 0], [0, 4, 0], [0, 0, 2.4], [0.7, 0.7, 0.8]) for x in (0.0, 4.0)),
        *(sheet([0, y, 0], [4, 0, 0], [0, 0, 2.4], [0.8, 0.7, 0.7]) for y in (0.0, 4.0)),
    ]
    parts = [Splats.cat(shell), *(box(*corners, [0.9, 0.3, 0.2]) for corners in THINGS.values())]
    room = Splats.cat(parts)
    room.extra["label"] = torch.cat([torch.full((len(part),), number) for number, part in enumerate(parts)])
    return room
