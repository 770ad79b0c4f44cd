from __future__ import annotations

from typing import Any

import pytest
import torch

from gseg_ns.models.projections import Projections
from gseg_ns.rendering import Camera, dominant_labels, pixel_weights, sparse_vote
from gseg_ns.splats import Splats
from gseg_ns.splats.projection import project_splats


def _meta() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    splats = Splats(
        means=torch.rand(40, 3, generator=generator) + torch.tensor([-0.5, -0.5, 2.0]),
        quats=torch.randn(40, 4, generator=generator), scales=torch.full((40, 3), -2.0),
        opacities=torch.zeros(40), sh=torch.zeros(40, 1, 3),
    )  # fmt: skip
    K = torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]])
    return project_splats(splats, Camera(torch.eye(4), K, 32, 24))


def test_a_kept_view_answers_what_it_is_asked() -> None:
    made: list[int] = []

    def project() -> dict[str, Any]:
        made.append(0)
        return _meta()

    projections = Projections(3)
    whole, kept = projections.get(1, project), projections.get(1, project)
    assert len(made) == 1
    assert "depths" in whole
    assert "depths" not in kept
    labels, image = torch.arange(40) % 5, torch.arange(24 * 32).view(24, 32) % 7
    for ask in (
        lambda meta: dominant_labels(meta, labels),
        lambda meta: sparse_vote(meta, image),
        lambda meta: (pixel_weights(meta, torch.arange(0, 700, 13)).val,),
    ):
        assert all(torch.equal(one, other) for one, other in zip(ask(whole), ask(kept), strict=True))


@pytest.mark.parametrize("views", [1, 100])
def test_where_not_all_views_have_room_none_is_kept(views: int) -> None:
    size = sum(_meta()[name].nbytes for name in ("means2d", "conics", "opacities")) * 2 + 100_000
    projections, made = Projections(views, size), []
    for _ in range(2):
        projections.get(0, lambda: made.append(0) or _meta())  # type: ignore[func-returns-value]
    assert len(made) == (1 if views == 1 else 2)
