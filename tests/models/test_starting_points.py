from __future__ import annotations

import pytest
import torch

from gseg_ns.models.starting_points import LEAST_POINTS, starting_points

GRID = torch.stack(torch.meshgrid(*[torch.arange(5.0)] * 3, indexing="ij"), dim=-1).reshape(-1, 3)
SHADES = torch.arange(len(GRID))[:, None].expand(-1, 3)


def test_a_good_cloud_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    points, colors = starting_points(GRID, SHADES, 1000, 10.0)
    assert torch.equal(points, GRID)
    assert torch.equal(colors, SHADES.to(torch.uint8))
    assert not capsys.readouterr().out


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_points_that_are_nowhere_are_left_out_and_counted(bad: float, capsys: pytest.CaptureFixture[str]) -> None:
    broken = GRID.clone()
    broken[[3, 70], [0, 2]] = bad
    points, colors = starting_points(broken, SHADES, 1000, 10.0)
    kept = [row for row in range(len(GRID)) if row not in (3, 70)]
    assert torch.equal(points, GRID[kept])
    assert torch.equal(colors[:, 0], torch.tensor(kept, dtype=torch.uint8))
    assert "2 of 125 points are left out: 2 are not finite" in " ".join(capsys.readouterr().out.split())


def test_of_points_in_one_place_one_is_kept() -> None:
    points, colors = starting_points(GRID.repeat(3, 1), SHADES.repeat(3, 1), 1000, 10.0)
    assert torch.equal(points, GRID)
    assert torch.equal(colors, SHADES.to(torch.uint8))


@pytest.mark.parametrize("count", [0, 1, 3, LEAST_POINTS - 1])
def test_very_few_points_are_filled_up(count: int) -> None:
    points, colors = starting_points(GRID[:count], SHADES[:count], 400, 6.0)
    assert len(points) == len(colors) == 400
    assert torch.equal(points[:count], GRID[:count])
    assert points[count:].abs().max() <= 3.0
    assert len(points[count:].unique(dim=0)) == 400 - count


def test_points_without_colors_are_grey() -> None:
    _, colors = starting_points(GRID, torch.zeros((0, 3)), 400, 6.0)
    assert colors.tolist() == [[128] * 3] * len(GRID)


def test_a_flat_cloud_is_a_cloud() -> None:
    flat = GRID * torch.tensor([1.0, 1.3, 0.0])
    points, _ = starting_points(flat.repeat(4, 1) + torch.arange(500)[:, None] % 7, torch.zeros((0, 3)), 400, 6.0)
    assert len(points) >= LEAST_POINTS
