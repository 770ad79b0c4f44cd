from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gseg_ns.splats import Placement
from gseg_ns.splats.scene import foot, identifiers, objects_of, parts_of
from gseg_ns.splats.tiles import write_tileset
from random_splats import make


def test_an_object_stands_on_its_foot() -> None:
    g = torch.Generator().manual_seed(0)
    means = torch.rand(1000, 3, generator=g) * torch.tensor([2.0, 4, 6]) + torch.tensor([10.0, 20, 30])
    means[0] = torch.tensor([-500.0, 0, 900])  # a stray Gaussian moves nothing
    torch.testing.assert_close(foot(means, Placement()), torch.tensor([11.0, 22, 30]).double(), atol=0.15, rtol=0)
    below = foot(means, Placement(up="-y"))
    torch.testing.assert_close(below, torch.tensor([11.0, 24, 33]).double(), atol=0.15, rtol=0)


def test_parts_are_all_that_can_be_drawn() -> None:
    splats = make(9)
    splats.opacities[:] = 1
    splats.opacities[[1, 4, 7]] = -9
    splats.means[0] = float("inf")
    parts = parts_of(splats, objects_of(torch.tensor([0, 1, 2] * 3), {2: "x"}), Placement())
    assert [(part.title, part.rows.tolist()) for part in parts] == [("x", [2, 5, 8]), ("unlabelled", [3, 6])]
    assert [part.title for part in parts_of(splats, [], Placement(), rest=False)] == []
    local = parts[0].positions(splats, Placement())
    assert torch.equal(local.amin(dim=0), parts[0].low)
    torch.testing.assert_close(local + parts[0].origin.float(), splats.means[[2, 5, 8]])


def test_identifiers_are_plain_and_different() -> None:
    names = ["mug", "Mug", "a/b", "7up", "", "🫖", "x" * 200]
    found = identifiers(names, [f"group_{number}" for number in range(7)], taken=["group_5"])
    assert found == ["mug", "Mug_2", "a_b", "_7up", "group_4", "group_5_2", "x" * 80]


def test_a_tileset_of_one_tile(tmp_path: Path) -> None:
    write_tileset(tmp_path / "tileset.json", "scene.glb", torch.tensor([0.0, 0, 0]), torch.tensor([2.0, 4, 6]))
    tileset = json.loads((tmp_path / "tileset.json").read_text())
    assert tileset["asset"]["version"] == "1.1"
    assert tileset["root"]["content"] == {"uri": "scene.glb"}
    # y up in the GLB is z up in the tile.
    assert tileset["root"]["boundingVolume"]["box"] == [1, -3, 2, 1, 0, 0, 0, 3, 0, 0, 0, 2]
    assert tileset["geometricError"] == pytest.approx(56**0.5)
