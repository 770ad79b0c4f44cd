"""One pinhole view, in the renderer's convention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gseg_ns.errors import GsegError


@dataclass(frozen=True)
class Camera:
    """An OpenCV camera: x right, y down, z forward; pixel centres at +0.5.

    Raises:
        ValueError: wrong shapes, or an image without pixels.
    """

    viewmat: Tensor
    """[4, 4] world to camera."""
    K: Tensor
    """[3, 3] intrinsics in pixels."""
    width: int
    height: int

    def __post_init__(self) -> None:
        if tuple(self.viewmat.shape) != (4, 4) or tuple(self.K.shape) != (3, 3):
            raise ValueError(
                f"Camera: viewmat {tuple(self.viewmat.shape)} and K {tuple(self.K.shape)} must be 4 x 4 and 3 x 3"
            )
        if self.width < 1 or self.height < 1:
            raise ValueError(f"Camera: an image of {self.width} x {self.height} pixels has nothing to render")

    @classmethod
    def from_c2w(cls, c2w: Tensor, K: Tensor, width: int, height: int) -> Camera:
        """From an OpenGL camera-to-world matrix [3, 4] or [4, 4] (Nerfstudio's: y up, z backward).

        Raises:
            ValueError: a matrix of another shape.
            GsegError: one that cannot be inverted, which a camera file may hold.
        """
        if tuple(c2w.shape) not in ((3, 4), (4, 4)):
            raise ValueError(f"Camera.from_c2w: the pose has shape {tuple(c2w.shape)}; it must be 3 x 4 or 4 x 4")
        pose = torch.eye(4, dtype=c2w.dtype, device=c2w.device)
        pose[:3] = c2w[:3]
        pose = pose * pose.new_tensor([1.0, -1.0, -1.0, 1.0])
        inverse, status = torch.linalg.inv_ex(pose)
        if int(status) != 0 or not bool(torch.isfinite(inverse).all()):
            raise GsegError("Camera.from_c2w: the pose has no inverse; check the camera file for an empty matrix")
        return cls(inverse, K, width, height)

    def to(self, device: torch.device | str) -> Camera:
        """The same camera with its matrices on another device."""
        return Camera(self.viewmat.to(device), self.K.to(device), self.width, self.height)

    def scaled(self, factor: float) -> Camera:
        """The same view in another resolution: sizes are rounded down as Nerfstudio does, at least one pixel."""
        K = self.K.clone()
        K[:2] = K[:2] * factor
        return Camera(self.viewmat, K, max(1, int(self.width * factor)), max(1, int(self.height * factor)))

    def resized(self, width: int, height: int) -> Camera:
        """The same view with another number of pixels; the two sides may scale differently."""
        if (width, height) == (self.width, self.height):
            return self
        K = self.K.clone()
        K[0] *= width / self.width
        K[1] *= height / self.height
        return Camera(self.viewmat, K, width, height)
