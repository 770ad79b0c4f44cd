"""A tracker that follows a thing by its color, and goes wrong in some of the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gseg_ns.splats import Splats

COLORS = np.array([[0.5, 0.5, 0.5], [0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
"""Of labels 0, 1, 2, 3."""


def paint_labels(splats: Splats) -> Splats:
    """The same Gaussians, each in the color of its label and without the label."""
    from dataclasses import replace

    import torch

    colors = torch.tensor(COLORS[splats.extra["label"].numpy()], dtype=torch.float32)
    return replace(splats, sh=((colors - 0.5) / 0.28209479177387814)[:, None].contiguous(), extra={})


class ColorTracker:
    """Knows what a thing is by the color that most of its mask has."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.wrong = wrong
        self.asked: list[int] = []
        """How many pictures it was given, each time."""

    def mask(self, picture: np.ndarray, points: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        x, y = points[wanted][0].astype(int)
        return self._labels(picture) == self._labels(picture)[y, x]

    def carry(self, pictures: Sequence[np.ndarray], mask: np.ndarray) -> list[np.ndarray]:
        """Every fifth picture, for a part of 0.2: nothing, another thing, or half of it."""
        self.asked.append(len(pictures))
        label = np.bincount(self._labels(pictures[0])[mask]).argmax()
        step = round(1 / self.wrong) if self.wrong else len(pictures) + 1
        found = []
        for number, picture in enumerate(pictures):
            true = self._labels(picture) == label
            if number % step == step - 1:
                kind = number // step % 3
                if kind == 0:
                    true = np.zeros_like(true)
                elif kind == 1:
                    true = self._labels(picture) == 0
                else:
                    true[:, : int(np.median(np.nonzero(true)[1])) if true.any() else 0] = False
            found.append(true)
        return found

    @staticmethod
    def _labels(picture: np.ndarray) -> np.ndarray:
        apart = np.abs(picture[:, :, None] / 255 - COLORS).sum(axis=3)
        return np.where(apart.min(axis=2) < 0.6, apart.argmin(axis=2), len(COLORS))
