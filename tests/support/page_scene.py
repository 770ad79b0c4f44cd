"""A small scene to look at in a page: shaded balls and cubes on a checkered floor, y up, with colors that turn."""

from __future__ import annotations

import numpy as np
import torch

from gseg_ns.rendering import Camera, rasterization
from gseg_ns.splats import Splats
from gseg_ns.splats.container import SH_C0

CENTRES = torch.tensor([[(i % 3 - 1) * 1.4, 0.42, (i // 3 - 0.5) * 1.6] for i in range(6)])
"""Of the objects, groups 11, 12, ... 16; y is up, the floor is at 0 and no object."""
GROUPS = torch.arange(11, 17)
PER_OBJECT = 300
FLOOR = 800
EYE, TARGET, FOV = [0.3, 3.4, 5.2], [0.0, 0.2, 0.0], 45.0


def page_scene() -> tuple[Splats, torch.Tensor]:
    """2600 Gaussians with SH of degree 2, in no order, and the group of each."""
    g = torch.Generator().manual_seed(0)
    parts = []
    for number, centre in enumerate(CENTRES):
        normal = torch.nn.functional.normalize(torch.randn(PER_OBJECT, 3, generator=g), dim=1)
        if number % 2:
            normal = normal / normal.abs().amax(dim=1, keepdim=True)
        stripes = 0.12 * (14 * normal[:, 1:2]).sin().sign()
        hue = torch.tensor([number / 6, number / 6 + 1 / 3, number / 6 + 2 / 3])
        color = 0.5 + 0.3 * (2 * torch.pi * hue).cos() + stripes
        parts.append(_part(centre + 0.38 * normal, color, torch.full((PER_OBJECT,), 0.065), g))
    place = torch.rand(FLOOR, 3, generator=g) * torch.tensor([7.0, 0.0, 7.0]) - torch.tensor([3.5, 0.0, 3.5])
    checks = 0.4 + 0.2 * ((place[:, :1].floor() + place[:, 2:].floor()) % 2)
    parts.append(_part(place, checks.expand(-1, 3), torch.full((FLOOR,), 0.2), g, thin=True))
    groups = torch.cat([GROUPS.repeat_interleave(PER_OBJECT), torch.zeros(FLOOR, dtype=torch.int64)])
    order = torch.randperm(len(groups), generator=g)
    return Splats.cat(parts).subset(order), groups[order]


def _part(
    means: torch.Tensor, color: torch.Tensor, size: torch.Tensor, g: torch.Generator, thin: bool = False
) -> Splats:
    count = len(means)
    quats = torch.randn(count, 4, generator=g)
    shape = torch.tensor([1.0, 0.8, 0.6])
    if thin:
        quats, shape = torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone(), torch.tensor([1.0, 0.05, 1.0])
    sh = torch.zeros(count, 9, 3)
    sh[:, 0] = (color - 0.5) / SH_C0
    # Redder from one side. SPZ rounds to sixteenths and eighths: what that does to one value is not to be done to all.
    sh[:, 3], sh[:, 6] = torch.tensor([0.1875, -0.125, 0.125]), torch.tensor([-0.125, 0.0, 0.125])
    sh[:, 1:] += 0.03 * torch.randn(count, 8, 3, generator=g)
    scales = (size[:, None] * shape).log() + 0.1 * torch.randn(count, 3, generator=g)
    return Splats(means, quats, scales, torch.full((count,), 2.5), sh)


def camera_at(eye: list[float], target: list[float], fov: float, width: int, height: int) -> Camera:
    """As the page looks: y up, fov vertical in degrees."""
    place, up = torch.tensor(eye, dtype=torch.float64), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    back = torch.nn.functional.normalize(place - torch.tensor(target, dtype=torch.float64), dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=0)
    pose = torch.stack([right, torch.linalg.cross(back, right), back, place], dim=1).float()
    focal = height / 2 / np.tan(np.radians(fov) / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Camera.from_c2w(pose, K, width, height)


def rendered(splats: Splats, camera: Camera, background: tuple[int, int, int]) -> np.ndarray:
    """Our picture of it, uint8 [H, W, 3]."""
    image, _, _ = rasterization(
        splats.means, splats.quats, splats.scales.exp(), splats.opacities.sigmoid(), splats.sh, camera.viewmat[None],
        camera.K[None], camera.width, camera.height, sh_degree=splats.sh_degree, packed=False,
        backgrounds=torch.tensor([background]) / 255, rasterize_mode=splats.rasterize_mode,
    )  # fmt: skip
    return (image[0].clamp(0, 1) * 255).round().byte().numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a.astype(float) - b) ** 2) / 255**2))
