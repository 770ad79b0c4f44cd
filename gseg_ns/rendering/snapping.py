"""Borders of label maps, moved to the borders of color in the photograph.

Masks of segmenters are ragged by a few pixels. In a narrow band around each border every pixel takes the label that
most of its surroundings of like color have: one step of a joint bilateral filter of the labels, which the photograph
guides (OpenCV has that filter in its contrib modules alone, and for images, not for labels). Nothing is decided about
pixels without a label: they stay without, and have no say.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gseg_ns.rendering import threads
from gseg_ns.rendering.kernels.snap import snap

BAND = 3
"""Pixels from a change of label that may take another."""

REACH = 5
"""Pixels to each side that have a say."""

NEAR = 2.5
"""Standard deviation of distances, in pixels."""

ALIKE = 0.05
"""Standard deviation of colors, in parts of the full range."""


def snap_labels(labels: Tensor, photograph: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Move borders of labels to borders of color.

    Args:
        labels: int32 [H, W] on the CPU, 0 = unlabelled.
        photograph: [H, W, 3] uint8, or float in 0..1.
        chosen: bool [H, W] on the CPU, pixels that are asked for; others stay. None: all.

    Returns:
        int32 [H, W]; what differs is within `BAND` pixels of a change of label, and was labelled.

    Raises:
        ValueError: the two differ in size.
    """
    if photograph.shape[:2] != labels.shape:
        raise ValueError(f"labels are {tuple(labels.shape)} and the photograph {tuple(photograph.shape)}")
    unit = 255 * ALIKE if photograph.dtype == torch.uint8 else ALIKE
    chosen = torch.ones(labels.shape, dtype=torch.bool) if chosen is None else chosen
    found, picture = labels.clone(), photograph.cpu().contiguous()
    threads.share(
        snap, len(labels), picture.numpy(), labels.contiguous().numpy(), _edge(labels).numpy(), BAND, chosen.numpy(),
        int(labels.max()) + 1, REACH, np.float32(1 / (2 * unit**2)), np.float32(1 / (2 * NEAR**2)), found.numpy(),
        grain=16,
    )  # fmt: skip
    return found


def _edge(labels: Tensor) -> Tensor:
    """Pixels with another label beside, above or below them: bool [H, W]."""
    edge = torch.zeros(labels.shape, dtype=torch.bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge
