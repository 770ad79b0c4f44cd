"""Small geometry that shapes and edits share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rotation_matrix(quaternion: Sequence[float]) -> Tensor:
    """The rotation of a quaternion.

    Args:
        quaternion: w, x, y, z, of any length but zero.

    Returns:
        [3, 3] float64 on the CPU, for column vectors.
    """
    w, x, y, z = torch.nn.functional.normalize(torch.tensor(quaternion, dtype=torch.float64), dim=0).tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
