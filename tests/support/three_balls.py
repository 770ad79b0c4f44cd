"""A small model to click on: three balls of Gaussians side by side, and a camera before them."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox

from gseg_ns.selection.prompts import Prompt

PER_BALL = 150
CENTRES = torch.tensor([[-1.2, 0.0, 0.0], [0.0, 0.0, 0.0], [1.2, 0.0, 0.0]])
BALL = torch.arange(3).repeat_interleave(PER_BALL)
"""Which ball each Gaussian belongs to."""


def build_model(config: Any) -> Any:
    """The model of a configuration, its Gaussians nearly opaque; what its features say is left to the caller."""
    config.sh_degree, config.max_gaussians = 2, 0
    g = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(3 * PER_BALL, 3, generator=g), dim=1) * 0.35
    seeds = (points + CENTRES[BALL], torch.randint(0, 255, (len(points), 3), generator=g))
    box = SceneBox(torch.tensor([[-2.0] * 3, [2.0] * 3]))
    model = config.setup(scene_box=box, num_train_data=1, seed_points=seeds, metadata={})
    with torch.no_grad():
        model.gauss_params["opacities"].fill_(3.0)
        model.gauss_params["scales"].fill_(-2.6)
    return model.eval()


def plant(model: Any) -> None:
    """A tree: the left ball (2), of two halves (3, 4), and the middle one (5) are a group (1); the right one is 6."""
    model.tree_parents = torch.tensor([0, 0, 1, 2, 2, 1, 0], dtype=torch.int32)
    model.tree_objects = torch.tensor([False, False, True, False, False, True, True])
    model.tree_evidence = torch.ones(7)
    model.tree_nodes = torch.tensor([3, 5, 6], dtype=torch.int32)[BALL]
    model.tree_nodes[(BALL == 0) & (model.means[:, 0] > CENTRES[0, 0])] = 4
    model.voted_confidence = torch.ones(len(BALL))
    model.has_scales = True


def view() -> Cameras:
    """96 x 64 pixels that show all three."""
    c2w = torch.eye(4)[:3].clone()
    c2w[2, 3] = 4.0  # looks along -z at the origin
    return Cameras(c2w[None], fx=80.0, fy=80.0, cx=48.0, cy=32.0, width=96, height=64)


def pixel_of(ball: int) -> tuple[float, float]:
    """Where its middle is in the view."""
    return 48 + 80 * float(CENTRES[ball, 0]) / 4, 32.0


class FakeSam:
    """Answers points as SAM would that knows balls: those around positive points but for those around negative ones."""

    def __init__(self) -> None:
        self.asked: list[tuple[torch.Tensor, Prompt]] = []

    def __call__(self, picture: torch.Tensor, points: Prompt) -> torch.Tensor:
        self.asked.append((picture, points))
        return self._around(picture, points.positive) & ~self._around(picture, points.negative)

    def _around(self, picture: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        height, width = picture.shape[:2]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        distance = (torch.stack([x, y], dim=-1)[:, :, None] - points).norm(dim=-1)
        return (distance < 11).any(dim=-1)


def rows(*balls: int) -> torch.Tensor:
    """Its or their Gaussians, bool [N]."""
    return torch.isin(BALL, torch.tensor(balls))
