"""Masks as immutable values that are small enough to keep by the thousand."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedMask:
    """A mask over Gaussians, one bit each, deflated.

    Undo steps, saved edits and named selections hold masks in this form: a mask of a million Gaussians is 1 MB as a
    tensor, and a few kB here when it is one object of a scene. Two equal masks are equal (and hash equally) as values.
    """

    length: int
    """Number of Gaussians that the mask is over."""
    data: bytes
    """`zlib` of the bits, first Gaussian in the highest bit."""

    @classmethod
    def pack(cls, mask: Tensor) -> PackedMask:
        """Pack a boolean [N] tensor of any device."""
        bits = np.packbits(mask.detach().cpu().numpy().astype(bool, copy=False))
        return cls(len(mask), zlib.compress(bits.tobytes(), 1))

    @classmethod
    def from_bits(cls, length: int, bits: bytes) -> PackedMask:
        """Wrap bits that `bits` returned, for instance from a file.

        Raises:
            ValueError: the number of bytes does not fit the length, or bits behind the last Gaussian are set.
        """
        array = np.frombuffer(bits, dtype=np.uint8)
        if len(array) != (length + 7) // 8:
            raise ValueError(f"{len(array)} bytes cannot hold a mask of {length} Gaussians")
        if length % 8 and array[-1] & (0xFF >> (length % 8)):
            raise ValueError(f"the mask has entries behind its {length} Gaussians")
        return cls(length, zlib.compress(bits, 1))

    @classmethod
    def empty(cls, length: int) -> PackedMask:
        """A mask with nothing in it."""
        return cls(length, zlib.compress(bytes((length + 7) // 8), 1))

    def bits(self) -> bytes:
        """The bits, eight Gaussians a byte."""
        return zlib.decompress(self.data)

    def unpack(self, device: torch.device | str = "cpu") -> Tensor:
        """The mask as a boolean [N] tensor."""
        bits = np.unpackbits(np.frombuffer(self.bits(), dtype=np.uint8), count=self.length)
        return torch.from_numpy(bits.astype(bool)).to(device)

    def resized(self, length: int) -> PackedMask:
        """The same mask over more Gaussians (the new ones unset) or over the first `length` of them."""
        if length == self.length:
            return self
        mask = torch.zeros(length, dtype=torch.bool)
        keep = min(length, self.length)
        mask[:keep] = self.unpack()[:keep]
        return PackedMask.pack(mask)

    @property
    def nbytes(self) -> int:
        """Memory that the mask takes, in bytes."""
        return len(self.data)
