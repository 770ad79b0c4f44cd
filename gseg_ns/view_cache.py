"""What was computed for each view, kept in bounded memory and on a bounded part of the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from gseg_ns.transfer import upload

Tensors = tuple[Tensor, ...]


class _Place(NamedTuple):
    """A tensor in the file."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class ViewCache:
    """Tensors by key: in memory, on their device, up to a bound; beyond it in a temporary file, up to another.

    What was there first stays. Views are visited in rounds, each in another order, so that putting out the oldest for
    the newest would put out what is asked for next. What has no room in either place is computed at each visit.
    """

    def __init__(self, memory: float, disk: float = 0.0) -> None:
        """Start empty.

        Args:
            memory: bytes that may be kept in memory.
            disk: bytes that may be kept in a temporary file, which goes with this object.
        """
        self._memory, self._disk = memory, disk
        self._kept: dict[Hashable, Tensors] = {}
        self._places: dict[Hashable, list[_Place]] = {}
        self._file: BinaryIO | None = None

    def get(self, key: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """What is kept under a key; else what `make` gives, which is kept where there is room."""
        if key in self._kept:
            return self._kept[key]
        if key in self._places:
            return tuple(self._read(place) for place in self._places[key])
        made = make()
        size = sum(tensor.numel() * tensor.element_size() for tensor in made)
        if size <= self._memory:
            self._memory -= size
            self._kept[key] = made
        elif size <= self._disk:
            self._write(key, made, size)
        return made

    def _write(self, key: Hashable, tensors: Tensors, size: int) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="gseg-views-")
            places = []
            for tensor in tensors:
                place = self._file.seek(0, 2)
                self._file.write(tensor.detach().contiguous().cpu().numpy().data)
                places.append(_Place(place, tensor.shape, tensor.dtype, tensor.device))
            self._file.flush()
        except OSError:  # a full disk: what is not kept is computed again
            self._disk = 0.0
            return
        self._disk -= size
        self._places[key] = places

    def _read(self, place: _Place) -> Tensor:
        assert self._file is not None
        tensor = torch.empty(place.shape, dtype=place.dtype)
        if tensor.numel():
            self._file.seek(place.offset)
            self._file.readinto(tensor.numpy().reshape(-1).view("uint8"))  # type: ignore[attr-defined]
        return upload(tensor, place.device)
