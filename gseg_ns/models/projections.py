"""Projections of views that several questions in a row are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

KEPT_BYTES = 1 << 29
"""Memory for the projections of all views together, of which each has an equal share. A view that takes more than that
is not kept: to project it once more costs less than what a part of many large ones would save."""

_ASKED = ("means2d", "conics", "opacities", "flatten_ids", "isect_offsets")
"""What votes, label images and weights of pixels read of a projection."""


class Projections:
    """The projections of some views, kept as long as this is, where they have room in the views' equal shares.

    On a GPU nothing is kept: memory is short there and projecting is not.
    """

    def __init__(self, views: int, max_bytes: float = KEPT_BYTES) -> None:
        """Start empty.

        Args:
            views: how many there are.
            max_bytes: for all of them.
        """
        self._share = max_bytes / max(views, 1)
        self._kept: dict[int, dict[str, Any]] = {}

    def get(self, view: int, project: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The projection of a view: at first what `project` gives, whole; later what is kept of it, or made again."""
        if view in self._kept:
            return self._kept[view]
        meta = project()
        if not meta["means2d"].is_cuda and _size(meta) <= self._share:
            self._kept[view] = {name: value for name, value in meta.items() if not _is_unasked(name, value)}
        return meta


def _is_unasked(name: str, value: Any) -> bool:
    return isinstance(value, Tensor) and name not in _ASKED


def _size(meta: dict[str, Any]) -> int:
    """Bytes of what is kept; the arrays that kernels read are the same numbers once more."""
    tensors = [meta[name] for name in _ASKED]
    return sum(t.numel() * t.element_size() for t in (*tensors, *tensors[:3]))
