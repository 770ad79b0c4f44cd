"""Where exported Gaussians lie: from a run's coordinates to a file's, and what the file's axes and units mean."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gseg_ns.splats.container import Splats
from gseg_ns.splats.transform import transform

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
"""A direction of a file's coordinates."""

_AXES: tuple[Axis, ...] = ("x", "y", "z", "-x", "-y", "-z")


@dataclass(frozen=True)
class Placement:
    """The similarity p -> scale * rotation @ p + translation from a run's coordinates to those of a file.

    The default leaves everything where it is: Nerfstudio's normalised coordinates, whose z points up.
    """

    rotation: Tensor = field(default_factory=lambda: torch.eye(3, dtype=torch.float64))
    """[3, 3] float64."""
    translation: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """[3] float64."""
    scale: float = 1.0
    frame: str = "nerfstudio"
    """Whose coordinates these are but for turned axes and units: `nerfstudio` or `original`, the capture's."""
    up: Axis = "z"
    """Which way is up in the file."""
    meters_per_unit: float | None = None
    """Length of the file's unit in metres; None: not known."""

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return self.scale == 1 and not bool(self.translation.any()) and torch.equal(self.rotation, _IDENTITY)

    def of(self, splats: Splats) -> Splats:
        """The Gaussians of a run where they lie in the file; they themselves where nothing moves."""
        if self.is_identity:
            return splats
        return transform(splats, self.rotation, self.translation, self.scale)

    def with_up(self, up: Axis) -> Placement:
        """The same with axes exchanged so that another one points up."""
        if up == self.up:
            return self
        turn = turn_between(self.up, up)
        return replace(self, rotation=turn @ self.rotation, translation=turn @ self.translation, up=up)

    def in_meters(self) -> Placement:
        """The same in metres, where the length of the unit is known."""
        if self.meters_per_unit in (None, 1.0):
            return self
        factor = self.meters_per_unit
        assert factor is not None
        return replace(self, translation=factor * self.translation, scale=factor * self.scale, meters_per_unit=1.0)

    def up_vector(self) -> Tensor:
        """Which way is up in the file: [3] float64."""
        return axis_vector(self.up)

    def matrix(self) -> list[list[float]]:
        """The similarity as the rows of a 4 x 4 matrix."""
        upper = torch.cat([self.scale * self.rotation, self.translation[:, None]], dim=1)
        return [*upper.tolist(), [0.0, 0.0, 0.0, 1.0]]

    def describe(self) -> dict[str, Any]:
        """What an index of the files says: frame, up, metres a unit (None: not known), and `from_run`, 4 x 4."""
        return {
            "frame": self.frame,
            "up": self.up,
            "meters_per_unit": self.meters_per_unit,
            "from_run": self.matrix(),
        }


_IDENTITY = torch.eye(3, dtype=torch.float64)


def original_placement(dataparser_transform: Tensor, dataparser_scale: float, unit: float | None = None) -> Placement:
    """To the coordinates of the capture's own poses.

    Its up is the axis that comes nearest to Nerfstudio's z: a capture that stands askew stays so.

    Args:
        dataparser_transform: [3, 4], as in `to_original_frame`.
        dataparser_scale: the factor applied after it.
        unit: length of the run's unit in metres, where it is known.
    """
    matrix = dataparser_transform.detach().to("cpu", torch.float64)
    u, _, v = torch.linalg.svd(matrix[:3, :3])
    back = (u @ v).T
    upright = back[:, 2]
    index = int(upright.abs().argmax())
    up = _AXES[index + (3 if upright[index] < 0 else 0)]
    return Placement(
        rotation=back,
        translation=-back @ matrix[:3, 3],
        scale=1 / dataparser_scale,
        frame="original",
        up=up,
        meters_per_unit=None if unit is None else unit * dataparser_scale,
    )


def axis_vector(axis: Axis) -> Tensor:
    """The unit vector [3], float64."""
    vector = torch.zeros(3, dtype=torch.float64)
    vector["xyz".index(axis[-1])] = -1.0 if axis.startswith("-") else 1.0
    return vector


def turn_between(start: Axis, end: Axis) -> Tensor:
    """The rotation [3, 3] by a multiple of 90 degrees that takes one axis to another the shortest way.

    Opposite axes are exchanged by half a turn about x (about y where x itself is turned).
    """
    one, other = axis_vector(start), axis_vector(end)
    if start == end:
        return _IDENTITY.clone()
    if bool((one == -other).all()):
        pivot = axis_vector("y" if start[-1] == "x" else "x")
        return 2 * torch.outer(pivot, pivot) - _IDENTITY
    # The third axis stays; of the two, one becomes the other, and that the first's opposite.
    pivot = torch.linalg.cross(one, other)
    return torch.outer(pivot, pivot) + torch.outer(other, one) - torch.outer(one, other)
