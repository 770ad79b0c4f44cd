from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gseg_ns.errors import GsegError
from gseg_ns.rendering import pixel_weights, project
from gseg_ns.rendering.camera import Camera
from gseg_ns.selection.overlay import highlight
from gseg_ns.selection.picking import pick
from gseg_ns.selection.shapes import Box, inside_box, inside_rectangle, rectangle, visible_share
from gseg_ns.splats import Splats

K = torch.tensor([[60.0, 0.0, 40.0], [0.0, 60.0, 30.0], [0.0, 0.0, 1.0]])
CAMERA = Camera(torch.eye(4), K, 80, 60)


def cloud(seed: int, count: int = 300, scale: float = -2.5) -> Splats:
    g = torch.Generator().manual_seed(seed)
    return Splats(
        means=torch.randn(count, 3, generator=g) * 1.5 + torch.tensor([0.0, 0.0, 3.0]),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g) * 0.8 + scale,
        opacities=torch.randn(count, generator=g) * 2 + 2,
        sh=torch.zeros(count, 1, 3),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 79), st.integers(0, 59), st.floats(-4, 0))
def test_a_pick_is_what_a_full_render_composites_there(seed: int, x: int, y: int, scale: float) -> None:
    splats = cloud(seed, scale=scale)
    splats = replace(splats, rasterize_mode=("classic", "antialiased")[seed % 2])
    meta = project(
        splats.means,
        splats.quats,
        splats.scales.exp(),
        splats.opacities.sigmoid(),
        CAMERA.viewmat[None],
        CAMERA.K[None],
        CAMERA.width,
        CAMERA.height,
        rasterize_mode=splats.rasterize_mode,
    )
    expected = pixel_weights(meta, torch.tensor([y * 80 + x]))
    if float(expected.val.sum()) < 0.5:
        with pytest.raises(GsegError, match="nothing at"):
            pick(splats, CAMERA, x + 0.5, y + 0.5)
        return
    found = pick(splats, CAMERA, x + 0.5, y + 0.5)
    dense = torch.zeros(2, len(splats))
    dense[0, expected.col] = expected.val
    dense[1, found.rows] = found.weights
    assert torch.allclose(dense[0], dense[1], atol=1e-5)


def test_hidden_gaussians_are_looked_through() -> None:
    splats = Splats(
        means=torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 4.0]]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(2, 1),
        scales=torch.full((2, 3), -1.5),
        opacities=torch.full((2,), 5.0),
        sh=torch.zeros(2, 1, 3),
    )
    assert pick(splats, CAMERA, 40, 30).top == 0
    assert pick(splats, CAMERA, 40, 30, torch.tensor([False, True])).top == 1
    with pytest.raises(GsegError, match="nothing at"):
        pick(splats, CAMERA, 40, 30, torch.tensor([False, False]))
    with pytest.raises(GsegError, match="outside the image of 80 x 60"):
        pick(splats, CAMERA, 80, 30)


def test_visible_only_leaves_out_what_is_behind() -> None:
    front = cloud(0, 200, -1.5)
    front.means = torch.rand(200, 3) * torch.tensor([2.0, 2.0, 0.1]) + torch.tensor([-1.0, -1.0, 2.0])
    front.opacities = torch.full((200,), 6.0)
    behind = cloud(1, 50)
    behind.means = torch.rand(50, 3) * 0.2 + torch.tensor([-0.1, -0.1, 5.0])
    splats = Splats.cat([front, behind])
    everything = inside_rectangle(splats.means, CAMERA, (30, 20), (50, 40))
    assert everything[200:].all()
    seen = rectangle(splats, CAMERA, (30, 20), (50, 40))
    assert not seen[200:].any()
    assert seen.any()
    share = visible_share(splats, CAMERA)
    assert share.shape == (250,)
    assert float(share[200:].max()) < 0.5


def test_nothing_behind_the_camera_is_in_a_rectangle() -> None:
    means = torch.tensor([[0.0, 0.0, -2.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    assert inside_rectangle(means, CAMERA, (80, 60), (0, 0)).tolist() == [False, True, False]


def test_an_oriented_box() -> None:
    means = torch.tensor([[0.9, 0.9, 0.0], [1.3, 0.0, 0.0], [0.0, 1.3, 0.0], [0.0, 0.0, 0.6]])
    assert inside_box(means, Box((0.0, 0.0, 0.0), (2.0, 2.0, 1.0))).tolist() == [True, False, False, False]
    turned = Box((0.0, 0.0, 0.0), (2.0, 2.0, 1.0), (0.9238795, 0.0, 0.0, 0.3826834))  # 45 degrees about z
    assert inside_box(means, turned).tolist() == [False, True, True, False]


def test_highlight_changes_the_selected_pixels_and_their_rim() -> None:
    rgb = torch.full((9, 9, 3), 0.5)
    mask = torch.zeros(9, 9)
    mask[3:6, 3:6] = 1
    result = highlight(rgb, mask)
    changed = (result != rgb).any(-1)
    assert changed[2:7, 2:7].all()
    assert int(changed.sum()) == 25
    assert torch.equal(rgb, torch.full((9, 9, 3), 0.5))
    assert torch.equal(highlight(rgb, torch.zeros(9, 9)), rgb)
