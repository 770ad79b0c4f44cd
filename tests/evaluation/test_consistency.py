from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gseg_ns.demo.cameras import make_cameras
from gseg_ns.demo.layout import make_layout
from gseg_ns.demo.render import Renderer
from gseg_ns.evaluation.consistency import multi_view_consistency

K = torch.tensor([[20.0, 0, 10], [0, 20.0, 8], [0, 0, 1]])


def wall(shift: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A wall at z = 4 seen by a camera moved sideways; ids by the side of x = 0 of the point that a pixel sees."""
    x = (torch.arange(20) + 0.5 - 10) / 20 * 4 + shift
    ids = torch.where(x < 0, 1, 2)[None].expand(16, 20)
    viewmat = torch.eye(4)
    viewmat[0, 3] = -shift
    return ids, torch.full((16, 20), 4.0), viewmat


def test_a_wall_agrees_with_itself() -> None:
    ids, depths, poses = zip(*[wall(s) for s in (0.0, 0.4, 0.8)], strict=True)
    scores = multi_view_consistency(ids, depths, torch.stack(poses), K.expand(3, 3, 3))
    assert scores.agreement == 100
    assert scores.correspondences > 1000
    assert scores.view_agreement == (100, 100, 100)


def test_swapped_ids_and_unlabelled_pixels() -> None:
    ids, depths, poses = (list(x) for x in zip(*[wall(s) for s in (0.0, 0.4)], strict=True))
    swapped = [ids[0], 3 - ids[1]]
    cameras = torch.stack(poses), K.expand(2, 3, 3)
    assert multi_view_consistency(swapped, depths, *cameras).agreement == 0
    silent = [torch.zeros_like(ids[0]), torch.zeros_like(ids[1])]
    assert math.isnan(multi_view_consistency(silent, depths, *cameras).agreement)
    assert multi_view_consistency([ids[0], silent[1]], depths, *cameras).agreement == 0


def test_hidden_points_do_not_count() -> None:
    ids, depths, poses = (list(x) for x in zip(*[wall(s) for s in (0.0, 0.4)], strict=True))
    depths[1] = torch.full((16, 20), 2.0)  # something stands in front in the second view
    scores = multi_view_consistency(ids, depths, torch.stack(poses), K.expand(2, 3, 3))
    assert scores.correspondences == 0


def test_bad_input() -> None:
    ids, depth, pose = wall(0)
    with pytest.raises(ValueError, match="depth maps"):
        multi_view_consistency([ids], [], pose[None], K[None])
    with pytest.raises(ValueError, match="label map"):
        multi_view_consistency([ids], [depth[:3]], pose[None], K[None])


def test_ground_truth_of_a_rendered_scene_is_consistent_and_shuffled_ids_are_not() -> None:
    layout = make_layout(6, 3)
    cameras = make_cameras(layout, 8, 64, 48)
    renderer = Renderer(layout, samples=1, light_rays=1, bounce_rays=1)
    views = [renderer.render(cameras, index) for index in range(8)]
    pose = torch.from_numpy(cameras.camera_to_worlds).double()
    pose[:, :, 1:3] *= -1  # OpenGL to OpenCV axes
    intrinsics = torch.tensor([[cameras.focal, 0, 32], [0, cameras.focal, 24], [0, 0, 1]])
    known = [view.depth for view in views], torch.linalg.inv(pose), intrinsics.expand(8, 3, 3)
    ids = [renderer.instance_of[view.parts] for view in views]
    assert multi_view_consistency(ids, *known).agreement > 93
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(int(renderer.instance_of.max()) + 1)[labels] + 1 for labels in ids]
    assert multi_view_consistency(shuffled, *known).agreement < 40
