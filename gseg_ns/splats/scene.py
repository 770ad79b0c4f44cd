"""What a file of several objects is made of: which Gaussians belong to which object, and where each one stands."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from gseg_ns.splats.container import Splats
from gseg_ns.splats.placement import Placement, axis_vector

_OUTERMOST = 0.01
"""Share of an object's Gaussians on each side that its foot is not taken from."""

_LONGEST_IDENTIFIER = 80


@dataclass(frozen=True)
class SceneObject:
    """An object of a file."""

    id: int
    """Number of its group."""
    name: str
    """What a user calls it; may be empty, and hold anything."""
    rows: Tensor  # int64 [n]
    """Its Gaussians."""

    @property
    def title(self) -> str:
        """A name for people: never empty."""
        return self.name.strip() or f"group {self.id}"


@dataclass(frozen=True)
class Part:
    """An object as a file holds it."""

    object: SceneObject | None
    """None: the Gaussians of no object."""
    rows: Tensor  # int64 [n], n > 0
    origin: Tensor
    """[3] float64, file coordinates: the object's foot, which its own coordinates count from."""
    low: Tensor
    """[3] float32: least of its own coordinates."""
    high: Tensor
    """[3] float32: greatest of its own coordinates."""

    @property
    def title(self) -> str:
        """A name for people: never empty."""
        return self.object.title if self.object is not None else "unlabelled"

    def positions(self, splats: Splats, placement: Placement) -> Tensor:
        """Centres [n, 3] float32 from the origin on: the very numbers that `low` and `high` are of."""
        return _local(placed_means(splats.means[self.rows], placement), self.origin)

    def splats(self, splats: Splats, placement: Placement) -> Splats:
        """The Gaussians, from the origin on."""
        part = placement.of(splats.subset(self.rows))
        return replace(part, means=self.positions(splats, placement))


def objects_of(groups: Tensor, names: Mapping[int, str] | None = None, min_gaussians: int = 1) -> list[SceneObject]:
    """The objects of a labelling, by number.

    Args:
        groups: int [N]; 0 and below mean none.
        names: what some groups are called.
        min_gaussians: smaller groups are no objects.
    """
    # One sort instead of one search a group: there may be thousands.
    groups = groups.to("cpu", torch.int64)
    order = torch.argsort(groups, stable=True)
    ids, counts = torch.unique_consecutive(groups[order], return_counts=True)
    parts = zip(ids.tolist(), torch.split(order, counts.tolist()), strict=True)
    return [
        SceneObject(group, (names or {}).get(group, ""), rows)
        for group, rows in parts
        if group > 0 and len(rows) >= max(min_gaussians, 1)
    ]


def parts_of(splats: Splats, objects: Sequence[SceneObject], placement: Placement, rest: bool = True) -> list[Part]:
    """The objects with what can be drawn of them, and with `rest` all other Gaussians as a last part.

    Objects of which nothing can be drawn (see `Splats.exportable`) are left out, as is an empty rest.

    Args:
        splats: N Gaussians on the CPU.
        objects: which share no rows.
        placement: from the Gaussians' coordinates to the file's.
        rest: whether Gaussians of no object are a part.
    """
    fit = splats.exportable()
    parts = [
        _part(splats, item, item.rows[fit[item.rows]], placement) for item in objects if bool(fit[item.rows].any())
    ]
    if rest:
        for item in objects:
            fit[item.rows] = False
        rows = fit.nonzero()[:, 0]
        if len(rows):
            parts.append(_part(splats, None, rows, placement))
    return parts


def placed_means(means: Tensor, placement: Placement) -> Tensor:
    """Centres [n, 3] in a file's coordinates, float64."""
    means = means.detach().to("cpu", torch.float64)
    if placement.is_identity:
        return means
    return placement.scale * means @ placement.rotation.T + placement.translation


def foot(means: Tensor, placement: Placement) -> Tensor:
    """Where an object stands: the middle of its extent, at its lower end. [3] float64, file coordinates.

    Args:
        means: [n, 3] centres in the file's coordinates.
        placement: says which way is up.
    """
    outer = int(_OUTERMOST * len(means))
    ordered = means.double().sort(dim=0).values
    low, high = ordered[outer], ordered[len(means) - 1 - outer]
    up = axis_vector(placement.up)
    middle = (low + high) / 2
    return middle - up.abs() * (high - low) / 2 * up.sum()


def identifiers(names: Iterable[str], nameless: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """A plain identifier (letters, digits, underscores) for each of several names; no two are the same.

    Other letters than those of English are left out: not every reader of such files takes them.

    Args:
        names: what users call things.
        nameless: for each name, what stands for it where nothing is left of it.
        taken: identifiers that are not given.
    """
    given = {name.casefold() for name in taken}
    found = []
    for name, otherwise in zip(names, nameless, strict=True):
        plain = "_".join(re.findall(r"[A-Za-z0-9]+", name))[:_LONGEST_IDENTIFIER].rstrip("_") or otherwise
        plain = f"_{plain}" if plain[0].isdigit() else plain
        candidates = (plain if number == 1 else f"{plain}_{number}" for number in count(1))
        found.append(next(candidate for candidate in candidates if candidate.casefold() not in given))
        given.add(found[-1].casefold())
    return found


def _part(splats: Splats, item: SceneObject | None, rows: Tensor, placement: Placement) -> Part:
    means = placed_means(splats.means[rows], placement)
    # What belongs to no object stands nowhere.
    origin = torch.zeros(3, dtype=torch.float64) if item is None else foot(means, placement)
    local = _local(means, origin)
    return Part(item, rows, origin, local.amin(dim=0), local.amax(dim=0))


def _local(means: Tensor, origin: Tensor) -> Tensor:
    return (means - origin).float()
