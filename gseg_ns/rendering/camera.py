"""A camera as the rendering layer sees it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in OpenCV's convention: x right, y down, z forward; pixel centres at +0.5.

    Raises:
        ValueError: a field has the wrong shape or the image no pixels.
    """

    viewmat: Tensor  # [4, 4]
    """World to camera."""
    K: Tensor  # [3, 3]
    """Intrinsics, in pixels."""
    width: int
    height: int

    def __post_init__(self) -> None:
        if tuple(self.viewmat.shape) != (4, 4):
            raise ValueError(f"viewmat has shape {tuple(self.viewmat.shape)}, expected (4, 4)")
        if tuple(self.K.shape) != (3, 3):
            raise ValueError(f"K has shape {tuple(self.K.shape)}, expected (3, 3)")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"an image of {self.width}x{self.height} has no pixels")

    @staticmethod
    def from_c2w(camera_to_world: Tensor, K: Tensor, width: int, height: int) -> Camera:
        """Convert an OpenGL camera-to-world matrix [3, 4] or [4, 4] (y up, looking along -z), as Nerfstudio has it."""
        rotation = camera_to_world[:3, :3] * camera_to_world.new_tensor([1.0, -1.0, -1.0])
        viewmat = torch.eye(4, dtype=camera_to_world.dtype, device=camera_to_world.device)
        viewmat[:3, :3] = rotation.T
        viewmat[:3, 3] = -rotation.T @ camera_to_world[:3, 3]
        return Camera(viewmat, K, width, height)

    def to(self, device: torch.device | str) -> Camera:
        """The same camera on `device`."""
        return Camera(self.viewmat.to(device), self.K.to(device), self.width, self.height)

    def resized(self, width: int, height: int) -> Camera:
        """The same view with another number of pixels."""
        if (width, height) == (self.width, self.height):
            return self
        K = self.K.clone()
        K[0] *= width / self.width
        K[1] *= height / self.height
        return Camera(self.viewmat, K, width, height)
