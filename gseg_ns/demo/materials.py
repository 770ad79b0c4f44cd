"""Procedural solid textures: albedo as a function of the position in an object's own frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""float32 in fact; numpy's own stubs widen it in most expressions."""
Color = tuple[float, float, float]
Kind = Literal["plain", "checker", "stripes", "bands", "dots", "wood", "marble", "planks", "wall"]

# Muted colors, sRGB in 0..1, far enough from the floor's oak and from each other to be told apart.
PALETTE: dict[str, Color] = {
    "terracotta": (0.73, 0.36, 0.26),
    "mustard": (0.84, 0.64, 0.22),
    "sage": (0.45, 0.57, 0.42),
    "teal": (0.16, 0.45, 0.47),
    "dusty blue": (0.36, 0.51, 0.68),
    "navy": (0.17, 0.24, 0.40),
    "plum": (0.45, 0.25, 0.40),
    "rose": (0.80, 0.52, 0.52),
    "cream": (0.92, 0.88, 0.78),
    "charcoal": (0.20, 0.21, 0.23),
    "coral": (0.88, 0.47, 0.36),
    "olive": (0.47, 0.46, 0.24),
    "lilac": (0.62, 0.55, 0.74),
    "mint": (0.60, 0.78, 0.69),
    "brick": (0.55, 0.20, 0.17),
    "walnut": (0.36, 0.23, 0.15),
}
_LATTICE = 32


@dataclass(frozen=True)
class Material:
    """A solid texture and how shiny it is.

    Attributes:
        kind: the pattern.
        colors: sRGB colors in 0..1, at least two unless `kind` is "plain".
        scale: size in metres of the pattern's period.
        axis: the pattern's axis (0, 1, 2), for those that have one.
        shine: strength of the specular highlight, 0 = matt.
        seed: shifts the noise, so that equal patterns differ.
    """

    kind: Kind
    colors: tuple[Color, ...]
    scale: float = 0.1
    axis: int = 2
    shine: float = 0.15
    seed: int = 0

    def mean_albedo(self) -> Floats:
        """The mean of the colors as linear albedo [3], for light bounced off the material."""
        return to_linear(np.asarray(self.colors, dtype=np.float32)).mean(axis=0)


def to_linear(srgb: Floats) -> Floats:
    """SRGB values in 0..1 as linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: Floats) -> Floats:
    """Linear light in 0..1 as sRGB values."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-8) ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


@lru_cache(maxsize=1)
def _lattice() -> Floats:
    """The periodic table of noise values [32, 32, 32], flat."""
    return np.random.default_rng(20_240_607).random(_LATTICE**3, dtype=np.float32)


def value_noise(points: Floats, seed: int = 0) -> Floats:
    """Smooth noise [n] in 0..1 with features of size 1, at `points` [n, 3]."""
    table = _lattice()
    shifted = points + np.array([seed * 7.31 % 32, seed * 3.77 % 32, seed * 5.13 % 32], dtype=np.float32)
    floor = np.floor(shifted)
    f = shifted - floor
    f = f * f * (3 - 2 * f)
    cell = floor.astype(np.int32)
    x0, y0, z0 = ((cell[:, k] & (_LATTICE - 1)) for k in range(3))
    x1, y1, z1 = ((cell[:, k] + 1 & (_LATTICE - 1)) for k in range(3))
    x0, x1, y0, y1 = x0 << 10, x1 << 10, y0 << 5, y1 << 5
    fx, fy, fz = f.T

    def along_x(y: NDArray[np.int32], z: NDArray[np.int32]) -> Floats:
        low = table[x0 + y + z]
        return low + (table[x1 + y + z] - low) * fx

    def along_xy(z: NDArray[np.int32]) -> Floats:
        low = along_x(y0, z)
        return low + (along_x(y1, z) - low) * fy

    near = along_xy(z0)
    return near + (along_xy(z1) - near) * fz


def fractal_noise(points: Floats, octaves: int, seed: int = 0) -> Floats:
    """Sum of `octaves` of value noise [n], in 0..1 about 0.5."""
    total = np.zeros(len(points), dtype=np.float32)
    weight = 0.5
    for octave in range(octaves):
        total += weight * value_noise(points * np.float32(2**octave), seed + octave)
        weight /= 2
    return total / (1 - 0.5**octaves)


def _smoothstep(low: float, high: float, x: Floats) -> Floats:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _cell_hash(*cells: Floats) -> Floats:
    """A number in 0..1 for each integer cell."""
    weights = (12.9898, 78.233, 37.719)
    mixed = np.sin(sum(cell * w for cell, w in zip(cells, weights, strict=False))) * 43758.547
    return (mixed - np.floor(mixed)).astype(np.float32)


def _blend(material: Material, amount: Floats) -> Floats:
    """Linear albedo [n, 3] between the first two colors."""
    first, second = to_linear(np.asarray(material.colors[:2], dtype=np.float32))
    return first + (second - first) * amount[:, None]


def _planks(material: Material, points: Floats) -> Floats:
    """Floorboards along x, side by side along z: a tint a board, grain along it, dark joints."""
    width, length = material.scale, material.scale * 8
    row = np.floor(points[:, 2] / width)
    shifted = points[:, 0] + _cell_hash(row, row) * length
    column = np.floor(shifted / length)
    tint = _cell_hash(row, column)
    stretch = np.array([2.5, 1.0, 38.0], dtype=np.float32) * np.float32(0.14 / width)
    wobble = fractal_noise(points * np.float32(6.0), 2, material.seed)[:, None] * np.float32(0.10)
    grain = fractal_noise((points + wobble) * stretch + tint[:, None] * np.float32(17.0), 3, material.seed)
    boards = _blend(material, np.clip(0.45 * tint + 1.1 * (grain - 0.5) + 0.28, 0, 1))
    across = np.abs(points[:, 2] / width - row - 0.5) * width
    along = np.abs(shifted / length - column - 0.5) * length
    joint = np.maximum(
        _smoothstep(width / 2 - 0.005, width / 2 - 0.001, across), _smoothstep(length / 2 - 0.005, length / 2, along)
    )
    return boards * (1 - 0.6 * joint)[:, None]


def _wall(material: Material, points: Floats) -> Floats:
    """Plaster above, panelling below and a skirting board; x runs along the wall and z up.

    Colors: plaster, motif, panelling, skirting.
    """
    plaster, motif, panel, skirting = to_linear(np.asarray(material.colors[:4], dtype=np.float32))
    along, up = points[:, 0], points[:, 2]
    mottle = fractal_noise(points * np.float32(5.0), 3, material.seed)
    paper = plaster * (0.80 + 0.40 * mottle)[:, None]
    # A quiet lattice of dots, every other row shifted by half a period.
    row = np.floor(up / material.scale)
    u = along / material.scale + 0.5 * (row % 2)
    spot = np.hypot(u - np.floor(u) - 0.5, up / material.scale - row - 0.5)
    paper = paper + (motif - paper) * (0.55 * (1 - _smoothstep(0.16, 0.24, spot)))[:, None]
    below = _smoothstep(0.722, 0.718, up)
    v = along / 0.42
    frame = np.abs(v - np.floor(v) - 0.5) * 0.42
    groove = _smoothstep(0.196, 0.203, frame)
    wear = 0.84 + 0.32 * fractal_noise(points * np.array([4.0, 4.0, 14.0], dtype=np.float32), 3, material.seed + 9)
    panelling = panel * (wear * (1 - 0.38 * groove))[:, None]
    wall = paper + (panelling - paper) * below[:, None]
    rail = _smoothstep(0.026, 0.022, np.abs(up - 0.72)) + _smoothstep(0.122, 0.118, up)
    return wall + (skirting * (0.9 + 0.2 * mottle)[:, None] - wall) * np.minimum(rail, 1)[:, None]


def albedo(material: Material, points: Floats) -> Floats:
    """Linear albedo [n, 3] of a material at positions [n, 3] (metres, the object's frame)."""
    if material.kind == "planks":
        return _planks(material, points)
    if material.kind == "wall":
        return _wall(material, points)
    scale = np.float32(1 / material.scale)
    # Every pattern gets some mottling: flat color gives a reconstruction nothing to hold on to.
    mottle = (0.86 + 0.28 * fractal_noise(points * np.float32(28.0), 2, material.seed))[:, None]
    if material.kind == "plain":
        return to_linear(np.asarray(material.colors[0], dtype=np.float32)) * mottle
    if material.kind == "checker":
        # The small offset keeps faces that lie on a multiple of the period off the pattern's jump.
        cells = np.floor(points * scale + np.float32(0.37)).sum(axis=1)
        amount = (cells % 2).astype(np.float32)
    elif material.kind == "stripes":
        phase = points[:, material.axis] * scale
        wave = np.abs((phase - np.floor(phase)) * 2 - 1)
        amount = _smoothstep(0.46, 0.54, wave)
    elif material.kind == "bands":
        wobble = value_noise(points * np.float32(9.0), material.seed)
        phase = points[:, material.axis] * scale + 0.35 * (wobble - 0.5)
        wave = np.abs((phase - np.floor(phase)) * 2 - 1)
        amount = _smoothstep(0.66, 0.74, wave)
    elif material.kind == "dots":
        local = points * scale
        cell = np.floor(local)
        distance = np.linalg.norm(local - cell - 0.5, axis=1)
        amount = 1 - _smoothstep(0.40, 0.46, distance)
    elif material.kind == "wood":
        u, v = (points[:, k] for k in range(3) if k != material.axis)
        stretch = np.full(3, 7.0, dtype=np.float32)
        stretch[material.axis] = 1.5
        bend = fractal_noise(points * stretch, 2, material.seed)
        rings = np.hypot(u + 0.11, 0.45 * v + 0.05) * scale + 1.6 * bend
        amount = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
        amount = amount * amount
    else:
        warp = fractal_noise(points * np.float32(9.0), 3, material.seed)
        amount = 0.5 + 0.5 * np.sin(2 * np.pi * (points[:, 0] + points[:, 2]) * scale + 13 * warp)
        amount = amount**3
    return _blend(material, amount.astype(np.float32)) * mottle
