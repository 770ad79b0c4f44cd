"""The Gaussians of a scene as plain tensors, with the parametrisation that 3D Gaussian Splatting stores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

SH_SIZES = {1: 0, 4: 1, 9: 2, 16: 3}
"""Number of SH coefficients per color channel -> SH degree."""

SH_C0 = 0.28209479177387814
"""Value of the constant spherical harmonic: rgb = 0.5 + SH_C0 * sh[0]."""

MIN_OPACITY_LOGIT = -5.5373
"""logit(1/255): rasterizers skip a Gaussian below it, and `ns-export gaussian-splat` does not write it."""


@dataclass
class Splats:
    """N Gaussians, in the parametrisation of 3DGS checkpoints and PLY files (Kerbl et al. 2023).

    All tensors live on one device. Rows of every field belong together.

    Raises:
        ValueError: a field has the wrong shape.
    """

    means: Tensor  # [N, 3]
    """Centres, in scene units."""
    quats: Tensor  # [N, 4]
    """Rotations as quaternions w, x, y, z; not necessarily of unit length."""
    scales: Tensor  # [N, 3]
    """Natural logarithm of the standard deviations along the rotated axes."""
    opacities: Tensor  # [N]
    """Logit of the opacity."""
    sh: Tensor  # [N, K, 3]
    """Spherical-harmonics coefficients, K = (degree + 1)^2; row 0 is the DC term."""
    extra: dict[str, Tensor] = field(default_factory=dict)  # name -> [N, ...]
    """Whatever else is known of each Gaussian: `label`, `rgb`, identity encodings."""
    rasterize_mode: Literal["classic", "antialiased"] = "classic"
    """How they are meant to be drawn: opacities trained with gsplat's antialiasing look too thin without it."""

    def __post_init__(self) -> None:
        count = self.means.shape[0]
        expected = {"means": (count, 3), "quats": (count, 4), "scales": (count, 3), "opacities": (count,)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Splats.{name} has shape {tuple(getattr(self, name).shape)}, expected {shape}")
        if self.sh.ndim != 3 or self.sh.shape[0] != count or self.sh.shape[1] not in SH_SIZES or self.sh.shape[2] != 3:
            raise ValueError(f"Splats.sh has shape {tuple(self.sh.shape)}, expected ({count}, 1 | 4 | 9 | 16, 3)")
        for name, tensor in self.extra.items():
            if tensor.ndim == 0 or tensor.shape[0] != count:
                raise ValueError(f"Splats.extra[{name!r}] has shape {tuple(tensor.shape)}, expected ({count}, ...)")

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        """Degree of the view-dependent color, 0 to 3."""
        return SH_SIZES[self.sh.shape[1]]

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.means.device

    def subset(self, rows: Tensor) -> Splats:  # rows: bool [N] or int [M]
        """The chosen Gaussians, in the order of `rows`, as copies.

        Args:
            rows: bool [N] mask or integer [M] indices, on any device.
        """
        rows = rows.to(self.device)
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _FIELDS},
            extra={name: tensor[rows] for name, tensor in self.extra.items()},
        )

    def to(self, device: torch.device | str) -> Splats:
        """The same Gaussians on `device`."""
        return replace(
            self,
            **{name: getattr(self, name).to(device) for name in _FIELDS},
            extra={name: tensor.to(device) for name, tensor in self.extra.items()},
        )

    def clone(self) -> Splats:
        """A deep copy, detached from any graph."""
        return replace(
            self,
            **{name: getattr(self, name).detach().clone() for name in _FIELDS},
            extra={name: tensor.detach().clone() for name, tensor in self.extra.items()},
        )

    def with_sh_degree(self, degree: int) -> Splats:
        """The same Gaussians with SH padded by zeros or cut to `degree`; the other tensors are shared."""
        size = (degree + 1) ** 2
        sh = torch.nn.functional.pad(self.sh[:, :size], (0, 0, 0, max(size - self.sh.shape[1], 0)))
        return replace(self, sh=sh)

    def exportable(self) -> Tensor:
        """Which Gaussians `ns-export gaussian-splat` would write: finite, and not fainter than 1/255.

        Returns:
            bool [N].
        """
        keep = self.opacities >= MIN_OPACITY_LOGIT
        for name in _FIELDS:
            # NaN and infinity times zero are NaN; to ask each number and reduce the answers takes six times as long.
            zero = getattr(self, name) * 0
            keep = keep & ((zero if zero.ndim == 1 else zero.flatten(1).sum(dim=1)) == 0)
        return keep

    def digest(self, size: int = 16) -> str:
        """The same for Gaussians that are the same, colors, opacities and extra columns too: 2 * `size` hex digits."""
        digest = hashlib.blake2b(self.rasterize_mode.encode(), digest_size=size)
        for values in (self.means, self.quats, self.scales, self.opacities, self.sh, *self.extra.values()):
            digest.update(values.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @staticmethod
    def cat(parts: Sequence[Splats]) -> Splats:
        """All Gaussians of `parts`, in order, on the device of the first.

        Parts of a lower SH degree are padded with zeros. A column of `extra` that a part lacks is zero there, which
        for labels means unlabelled. All are drawn as the first part is.

        Raises:
            ValueError: `parts` is empty, or a column has different trailing shapes.
        """
        if not parts:
            raise ValueError("Splats.cat needs at least one part")
        degree = max(part.sh_degree for part in parts)
        parts = [part.to(parts[0].device).with_sh_degree(degree) for part in parts]
        names = list(dict.fromkeys(name for part in parts for name in part.extra))
        extra: dict[str, Tensor] = {}
        for name in names:
            known = next(part.extra[name] for part in parts if name in part.extra)
            columns = [
                part.extra[name] if name in part.extra else known.new_zeros((len(part), *known.shape[1:]))
                for part in parts
            ]
            if any(column.shape[1:] != known.shape[1:] for column in columns):
                raise ValueError(f"Splats.cat: parts disagree on the shape of extra[{name!r}]")
            extra[name] = torch.cat(columns)
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS}
        return replace(parts[0], **joined, extra=extra)


_FIELDS = tuple(f.name for f in fields(Splats) if f.name not in ("extra", "rasterize_mode"))
