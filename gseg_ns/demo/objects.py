"""What stands in the demo room: furniture and toys built of a few closed parts each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gseg_ns.demo.materials import PALETTE, Color, Kind, Material
from gseg_ns.demo.meshes import Mesh, cylinder, prism, revolved, rod, rounded_box, sphere, torus


@dataclass(frozen=True)
class Part:
    """A closed piece of an object, in the object's frame."""

    name: str
    mesh: Mesh
    material: Material


@dataclass(frozen=True)
class Model:
    """A kind of object; identical copies share one.

    Attributes:
        category: what it is.
        parts: its pieces; the object stands on z = 0.
        top: height and radius of a free flat disc on top, about the axis, where something smaller can stand.
        can_lie: whether a copy may lie on its side.
        boxy: whether its sides are flat and upright, so that others can stand against it.
    """

    category: str
    parts: tuple[Part, ...]
    top: tuple[float, float] | None = None
    can_lie: bool = False
    boxy: bool = False


class Paint:
    """Draws colors and patterns for models: deterministic for a generator, without near repeats."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._bag: list[str] = []

    def color(self, *without: str) -> str:
        """The next color's name out of a shuffled bag of the palette, none of `without`."""
        for _ in range(2):
            for index, name in enumerate(self._bag):
                if name not in without:
                    return self._bag.pop(index)
            self._bag = [str(name) for name in self._rng.permutation(sorted(PALETTE))]
        raise AssertionError("the palette has more colors than are ever excluded")

    def material(self, kind: Kind, names: Sequence[str], scale: float, axis: int = 2, shine: float = 0.15) -> Material:
        """A material of named colors with its own noise."""
        colors: tuple[Color, ...] = tuple(PALETTE[name] for name in names)
        return Material(kind, colors, scale, axis, shine, int(self._rng.integers(1000)))

    def size(self, spread: float = 0.12) -> float:
        """A factor about 1, for sizes."""
        return float(self._rng.uniform(1 - spread, 1 + spread))


def _wood(paint: Paint, axis: int = 2) -> Material:
    return Material("wood", ((0.52, 0.35, 0.21), (0.34, 0.20, 0.12)), 0.035, axis, 0.12, int(paint.size() * 1000))


def _lamp(paint: Paint) -> Model:
    s, shade, metal = paint.size(0.06), paint.color("charcoal", "cream"), paint.material("plain", ["charcoal"], 0.1)
    profile = [(0.17, 0.70), (0.172, 0.702), (0.115, 0.93), (0.11, 0.93), (0.165, 0.705)]
    cover = revolved([(r * s, z * s) for r, z in [*profile, profile[0]]])
    return Model(
        "lamp",
        (
            Part("base", cylinder(0.13 * s, 0.03 * s, bevel=0.008), metal),
            Part("pole", rod((0, 0, 0.02 * s), (0, 0, 0.9 * s), 0.015 * s), metal),
            Part("shade", cover, paint.material("stripes", [shade, "cream"], 0.076, shine=0.03)),
        ),
    )


def _stool(paint: Paint) -> Model:
    s, color, height = paint.size(0.06), paint.color("cream"), 0.40 * paint.size(0.06)
    wood = _wood(paint)
    legs = tuple(
        Part(
            "leg",
            rod(
                (0.15 * s * np.cos(a), 0.15 * s * np.sin(a), 0.0045),
                (0.11 * s * np.cos(a), 0.11 * s * np.sin(a), height),
                0.017,
            ),
            wood,
        )
        for a in np.radians([45, 135, 225, 315])
    )
    ring = torus(0.135 * s, 0.008).moved((0, 0, 0.14))
    seat = cylinder(0.175 * s, 0.045, bevel=0.014).moved((0, 0, height - 0.005))
    return Model(
        "stool",
        (Part("seat", seat, paint.material("dots", [color, "cream"], 0.075)), *legs, Part("ring", ring, wood)),
        top=(height + 0.04, 0.155 * s),
    )


def _crate(paint: Paint) -> Model:
    s, lid = paint.size(), paint.color("walnut", "mustard", "cream")
    x, y, z = 0.36 * s, 0.30 * s, 0.25 * s
    return Model(
        "crate",
        (
            Part("body", rounded_box((x, y, z)), _wood(paint, 0)),
            Part(
                "lid",
                rounded_box((x + 0.02, y + 0.02, 0.045)).moved((0, 0, z - 0.006)),
                paint.material("plain", [lid], 0.1),
            ),
        ),
        top=(z + 0.039, 0.15 * s),
        boxy=True,
    )


def _mug(paint: Paint) -> Model:
    s, color = paint.size(0.06), paint.color("cream", "charcoal", "walnut")
    r, h, wall = 0.085 * s, 0.19 * s, 0.011
    profile = [(0, 0), (r - 0.01, 0), (r - 0.003, 0.003), (r, 0.01), (r, h - 0.004), (r - 0.004, h)]
    profile += [(r - wall + 0.003, h), (r - wall, h - 0.004), (r - wall, 0.02), (0, 0.018)]
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    handle = torus(0.058 * s, 0.013, -0.5 * np.pi - 0.1, 0.5 * np.pi + 0.1).moved((r - 0.004, 0, h * 0.52), upright)
    body = paint.material("bands", [color, "cream"], h / 1.6, shine=0.5)
    return Model(
        "mug",
        (
            Part("body", revolved(profile), body),
            Part("handle", handle, paint.material("plain", [color], 0.1, shine=0.5)),
        ),
        can_lie=True,
    )


def _book(paint: Paint) -> Model:
    s, cover = paint.size(), paint.color("cream")
    x, y, z = 0.29 * s, 0.21 * s, 0.085 * s
    leather = paint.material("marble", [cover, "charcoal"], 0.12, shine=0.2)
    pages = Material("stripes", ((0.88, 0.84, 0.74), (0.70, 0.65, 0.55)), 0.012, 2, 0.0, 1)
    return Model(
        "book",
        (
            Part("back", rounded_box((x, y, 0.014), 0.004), leather),
            Part("pages", rounded_box((x - 0.02, y - 0.02, z - 0.02), 0.003).moved((0, 0, 0.01)), pages),
            Part("front", rounded_box((x, y, 0.014), 0.004).moved((0, 0, z - 0.014)), leather),
            Part("spine", rounded_box((0.016, y, z), 0.006).moved((-x / 2, 0, 0)), leather),
        ),
        top=(z, 0.10 * s),
        boxy=True,
    )


def _ball(paint: Paint) -> Model:
    r, color = 0.15 * paint.size(), paint.color("cream")
    tilt = np.radians(35)
    rotation = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1.0, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    material = paint.material("stripes", [color, "cream"], r * 0.62, axis=int(paint.size() * 100) % 3, shine=0.45)
    return Model("ball", (Part("ball", sphere(r).moved((0, 0, r), rotation), material),))


def _cone(paint: Paint) -> Model:
    s, color = paint.size(), paint.color("cream")
    body = revolved([(0, 0), (0.115 * s, 0), (0.022 * s, 0.36 * s), (0.012 * s, 0.37 * s), (0, 0.372 * s)])
    plain = paint.material("plain", [color], 0.1)
    return Model(
        "cone",
        (
            Part("base", rounded_box((0.30 * s, 0.30 * s, 0.03)), plain),
            Part("body", body.moved((0, 0, 0.025)), paint.material("stripes", [color, "cream"], 0.15 * s)),
        ),
    )


def _ring(paint: Paint) -> Model:
    s, color = paint.size(), paint.color("cream")
    tube = 0.055 * s
    material = paint.material("checker", [color, "cream"], 0.085, shine=0.4)
    return Model("ring", (Part("ring", torus(0.155 * s, tube).moved((0, 0, tube)), material),))


def _corner(paint: Paint) -> Model:
    s, color = paint.size(), paint.color("walnut")
    a, b = 0.17 * s, 0.05 * s
    outline = [(-a, -a), (a, -a), (a, -b), (-b, -b), (-b, a), (-a, a)]
    other = paint.color(color, "walnut")
    return Model(
        "corner",
        (Part("block", prism(outline, 0.22 * s), paint.material("checker", [color, other], 0.11 * s)),),
        boxy=True,
    )


def _vase(paint: Paint) -> Model:
    s, color = paint.size(), paint.color("charcoal")
    z = np.linspace(0, 1, 22)
    radius = 0.075 + 0.06 * np.sin(np.pi * np.minimum(z * 1.25, 1.0)) - 0.035 * np.clip((z - 0.62) / 0.2, 0, 1)
    radius += 0.025 * np.clip((z - 0.88) / 0.12, 0, 1)
    outer = [(float(r), float(h * 0.38)) for r, h in zip(radius, z, strict=True)]
    inner = [(r - 0.01, h) for r, h in reversed(outer[2:])]
    profile = [(0.0, 0.0), *outer, *inner, (0.0, inner[-1][1])]
    material = paint.material("marble", ["cream", color], 0.3, shine=0.6)
    return Model("vase", (Part("vase", revolved([(r * s, h * s) for r, h in profile]), material),))


def _tin(paint: Paint) -> Model:
    s, color = paint.size(), paint.color("cream", "charcoal")
    r, h = 0.10 * s, 0.26 * s
    metal = Material("plain", ((0.62, 0.63, 0.65),), 0.1, 2, 0.8, 3)
    label = paint.material("dots", [color, "cream"], 0.07, shine=0.25)
    return Model(
        "tin",
        (
            Part("can", cylinder(r, h, bevel=0.006), metal),
            Part("label", cylinder(r + 0.003, 0.78 * h).moved((0, 0, 0.11 * h)), label),
        ),
        top=(h, 0.085 * s),
    )


def _bowl(paint: Paint) -> Model:
    s, outside, inside = paint.size(), paint.color("cream"), paint.color("walnut")
    angle = np.linspace(0.25, 0.5 * np.pi, 12)
    outer = [(0.17 * np.sin(a), 0.17 * (1 - np.cos(a)) * 0.75) for a in angle]
    inner = [(r - 0.012, z + 0.006) for r, z in reversed(outer)]
    profile = [(0.0, outer[0][1]), *outer, (outer[-1][0] - 0.004, outer[-1][1] + 0.006), *inner, (0.0, inner[-1][1])]
    shift = -outer[0][1]
    shell = revolved([(r * s, (z + shift) * s) for r, z in profile])
    return Model("bowl", (Part("bowl", shell, paint.material("marble", [outside, inside], 0.4, shine=0.5)),))


def _arch(paint: Paint) -> Model:
    s, color = paint.size(), paint.color("walnut", "cream")
    angle = np.linspace(0, np.pi, 13)
    hole = [(0.09 * np.cos(a), 0.10 + 0.09 * np.sin(a)) for a in angle]
    outline = [(-0.17, 0.0), (-0.09, 0.0), *reversed(hole), (0.09, 0.0), (0.17, 0.0), (0.17, 0.26), (-0.17, 0.26)]
    upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    block = prism([(x * s, z * s) for x, z in outline], 0.13 * s).moved((0, 0.065 * s, 0), upright)
    material = paint.material("stripes", [color, "cream"], 0.11 * s, axis=0)
    return Model("arch", (Part("arch", block, material),), top=(0.26 * s, 0.06 * s), boxy=True)


def _pawn(paint: Paint) -> Model:
    s, color = paint.size(), paint.color("cream")
    profile = [(0, 0), (0.10, 0), (0.11, 0.01), (0.11, 0.035), (0.09, 0.05), (0.055, 0.10), (0.04, 0.20), (0.07, 0.225)]
    profile += [(0.07, 0.24), (0, 0.245)]
    material = paint.material("plain", [color], 0.1, shine=0.4)
    return Model(
        "pawn",
        (
            Part("body", revolved([(r * s, z * s) for r, z in profile]), material),
            Part("head", sphere(0.07 * s).moved((0, 0, 0.295 * s)), paint.material("dots", [color, "cream"], 0.07 * s)),
        ),
    )


def _chair(paint: Paint) -> Model:
    s, color = paint.size(0.06), paint.color("walnut", "cream")
    w, seat = 0.17 * s, 0.27 * s
    wood, cloth = _wood(paint), paint.material("checker", [color, "cream"], 0.09)
    legs = tuple(
        Part("leg", rod((x * 0.9 * w, y * 0.9 * w, 0), (x * 0.9 * w, y * 0.9 * w, top), 0.017), wood)
        for x, y, top in ((1, 1, seat), (1, -1, seat), (-1, 1, 0.62 * s), (-1, -1, 0.62 * s))
    )
    back = rounded_box((0.022, 1.9 * w, 0.2 * s)).moved((-0.9 * w, 0, 0.42 * s))
    return Model(
        "chair",
        (Part("seat", rounded_box((2 * w, 2 * w, 0.05)).moved((0, 0, seat)), cloth), Part("back", back, cloth), *legs),
    )


def _rack(paint: Paint) -> Model:
    s, metal = paint.size(0.06), paint.material("plain", ["charcoal"], 0.1, shine=0.6)
    color = paint.color("charcoal", "cream")
    bars = [((x, 0.0, 0.01), (x, 0.0, 0.55)) for x in (-0.2, 0.2)]
    bars += [((-0.2, 0.0, z), (0.2, 0.0, z)) for z in (0.12, 0.54)]
    bars += [((x, -0.12, 0.012), (x, 0.12, 0.012)) for x in (-0.2, 0.2)]
    parts = tuple(Part("bar", rod([v * s for v in a], [v * s for v in b], 0.012), metal) for a, b in bars)
    towel = rounded_box((0.24 * s, 0.04, 0.27 * s), 0.01).moved((0.02 * s, 0, 0.29 * s))
    return Model("rack", (*parts, Part("towel", towel, paint.material("stripes", [color, "cream"], 0.09, shine=0.0))))


BUILDERS: dict[str, Callable[[Paint], Model]] = {
    "lamp": _lamp,
    "stool": _stool,
    "crate": _crate,
    "mug": _mug,
    "book": _book,
    "ball": _ball,
    "cone": _cone,
    "ring": _ring,
    "corner": _corner,
    "vase": _vase,
    "tin": _tin,
    "bowl": _bowl,
    "arch": _arch,
    "pawn": _pawn,
    "chair": _chair,
    "rack": _rack,
}
"""How each category of object is built."""
