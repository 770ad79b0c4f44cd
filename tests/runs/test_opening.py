from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from gseg_ns.runs.opening import opening_view
from gseg_ns.splats import Splats


def scene(*centres: tuple[float, float, float]) -> tuple[Splats, torch.Tensor]:
    means = torch.tensor(centres)
    count = len(means)
    splats = Splats(
        means, torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1), torch.zeros(count, 3), torch.zeros(count),
        torch.zeros(count, 1, 3),
    )  # fmt: skip
    return splats, torch.arange(1, count + 1)


def run(*turns: float, absent: str | None = None) -> Any:
    """Cameras at the origin that look along -z, turned about y."""
    poses = []
    for turn in torch.tensor(turns):
        c, s = turn.cos(), turn.sin()
        poses.append(torch.tensor([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0]]))
    cameras = Cameras(torch.stack(poses), fx=50.0, fy=50.0, cx=50.0, cy=50.0, width=100, height=100)
    data = SimpleNamespace(
        absent=absent, names=lambda split: [str(n) for n in range(len(turns))], camera=lambda n: cameras[n : n + 1]
    )
    return SimpleNamespace(datamanager=data)


def test_the_view_with_most_objects_in_it() -> None:
    splats, groups = scene((0, 0, -4), (1, 0, -4), (-4, 0, 0.5))
    found = opening_view(run(1.5, 0.0, 3.1), splats, groups)
    assert found is not None
    eye, target, fov = found
    assert eye == [0, 0, 0]
    assert target == pytest.approx([0, 0, -4], abs=1e-5)
    assert fov == pytest.approx(90)


def test_without_a_view_or_an_object_there_is_none() -> None:
    splats, groups = scene((0, 0, -4))
    assert opening_view(run(0.0, absent="gone"), splats, groups) is None
    assert opening_view(run(3.1), splats, groups) is None
    assert opening_view(run(0.0), splats, torch.zeros_like(groups)) is None
