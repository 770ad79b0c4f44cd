"""What edits make of Gaussians that were split at an object's border."""

from __future__ import annotations

import torch

from gseg_ns.editing.operations import Duplicate, Operation, Remove, Transform
from gseg_ns.objects import Alone
from gseg_ns.runs.fringes import after_edits
from gseg_ns.selection.packed import PackedMask
from gseg_ns.splats import Splats


def row_of(count: int) -> Splats:
    """Round Gaussians, a unit apart."""
    return Splats(
        means=torch.arange(count).float()[:, None] * torch.tensor([1.0, 0, 0]),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        scales=torch.full((count, 3), -3.0),
        opacities=torch.arange(count).float(),
        sh=torch.zeros(count, 1, 3),
    )


def test_edits_reach_both_halves() -> None:
    scene = row_of(4)
    halves = Splats.cat([scene, scene.subset(torch.tensor([1, 2]))])
    halves.means[4:, 1] = 0.5
    pair, last = (PackedMask.pack(torch.tensor(mask)) for mask in ([0, 1, 1, 0], [0, 0, 0, 1]))
    operations: list[Operation] = [
        Duplicate(pair, translation=(10.0, 0.0, 0.0)),
        Remove(last),
        Transform(pair, translation=(0.0, 0.0, 3.0)),
    ]
    found = after_edits(Alone(halves, torch.tensor([1, 2])), operations, scene)
    # Rows 4 and 5 are the copies of 1 and 2.
    assert found.source.tolist() == [0, 1, 2, 3, 4, 5, 1, 2, 4, 5]
    torch.testing.assert_close(
        found.splats.means[6:], torch.tensor([[1.0, 0.5, 3], [2, 0.5, 3], [11, 0.5, 0], [12, 0.5, 0]])
    )
    torch.testing.assert_close(found.splats.means[1:3], torch.tensor([[1.0, 0, 3], [2, 0, 3]]))
    assert found.splats.opacities[6:].tolist() == [1, 2, 1, 2]
