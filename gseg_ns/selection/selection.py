"""A set of Gaussians, and the algebra on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gseg_ns.selection.packed import PackedMask

Mode = Literal["set", "add", "remove", "intersect"]
"""How a new mask meets the selection that is there."""


@dataclass(frozen=True, eq=False)
class Selection:
    """A set of the N Gaussians of a scene. Immutable: every operation returns a new one.

    It never touches the Gaussians themselves, so it can be changed while they are being trained.
    """

    mask: Tensor  # bool [N]

    def __post_init__(self) -> None:
        if self.mask.ndim != 1 or self.mask.dtype != torch.bool:
            raise ValueError(f"a selection is a bool [N] mask, got {self.mask.dtype} {tuple(self.mask.shape)}")

    @classmethod
    def none(cls, length: int, device: torch.device | str = "cpu") -> Selection:
        """Nothing of `length` Gaussians."""
        return cls(torch.zeros(length, dtype=torch.bool, device=device))

    @classmethod
    def all(cls, length: int, device: torch.device | str = "cpu") -> Selection:
        """All of `length` Gaussians."""
        return cls(torch.ones(length, dtype=torch.bool, device=device))

    def combine(self, other: Selection | Tensor, mode: Mode) -> Selection:
        """Set to, add, remove or intersect with `other` (a selection or a bool [N] mask)."""
        mask = other.mask if isinstance(other, Selection) else other
        if mask.shape != self.mask.shape:
            raise ValueError(f"selections over {len(self.mask)} and {len(mask)} Gaussians cannot be combined")
        mask = mask.to(self.mask.device)
        if mode == "set":
            return Selection(mask.clone())
        if mode == "add":
            return Selection(self.mask | mask)
        if mode == "remove":
            return Selection(self.mask & ~mask)
        if mode == "intersect":
            return Selection(self.mask & mask)
        raise ValueError(f"unknown mode {mode!r}: set, add, remove or intersect")

    def add(self, other: Selection | Tensor) -> Selection:
        """The union."""
        return self.combine(other, "add")

    def remove(self, other: Selection | Tensor) -> Selection:
        """What is in this one and not in the other."""
        return self.combine(other, "remove")

    def intersect(self, other: Selection | Tensor) -> Selection:
        """What is in both."""
        return self.combine(other, "intersect")

    def invert(self) -> Selection:
        """Everything else."""
        return Selection(~self.mask)

    def resized(self, length: int) -> Selection:
        """The same set in a scene with Gaussians appended (unset) or cut off at the end."""
        if length == len(self.mask):
            return self
        mask = torch.zeros(length, dtype=torch.bool, device=self.mask.device)
        keep = min(length, len(self.mask))
        mask[:keep] = self.mask[:keep]
        return Selection(mask)

    def pack(self) -> PackedMask:
        """The set as a small immutable value."""
        return PackedMask.pack(self.mask)

    @property
    def count(self) -> int:
        """Number of selected Gaussians."""
        return int(self.mask.sum())

    def __len__(self) -> int:
        return len(self.mask)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selection):
            return NotImplemented
        return self.mask.shape == other.mask.shape and bool((self.mask == other.mask.to(self.mask.device)).all())

    __hash__ = None  # type: ignore[assignment]
