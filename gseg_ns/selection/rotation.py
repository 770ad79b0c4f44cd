"""Small geometry that shapes and edits share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gseg_ns.splats.transform import rotation_matrices


def rotation_matrix(quaternion: Sequence[float]) -> Tensor:
    """The rotation of a quaternion.

    Args:
        quaternion: w, x, y, z, of any length but zero.

    Returns:
        [3, 3] float64 on the CPU, for column vectors.
    """
    return rotation_matrices(torch.tensor(quaternion, dtype=torch.float64)[None])[0]
